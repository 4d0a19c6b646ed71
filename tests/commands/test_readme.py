"""The README's example runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_the_example_runs(home: dict[str, str], work: Path) -> None:
    block = re.search(r"<!-- example -->\n```sh\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    assert block
    environment = home | {"PATH": f"{Path(sys.executable).parent}:{home['PATH']}"}
    done = subprocess.run(
        ["sh", "-euc", block[1]], cwd=work, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "licence: ***"
    assert "s3cr3t" not in done.stdout + done.stderr
    assert "4711" not in done.stdout + done.stderr
