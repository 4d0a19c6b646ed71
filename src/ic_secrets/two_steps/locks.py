"""Locks of checkouts that are in the middle of a build in two steps: seen by all users, and without a file.

On Linux the lock is the name of an abstract socket, so that it cannot be mistaken for another lock: a pipeline may hold
its own on the directory (`flock . ic-secrets pre-build …`). Elsewhere it is a lock on the directory. It is free when
the last process that has the descriptor ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import sys
from collections.abc import Iterator, Sequence

from ..errors import AlreadyExposedError, ExposureError


@contextlib.contextmanager
def locked_checkout(checkout: str) -> Iterator[Sequence[int]]:
    """Lock the checkout; the descriptors hold the lock in any process that they are passed to.

    There are none where the file system has no locks. AlreadyExposedError, ExposureError.
    """
    taken = AlreadyExposedError(f"{checkout} has the secrets of another pre-build")
    try:
        descriptor = _bind(checkout) if sys.platform == "linux" else _lock(checkout)
    except (BlockingIOError, FileExistsError):
        raise taken from None
    except OSError as error:
        raise ExposureError(f"{checkout} cannot be locked: {error.strerror}") from None
    try:
        yield () if descriptor is None else (descriptor,)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def find_holder(directory: str) -> tuple[str, int] | None:
    """Find the locked checkout that the directory is in, and the id of the user who holds the lock.

    None where there is none, or where the system does not know whose lock it is.
    """
    import socket

    place = os.path.realpath(directory)
    while sys.platform == "linux":
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.settimeout(1)
            asking.connect(_name(place))
            size = struct.calcsize("3i")
            _, user, _ = struct.unpack("3i", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
            return place, user
        if place == os.path.dirname(place):
            break
        place = os.path.dirname(place)
    return None


def _name(directory: str) -> bytes:
    """Return an abstract name, whose first byte is 0: the same by whatever path the directory is reached."""
    found = os.stat(directory)
    return b"\0ic-secrets-checkout-%x-%x" % (found.st_dev, found.st_ino)


def _bind(directory: str) -> int:
    """Return the descriptor of a socket of that name; BlockingIOError where somebody has it. OSError."""
    import errno
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        try:
            lock.bind(_name(directory))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise BlockingIOError(error.errno, os.strerror(error.errno)) from None
            raise
        lock.listen(16)
        return lock.detach()


def _lock(directory: str) -> int | None:
    """Return the descriptor of the directory, locked; None on a file system without locks. OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
