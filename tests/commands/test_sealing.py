"""What importing the sealing loads."""

from __future__ import annotations

import subprocess
import sys


def test_sealing_is_imported_without_cryptography() -> None:
    """Keys are read and derived before, and often without, a value being opened: it costs 10 ms."""
    program = (
        "import sys; from ic_secrets.keys import sealing; sealing.MasterKey.generate().id;"
        "assert not [name for name in sys.modules if name.startswith('cryptography')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
