"""Files that are private from their first byte, and trees that are removed whatever they hold."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from .linux import list_mounts

if TYPE_CHECKING:
    from typing import BinaryIO

# Names of files that hold credentials: they go before the bulk of a tree.
_FIRST = frozenset({"auth.json"})


def write_private(path: str, data: bytes, mode: int = 0o600) -> None:
    """A new file with that mode from its first byte, never through a link; OSError, and then no file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)  # whatever the umask
        with open(descriptor, "wb") as file:
            file.write(data)
    except OSError:
        os.unlink(path)
        raise


def replace_file(path: str, data: bytes) -> None:
    """Give the file that content at once; OSError, and then it is as it was.

    Mode and owner stay those of the file, or are what the umask makes of a new one.
    """
    with replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: str, mode: int = 0o666) -> Iterator[BinaryIO]:
    """What is written inside takes the file's place at the end, as with `replace_file`; after an error nothing does.

    Mode and owner stay those of the file; a new one has that mode, less what the umask takes.
    """
    partial = f"{path}.{os.urandom(6).hex()}.partial"
    write_private(partial, b"")
    try:
        with open(partial, "wb") as file:
            yield file
        try:
            before = os.stat(path, follow_symlinks=False)
            if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(partial, before.st_uid, before.st_gid)
            os.chmod(partial, stat.S_IMODE(before.st_mode))
        except FileNotFoundError:
            mask = os.umask(0o077)
            os.umask(mask)
            os.chmod(partial, mode & ~mask)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def is_private_directory(path: str) -> bool:
    """Whether it is a directory of ours that nobody else can enter."""
    try:
        found = os.stat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def is_below(path: str, directory: str) -> bool:
    """Whether the path is the directory or lies below it, links followed; nothing is below the root itself."""
    path, directory = os.path.realpath(path), os.path.realpath(directory)
    return os.path.commonpath([path, directory]) == directory != os.path.sep


def find_upward(directory: str, names: Collection[str]) -> list[str]:
    """Those of the names that are there, in the nearest directory that has one: this one or one above.

    What somebody else put into a directory above, such as /tmp, is passed over: it is ours, root's, or of whoever
    owns the directory where we are.
    """
    start = directory = os.path.abspath(directory)
    while True:
        found = [path for name in names if _is_trusted(path := os.path.join(directory, name), start)]
        parent = os.path.dirname(directory)
        if found or parent == directory:
            return found
        directory = parent


def _is_trusted(path: str, start: str) -> bool:
    try:
        owner = os.lstat(path).st_uid
        return owner in {0, os.geteuid()} or path.startswith(f"{start}/") or owner == os.stat(start).st_uid
    except OSError:
        return False


def read_regular(path: str, limit: int) -> bytes | None:
    """The file's bytes, at most `limit` of them; None where there is no regular file (nor a link to one).

    A pipe that nobody writes to, or a device without an end, is not waited for. OSError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with open(descriptor, "rb") as file:
        return file.read(limit) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


def remove_tree(path: str) -> None:
    """Remove the directory and all below it, never through a link or into what is mounted there.

    Directories that were made unwritable are made writable first. All that can be removed is, before
    OSError names the first path that withstands. What is gone already is no error.
    """
    failed: list[OSError] = []
    _remove(os.path.realpath(os.path.dirname(path)) + "/" + os.path.basename(path), list_mounts(path), failed)
    if failed:
        raise failed[0]


def remove_directory(path: str, descriptor: int | None) -> None:
    """Remove what is at the path, and the directory that the descriptor is of, wherever it was moved to; OSError."""
    remove_tree(path)
    if descriptor is not None and os.fstat(descriptor).st_nlink:
        with contextlib.suppress(FileNotFoundError):  # the system does not tell its name, or it has none
            place = os.readlink(f"/proc/self/fd/{descriptor}")
            if os.path.samestat(os.lstat(place), os.fstat(descriptor)):
                remove_tree(place)


def remove_all_but(path: str, kept: str) -> None:
    """Remove all that is in the directory but the file `kept`, as `remove_tree` does; OSError."""
    failed: list[OSError] = []
    for name in sorted(os.listdir(path), key=lambda name: name not in _FIRST):
        if name != kept:
            try:
                remove_tree(os.path.join(path, name))
            except OSError as error:
                failed.append(error)
    if failed:
        raise failed[0]


def _remove(path: str, mounts: Collection[str], failed: list[OSError]) -> None:
    try:
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode):
            os.unlink(path)
            return
        if path in mounts:
            raise OSError(errno.EBUSY, "something is mounted there", path)
        if found.st_mode & 0o700 != 0o700:
            os.chmod(path, 0o700)
        for name in sorted(os.listdir(path), key=lambda name: name not in _FIRST):
            _remove(os.path.join(path, name), mounts, failed)
        os.rmdir(path)
    except FileNotFoundError:
        return
    except OSError as error:
        error.filename = path
        failed.append(error)
