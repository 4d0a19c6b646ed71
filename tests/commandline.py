"""The installed `ic-secrets` as a user runs it: a process of its own, in a home of its own, its output in bytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).parent / "ic-secrets"


class Cli:
    """Runs `ic-secrets` with the environment `home`, in the directory `cwd` unless a call names another."""

    def __init__(self, home: dict[str, str], cwd: Path) -> None:
        self.home = home
        self.cwd = cwd

    def __call__(
        self,
        *arguments: str | Path,
        stdin: bytes = b"",
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        timeout: float = 120,
        check: int | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run it to its end: `cli("set", "my-site", "TOKEN", stdin=b"…")`.

        `env` adds to the environment of `home`; with `check`, another exit status than that fails the test and shows
        the output.
        """
        done = subprocess.run(
            [str(PROGRAM), *map(str, arguments)],
            input=stdin,
            capture_output=True,
            cwd=cwd or self.cwd,
            env=self.home | (env or {}),
            timeout=timeout,
        )
        if check is not None and done.returncode != check:
            pytest.fail(_told(arguments, done))
        return done

    def start(
        self, *arguments: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start it and come back at once, for a test that sends signals: three pipes, a session of its own.

        Use it as a context manager; one that is still running then has to be ended first.
        """
        return subprocess.Popen(
            [str(PROGRAM), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd or self.cwd,
            env=self.home | (env or {}),
            start_new_session=True,
        )


def _told(arguments: tuple[str | Path, ...], done: subprocess.CompletedProcess[bytes]) -> str:
    command = " ".join(map(str, arguments))
    output = (done.stdout + b"\n" + done.stderr).decode(errors="replace")
    return f"ic-secrets {command} ended with {done.returncode}:\n{output}"
