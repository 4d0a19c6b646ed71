"""The hook for pre-commit, run by pre-commit itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from places import (
    Job,
    load,
)
from servers import Servers


@pytest.fixture
def repository(job: Job, servers: Servers) -> Path:
    """The checkout as a git repository, whose pre-commit hook is the one of `hooks/`, with this program."""
    manifest = load("pre-commit/.pre-commit-hooks.yaml")[0]
    used = load("pre-commit/.pre-commit-config.yaml")["repos"][0]["hooks"][0]
    assert used["id"] == manifest["id"]
    hook = manifest | used | {"language": "system"}
    (job.checkout / ".pre-commit-config.yaml").write_text(json.dumps({"repos": [{"repo": "local", "hooks": [hook]}]}))
    git(job, "init", "--quiet")
    git(job, "config", "user.name", "Somebody")
    git(job, "config", "user.email", "somebody@example.org")
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "install"], env=job.environment, cwd=job.checkout, timeout=60
    )
    assert done.returncode == 0
    return job.checkout


def git(job: Job, *words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    variables = {"IC_SECRETS_STORE": "sealed:secrets.sealed", "IC_SECRETS_KEY": job.key}
    return subprocess.run(
        ["git", *words], env=job.environment | variables, cwd=job.checkout, capture_output=True, check=check, timeout=60
    )


def test_a_commit_with_a_secret_in_it_is_refused(repository: Path, job: Job, servers: Servers) -> None:
    """By what is staged: the same value in a file that is not does no harm. The value itself is not shown."""
    password = servers.basic.password
    (repository / "unstaged.txt").write_text(password)
    git(job, "add", "composer.json", "secrets.sealed")
    git(job, "commit", "--message", "the sealed file may be committed")
    (repository / "settings.php").write_text(f"<?php\n$password = {password!r};\n")
    git(job, "add", "settings.php")
    refused = git(job, "commit", "--message", "the value may not", check=False)
    assert refused.returncode == 1
    assert b"settings.php:2: " in refused.stdout + refused.stderr
    assert password.encode() not in refused.stdout + refused.stderr
    assert git(job, "rev-list", "--count", "HEAD").stdout == b"1\n"
