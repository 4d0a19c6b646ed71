"""What a build left behind: the search of files for every value in all its clothes.

By default only what changed since the build began is read, so that a build that changed nothing costs
a walk and no reading. Nothing is followed through links, and nothing but regular files is opened. A
finding names file, line, secret and encoding, never the value: a part of a path that holds one is
shown as `***`.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from itertools import accumulate

from .archives import ArchiveError, Member, MemberError, is_archive, open_members
from .findings import PROLOGUE, Finding, Names, Places, SearchResult
from .patterns import Match, Patterns
from .walk import Entry, Kind, Place, Walk

__all__ = ["Finding", "Place", "SearchResult", "hide_values", "search"]

HIDDEN = "***"
_ARCHIVE = "an archive, not searched inside"

# Small files are searched together, so many bytes at a time: a search of its own for each would cost more than reading.
_BATCH = 1 << 20
_SMALL = 128 << 10
# Between two of them. No needle holds this byte, and no escape sequence goes on after it.
_BORDER = b"\xff\n"
# Larger files are read in windows; each overlaps the next by more than the longest needle with line breaks inside.
_WINDOW = 2 << 20
_LEAST_OVERLAP = 64 << 10
# A file that grows while it is read is read so far beyond the size that it had.
_GROWTH = 64 << 20
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def search(
    places: Iterable[Place],
    patterns: Patterns,
    *,
    since: int | None = None,
    deep: bool = False,
    skip: Collection[str] = (),
    hidden: Patterns | None = None,
) -> SearchResult:
    """Search the trees; a directory that several hold is walked once. The findings are in the order of their paths.

    `since` leaves out what has not changed from that time on (ns since the epoch); `deep` looks into
    archives; `skip` names directories that are not walked; `hidden` is what no path may show, where that
    is more than what is searched for. OSError is never raised: what cannot be read is in `unsearched`.
    """
    result = SearchResult()
    walk = Walk(since, skip)
    reader = _Reader(result, patterns, deep=deep)
    for entry in walk.list_due(places):
        reader.take(entry)
    reader.flush()
    for path, reason in walk.left_out:
        result.unsearched.append((path, reason))
    for path, error in (*walk.failed, *reader.failed):
        result.unsearched.append((path, error.strerror or "unreadable"))
        result.failures += 1
    _hide_paths(result, hidden or patterns)
    result.findings.sort(key=lambda finding: (finding.path, finding.member or "", finding.offset, finding.name))
    result.unsearched.sort()
    return result


def hide_values(path: str, patterns: Patterns) -> str:
    """The path, with `***` for each of its parts that a value lies in."""
    data = path.encode(errors="surrogateescape")
    spans = [(match.start, match.end) for match in patterns.find(data)]
    if not spans:
        return path
    parts, start = [], 0
    for part in data.split(b"/"):
        end = start + len(part)
        is_told = any(first < end and start < last for first, last in spans)
        parts.append(HIDDEN if is_told else part.decode(errors="surrogateescape"))
        start = end + 1
    return "/".join(parts)


def _hide_paths(result: SearchResult, patterns: Patterns) -> None:
    result.findings = [
        replace(
            finding,
            path=hide_values(finding.path, patterns),
            member=finding.member and hide_values(finding.member, patterns),
        )
        for finding in result.findings
    ]
    result.unsearched = [(hide_values(path, patterns), reason) for path, reason in result.unsearched]


class _Reader:
    """Reads what the walk lists, and searches it batch by batch."""

    def __init__(self, result: SearchResult, patterns: Patterns, *, deep: bool) -> None:
        self.failed: list[tuple[str, OSError]] = []
        self._result = result
        self._patterns = patterns
        self._deep = deep
        self._overlap = max(_LEAST_OVERLAP, *(4 * len(needle.data) for needle in patterns.needles), 0)
        # No colour stands inside of a value in a binary file: looking for that there would double the work.
        self._ignores_colour = not any(b"\x1b" in needle.data for needle in patterns.needles)
        self._names = Names(patterns.needles)
        self._pieces: list[bytes] = []
        self._sources: list[tuple[str, str]] = []
        self._size = 0

    def take(self, entry: Entry) -> None:
        """Search the entry's name, and what it holds."""
        self._add(entry.path, "name", os.fsencode(entry.name))
        try:
            if entry.kind is Kind.FILE:
                self._take_file(entry.path)
            elif entry.kind is Kind.LINK:
                self._add(entry.path, "link", os.fsencode(os.readlink(entry.path)))
        except FileNotFoundError:
            return
        except OSError as error:
            self.failed.append((entry.path, error))

    def flush(self) -> None:
        """Search what has been gathered."""
        pieces, sources = self._pieces, self._sources
        self._pieces, self._sources, self._size = [], [], 0
        matches = self._patterns.find(_BORDER.join(pieces))
        if not matches:
            return
        starts = list(accumulate((len(piece) + len(_BORDER) for piece in pieces), initial=0))
        found: dict[int, list[Match]] = {}
        for match in matches:
            found.setdefault(bisect_right(starts, match.start) - 1, []).append(match)
        for number, group in found.items():
            path, where = sources[number]
            places = Places(self._names, path, where)
            places.take(pieces[number], group, starts[number])
            self._result.findings += places.findings

    def _add(self, path: str, where: str, data: bytes) -> None:
        self._sources.append((path, where))
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= _BATCH:
            self.flush()

    def _take_file(self, path: str) -> None:
        descriptor = os.open(path, _FLAGS)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                return
            data = os.read(descriptor, min(found.st_size, _SMALL) + 1)
            self._result.files += 1
            archive = is_archive(path, data)
            if archive and self._deep:
                self._take_archive(path, descriptor, data, found.st_size)
                return
            if len(data) == found.st_size:
                self._result.size += len(data)
                self._add(path, "content", self._without_colour(data))
            else:
                self._search_content(path, descriptor, data, found.st_size, self._result.findings)
            if archive:
                self._result.unsearched.append((path, _ARCHIVE))
        finally:
            os.close(descriptor)

    def _search_content(self, path: str, descriptor: int, start: bytes, size: int, found: list[Finding]) -> None:
        """Search a file of which the start was read, window by window."""
        total = len(start)
        self._result.size += total

        def read(wanted: int) -> bytes:
            nonlocal total
            if total > size + _GROWTH:
                self._result.unsearched.append((path, "it grows while it is read"))
                return b""
            data = os.read(descriptor, wanted)
            total += len(data)
            self._result.size += len(data)
            return data

        self._search_windows(Places(self._names, path), start, read, found)

    def _search_windows(self, places: Places, start: bytes, read: Callable[[int], bytes], found: list[Finding]) -> None:
        """Add the findings, also those before a place that cannot be read."""
        try:
            for data, owned in _windows(start, read, self._overlap):
                places.take(data, self._patterns.find(self._without_colour(data)), 0, owned)
        finally:
            found += places.findings

    def _without_colour(self, data: bytes) -> bytes:
        """The data; a binary one without its escape characters, whose place NUL takes."""
        if self._ignores_colour and b"\x1b" in data and b"\0" in data[:PROLOGUE]:
            return data.replace(b"\x1b", b"\0")
        return data

    def _take_archive(self, path: str, descriptor: int, start: bytes, size: int) -> None:
        """Search an archive as it is, and inside; what lies in a member is not also reported as it is."""
        outside: list[Finding] = []
        inside: list[Finding] = []
        self._search_content(path, descriptor, start, size, outside)
        try:
            with open(descriptor, "rb", closefd=False) as file:
                for member in open_members(file, path):
                    self._take_member(path, member, inside)
        except ArchiveError as error:
            self._result.unsearched.append((path, str(error)))
        named = {finding.name for finding in inside}
        self._result.findings += inside + [finding for finding in outside if finding.name not in named]

    def _take_member(self, path: str, member: Member, found: list[Finding]) -> None:
        for where, text in (("name", member.name), ("link", member.target)):
            places = Places(self._names, path, where, member.name)
            data = text.encode(errors="surrogateescape")
            places.take(data, self._patterns.find(data))
            found += places.findings
        try:
            start = member.read(_SMALL)
            if is_archive(member.name, start):
                self._result.unsearched.append((f"{path}!{member.name}", "an archive inside of an archive"))
            self._search_windows(Places(self._names, path, "content", member.name), start, member.read, found)
        except MemberError as error:
            self._result.unsearched.append((f"{path}!{member.name}", str(error)))


def _windows(start: bytes, read: Callable[[int], bytes], overlap: int) -> Iterator[tuple[bytes, int]]:
    """Windows of the data, and how many bytes of each are not in the next one as well."""
    data = start
    while more := read(_WINDOW):
        if len(data) > overlap:
            owned = len(data) - overlap
            yield data, owned
            data = data[owned:]
        data += more
    yield data, len(data)
