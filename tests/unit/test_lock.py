"""What `make` installs is locked: every requirement, each with hashes, and no server's name."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent.parent
LOCKS = ["requirements.lock", "requirements-build.lock"]
PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]


def read_lock(name: str) -> list[tuple[Requirement, list[str]]]:
    """Each requirement of a lock file, with its hashes."""
    text = (ROOT / name).read_text().replace("\\\n", "")
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return [
        (
            Requirement(" ".join(word for word in words if not word.startswith("--hash="))),
            [word for word in words if word.startswith("--hash=")],
        )
        for words in lines
    ]


def canonical(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def applies(requirement: Requirement, python: str) -> bool:
    if requirement.marker is None:
        return True
    return requirement.marker.evaluate({"python_version": python, "python_full_version": f"{python}.0"})


@pytest.mark.parametrize("lock", LOCKS)
def test_each_requirement_has_one_version_and_hashes(lock: str) -> None:
    for requirement, hashes in read_lock(lock):
        assert re.fullmatch("==[^*,]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", each) for each in hashes), requirement


@pytest.mark.parametrize("lock", LOCKS)
def test_no_server_is_named(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"(^|\s)(-i|-f|--index-url|--extra-index-url|--find-links)\b", text)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", LOCKS)
def test_a_python_gets_one_version_of_each(lock: str, python: str) -> None:
    names = [canonical(requirement.name) for requirement, _ in read_lock(lock) if applies(requirement, python)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("python", PYTHONS)
def test_each_requirement_of_the_project_is_locked_in_a_version_that_it_allows(python: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    required = sum(extras, project["project"]["dependencies"] + project["build-system"]["requires"])
    locked = {
        canonical(requirement.name): next(iter(requirement.specifier)).version
        for requirement, _ in read_lock("requirements.lock")
        if applies(requirement, python)
    }
    for requirement in map(Requirement, required):
        if requirement.name != "ic-secrets" and applies(requirement, python):
            assert requirement.specifier.contains(locked[canonical(requirement.name)]), requirement


def test_the_build_requirements_are_the_same_in_both() -> None:
    everything = {str(requirement) for requirement, _ in read_lock("requirements.lock")}
    assert {str(requirement) for requirement, _ in read_lock("requirements-build.lock")} <= everything
