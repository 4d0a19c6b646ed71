"""The process that ends a build and removes its secrets when ic-secrets itself is killed.

It is forked from us, so it costs no start of an interpreter, and detached into a session of its own,
so that no signal to our process group or session reaches it. It blocks on a pipe that only we hold:
when we die, however we die, the pipe closes, and it does in our place what we can no longer do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from types import TracebackType
from typing import NoReturn

from .errors import ExposureError
from .files import remove_tree
from .linux import is_zombie, list_descendants, list_processes_with, read_start_time, rename_process

# What it is told, a line each; a line that our death cut off counts for nothing.
_GUARD = b"guard "
_WATCH = b"watch "
_DISMISSED = b"dismissed\n"
# A build gets this long, in seconds, between TERM and KILL once its ic-secrets is dead.
_GRACE = 0.3
_PATIENCE = 5.0
_INTERVAL = 0.01


class Watchdog:
    """Our end of the watchdog of one private directory; a context manager that dismisses it.

    It is started before any value is in our memory, of which it has a copy, and gets ready while we go on.
    """

    def __init__(self) -> None:
        """Start it; it has nothing to guard yet. ExposureError."""
        try:
            reader, self._writer = os.pipe()
            self._listener, ready = os.pipe()
            self._ready = False
            try:
                self._middle = os.fork()
                if self._middle == 0:
                    _detach(reader, ready)
            finally:
                os.close(reader)
                os.close(ready)
        except OSError as error:
            raise ExposureError(f"the watchdog cannot be started: {error.strerror}") from None

    def guard(self, path: str) -> None:
        """Let it guard the path, where nothing is yet, not any before; when this returns, it does. ExposureError."""
        if not self._is_ready():
            raise ExposureError("the watchdog ended at once")
        self._tell(_GUARD + os.fsencode(path).hex().encode() + b"\n")

    def watch(self, pid: int) -> None:
        """Tell it which process group is the build's."""
        self._tell(b"%b%d %d\n" % (_WATCH, pid, read_start_time(pid) or 0))

    def dismiss(self) -> None:
        """Send it home: there is nothing left to do. Safe to call twice."""
        if self._writer >= 0:
            self._is_ready()
            self._tell(_DISMISSED)
            os.close(self._writer)
            self._writer = -1

    def __enter__(self) -> Watchdog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.dismiss()

    def _is_ready(self) -> bool:
        """Wait until it is, or has failed."""
        if self._listener >= 0:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._middle, 0)
            self._ready = os.read(self._listener, 1) != b""
            os.close(self._listener)
            self._listener = -1
        return self._ready

    def _tell(self, line: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # it was killed; the next sweep does its work
            os.write(self._writer, line)


def end_processes(pids: Iterable[int], number: int) -> None:
    """Send the signal to each, and wake those that are stopped so that they get it."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)


def _detach(reader: int, ready: int) -> NoReturn:
    """In the forked child: become a process that nobody waits for, and stand guard."""
    try:
        signal.set_wakeup_fd(-1)
        os.setsid()
        if os.fork():
            os._exit(0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        _close_all_but({0, 1, 2, reader, ready})
        os.chdir("/")
        rename_process("ic-secrets-dog")
        os.write(ready, b"!")
        os.close(ready)
        _guard(reader)
    finally:
        os._exit(0)


def _guard(reader: int) -> None:
    heard = b""
    while True:
        data = os.read(reader, 4096)
        if not data:
            break
        heard += data
    lines = [line for line in heard.splitlines(keepends=True) if line.endswith(b"\n")]
    path, pid, start = _parse(lines)
    if _DISMISSED in lines or path is None:
        return
    with contextlib.suppress(OSError):
        remove_tree(path)
    _end_build(path, pid, start)
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            remove_tree(path)
            return
        except OSError:
            time.sleep(_INTERVAL)


def _parse(lines: list[bytes]) -> tuple[str | None, int, int]:
    """The path to guard, and the build's process group with its start time, 0 where it was not told."""
    path, pid, start = None, 0, 0
    for line in lines:
        if line.startswith(_GUARD):
            path = os.fsdecode(bytes.fromhex(line[len(_GUARD) :].decode()))
        elif line.startswith(_WATCH):
            pid, start = map(int, line[len(_WATCH) :].split())
    return path, pid, start


def _end_build(path: str, pid: int, start: int) -> None:
    """TERM, a short grace, then KILL, for the build's group, its descendants and its environment's heirs."""
    known = start > 0 and read_start_time(pid) == start
    deadline = time.monotonic() + _GRACE
    number = signal.SIGTERM
    told: set[int] = set()
    while True:
        pids = _list_build(path, pid if known else 0)
        if not pids:
            return
        now = time.monotonic()
        if now > deadline + _PATIENCE:
            return
        if now > deadline:
            number = signal.SIGKILL
        if known and (pid not in told or number == signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, number)
        end_processes((p for p in pids if number == signal.SIGKILL or p not in told), number)
        told |= pids
        time.sleep(_INTERVAL)


def _list_build(path: str, pid: int) -> set[int]:
    pids = set(list_processes_with(os.fsencode(path)))
    if pid:
        pids |= {pid, *list_descendants(pid)}
    return {found for found in pids if not is_zombie(found)}


def _close_all_but(kept: set[int]) -> None:
    for name in os.listdir("/dev/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):  # the listing's own descriptor is gone by now
                os.close(int(name))
