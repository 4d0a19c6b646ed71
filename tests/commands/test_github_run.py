"""`run` in a step of GitHub Actions: the runner hears of its values, and of what it left behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from commandline import PROGRAM, Cli

VALUE = "canary-of-a-token"


@pytest.mark.skipif(os.environ.get("GITHUB_ACTIONS") == "true", reason="we are a step of a job ourselves")
def test_the_runner_masks_later_steps_and_a_log_gets_no_value(cli: Cli, tmp_path: Path) -> None:
    """Masks go to the runner, not into the pipe of `tee`; a leak is an error of the job."""
    cli("init", check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic", stdin=VALUE.encode(), check=0)
    project = tmp_path / "project"
    project.mkdir()

    def step(script: str) -> str:
        environment = {**cli.home, "GITHUB_ACTIONS": "true"}
        return subprocess.run(
            ["bash", "-c", script + "; true"], cwd=project, env=environment, capture_output=True, text=True
        ).stdout

    shown = step(f"{PROGRAM} run my-site -- sh -c 'echo $TOKEN; echo $TOKEN > left' 2>&1 | tee {tmp_path}/log")
    assert f"::add-mask::{VALUE}\n" in shown
    assert VALUE not in (tmp_path / "log").read_text()
    assert "::error::TOKEN was left behind in " in shown
    assert VALUE not in step(f"exec > >(tee {tmp_path}/log) 2>&1; {PROGRAM} run my-site -- true")
