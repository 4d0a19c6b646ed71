"""Occurrences of needles in a view of the data: whole ones, broken ones, and those that its end cuts off. Pure.

A needle of eight bytes or more is also found broken over lines: a line break with the blanks around it may be inside
(Composer's error box wraps at the terminal's width, MIME wraps base64), a backslash, an equals sign or a table's border
before it, and up to 64 bytes of a prefix after it (` ! `, `[build] `, a time). A broken needle is found if one of its
two first **shards** (16 bytes each, or the halves of a shorter needle) is whole and, if that is the second one, at most
one break comes before it; so lines may be as short as 32 bytes. A needle of several lines is found by its first line,
and each of its own line breaks may be any of these. A first piece of up to three bytes is not masked: holding that back
would mean holding back the end of every other line. Of an indented value, `encodings` has such first lines.
"""

import itertools
import re
from collections.abc import Iterable, Iterator

from ..core.records import NamedTuple
from .encodings import INDENTED
from .needles import Needle
from .parts import SHORTEST

_SHARD = 16
_SHORTEST_BROKEN = 8
# A line break and the blanks around it: the padding of a wide terminal, and no more.
_LONGEST_BREAK = 512
# How far back something can have begun of which no shard has been seen yet.
# What comes before a wrapped line's text: a logger's name, a time, a border.
_LONGEST_PREFIX = 64
LOOK_BACK = 2 * (_SHARD + _LONGEST_BREAK + _LONGEST_PREFIX)
# How many bytes at the end decide whether they can be the end of such a beginning.
_ENDING = 3
BLANK = b" \t\r\n"
_PADDING = b" \t\r"
_INDENTATION = b" \t"
# Borders of tables and boxes, and marks of lines that go on.
_MARKS = b"!|>#*+\\="
_MARK = rb"(?:[%b]|\xe2\x94[\x82\x83]|\xe2\x95\x91)" % re.escape(_MARKS)
_TAIL = re.compile(rb"[ \t\r]*%b?[ \t\r]*" % _MARK)
_ENDING_MARK = re.compile(rb"(?:%b|\xe2[\x94\x95]?)\Z" % _MARK)
_HALF_MARKS = (b"\xe2", b"\xe2\x94", b"\xe2\x95")
_PREFIX = re.compile(rb"[ \t]*(?:%b{1,3}[ \t]+)?" % _MARK)

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
    """What may be an occurrence that the end of the data cuts off: where it begins, and from where it is masked.

    `size` is how much of the needle has been seen. With `spans`, other text has followed these pieces, which is the
    prefix of a line in which the needle goes on, or else nothing of it.
    """

    start: int
    hold: int
    size: int
    spans: tuple[Span, ...] = ()


class SearchedNeedle:
    """One needle, ready to be compared; its data neither begins nor ends with a blank."""

    __slots__ = ("data", "is_breakable", "needle", "pieces", "shards")

    def __init__(self, needle: Needle, data: bytes) -> None:
        self.needle = needle
        self.data = data
        self.shards = _cut(data)
        self.pieces = tuple(_list_pieces(data)) if needle.encoding == INDENTED else ((0, len(data)),)
        self.is_breakable = len(self.shards) > 1 or (b"\n" in data and b"\n" not in self.shards[0][1])

    def locate(self, view: bytes, start: int, shard: int) -> Match | PartialMatch | None:
        """Return the occurrence whose shard of that number is at `start`: whole, or cut off by the end of the view."""
        offset, text = self.shards[shard]
        first = start - offset
        if first >= 0:
            if view.startswith(self.data, first):
                return Match(self.needle, tuple([(first + start, first + end) for start, end in self.pieces]))
            seen = len(view) - first
            if seen < len(self.data) and self.data.startswith(view[first:]):
                return PartialMatch(first, first, seen)
        if not self.is_breakable:
            return None
        above = self._look_back(view, start, offset)
        return above and self._look_on(view, *above, start + len(text), offset + len(text))

    def _look_back(self, view: bytes, start: int, offset: int) -> tuple[Span, int] | None:
        """Return the piece above the break before the shard, empty without a break, and the start of the one below."""
        first = start - offset
        before = self.data[:offset]
        if first >= 0 and view[first:start] == before:
            return (first, first), first
        newline = view.rfind(b"\n", max(0, first - _LONGEST_BREAK - _LONGEST_PREFIX), start)
        if newline < 0:
            return None
        line = view[newline + 1 : start]
        most = next(size for size in range(min(len(line), offset), -1, -1) if line.endswith(before[offset - size :]))
        most = len(before[offset - most :].lstrip(_INDENTATION))
        for size in range(most, max(-1, most - 3), -1):  # a prefix may end as the piece begins
            head = before[: offset - size].rstrip(_PADDING)
            if not head or len(line[: len(line) - size].lstrip(_INDENTATION)) > _LONGEST_PREFIX:
                continue
            for end in _list_ends(view, newline):
                if view.endswith(head, 0, end) and start - size - end <= _LONGEST_BREAK + _LONGEST_PREFIX:
                    return (end - len(head), end), start - size
        return None

    def _look_on(self, view: bytes, above: Span, piece: int, position: int, seen: int) -> Match | PartialMatch | None:
        """Return the occurrence whose first `seen` bytes end at `position`, in a piece that begins at `piece`."""
        spans = [above] if len(view[above[0] : above[1]].translate(None, BLANK)) >= SHORTEST else []
        while True:
            same = _count_same(view, position, self.data, seen)
            position, seen = position + same, seen + same
            if seen == len(self.data):
                return Match(self.needle, (*spans, (piece, position)))
            after = self._cross(view, position, seen)
            if after is None and position - 1 > piece and view[position - 1] in _MARKS:  # the mark is not the needle's
                position, seen = position - 1, seen - 1
                after = self._cross(view, position, seen)
            if after is None:
                return None
            spans.append((piece, piece + len(view[piece:position].rstrip(_PADDING))))
            if after[0] < 0:
                return Match(self.needle, tuple(spans))
            piece = position = after[0]
            if position == len(view):
                start, end = above[0] if above[0] < above[1] else spans[0][0], spans[-1][1]
                is_other = b"\n" in view[end:] and view[end:].partition(b"\n")[2].strip(BLANK)
                return PartialMatch(start, spans[0][0], seen, tuple(spans) if is_other else ())
            seen = after[1]

    def _cross(self, view: bytes, position: int, seen: int) -> tuple[int, int] | None:
        """Return where the needle goes on after the break at this position, and how much of it comes before.

        The end of the view where that cuts the break off; -1 where it goes on for a few bytes behind other text.
        """
        rest = len(self.data) - len(self.data[seen:].lstrip(BLANK))
        tail = _TAIL.match(view, position, position + _LONGEST_BREAK)
        position = tail.end() if tail else position
        if position == len(view) or view[position : position + 3] in _HALF_MARKS:
            return len(view), seen
        if view[position] != 10:  # a line feed
            return None
        position += 1
        for _ in range(self.data.count(b"\n", seen, rest) - 1):  # lines that are empty but for what is around them
            newline = view.find(b"\n", position, position + _LONGEST_BREAK)
            if newline < 0 or len(view[position:newline].strip(BLANK)) > _LONGEST_PREFIX:
                return None if len(view) - position > _LONGEST_BREAK or newline >= 0 else (len(view), seen)
            position = newline + 1
        found = self._find_piece(view, position, rest)
        if found is None:  # a few bytes in the next line are not worth a look
            return (-1, rest) if len(self.data) - rest < SHORTEST else None
        return found, rest

    def _find_piece(self, view: bytes, line: int, rest: int) -> int | None:
        """Return where in that line the needle goes on with its `rest`: its end where it may be cut off; None."""
        wanted = self.data[rest : rest + SHORTEST].partition(b"\n")[0].rstrip(_PADDING)
        first = _skip_blanks(view, line)
        if view.startswith(wanted, first) or (first < len(view) and self.data.startswith(view[first:], rest)):
            return first
        stop = min(len(view), first + _LONGEST_PREFIX + SHORTEST)
        newline = view.find(b"\n", first, stop)
        if len(wanted) == SHORTEST:
            found = view.find(wanted, first, newline if newline >= 0 else stop)
            if found >= 0:
                return found
        else:
            prefix = _PREFIX.match(view, line)
            if prefix and view.startswith(wanted, prefix.end()):
                return prefix.end()
            for end in _list_ends(view, newline) if newline >= 0 else ():
                start = end - len(wanted)
                if start > first and view.endswith(wanted, 0, end) and view[start - 1] in _INDENTATION:
                    return start
        if newline < 0 and stop == len(view):
            return stop
        return first if view[first] == wanted[0] else None


def _cut(data: bytes) -> tuple[tuple[int, bytes], ...]:
    """Return the shards of a needle with their offsets: two if it is also found broken, else one."""
    if b"\n" in data:
        line = data.partition(b"\n")[0].rstrip(_PADDING)
        return ((0, (line if len(line) >= SHORTEST else data)[:_SHARD].rstrip(_PADDING)),)
    size = min(len(data) // 2, _SHARD)
    first, rest = data[:size].rstrip(_PADDING), data[size : 2 * size]
    second = rest.strip(_PADDING)
    if len(data) < _SHORTEST_BROKEN or min(len(first), len(second)) < SHORTEST or b"\r" in data:
        return ((0, data[:_SHARD]),)
    return ((0, first), (size + rest.index(second), second))


def _list_pieces(data: bytes) -> Iterator[Span]:
    """Yield where the lines of an indented needle are, without their indentation."""
    for line in re.finditer(rb"[^\r\n]+", data):
        prefix = _PREFIX.match(data, *line.span()) if line.start() else None
        start = prefix.end() if prefix else line.start()
        if start < line.end():
            yield start, line.end()


def _count_same(view: bytes, position: int, data: bytes, seen: int) -> int:
    """Count how many bytes of the needle's line are in the view."""
    end = data.find(b"\n", seen)
    most = min(len(view) - position, (end if end >= 0 else len(data)) - seen)
    least = 0
    while least < most:
        middle = (least + most + 1) // 2
        if view.startswith(data[seen + least : seen + middle], position + least):
            least = middle
        else:
            most = middle - 1
    return least


def _list_ends(view: bytes, newline: int) -> Iterator[int]:
    """Yield where the text of the line that ends there may end: before its padding, and before a border."""
    start = max(0, newline - _LONGEST_BREAK)
    text = view[start:newline].rstrip(_PADDING)
    yield start + len(text)
    mark = _ENDING_MARK.search(text)
    if mark:
        yield start + len(text[: mark.start()].rstrip(_PADDING))


def _skip_blanks(text: bytes, position: int) -> int:
    run = text[position : position + _LONGEST_BREAK]
    return position + len(run) - len(run.lstrip(_INDENTATION))


class Beginnings:
    """The beginnings of needles, for data that ends before their first shard."""

    def __init__(self, needles: Iterable[SearchedNeedle]) -> None:
        # The beginnings of needles without their blanks, up to where a shard must have been seen: short ones, and long
        # ones by their first bytes, with whether they may be broken; and those of needles of several lines, with them.
        self._stubs: set[bytes] = set()
        self._heads: dict[bytes, dict[bytes, bool]] = {}
        self._openings: set[bytes] = set()
        # What follows pieces of up to three bytes.
        self._nexts: dict[bytes, tuple[set[bytes], list[bytes]]] = {}
        # How the long ones can end; nothing else needs a second look.
        self._endings: set[bytes] = set()
        for needle in needles:
            self._learn(needle.data, needle.is_breakable)

    def _learn(self, data: bytes, is_breakable: bool) -> None:
        opening = data[: min(_SHARD, len(data)) - 1]
        if b"\n" in opening:
            self._openings.update(opening[:size] for size in range(1, len(opening) + 1))
        head = data[: min(2 * _SHARD, len(data)) - 1].translate(None, BLANK)
        self._stubs.update(head[:size] for size in range(1, min(SHORTEST, len(head) + 1)))
        heads = self._heads.setdefault(head[:SHORTEST], {})
        if head not in heads:
            self._endings.update([head[size - _ENDING : size] for size in range(SHORTEST, len(head) + 1)])
        heads[head] = is_breakable or heads.get(head, False)
        for size in range(1, SHORTEST) if is_breakable else ():
            short, rests = self._nexts.setdefault(head[:size], (set(), []))
            short.update((head[size : size + 1], head[size : size + 2]))
            rests.append(head[size:])

    def find(self, view: bytes, *, every: bool) -> list[PartialMatch]:
        """Return what begins at the end of the view: the longest or `every` one."""
        stubs = self._look_for_stubs(view)
        begun = list(stubs) if every else list(itertools.islice(stubs, 1))
        begun += self._look_above(view)
        return begun + list(self._look_for_openings(view)) if self._openings else begun

    def _look_for_stubs(self, view: bytes) -> Iterator[PartialMatch]:
        """Yield the ends of the view, blanks aside, that begin a needle, longest first."""
        seen = view[-LOOK_BACK:].translate(None, BLANK)[1 - 2 * _SHARD :]
        for size in self._list_sizes(seen):
            yield _make_partial(view, size)
        for start in range(max(0, len(seen) - SHORTEST + 1), len(seen)):
            if seen[start:] in self._stubs:
                yield _make_partial(view, len(seen) - start)

    def _list_sizes(self, seen: bytes, *, is_broken: bool = False) -> Iterator[int]:
        """Yield how much of the end of the text begins a needle, from four bytes on, longest first."""
        if seen[-_ENDING:] in self._endings:
            for start in range(len(seen) - SHORTEST + 1):
                heads = self._heads.get(seen[start : start + SHORTEST], {}).items()
                if any(head.startswith(seen[start:]) and is_broken <= breakable for head, breakable in heads):
                    yield len(seen) - start

    def _look_above(self, view: bytes) -> Iterator[PartialMatch]:
        """Yield what begins before a mark at the end of the view, or in the line above it."""
        newline = view.rfind(b"\n", -_LONGEST_BREAK - _LONGEST_PREFIX - 2 * _SHARD)
        other = view[newline + 1 :].strip(BLANK)
        places = [len(view)] if other[-1:] and _ENDING_MARK.search(other) else []
        if newline >= 0 and len(other) < _LONGEST_PREFIX + 2 * _SHARD:
            places.append(newline)
        for place in places:
            for end in _list_ends(view, place):
                yield from self._look_below(view, end, other if place == newline else b"")
                line = view[max(0, end - LOOK_BACK) : end].rpartition(b"\n")[2]
                for size in self._list_sizes(line.translate(None, BLANK)[1 - 2 * _SHARD :], is_broken=True):
                    start = _make_partial(view[:end], size).start
                    spans = ((start, end),) if other and place == newline else ()
                    yield PartialMatch(start, start, size, spans)

    def _look_below(self, view: bytes, end: int, other: bytes) -> Iterator[PartialMatch]:
        """Yield what begins with up to three bytes before this end of a line, and goes on at the end of the other."""
        seen = other.translate(None, BLANK)[-2 * _SHARD :]
        line = view[max(0, end - 2 * _SHARD) : end].rpartition(b"\n")[2].translate(None, BLANK)
        for size in range(1, min(SHORTEST, len(line) + 1)):
            short, rests = self._nexts.get(line[-size:], ((), ()))
            most = next((length for length in (2, 1) if seen[-length:] in short and len(seen) >= length), 0)
            if seen[-_ENDING:] in self._endings:
                sizes = (n for rest in rests for n in range(_ENDING, len(seen) + 1) if rest.startswith(seen[-n:]))
                most = max(sizes, default=most)
            if rests:
                yield PartialMatch(_step_back(view[:end], size), _step_back(view, most), most)

    def _look_for_openings(self, view: bytes) -> Iterator[PartialMatch]:
        """Yield the ends of the view that begin a needle of several lines, which is only found unbroken."""
        for size in range(min(_SHARD - 1, len(view)), 0, -1):
            if view[-size:] in self._openings:
                yield PartialMatch(len(view) - size, len(view) - size, size)


def _make_partial(view: bytes, size: int) -> PartialMatch:
    """Return what the last `size` bytes of the view, blanks aside, are of a needle."""
    start = _step_back(view, size)
    newline = view.find(b"\n", start)
    is_piece = newline >= 0 and len(view[start:newline].translate(None, BLANK)) < SHORTEST
    hold = _skip_blanks(view, newline + 1) if is_piece else start
    return PartialMatch(start, hold, size if hold < len(view) else 0)


def _step_back(view: bytes, size: int) -> int:
    """Return where the last `size` bytes of the view begin, blanks aside."""
    start = len(view)
    while size:
        start -= 1
        size -= view[start] not in BLANK
    return start
