"""What is hidden from a build though it is in a directory that it sees."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator

from .outline import is_within

# A directory with more entries is not looked at for what belongs to a hidden file.
_MOST_ENTRIES = 1_000
_FILE = stat.S_IROTH
_DIRECTORY = stat.S_IROTH | stat.S_IXOTH


def find_unreadable(directories: Iterable[str]) -> list[str]:
    """Return the files and directories in there that others than their owners may not read."""
    found = []
    waiting = [path for path in directories if os.path.isdir(path)]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    continue
                mode = entry.stat(follow_symlinks=False).st_mode
                is_directory = stat.S_ISDIR(mode)
                needed = _DIRECTORY if is_directory else _FILE
                if mode & needed != needed:
                    found.append(entry.path)
                elif is_directory:
                    waiting.append(entry.path)
    return found


def find_concealed(concealed: Iterable[str], sees: Callable[[str], bool], kept: Collection[str] = ()) -> list[str]:
    """Return what has to be hidden of the concealed real paths: those that exist and are seen, and what is beside them.

    Beside a file is what a database or an editor makes of its name, such as `store.db-wal` or `key~`. A directory in
    which everything is hidden is hidden itself, but for those that are `kept`: a new file that replaces an old one
    would be seen.
    """
    found: dict[str, None] = {}
    for path in concealed:
        if sees(path) and os.path.lexists(path):
            found |= dict.fromkeys([path] if os.path.isdir(path) else _list_beside(path))
    for directory in {os.path.dirname(path) for path in found}:
        entries = _list(directory)
        if directory not in kept and entries and all(os.path.join(directory, name) in found for name in entries):
            found = {path: None for path in found if not is_within(path, directory)}
            found[directory] = None
    return list(found)


def expand(path: str, hidden: Collection[str]) -> Iterator[str]:
    """Yield paths that together are the one that is given, without those that are hidden and without links."""
    if path in hidden:
        return
    if not any(is_within(each, path) for each in hidden):
        yield path
        return
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        for entry in entries:
            if not entry.is_symlink():
                yield from expand(entry.path, hidden)


def _list_beside(path: str) -> list[str]:
    directory, base = os.path.split(path)
    beside = [name for name in _list(directory) if name.startswith(base) and name[len(base) : len(base) + 1] in "-.~"]
    return [path, *(os.path.join(directory, name) for name in beside if name != base)]


def _list(directory: str) -> list[str]:
    with contextlib.suppress(OSError):
        names = os.listdir(directory)
        return names if len(names) <= _MOST_ENTRIES else []
    return []
