"""The matcher: needles compiled once, to be found fast in output and files, broken ones too.

It looks at up to three views of the data: the bytes themselves, and what is left of them without the terminal's escape
sequences, and without overstrike, so that neither a change of colour inside a value hides it nor bold print. In each,
`occurrences` says what counts as a needle. Only the pieces of the value are replaced; line breaks and escape sequences
stay.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Collection, Iterable, Sequence
from typing import cast

from .escapes import CONTROLS, ESCAPE, Overstrike, Projection
from .needles import Needle
from .occurrences import BLANK, LOOK_BACK, Beginnings, Match, PartialMatch, SearchedNeedle, Span
from .parts import SHORTEST

# What a mask looks like: the first of these that no needle contains, is inside, or overlaps at either end.
_MARKS = (b"***", b"###", b"<masked>", "\N{BULLET}".encode() * 3)


class _Index:
    """Hyperscan's database of shards, which leads to the needles."""

    def __init__(self, texts: Collection[SearchedNeedle]) -> None:
        import hyperscan

        shards: dict[bytes, list[tuple[SearchedNeedle, int]]] = {}
        for text in texts:
            for number, (_, shard) in enumerate(text.shards):
                shards.setdefault(shard, []).append((text, number))
        self._texts = texts
        self._beginnings: Beginnings | None = None
        self._places = list(shards.items())
        self._periods = [_find_period(shard) for shard in shards]
        self._local = threading.local()
        self._database = hyperscan.Database()
        # As literals they compile faster, but those end at a NUL.
        literal = not any(b"\0" in shard for shard in shards)
        expressions = list(shards) if literal else [b"".join(b"\\x%02x" % byte for byte in shard) for shard in shards]
        self._database.compile(expressions=expressions, ids=range(len(shards)), flags=0, literal=literal)
        self._make_scratch = hyperscan.Scratch

    def search(self, view: bytes, *, final: bool, every: bool) -> tuple[list[Match], list[PartialMatch]]:
        """Return all matches and, unless `final`, what has begun: before the first shard the longest or `every` one."""
        matches: dict[Match, None] = {}
        begun: list[PartialMatch] = []
        for number, ends in self.scan(view):
            shard, places = self._places[number]
            for text, which in places:
                for end in _choose_ends(ends, len(text.data) + len(shard)):
                    found = text.locate(view, end - len(shard), which)
                    if isinstance(found, PartialMatch) and final and len(text.data) - found.size < SHORTEST:
                        found = Match(text.needle, found.spans) if found.spans else None  # but for a few bytes
                    if isinstance(found, Match):
                        matches[found] = None
                    elif found:
                        begun.append(found)
                    # Amid a long run of one pattern, all are as this one is.
                    if isinstance(found, Match) and end - ends[0] > len(text.data) + len(shard) < ends[-1] - end:
                        matches[Match(text.needle, ((found.start, ends[-1] - len(shard)),))] = None
        if final:
            return list(matches), []
        self._beginnings = self._beginnings or Beginnings(self._texts)  # a search of files does without them
        return list(matches), begun + self._beginnings.find(view, every=every)

    def scan(self, view: bytes | memoryview) -> list[tuple[int, range]]:
        """Return the shards in the view: the number of each, and where it ends; once for a run of one pattern."""
        try:
            scratch = self._local.scratch
        except AttributeError:
            scratch = self._local.scratch = self._make_scratch(self._database)  # each thread needs its own
        hits: list[list[int]] = []
        latest: dict[int, list[int]] = {}
        periods = self._periods

        def note(number: int, _start: int, end: int, _flags: int, _context: object) -> None:
            run = latest.get(number)
            if run is not None and end - run[2] == periods[number]:
                run[2] = end
            else:
                latest[number] = run = [number, end, end]
                hits.append(run)

        self._database.scan(cast("bytes", view), note, scratch=scratch)  # any buffer will do
        return [(number, range(first, last + 1, periods[number] or 1)) for number, first, last in hits]


def _find_period(shard: bytes) -> int:
    """Return after how many bytes the shard repeats itself, 0 where it does not, or holds a line break."""
    sizes = () if b"\n" in shard else range(1, len(shard) // 2 + 1)
    return next((size for size in sizes if shard[size:] == shard[:-size]), 0)


def _choose_ends(ends: range, size: int) -> Iterable[int]:
    """Return those of a run that differ: near both its ends, and one between."""
    few = size // ends.step + 2
    return ends if len(ends) <= 2 * few + 1 else (*ends[:few], ends[few], *ends[-few:])


class Matcher:
    """Needles, compiled once for any number of maskers, streams and threads.

    They are compared without the blanks at their ends; those of less than four bytes are left out. Hyperscan is loaded,
    and they are compiled, by the first search.
    """

    def __init__(self, needles: Iterable[Needle] = ()) -> None:
        self.needles = tuple(dict.fromkeys(needles))
        self._texts: dict[bytes, SearchedNeedle] = {}
        for needle in self.needles:
            forms = {needle.data, ESCAPE.sub(b"", needle.data)} if b"\x1b" in needle.data else (needle.data,)
            for data in (form.strip(BLANK) for form in forms):
                if len(data) >= SHORTEST and data not in self._texts:
                    self._texts[data] = SearchedNeedle(needle, data)
        self._lock = threading.Lock()
        self._index: _Index | None = None

    @functools.cached_property
    def mark(self) -> bytes:
        """What replaces a value: `***`, unless a needle could be made of that."""
        return next((mark for mark in _MARKS if not any(_joins(mark, data) for data in self._texts)), _MARKS[0])

    def extend(self, needles: Iterable[Needle]) -> Matcher:
        """Return a matcher of these needles and more; this very one if none of them is new."""
        wider = Matcher((*self.needles, *needles))
        return wider if len(wider.needles) > len(self.needles) else self

    def compile(self) -> None:
        """Load Hyperscan and compile the needles, unless that was done; a caller with time to spare does it early."""
        with self._lock:
            if self._index is None and self._texts:
                self._index = _Index(self._texts.values())

    @functools.cached_property
    def is_plain(self) -> bool:
        """Whether no needle holds a control character of a terminal's."""
        return not any(control in needle.data for needle in self.needles for control in CONTROLS)

    def find_hits(self, data: bytes | memoryview) -> list[int]:
        """Return where shards end; without the terminal's controls in the data, no needle is anywhere else."""
        self.compile()
        return [end for _, ends in self._index.scan(data) for end in ends] if self._index else []

    def find(self, data: bytes) -> list[Match]:
        """Return every occurrence in the data, overlapping ones too, in the order of their offsets."""
        matches, _ = self.search(data, final=True)
        return sorted(matches, key=lambda match: (match.start, match.end))

    def search(self, data: bytes, *, final: bool, every: bool = False) -> tuple[list[Match], list[PartialMatch]]:
        """Return the matches in the output and as a terminal shows it, and what its end may cut off.

        With `final` nothing more will come; `every` lists shorter beginnings beside the longest one, too.
        """
        if self._index is None:
            self.compile()
        if self._index is None or not data:
            return [], []
        matches, begun = self._index.search(data, final=final, every=every)
        layers: list[Projection] = []
        for kind in (Projection, Overstrike):
            view = layers[-1].data if layers else data
            layer = kind(view, LOOK_BACK, final=final) if kind.concerns(view, final=final) else None
            if layer and len(layer.data) < len(view):
                layers.append(layer)
                if kind is Projection:
                    leave = layers[0].leave_escape
                    begun = [one._replace(start=leave(one.start), hold=leave(one.hold)) for one in begun]
                more, begun_there = self._index.search(layers[-1].data, final=final, every=every)
                matches += [Match(match.needle, _spread(match.spans, layers)) for match in more]
                begun += [_locate(one, layers) for one in begun_there]
                end = len(layers[-1].data)
                begun.append(_locate(PartialMatch(end, end, 0), layers))
        return (list(dict.fromkeys(matches)) if layers else matches), begun


def _spread(spans: Iterable[Span], layers: Sequence[Projection]) -> tuple[Span, ...]:
    """Return where the spans of the innermost layer's data are in the output."""
    for layer in reversed(layers):
        spans = [piece for span in spans for piece in layer.spread(*span)]
    return tuple(spans)


def _locate(partial: PartialMatch, layers: Sequence[Projection]) -> PartialMatch:
    """Return where the beginning of a match in the innermost layer's data is in the output."""
    start, hold, size, spans = partial
    for layer in reversed(layers):
        start, hold = layer.locate_start(start), layer.locate_start(hold)
    return PartialMatch(start, hold, size, _spread(spans, layers))


def _joins(mark: bytes, data: bytes) -> bool:
    """Return whether a needle could be made of a mark, or a part of one, and what is next to it."""
    edges = range(1, len(mark) + 1)
    return mark in data or data in mark or any(data.startswith(mark[-n:]) or data.endswith(mark[:n]) for n in edges)
