"""Occurrences of needles in a view of the data: whole ones, broken ones, and those that its end cuts off. Pure.

A needle of eight bytes or more is also found broken over lines: a line break with the blanks around it may be inside
(Composer's error box wraps at the terminal's width, MIME wraps base64). A broken needle is found if one of its two
first **shards** (16 bytes each, or the halves of a shorter needle) is whole and, if that is the second one, at most one
break comes before it; so lines may be as short as 32 bytes. A first piece of up to three bytes is not masked: holding
that back would mean holding back the end of every other line.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .needles import Needle
from .parts import SHORTEST

_SHARD = 16
_SHORTEST_BROKEN = 8
# A line break and the blanks around it: the padding of a wide terminal, and no more.
_LONGEST_BREAK = 512
# How far back something can have begun of which no shard has been seen yet.
LOOK_BACK = 2 * (_SHARD + _LONGEST_BREAK)
# How many bytes at the end decide whether they can be the end of such a beginning.
_ENDING = 3
BLANK = b" \t\r\n"
_PADDING = b" \t\r"
_INDENTATION = b" \t"

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


class PartialMatch(NamedTuple):
    """What may be an occurrence that the end of the data cuts off: where it begins, and from where it is masked."""

    start: int
    hold: int
    is_half: bool


class SearchedNeedle:
    """One needle, ready to be compared; its data neither begins nor ends with a blank."""

    __slots__ = ("data", "needle", "shards")

    def __init__(self, needle: Needle, data: bytes) -> None:
        self.needle = needle
        self.data = data
        self.shards = _cut(data)

    def locate(self, view: bytes, start: int, shard: int) -> Match | PartialMatch | None:
        """Return the occurrence whose shard of that number is at `start`: whole, or cut off by the end of the view."""
        offset, text = self.shards[shard]
        first = start - offset
        if first >= 0:
            if view.startswith(self.data, first):
                return Match(self.needle, ((first, first + len(self.data)),))
            seen = len(view) - first
            if seen < len(self.data) and self.data.startswith(view[first:]):
                return PartialMatch(first, first, 2 * seen >= len(self.data))
        if len(self.shards) == 1:
            return None
        above = self._look_back(view, start, offset)
        return above and self._look_on(view, *above, start + len(text), offset + len(text))

    def _look_back(self, view: bytes, start: int, offset: int) -> tuple[Span, int] | None:
        """Return the piece above the break before the shard, empty without a break, and the start of the one below."""
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

    def _look_on(self, view: bytes, above: Span, piece: int, position: int, seen: int) -> Match | PartialMatch | None:
        """Return the occurrence whose first `seen` bytes end at `position`, in a piece that begins at `piece`."""
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
                return PartialMatch(above[0] if above[0] < above[1] else hold, hold, 2 * seen >= len(self.data))
            seen = _skip_blanks(self.data, seen)
            piece = position
        return Match(self.needle, (*spans, (piece, position + len(self.data) - seen)))


def _cut(data: bytes) -> tuple[tuple[int, bytes], ...]:
    """Return the shards of a needle with their offsets: two if it is also found broken, else one."""
    size = min(len(data) // 2, _SHARD)
    first, rest = data[:size].rstrip(_PADDING), data[size : 2 * size]
    second = rest.strip(_PADDING)
    if len(data) < _SHORTEST_BROKEN or min(len(first), len(second)) < SHORTEST or b"\n" in data or b"\r" in data:
        return ((0, data[:_SHARD]),)
    return ((0, first), (size + rest.index(second), second))


def _skip_blanks(text: bytes, position: int) -> int:
    run = text[position : position + _LONGEST_BREAK]
    return position + len(run) - len(run.lstrip(_INDENTATION))


class Beginnings:
    """The beginnings of needles, for data that ends before their first shard."""

    def __init__(self, needles: Iterable[SearchedNeedle]) -> None:
        # The beginnings of needles without their blanks, up to where a shard must have been seen: short ones with the
        # least length of their needles, long ones by their first bytes.
        self._stubs: dict[bytes, int] = {}
        self._heads: dict[bytes, dict[bytes, int]] = {}
        self._openings: dict[bytes, int] = {}
        # How the long ones can end; nothing else needs a second look.
        self._endings: set[bytes] = set()
        for needle in needles:
            self._learn(needle.data)

    def _learn(self, data: bytes) -> None:
        opening = data[: min(_SHARD, len(data)) - 1]
        if b"\n" in opening:
            for size in range(1, len(opening) + 1):
                _lower(self._openings, opening[:size], len(data))
        head = data[: min(2 * _SHARD, len(data)) - 1].translate(None, BLANK)
        for size in range(1, min(SHORTEST, len(head) + 1)):
            _lower(self._stubs, head[:size], len(data))
        heads = self._heads.setdefault(head[:SHORTEST], {})
        if head not in heads:
            self._endings.update([head[size - _ENDING : size] for size in range(SHORTEST, len(head) + 1)])
        _lower(heads, head, len(data))

    def find(self, view: bytes, *, every: bool) -> list[PartialMatch]:
        """Return what begins at the end of the view: the longest or `every` one."""
        stubs = self._look_for_stubs(view)
        begun = list(stubs) if every else list(itertools.islice(stubs, 1))
        return begun + list(self._look_for_openings(view)) if self._openings else begun

    def _look_for_stubs(self, view: bytes) -> Iterator[PartialMatch]:
        """Yield the ends of the view, blanks aside, that begin a needle, longest first."""
        seen = view[-LOOK_BACK:].translate(None, BLANK)[1 - 2 * _SHARD :]
        if seen[-_ENDING:] in self._endings:
            for start in range(len(seen) - SHORTEST + 1):
                for head, length in self._heads.get(seen[start : start + SHORTEST], {}).items():
                    if head.startswith(seen[start:]):
                        yield _make_partial(view, len(seen) - start, length)
        for start in range(max(0, len(seen) - SHORTEST + 1), len(seen)):
            if seen[start:] in self._stubs:
                yield _make_partial(view, len(seen) - start, self._stubs[seen[start:]])

    def _look_for_openings(self, view: bytes) -> Iterator[PartialMatch]:
        """Yield the ends of the view that begin a needle of several lines, which is only found unbroken."""
        for size in range(min(_SHARD - 1, len(view)), 0, -1):
            least = self._openings.get(view[-size:])
            if least:
                yield PartialMatch(len(view) - size, len(view) - size, 2 * size >= least)


def _lower(lengths: dict[bytes, int], key: bytes, length: int) -> None:
    lengths[key] = min(length, lengths.get(key, length))


def _make_partial(view: bytes, size: int, length: int) -> PartialMatch:
    """Return what the last `size` bytes of the view, blanks aside, are of a needle of that length."""
    start = len(view)
    left = size
    while left:
        start -= 1
        left -= view[start] not in BLANK
    newline = view.find(b"\n", start)
    is_piece = newline >= 0 and len(view[start:newline].rstrip(_PADDING)) < SHORTEST
    hold = _skip_blanks(view, newline + 1) if is_piece else start
    return PartialMatch(start, hold, hold < len(view) and 2 * size >= length)
