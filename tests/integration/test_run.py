"""The main job on real Composer: what a build gets, what the user keeps, and that nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from searching import Found
from servers import Server, Servers

Search = Callable[..., list[Found]]
INSTALL = ("composer", "install", "--no-interaction", "--no-progress", "--no-ansi")


@pytest.fixture
def store(cli: Any, servers: Servers, private: Path) -> None:
    """A store whose site `my-site` has a credential for each private server, one of them from its organization."""
    cli("init", check=0)
    cli("site", "set", "my-site", "--org", "agency", check=0)
    give(cli, servers.basic)
    give(cli, servers.git)
    give(cli, servers.bearer, owner="org:agency")


def give(cli: Any, server: Server, owner: str = "my-site") -> None:
    cli(*("set", owner, server.secret_name, "--type", "composer", "--scope", "ic"), stdin=server.secret_value, check=0)


def composer_home(home: dict[str, str]) -> Path:
    path = Path(home["XDG_CONFIG_HOME"]) / "composer"
    path.mkdir(parents=True, exist_ok=True)
    return path


def snapshot(directory: Path) -> dict[str, tuple[bytes | str, int]]:
    """Every file and link below, with its bytes and its mode."""
    return {
        str(path.relative_to(directory)): (
            os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else "",
            path.lstat().st_mode,
        )
        for path in directory.rglob("*")
    }


def assert_nothing_left(tmp_path: Path, private: Path, servers: Servers, search_tree: Search) -> None:
    assert list(private.iterdir()) == []
    assert search_tree([tmp_path, Path("/dev/shm")], servers.needles) == []


def test_an_install_that_needs_every_credential_succeeds_and_leaves_none(
    cli: Any, store: None, servers: Servers, tmp_path: Path, private: Path, search_tree: Search
) -> None:
    project = servers.project(tmp_path, "everything")
    done = cli("run", "my-site.dev", "--", *INSTALL, cwd=project, check=0)
    installed = {p["name"] for p in json.loads((project / "vendor/composer/installed.json").read_text())["packages"]}
    assert installed >= {"acme/checkout", "globex/reports", "initech/vault", "initech/ledger"}
    assert not any(needle in done.stdout + done.stderr for needle in servers.needles)
    assert_nothing_left(tmp_path, private, servers, search_tree)


def test_without_the_secrets_it_fails_with_composers_own_status(
    cli: Any, servers: Servers, tmp_path: Path, private: Path
) -> None:
    project = servers.project(tmp_path, "everything")
    cli("init", check=0)
    cli("site", "set", "my-site", check=0)
    assert cli("run", "my-site.dev", "--", *INSTALL, cwd=project).returncode in {100, 255}
    assert list(private.iterdir()) == []


@pytest.mark.parametrize("place", ["auth.json", "config.json", "COMPOSER_AUTH"])
def test_a_stale_credential_of_the_user_for_the_same_host_does_not_break_it(
    cli: Any, store: None, servers: Servers, tmp_path: Path, home: dict[str, str], place: str
) -> None:
    project = servers.project(tmp_path, "basic-only")
    stale: dict[str, Any] = {"bearer": {servers.basic.host: "stale-token-of-the-user"}}
    env = {}
    if place == "COMPOSER_AUTH":
        env["COMPOSER_AUTH"] = json.dumps(stale)
    else:
        content = stale if place == "auth.json" else {"config": stale}
        (composer_home(home) / place).write_text(json.dumps(content))
    before = snapshot(composer_home(home))
    cli("run", "my-site.dev", "--", *INSTALL, cwd=project, env=env, check=0)
    after = snapshot(composer_home(home))
    assert {name: after[name] for name in before} == before


def test_the_users_credentials_for_other_hosts_go_on_working(
    cli: Any, servers: Servers, tmp_path: Path, home: dict[str, str], private: Path
) -> None:
    project = servers.project(tmp_path, "everything")
    cli("init", check=0)
    give(cli, servers.basic)
    (composer_home(home) / "auth.json").write_text(servers.composer_auth("bearer"))
    before = snapshot(composer_home(home))
    cli(
        *("run", "my-site.dev", "--", *INSTALL),
        cwd=project,
        env={"COMPOSER_AUTH": servers.composer_auth("git")},
        check=0,
    )
    after = snapshot(composer_home(home))
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() <= {".htaccess"}, "which Composer puts into every home"


def test_the_users_settings_repositories_and_global_plugins_go_on_working(
    cli: Any, store: None, servers: Servers, tmp_path: Path, home: dict[str, str]
) -> None:
    source = servers.project(tmp_path, "global")
    shutil.copy(source / "composer.json", composer_home(home) / "composer.json")
    require = ("composer", "global", "require", "open/announcer", "--no-interaction", "--no-progress")
    subprocess.run(require, env=home, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    settings = {
        "config": {"secure-http": False, "github-protocols": ["https"]},
        "repositories": {"packagist.org": False, "open": {"type": "composer", "url": servers.public.url}},
    }
    (composer_home(home) / "config.json").write_text(json.dumps(settings))
    project = tmp_path / "bare"
    project.mkdir()
    (project / "composer.json").write_text('{"require": {"open/greeting": "^1.0"}}')
    before = snapshot(composer_home(home))
    plain = subprocess.run(INSTALL, cwd=project, env=home, capture_output=True, check=True, timeout=120)
    shutil.rmtree(project / "vendor")
    done = cli("run", "my-site.dev", "--", *INSTALL, cwd=project, check=0)
    announced = [line for line in plain.stdout.splitlines() + plain.stderr.splitlines() if b"nnounce" in line]
    assert announced
    assert all(line in done.stdout + done.stderr for line in announced)
    assert snapshot(composer_home(home)) == before


def test_a_first_global_require_is_carried_back(
    cli: Any,
    store: None,
    servers: Servers,
    tmp_path: Path,
    home: dict[str, str],
    search_tree: Search,
    private: Path,
    work: Path,
) -> None:
    settings = {
        "config": {"secure-http": False, "allow-plugins": {"open/announcer": True}},
        "repositories": {"packagist.org": False, "open": {"type": "composer", "url": servers.public.url}},
    }
    (composer_home(home) / "config.json").write_text(json.dumps(settings))
    # A value that stands in honest code for reasons of its own holds nothing up.
    cli("set", "my-site", "WORD", "--type", "env", "--scope", "ic", stdin=b"composer", check=0)
    require = ("composer", "global", "require", "open/announcer", "--no-interaction", "--no-progress")
    cli("run", "my-site.dev", "--", *require, cwd=work, check=0)
    assert (composer_home(home) / "vendor" / "composer" / "installed.json").exists()
    assert json.loads((composer_home(home) / "composer.json").read_text())["require"].keys() == {"open/announcer"}
    assert not (composer_home(home) / "auth.json").exists()
    shown = subprocess.run(
        ("composer", "global", "show", "--no-ansi"), env=home, cwd=tmp_path, capture_output=True, timeout=60
    )
    assert b"open/announcer" in shown.stdout
    assert_nothing_left(tmp_path, private, servers, search_tree)


def test_a_second_install_downloads_nothing(
    cli: Any, store: None, servers: Servers, tmp_path: Path, home: dict[str, str]
) -> None:
    project = servers.project(tmp_path, "basic-only")
    cli("run", "my-site.dev", "--", *INSTALL, cwd=project, check=0)
    assert (Path(home["XDG_CACHE_HOME"]) / "composer" / "files").is_dir()
    shutil.rmtree(project / "vendor")
    mark = servers.mark()
    cli("run", "my-site.dev", "--", *INSTALL, cwd=project, check=0)
    assert (project / "vendor" / "acme" / "checkout").is_dir()
    assert [request for request in servers.requests(mark) if request.path.endswith(".zip")] == []


def test_the_projects_own_cache_directory_is_used(
    cli: Any, store: None, servers: Servers, tmp_path: Path, home: dict[str, str]
) -> None:
    project = servers.project(tmp_path, "cache-dir")
    cli("run", "my-site.dev", "--", *INSTALL, cwd=project, check=0)
    assert (project / "composer-cache" / "files").is_dir()
    assert not (Path(home["XDG_CACHE_HOME"]) / "composer" / "files").exists()


@pytest.mark.parametrize("file", ["auth.json", "composer.json"])
def test_a_credential_of_the_project_for_the_same_host_is_named_and_left(
    cli: Any, store: None, servers: Servers, tmp_path: Path, file: str
) -> None:
    project = servers.project(tmp_path, "basic-only")
    own = {"http-basic": {servers.basic.host: {"username": "the-project", "password": "stale-of-the-project"}}}
    if file == "auth.json":
        (project / file).write_text(json.dumps(own))
    else:
        manifest = json.loads((project / file).read_text())
        manifest["config"].update(own)
        (project / file).write_text(json.dumps(manifest))
    before = (project / file).read_bytes()
    done = cli("run", "my-site.dev", "--", *INSTALL, cwd=project)
    assert done.returncode in {100, 255}, "as the warning says, Composer prefers the project's"
    warning = next(line for line in done.stderr.decode().splitlines() if line.startswith("warning:"))
    assert str(project / file) in warning
    assert servers.basic.host in warning
    assert "stale-of-the-project" not in done.stderr.decode()
    assert (project / file).read_bytes() == before


def test_every_method_is_taken_by_composer(cli: Any, private: Path, work: Path) -> None:
    values = {
        "http-basic": "user pass",
        "bearer": "token",
        "github-oauth": "token",
        "gitlab-oauth": "token",
        "gitlab-token": "user token",
        "bitbucket-oauth": "key secret",
        "custom-headers": "X-Token: value",
        "forgejo-token": "user token",
        "client-certificate": '{"local_cert": "/nowhere/cert.pem"}',
    }
    cli("init", check=0)
    for method, value in values.items():
        name = f"{method}.{method}.example.org"
        cli("set", "my-site", name, "--type", "composer", "--scope", "ic", stdin=value.encode(), check=0)
    done = cli(
        "run", "--no-mask", "my-site", "--", "composer", "config", "--global", "--list", "--no-ansi", cwd=work, check=0
    )
    shown = done.stdout.decode()
    for line in (
        "[http-basic.http-basic.example.org.password] pass",
        "[bearer.bearer.example.org] token",
        "[github-oauth.github-oauth.example.org] token",
        "[gitlab-token.gitlab-token.example.org.token] token",
        "[bitbucket-oauth.bitbucket-oauth.example.org.consumer-secret] secret",
    ):
        assert line in shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_during_a_script_ends_both_and_scrubs(
    cli: Any,
    store: None,
    servers: Servers,
    tmp_path: Path,
    home: dict[str, str],
    private: Path,
    search_tree: Search,
    number: int,
) -> None:
    project = servers.project(tmp_path, "sleeping-script")
    command = [str(Path(sys.executable).parent / "ic-secrets"), "run", "my-site.dev", "--", *INSTALL]
    with subprocess.Popen(command, cwd=project, env=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        for line in process.stdout:
            if b"the script sleeps" in line:
                break
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert not Path(f"/proc/{(project / 'script.pid').read_text().strip()}").exists()
    assert_nothing_left(tmp_path, private, servers, search_tree)


def test_a_daemon_that_a_script_left_behind_is_ended_and_told_of(
    cli: Any, store: None, servers: Servers, tmp_path: Path, private: Path, search_tree: Search
) -> None:
    project = servers.project(tmp_path, "daemon-script")
    done = cli("run", "--grace", "0.2s", "my-site.dev", "--", *INSTALL, cwd=project, check=0)
    assert not Path(f"/proc/{(project / 'daemon.pid').read_text().strip()}").exists()
    assert b"that the build had left running" in done.stderr
    assert_nothing_left(tmp_path, private, servers, search_tree)


def test_a_daemon_is_left_alone_where_that_is_allowed(
    cli: Any, store: None, servers: Servers, tmp_path: Path, private: Path
) -> None:
    project = servers.project(tmp_path, "daemon-script")
    cli("run", "--allow-background", "my-site.dev", "--", *INSTALL, cwd=project, check=0)
    daemon = int((project / "daemon.pid").read_text())
    assert Path(f"/proc/{daemon}").exists()
    os.kill(daemon, signal.SIGKILL)
    assert list(private.iterdir()) == []


@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)])
def test_however_the_build_ends_the_private_directory_is_gone(
    cli: Any,
    store: None,
    servers: Servers,
    tmp_path: Path,
    private: Path,
    search_tree: Search,
    work: Path,
    script: str,
    status: int,
) -> None:
    seen = 'test -f "$COMPOSER_HOME/auth.json" && echo "$COMPOSER_HOME"'
    done = cli("run", "my-site.dev", "--", "sh", "-c", f"{seen}; {script}", cwd=work)
    assert done.returncode == status
    directory = Path(done.stdout.decode().strip()).parent
    assert directory.parent == private
    assert not directory.exists()
    assert_nothing_left(tmp_path, private, servers, search_tree)


def test_a_read_only_project_works(
    cli: Any, store: None, servers: Servers, tmp_path: Path, home: dict[str, str]
) -> None:
    project = servers.project(tmp_path, "basic-only")
    cli("run", "my-site.dev", "--", *INSTALL, cwd=project, check=0)
    before = snapshot(project)
    command = f"{Path(sys.executable).parent}/ic-secrets run my-site.dev -- composer show --no-ansi"
    mounts = f"mount --bind {project} {project} && mount -o remount,ro,bind {project} && cd {project} && "
    done = run_in_mount_namespace(mounts + f"! touch probe 2>/dev/null && {command}", home)
    assert b"acme/checkout" in done.stdout, done.stderr
    assert done.returncode == 0
    assert snapshot(project) == before


def test_a_full_private_directory_refuses_the_build_and_leaves_nothing(
    cli: Any, store: None, servers: Servers, tmp_path: Path, home: dict[str, str]
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    command = f"{Path(sys.executable).parent}/ic-secrets run --run-dir {full} my-site.dev -- echo built"
    fill = f"mount -t tmpfs -o size=16k tmpfs {full} && (head -c 100000 /dev/zero > {full}/filler; true) 2>/dev/null; "
    done = run_in_mount_namespace(fill + f"{command}; echo status $?; ls {full}", home)
    assert b"status 125\nfiller\n" in done.stdout
    assert b"built" not in done.stdout
    assert done.stderr.decode().splitlines()[-1].startswith("error: ")
    assert b"No space left" in done.stderr


def run_in_mount_namespace(script: str, env: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    """Run the script where its mounts are its own; a user namespace lends the right to mount where we lack it."""
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    return subprocess.run([*unshare, "sh", "-c", script], env=env, capture_output=True, timeout=120)
