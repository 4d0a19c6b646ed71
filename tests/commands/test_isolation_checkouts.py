"""What an isolated build sees of git's directories and settings."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ic_secrets.core.collector import ErrorCollector
from ic_secrets.errors import IsolationError
from ic_secrets.isolation.surroundings import adapt_environment
from ic_secrets.isolation.view import make_view
from machines import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(Path(os.path.realpath(tmp_path)))


def git(*words: str, cwd: Path) -> None:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always", *words]
    subprocess.run(command, cwd=cwd, check=True, capture_output=True)


def test_git_of_the_project_is_read_only(machine: Machine) -> None:
    git("init", cwd=machine.project)
    view = machine.see()
    assert view.protected == (f"{machine.project}/.git",)
    assert view.shows(f"{machine.project}/.git/config")
    assert not view.lets_write(f"{machine.project}/.git/hooks")
    assert machine.see(allowed_paths=(".git:rw",)).protected == ()


def test_git_of_a_checkout_above_the_project_is_read_only(machine: Machine) -> None:
    git("init", cwd=machine.project)
    app = machine.project / "web" / "app"
    app.mkdir(parents=True)
    view = machine.see(directory=str(app), project=str(app))
    assert f"{machine.project}/.git" in view.readable
    assert not view.shows(f"{machine.project}/web/other")


def test_git_of_a_home_is_not_seen(machine: Machine) -> None:
    git("init", cwd=machine.home)
    assert not machine.see().shows(f"{machine.home}/.git")


@pytest.mark.parametrize("kind", ["worktree", "submodule"])
def test_git_of_a_second_worktree_and_of_a_submodule_is_read_only_where_it_lies(machine: Machine, kind: str) -> None:
    main = machine.root / "main"
    for path in (main, machine.root / "part"):
        path.mkdir()
        git("init", cwd=path)
        git("commit", "--allow-empty", "-m", "x", cwd=path)
    if kind == "worktree":
        git("worktree", "add", str(machine.project / "tree"), cwd=main)
        tree = machine.project / "tree"
    else:
        git("submodule", "add", str(machine.root / "part"), "tree", cwd=main)
        tree = main / "tree"
    view = machine.see(directory=str(tree), project=str(tree))
    assert view.protected[0] == f"{tree}/.git"
    place = f"{main}/.git" if kind == "worktree" else f"{main}/.git/modules/tree"
    assert view.shows(f"{place}/config")
    assert not view.lets_write(f"{place}/config")
    written = machine.see(directory=str(tree), project=str(tree), allowed_paths=(".git:rw",))
    assert written.lets_write(f"{place}/config")
    assert not written.protected


@pytest.mark.parametrize("kind", ["keys", "another's repository", "another's worktree"])
def test_a_hostile_git_file_shows_nothing(machine: Machine, kind: str) -> None:
    place = machine.root / "private"
    place.mkdir()
    if kind != "keys":
        git("init", cwd=place)
        git("commit", "--allow-empty", "-m", "x", cwd=place)
        place = place / ".git"
    if kind == "another's worktree":
        git("worktree", "add", str(machine.root / "tree"), cwd=place.parent)
        place = place / "worktrees" / "tree"
    machine.write(machine.project / ".git", f"gitdir: {place}\n")
    with pytest.raises(IsolationError, match="not a repository of yours") as caught:
        machine.see()
    assert caught.value.hint.endswith(f"--allow-path {place}")
    errors = ErrorCollector()
    assert not make_view(machine.wish(), errors).shows(str(place))
    assert len(errors.errors) == 1
    assert machine.see(allowed_paths=(str(place),)).shows(str(place))


def test_git_still_knows_who_a_person_is_and_whom_they_trust(machine: Machine) -> None:
    settings = [("safe.directory", "/a"), ("user.name", "Old"), ("user.name", "Anna"), ("core.fsmonitor", "x")]
    before = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "a.b", "GIT_CONFIG_VALUE_0": "c", "PATH": "/usr/bin:/bin"}
    adapted = adapt_environment(before, machine.see(), [*settings, ("safe.directory", "/b")])
    listed = subprocess.run(["git", "config", "--list"], cwd="/", env=adapted, capture_output=True, text=True)
    assert listed.stdout.splitlines()[-4:] == ["a.b=c", "safe.directory=/a", "safe.directory=/b", "user.name=Anna"]
