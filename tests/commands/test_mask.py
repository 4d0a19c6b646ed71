"""What importing the masker loads."""

from __future__ import annotations

import subprocess
import sys


def test_the_module_is_cheap_to_import() -> None:
    """Hyperscan is loaded by the first search."""
    code = "import sys, ic_secrets.masking.masker; print('hyperscan' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
