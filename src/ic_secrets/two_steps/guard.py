"""The guard: the process that keeps a private directory between two steps of a pipeline, and removes it in the end.

It is started anew rather than forked, with an empty environment, so neither its memory nor anything else that can be
read of it contains a value or a key. From the moment it takes over until it ends it holds the locks that it was given,
so any later run sweeps a directory whose guard was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import NoReturn

from ..core.files import remove_all_but, remove_directory
from ..core.linux import harden, is_zombie, read_start_time, rename_process
from ..core.records import NamedTuple
from ..errors import ExposureError

# The directory that holds the package.
_SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from ic_secrets.two_steps.guard import stand_guard; "
    "stand_guard(int(sys.argv[2]))"
)
_TAKEN = b"taken\n"
_LARGEST = 65_536
# How long it has, in seconds, to start and to take over; and to remove what cannot be removed at once.
_TIMEOUT = 20.0
_PATIENCE = 5.0
_INTERVAL = 0.01
# How often it checks that there is still something to guard, in seconds.
_CHECK_INTERVAL = 1.0


class ProcessId(NamedTuple):
    """A process, by its id and the time at which it started: an id alone is used again later."""

    pid: int
    start: int


class StartingGuard:
    """A guard with nothing to guard yet, which ends with us unless it takes over; a context manager."""

    def __init__(self) -> None:
        """Start it; ExposureError."""
        import socket
        import subprocess

        self._ours, theirs = socket.socketpair()
        self._ours.settimeout(_TIMEOUT)
        try:
            with theirs:
                self._middle = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _PROGRAM, _SOURCE, str(theirs.fileno())],
                    env={},
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
        except OSError as error:
            self._ours.close()
            raise ExposureError(f"the guard cannot be started: {error.strerror}") from None

    def find_id(self) -> ProcessId:
        """Wait until it has started and return its id; ExposureError where it does not start."""
        try:
            self._middle.wait(_TIMEOUT)
            pid = int(self._ours.recv(64))
        except (OSError, ValueError):
            raise ExposureError("the guard ended at once") from None
        return ProcessId(pid, read_start_time(pid) or 0)

    def take_over(self, path: str, descriptors: Sequence[int], ttl: float, until: int | None, note: str) -> None:
        """Hand it the directory, and the locks that the descriptors hold; it has them when this returns.

        The first descriptor is that of the directory. The guard scrubs after `ttl` seconds, or when the process ends
        that the pidfd `until` is of. When its time is up it leaves the file `note` in the directory. ExposureError.
        """
        import socket

        order = {"path": path, "ttl": ttl, "until": until is not None, "note": note}
        given = [*descriptors, *([] if until is None else [until])]
        try:
            socket.send_fds(self._ours, [json.dumps(order).encode()], given)
            answer = self._ours.recv(64)
        except OSError:
            answer = b""
        if answer != _TAKEN:
            raise ExposureError("the guard ended before it took over")

    def __enter__(self) -> StartingGuard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ours.close()


class RunningGuard:
    """The guard of a directory, which may have ended."""

    def __init__(self, identity: ProcessId) -> None:
        self._id = identity

    @property
    def is_alive(self) -> bool:
        """Return whether it still runs."""
        return read_start_time(self._id.pid) == self._id.start != 0 and not is_zombie(self._id.pid)

    def watch(self, pid: int) -> None:
        """Do nothing: a guard ends no build."""

    def dismiss(self) -> None:
        """End it, if it runs, and wait until its locks are free."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.is_alive:
                os.kill(self._id.pid, signal.SIGTERM)
        deadline = time.monotonic() + _PATIENCE
        while self.is_alive and time.monotonic() < deadline:
            time.sleep(_INTERVAL)


def open_process(pid: int) -> int:
    """Return a pidfd of the process; ExposureError where there is no such process, or the system has no pidfds."""
    try:
        return os.pidfd_open(pid)
    except AttributeError:
        raise ExposureError("this system has no way to wait for another process", hint="use --ttl instead") from None
    except (OSError, OverflowError):
        raise ExposureError(f"there is no process {pid} to wait for") from None


def stand_guard(number: int) -> NoReturn:
    """Run as the guard; `number` is the descriptor of its end of the socket."""
    try:
        harden()  # nobody takes a copy of the descriptors, one of which keeps a broker alive
        if os.fork():
            os._exit(0)
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
            signal.signal(ignored, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: None)
        rename_process("ic-secrets-grd")
        _guard(number, reader)
    finally:
        os._exit(0)


def _guard(number: int, signals: int) -> None:
    import socket

    with socket.socket(fileno=number) as owner:
        owner.sendall(b"%d\n" % os.getpid())
        data, descriptors, _, _ = socket.recv_fds(owner, _LARGEST, 8)
        if not data:
            return  # our owner has ended, and left nothing to keep
        order = json.loads(data)
        with contextlib.suppress(OSError):
            owner.sendall(_TAKEN)
    path, ends = order["path"], [signals, *(descriptors[-1:] if order["until"] else [])]
    is_late = _wait(path, _clock() + order["ttl"], ends)
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            if is_late and _is_at(path, descriptors[0]):
                remove_all_but(path, order["note"])
                os.utime(os.path.join(path, order["note"]))
            else:
                remove_directory(path, descriptors[0])
            return
        except OSError:
            time.sleep(_INTERVAL)


def _is_at(path: str, descriptor: int) -> bool:
    """Return whether the directory of the descriptor is still at the path."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except OSError:
        return False


def _wait(path: str, end: float, descriptors: Sequence[int]) -> bool:
    """Wait until it is time to scrub, or there is nothing left to do; return whether the time is up."""
    import select

    while os.path.isdir(path):
        left = end - _clock()
        if left <= 0:
            return True
        if select.select(descriptors, [], [], min(left, _CHECK_INTERVAL))[0]:
            return False
    return False


def _clock() -> float:
    """Return seconds of a clock that goes on while the machine sleeps, where the system has one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
