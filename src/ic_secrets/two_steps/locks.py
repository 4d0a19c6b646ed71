"""Which checkouts are in the middle of a build in two steps: a lock of each, for all users, that leaves no file.

On Linux it is a name among the abstract sockets, so that it is nobody else's lock: a pipeline may have its own on the
directory (`flock . ic-secrets pre-build …`). Elsewhere it is one on the directory all the same. It ends with the last
process that has the descriptor.
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
    """The descriptors that hold the lock, none where the system has no such thing; AlreadyExposedError, ExposureError.

    Whoever is given the descriptors holds it on.
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
    """The checkout that the directory is in and that somebody holds the lock of, and that user's id; None for none.

    Where the system cannot say who it is, nobody is found.
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
    """An abstract one: its first byte is 0. A directory has it whatever it is called, and wherever it is mounted."""
    found = os.stat(directory)
    return b"\0ic-secrets-checkout-%x-%x" % (found.st_dev, found.st_ino)


def _bind(directory: str) -> int:
    """The descriptor of a socket of that name; BlockingIOError where somebody has it. OSError."""
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
    """The descriptor of the directory, locked; None on a file system without locks. OSError."""
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
