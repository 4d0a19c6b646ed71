"""End a build and remove its secrets when ic-secrets itself is killed.

The watchdog is forked from us, which costs no start of an interpreter, and has a session of its own, so that no signal
to our process group or session reaches it. It blocks on a pipe that only we hold: however we die, the pipe closes, and
the watchdog does what we no longer can.

While a build runs it also notes which processes have become ours because their parents ended: nothing else would show,
once we are gone, that a daemon that cleared its environment belonged to the build.
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

from ..core.files import remove_moved, remove_tree
from ..core.linux import (
    is_zombie,
    list_children,
    list_descendants,
    list_processes_with,
    read_start_time,
    rename_process,
)
from ..errors import ExposureError

# The messages that it gets, a line each; a line that our death cut off is ignored.
_GUARD = b"guard "
_WATCH = b"watch "
_DISMISSED = b"dismissed\n"
# A build gets this many seconds between TERM and KILL once its ic-secrets is dead.
_GRACE = 0.3
_PATIENCE = 5.0
_INTERVAL = 0.01
# How often it looks for orphans while a build runs, in seconds.
_LOOK = 0.1


class Watchdog:
    """Our end of the watchdog of a build's private directories; a context manager that dismisses it.

    It is started before any value is in our memory, since it has a copy of that, and gets ready while we go on.
    """

    def __init__(self) -> None:
        """Start the watchdog, with nothing to guard yet; ExposureError."""
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
        """Have it guard the path, where nothing exists yet, beside those before; ExposureError."""
        if not self._is_ready():
            raise ExposureError("the watchdog ended at once")
        self._send(_GUARD + os.fsencode(path).hex().encode() + b"\n")

    def watch(self, pid: int) -> None:
        """Name the build's process group."""
        self._send(b"%b%d %d\n" % (_WATCH, pid, read_start_time(pid) or 0))

    def dismiss(self) -> None:
        """End the watchdog: nothing is left to do. Safe to call twice."""
        if self._writer >= 0:
            self._is_ready()
            self._send(_DISMISSED)
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
        """Wait until it is ready or has failed; return whether it is ready."""
        if self._listener >= 0:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._middle, 0)
            self._ready = os.read(self._listener, 1) != b""
            os.close(self._listener)
            self._listener = -1
        return self._ready

    def _send(self, line: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # it was killed; the next sweep does its work
            os.write(self._writer, line)


def end_processes(pids: Iterable[int], number: int) -> None:
    """Send the signal to each process, and continue those that are stopped so that they get it."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)


class _Charge:
    """What the watchdog has to end and to remove."""

    def __init__(self, owner: int, others: frozenset[int]) -> None:
        """`owner` is the process that is guarded; `others` are children that it had before."""
        self._owner = owner
        self._others = others
        self._heard = b""
        self._paths: list[str] = []
        self._directories: list[int] = []
        self._group = (0, 0)  # the build's process group, and when it started
        self._orphans: dict[int, int] = {}

    @property
    def is_building(self) -> bool:
        """Return whether a build has been started."""
        return self._group[0] > 0

    def hear(self, data: bytes) -> None:
        """Read what our owner sent; an incomplete line waits for its end."""
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            if line == _DISMISSED.strip():
                os._exit(0)
            elif line.startswith(_GUARD):
                self._paths.append(os.fsdecode(bytes.fromhex(line[len(_GUARD) :].decode())))
            elif line.startswith(_WATCH):
                pid, start = map(int, line[len(_WATCH) :].split())
                self._group = pid, start
                for path in self._paths:  # the build may move them away
                    with contextlib.suppress(OSError):
                        self._directories.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW))

    def look(self) -> None:
        """Note which processes our owner has adopted."""
        for pid in set(list_children(self._owner)) - self._others:
            self._orphans[pid] = read_start_time(pid) or 0

    def list_build(self) -> set[int]:
        """Return the build's processes: its group's leader, orphans, descendants, and heirs of its environment."""
        pids = {pid for path in self._paths for pid in list_processes_with(os.fsencode(path))}
        for pid, start in (self._group, *self._orphans.items()):
            if start > 0 and read_start_time(pid) == start:
                pids |= {pid, *list_descendants(pid)}
        return {pid for pid in pids if not is_zombie(pid)}

    def find_group(self) -> int | None:
        """Return the build's process group if its leader still runs."""
        pid, start = self._group
        return pid if start > 0 and read_start_time(pid) == start else None

    def remove(self) -> bool:
        """Remove the directories; return whether all are gone."""
        is_gone = True
        for path in self._paths:
            try:
                remove_tree(path)
            except OSError:
                is_gone = False
        for descriptor in self._directories:
            try:
                remove_moved(descriptor)
            except OSError:
                is_gone = False
        return is_gone


def _detach(reader: int, ready: int, charge: _Charge) -> NoReturn:
    """In the forked child: become a process that nobody waits for, and guard."""
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
    """End all processes of the build: TERM, a short grace, KILL."""
    group = charge.find_group()
    deadline = time.monotonic() + _GRACE
    number = signal.SIGTERM
    signalled: set[int] = set()
    while True:
        pids = charge.list_build()
        now = time.monotonic()
        if not pids or now > deadline + _PATIENCE:
            return
        if now > deadline:
            number = signal.SIGKILL
        if group and (number == signal.SIGKILL or not signalled):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)
        end_processes(pids if number == signal.SIGKILL else pids - signalled, number)
        signalled |= pids
        time.sleep(_INTERVAL)


def _close_all_but(kept: set[int]) -> None:
    for name in os.listdir("/dev/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):  # the listing's own descriptor is gone by now
                os.close(int(name))
