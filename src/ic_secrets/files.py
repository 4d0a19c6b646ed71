"""Files that are private from their first byte, and trees that are removed whatever they hold."""

from __future__ import annotations

import contextlib
import os
import stat

# Names of files that hold credentials: they go before the bulk of a tree.
_FIRST = frozenset({"auth.json"})


def write_private(path: str, data: bytes, mode: int = 0o600) -> None:
    """A new file with that mode from its first byte, never through a link; OSError, and then no file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
    except OSError:
        os.unlink(path)
        raise


def replace_file(path: str, data: bytes) -> None:
    """Give the file that content at once; OSError, and then it is as it was.

    Mode and owner stay those of the file, or are what the umask makes of a new one.
    """
    partial = f"{path}.{os.urandom(6).hex()}.partial"
    write_private(partial, data)
    try:
        try:
            before = os.stat(path, follow_symlinks=False)
            if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(partial, before.st_uid, before.st_gid)
            os.chmod(partial, stat.S_IMODE(before.st_mode))
        except FileNotFoundError:
            mask = os.umask(0o077)
            os.umask(mask)
            os.chmod(partial, 0o666 & ~mask)
        os.replace(partial, path)
    except OSError:
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


def remove_tree(path: str) -> None:
    """Remove the directory and all below it, never through a link; OSError for what withstands.

    Directories that were made unwritable are made writable first. What is gone already is no error.
    """
    import shutil

    for root, directories, names in os.walk(path):
        for entry in (root, *(os.path.join(root, name) for name in directories)):
            if not os.path.islink(entry):
                with contextlib.suppress(OSError):
                    os.chmod(entry, 0o700)
        for name in _FIRST.intersection(names):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(root, name))
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)
