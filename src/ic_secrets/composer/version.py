"""What other programs say of themselves, asked before anything is exposed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..errors import BuildError
from ..model.variables import inherit
from ..process.child import find_program

_TIMEOUT = 30.0


def ask_composer_version(environment: Mapping[str, str], directory: str) -> str | None:
    """The version of the Composer in PATH, as `2.5.5`; None where it does not say."""
    words = ("composer", "--version", "--no-ansi", "--no-plugins", "--no-interaction")
    answer = _ask(words, environment, directory) or ""
    return next((word for word in answer.split() if word[:1].isdigit()), None)


def parse_version(version: str | None) -> tuple[int, ...]:
    """Return `2.5.5` or `2.9.0-RC1` as its three numbers; () if there are none."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version or "")
    return tuple(int(number or 0) for number in match.groups()) if match else ()


def ask_revision(environment: Mapping[str, str], directory: str) -> str | None:
    """The git commit that is checked out in the directory; None where there is none."""
    return _ask(("git", "rev-parse", "HEAD"), environment, directory)


def ask_branch(environment: Mapping[str, str], directory: str) -> str | None:
    """The git branch that is checked out in the directory; None where there is none."""
    return _ask(("git", "symbolic-ref", "--quiet", "--short", "HEAD"), environment, directory)


def _ask(command: Sequence[str], environment: Mapping[str, str], directory: str) -> str | None:
    """What the command prints; None when it cannot be run, fails, or takes too long. It sees no key of ours."""
    import subprocess

    try:
        program = find_program(command[0], environment)
        done = subprocess.run(
            [program, *command[1:]],
            cwd=directory,
            env=inherit(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
        )
    except (BuildError, OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").strip() or None if done.returncode == 0 else None
