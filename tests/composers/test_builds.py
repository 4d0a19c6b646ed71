"""Builds that people bring: each generation of Composer finds the credentials that it would have without ic-secrets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from searching import search_tree
from servers import Servers
from watching import ArgumentWatch

INSTALL = ("composer", "install", "--no-interaction", "--no-progress", "--no-ansi")


@pytest.fixture
def watch(servers: Servers) -> Iterator[ArgumentWatch]:
    with ArgumentWatch([servers.git.password.encode(), quote(servers.git.password, safe="").encode()]) as watching:
        yield watching


@pytest.fixture(autouse=True)
def store(cli: Any, version: str, private: Path) -> None:
    cli("init", check=0)


def keep(cli: Any, name: str, kind: str, value: bytes) -> None:
    cli("set", "my-site", name, "--type", kind, "--scope", "ic", stdin=value, check=0)


def seen_by_git(watch: ArgumentWatch) -> set[bytes]:
    return {arguments for arguments in watch.seen if Path(arguments.split(b"\0")[0].decode()).name.startswith("git")}


def test_a_nested_install_downloads_from_the_host_that_git_asks(
    cli: Any, version: str, servers: Servers, tmp_path: Path, private: Path, watch: ArgumentWatch
) -> None:
    keep(cli, servers.git.secret_name, "composer", servers.git.secret_value)
    project = servers.project_with_theme(tmp_path)
    cli("run", "my-site.dev", "--", *INSTALL, cwd=project, check=0)
    assert list((project / "theme" / "vendor" / "acme" / "patch").iterdir())
    assert seen_by_git(watch) == set()


@pytest.mark.parametrize("kind", ["git", "vcs"])
def test_a_repository_with_a_login_of_its_own_is_asked_with_that(
    cli: Any, version: str, servers: Servers, tmp_path: Path, private: Path, watch: ArgumentWatch, kind: str
) -> None:
    keep(cli, servers.git.secret_name, "composer", b"somebody a-password-for-other-repositories")
    project = servers.project(tmp_path, "git-only")
    login = f"{quote(servers.git.user, safe='')}:{quote(servers.git.password, safe='')}"
    text = (project / "composer.json").read_text().replace(servers.git.host, f"{login}@{servers.git.host}")
    (project / "composer.json").write_text(text.replace('"type": "git"', f'"type": "{kind}"'))
    done = cli("run", "my-site.dev", "--leaks", "off", "--", *INSTALL, "-vvv", cwd=project, check=0)
    assert (project / "vendor" / "initech" / "vault").is_dir()
    assert seen_by_git(watch) == set()
    assert quote(servers.git.password, safe="").encode() not in done.stdout + done.stderr


def test_composer_auth_as_an_env_secret_is_the_credentials_that_it_is(
    cli: Any, version: str, servers: Servers, tmp_path: Path, private: Path, watch: ArgumentWatch
) -> None:
    keep(cli, "COMPOSER_AUTH", "env", servers.composer_auth("basic", "bearer", "git").encode())
    project = servers.project(tmp_path, "everything")
    cli("run", "my-site.dev", "--", *INSTALL, cwd=project, check=0)
    assert (project / "vendor" / "initech" / "vault").is_dir()
    assert watch.seen == set()
    assert search_tree([tmp_path, private], servers.needles) == []


@pytest.mark.parametrize("place", ["auth.json", "COMPOSER_AUTH"])
def test_the_passwords_of_the_user_are_not_in_the_arguments_of_git_either(
    cli: Any,
    version: str,
    servers: Servers,
    tmp_path: Path,
    home: dict[str, str],
    private: Path,
    watch: ArgumentWatch,
    place: str,
) -> None:
    keep(cli, servers.basic.secret_name, "composer", servers.basic.secret_value)
    project = servers.project(tmp_path, "git-only")
    env = {"COMPOSER_AUTH": servers.composer_auth("git")} if place == "COMPOSER_AUTH" else {}
    if not env:
        users = Path(home["XDG_CONFIG_HOME"]) / "composer"
        users.mkdir(parents=True)
        (users / "auth.json").write_text(servers.composer_auth("git"))
    cli("run", "my-site.dev", "--", *INSTALL, cwd=project, env=env, check=0)
    assert (project / "vendor" / "initech" / "vault").is_dir()
    assert watch.seen == set()


def test_a_tool_with_a_composer_home_of_its_own_has_the_credentials(
    cli: Any, version: str, servers: Servers, tmp_path: Path, private: Path, watch: ArgumentWatch
) -> None:
    for server in (servers.basic, servers.bearer, servers.git):
        keep(cli, server.secret_name, "composer", server.secret_value)
    project = servers.project(tmp_path, "everything")
    script = f"COMPOSER_HOME=$PWD/var/composer_home {' '.join(INSTALL)}"
    done = cli("run", "my-site.dev", "--", "sh", "-c", script, cwd=project, check=0)
    assert "the command: Composer gets a home of its own there" in done.stderr.decode()
    assert (project / "vendor" / "initech" / "vault").is_dir()
    assert watch.seen == set()
    assert search_tree([project], servers.needles) == []
