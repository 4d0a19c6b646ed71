"""The demo keeps its promises: what a newcomer runs first must never be broken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DEMO = Path(__file__).resolve().parents[2] / "fixtures" / "demo.py"


def test_the_demo_ends_well_and_says_what_it_showed(home: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, str(DEMO)], env=home, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "LICENCE_KEY=***" in done.stdout
    assert "Installing initech/vault" in done.stdout
    assert "Afterwards nothing is left" in done.stdout
    assert list(Path(home["TMPDIR"]).iterdir()) == []
