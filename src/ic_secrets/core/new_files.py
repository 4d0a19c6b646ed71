"""Make files that are private from their first byte, and that exist whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator

from .files import write_private

# Whoever can read the directory can lock it, so a lock is waited for no longer than this, in seconds.
_PATIENCE = 30.0


@contextlib.contextmanager
def new_file(path: str) -> Iterator[str]:
    """Yield the name of an empty file, 0600, that becomes `path` on disk when the block succeeds.

    Missing directories are made, 0700. FileExistsError where `path` exists in any form: it is never overwritten. When
    the block raises, no file is left. A process killed within it leaves `PATH.new` at most, which nothing reads and
    the next call removes; one call works in a directory at a time.
    """
    path = os.path.abspath(path)
    directory = os.path.dirname(path)
    make_private_directory(directory)
    with locked_directory(directory) as lock:
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        temporary = path + ".new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        try:
            yield temporary
            flush(temporary)
            os.link(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        os.fsync(lock)


@contextlib.contextmanager
def locked_directory(path: str) -> Iterator[int]:
    """Lock the directory and yield its descriptor; hold it briefly, since `new_file` waits as well. OSError."""
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    until = time.monotonic() + _PATIENCE
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise OSError(errno.EBUSY, "another process keeps its directory locked", path) from None
            time.sleep(0.01)
        yield lock
    finally:
        os.close(lock)


def replace_private(path: str, data: bytes) -> None:
    """Replace the file at `path` with a new one, 0600, on disk when this returns; OSError leaves it as it was.

    For one caller at a time. A process killed within it leaves `PATH.new` at most, which nothing reads and the next
    call removes.
    """
    partial = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(partial)
    write_private(partial, data)
    try:
        flush(partial)
        os.replace(partial, path)
        flush(os.path.dirname(os.path.abspath(path)))
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        raise


def make_private_directory(path: str) -> None:
    """Make the directory and its missing parents, 0700 each; existing ones stay as they are."""
    if os.path.isdir(path):
        return
    make_private_directory(os.path.dirname(path))
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)


def flush(path: str) -> None:
    """Flush a file's content, or a directory's names, to the disk; OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
