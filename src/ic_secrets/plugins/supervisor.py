"""An outer process that notices when a plugin ends the process that it runs in.

Nothing in Python stops a plugin from calling `os._exit` or `os.execv`, and the command would end with any status that
the plugin likes. So before plugins are loaded the command goes on in a child. In a page of shared memory the child
notes what a plugin is doing, and erases the note when the plugin is done. Where the child ends with such a note, the
parent fails the command.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import sys
from collections.abc import Iterator

from ..core.linux import end_with
from ..errors import SIGNAL_BASE, PluginError
from ..process import SignalCatcher

_SIZE = 4096
# A signal to our group reaches the child twice, the second time from its parent within so many seconds.
_REPEAT = 0.05
_PASSED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
# Shared with the parent, in the child alone.
_page: mmap.mmap | None = None


def supervise() -> None:
    """Go on in a child process, once. Call it before any store is open: SQLite's locks do not survive a fork.

    The parent passes signals on, waits for the child and ends with its status. Where a plugin ended the child, the call
    raises in the parent: PluginError, or SystemExit where the note of the plugin has an exit status.
    """
    global _page
    if _page is not None:
        return
    page = mmap.mmap(-1, _SIZE)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    watched = {signal.SIGCHLD, *(number for number in _PASSED if signal.getsignal(number) is not signal.SIG_IGN)}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        end_with(parent)
        _page = page
        SignalCatcher.repeat = _REPEAT
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    status = _wait(child, watched)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    own, _, text = page[:].rstrip(b"\0").decode(errors="replace").partition("\n")
    if not text or status < 0:
        os._exit(status if status >= 0 else SIGNAL_BASE - status)
    if not own:
        raise PluginError(text)
    print(f"error: {text}", file=sys.stderr)
    raise SystemExit(int(own))


@contextlib.contextmanager
def note_plugin(text: str, status: int | None = None) -> Iterator[None]:
    """Have the parent fail with that text where the process ends within the block; with `status` if it is given."""
    if _page is None:
        yield
        return
    owner, before = os.getpid(), _page[:]
    own = "" if status is None else status
    _page[:] = f"{own}\n{text}".encode()[:_SIZE].ljust(_SIZE, b"\0")
    try:
        yield
    finally:
        if os.getpid() == owner:  # not a process that the plugin has forked
            _page[:] = before


def _wait(child: int, watched: set[signal.Signals]) -> int:
    """Pass signals on until the child ends; return its exit status, negative for the signal that ended it."""
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        number, is_own = _take_signal(watched)
        if number != signal.SIGCHLD and is_own:
            os.kill(child, number)


def _take_signal(watched: set[signal.Signals]) -> tuple[int, bool]:
    """Wait for a signal; return it, and whether it was sent to us. What the terminal sends, the child gets as well."""
    if sys.platform == "linux":
        found = signal.sigwaitinfo(watched)
        return found.si_signo, found.si_code <= 0
    return signal.sigwait(watched), True
