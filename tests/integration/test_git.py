"""git gets its credentials by a helper: none in arguments, none in a clone, whatever the server says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from searching import search_tree
from servers import Server, Servers
from watching import ArgumentWatch

INSTALL = ("composer", "install", "--no-interaction", "--no-progress", "--no-ansi")
UPDATE = ("composer", "update", "--no-interaction", "--no-progress", "--no-ansi")


@pytest.fixture
def store(cli: Any, servers: Servers) -> None:
    """A store whose site `my-site` has a credential for each private server."""
    cli("init", check=0)
    for server in (servers.basic, servers.bearer, servers.git):
        give(cli, server)


@pytest.fixture
def watch(servers: Servers) -> Iterator[ArgumentWatch]:
    password = servers.git.password
    needles = [password.encode(), quote(password, safe="").encode(), quote(password).encode()]
    with ArgumentWatch(needles) as watching:
        yield watching


def give(cli: Any, server: Server) -> None:
    name = ("set", "my-site", server.secret_name, "--type", "composer", "--scope", "ic")
    cli(*name, stdin=server.secret_value, check=0)


def clones(home: dict[str, str]) -> list[Path]:
    return sorted((Path(home["XDG_CACHE_HOME"]) / "composer" / "vcs").glob("*/config"))


def assert_clean(servers: Servers, tmp_path: Path, home: dict[str, str]) -> None:
    assert not any(b"@" in path.read_bytes().split(b"url =", 1)[-1].split(b"\n")[0] for path in clones(home))
    assert not (Path(home["HOME"]) / ".git-credentials").exists()
    assert search_tree([tmp_path, Path("/dev/shm")], servers.needles) == []


def long_lived(watch: ArgumentWatch) -> set[bytes]:
    """Arguments with the password that stay: those of git itself, not of what Composer starts it through."""
    return {
        arguments
        for arguments in watch.seen
        if not arguments.startswith((b"sh\0-c\0", b"/bin/sh\0/dev/shm/", b"/bin/sh\0-c\0"))
        and not arguments.split(b"\0")[1].endswith(b"/git")
    }


def test_the_password_is_in_no_arguments_and_no_configuration(
    cli: Any, store: None, servers: Servers, tmp_path: Path, home: dict[str, str], watch: ArgumentWatch
) -> None:
    (Path(home["HOME"]) / ".gitconfig").write_text("[credential]\n\thelper = store\n")
    project = servers.project(tmp_path, "everything")
    cli("run", "my-site.dev", "--", *INSTALL, cwd=project, check=0)
    assert any(b"git" in program for program in watch.programs)
    assert watch.seen == set()
    assert len(clones(home)) == 2
    assert_clean(servers, tmp_path, home)


def test_without_ic_secrets_the_password_is_there_to_be_seen(
    servers: Servers, tmp_path: Path, home: dict[str, str], watch: ArgumentWatch
) -> None:
    """The watch is not blind: this is what Composer does by itself."""
    project = servers.project(tmp_path, "git-only")
    auth = {"COMPOSER_AUTH": servers.composer_auth("git")}
    subprocess.run(INSTALL, cwd=project, env=home | auth, check=True, capture_output=True, timeout=120)
    assert watch.seen


def test_the_users_own_helper_for_another_host_goes_on_working(
    cli: Any, servers: Servers, tmp_path: Path, home: dict[str, str]
) -> None:
    cli("init", check=0)
    give(cli, servers.basic)
    login = tmp_path / "login"
    login.write_text(f"username={servers.git.user}\npassword={servers.git.password}\n")
    (Path(home["HOME"]) / ".gitconfig").write_text(f'[credential]\n\thelper = "!f() {{ cat {login}; }}; f"\n')
    project = servers.project(tmp_path, "git-only")
    cli("run", "my-site.dev", "--", *INSTALL, cwd=project, check=0)
    assert (project / "vendor" / "initech" / "vault").is_dir()


def test_configuration_that_comes_by_variables_is_kept(
    cli: Any, store: None, servers: Servers, tmp_path: Path, work: Path
) -> None:
    mine = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "Somebody"}
    done = cli("run", "my-site.dev", "--", "git", "config", "user.name", env=mine, cwd=work, check=0)
    assert done.stdout == b"Somebody\n"


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_a_refusal_leaves_nothing_in_the_cache(
    cli: Any,
    store: None,
    servers: Servers,
    tmp_path: Path,
    home: dict[str, str],
    watch: ArgumentWatch,
    status: int,
) -> None:
    """The clones are there already; now the remote refuses the credential, or is gone."""
    project = servers.project(tmp_path, "everything")
    cli("run", "my-site.dev", "--", *INSTALL, cwd=project, check=0)
    receipt = tmp_path / "receipt.json"
    with servers.git.answering("initech/vault", status, after_challenge=True):
        done = cli("run", "my-site.dev", "--receipt", receipt, "--", *UPDATE, cwd=project)
    assert done.returncode not in {120, 121, 125}
    assert long_lived(watch) == set()
    seen = json.loads(receipt.read_text())["git"]["seen_in_arguments"]
    if watch.seen:
        assert seen == [servers.git.host]
    if seen:
        assert servers.git.host in done.stderr.decode()
    assert_clean(servers, tmp_path, home)


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_password_that_is_refused_is_taken_out_of_the_arguments_of_git(
    cli: Any, store: None, servers: Servers, tmp_path: Path, home: dict[str, str], watch: ArgumentWatch, status: int
) -> None:
    project = servers.project(tmp_path, "git-only")
    receipt = tmp_path / "receipt.json"
    with servers.git.answering("initech/vault", status, after_challenge=True):
        done = cli("run", "my-site.dev", "--receipt", receipt, "--", *INSTALL, cwd=project)
    assert done.returncode in {1, 100, 255}
    document = json.loads(receipt.read_text())
    host = next(secret for secret in document["secrets"] if secret["name"] == servers.git.secret_name)
    assert host["destination"] == {
        "auth_json": True,
        "git_helper": True,
        "method": "http-basic",
        "host": servers.git.host,
    }
    assert long_lived(watch) == set()
    assert_clean(servers, tmp_path, home)


def test_a_nested_install_downloads_from_the_host_that_git_asks(
    cli: Any, store: None, servers: Servers, tmp_path: Path
) -> None:
    """composer.json shows a host that git alone asks; the theme's, which it does not know, asks it by HTTP."""
    project = servers.project_with_theme(tmp_path)
    cli("run", "my-site.dev", "--", *INSTALL, cwd=project, check=0)
    assert (project / "vendor" / "initech" / "vault").is_dir()
    assert list((project / "theme" / "vendor" / "acme" / "patch").iterdir())


def give_wrong(cli: Any, server: Server) -> None:
    """A secret for the server's host that its repositories refuse."""
    cli("init", check=0)
    name = ("set", "my-site", server.secret_name, "--type", "composer", "--scope", "ic")
    cli(*name, stdin=b"somebody a-password-for-other-repositories", check=0)


def with_login(servers: Servers) -> str:
    """The address of the git server, with its login in it."""
    login = f"{quote(servers.git.user, safe='')}:{quote(servers.git.password, safe='')}"
    return servers.git.url.replace("://", f"://{login}@")


@pytest.mark.parametrize("kind", ["git", "vcs"])
def test_a_repository_with_a_login_of_its_own_is_asked_with_that(
    cli: Any, servers: Servers, tmp_path: Path, home: dict[str, str], watch: ArgumentWatch, kind: str
) -> None:
    give_wrong(cli, servers.git)
    project = servers.project(tmp_path, "git-only")
    text = (project / "composer.json").read_text().replace(servers.git.url, with_login(servers))
    (project / "composer.json").write_text(text.replace('"type": "git"', f'"type": "{kind}"'))
    done = cli("run", "my-site.dev", "--leaks", "off", "--", *INSTALL, "-vvv", cwd=project, check=0)
    assert (project / "vendor" / "initech" / "vault").is_dir()
    assert long_lived(watch) == set()
    assert servers.git.password.encode() not in done.stdout + done.stderr
    assert quote(servers.git.password, safe="").encode() not in done.stdout + done.stderr
    assert not any(b"@" in path.read_bytes().split(b"url =", 1)[-1].split(b"\n")[0] for path in clones(home))
    assert list(Path("/dev/shm").glob("ic-secrets-*/git/own*")) == []


def test_a_script_may_give_git_a_login_in_a_url(
    cli: Any, servers: Servers, tmp_path: Path, work: Path, watch: ArgumentWatch
) -> None:
    give_wrong(cli, servers.git)
    url = f"{with_login(servers)}/initech/vault.git"
    script = work / "deploy.sh"
    script.write_text(f"git ls-remote {url}\ngit clone -q {url} clone && cd clone && git fetch -q && git pull -q\n")
    done = cli("run", "my-site.dev", "--leaks", "off", "--", "sh", "-e", script.name, cwd=work, check=0)
    assert b"refs/heads" in done.stdout
    assert (work / "clone" / ".git").is_dir()
    assert b"@" not in (work / "clone" / ".git" / "config").read_bytes()
    assert {arguments for arguments in watch.seen if not arguments.startswith(b"/bin/sh\0/")} == set()


@pytest.mark.parametrize("place", ["auth.json", "project", "COMPOSER_AUTH"])
def test_the_passwords_of_the_user_are_not_in_the_arguments_of_git_either(
    cli: Any, servers: Servers, tmp_path: Path, home: dict[str, str], watch: ArgumentWatch, place: str
) -> None:
    cli("init", check=0)
    give(cli, servers.basic)
    project = servers.project(tmp_path, "git-only")
    users = Path(home["XDG_CONFIG_HOME"]) / "composer"
    users.mkdir(parents=True, exist_ok=True)
    env = {"COMPOSER_AUTH": servers.composer_auth("git")} if place == "COMPOSER_AUTH" else {}
    if not env:
        ((users if place == "auth.json" else project) / "auth.json").write_text(servers.composer_auth("git"))
    cli("run", "my-site.dev", "--", *INSTALL, cwd=project, env=env, check=0)
    assert (project / "vendor" / "initech" / "vault").is_dir()
    assert watch.seen == set()


def test_composer_auth_as_an_env_secret_is_the_credentials_that_it_is(
    cli: Any, servers: Servers, tmp_path: Path, home: dict[str, str], watch: ArgumentWatch
) -> None:
    cli("init", check=0)
    words = ("set", "my-site", "COMPOSER_AUTH", "--type", "env", "--scope", "ic")
    cli(*words, stdin=servers.composer_auth("basic", "bearer", "git").encode(), check=0)
    project, receipt = servers.project(tmp_path, "everything"), tmp_path / "receipt.json"
    run = ("run", "my-site.dev", "--receipt", receipt, "--")
    cli(*run, *INSTALL, cwd=project, check=0)
    assert (project / "vendor" / "initech" / "vault").is_dir()
    assert watch.seen == set()
    (secret,) = json.loads(receipt.read_text())["secrets"]
    hosts = sorted([servers.basic.host, servers.bearer.host, servers.git.host])
    assert secret["destination"] == {"auth_json": True, "git_helper": True, "hosts": hosts}
    assert_clean(servers, tmp_path, home)
    done = cli(*run, "sh", "-c", 'cat "$COMPOSER_HOME/auth.json"; env', cwd=project, check=0)
    assert b"COMPOSER_AUTH" not in done.stdout
    assert [needle for needle in servers.needles if needle in done.stdout] == []


@pytest.mark.parametrize("place", ["a script of composer.json", "the command", "build.sh"])
def test_a_tool_with_a_composer_home_of_its_own_has_the_credentials(
    cli: Any, store: None, servers: Servers, tmp_path: Path, home: dict[str, str], watch: ArgumentWatch, place: str
) -> None:
    project = servers.project(tmp_path, "everything")
    text = f"COMPOSER_HOME=$PWD/var/composer_home {' '.join(INSTALL)}"
    command = ["sh", "-c", text]
    if place == "build.sh":
        (project / place).write_text(f"set -e\nexport {text.replace(' composer', '; composer', 1)}\n")
        command = ["sh", place]
    if place.startswith("a script"):
        manifest = json.loads((project / "composer.json").read_text())
        manifest["scripts"] = {"deploy": text}
        (project / "composer.json").write_text(json.dumps(manifest))
        command = ["composer", "run-script", "deploy"]
    done = cli("run", "my-site.dev", "--", *command, cwd=project, check=0)
    assert f"{place}: Composer gets a home of its own there" in done.stderr.decode()
    assert (project / "vendor" / "acme" / "checkout").is_dir()
    assert (project / "vendor" / "initech" / "vault").is_dir()
    assert watch.seen == set()
    assert search_tree([project], servers.needles) == []


def test_a_credential_that_composer_would_store_in_a_foreign_home_is_kept_out_and_named(
    cli: Any, servers: Servers, tmp_path: Path, work: Path
) -> None:
    cli("init", check=0)
    give(cli, servers.basic)
    words = ("set", "my-site", "bitbucket-oauth.bitbucket.org", "--type", "composer", "--scope", "ic")
    cli(*words, stdin=b"a-consumer-key a-consumer-secret", check=0)
    build = ("env", "COMPOSER_HOME=/nowhere", "sh", "-c", "echo $COMPOSER_AUTH")
    done = cli("run", "my-site.dev", "--", *build, cwd=work, check=0)
    assert b"http-basic" in done.stdout
    assert b"bitbucket" not in done.stdout
    assert "does not find bitbucket-oauth.bitbucket.org" in done.stderr.decode()


def test_a_composer_secret_wins_over_composer_auth_and_that_is_said(cli: Any, servers: Servers, tmp_path: Path) -> None:
    cli("init", check=0)
    give(cli, servers.basic)
    stale = {"bearer": {servers.basic.host: "a-stale-token"}}
    words = ("set", "my-site", "COMPOSER_AUTH", "--type", "env", "--scope", "ic")
    cli(*words, stdin=json.dumps(stale).encode(), check=0)
    project = servers.project(tmp_path, "basic-only")
    done = cli("run", "my-site.dev", "--", *INSTALL, cwd=project, check=0)
    said = f"COMPOSER_AUTH also has a credential for {servers.basic.host}; {servers.basic.secret_name} is used instead"
    assert said in done.stderr.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_while_git_waits_for_the_remote_leaves_nothing(
    cli: Any, store: None, servers: Servers, tmp_path: Path, home: dict[str, str], watch: ArgumentWatch, number: int
) -> None:
    project = servers.project(tmp_path, "everything")
    cli("run", "my-site.dev", "--", *INSTALL, cwd=project, check=0)
    command = [str(Path(sys.executable).parent / "ic-secrets"), "run", "my-site.dev", "--", *UPDATE]
    with servers.git.hanging("initech/vault", after_challenge=True) as hang:
        process = subprocess.Popen(command, cwd=project, env=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        hang.wait_for_request()
        builders = processes_in(project)
        assert builders
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    wait_until(lambda: not builders & processes_in(project))
    wait_until(lambda: not list(Path(home["XDG_RUNTIME_DIR"]).glob("ic-secrets-*")))
    assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number), output
    assert watch.seen == set()
    wait_until(lambda: search_tree([Path("/dev/shm")], servers.needles) == [])
    assert_clean(servers, tmp_path, home)


def processes_in(directory: Path) -> set[int]:
    found = set()
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            if Path(os.readlink(f"/proc/{pid}/cwd")).is_relative_to(directory):
                found.add(pid)
        except OSError:
            continue
    return found


def wait_until(condition: Any, timeout: float = 20) -> None:
    import time

    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_residue_of_an_earlier_build_is_reported_by_run_and_taken_out_by_scrub(
    cli: Any, store: None, servers: Servers, tmp_path: Path, home: dict[str, str], work: Path
) -> None:
    config = Path(home["XDG_CACHE_HOME"]) / "composer" / "vcs" / "https---git.example.org-acme" / "config"
    installed = work / "vendor" / "acme" / "tool" / ".git" / "config"
    text = '[core]\n\tbare = true\n[remote "origin"]\n\turl = https://someone:stale-pass@git.example.org/acme.git\n'
    for path in (config, installed):
        path.parent.mkdir(parents=True)
        path.write_text(text)
        path.chmod(0o640)
    done = cli("run", "my-site.dev", "--", "true", cwd=work, check=0)
    for path in (config, installed):
        assert f"{path} contains a credential for git.example.org, left by an earlier build" in done.stderr.decode()
        assert path.read_text() == text
    assert "stale-pass" not in done.stderr.decode()
    cli("scrub", cwd=work, check=0)
    for path in (config, installed):
        assert path.read_text() == text.replace("someone:stale-pass@", "")
        assert path.stat().st_mode & 0o777 == 0o640
    done = cli("scrub", "--json", cwd=work, check=0)
    assert json.loads(done.stdout) == {"schema": "ic-secrets.scrub/1", "removed": [], "mended": [], "failed": []}
