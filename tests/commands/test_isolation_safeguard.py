"""What git obeys in a checkout that a build can write to is as it was afterwards."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ic_secrets.core.notices import Notice
from ic_secrets.isolation import safeguard
from ic_secrets.isolation.safeguard import Safeguard


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    path = tmp_path / ".git"
    (path / "hooks" / "pre-commit").write_text("#!/bin/sh\n")
    (path / "hooks" / "pre-commit").chmod(0o755)
    (path / "modules" / "library" / "hooks").mkdir(parents=True)
    (path / "modules" / "library" / "config").write_text("[core]\n")
    (path / "info" / "link").symlink_to("exclude")
    return path


def look(path: Path) -> dict[str, object]:
    """Everything but data, with its mode and content."""
    return {
        str(each.relative_to(path)): (
            each.lstat().st_mode,
            os.readlink(each) if each.is_symlink() else each.read_bytes() if each.is_file() else b"",
        )
        for each in sorted(path.rglob("*"))
        if not {"objects", "refs"} & set(each.relative_to(path).parts)
    }


def add_a_hook(path: Path) -> None:
    (path / "hooks" / "post-checkout").write_text("#!/bin/sh\n")


def change_a_hook(path: Path) -> None:
    (path / "hooks" / "pre-commit").write_text("#!/bin/sh\nattack\n")


def make_a_hook_executable(path: Path) -> None:
    (path / "hooks" / "pre-commit.sample").chmod(0o777)


def remove_the_hooks(path: Path) -> None:
    subprocess.run(["rm", "-r", str(path / "hooks")], check=True)


def link_the_hooks_elsewhere(path: Path) -> None:
    remove_the_hooks(path)
    (path.parent / "mine").mkdir()
    (path.parent / "mine" / "kept").touch()
    (path / "hooks").symlink_to(path.parent / "mine")


def name_a_program_in_the_settings(path: Path) -> None:
    subprocess.run(["git", "config", "core.fsmonitor", "attack"], cwd=path.parent, check=True)


def change_the_settings_of_a_submodule(path: Path) -> None:
    (path / "modules" / "library" / "config").write_text("[core]\nfsmonitor = attack\n")
    (path / "modules" / "library" / "hooks" / "post-checkout").touch()


def make_settings_of_a_worktree(path: Path) -> None:
    (path / "config.worktree").write_text("[core]\nfsmonitor = attack\n")


def put_a_directory_in_the_place_of_the_settings(path: Path) -> None:
    (path / "config").unlink()
    (path / "config" / "deep").mkdir(parents=True)


def put_a_pipe_in_the_place_of_a_link(path: Path) -> None:
    (path / "info" / "link").unlink()
    os.mkfifo(path / "info" / "link")


def leave_a_rebase_that_executes(path: Path) -> None:
    (path / "rebase-merge").mkdir()
    (path / "rebase-merge" / "git-rebase-todo").write_text("exec attack\n")


CHANGES = [
    add_a_hook,
    change_a_hook,
    make_a_hook_executable,
    remove_the_hooks,
    link_the_hooks_elsewhere,
    name_a_program_in_the_settings,
    change_the_settings_of_a_submodule,
    make_settings_of_a_worktree,
    put_a_directory_in_the_place_of_the_settings,
    put_a_pipe_in_the_place_of_a_link,
    leave_a_rebase_that_executes,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda each: each.__name__)
def test_a_change_is_put_back_and_named(repository: Path, change: Callable[[Path], None]) -> None:
    before = look(repository)
    guard = Safeguard([str(repository)])
    change(repository)
    assert look(repository) != before
    (notice,) = guard.put_back()
    assert "put back" in notice.text
    assert str(repository) in notice.text
    assert look(repository) == before
    assert list(Safeguard([str(repository)]).put_back()) == []


def test_what_a_link_led_to_stays(repository: Path) -> None:
    guard = Safeguard([str(repository)])
    link_the_hooks_elsewhere(repository)
    list(guard.put_back())
    assert (repository.parent / "mine" / "kept").exists()


def test_commits_are_not_taken_back(repository: Path) -> None:
    guard = Safeguard([str(repository)])
    words = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "core.hooksPath=/dev/null")
    subprocess.run(["git", *words, "commit", "-q", "--allow-empty", "-m", "a"], cwd=repository.parent, check=True)
    assert list(guard.put_back()) == []
    assert subprocess.run(["git", "log", "-1"], cwd=repository.parent, stdout=subprocess.DEVNULL).returncode == 0


def test_a_file_that_names_a_repository_is_put_back(tmp_path: Path) -> None:
    path = tmp_path / ".git"
    path.write_text("gitdir: ../elsewhere\n")
    guard = Safeguard([str(path)])
    path.write_text("gitdir: mine\n")
    assert ["put back" in notice.text for notice in guard.put_back()] == [True]
    assert path.read_text() == "gitdir: ../elsewhere\n"


def find_errors(guard: Safeguard) -> list[Notice]:
    return [notice for notice in guard.put_back() if notice.level == "error"]


def test_a_repository_that_was_replaced_is_an_error(repository: Path) -> None:
    guard = Safeguard([str(repository)])
    repository.rename(repository.parent / "old")
    repository.mkdir()
    (repository / "config").write_text("[core]\nfsmonitor = attack\n")
    (error,) = find_errors(guard)
    assert "replaced" in error.text


def test_what_is_too_large_to_keep_is_an_error(repository: Path) -> None:
    large = repository / "hooks" / "large"
    large.write_bytes(b"a" * (1 << 20) + b"a")
    guard = Safeguard([str(repository)])
    assert find_errors(guard) == []
    large.write_bytes(b"b" * (1 << 20) + b"b")
    (error,) = find_errors(guard)
    assert str(large) in error.text


def test_a_flood_of_files_hides_nothing(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safeguard, "_MOST_ENTRIES", 60)
    guard = Safeguard([str(repository)])
    for number in range(80):
        (repository / f"z{number}").touch()
    add_a_hook(repository)
    assert ["too much" in error.text for error in find_errors(guard)] == [True]
