"""Output as a terminal shows it: without escape sequences (ECMA-48) and overstrike, and the way back to it. Pure.

Overstrike is how nroff and others print bold and underlined text where there are no escape sequences: `a\\ba`, `_\\ba`
or `a\\b_` for an `a`.
"""

import itertools
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

# Escape sequences are bounded, since one that never ends must not hide what follows; a string (a title, a link) that
# does not end in time is text. What more data may still complete is `open`.
_CONTROL = rb"\[[0-?]{0,128}[ -/]{0,4}"
_STRING = rb"[\]PX^_][^\x07\x1b\r\n]{0,2048}"
_WHOLE = rb"%b[@-~]|%b(?:\x07|\x1b\\)" % (_CONTROL, _STRING)
_OPEN = rb"(?P<open>(?:%b|%b\x1b?|[ -/]{0,4})\Z)" % (_CONTROL, _STRING)
ESCAPE = re.compile(rb"\x1b(?:%b|[ -/]{0,4}[0-~])?" % _WHOLE)
_IN_STREAM = re.compile(rb"\x1b(?:%b|%b|[ -/]{0,4}[0-~])?" % (_WHOLE, _OPEN))
# A character in UTF-8, or any other byte; some printers go back once for each column of a wide one.
_CHARACTER = rb"(?:[\xc0-\xff][\x80-\xbf]{0,3}|[^\x08\r\n])"
_BACK = rb"\x08{1,2}"
# Of one character over the other the last one stays, but for an underscore.
_OVERSTRIKE = re.compile(rb"(%b)%b(?:_%b)?(?=\1)|_%b(?=[^\x08\r\n])|%b_" % (_CHARACTER, _BACK, _BACK, _BACK, _BACK))
# So far from a backspace nothing is overstruck, in bytes.
_NEAR = 12
# What more data may still overstrike. Nobody does that more often to one character.
_MOST_STRIKES = 8
_OPEN_STRIKES = re.compile(rb"%b(?:%b%b){0,%d}\x08{0,2}\Z" % (_CHARACTER, _BACK, _CHARACTER, _MOST_STRIKES))
_LONGEST_OPEN = 64
# Without one of these, output is what a terminal shows.
CONTROLS = (b"\x1b", b"\x08")


class Projection:
    """Output without its escape sequences (`data`), and where each byte of it is in the output (up to `end`)."""

    def __init__(self, data: bytes, look_back: int, *, final: bool) -> None:
        self.end = len(data) if final else self._find_end(data)
        self._output = data[: self.end]
        self.data = self._leave_out()
        # Nearly always only what begins within the last `look_back` bytes has to be found in the output.
        self._tabulate(self.end if final else self._output.rfind(b"\n", 0, max(0, self.end - look_back)) + 1)

    @staticmethod
    def concerns(data: bytes, *, final: bool) -> bool:
        """Return whether there is anything to leave out, or, unless `final`, more data may bring it."""
        return b"\x1b" in data

    @staticmethod
    def _find_end(data: bytes) -> int:
        # No sequence holds a line break, so a line's beginning is a safe place to begin reading.
        read = list(_IN_STREAM.finditer(data, data.rfind(b"\n") + 1))
        return read[-1].start() if read and read[-1].lastgroup else len(data)

    def _leave_out(self) -> bytes:
        return ESCAPE.sub(b"", self._output)

    def _list_left_out(self, start: int) -> list[tuple[int, int]]:
        return [found.span() for found in ESCAPE.finditer(self._output, start)]

    def _tabulate(self, start: int) -> None:
        """Note where the sequences from `start` on are, and where the runs of text between begin, there and here."""
        self._escapes = self._list_left_out(start)
        self._there = [start, *(end for _, end in self._escapes)]
        ends = [*(begin for begin, _ in self._escapes), self.end]
        lengths = [end - begin for begin, end in zip(self._there, ends, strict=True)]
        self._here = list(itertools.accumulate(lengths[:-1], initial=len(self.data) - sum(lengths)))

    def locate(self, position: int) -> int:
        """Return the offset in the output of the byte at that position here."""
        if position >= len(self.data):
            return self.end
        if position < self._here[0]:
            self._tabulate(0)
        run = bisect_right(self._here, position) - 1
        return self._there[run] + position - self._here[run]

    def locate_start(self, position: int) -> int:
        """Return the offset in the output of the byte at that position here, where something begins with it."""
        return self.locate(position)

    def spread(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the span in the output, in pieces: one more for each sequence inside."""
        self.locate(start)
        cuts = [start, *self._here[bisect_right(self._here, start) : bisect_right(self._here, end - 1)], end]
        return [(self.locate(a), self.locate(b - 1) + 1) for a, b in itertools.pairwise(cuts) if a < b]

    def leave_escape(self, offset: int) -> int:
        """Return the offset, or the start of the sequence that contains it."""
        if offset < self._there[0]:
            self._tabulate(0)
        number = bisect_right(self._escapes, (offset, self.end)) - 1
        if number >= 0 and offset < self._escapes[number][1]:
            return self._escapes[number][0]
        return min(offset, self.end)


class Overstrike(Projection):
    """Output without its overstrike: of each character, what was printed last. A span contains what it replaced."""

    @staticmethod
    def concerns(data: bytes, *, final: bool) -> bool:
        """Return whether characters were printed over others, or, unless `final`, one may be over an underscore."""
        return b"\x08" in data or (not final and data.endswith(b"_"))

    @staticmethod
    def _find_end(data: bytes) -> int:
        found = _OPEN_STRIKES.search(data, max(0, len(data) - _LONGEST_OPEN))
        return found.start() if found else len(data)

    def _leave_out(self) -> bytes:
        self._strikes = list(_find_strikes(self._output))
        ends = [0, *(end for _, end in self._strikes)]
        starts = [*(start for start, _ in self._strikes), self.end]
        return b"".join([self._output[end:start] for end, start in zip(ends, starts, strict=True)])

    def _list_left_out(self, start: int) -> list[tuple[int, int]]:
        return self._strikes[bisect_left(self._strikes, (start,)) :]

    def locate_start(self, position: int) -> int:
        """Return where in the output the first of the characters was that were printed at that position."""
        offset = self.locate(position)
        number = bisect_right(self._escapes, (offset,)) - 1
        while number >= 0 and self._escapes[number][1] == offset and self._output[self._escapes[number][0]] != 8:
            offset = self._escapes[number][0]
            number -= 1
        return offset

    def spread(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the span in the output, in one piece."""
        return [(self.locate_start(start), self.locate(end - 1) + 1)]


def _find_strikes(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the spans that are printed over, reading only what is near a backspace."""
    position = data.find(b"\x08")
    while position >= 0:
        last = position
        while (following := data.find(b"\x08", last + 1, last + 2 * _NEAR)) >= 0:
            last = following
        yield from (found.span() for found in _OVERSTRIKE.finditer(data, max(0, position - _NEAR), last + _NEAR))
        position = data.find(b"\x08", last + 1)
