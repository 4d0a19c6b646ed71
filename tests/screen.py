"""A terminal for a test: what a person would see and type."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from pathlib import Path


class Screen:
    """A terminal of 30 lines and 100 columns with a program on it, and a person who types and reads."""

    def __init__(self, command: list[str], env: dict[str, str], cwd: Path | None = None) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.chdir(cwd or ".")
            os.execvpe(command[0], command, env)
        self.resize(30, 100)
        self.shown = b""

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def wait_for(self, pattern: str, timeout: float = 30) -> str:
        """The match of the pattern in what comes from now on; what it was found in is used up."""
        deadline = time.monotonic() + timeout
        while True:
            match = re.search(pattern.encode(), self.shown)
            if match:
                self.shown = self.shown[match.end() :]
                return match[0].decode()
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern} did not come; what came: {self.shown!r}"
            if select.select([self.master], [], [], left)[0]:
                try:
                    self.shown += os.read(self.master, 65_536)
                except OSError:
                    raise AssertionError(f"{pattern} did not come before the end: {self.shown!r}") from None

    def close(self) -> int:
        """The exit status; whatever still runs is hung up."""
        os.close(self.master)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def finish(self) -> int:
        """The exit status of a program that ends by itself."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.master)
        return status

    def read_to_end(self) -> bytes:
        """All that comes until the program has ended."""
        while True:
            try:
                self.shown += os.read(self.master, 65_536)
            except OSError:
                return self.shown
