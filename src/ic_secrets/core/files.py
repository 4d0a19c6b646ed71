"""Write files that are private from their first byte, and remove trees whatever they contain."""

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

# Files that hold credentials are removed before the rest of a tree.
_FIRST = frozenset({"auth.json"})
# The kernel takes no path of more than 4,095 bytes, and a name has up to 255.
_LONGEST = 2_000
_DEEPEST = 100


def write_private(path: str, data: bytes, mode: int = 0o600) -> None:
    """Write a new file with that mode from its first byte, never through a link; OSError leaves no file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)  # whatever the umask
        with open(descriptor, "wb") as file:
            file.write(data)
    except OSError:
        os.unlink(path)
        raise


def replace_file(path: str, data: bytes) -> None:
    """Replace the file's content at once; OSError leaves it as it was.

    An existing file keeps its mode and owner; a new one gets those of the umask.
    """
    with replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: str, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Replace the file at the end of the block with what is written inside; after an error it is as it was.

    An existing file keeps its mode and owner; a new one gets `mode` less the umask.
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
    """Return whether it is a directory of ours that nobody else can enter."""
    try:
        found = os.stat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def is_real_directory(path: str) -> bool:
    """Return whether a directory is there itself, and not a link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def is_below(path: str, directory: str) -> bool:
    """Return whether the path is the directory or below it, links followed; nothing is below the root itself."""
    path, directory = os.path.realpath(path), os.path.realpath(directory)
    return os.path.commonpath([path, directory]) == directory != os.path.sep


def find_upward(directory: str, names: Collection[str]) -> list[str]:
    """Return those of the names that exist in the nearest directory that has one: this one or one above.

    A file above must belong to us, to root, or to the owner of the directory where we are: what others put into /tmp is
    ignored.
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


def read_regular(path: str, limit: int, *, through_links: bool = True) -> bytes | None:
    """Return the bytes of the file, None where it is not a regular file (or a link to one); OSError.

    Every file that somebody else may have made is read by this: a pipe that nobody writes to is not waited for, an
    endless device not read, and a file of more than `limit` bytes is an OSError (EFBIG).
    """
    return (read_with_status(path, limit, through_links=through_links) or (None,))[0]


def read_with_status(path: str, limit: int, *, through_links: bool = True) -> tuple[bytes, os.stat_result] | None:
    """Return the same with the status of the very file that was read."""
    data = None
    with _opened_regular(path, through_links=through_links) as file:
        if file:
            data = file.read(limit + 1) or b"", os.fstat(file.fileno())
    if data and len(data[0]) > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
    return data


def read_start(path: str, size: int) -> bytes | None:
    """Return the first bytes of the file, at most `size`, None where it is not a regular file; OSError."""
    with _opened_regular(path) as file:
        return file.read(size) if file else None


@contextlib.contextmanager
def _opened_regular(path: str, *, through_links: bool = True) -> Iterator[BinaryIO | None]:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if through_links else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        yield None
        return
    with open(descriptor, "rb") as file:
        yield file


def remove_tree(path: str) -> None:
    """Remove the directory and everything below it, but nothing through a link or in what is mounted there.

    Unwritable directories are made writable first. Everything that can be removed is, before OSError names the first
    path that cannot. What is gone already is not an error.
    """
    removal = _Removal(os.path.realpath(os.path.dirname(path)) + "/" + os.path.basename(path))
    removal.remove(removal.root)
    if removal.failed:
        raise removal.failed[0]


def remove_directory(path: str, descriptor: int | None) -> None:
    """Remove what is at the path, and the descriptor's directory wherever it was moved to; OSError."""
    remove_tree(path)
    if descriptor is not None:
        remove_moved(descriptor)


def remove_moved(descriptor: int) -> None:
    """Remove the directory that the descriptor is of, wherever it is now; OSError."""
    if os.fstat(descriptor).st_nlink:
        with contextlib.suppress(FileNotFoundError):  # the system does not give its name, or it has none
            place = os.readlink(f"/proc/self/fd/{descriptor}")
            if os.path.samestat(os.lstat(place), os.fstat(descriptor)):
                remove_tree(place)


def remove_all_but(path: str, kept: str) -> None:
    """Remove everything in the directory except the file `kept`, as `remove_tree` does; OSError."""
    failed: list[OSError] = []
    for name in sorted(os.listdir(path), key=lambda name: name not in _FIRST):
        if name != kept:
            try:
                remove_tree(os.path.join(path, name))
            except OSError as error:
                failed.append(error)
    if failed:
        raise failed[0]


class _Removal:
    """One tree that is removed, however deep it is: `failed` is what withstands."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.failed: list[OSError] = []
        self._mounts = list_mounts(root)
        self._moved: list[str] = []

    def remove(self, path: str) -> None:
        try:
            found = os.lstat(path)
            if not stat.S_ISDIR(found.st_mode):
                os.unlink(path)
                return
            if path in self._mounts:
                raise OSError(errno.EBUSY, "something is mounted there", path)
            if found.st_mode & 0o700 != 0o700:
                os.chmod(path, 0o700)
            if self._is_deep(path):
                self._move_up(path)
                return
            for name in sorted(os.listdir(path), key=lambda name: name not in _FIRST):
                self.remove(os.path.join(path, name))
            while path == self.root and self._moved:
                self.remove(self._moved.pop())
            os.rmdir(path)
        except FileNotFoundError:
            return
        except OSError as error:
            error.filename = path
            self.failed.append(error)

    def _is_deep(self, path: str) -> bool:
        """Return whether what is below might have too long a path, or be too deep to go down to step by step."""
        below = path[len(self.root) :]
        return len(below) > _LONGEST or below.count("/") > _DEEPEST

    def _move_up(self, path: str) -> None:
        """Move the directory to the top of the tree, where its turn comes; the mounts in it move, too."""
        moved = os.path.join(self.root, os.urandom(8).hex())
        os.rename(path, moved)
        self._moved.append(moved)
        self._mounts = list_mounts(self.root)
