"""What the installed Composer and git report about themselves, asked before anything is exposed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..errors import BuildError
from ..model.variables import inherit
from ..process.child import find_program
from .methods import METHODS

_TIMEOUT = 30.0
# Every Composer since this version has known all the methods but the newest.
_OLDEST = (2, 0)


class InstalledComposer:
    """The Composer in PATH. It is started, at most once, only where its version matters."""

    def __init__(self, environment: Mapping[str, str], directory: str) -> None:
        self._environment = environment
        self._directory = directory
        self._is_asked = False
        self._version: str | None = None

    @property
    def version(self) -> str | None:
        """Its version, such as `2.5.5`; None where it does not report one."""
        if not self._is_asked:
            self._is_asked = True
            self._version = ask_composer_version(self._environment, self._directory)
        return self._version

    @property
    def numbers(self) -> tuple[int, ...]:
        """Its version as numbers, () where it is unknown."""
        return parse_version(self.version)

    def knows(self, method: str) -> bool:
        """Return whether it does more than ignore such credentials."""
        known = METHODS[method]
        return known.since <= _OLDEST or known.is_known(self.numbers)

    def merges(self, method: str) -> bool:
        """Return whether it merges several sources of the method host by host."""
        known = METHODS[method]
        return known.merged_since <= _OLDEST or known.merges_hosts(self.numbers)


def ask_composer_version(environment: Mapping[str, str], directory: str) -> str | None:
    """Return the version of the Composer in PATH, such as `2.5.5`; None where it does not report one."""
    words = ("composer", "--version", "--no-ansi", "--no-plugins", "--no-interaction")
    answer = _ask(words, environment, directory) or ""
    return next((word for word in answer.split() if word[:1].isdigit()), None)


def ask_php_version(environment: Mapping[str, str], directory: str) -> str | None:
    """Return the version of the PHP in PATH; None where it does not report one."""
    words = (_ask(("php", "--version"), environment, directory) or "").split()
    return words[1] if words[:1] == ["PHP"] and len(words) > 1 else None


def ask_git_version(environment: Mapping[str, str], directory: str) -> str | None:
    """Return the version of the git in PATH; None where it does not report one."""
    words = (_ask(("git", "--version"), environment, directory) or "").split()
    return words[2] if words[:2] == ["git", "version"] and len(words) > 2 else None


def parse_version(version: str | None) -> tuple[int, ...]:
    """Return `2.5.5` or `2.9.0-RC1` as its three numbers; () if it is not a version."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version or "")
    return tuple(int(number or 0) for number in match.groups()) if match else ()


def ask_revision(environment: Mapping[str, str], directory: str) -> str | None:
    """Return the git commit that is checked out in the directory; None outside a repository."""
    return _ask(("git", "rev-parse", "HEAD"), environment, directory)


def ask_branch(environment: Mapping[str, str], directory: str) -> str | None:
    """Return the git branch that is checked out in the directory; None if no branch is."""
    return _ask(("git", "symbolic-ref", "--quiet", "--short", "HEAD"), environment, directory)


def ask_git_configuration(environment: Mapping[str, str], directory: str) -> tuple[tuple[str, str], ...]:
    """Return the keys and values that git reads in the directory, the strongest last; () without git."""
    answer = _ask(("git", "config", "--list", "-z"), environment, directory) or ""
    lines = (line.partition("\n") for line in answer.split("\0") if line)
    return tuple((key, value if mark else "true") for key, mark, value in lines)


def _ask(command: Sequence[str], environment: Mapping[str, str], directory: str) -> str | None:
    """Return what the command prints; None when it cannot be run, fails, or takes too long. It sees no key of ours."""
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
