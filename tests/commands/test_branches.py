"""The environment of a git branch: its name, and how the branch is found."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ic_secrets.config.branches import find_environment, name_environment
from ic_secrets.config.settings import Settings
from ic_secrets.errors import ConfigError
from ic_secrets.model.names import check_environment

NAMES = [
    ("master", "dev"),
    ("main", "dev"),
    ("pr-17", "pr-17"),
    ("Feature", "feature"),
    ("feature/login-page", "feature-log"),
    ("abcdefghij-k", "abcdefghij"),
    ("a_b.c", "a-b-c"),
    ("élan", "lan"),
    ("-x-", "x"),
    ("main2", "main2"),
]
RESERVED = ["dev", "test", "live", "TEST", "settings", "team", "support", "multidev", "debug", "files", "tags"]


@pytest.mark.parametrize(("branch", "expected"), NAMES)
def test_a_branch_is_the_multidev_of_its_name(branch: str, expected: str) -> None:
    assert name_environment(branch) == check_environment(expected)


@pytest.mark.parametrize("branch", [*RESERVED, "Master", "billing", "settings_", "é/é"])
def test_a_name_that_no_multidev_can_have_is_refused(branch: str) -> None:
    with pytest.raises(ConfigError, match="env is auto"):
        name_environment(branch)


@pytest.fixture
def repository(home: dict[str, str], work: Path) -> Path:
    """A repository with a commit on the branch `pr-17`."""
    git(home, work, "init", "-q", "-b", "pr-17")
    git(home, work, "-c", "user.name=x", "-c", "user.email=x@y", "commit", "-q", "--allow-empty", "-m", "x")
    return work


def git(home: dict[str, str], work: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=work, env=home, check=True)


def test_the_branch_is_read_in_the_checkout_below_it_and_in_a_worktree(
    home: dict[str, str], repository: Path, tmp_path: Path
) -> None:
    below = repository / "web"
    below.mkdir()
    git(home, repository, "worktree", "add", "-q", "-b", "other", str(tmp_path / "tree"))
    found = [find_environment(str(place), {}, is_ci=False) for place in (repository, below, tmp_path / "tree")]
    assert found == ["pr-17", "pr-17", "other"]


def test_a_branch_without_a_commit_is_one(home: dict[str, str], work: Path) -> None:
    git(home, work, "init", "-q", "-b", "main")
    assert find_environment(str(work), {}, is_ci=False) == "dev"


CI = [
    ({}, None),
    ({"GITHUB_REF_NAME": "main", "GITHUB_REF_TYPE": "branch"}, "dev"),
    ({"GITHUB_HEAD_REF": "pr-9", "GITHUB_REF_NAME": "9/merge"}, "pr-9"),
    ({"GITHUB_HEAD_REF": "", "GITHUB_REF_NAME": "v1", "GITHUB_REF_TYPE": "tag"}, None),
    ({"CI_COMMIT_BRANCH": "pr-9"}, "pr-9"),
    ({"CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "pr-9"}, "pr-9"),
    ({"BUILDKITE_BRANCH": "pr-9", "BUILDKITE_TAG": ""}, "pr-9"),
    ({"BUILDKITE_BRANCH": "v1", "BUILDKITE_TAG": "v1"}, None),
    ({"CIRCLE_BRANCH": "pr-9"}, "pr-9"),
    ({"BRANCH_NAME": "PR-9", "CHANGE_BRANCH": "login"}, "login"),
    ({"BRANCH_NAME": "v1", "TAG_NAME": "v1"}, None),
]


@pytest.mark.parametrize(("variables", "expected"), CI)
def test_a_pipeline_that_checks_out_a_commit_names_the_branch(
    home: dict[str, str], repository: Path, variables: dict[str, str], expected: str | None
) -> None:
    git(home, repository, "checkout", "-q", "--detach")
    if expected:
        assert find_environment(str(repository), variables, is_ci=True) == expected
    else:
        with pytest.raises(ConfigError, match="no git branch is checked out"):
            find_environment(str(repository), variables, is_ci=True)
    with pytest.raises(ConfigError, match="no git branch is checked out"):
        find_environment(str(repository), variables, is_ci=False)


def test_a_branch_that_is_checked_out_wins_over_variables(repository: Path) -> None:
    assert find_environment(str(repository), {"GITHUB_HEAD_REF": "other"}, is_ci=True) == "pr-17"


def test_no_repository_is_an_error_with_a_hint(work: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        find_environment(str(work), {}, is_ci=False)
    assert "IC_SECRETS_ENV" in caught.value.hint


@pytest.mark.parametrize("head", ["ref: refs/tags/v1", "ref: refs/heads/", "nonsense", ""])
def test_a_strange_head_is_no_branch(work: Path, head: str) -> None:
    (work / ".git").mkdir()
    (work / ".git/HEAD").write_text(head)
    with pytest.raises(ConfigError):
        find_environment(str(work), {}, is_ci=False)


def test_auto_is_the_branch_for_a_target_that_no_argument_names(repository: Path) -> None:
    variables = {"IC_SECRETS_CONFIG": os.devnull, "IC_SECRETS_SITE": "my-site", "IC_SECRETS_ENV": "auto"}
    settings = Settings(variables, directory=str(repository))
    assert str(settings.target(None)) == "my-site.pr-17"
    assert str(settings.target("my-site")) == "my-site.dev"
