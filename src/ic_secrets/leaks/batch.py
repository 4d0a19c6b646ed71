"""Short files and names, searched many at a time: a search of its own for each would cost more than reading it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from ..masking.matcher import Matcher
from .findings import PROLOGUE

# Path, `where` and member of a `Finding`.
Source = tuple[str, str, str | None]

# It stays in a processor's cache between the reading and the search.
_SIZE = 512 << 10
# What is as long as this is no piece.
LONG = 256 << 10


class Batch:
    """Pieces of data in one buffer that is read into again and again: fresh memory would cost more than the search.

    `search` is called for each piece that may hold a needle, at once or when the batch is flushed.
    """

    def __init__(self, matcher: Matcher, search: Callable[[Source, bytes], None]) -> None:
        self._matcher = matcher
        self._search = search
        self._buffer = bytearray(_SIZE)
        self._view = memoryview(self._buffer)
        self._sources: list[Source] = []
        self._ends: list[int] = []
        self._end = 0

    def make_room(self, size: int) -> memoryview:
        """Where the next piece of up to so many bytes can be written, at the most `LONG`."""
        if self._end + size > _SIZE:
            self.flush()
        return self._view[self._end : self._end + size]

    def take(self, source: Source, size: int) -> None:
        """Take the piece that has been written into the room, of that size."""
        start, end = self._end, self._end + size
        if self._buffer.find(b"\x1b", start, end) >= 0 and not self._ignores_colour(start, end):
            self._search(source, bytes(self._view[start:end]))
            return
        self._sources.append(source)
        self._ends.append(end)
        self._end = end

    def flush(self) -> None:
        """Search what has been taken."""
        if not self._sources:
            return  # where nothing has changed, nothing has to be compiled
        hits = self._matcher.find_hits(self._view[: self._end])
        for number in sorted({bisect_left(self._ends, hit) for hit in hits}):
            start = self._ends[number - 1] if number else 0
            self._search(self._sources[number], bytes(self._view[start : self._ends[number]]))
        self._sources, self._ends, self._end = [], [], 0

    def _ignores_colour(self, start: int, end: int) -> bool:
        """Whether the piece is binary, and so no colour stands inside of a value there."""
        is_binary = self._buffer.find(b"\0", start, min(end, start + PROLOGUE)) >= 0
        return is_binary and self._matcher.is_plain
