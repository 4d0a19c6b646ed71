"""What cannot be wrapped: GitHub's separate steps and the pair for a shell, over a real Composer build."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from places import (
    FAILING,
    HOOKS,
    SLEEPING,
    Command,
    Job,
    add_script,
    finish,
    load,
    run,
    started,
    wait_for,
)


@pytest.fixture
def shell(job: Job) -> Command:
    """The script, with what it needs in its environment."""
    variables = {"IC_SECRETS_STORE": "sealed:secrets.sealed", "IC_SECRETS_KEY": job.key}
    return Command([str(HOOKS / "shell" / "two-steps.sh")], job.environment | variables)


@pytest.mark.parametrize(("script", "status"), [("true", 0), (FAILING, 7)])
def test_the_pair_for_a_shell_passes_the_status_on_and_leaves_nothing(
    job: Job, shell: Command, script: str, status: int, assert_nothing_left: Callable[[], None]
) -> None:
    """Whether the build succeeds or fails."""
    add_script(job.checkout, script)
    ended, output = run(shell, job.checkout)
    assert ended == status, output.decode()
    assert (job.checkout / "vendor" / "acme" / "checkout").is_dir()
    assert_nothing_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_the_pair_for_a_shell_leaves_nothing_when_it_is_signalled(
    job: Job, shell: Command, number: int, private: Path, assert_nothing_left: Callable[[], None]
) -> None:
    """Its trap takes the secrets away; where it has no time to, the guard does."""
    add_script(job.checkout, SLEEPING)
    with started(shell, job.checkout) as process:
        wait_for(process, b"the script sleeps")
        os.killpg(process.pid, number)
        status, _ = finish(process, 30)
    assert status == 128 + number
    deadline = time.monotonic() + 5
    while list(private.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert_nothing_left()


def test_the_pair_for_a_shell_builds_nothing_without_the_key(job: Job, shell: Command) -> None:
    """The first line fails with the status that says so, and `set -e` ends the script."""
    environment = shell.environment | {"IC_SECRETS_KEY": "ic-secrets-key-1:" + "A" * 43}
    status, _ = run(shell._replace(environment=environment), job.checkout)
    assert status == 125
    assert not (job.checkout / "vendor").exists()


@pytest.mark.parametrize(("script", "status"), [("true", 0), (FAILING, 7)])
def test_githubs_separate_steps_leave_nothing(
    job: Job, script: str, status: int, assert_nothing_left: Callable[[], None]
) -> None:
    """The steps in between have the secrets by GITHUB_ENV; the last one runs always, and empties what is in there."""
    add_script(job.checkout, script)
    _, first, build, last = load("github/separate-steps.yml")["jobs"]["build"]["steps"]
    assert last["if"] == "always()"
    file = job.scratch / "github_env"
    environment = job.environment | {"GITHUB_ACTIONS": "true", "GITHUB_ENV": str(file)}
    file.touch()
    given = {"IC_SECRETS_STORE": first["env"]["IC_SECRETS_STORE"], "IC_SECRETS_KEY": job.key}
    assert step(first["run"], environment | given, job.checkout)[0] == 0
    exported = read_exported(file)
    ended, output = step(build["run"], environment | exported, job.checkout)
    assert ended == status, output.decode()
    assert (job.checkout / "vendor" / "acme" / "checkout").is_dir()
    file.write_bytes(b"")  # each step has a new one
    assert step(last["run"], environment | exported, job.checkout)[0] == 0
    assert read_exported(file)["COMPOSER_HOME"] == ""
    assert_nothing_left()


def step(script: str, environment: dict[str, str], directory: Path) -> tuple[int, bytes]:
    """A step of a workflow: by default, bash with `-e` alone."""
    return run(Command(["bash", "-e", "-c", script], environment), directory)


def read_exported(file: Path) -> dict[str, str]:
    """The variables that the runner reads from GITHUB_ENV: `NAME=VALUE`, or `NAME<<DELIMITER` with lines."""
    lines = iter(file.read_text().splitlines())
    exported = {}
    for line in lines:
        name, _, delimiter = line.partition("<<")
        if delimiter and "=" not in name:
            value = []
            while (text := next(lines)) != delimiter:
                value.append(text)
            exported[name] = "\n".join(value)
        elif line:
            name, _, text = line.partition("=")
            exported[name] = text
    return exported
