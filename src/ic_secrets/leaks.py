"""What a build left behind: the search of files for every value in all its clothes.

By default only what changed since the build began is read, so that a build that changed nothing costs
a walk and no reading. Nothing is followed through links, and nothing but regular files is opened. A
finding names file, line, secret and encoding, never the value: a part of a path that holds one is
shown as `***`.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from .archives import ArchiveError, MemberError, is_archive, open_members
from .needles import Needle
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
# Where NUL stands this early, it is no text, and has offsets instead of lines.
_PROLOGUE = 8192

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where a value lies. `line` counts from 1, None where there are no lines; `offset` is in bytes.

    Forms of one secret that overlap, stand in one line or go on from line to line are one finding, with
    the plainest encoding of them. `member` is the file's name inside of an archive. `where` is
    `content`, `name` (of the file) or `link` (its target).
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
    """What a search found, and what it did not look at: paths and why.

    `failures` counts those of the `unsearched` that could not be read, unlike those that were left out.
    """

    findings: list[Finding] = field(default_factory=list)
    unsearched: list[tuple[str, str]] = field(default_factory=list)
    files: int = 0
    size: int = 0
    failures: int = 0

    def without(self, allowed: Collection[str], base: str) -> SearchResult:
        """The result less the findings that are allowed, by a secret's name or a glob of the path (below `base`)."""

        def is_allowed(finding: Finding) -> bool:
            paths = (finding.path, os.path.relpath(finding.path, base))
            return any(
                pattern == finding.name or any(fnmatch.fnmatchcase(path, pattern) for path in paths)
                for pattern in allowed
            )

        kept = [finding for finding in self.findings if not is_allowed(finding)]
        return SearchResult(kept, self.unsearched, self.files, self.size, self.failures)


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
    data = os.fsencode(path)
    spans = [(match.start, match.end) for match in patterns.find(data)]
    if not spans:
        return path
    parts, start = [], 0
    for part in data.split(b"/"):
        end = start + len(part)
        is_told = any(first < end and start < last for first, last in spans)
        parts.append(HIDDEN if is_told else os.fsdecode(part))
        start = end + 1
    return "/".join(parts)


def _hide_paths(result: SearchResult, patterns: Patterns) -> None:
    from dataclasses import replace

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
        self._names = _Names(patterns.needles)
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
            places = _Places(self._names, path, where)
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
                self._result.findings += self._search_content(path, descriptor, data, found.st_size)
            if archive:
                self._result.unsearched.append((path, _ARCHIVE))
        finally:
            os.close(descriptor)

    def _search_content(self, path: str, descriptor: int, start: bytes, size: int) -> list[Finding]:
        """The findings in a file of which the start was read, window by window."""
        most = size + _GROWTH
        total = len(start)
        self._result.size += len(start)

        def read(wanted: int) -> bytes:
            nonlocal total
            if total > most:
                self._result.unsearched.append((path, "it grows while it is read"))
                return b""
            data = os.read(descriptor, wanted)
            total += len(data)
            self._result.size += len(data)
            return data

        return self._search_windows(path, None, start, read)

    def _search_windows(
        self, path: str, member: str | None, start: bytes, read: Callable[[int], bytes]
    ) -> list[Finding]:
        places = _Places(self._names, path, "content", member)
        for data, owned in _windows(start, read, self._overlap):
            places.take(data, self._patterns.find(self._without_colour(data)), 0, owned)
        return places.findings

    def _without_colour(self, data: bytes) -> bytes:
        """The data; a binary one without its escape characters, whose place NUL takes."""
        if self._ignores_colour and b"\x1b" in data and b"\0" in data[:_PROLOGUE]:
            return data.replace(b"\x1b", b"\0")
        return data

    def _take_archive(self, path: str, descriptor: int, start: bytes, size: int) -> None:
        """Search an archive as it is, and inside; what lies in a member is not also reported as it is."""
        outside = self._search_content(path, descriptor, start, size)
        inside: list[Finding] = []
        try:
            with open(descriptor, "rb", closefd=False) as file:
                for member in open_members(file, path):
                    self._take_member(path, member.name, member.target, member.read, inside)
        except ArchiveError as error:
            self._result.unsearched.append((path, str(error)))
        named = {finding.name for finding in inside}
        self._result.findings += inside + [finding for finding in outside if finding.name not in named]

    def _take_member(
        self, path: str, name: str, target: str, read: Callable[[int], bytes], inside: list[Finding]
    ) -> None:
        for where, text in (("name", name), ("link", target)):
            places = _Places(self._names, path, where, name)
            data = text.encode(errors="surrogateescape")
            places.take(data, self._patterns.find(data))
            inside += places.findings
        try:
            start = read(_SMALL)
            inside += self._search_windows(path, name, start, read)
            if is_archive(name, start):
                self._result.unsearched.append((f"{path}!{name}", "an archive inside of an archive"))
        except MemberError as error:
            self._result.unsearched.append((f"{path}!{name}", str(error)))


class _Names:
    """Which secrets a needle tells of, the plainest encoding first."""

    def __init__(self, needles: Collection[Needle]) -> None:
        self._rank = {needle: rank for rank, needle in enumerate(needles)}
        self._same: dict[bytes, list[Needle]] = {}
        for needle in needles:
            self._same.setdefault(needle.data.strip(), []).append(needle)

    def list_needles(self, needle: Needle) -> list[Needle]:
        """The needle, and those of other secrets that are the same bytes."""
        return self._same[needle.data.strip()]

    def plainer(self, one: Needle, other: Needle) -> Needle:
        """The one of two that stands first."""
        return one if self._rank[one] <= self._rank[other] else other


@dataclass(slots=True)
class _Group:
    """Occurrences of one secret that are one finding; `end` and `last` are where, and in which line, it ends."""

    line: int | None
    offset: int
    needle: Needle
    end: int
    last: int | None


class _Places:
    """Occurrences in one content, name or link on their way to findings, window by window."""

    def __init__(self, names: _Names, path: str, where: str, member: str | None = None) -> None:
        self._names = names
        self._path = path
        self._where = where
        self._member = member
        self._groups: list[_Group] = []
        self._latest: dict[str, _Group] = {}
        self._offset = 0  # of the window
        self._has_lines: bool | None = None
        self._line, self._counted = 1, 0

    def take(self, data: bytes, matches: Iterable[Match], start: int = 0, owned: int | None = None) -> None:
        """Take the matches in the window, their offsets less `start`; what begins after `owned` bytes, the next has."""
        if self._has_lines is None:
            self._has_lines = self._where == "content" and b"\0" not in data[:_PROLOGUE]
        owned = len(data) if owned is None else owned
        for match in matches:
            first = match.start - start
            if first < owned:
                self._add(match, self._offset + first, self._offset + match.end - start, self._count(data, first))
        self._count(data, owned)
        self._offset += owned

    @property
    def findings(self) -> list[Finding]:
        """A finding for each group."""
        return [
            Finding(
                self._path,
                group.line,
                group.offset,
                group.needle.name,
                group.needle.encoding,
                self._where,
                self._member,
            )
            for group in self._groups
        ]

    def _count(self, data: bytes, position: int) -> int | None:
        """The line of that position in the window; positions only go forward."""
        if not self._has_lines:
            return None
        self._line += data.count(b"\n", self._counted - self._offset, position)
        self._counted = max(self._counted, self._offset + position)
        return self._line

    def _add(self, match: Match, offset: int, end: int, line: int | None) -> None:
        for needle in self._names.list_needles(match.needle):
            group = self._latest.get(needle.name)
            if group and (offset < group.end or self._where != "content" or _goes_on(group, needle, line)):
                group.needle = self._names.plainer(group.needle, needle)
                group.end = max(group.end, end)
                group.last = line
                continue
            group = _Group(line, offset, needle, end, line)
            self._latest[needle.name] = group
            self._groups.append(group)


def _goes_on(group: _Group, needle: Needle, line: int | None) -> bool:
    """Whether an occurrence in that line is one finding with the group: in the same line, or the value's next one."""
    if line is None or group.last is None:
        return False
    return line == group.last or (line == group.last + 1 and group.needle.encoding == needle.encoding == "line")


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
