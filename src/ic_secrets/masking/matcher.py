"""Needles, compiled to be found fast in output and files, broken ones too.

Matching goes by two views of the data: the bytes themselves, and what is left of them without the
terminal's escape sequences (ECMA-48), so that a colour change inside a value hides nothing. In both, a
needle of eight bytes or more is also found broken over lines: a line break with the blanks around it may
stand inside (Composer's error box wraps at the terminal's width, MIME wraps base64). Only the pieces of
the value are replaced then; line breaks and escape sequences stay.

A broken value is found when one of its two first **shards** (16 bytes each, or a half of a shorter
value) is whole and, where that is the second, one break at most stands before it; so lines may be as
short as 32 bytes. Of a first piece of up to three bytes nothing is masked: to hold that back would be
to hold back the end of every other line.
"""

from __future__ import annotations

import functools
import itertools
import re
import threading
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple, cast

from .needles import Needle
from .parts import SHORTEST

# What a mask looks like: the first of these of which no needle can begin or end within, or hold all.
_MARKS = (b"***", b"###", b"<masked>", "\N{BULLET}".encode() * 3)

_SHARD = 16
_SHORTEST_BROKEN = 8
# A line break and the blanks around it: a wide terminal's padding, and no more.
_LONGEST_BREAK = 512
# How far back something can have begun of which no shard has been seen yet.
_LOOK_BACK = 2 * (_SHARD + _LONGEST_BREAK)
# How much of what ends there decides whether it can be the end of such a beginning.
_ENDING = 3
_BLANK = b" \t\r\n"
_PADDING = b" \t\r"
_INDENTATION = b" \t"

# Escape sequences are bounded, since one that never ends must not hide what follows; a string (a title, a link) that
# does not end in time is text. What may yet become another sequence with more data is `open`.
_CONTROL = rb"\[[0-?]{0,32}[ -/]{0,4}"
_STRING = rb"[\]PX^_][^\x07\x1b\r\n]{0,2048}"
_WHOLE = rb"%b[@-~]|%b(?:\x07|\x1b\\)" % (_CONTROL, _STRING)
_OPEN = rb"(?P<open>(?:%b|%b\x1b?|[ -/]{0,4})\Z)" % (_CONTROL, _STRING)
_ESCAPE = re.compile(rb"\x1b(?:%b|[ -/]{0,4}[0-~])?" % _WHOLE)
_ESCAPE_IN_STREAM = re.compile(rb"\x1b(?:%b|%b|[ -/]{0,4}[0-~])?" % (_WHOLE, _OPEN))

Span = tuple[int, int]


class Match(NamedTuple):
    """One occurrence of a needle: the spans of its pieces, in order; one span where nothing breaks it."""

    needle: Needle
    spans: tuple[Span, ...]

    @property
    def start(self) -> int:
        """The offset of its first byte."""
        return self.spans[0][0]

    @property
    def end(self) -> int:
        """The offset after its last byte."""
        return self.spans[-1][1]


class _Begun(NamedTuple):
    """What may be an occurrence cut by the end of the data: where it began, and from where it would be masked."""

    start: int
    hold: int
    is_half: bool


class _Text:
    """One needle, ready to be compared; its data neither begins nor ends with a blank."""

    __slots__ = ("data", "needle", "shards")

    def __init__(self, needle: Needle, data: bytes) -> None:
        self.needle = needle
        self.data = data
        self.shards = _cut(data)

    def locate(self, view: bytes, start: int, shard: int) -> Match | _Begun | None:
        """The occurrence whose shard of that number stands at `start`: whole, cut by the end of the view, or none."""
        offset, text = self.shards[shard]
        first = start - offset
        if first >= 0:
            if view.startswith(self.data, first):
                return Match(self.needle, ((first, first + len(self.data)),))
            seen = len(view) - first
            if seen < len(self.data) and self.data.startswith(view[first:]):
                return _Begun(first, first, 2 * seen >= len(self.data))
        if len(self.shards) == 1:
            return None
        above = self._look_back(view, start, offset)
        return above and self._look_on(view, *above, start + len(text), offset + len(text))

    def _look_back(self, view: bytes, start: int, offset: int) -> tuple[Span, int] | None:
        """The piece above the break before the shard (empty where there is none), and the start of the piece below."""
        first = start - offset
        if first >= 0 and view[first:start] == self.data[:offset]:
            return (first, first), first
        newline = view.rfind(b"\n", max(0, first - _LONGEST_BREAK), start)
        piece = view[newline + 1 : start].lstrip(_INDENTATION)
        if newline < 0 or not self.data[:offset].endswith(piece):
            return None
        head = self.data[: offset - len(piece)].rstrip(_PADDING)
        padded = view[max(0, newline - _LONGEST_BREAK - len(head)) : newline]
        above = padded.rstrip(_PADDING)
        end = newline - len(padded) + len(above)
        if not head or not above.endswith(head) or start - len(piece) - end > _LONGEST_BREAK:
            return None
        return (end - len(head), end), start - len(piece)

    def _look_on(self, view: bytes, above: Span, piece: int, position: int, seen: int) -> Match | _Begun | None:
        """The rest of the occurrence: its first `seen` bytes end at `position`, in a piece that begins at `piece`."""
        spans = [above] if above[1] - above[0] >= SHORTEST else []
        while not view.startswith(self.data[seen:], position):
            limit = position + len(self.data) - seen + _LONGEST_BREAK
            newline = view.find(b"\n", position, limit)
            line = view[position : newline if newline >= 0 else limit]
            end = position + len(line.rstrip(_PADDING))
            if end == piece or not self.data.startswith(line.rstrip(_PADDING), seen):
                return None
            if newline < 0 and position + len(line) < len(view):
                return None
            seen += end - position
            spans.append((piece, end))
            position = _skip_blanks(view, newline + 1) if newline >= 0 else len(view)
            if position - end > _LONGEST_BREAK:
                return None
            if position == len(view):
                hold = spans[0][0]
                return _Begun(above[0] if above[0] < above[1] else hold, hold, 2 * seen >= len(self.data))
            seen = _skip_blanks(self.data, seen)
            piece = position
        return Match(self.needle, (*spans, (piece, position + len(self.data) - seen)))


def _cut(data: bytes) -> tuple[tuple[int, bytes], ...]:
    """The shards of a needle with their offsets: two of one that is also found broken, one of any other."""
    size = min(len(data) // 2, _SHARD)
    first, rest = data[:size].rstrip(_PADDING), data[size : 2 * size]
    second = rest.strip(_PADDING)
    if len(data) < _SHORTEST_BROKEN or min(len(first), len(second)) < SHORTEST or b"\n" in data or b"\r" in data:
        return ((0, data[:_SHARD]),)
    return ((0, first), (size + rest.index(second), second))


def _skip_blanks(text: bytes, position: int) -> int:
    run = text[position : position + _LONGEST_BREAK]
    return position + len(run) - len(run.lstrip(_INDENTATION))


class _Index:
    """What finds shards fast (Hyperscan), and through them needles."""

    def __init__(self, texts: Collection[_Text]) -> None:
        import hyperscan

        shards: dict[bytes, list[tuple[_Text, int]]] = {}
        for text in texts:
            for number, (_, shard) in enumerate(text.shards):
                shards.setdefault(shard, []).append((text, number))
        self._texts = texts
        self._beginnings: _Beginnings | None = None
        self._places = list(shards.items())
        self._local = threading.local()
        self._database = hyperscan.Database()
        # As literals they compile faster, but those end at a NUL.
        literal = not any(b"\0" in shard for shard in shards)
        expressions = list(shards) if literal else [b"".join(b"\\x%02x" % byte for byte in shard) for shard in shards]
        self._database.compile(expressions=expressions, ids=range(len(shards)), flags=0, literal=literal)
        self._make_scratch = hyperscan.Scratch

    def survey(self, view: bytes, *, final: bool, every: bool) -> tuple[list[Match], list[_Begun]]:
        """All matches and, if not `final`, what has begun: of those with no shard yet the longest or `every` one."""
        matches: dict[Match, None] = {}
        begun: list[_Begun] = []
        for number, end in self.scan(view):
            shard, places = self._places[number]
            for text, which in places:
                found = text.locate(view, end - len(shard), which)
                if isinstance(found, Match):
                    matches[found] = None
                elif found:
                    begun.append(found)
        if final:
            return list(matches), []
        self._beginnings = self._beginnings or _Beginnings(self._texts)  # what searches files has no use for them
        return list(matches), begun + self._beginnings.find(view, every=every)

    def scan(self, view: bytes | memoryview) -> list[tuple[int, int]]:
        """The shards in the view: the number of each, and where it ends."""
        try:
            scratch = self._local.scratch
        except AttributeError:
            scratch = self._local.scratch = self._make_scratch(self._database)  # each thread needs its own
        hits: list[tuple[int, int]] = []

        def note(number: int, _start: int, end: int, _flags: int, _context: object) -> None:
            hits.append((number, end))

        self._database.scan(cast("bytes", view), note, scratch=scratch)  # any buffer will do
        return hits


class _Beginnings:
    """What finds needles of which the data ends before the first shard."""

    def __init__(self, texts: Iterable[_Text]) -> None:
        # The beginnings of needles without their blanks, up to where a shard must have been seen: short ones with the
        # least length of their needles, long ones by their first bytes.
        self._stubs: dict[bytes, int] = {}
        self._heads: dict[bytes, dict[bytes, int]] = {}
        self._openings: dict[bytes, int] = {}
        # How any of the long ones can end; nothing else needs a second look.
        self._endings: set[bytes] = set()
        for text in texts:
            self._learn(text.data)

    def _learn(self, data: bytes) -> None:
        opening = data[: min(_SHARD, len(data)) - 1]
        if b"\n" in opening:
            for size in range(1, len(opening) + 1):
                _lower(self._openings, opening[:size], len(data))
        head = data[: min(2 * _SHARD, len(data)) - 1].translate(None, _BLANK)
        for size in range(1, min(SHORTEST, len(head) + 1)):
            _lower(self._stubs, head[:size], len(data))
        heads = self._heads.setdefault(head[:SHORTEST], {})
        if head not in heads:
            self._endings.update([head[size - _ENDING : size] for size in range(SHORTEST, len(head) + 1)])
        _lower(heads, head, len(data))

    def find(self, view: bytes, *, every: bool) -> list[_Begun]:
        """What has begun at the end of the view: the longest or `every` one."""
        stubs = self._look_for_stubs(view)
        begun = list(stubs) if every else list(itertools.islice(stubs, 1))
        return begun + list(self._look_for_openings(view)) if self._openings else begun

    def _look_for_stubs(self, view: bytes) -> Iterator[_Begun]:
        """The ends of the view, blanks aside, that begin a needle, longest first."""
        seen = view[-_LOOK_BACK:].translate(None, _BLANK)[1 - 2 * _SHARD :]
        if seen[-_ENDING:] in self._endings:
            for start in range(len(seen) - SHORTEST + 1):
                for head, length in self._heads.get(seen[start : start + SHORTEST], {}).items():
                    if head.startswith(seen[start:]):
                        yield _begun_stub(view, len(seen) - start, length)
        for start in range(max(0, len(seen) - SHORTEST + 1), len(seen)):
            if seen[start:] in self._stubs:
                yield _begun_stub(view, len(seen) - start, self._stubs[seen[start:]])

    def _look_for_openings(self, view: bytes) -> Iterator[_Begun]:
        """The ends of the view that begin a needle of several lines, which is found unbroken only."""
        for size in range(min(_SHARD - 1, len(view)), 0, -1):
            least = self._openings.get(view[-size:])
            if least:
                yield _Begun(len(view) - size, len(view) - size, 2 * size >= least)


def _lower(lengths: dict[bytes, int], key: bytes, length: int) -> None:
    lengths[key] = min(length, lengths.get(key, length))


def _begun_stub(view: bytes, size: int, length: int) -> _Begun:
    """What the last `size` bytes of the view, blanks aside, are of a needle of that length."""
    start = len(view)
    left = size
    while left:
        start -= 1
        left -= view[start] not in _BLANK
    newline = view.find(b"\n", start)
    is_piece = newline >= 0 and len(view[start:newline].rstrip(_PADDING)) < SHORTEST
    hold = _skip_blanks(view, newline + 1) if is_piece else start
    return _Begun(start, hold, hold < len(view) and 2 * size >= length)


class _Projection:
    """Output without its escape sequences, and the way back from there."""

    def __init__(self, data: bytes, *, final: bool) -> None:
        # No sequence holds a line break, so a line's beginning is a safe place to begin reading.
        read = [] if final else list(_ESCAPE_IN_STREAM.finditer(data, data.rfind(b"\n") + 1))
        self.end = read[-1].start() if read and read[-1].lastgroup else len(data)
        self._output = data[: self.end]
        self.data = _ESCAPE.sub(b"", self._output)
        # Nearly always only the end has to be found in the output.
        self._tabulate(self.end if final else self._output.rfind(b"\n", 0, max(0, self.end - _LOOK_BACK)) + 1)

    def _tabulate(self, start: int) -> None:
        """Note where the sequences from `start` on are, and where the runs of text between begin, there and here."""
        self._escapes = [found.span() for found in _ESCAPE.finditer(self._output, start)]
        self._there = [start, *(end for _, end in self._escapes)]
        ends = [*(begin for begin, _ in self._escapes), self.end]
        lengths = [end - begin for begin, end in zip(self._there, ends, strict=True)]
        self._here = list(itertools.accumulate(lengths[:-1], initial=len(self.data) - sum(lengths)))

    def locate(self, position: int) -> int:
        """The offset in the output of the byte at that position here."""
        if position >= len(self.data):
            return self.end
        if position < self._here[0]:
            self._tabulate(0)
        run = bisect_right(self._here, position) - 1
        return self._there[run] + position - self._here[run]

    def spread(self, match: Match) -> Match:
        """The match in the output: a span more for each sequence inside."""
        spans = []
        for start, end in match.spans:
            self.locate(start)
            cuts = [start, *self._here[bisect_right(self._here, start) : bisect_right(self._here, end - 1)], end]
            spans += [(self.locate(a), self.locate(b - 1) + 1) for a, b in itertools.pairwise(cuts) if a < b]
        return Match(match.needle, tuple(spans))

    def leave_escape(self, offset: int) -> int:
        """The offset, or the start of the sequence that it is inside of."""
        if offset < self._there[0]:
            self._tabulate(0)
        number = bisect_right(self._escapes, (offset, self.end)) - 1
        if number >= 0 and offset < self._escapes[number][1]:
            return self._escapes[number][0]
        return min(offset, self.end)


class Matcher:
    """Needles compiled for the search, once for any number of maskers, streams and threads.

    Needles are compared without the blanks at their ends; those of less than four bytes are left out.
    Hyperscan is loaded, and the needles are compiled, at the first search.
    """

    def __init__(self, needles: Iterable[Needle] = ()) -> None:
        self.needles = tuple(dict.fromkeys(needles))
        self._texts: dict[bytes, _Text] = {}
        for needle in self.needles:
            forms = {needle.data, _ESCAPE.sub(b"", needle.data)} if b"\x1b" in needle.data else (needle.data,)
            for data in (form.strip(_BLANK) for form in forms):
                if len(data) >= SHORTEST and data not in self._texts:
                    self._texts[data] = _Text(needle, data)
        self._lock = threading.Lock()
        self._index: _Index | None = None

    @functools.cached_property
    def mark(self) -> bytes:
        """What stands for a value that was masked."""
        return next((mark for mark in _MARKS if not any(_joins(mark, data) for data in self._texts)), _MARKS[0])

    def extended(self, needles: Iterable[Needle]) -> Matcher:
        """These needles and more; the very same matcher where none of them is new."""
        wider = Matcher((*self.needles, *needles))
        return wider if len(wider.needles) > len(self.needles) else self

    def compile(self) -> None:
        """Load Hyperscan and compile, unless that has been done; whoever has time to spare calls this first."""
        with self._lock:
            if self._index is None and self._texts:
                self._index = _Index(self._texts.values())

    @functools.cached_property
    def is_plain(self) -> bool:
        """Whether no needle holds an escape sequence."""
        return not any(b"\x1b" in needle.data for needle in self.needles)

    def spot(self, data: bytes | memoryview) -> list[int]:
        """Where something ends that may be of a needle: without escape sequences, no needle lies elsewhere."""
        self.compile()
        return [end for _, end in self._index.scan(data)] if self._index else []

    def find(self, data: bytes) -> list[Match]:
        """Every occurrence in the data, overlapping ones too, in the order of their offsets."""
        matches, _ = self.survey(data, final=True)
        return sorted(matches, key=lambda match: (match.start, match.end))

    def survey(self, data: bytes, *, final: bool, every: bool = False) -> tuple[list[Match], list[_Begun]]:
        """What `_Index.survey` finds in the output and in its projection, in offsets of the output."""
        if self._index is None:
            self.compile()
        if self._index is None or not data:
            return [], []
        matches, begun = self._index.survey(data, final=final, every=every)
        if b"\x1b" not in data:
            return matches, begun
        projection = _Projection(data, final=final)
        leave, locate = projection.leave_escape, projection.locate
        more, begun_there = self._index.survey(projection.data, final=final, every=every)
        held = [_Begun(leave(one.start), leave(one.hold), one.is_half) for one in begun]
        held += [_Begun(locate(one.start), locate(one.hold), one.is_half) for one in begun_there]
        held.append(_Begun(projection.end, projection.end, is_half=False))
        return list(dict.fromkeys([*matches, *map(projection.spread, more)])), held


def _joins(mark: bytes, data: bytes) -> bool:
    """Whether the needle could be made of a mark, or a part of one, and what stands beside it."""
    edges = range(1, len(mark) + 1)
    return mark in data or data in mark or any(data.startswith(mark[-n:]) or data.endswith(mark[:n]) for n in edges)
