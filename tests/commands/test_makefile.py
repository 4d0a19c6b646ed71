"""What `make` would do in a fresh clone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = sorted(set(re.findall(r"`?make ([a-z-]+)\b", (ROOT / "Makefile").read_text())))


@pytest.mark.parametrize("newest", [False, True], ids=["locked", "newest"])
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_run_from_an_environment_that_was_not_made_before(target: str, newest: bool, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-build.lock"):
        shutil.copy(ROOT / name, tmp_path)
    # Without the variables of a `make` that runs the tests.
    environment = {"PATH": os.environ["PATH"]} | ({"CI_NEWEST": "1"} if newest else {})
    asked = subprocess.run(
        ["make", "--dry-run", target], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30
    )
    assert asked.returncode == 0, asked.stderr
    made: set[str] = set()
    for line in asked.stdout.splitlines():
        made.update(re.findall(r"-m venv (?:--clear )?(\S+)", line))
        assert set(re.findall(r"(?<!\S)(\.venv[\w.-]*)/", line)) <= made, line
