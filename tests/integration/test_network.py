"""The hosts that stand for the internet answer as the real ones do: Composer, git and curl ask them directly."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from servers.network import Network


def run(home: dict[str, str], network: Network, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = home | network.environment
    return subprocess.run(
        command, env=environment, cwd=cwd, capture_output=True, text=True, errors="replace", timeout=120
    )


def ask(home: dict[str, str], network: Network, tmp_path: Path, url: str, *options: str) -> tuple[int, str]:
    words = ("curl", "-sS", "-o", "-", "-w", "\n%{http_code}", *options, url)
    done = run(home, network, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def test_composer_installs_from_every_host_that_it_knows_a_method_for(
    network: Network, home: dict[str, str], tmp_path: Path
) -> None:
    known = {
        name: value for name, value in network.secrets.items() if not name.startswith(("custom", "client", "forgejo"))
    }
    auth: dict[str, dict[str, object]] = {"http-basic": {}}
    auth["http-basic"]["codeberg.org"] = {"username": network.forgejo.user, "password": network.forgejo.token}
    for name, value in known.items():
        method, host = name.split(".", 1)
        auth.setdefault(method, {})[host] = value
    project = network.write_project(
        tmp_path / "project", [name for name in network.packages if name not in {"headers", "mtls"}]
    )
    (project / "auth.json").write_text(json.dumps(auth))
    done = run(home, network, "composer", "install", "--no-interaction", cwd=project)
    assert done.returncode == 0, done.stderr
    assert len(list((project / "vendor" / "acme").iterdir())) == 7


def test_tags_come_on_two_pages_and_a_renamed_repository_by_its_number(
    network: Network, home: dict[str, str], tmp_path: Path
) -> None:
    header = ("-H", f"Authorization: token {network.github.token}")
    status, body = ask(home, network, tmp_path, "https://api.github.com/repos/acme/many/tags?per_page=100", *header)
    assert (status, len(json.loads(body))) == (200, 100)
    number = network.github.repositories["acme/many"].number
    url = f"https://api.github.com/repositories/{number}/tags?per_page=100&page=2"
    status, body = ask(home, network, tmp_path, url, *header)
    assert (status, len(json.loads(body))) == (200, 20)
    status, body = ask(home, network, tmp_path, "https://api.github.com/repos/acme/old", *header)
    number = network.github.repositories["acme/renamed"].number
    assert (status, json.loads(body)["url"]) == (301, f"https://api.github.com/repositories/{number}")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.github.com/repos/acme/github", 404),
        ("https://api.github.com/repos/acme/open", 403),
        ("https://github.com/acme/github.git/info/refs?service=git-upload-pack", 401),
        ("https://gitlab.com/api/v4/projects/acme%2Fgitlab", 404),
        ("https://api.bitbucket.org/2.0/repositories/acme/bitbucket", 401),
        ("https://codeberg.org/api/v1/repos/acme/forgejo", 404),
        ("https://basic.example.org/packages.json", 401),
        ("https://mtls.example.org/packages.json", 400),
        ("https://connect.advancedcustomfields.com/v2/plugins/download?k=wrong", 403),
    ],
)
def test_whoever_comes_without_a_credential_is_refused(
    network: Network, home: dict[str, str], tmp_path: Path, url: str, expected: int
) -> None:
    assert ask(home, network, tmp_path, url)[0] == expected


def test_a_signed_download_refuses_a_credential(network: Network, home: dict[str, str], tmp_path: Path) -> None:
    commit = network.github.repositories["acme/github"].list_refs("heads")[0][1]
    header = ("-H", f"Authorization: token {network.github.token}")
    url = f"https://api.github.com/repos/acme/github/zipball/{commit}"
    status, _ = ask(home, network, tmp_path, url, *header, "-D", str(tmp_path / "head"))
    assert status == 302
    head = (tmp_path / "head").read_text()
    place = next(line for line in head.splitlines() if line.startswith("Location: ")).removeprefix("Location: ")
    assert ask(home, network, tmp_path, place, *header)[0] == 400
    assert ask(home, network, tmp_path, place)[0] == 200


def test_the_proxy_wants_its_password(network: Network, home: dict[str, str], tmp_path: Path) -> None:
    proxy = f"http://127.0.0.1:{network.gateway.port}"
    done = run(home, network, "curl", "-sS", "-x", proxy, "https://github.com/", cwd=tmp_path)
    assert done.returncode != 0
    assert "407" in done.stderr
