"""Findings: where a value is, and how the occurrences of needles are grouped into them."""

import fnmatch
import os
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from ..core.records import NamedTuple
from ..masking.needles import Needle

if TYPE_CHECKING:  # no matcher is loaded if nothing has to be searched
    from ..masking.occurrences import Match

# A NUL this early means that the data is not text, and has offsets instead of lines.
PROLOGUE = 8192
# A database has put this much between two pieces of a value, at the most, in bytes.
_NEXT_PIECE = 8192


class Finding(NamedTuple):
    """One place where a value is. `line` counts from 1, and is None if there are no lines; `offset` is in bytes.

    Forms of one secret that overlap, are in one line or continue from line to line are one finding, with their plainest
    encoding. `member` is the name of the file inside an archive. `where` is `content`, `name` (of the file) or `link`
    (its target).
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
        """`FILE:LINE` or `FILE@OFFSET`; the member of an archive follows a `!`."""
        path = f"{self.path}!{self.member}" if self.member else self.path
        if self.where != "content":
            return f"{path} ({self.where})"
        return f"{path}:{self.line}" if self.line is not None else f"{path}@{self.offset}"


class SearchResult:
    """What a search found, and the paths that it did not search, each with the reason.

    `files` and `size` (in bytes) are what was read; `failures` counts those of the `unsearched` that could not be read,
    rather than were left out. `missed` are those that a build may well have written to.
    """

    def __init__(
        self,
        findings: Iterable[Finding] = (),
        unsearched: Iterable[tuple[str, str]] = (),
        files: int = 0,
        size: int = 0,
        failures: int = 0,
        missed: Iterable[tuple[str, str]] = (),
    ) -> None:
        self.findings = list(findings)
        self.unsearched = list(unsearched)
        self.files = files
        self.size = size
        self.failures = failures
        self.missed = list(missed)

    def without(self, allowed: Collection[str], base: str) -> "SearchResult":
        """Return the result without what is allowed: by a secret's name, or a glob of the path in `base`.

        A glob that begins with `./` is never a name.
        """

        def matches(path: str) -> bool:
            inside = os.path.relpath(path, base)
            paths = (path, inside, f"./{inside}")
            return any(fnmatch.fnmatchcase(each, pattern) for each in paths for pattern in allowed)

        kept = [finding for finding in self.findings if finding.name not in allowed and not matches(finding.path)]
        missed = [(path, reason) for path, reason in self.missed if not matches(path)]
        return SearchResult(kept, self.unsearched, self.files, self.size, self.failures, missed)


class Names:
    """The secrets that needles give away, in the order of the needles: the plainest encoding first."""

    def __init__(self, needles: Collection[Needle]) -> None:
        self._rank = {needle: rank for rank, needle in enumerate(needles)}
        self._same: dict[bytes, list[Needle]] = {}
        for needle in needles:
            self._same.setdefault(needle.data.strip(), []).append(needle)

    def list_needles(self, needle: Needle) -> list[Needle]:
        """Return the needle, and those of other secrets that are the same bytes."""
        return self._same[needle.data.strip()]

    def choose_plainer(self, one: Needle, other: Needle) -> Needle:
        """Return the one of two that comes first."""
        return one if self._rank[one] <= self._rank[other] else other


class _Group:
    """Occurrences of one secret that are one finding; `end` is the offset and `last` the line of its end."""

    __slots__ = ("end", "last", "line", "needle", "offset")

    def __init__(self, line: int | None, offset: int, needle: Needle, end: int) -> None:
        self.line = self.last = line
        self.offset = offset
        self.needle = needle
        self.end = end


class Places:
    """The occurrences in one content, name or link, window by window, and the findings that they become."""

    def __init__(self, names: Names, path: str, where: str = "content", member: str | None = None) -> None:
        self._names = names
        self._path = path
        self._where = where
        self._member = member
        self._groups: list[_Group] = []
        self._latest: dict[str, _Group] = {}
        self._offset = 0  # of the window
        self._has_lines: bool | None = None
        self._line, self._counted = 1, 0

    def add(self, data: bytes, matches: "Iterable[Match]", start: int = 0, owned: int | None = None) -> None:
        """Add the matches in the window, their offsets less `start`, but for those that begin after `owned` bytes."""
        if self._has_lines is None:
            self._has_lines = self._where == "content" and b"\0" not in data[:PROLOGUE]
        owned = len(data) if owned is None else owned
        for match in matches:
            first = match.start - start
            if first < owned:
                self._group(match, self._offset + first, self._offset + match.end - start, self._count(data, first))
        if owned < len(data):
            self._count(data, owned)
        self._offset += owned

    @property
    def findings(self) -> list[Finding]:
        """One finding for each group."""
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
        """Return the line of that position in the window; positions only go forward."""
        if not self._has_lines:
            return None
        self._line += data.count(b"\n", self._counted - self._offset, position)
        self._counted = max(self._counted, self._offset + position)
        return self._line

    def _group(self, match: "Match", offset: int, end: int, line: int | None) -> None:
        for needle in self._names.list_needles(match.needle):
            group = self._latest.get(needle.name)
            is_same = group and (offset < group.end or self._where != "content" or _continues(group, needle, line))
            if group and (is_same or _is_next_piece(group, needle, offset)):
                group.needle = self._names.choose_plainer(group.needle, needle)
                group.end = max(group.end, end)
                group.last = line
                continue
            group = _Group(line, offset, needle, end)
            self._latest[needle.name] = group
            self._groups.append(group)


def _is_next_piece(group: _Group, needle: Needle, offset: int) -> bool:
    """Return whether it is a further piece of the value that the group is a piece of."""
    return group.needle.encoding == needle.encoding == "piece" and offset - group.end < _NEXT_PIECE


def _continues(group: _Group, needle: Needle, line: int | None) -> bool:
    """Return whether an occurrence in that line continues the group: in its last line, or as the value's next line."""
    if line is None or group.last is None:
        return False
    return line == group.last or (line == group.last + 1 and group.needle.encoding == needle.encoding == "line")
