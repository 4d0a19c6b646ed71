"""Signals that are caught while secrets are exposed: noted, and read in their turn."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

from ..errors import SIGNAL_BASE, EndedError

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Those that would end us."""

PASSED = (signal.SIGUSR1, signal.SIGUSR2)
"""Those that are passed to the build as they are."""

NOTED = (signal.SIGCHLD, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)
"""Those that say something about the build or the terminal."""


class SignalCatcher:
    """Catches the signals that could end us, as a context manager: each is noted, and waits to be read."""

    repeat = 0.0
    """A signal that comes again within so many seconds is the same one. It is set in a process whose parent passes its
    own signals on: those that are sent to the whole group come twice.
    """

    def __init__(self) -> None:
        self.ending: list[int] = []
        self._queue: list[int] = []
        self._raises = False
        self._moment = 0.0
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> SignalCatcher:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (*ENDING, *PASSED, *NOTED):
            # What nohup or a shell's background job ignores stays ignored; the end of children cannot be.
            if number == signal.SIGCHLD or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        # Our caller may have blocked them, and then we would wait for the end of the child forever.
        self._mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, self._before)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._reader)
        os.close(self._writer)

    @property
    def status(self) -> int:
        """Return 128+n for the first signal that would have ended us, 0 without one."""
        return SIGNAL_BASE + self.ending[0] if self.ending else 0

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Raise EndedError at the first signal that would end us: for what may wait long and leaves nothing behind."""
        self._raises = True
        try:
            if self.ending:
                raise EndedError(self.ending[0])
            yield
        finally:
            self._raises = False

    @contextlib.contextmanager
    def raising_next(self) -> Iterator[None]:
        """Raise EndedError at the next signal that would end us, whether or not one came before."""
        self._raises = True
        try:
            yield
        finally:
            self._raises = False

    def post(self, number: int) -> None:
        """Note a signal as if it had arrived; may be called from a thread."""
        self._note(number, None)
        os.write(self._writer, b"\0")

    def wait(self, timeout: float | None) -> list[int]:
        """Return the signals since the last call; wait for one, at most `timeout` seconds."""
        if not self._queue:
            select.select([self._reader], [], [], timeout)
        with contextlib.suppress(BlockingIOError):
            while os.read(self._reader, 512):
                pass
        queue, self._queue = self._queue, []
        return queue

    def stop_ourselves(self) -> None:
        """Stop our process group, as the suspend key does; return when we are continued."""
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.killpg(0, signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number in ENDING:
            now, before = time.monotonic(), self._moment
            self._moment = now
            if self.ending[-1:] == [number] and now - before < self.repeat:
                return
            self.ending.append(number)
        self._queue.append(number)
        if number in ENDING and self._raises:
            self._raises = False
            raise EndedError(number)
