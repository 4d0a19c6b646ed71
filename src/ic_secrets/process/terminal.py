"""Give the child a pseudo-terminal of its own in place of the real terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import termios
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

# While the terminal is another's, we look for its return at this interval, in seconds.
_PATIENCE = 0.1

_IFLAG, _OFLAG, _CFLAG, _LFLAG, _, _, _CC = range(7)


class Terminal:
    """A pseudo-terminal with the settings and the size of the real one.

    Keys typed there reach the child unchanged, and the pseudo-terminal makes signals of them, as
    the child's own settings say. Only suspending is ours to do: the child leads a session of its
    own, where the kernel ignores that key's signal.
    """

    def __init__(self, real: int) -> None:
        self.real = real
        self.master, self.slave = os.openpty()
        self.name = os.ttyname(self.slave)
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self.slave, termios.TCSANOW, termios.tcgetattr(real))
        self.copy_size()
        self._saved: Any = None  # what termios gives, and takes back as it is

    def copy_size(self) -> None:
        """Give the child's terminal the size of the real one; the kernel notifies the child."""
        with contextlib.suppress(OSError):
            size = fcntl.ioctl(self.real, termios.TIOCGWINSZ, b"\0" * 8)
            fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)

    def pass_keys(self, *, shared: bool) -> None:
        """Let the real terminal pass on every key as it is, if we may read it at the moment.

        With `shared`, another program further down a pipe writes to it too: then the real terminal still turns line
        ends into what a screen needs.
        """
        if self._saved is not None or not is_foreground(self.real):
            return
        with contextlib.suppress(termios.error):
            saved = termios.tcgetattr(self.real)
            raw = [*saved]
            raw[_IFLAG] &= ~(
                termios.BRKINT | termios.ICRNL | termios.INPCK | termios.ISTRIP | termios.IXON | termios.INLCR
            )
            if not shared:
                raw[_OFLAG] &= ~termios.OPOST
            raw[_LFLAG] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
            raw[_CC] = [*saved[_CC]]
            raw[_CC][termios.VMIN], raw[_CC][termios.VTIME] = 1, 0
            termios.tcsetattr(self.real, termios.TCSADRAIN, raw)
            self._saved = saved

    def restore(self) -> None:
        """Put the real terminal back as it was; safe to call twice."""
        if self._saved is not None:
            with block_stop_signals(), contextlib.suppress(termios.error):
                termios.tcsetattr(self.real, termios.TCSADRAIN, self._saved)
            self._saved = None

    def forward_keys(self, keyboard: int, suspend: Callable[[], None], hang_up: Callable[[], None]) -> None:
        """Carry what is typed to the child, in a thread."""
        threading.Thread(target=self._forward, args=(keyboard, suspend, hang_up), daemon=True).start()

    def _forward(self, keyboard: int, suspend: Callable[[], None], hang_up: Callable[[], None]) -> None:
        poll = select.poll()
        poll.register(keyboard, select.POLLIN)
        with contextlib.suppress(OSError):  # the child's terminal is gone
            while True:
                poll.poll()
                if not is_foreground(keyboard):  # reading would stop us, and what is typed is not for us
                    time.sleep(_PATIENCE)
                    continue
                data = os.read(keyboard, 4096)
                if not data:
                    hang_up()
                    return
                key = self._suspend_key()
                before, found, after = data.partition(key) if key else (data, b"", b"")
                self._write(before)
                if found:
                    suspend()
                    self._write(after)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.master, data) :]

    def _suspend_key(self) -> bytes:
        """Return the key that suspends, empty while the child wants to read it like any other key."""
        with contextlib.suppress(termios.error):
            settings = termios.tcgetattr(self.master)
            if settings[_LFLAG] & termios.ISIG:
                key = settings[_CC][termios.VSUSP]
                return b"" if key == b"\0" else bytes(key)
        return b""


def is_foreground(terminal: int) -> bool:
    """Return whether our process group is the one that may read from the terminal."""
    with contextlib.suppress(OSError):
        return os.tcgetpgrp(terminal) == os.getpgrp()
    return False


def give_foreground(terminal: int, group: int) -> None:
    """Make that process group the one that may read from the terminal."""
    with block_stop_signals(), contextlib.suppress(OSError):
        os.tcsetpgrp(terminal, group)


@contextlib.contextmanager
def block_stop_signals() -> Iterator[None]:
    """Within the block, changing a terminal from the background does not stop us."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
