"""Transcripts of real command lines: what is typed, what comes, and with which status."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCENARIOS = Path(__file__).parents[1] / "scenarios"


def parse(text: str) -> list[tuple[str, int, list[str]]]:
    """Steps of a transcript: command, status, expected lines.

    `$ command` starts a step, `? N` its exit status where that is not 0, and the lines until the
    next step are what both streams show; `...` within a line stands for anything. `#` is a comment.
    """
    steps: list[tuple[str, int, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if line.startswith("$ "):
            steps.append((line[2:], 0, []))
        elif line.startswith("? "):
            steps[-1] = (steps[-1][0], int(line[2:]), steps[-1][2])
        else:
            steps[-1][2].append(line.rstrip())
    return steps


def matches(expected: list[str], shown: list[str]) -> bool:
    patterns = [".*".join(re.escape(piece) for piece in line.split("...")) for line in expected]
    return len(expected) == len(shown) and all(
        re.fullmatch(pattern, line) for pattern, line in zip(patterns, shown, strict=True)
    )


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.txt")), ids=lambda path: path.stem)
def test_scenario(path: Path, home: dict[str, str], tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    environment = home | {"PATH": f"{Path(sys.executable).parent}:{home['PATH']}"}
    for command, status, expected in parse(path.read_text()):
        done = subprocess.run(
            ["bash", "-c", f"exec 2>&1; {command}"],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
        )
        shown = [
            line.rstrip() for line in done.stdout.decode().replace(str(tmp_path), "~").splitlines() if line.strip()
        ]
        assert (done.returncode, shown) == (status, shown if matches(expected, shown) else expected), command
