"""A new encoding is a single record that masking and every search know."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from commandline import Cli

MADE_UP = """
import sys
from ic_secrets import cli
from ic_secrets.masking.encodings import ENCODINGS, Encoding

ENCODINGS.append(Encoding("reversed", lambda text: [text[::-1].encode()]))
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_new_encoding_is_masked_searched_for_and_reported_by_its_name(cli: Cli, tmp_path: Path) -> None:
    cli("init", check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic", stdin=b"canary-5f1c", check=0)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("a line\nbackwards: c1f5-yranac\n")

    def run(*words: str, stdin: str = "", check: int = 0) -> str:
        command = [sys.executable, "-c", MADE_UP, *words]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, cwd=tree, env=cli.home)
        assert done.returncode == check, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert run("mask", "my-site", stdin="<c1f5-yranac>") == "<***>"
    assert run("run", "my-site", "--leaks", "off", "--", "cat", "file") == "a line\nbackwards: ***\n"
    assert "file:2: TOKEN (reversed)" in run("scan", "my-site", str(tree), check=1)
    assert "(reversed)" in run("run", "my-site", "--", "sh", "-c", 'echo "$TOKEN" | rev > made', check=120)
    assert cli("scan", "my-site", str(tree)).returncode == 0
