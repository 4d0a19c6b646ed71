"""The private repositories themselves, with real Composer and git and without ic-secrets: what other tests stand on."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from searching import Found, encodings, search_tree
from servers import AWKWARD_CHARACTERS, Server, Servers, start_servers
from servers.nginx import MissingToolError, require_tools

Environment = dict[str, str]


def composer(project: Path, environment: Environment, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run real Composer in `project`, without colours."""
    command = ["composer", *(arguments or ("install",)), "--no-interaction", "--no-progress", "--no-ansi"]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=120)


def status(server: Server, path: str, credential: str | None = None) -> int:
    """The status of a GET with the Authorization header given, or none."""
    headers = {} if credential is None else {"Authorization": credential}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        response.read()
        return response.status


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def git_ls_remote(server: Server, package: str, environment: Environment) -> subprocess.CompletedProcess[str]:
    """Ask git for a repository's tags, its credential handed over by a helper."""
    helper = '!f() { printf "username=%s\\npassword=%s\\n" "$GIT_USER" "$GIT_PASSWORD"; }; f'
    command = ["git", "-c", f"credential.helper={helper}", "ls-remote", "--tags", f"{server.url}/{package}.git"]
    credential = {"GIT_USER": server.user, "GIT_PASSWORD": server.password, "GIT_TERMINAL_PROMPT": "0"}
    return subprocess.run(command, env=environment | credential, capture_output=True, text=True, timeout=60)


def test_passwords_hold_every_awkward_character(servers: Servers) -> None:
    for server in (servers.basic, servers.git):
        assert set(AWKWARD_CHARACTERS) <= set(server.password)
        assert server.password == server.password.strip()
    assert set("/+=") <= set(servers.bearer.token)
    assert servers.basic.password != servers.git.password


def test_everything_fails_without_credentials(servers: Servers, home: Environment, tmp_path: Path) -> None:
    """The install needs what it is said to need."""
    project = servers.project(tmp_path, "everything")
    done = composer(project, home)
    assert done.returncode != 0
    assert not (project / "vendor").exists()


@pytest.mark.parametrize("missing", ["basic", "bearer", "git"])
def test_everything_needs_each_of_its_credentials(
    servers: Servers, home: Environment, tmp_path: Path, missing: str
) -> None:
    project = servers.project(tmp_path, "everything")
    present = [name for name in ("basic", "bearer", "git") if name != missing]
    done = composer(project, home | {"COMPOSER_AUTH": servers.composer_auth(*present)})
    assert done.returncode != 0


def test_everything_installs_with_all_three_and_runs(servers: Servers, home: Environment, tmp_path: Path) -> None:
    project = servers.project(tmp_path, "everything")
    done = composer(project, home | {"COMPOSER_AUTH": servers.composer_auth("basic", "bearer", "git")})
    assert done.returncode == 0, done.stderr
    names = (
        r"Acme\Checkout\Checkout Acme\Catalogue\Catalogue Acme\Theme\Theme Globex\Reports\Reports Globex\Search\Search"
    )
    names += r" Initech\Vault\Vault Initech\Ledger\Ledger Open\Greeting\Greeting"
    script = 'require "vendor/autoload.php"; foreach (explode(" ", $argv[1]) as $name) echo $name::version(), "\n";'
    ran = subprocess.run(["php", "-r", script, names], cwd=project, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["1.1.0"] * 8


def test_a_second_install_from_a_warm_cache_downloads_no_dist(
    servers: Servers, home: Environment, tmp_path: Path
) -> None:
    environment = home | {"COMPOSER_AUTH": servers.composer_auth("basic", "bearer", "git")}
    start = servers.mark()
    first = composer(servers.project(tmp_path / "first", "everything"), environment)
    assert first.returncode == 0, first.stderr
    middle = servers.mark()
    second = composer(servers.project(tmp_path / "second", "everything"), environment)
    assert second.returncode == 0, second.stderr
    downloaded = [request for request in servers.requests(since=start) if request.path.startswith("/dist/")]
    again = [request for request in servers.requests(since=middle) if request.path.startswith("/dist/")]
    assert len({request.path for request in downloaded}) == 6
    assert again == []


def test_the_log_tells_who_asked_for_what(servers: Servers) -> None:
    start = servers.mark()
    status(servers.basic, "/packages.json")
    status(servers.bearer, "/packages.json", f"Bearer {servers.bearer.token}")
    assert servers.requests(since=start) == [
        ("basic", "GET", "/packages.json", 401, False),
        ("bearer", "GET", "/packages.json", 200, True),
    ]


def test_each_server_takes_its_own_credential_only(servers: Servers) -> None:
    right_basic = basic(servers.basic.user, servers.basic.password)
    right_git = basic(servers.git.user, servers.git.password)
    right_bearer = f"Bearer {servers.bearer.token}"
    references = "/initech/vault.git/info/refs?service=git-upload-pack"
    for server, path, right in (
        (servers.basic, "/packages.json", right_basic),
        (servers.basic, "/p2/acme/theme.json", right_basic),
        (servers.basic, "/dist/acme/theme/1.0.0.zip", right_basic),
        (servers.bearer, "/packages.json", right_bearer),
        (servers.bearer, "/dist/globex/search/1.0.0.zip", right_bearer),
        (servers.git, references, right_git),
    ):
        assert status(server, path, right) == 200
        for wrong in {
            None,
            right_basic,
            right_git,
            right_bearer,
            right[:-6] + right[-6:].swapcase(),
            "Bearer ",
            "Basic ",
        } - {right}:
            assert status(server, path, wrong) in {400, 401}
    assert status(servers.public, "/packages.json") == 200


@pytest.mark.parametrize("answer", [401, 403, 404, 500])
def test_fixed_addresses_answer_with_a_status(servers: Servers, answer: int) -> None:
    for server in servers.all:
        assert status(server, f"/status/{answer}/x.git/info/refs") == answer
        assert status(server, f"/refusing/{answer}/x.git/info/refs") == 401
        assert status(server, f"/refusing/{answer}/x.git/info/refs", basic("any", "thing")) == answer


@pytest.mark.parametrize("answer", [401, 403, 404, 500])
def test_a_repository_can_be_gone_for_a_while(servers: Servers, home: Environment, answer: int) -> None:
    """No restart, and no other repository is touched; afterwards it is there again."""
    for after_challenge in (False, True):
        with servers.git.answering("initech/vault", answer, after_challenge=after_challenge):
            start = servers.mark()
            assert git_ls_remote(servers.git, "initech/vault", home).returncode == 128
            statuses = [request.status for request in servers.requests(since=start)]
            assert statuses == ([401, answer] if after_challenge or answer == 401 else [answer])
            assert git_ls_remote(servers.git, "initech/ledger", home).returncode == 0
    assert "refs/tags/1.0.0" in git_ls_remote(servers.git, "initech/vault", home).stdout


def test_a_download_can_be_refused_for_a_while(servers: Servers) -> None:
    credential = basic(servers.basic.user, servers.basic.password)
    with servers.basic.answering("acme/theme", 403):
        assert status(servers.basic, "/dist/acme/theme/1.0.0.zip", credential) == 403
        assert status(servers.basic, "/dist/acme/checkout/1.0.0.zip", credential) == 200
    assert status(servers.basic, "/dist/acme/theme/1.0.0.zip", credential) == 200


def test_a_request_can_hang_and_the_test_knows_when(servers: Servers, home: Environment) -> None:
    with servers.git.hanging("initech/vault", after_challenge=True) as hang:
        results: list[int] = []
        client = threading.Thread(
            target=lambda: results.append(git_ls_remote(servers.git, "initech/vault", home).returncode)
        )
        client.start()
        hang.wait_for_request()
        assert results == []
    client.join(30)
    assert results == [128]
    assert git_ls_remote(servers.git, "initech/vault", home).returncode == 0


def test_a_global_plugin_can_be_required_and_speaks(servers: Servers, home: Environment, tmp_path: Path) -> None:
    composer_home = Path(home["XDG_CONFIG_HOME"], "composer")
    servers.project(tmp_path, "global").rename(composer_home)
    required = composer(tmp_path, home, "global", "require", "open/announcer")
    assert required.returncode == 0, required.stderr
    done = composer(servers.project(tmp_path, "public-only"), home)
    assert "announcer: the plugin is active" in done.stdout


def test_a_project_can_keep_its_own_cache(servers: Servers, home: Environment, tmp_path: Path) -> None:
    project = servers.project(tmp_path, "cache-dir")
    done = composer(project, home | {"COMPOSER_AUTH": servers.composer_auth("basic")})
    assert done.returncode == 0, done.stderr
    assert list((project / "composer-cache/files/acme").iterdir())
    assert not Path(home["XDG_CACHE_HOME"], "composer/files").exists()


def test_scripts_print_the_environment(servers: Servers, home: Environment, tmp_path: Path) -> None:
    done = composer(servers.project(tmp_path, "scripts"), home | {"LICENCE_KEY": "seen"})
    assert "LICENCE_KEY=seen" in done.stdout.splitlines()


def test_a_script_can_leave_a_daemon(servers: Servers, home: Environment, tmp_path: Path) -> None:
    project = servers.project(tmp_path, "daemon-script")
    done = composer(project, home)
    assert done.returncode == 0, done.stderr
    pid = int((project / "daemon.pid").read_text())
    os.kill(pid, signal.SIGKILL)  # ProcessLookupError where there is none


def test_the_servers_keep_no_credential_in_a_file(servers: Servers, home: Environment) -> None:
    """So a test may search the temporary directories, the servers' own among them."""
    git_ls_remote(servers.git, "initech/vault", home)
    status(servers.bearer, "/packages.json", f"Bearer {servers.bearer.token}")
    status(servers.basic, "/packages.json", basic(servers.basic.user, "wrong"))
    assert search_tree([servers.directory], servers.needles) == []


def test_servers_end_when_the_session_is_killed(tmp_path: Path) -> None:
    """Even by KILL, which no cleanup survives: nobody listens on the ports afterwards."""
    program = (
        "import servers\nwith servers.start_servers() as s: print(s.public.port, s.directory, flush=True); input()"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as session:
        assert session.stdout is not None
        port, directory = session.stdout.readline().split()
        nginx = os.pidfd_open(int(Path(os.fsdecode(directory), "nginx.pid").read_text()))
        session.kill()
        ended, _, _ = select.select([nginx], [], [], 30)
        os.close(nginx)
    assert ended
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port)), timeout=30)


def test_servers_leave_nothing_in_the_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with start_servers() as servers:
        assert servers.directory.parent == tmp_path
        assert servers.directory.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


def test_a_missing_program_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servers.nginx._PATH", "/nonexistent")
    with pytest.raises(MissingToolError, match=r"composer.*nginx.*run \.ci/install"):
        require_tools()


def test_the_search_finds_a_value_in_every_form(
    tmp_path: Path, servers: Servers, search_tree: Callable[..., list[Found]]
) -> None:
    """In names, contents and links; and base64 of it whatever stands before it."""
    password = servers.basic.password.encode()
    for number, (_, text) in enumerate(encodings(password)):
        (tmp_path / f"file-{number}").write_bytes(b"\0\xff" + text + b"\n")
    for number in range(3):
        (tmp_path / f"mid-{number}").write_bytes(base64.b64encode(b"x" * number + password + b"tail"))
    (tmp_path / "link").symlink_to(servers.bearer.token)
    (tmp_path / "json").write_text(json.dumps({"password": servers.basic.password}))
    found = {entry.path.name for entry in search_tree([tmp_path], [password, servers.bearer.token.encode()])}
    assert found == {path.name for path in tmp_path.iterdir()}
    assert search_tree([tmp_path], [b"never-planted-anywhere"]) == []
