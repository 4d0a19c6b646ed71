"""What is promised of Composer holds for each generation of it: nothing printed, nothing left, nothing broken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ic_secrets.composer.methods import drop_default_port
from searching import Found, encodings
from servers import Server, Servers
from servers.bitbucket import PACKAGE, URL, Bitbucket, start_bitbucket
from watching import ArgumentWatch

Search = Callable[..., list[Found]]
NoResidue = Callable[[], None]
OPTIONS = ("--no-interaction", "--no-progress", "--no-ansi")
INSTALL = ("composer", "install", *OPTIONS)
UPDATE = ("composer", "update", *OPTIONS)
STATUSES = [401, 403, 404, 500]
OURS = {120, 121, 125}


@pytest.fixture
def store(cli: Any, version: str, servers: Servers, private: Path) -> None:
    """A store whose site `my-site` has a credential for each private server."""
    cli("init", check=0)
    for server in (servers.basic, servers.bearer, servers.git):
        give(cli, server)


@pytest.fixture
def watch(servers: Servers) -> Iterator[ArgumentWatch]:
    """Looks for git's password in the arguments of processes."""
    password = servers.git.password
    with ArgumentWatch([password.encode(), quote(password, safe="").encode(), quote(password).encode()]) as watching:
        yield watching


@pytest.fixture
def no_residue(tmp_path: Path, home: dict[str, str], private: Path, servers: Servers, search_tree: Search) -> NoResidue:
    """Call it at the end: nothing of a credential is left anywhere, and no clone has a login in its configuration."""

    def check() -> None:
        assert list(private.iterdir()) == []
        assert [path for path in clones(home) if b"@" in path.read_bytes()] == []
        assert not (Path(home["HOME"]) / ".git-credentials").exists()
        assert search_tree([tmp_path, Path("/dev/shm")], servers.needles) == []

    return check


def give(cli: Any, server: Server | Bitbucket) -> None:
    name = ("set", "my-site", server.secret_name, "--type", "composer", "--scope", "ic")
    cli(*name, stdin=server.secret_value, check=0)


def clones(home: dict[str, str]) -> list[Path]:
    return sorted((Path(home["XDG_CACHE_HOME"]) / "composer" / "vcs").glob("*/config"))


def users_home(home: dict[str, str]) -> Path:
    path = Path(home["XDG_CONFIG_HOME"]) / "composer"
    path.mkdir(parents=True, exist_ok=True)
    return path


def seen_by_git(watch: ArgumentWatch) -> set[bytes]:
    """Arguments with the password that git itself had, and so for as long as it ran."""
    return {arguments for arguments in watch.seen if os.path.basename(arguments.split(b"\0")[0]).startswith(b"git")}


def assert_masked(needles: list[bytes], output: bytes) -> None:
    assert [form for needle in needles for form, text in encodings(needle) if text in output] == []


def test_an_install_that_needs_every_credential_succeeds_and_leaves_none(
    cli: Any,
    version: str,
    store: None,
    servers: Servers,
    tmp_path: Path,
    home: dict[str, str],
    watch: ArgumentWatch,
    no_residue: NoResidue,
) -> None:
    project, receipt = servers.project(tmp_path, "everything"), tmp_path / "receipt.json"
    done = cli("run", "--receipt", receipt, "my-site.dev", "--", *INSTALL, "-vvv", cwd=project, check=0)
    installed = {p["name"] for p in json.loads((project / "vendor/composer/installed.json").read_text())["packages"]}
    assert installed >= {"acme/checkout", "globex/reports", "initech/vault", "initech/ledger"}
    assert json.loads(receipt.read_text())["versions"]["composer"] == version
    assert len(clones(home)) == 2
    assert watch.seen == set()
    assert_masked(servers.needles, done.stdout + done.stderr)
    no_residue()


def test_without_ic_secrets_the_password_is_there_to_be_seen(
    version: str, servers: Servers, tmp_path: Path, home: dict[str, str], watch: ArgumentWatch
) -> None:
    """The watch is not blind: this is what each of them does by itself."""
    project = servers.project(tmp_path, "git-only")
    auth = {"COMPOSER_AUTH": servers.composer_auth("git")}
    subprocess.run(INSTALL, cwd=project, env=home | auth, check=True, capture_output=True, timeout=120)
    assert seen_by_git(watch)


@pytest.mark.parametrize("place", ["auth.json", "config.json", "COMPOSER_AUTH"])
def test_a_stale_bearer_of_the_user_does_not_break_it(
    cli: Any, store: None, servers: Servers, tmp_path: Path, home: dict[str, str], place: str
) -> None:
    project = servers.project(tmp_path, "basic-only")
    stale: dict[str, Any] = {"bearer": {servers.basic.host: "stale-token-of-the-user"}}
    env = {"COMPOSER_AUTH": json.dumps(stale)} if place == "COMPOSER_AUTH" else {}
    if not env:
        (users_home(home) / place).write_text(json.dumps(stale if place == "auth.json" else {"config": stale}))
    before = {path: path.read_bytes() for path in users_home(home).glob("*.json")}
    cli("run", "my-site.dev", "--", *INSTALL, cwd=project, env=env, check=0)
    assert {path: path.read_bytes() for path in users_home(home).glob("*.json")} == before


def test_the_users_credentials_for_other_hosts_go_on_working(
    cli: Any, version: str, servers: Servers, tmp_path: Path, home: dict[str, str], private: Path
) -> None:
    project = servers.project(tmp_path, "everything")
    cli("init", check=0)
    give(cli, servers.basic)
    (users_home(home) / "auth.json").write_text(servers.composer_auth("bearer"))
    env = {"COMPOSER_AUTH": servers.composer_auth("git")}
    cli("run", "my-site.dev", "--", *INSTALL, cwd=project, env=env, check=0)
    assert (users_home(home) / "auth.json").read_text() == servers.composer_auth("bearer")


@pytest.mark.parametrize("status", STATUSES)
def test_a_remote_that_refuses_a_first_clone_leaves_nothing(
    cli: Any, store: None, servers: Servers, tmp_path: Path, watch: ArgumentWatch, no_residue: NoResidue, status: int
) -> None:
    project = servers.project(tmp_path, "git-only")
    with servers.git.answering("initech/vault", status, after_challenge=True):
        done = cli("run", "my-site.dev", "--", *INSTALL, "-vvv", cwd=project)
    assert done.returncode not in {0, *OURS}
    assert seen_by_git(watch) == set()
    assert_masked(servers.needles, done.stdout + done.stderr)
    no_residue()


@pytest.mark.parametrize("status", STATUSES)
def test_a_remote_that_refuses_an_update_leaves_nothing(
    cli: Any, store: None, servers: Servers, tmp_path: Path, watch: ArgumentWatch, no_residue: NoResidue, status: int
) -> None:
    """The clones are there already; Composer has the password too, and may retry with it, but git never sees it."""
    project, receipt = servers.project(tmp_path, "everything"), tmp_path / "receipt.json"
    cli("run", "my-site.dev", "--", *INSTALL, cwd=project, check=0)
    mark = servers.mark()
    with servers.git.answering("initech/vault", status, after_challenge=True):
        done = cli("run", "--receipt", receipt, "my-site.dev", "--", *UPDATE, "-vvv", cwd=project)
    refused = [r for r in servers.requests(mark) if r.path.startswith("/initech/vault.git") and r.had_authorization]
    assert {request.status for request in refused} == {status}
    assert done.returncode not in OURS
    assert seen_by_git(watch) == set()
    seen = json.loads(receipt.read_text())["git"]["seen_in_arguments"]
    assert seen == ([] if status == 404 else [servers.git.host]), "Composer retries what was refused, not what is gone"
    assert_masked(servers.needles, done.stdout + done.stderr)
    no_residue()


def test_a_signal_while_git_waits_for_the_remote_gives_143_and_leaves_nothing(
    cli: Any,
    store: None,
    servers: Servers,
    tmp_path: Path,
    home: dict[str, str],
    watch: ArgumentWatch,
    no_residue: NoResidue,
) -> None:
    project = servers.project(tmp_path, "everything")
    cli("run", "my-site.dev", "--", *INSTALL, cwd=project, check=0)
    with (
        servers.git.hanging("initech/vault", after_challenge=True) as hang,
        cli.start("run", "my-site.dev", "--", *UPDATE, cwd=project) as process,
    ):
        hang.wait_for_request()
        process.send_signal(signal.SIGTERM)
        output = b"".join(process.communicate(timeout=60))
    assert process.returncode == 143, output
    assert [pid for pid in os.listdir("/proc") if pid.isdigit() and works_in(pid, project)] == []
    assert watch.seen == set()
    assert_masked(servers.needles, output)
    no_residue()


def works_in(pid: str, directory: Path) -> bool:
    try:
        return Path(os.readlink(f"/proc/{pid}/cwd")).is_relative_to(directory)
    except OSError:
        return False


def test_the_port_of_https_makes_another_key_of_a_host(version: str, home: dict[str, str], tmp_path: Path) -> None:
    """Composer looks for the credential of HOST:443 where the URL says so, and only there."""
    del version
    (tmp_path / "show").mkdir()
    (tmp_path / "show" / "Origins.php").write_text(
        """<?php
        namespace Show;
        class Origins {
            public static function show($event) {
                foreach (["https://h.org/x", "https://h.org:443/x"] as $url) {
                    echo \\Composer\\Util\\Url::getOrigin($event->getComposer()->getConfig(), $url), "\\n";
                }
            }
        }
        """
    )
    manifest = {"autoload": {"psr-4": {"Show\\": "show/"}}, "scripts": {"show": "Show\\Origins::show"}}
    (tmp_path / "composer.json").write_text(json.dumps(manifest))
    command = ("composer", "run-script", "--quiet", "show")
    done = subprocess.run(command, env=home, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["h.org", "h.org:443"]
    assert [drop_default_port(host) for host in done.stdout.split()] == ["", "h.org"]


@pytest.fixture(scope="module")
def bitbucket() -> Iterator[Bitbucket]:
    with start_bitbucket() as started:
        yield started


def test_a_minted_token_is_masked_and_left_nowhere(
    cli: Any,
    version: str,
    bitbucket: Bitbucket,
    tmp_path: Path,
    home: dict[str, str],
    private: Path,
    search_tree: Search,
) -> None:
    """Also where the project and the user have an auth.json, into which Composer could have written it."""
    project, receipt = tmp_path / "project", tmp_path / "receipt.json"
    project.mkdir()
    tell = 'cat "$COMPOSER_HOME/auth.json"; base64 -w 0 "$COMPOSER_HOME/auth.json"'
    manifest = {
        "repositories": [{"type": "vcs", "url": URL}, {"packagist.org": False}],
        "require": {PACKAGE: "^1.0"},
        "scripts": {"post-install-cmd": tell, "post-update-cmd": tell},
    }
    (project / "composer.json").write_text(json.dumps(manifest, indent=4) + "\n")
    (project / "auth.json").write_text('{"bearer": {"repo.example.org": "bearer-of-the-project"}}')
    (users_home(home) / "auth.json").write_text('{"bearer": {"repo.example.net": "bearer-of-the-user"}}')
    files = [project / "composer.json", project / "auth.json", users_home(home) / "auth.json"]
    before = [path.read_bytes() for path in files]
    cli("init", check=0)
    give(cli, bitbucket)
    bitbucket.requests.clear()
    run = ("run", "--receipt", receipt, "my-site.dev", "--", *INSTALL, "-vvv")
    done = cli(*run, cwd=project, env=bitbucket.environment, check=0)
    assert bitbucket.mints == 1
    assert (project / "vendor" / PACKAGE / "widget.php").is_file()
    assert b'"access-token": "***"' in done.stdout
    assert_masked(bitbucket.needles, done.stdout + done.stderr)
    assert [path.read_bytes() for path in files] == before
    assert json.loads(receipt.read_text())["minted"] == [bitbucket.secret_name]
    assert list(private.iterdir()) == []
    assert search_tree([tmp_path, Path("/dev/shm")], bitbucket.needles) == []
