"""What a program in an isolated build really sees of the files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from broker_sites import BrokerSite

PLAIN = ("--broker", "--leaks", "off")


@pytest.fixture
def managed(home: dict[str, str]) -> dict[str, str]:
    """The variables of a person whose home has a version manager's PHP."""
    place = Path(home["HOME"])
    for name, text in {
        ".asdf/shims/php": '#!/usr/bin/env bash\nexec "$HOME/.asdf/libexec/run" "$@"\n',
        ".asdf/libexec/run": '#!/bin/sh\necho "the managed PHP"\n',
        ".ssh/id": "key",
    }.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return {"PATH": f"{place}/.asdf/shims:{os.environ['PATH']}"}


def test_php_of_a_version_manager_is_what_runs(
    site: BrokerSite, isolated: tuple[str, ...], work: Path, managed: dict[str, str]
) -> None:
    site.store(["bearer.bearer.example.org"])
    script = 'php; cat "$HOME/.ssh/id"; ls -A "$HOME"'
    for options, is_isolated in ((PLAIN, False), (isolated, True)):
        done = site.run("sh", "-c", script, cwd=work, options=options, env=managed, check=None)
        assert b"the managed PHP" in done.stdout
        assert (b"key" in done.stdout) is not is_isolated


def test_a_linked_project_keeps_its_name(site: BrokerSite, isolated: tuple[str, ...], work: Path) -> None:
    site.store(["bearer.bearer.example.org"])
    link = work.parent / "current"
    link.symlink_to(work)
    script = "pwd; touch made"
    done = site.run("sh", "-c", script, cwd=link, options=isolated, env={"PWD": str(link)})
    assert os.fsencode(link) in done.stdout
    assert (work / "made").exists()


def test_a_file_of_a_step_is_written_and_one_that_steers_later_steps_is_not(
    site: BrokerSite, isolated: tuple[str, ...], work: Path
) -> None:
    site.store(["bearer.bearer.example.org"])
    files = {name: work.parent / name for name in ("GITHUB_OUTPUT", "GITHUB_ENV")}
    for path in files.values():
        path.touch()
    variables = {"GITHUB_ACTIONS": "true", **{name: str(path) for name, path in files.items()}}
    script = "echo a=b >>$GITHUB_OUTPUT; (echo c=d >>$GITHUB_ENV) || exit 3"
    done = site.run("sh", "-c", script, cwd=work, options=isolated, env=variables, check=3)
    assert (b"Read-only" if "bubblewrap" in isolated[0] else b"Permission denied") in done.stderr
    assert [path.read_text() for path in files.values()] == ["a=b\n", ""]


def test_composer_is_as_willing_to_run_as_root_as_outside(
    site: BrokerSite, isolated: tuple[str, ...], work: Path
) -> None:
    """It runs no script as root, unless it was allowed to or sees that it is in a container."""
    site.store(["bearer.bearer.example.org"])
    (work / "composer.json").write_text('{"scripts": {"say": "echo said"}}')
    env = {"COMPOSER_ALLOW_SUPERUSER": ""}
    outside = site.run("composer", "say", cwd=work, env=env, check=None)
    inside = site.run("composer", "say", cwd=work, options=isolated, env=env, check=None)
    assert (inside.returncode, inside.stdout) == (outside.returncode, outside.stdout)


def test_a_repository_that_the_build_makes_is_named(site: BrokerSite, isolated: tuple[str, ...], work: Path) -> None:
    site.store(["bearer.bearer.example.org"])
    done = site.run("git", "init", "-q", cwd=work, options=isolated)
    assert f"made {work}/.git".encode() in done.stderr
    assert b"made" not in site.run("git", "status", cwd=work, options=isolated).stderr


def test_git_finds_the_checkout_that_the_project_is_a_part_of(
    site: BrokerSite, isolated: tuple[str, ...], work: Path
) -> None:
    """Composer asks git for the branch: without an answer it takes packages for another version, and says nothing."""
    site.store(["bearer.bearer.example.org"])
    subprocess.run(["git", "init", "-q", "-b", "release", work], check=True)
    part = work / "site"
    part.mkdir()
    done = site.run("git", "symbolic-ref", "--short", "HEAD", cwd=part, options=isolated)
    assert done.stdout == b"release\n"
