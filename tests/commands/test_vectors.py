"""The script that made the vectors."""

from __future__ import annotations

import subprocess
import sys

from vectors import VECTORS


def test_the_script_that_made_them_makes_no_other() -> None:
    """What is kept is never written again."""
    before = {path: path.read_bytes() for path in VECTORS.iterdir() if path.is_file()}
    done = subprocess.run([sys.executable, VECTORS / "make.py"], capture_output=True, check=True)
    assert done.stdout == b""
    assert {path: path.read_bytes() for path in VECTORS.iterdir() if path.is_file()} == before
