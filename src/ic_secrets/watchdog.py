"""The process that ends a build and removes its secrets when ic-secrets itself is killed.

It is forked from us, so it costs no start of an interpreter, and detached into a session of its own,
so that no signal to our process group or session reaches it. It blocks on a pipe that only we hold:
when we die, however we die, the pipe closes, and it does in our place what we can no longer do.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Iterable
from typing import NoReturn

from .files import remove_tree
from .linux import is_zombie, list_descendants, list_processes_with, read_start_time, rename_process

_DISMISSED = b"dismissed\n"
# A build gets this long, in seconds, between TERM and KILL once its ic-secrets is dead.
_GRACE = 0.3
_PATIENCE = 5.0
_INTERVAL = 0.01


class Watchdog:
    """Our end of the watchdog of one private directory."""

    def __init__(self, path: str) -> None:
        """Start it, before there is anything at `path`; when this returns, it stands guard. OSError."""
        reader, self._writer = os.pipe()
        listener, ready = os.pipe()
        try:
            middle = os.fork()
            if middle == 0:
                _detach(path, reader, ready)
        finally:
            os.close(reader)
            os.close(ready)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(middle, 0)
        is_ready = os.read(listener, 1)
        os.close(listener)
        if not is_ready:
            os.close(self._writer)
            raise OSError(errno.ECHILD, "it ended at once")

    def watch(self, pid: int) -> None:
        """Tell it which process group is the build's."""
        self._tell(f"{pid} {read_start_time(pid)}\n".encode())

    def dismiss(self) -> None:
        """Send it home: there is nothing left to do. Safe to call twice."""
        if self._writer >= 0:
            self._tell(_DISMISSED)
            os.close(self._writer)
            self._writer = -1

    def _tell(self, line: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # it was killed; the next sweep does its work
            os.write(self._writer, line)


def end_processes(pids: Iterable[int], number: int) -> None:
    """Send the signal to each, and wake those that are stopped so that they get it."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)


def _detach(path: str, reader: int, ready: int) -> NoReturn:
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
        _guard(path, reader)
    finally:
        os._exit(0)


def _guard(path: str, reader: int) -> None:
    heard = b""
    while True:
        data = os.read(reader, 4096)
        if not data:
            break
        heard += data
    lines = heard.splitlines(keepends=True)
    if _DISMISSED in lines:
        return
    with contextlib.suppress(OSError):
        remove_tree(path)
    pid, start = _parse(lines)
    _end_build(path, pid, start)
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            remove_tree(path)
            return
        except OSError:
            time.sleep(_INTERVAL)


def _parse(lines: list[bytes]) -> tuple[int, int | None]:
    for line in reversed(lines):
        words = line.split()
        if len(words) == 2 and words[1].isdigit():
            return int(words[0]), int(words[1])
    return 0, None


def _end_build(path: str, pid: int, start: int | None) -> None:
    """TERM, a short grace, then KILL, for the build's group, its descendants and its environment's heirs."""
    known = start is not None and read_start_time(pid) == start
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
