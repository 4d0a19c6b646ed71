"""Puts back what git obeys or executes in a checkout that an isolated build can write to.

Without mounts (Landlock) a right to a directory holds for everything beneath it, so a build that may write to its
project may write to the `.git` in there. Whoever runs git there next would run the hooks, and what its settings name.
So all of it but for objects, references and the index is kept in memory while the build runs. Where we are killed
before the build's end, nothing is put back.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator

from ..core.files import read_regular, remove_tree, replace_file
from ..core.notices import Notice
from ..core.records import NamedTuple

# What is data to git, and large or changed by its every command.
_DATA = frozenset(
    """
    objects refs logs lfs annex index index.lock packed-refs HEAD FETCH_HEAD ORIG_HEAD MERGE_HEAD COMMIT_EDITMSG
    """.split()
)
_LARGEST = 1 << 20
_MOST_BYTES = 16 << 20
_MOST_ENTRIES = 20_000
_SHOWN = 5


class Entry(NamedTuple):
    """A file, directory or link, as it was: its type and mode, and the `content` of a file or link.

    For that of a file that is too large its `mark` stands (inode, size, time of change).
    """

    mode: int
    content: bytes | str | None = None
    mark: tuple[int, ...] = ()


class Safeguard:
    """What git obeys in the directories and files, as it is now."""

    def __init__(self, paths: Iterable[str]) -> None:
        """Look at it."""
        self._paths = tuple(path for path in paths if os.path.lexists(path))
        self._tops = {path: _identify(path) for path in self._paths}
        self._is_whole = True
        self._before = self._look()

    def put_back(self) -> Iterator[Notice]:
        """Put back what is another now, new or gone; say what."""
        replaced = [path for path in self._paths if _identify(path) != self._tops[path]]
        for path in replaced:
            yield Notice(f"the build replaced {path}", "let no git run there before you have restored it", "error")
        after = self._look()
        changed = sorted(path for path in {*self._before, *after} if self._before.get(path) != after.get(path))
        changed = [path for path in changed if not any(_is_at(path, top) for top in replaced)]
        failed: list[str] = []
        for path in reversed(changed):  # what is in a directory before that
            with _noting(failed, path):
                if path not in self._before or stat.S_IFMT(self._before[path].mode) != _find_type(path):
                    _remove(path)
        for path in changed:
            if path in self._before:
                with _noting(failed, path):
                    _restore(path, self._before[path])
        if restored := [path for path in changed if path not in failed]:
            text = f"the build changed what git obeys in this checkout, and it was put back: {_join(restored)}"
            yield Notice(text, "--isolate=bubblewrap lets no build write there")
        if not self._is_whole:
            text = f"{', '.join(self._paths)} contains too much to tell what the build changed of what git obeys"
            yield Notice(text, "--isolate=bubblewrap lets no build write there", "error")
        if failed:
            text = f"the build changed what git obeys in this checkout, and it could not be put back: {_join(failed)}"
            yield Notice(text, "let no git run there before you have looked at it", "error")

    def _look(self) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        left = _MOST_BYTES
        waiting = list(self._paths)
        while waiting:
            if len(found) >= _MOST_ENTRIES:
                self._is_whole = False
                break
            path = waiting.pop()
            try:
                status = os.lstat(path)
                entry = _read(path, status, min(left, _LARGEST))
                if stat.S_ISDIR(status.st_mode):
                    waiting += [os.path.join(path, name) for name in sorted(os.listdir(path)) if name not in _DATA]
            except OSError:
                continue
            left -= len(entry.content or ())
            found[path] = entry
        return found


def _read(path: str, status: os.stat_result, limit: int) -> Entry:
    mode = status.st_mode
    if stat.S_ISLNK(mode):
        return Entry(mode, os.readlink(path))
    if not stat.S_ISREG(mode):
        return Entry(mode)
    with contextlib.suppress(OSError):  # too large, or unreadable
        return Entry(mode, read_regular(path, limit, through_links=False))
    return Entry(mode, None, (status.st_ino, status.st_size, status.st_ctime_ns))


def _restore(path: str, entry: Entry) -> None:
    """Make it what it was; OSError."""
    if isinstance(entry.content, str):
        _remove(path)
        os.symlink(entry.content, path)
        return
    if stat.S_ISDIR(entry.mode):
        os.makedirs(path, exist_ok=True)
    elif entry.content is None:
        raise OSError("it was not kept")
    else:
        replace_file(path, entry.content)
    os.chmod(path, stat.S_IMODE(entry.mode))


def _remove(path: str) -> None:
    if _find_type(path) == stat.S_IFDIR:
        remove_tree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _find_type(path: str) -> int:
    with contextlib.suppress(OSError):
        return stat.S_IFMT(os.lstat(path).st_mode)
    return 0


def _identify(path: str) -> tuple[int, ...]:
    """Return what a directory keeps while its content changes; of a file, its type alone, since it is restored."""
    with contextlib.suppress(OSError):
        status = os.lstat(path)
        return (stat.S_IFMT(status.st_mode), *((status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else ()))
    return ()


def _is_at(path: str, top: str) -> bool:
    return path == top or path.startswith(f"{top}/")


@contextlib.contextmanager
def _noting(failed: list[str], path: str) -> Iterator[None]:
    try:
        yield
    except OSError:
        failed.append(path)


def _join(paths: list[str]) -> str:
    return ", ".join(paths[:_SHOWN]) + (f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else "")
