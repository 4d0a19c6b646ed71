"""The folder `hooks/`: each place's configuration, run as that place runs it, over a real Composer build."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from places import (
    FAILING,
    HOOKS,
    PLACES,
    SLEEPING,
    Buildkite,
    Ddev,
    Job,
    Place,
    add_script,
    assert_masked,
    finish,
    load,
    run,
    started,
    wait_for,
)
from servers import Servers


@pytest.fixture(params=PLACES, ids=lambda kind: kind.__name__)
def place(request: pytest.FixtureRequest, job: Job) -> Place:
    """Each of the places in turn."""
    made: Place = request.param(job)
    return made


def assert_clean_ending(place: Place) -> None:
    """What the place runs after the build succeeds, whatever the build did."""
    for command in place.cleanup():
        status, output = run(command, place.job.checkout)
        assert status == 0, output.decode()


def test_a_build_gets_its_secrets_and_leaves_none(
    place: Place, servers: Servers, assert_nothing_left: Callable[[], None]
) -> None:
    """The private package is installed, and no value is in the log, on the tmpfs or on the disk."""
    status, output = run(place.build(), place.job.checkout)
    assert status == 0, output.decode()
    assert (place.job.checkout / "vendor" / "acme" / "checkout").is_dir()
    assert_masked(place.job, servers, output)
    assert_clean_ending(place)
    assert_nothing_left()


def test_a_failing_build_fails_the_step_with_its_own_status(
    place: Place, servers: Servers, assert_nothing_left: Callable[[], None]
) -> None:
    """The service gets Composer's status, and the clean-up still succeeds."""
    add_script(place.job.checkout, FAILING)
    status, output = run(place.build(), place.job.checkout)
    assert status == 7, output.decode()
    assert (place.job.checkout / "vendor" / "acme" / "checkout").is_dir()
    assert_clean_ending(place)
    assert_nothing_left()


def test_a_cancelled_build_ends_and_leaves_nothing(
    place: Place, servers: Servers, private: Path, assert_nothing_left: Callable[[], None]
) -> None:
    """The service's own way to cancel reaches the build; all is gone when it has ended, before any clean-up."""
    add_script(place.job.checkout, SLEEPING)
    with started(place.build(), place.job.checkout) as process:
        wait_for(process, b"the script sleeps")
        assert list(private.iterdir()) != []
        place.cancel(process)
        status, seconds = finish(process, 30)
    assert status == place.cancelled_status
    assert seconds < 7.5, "the shortest time that a service gives it, GitHub, before it sends more"
    assert not Path(f"/proc/{(place.job.checkout / 'script.pid').read_text().strip()}").exists()
    assert list(private.iterdir()) == []
    assert_clean_ending(place)
    assert_nothing_left()


def test_a_build_killed_with_all_its_processes_leaves_nothing(
    place: Place, private: Path, assert_nothing_left: Callable[[], None]
) -> None:
    """The service's last resort, SIGKILL for the whole process group: the secrets are gone within a second."""
    add_script(place.job.checkout, SLEEPING)
    with started(place.build(), place.job.checkout) as process:
        wait_for(process, b"the script sleeps")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
    deadline = time.monotonic() + 1
    while list(private.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert list(private.iterdir()) == []
    script = Path(f"/proc/{(place.job.checkout / 'script.pid').read_text().strip()}")
    while script.exists() and time.monotonic() < deadline + 1:
        time.sleep(0.01)
    assert not script.exists()
    for kept in place.job.scratch.glob("*-runner-*"):
        kept.unlink()
    assert_clean_ending(place)
    assert_nothing_left()


def test_a_wrong_key_stops_the_step_before_composer(place: Place) -> None:
    """A step that cannot open the store is red, with the status that says so, and builds nothing."""
    place.job = place.job._replace(key="ic-secrets-key-1:" + "A" * 43)
    status, output = run(place.build(), place.job.checkout)
    assert status == 125, output.decode()
    assert not (place.job.checkout / "vendor").exists()


def test_github_installs_the_action_from_its_own_checkout(job: Job, tmp_path: Path) -> None:
    """The step that installs makes a program that starts, out of the very repository that the action came with."""
    install = load("github/action.yml")["runs"]["steps"][0]
    variables = {"RUNNER_TEMP": str(tmp_path / "runner"), "GITHUB_ACTION_PATH": str(HOOKS / "github")}
    (tmp_path / "runner").mkdir()
    shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", install["run"]]
    subprocess.run(shell, env=dict(os.environ) | variables, check=True, timeout=240)
    program = tmp_path / "runner" / "ic-secrets" / "bin" / "ic-secrets"
    done = subprocess.run([program, "scrub"], env=job.environment, cwd=job.checkout, timeout=60)
    assert done.returncode == 0


def test_a_command_for_buildkite_may_have_several_lines_and_stops_at_the_first_that_fails(job: Job) -> None:
    """As the agent's own way to run a command does."""
    command = Buildkite(job).build()
    environment = command.environment | {"BUILDKITE_COMMAND": 'echo "one  $BUILDKITE"\nfalse\necho two'}
    status, output = run(command._replace(environment=environment), job.checkout)
    assert status == 1
    assert b"one  true\n" in output
    assert b"two" not in output


def test_ddev_gives_the_key_to_the_build_alone_and_in_no_arguments(job: Job) -> None:
    """docker is told the variable's name; what the container's own environment holds has no key."""
    place = Ddev(job)
    command = place.build()
    show = f"#!{sys.executable}\nimport sys; print(sys.argv[1:])\n"
    (job.scratch / "bin" / "docker").write_text(show)
    status, output = run(command, job.checkout)
    assert status == 0
    assert b"'--env', 'IC_SECRETS_KEY'," in output
    assert job.key.encode() not in output
