"""Who runs a command, and from where: only what has the shape that it must have."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ic_secrets.audit.origin import describe_origin
from ic_secrets.ci.platforms import find_job_url
from ic_secrets.git.checkout import find_revision

CANARY = "hunter2-canary"
GITHUB = {"GITHUB_RUN_ID": "42", "GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "agency/my-site"}


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({}, None),
        (GITHUB, "https://github.com/agency/my-site/actions/runs/42"),
        ({"CI_JOB_URL": "https://gitlab.com/a/b/-/jobs/7"}, "https://gitlab.com/a/b/-/jobs/7"),
        ({"BUILDKITE_BUILD_URL": "https://buildkite.com/a/b/builds/7"}, "https://buildkite.com/a/b/builds/7"),
        ({"CIRCLE_BUILD_URL": "https://circleci.com/gh/a/b/7"}, "https://circleci.com/gh/a/b/7"),
        ({"BUILD_URL": "http://ci.example:8080/job/a%20b/7/"}, "http://ci.example:8080/job/a%20b/7/"),
        ({"BUILD_URL": f"http://bot:{CANARY}@ci/job/7/?token={CANARY}#{CANARY}"}, "http://ci/job/7/"),
        ({"BUILD_URL": CANARY}, None),
        ({"BUILD_URL": f"http://bot:{CANARY}/@ci/"}, None),
        ({"BUILD_URL": f"http://ci/\n{CANARY}"}, None),
        ({"BUILD_URL": "http://ci/" + "x" * 500}, None),
        (GITHUB | {"GITHUB_RUN_ID": f"7 {CANARY}"}, None),
        ({"GITHUB_RUN_ID": CANARY}, None),
    ],
)
def test_the_job_is_a_url_without_a_login(environment: dict[str, str], job: str | None) -> None:
    assert find_job_url(environment) == job


def git(place: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *words], cwd=place, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(work: Path) -> Path:
    git(work, "init", "-q", "-b", "main")
    git(work, "commit", "-q", "--allow-empty", "-m", "a")
    return work


def stay(checkout: Path) -> Path:
    return checkout


def go_deeper(checkout: Path) -> Path:
    (checkout / "a/b").mkdir(parents=True)
    return checkout / "a/b"


def pack(checkout: Path) -> Path:
    git(checkout, "branch", "main-2")
    git(checkout, "tag", "-a", "-m", "t", "t")
    git(checkout, "pack-refs", "--all")
    return checkout


def detach(checkout: Path) -> Path:
    git(checkout, "checkout", "-q", "--detach")
    return checkout


def use_sha_256(checkout: Path) -> Path:
    place = checkout / "sha256"
    place.mkdir()
    git(place, "init", "-q", "--object-format=sha256", "-b", "main")
    git(place, "commit", "-q", "--allow-empty", "-m", "a")
    return place


def add_worktree(checkout: Path) -> Path:
    git(checkout, "worktree", "add", "-q", "-b", "topic/a", "../other")
    git(checkout.parent / "other", "commit", "-q", "--allow-empty", "-m", "b")
    return checkout.parent / "other"


@pytest.mark.parametrize("arrange", [stay, go_deeper, pack, detach, use_sha_256, add_worktree])
def test_the_revision_is_what_git_says_and_git_is_not_asked(checkout: Path, arrange: Callable[[Path], Path]) -> None:
    place = arrange(checkout)
    assert find_revision(str(place), {"PATH": ""}) == git(place, "rev-parse", "HEAD")


def test_git_is_asked_where_references_are_in_no_files(work: Path) -> None:
    try:
        git(work, "init", "-q", "--ref-format=reftable")
    except subprocess.CalledProcessError:  # an old git: a program in its place says the commit
        git(work, "init", "-q")
        git(work, "commit", "-q", "--allow-empty", "-m", "a")
        git(work, "checkout", "-q", "--detach")
        commit = git(work, "rev-parse", "HEAD")
        bin_ = work / "bin"
        bin_.mkdir()
        (bin_ / "git").write_text(f"#!/bin/sh\necho {commit}\n")
        (bin_ / "git").chmod(0o755)
        (work / ".git/HEAD").write_text("ref: refs/heads/.invalid\n")
        assert find_revision(str(work), {"PATH": str(bin_)}) == commit
        return
    git(work, "commit", "-q", "--allow-empty", "-m", "a")
    assert find_revision(str(work), dict(os.environ)) == git(work, "rev-parse", "HEAD")


@pytest.mark.parametrize(
    "files",
    [
        {},
        {".git/HEAD": "ref: refs/heads/main"},
        {".git/HEAD": CANARY},
        {".git/HEAD": "ref: refs/heads/main", ".git/refs/heads/main": CANARY},
        {".git/HEAD": "ref: refs/heads/main", ".git/packed-refs": f"{CANARY} refs/heads/main\n"},
        {".git/HEAD": "ref: refs/../../token", "token": "0" * 40},
        {".git/HEAD": "ref: /token", "token": "0" * 40},
        {".git/HEAD": "ref: refs/a\0b"},
        {".git/HEAD": "f" * 39},
        {".git/HEAD": "F" * 40},
        {".git": "gitdir: nowhere"},
        {".git": CANARY},
        {".git": "a\0b"},
    ],
)
def test_what_is_no_revision_is_none(work: Path, files: dict[str, str]) -> None:
    """A file of the checkout that git would not take for one is not reported, whatever it holds."""
    for name, text in files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text)
    assert find_revision(str(work), {}) is None


@pytest.mark.parametrize(
    "link", [".git/HEAD", ".git/refs", ".git/refs/heads", ".git/refs/heads/main", ".git/packed-refs"]
)
def test_a_link_is_not_followed_to_what_looks_like_a_revision(checkout: Path, link: str) -> None:
    """A token of forty digits looks like a commit."""
    token = "0123456789" * 4
    elsewhere = checkout / "elsewhere"
    if link.endswith("packed-refs"):
        (checkout / ".git/refs/heads/main").unlink()
        elsewhere.write_text(f"{token} refs/heads/main\n")
    elif link in {".git/refs", ".git/refs/heads"}:
        shutil.rmtree(checkout / link)
        place = elsewhere / "heads" if link == ".git/refs" else elsewhere
        place.mkdir(parents=True)
        (place / "main").write_text(token)
    else:
        (checkout / link).unlink()
        elsewhere.write_text(token)
    (checkout / link).symlink_to(elsewhere)
    assert find_revision(str(checkout), {"PATH": ""}) is None


def test_a_pipe_in_the_place_of_head_is_not_waited_for(work: Path) -> None:
    (work / ".git").mkdir()
    os.mkfifo(work / ".git/HEAD")
    assert find_revision(str(work), {}) is None


def test_the_origin_names_user_and_host(work: Path) -> None:
    origin = describe_origin({}, str(work))
    assert (origin["uid"], origin["host"]) == (os.geteuid(), os.uname().nodename)
    assert (origin["job"], origin["revision"]) == (None, None)
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=False).stdout.strip()
    assert origin["user"] == (user or None)
