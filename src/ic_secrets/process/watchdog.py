"""The process that ends a build and removes its secrets when ic-secrets itself is killed.

It is forked from us, so it costs no start of an interpreter, and detached into a session of its own,
so that no signal to our process group or session reaches it. It blocks on a pipe that only we hold:
when we die, however we die, the pipe closes, and it does in our place what we can no longer do.

While a build runs it also looks, now and then, which processes have become ours since their own parents ended:
of a daemon that has cleared its environment nothing else would tell, once we are gone, that it was the build's.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable
from types import TracebackType
from typing import NoReturn

from ..core.files import remove_directory
from ..core.linux import (
    is_zombie,
    list_children,
    list_descendants,
    list_processes_with,
    read_start_time,
    rename_process,
)
from ..errors import ExposureError

# What it is told, a line each; a line that our death cut off counts for nothing.
_GUARD = b"guard "
_WATCH = b"watch "
_DISMISSED = b"dismissed\n"
# A build gets this long, in seconds, between TERM and KILL once its ic-secrets is dead.
_GRACE = 0.3
_PATIENCE = 5.0
_INTERVAL = 0.01
# How often it looks for orphans while a build runs, in seconds.
_LOOK = 0.1


class Watchdog:
    """Our end of the watchdog of one private directory; a context manager that dismisses it.

    It is started before any value is in our memory, of which it has a copy, and gets ready while we go on.
    """

    def __init__(self) -> None:
        """Start it; it has nothing to guard yet. ExposureError."""
        try:
            self._owner = os.getpid()
            reader, self._writer = os.pipe()
            self._listener, ready = os.pipe()
            self._ready = False
            try:
                owner, others = os.getpid(), frozenset(list_children(os.getpid()))
                self._middle = os.fork()
                if self._middle == 0:
                    _detach(reader, ready, _Charge(owner, others))
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
        if os.getpid() == self._owner:
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


class _Charge:
    """What the watchdog has to end and to remove."""

    def __init__(self, owner: int, others: frozenset[int]) -> None:
        """`owner` is who is guarded; the `others` are children that it had before."""
        self._owner = owner
        self._others = others
        self._heard = b""
        self._path: str | None = None
        self._directory: int | None = None
        self._group = (0, 0)  # the build's process group, and when it started
        self._orphans: dict[int, int] = {}

    @property
    def is_building(self) -> bool:
        """Whether there are processes of a build."""
        return self._group[0] > 0

    def hear(self, data: bytes) -> None:
        """Take in what our owner told; what has no end yet waits."""
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            if line == _DISMISSED.strip():
                os._exit(0)
            elif line.startswith(_GUARD):
                self._path = os.fsdecode(bytes.fromhex(line[len(_GUARD) :].decode()))
            elif line.startswith(_WATCH):
                pid, start = map(int, line[len(_WATCH) :].split())
                self._group = pid, start
                with contextlib.suppress(OSError):  # the build may move it away
                    self._directory = os.open(self._path or "", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)

    def look(self) -> None:
        """Note which processes our owner has adopted."""
        for pid in set(list_children(self._owner)) - self._others:
            self._orphans[pid] = read_start_time(pid) or 0

    def list_build(self) -> set[int]:
        """The build's processes: its group's leader, orphans, what descends from them, its environment's heirs."""
        pids = set(list_processes_with(os.fsencode(self._path))) if self._path else set()
        for pid, start in (self._group, *self._orphans.items()):
            if start > 0 and read_start_time(pid) == start:
                pids |= {pid, *list_descendants(pid)}
        return {pid for pid in pids if not is_zombie(pid)}

    def find_group(self) -> int | None:
        """The build's process group, if its leader is still there."""
        pid, start = self._group
        return pid if start > 0 and read_start_time(pid) == start else None

    def remove(self) -> bool:
        """Remove the directory; whether it is gone."""
        try:
            if self._path is not None:
                remove_directory(self._path, self._directory)
        except OSError:
            return False
        return True


def _detach(reader: int, ready: int, charge: _Charge) -> NoReturn:
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
        _guard(reader, charge)
    finally:
        os._exit(0)


def _guard(reader: int, charge: _Charge) -> None:
    while True:
        if select.select([reader], [], [], _LOOK if charge.is_building else None)[0]:
            data = os.read(reader, 4096)
            if not data:
                break
            charge.hear(data)
        else:
            charge.look()
    charge.remove()
    _end_build(charge)
    deadline = time.monotonic() + _PATIENCE
    while not charge.remove() and time.monotonic() < deadline:
        time.sleep(_INTERVAL)


def _end_build(charge: _Charge) -> None:
    """TERM, a short grace, then KILL, for all of its processes."""
    group = charge.find_group()
    deadline = time.monotonic() + _GRACE
    number = signal.SIGTERM
    told: set[int] = set()
    while True:
        pids = charge.list_build()
        now = time.monotonic()
        if not pids or now > deadline + _PATIENCE:
            return
        if now > deadline:
            number = signal.SIGKILL
        if group and (number == signal.SIGKILL or not told):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)
        end_processes(pids if number == signal.SIGKILL else pids - told, number)
        told |= pids
        time.sleep(_INTERVAL)


def _close_all_but(kept: set[int]) -> None:
    for name in os.listdir("/dev/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):  # the listing's own descriptor is gone by now
                os.close(int(name))
