"""The contract of stores in a Python without pytest."""

from __future__ import annotations

import subprocess
import sys


def test_the_contract_needs_no_pytest() -> None:
    """It is imported by programs that only look at it; pytest is what a plugin's tests bring along."""
    program = "import sys, ic_secrets.testing; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
