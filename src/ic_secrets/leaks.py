"""What a build left behind: the search of files for every value in all its clothes.

By default only what changed since the build began is read, so that a build that changed nothing costs
a walk and no reading. Nothing is followed through links. A finding names file, line, secret and
encoding, never the value.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from .archives import ArchiveError, is_archive, open_members
from .patterns import Match, Patterns

# Larger files are read in windows, which overlap by more than the longest needle, line breaks included.
_WINDOW = 8 << 20
_OVERLAP = 256 << 10
# Where NUL stands this early, it is no text, and has offsets instead of lines.
_PROLOGUE = 8192


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where a value lies. `line` counts from 1, None where there are no lines; `offset` is in bytes.

    `member` is the file's name inside of an archive. `where` is `content`, `name` (of the file) or
    `link` (its target).
    """

    path: str
    line: int | None
    offset: int
    name: str
    encoding: str
    where: str = "content"
    member: str | None = None

    @property
    def place(self) -> str:
        """`FILE:LINE`, `FILE@OFFSET`, with the member of an archive behind `!`."""
        path = f"{self.path}!{self.member}" if self.member else self.path
        if self.where != "content":
            return f"{path} ({self.where})"
        return f"{path}:{self.line}" if self.line is not None else f"{path}@{self.offset}"


@dataclass(slots=True)
class SearchResult:
    """What a search found, and what it did not look at: paths and why."""

    findings: list[Finding] = field(default_factory=list)
    unsearched: list[tuple[str, str]] = field(default_factory=list)
    files: int = 0
    size: int = 0

    def without(self, allowed: Collection[str], base: str) -> SearchResult:
        """The result less the findings that are allowed, by a secret's name or a glob of the path (below `base`)."""

        def is_allowed(finding: Finding) -> bool:
            paths = (finding.path, os.path.relpath(finding.path, base))
            return any(
                pattern == finding.name or any(fnmatch.fnmatchcase(path, pattern) for path in paths)
                for pattern in allowed
            )

        kept = [finding for finding in self.findings if not is_allowed(finding)]
        return SearchResult(kept, self.unsearched, self.files, self.size)


@dataclass(frozen=True, slots=True)
class Place:
    """A tree to search. `most` limits the entries that are walked; `own` passes over what others own."""

    path: str
    most: int | None = None
    own: bool = False


def search(
    places: Iterable[Place],
    patterns: Patterns,
    *,
    since: int | None = None,
    deep: bool = False,
    skip: Collection[str] = (),
) -> SearchResult:
    """Search the trees; a directory that several hold is walked once.

    `since` leaves out what has not changed from that time on (ns since the epoch); `deep` looks into
    archives; `skip` names directories that are not walked. OSError is never raised: what cannot be read
    is in `unsearched`.
    """
    result = SearchResult()
    walk = _Walk(result, since, {os.path.realpath(path) for path in skip})
    for place in places:
        for path, found in walk.list_changed(place):
            _search_name(result, patterns, path)
            if stat.S_ISLNK(found.st_mode):
                _search_link(result, patterns, path)
            elif stat.S_ISREG(found.st_mode):
                _search_file(result, patterns, path, deep=deep)
    return result


class _Walk:
    """Which entries are to be searched; each directory once."""

    def __init__(self, result: SearchResult, since: int | None, skip: Collection[str]) -> None:
        self._result = result
        self._since = since
        self._skip = skip
        self._seen: set[tuple[int, int]] = set()

    def list_changed(self, place: Place) -> Iterator[tuple[str, os.stat_result]]:
        """The files and links of the tree, and the tree itself where it is a file."""
        try:
            root = os.stat(place.path)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                self._result.unsearched.append((place.path, error.strerror or "unreadable"))
            return
        if not stat.S_ISDIR(root.st_mode):
            yield place.path, root
            return
        count = 0
        stack = [place.path]
        while stack:
            directory = stack.pop()
            for entry, found in self._list(directory):
                count += 1
                if stat.S_ISDIR(found.st_mode):
                    stack.append(entry)
                elif self._is_due(found, place):
                    yield entry, found
            if place.most is not None and count > place.most:
                self._result.unsearched.append((place.path, f"more than {place.most:,} entries"))
                return

    def _list(self, directory: str) -> Iterator[tuple[str, os.stat_result]]:
        try:
            found = os.stat(directory)
            if (found.st_dev, found.st_ino) in self._seen or os.path.realpath(directory) in self._skip:
                return
            self._seen.add((found.st_dev, found.st_ino))
            with os.scandir(directory) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        yield entry.path, entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError as error:
            self._result.unsearched.append((directory, error.strerror or "unreadable"))

    def _is_due(self, found: os.stat_result, place: Place) -> bool:
        if place.own and found.st_uid != os.geteuid():
            return False
        return self._since is None or found.st_ctime_ns >= self._since


def _search_name(result: SearchResult, patterns: Patterns, path: str) -> None:
    for match in patterns.find(os.fsencode(os.path.basename(path))):
        result.findings.append(Finding(path, None, 0, match.needle.name, match.needle.encoding, "name"))
        return


def _search_link(result: SearchResult, patterns: Patterns, path: str) -> None:
    with contextlib.suppress(OSError):
        for match in patterns.find(os.fsencode(os.readlink(path))):
            result.findings.append(Finding(path, None, 0, match.needle.name, match.needle.encoding, "link"))
            return


def _search_file(result: SearchResult, patterns: Patterns, path: str, *, deep: bool) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb", buffering=0) as file:
            start = file.read(_WINDOW)
            result.files += 1
            for finding in _search_windows(_windows(start, file.read), patterns, path):
                result.findings.append(finding)
            result.size += file.tell()
        if is_archive(path, start[:_PROLOGUE]):
            if deep:
                _search_members(result, patterns, path)
            else:
                result.unsearched.append((path, "an archive, not searched inside"))
    except FileNotFoundError:
        return
    except OSError as error:
        result.unsearched.append((path, error.strerror or "unreadable"))


def _search_members(result: SearchResult, patterns: Patterns, path: str) -> None:
    try:
        for member, read in open_members(path):
            for match in patterns.find(member.encode(errors="surrogateescape"))[:1]:
                result.findings.append(
                    Finding(path, None, 0, match.needle.name, match.needle.encoding, "name of a member")
                )
                member = "***"  # a name that holds a value is not to be shown
            start = read(_WINDOW)
            result.findings += _search_windows(_windows(start, read), patterns, path, member)
            if is_archive(member, start[:_PROLOGUE]):
                result.unsearched.append((f"{path}!{member}", "an archive inside of an archive"))
    except ArchiveError as error:
        result.unsearched.append((path, str(error)))


def _windows(start: bytes, read: Callable[[int], bytes]) -> Iterator[tuple[int, bytes]]:
    """Windows of the data with their offsets; each begins with the end of the one before."""
    offset, window = 0, start
    while True:
        yield offset, window
        if len(window) < _OVERLAP:
            return
        more = read(_WINDOW)
        if not more:
            return
        kept = window[-_OVERLAP:]
        offset += len(window) - len(kept)
        window = kept + more


def _search_windows(
    windows: Iterator[tuple[int, bytes]], patterns: Patterns, path: str, member: str | None = None
) -> Iterator[Finding]:
    seen: set[tuple[int, str]] = set()
    lines_before, counted = 0, 0
    is_text = True
    for offset, data in windows:
        if offset == 0:
            is_text = b"\0" not in data[:_PROLOGUE]
        for match in _plainest(patterns.find(data)):
            position = offset + match.start
            if (position, match.needle.name) in seen:
                continue
            seen.add((position, match.needle.name))
            line = None
            if is_text:
                lines_before += data.count(b"\n", max(0, counted - offset), match.start)
                counted = position
                line = lines_before + 1
            yield Finding(path, line, position, match.needle.name, match.needle.encoding, member=member)
        if is_text:
            end = offset + max(0, len(data) - _OVERLAP)
            lines_before += data.count(b"\n", max(0, counted - offset), max(0, end - offset)) if end > counted else 0
            counted = max(counted, end)


def _plainest(matches: Iterable[Match]) -> Iterator[Match]:
    """Of the overlapping occurrences of one secret only the one that covers most."""
    ends: dict[str, int] = {}
    for match in sorted(matches, key=lambda item: (item.start, -item.end)):
        if match.end > ends.get(match.needle.name, 0):
            if match.start >= ends.get(match.needle.name, 0):
                yield match
            ends[match.needle.name] = match.end
