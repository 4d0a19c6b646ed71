"""The terminal's escape sequences (ECMA-48): output without them, and the way back to the output. Pure."""

import itertools
import re
from bisect import bisect_right

# Escape sequences are bounded, since one that never ends must not hide what follows; a string (a title, a link) that
# does not end in time is text. What more data may still complete is `open`.
_CONTROL = rb"\[[0-?]{0,128}[ -/]{0,4}"
_STRING = rb"[\]PX^_][^\x07\x1b\r\n]{0,2048}"
_WHOLE = rb"%b[@-~]|%b(?:\x07|\x1b\\)" % (_CONTROL, _STRING)
_OPEN = rb"(?P<open>(?:%b|%b\x1b?|[ -/]{0,4})\Z)" % (_CONTROL, _STRING)
ESCAPE = re.compile(rb"\x1b(?:%b|[ -/]{0,4}[0-~])?" % _WHOLE)
_IN_STREAM = re.compile(rb"\x1b(?:%b|%b|[ -/]{0,4}[0-~])?" % (_WHOLE, _OPEN))


class Projection:
    """Output without its escape sequences (`data`), and where each byte of it is in the output (up to `end`)."""

    def __init__(self, data: bytes, look_back: int, *, final: bool) -> None:
        # No sequence holds a line break, so a line's beginning is a safe place to begin reading.
        read = [] if final else list(_IN_STREAM.finditer(data, data.rfind(b"\n") + 1))
        self.end = read[-1].start() if read and read[-1].lastgroup else len(data)
        self._output = data[: self.end]
        self.data = ESCAPE.sub(b"", self._output)
        # Nearly always only what begins within the last `look_back` bytes has to be found in the output.
        self._tabulate(self.end if final else self._output.rfind(b"\n", 0, max(0, self.end - look_back)) + 1)

    def _tabulate(self, start: int) -> None:
        """Note where the sequences from `start` on are, and where the runs of text between begin, there and here."""
        self._escapes = [found.span() for found in ESCAPE.finditer(self._output, start)]
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
