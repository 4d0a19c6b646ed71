"""When a build began, by each of the clocks that stamp its files.

A file system stamps a change with its own clock: that of a server may be minutes behind ours, some count whole seconds,
and the kernel's lags by a tick. So each is asked what time it is, with a file that is gone at once. The wall clock may
also be set back while the build runs, which the time since the machine was started tells.
"""

import contextlib
import errno
import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

from .records import NamedTuple

# By how much the kernel's stamps lag behind our clock, at the most, and the coarsest stamps there are, in ns.
_LAG = 50_000_000
_COARSE = 2_000_000_000
_SECOND = 1_000_000_000
_UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL})


class Since(NamedTuple):
    """A moment: by our clock and since the machine was started, in ns, and by the clocks of file systems.

    `clocks` are pairs of a device and a moment.
    """

    moment: int
    uptime: int = 0
    clocks: tuple[tuple[int, int], ...] = ()

    @classmethod
    def now(cls, directories: Iterable[str]) -> "Since":
        """Return this moment, by the clocks of the file systems that the directories are on too, where they tell."""
        moment, uptime = time.time_ns() - _LAG, _read_uptime()
        clocks: dict[int, int] = {}
        for directory in directories:
            with contextlib.suppress(OSError):
                device = os.stat(directory).st_dev
                if device not in clocks:
                    clocks[device] = _ask(directory)
        return cls(moment, uptime, tuple(clocks.items()))

    @classmethod
    def from_json(cls, fields: Sequence[Any]) -> "Since":
        """Return what JSON has made a list of; ValueError, TypeError."""
        moment, uptime, clocks = fields
        return cls(moment, uptime, tuple((device, stamp) for device, stamp in clocks))

    def settle(self) -> "Since":
        """Return it as the clocks say now: earlier, if our clock was set back meanwhile."""
        if not self.uptime:
            return self
        back = max(0, self.moment + (_read_uptime() - self.uptime) - time.time_ns())
        return Since(self.moment - back, 0, tuple((device, moment - back) for device, moment in self.clocks))

    def covers(self, device: int, stamp: int) -> bool:
        """Return whether what was stamped so (ns) on the device may have changed at this moment or after it."""
        start = self.moment
        for one, moment in self.clocks:
            if one == device:
                start = moment
        return stamp >= start or (stamp % _SECOND == 0 and stamp + _COARSE > start)


def _read_uptime() -> int:
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _ask(directory: str) -> int:
    """Return the time by the clock of the directory's file system; OSError."""
    descriptor = _open_nameless(directory)
    if descriptor is None:
        path = os.path.join(directory, f".ic-secrets-{os.urandom(6).hex()}")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.unlink(path)
    try:
        return os.fstat(descriptor).st_ctime_ns
    finally:
        os.close(descriptor)


def read_clock(directory: str) -> int | None:
    """Return the time by the clock of the directory's file system, in ns; None where it takes a named file to know.

    OSError where nothing can be made there.
    """
    descriptor = _open_nameless(directory)
    if descriptor is None:
        return None
    try:
        return os.fstat(descriptor).st_ctime_ns
    finally:
        os.close(descriptor)


def _open_nameless(directory: str) -> int | None:
    """Open a new file without a name; None where the file system has no such files."""
    try:
        return os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except AttributeError:
        return None
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return None
        raise
