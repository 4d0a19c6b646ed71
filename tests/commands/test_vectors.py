"""The script that makes the vectors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from vectors import VECTORS, parse


def test_the_script_that_made_them_makes_no_other() -> None:
    """What is kept is never written again."""
    before = {path: path.read_bytes() for path in VECTORS.iterdir() if path.is_file()}
    done = subprocess.run([sys.executable, VECTORS / "make.py"], capture_output=True, check=True)
    assert done.stdout == b""
    assert {path: path.read_bytes() for path in VECTORS.iterdir() if path.is_file()} == before


def test_the_script_still_makes_every_vector(tmp_path: Path) -> None:
    """Into another directory, under the same names and with the same headers."""
    subprocess.run([sys.executable, VECTORS / "make.py", tmp_path], capture_output=True, check=True)
    kept = {path.name: parse(path.read_text()) for path in VECTORS.glob("*.txt")}
    made = {path.name: parse(path.read_text()) for path in tmp_path.glob("*.txt")}
    assert {name: vector[:4] for name, vector in made.items()} == {name: vector[:4] for name, vector in kept.items()}
    assert {path.name for path in tmp_path.glob("*.json")} == {path.name for path in VECTORS.glob("*.json")}
