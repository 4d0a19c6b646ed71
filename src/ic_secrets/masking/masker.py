"""The masker: every needle in a stream of bytes becomes `***`, wherever the stream is cut."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping

from .matcher import Matcher
from .needles import Needle
from .occurrences import Match, Span
from .parts import SHORTEST

# Longer chunks are masked piece by piece, so that memory stays flat.
_BLOCK = 1 << 20


class Masker:
    """One stream on its way through: what `feed`, `flush_idle` and `close` return, joined, is the masked stream.

    Whatever the chunks are, that is `mask_bytes` of the whole. Only what may be the beginning of a needle is held back.
    `flush_idle` returns that too, so that a prompt is seen, unless it is four bytes of a needle or more; if the rest
    follows after all, only the rest is masked (`abc***`).
    """

    def __init__(self, needles: Matcher | Iterable[Needle]) -> None:
        self._matcher = needles if isinstance(needles, Matcher) else Matcher(needles)
        self._lock = threading.Lock()
        # The end of the stream, back to where something may have begun; its first `_shown` bytes are out already.
        self._tail = b""
        self._shown = 0
        self._is_masking = False  # the last byte that is out was part of a mask
        self._base = 0  # the offset of the tail in the stream
        self._found: list[Span] = []  # pieces of matches, found, but not yet out
        self._counts: dict[str, int] = {}
        self._ends: dict[str, int] = {}

    @property
    def masked(self) -> Mapping[str, int]:
        """How often a value of each secret was masked, by name; overlapping forms of one secret count once."""
        return dict(self._counts)

    def add(self, needles: Iterable[Needle]) -> None:
        """Mask these as well from now on, also in what is held back."""
        with self._lock:
            self._matcher = self._matcher.extend(needles)

    def feed(self, data: bytes) -> bytes:
        """Take a chunk, and return what can be shown now."""
        if len(data) <= _BLOCK:
            return self._advance(data)
        return b"".join(self._advance(data[start : start + _BLOCK]) for start in range(0, len(data), _BLOCK))

    def flush_idle(self) -> bytes:
        """Return what can be shown when nothing more has come for a while."""
        with self._lock:
            if self._shown == len(self._tail):
                return b""
            matches, begun = self._matcher.search(self._tail, final=False, every=True)
            begun = [one for one in begun if one.size >= SHORTEST]
            limit = min((one.hold for one in begun if not one.spans), default=len(self._tail))
            # What other text follows is masked, so that this text, a prompt, is seen.
            self._found += (span for one in begun for span in one.spans if span[1] <= limit)
            return self._show(self._tail, matches, limit)

    def close(self) -> bytes:
        """Return the rest, now that the stream has ended."""
        with self._lock:
            matches, _ = self._matcher.search(self._tail, final=True)
            shown = self._show(self._tail, matches, len(self._tail))
            self._tail, self._shown = b"", 0
            return shown

    def _advance(self, data: bytes) -> bytes:
        with self._lock:
            whole = self._tail + data if self._tail else data
            matches, begun = self._matcher.search(whole, final=False)
            start = hold = len(whole)
            for one in begun:
                start, hold = min(start, one.start), min(hold, one.hold)
            shown = self._show(whole, matches, hold)
            self._tail = whole[start:]
            self._shown -= start
            self._base += start
            self._found = [(first - start, last - start) for first, last in self._found]
            return shown

    def _show(self, data: bytes, matches: Collection[Match], limit: int) -> bytes:
        """Return the data from `_shown` up to the limit, masked, or beyond it to the end of a mask."""
        position = self._shown
        self._shown = limit = max(position, limit)
        if not matches and not self._found:
            self._is_masking = self._is_masking and position == limit
            return data[position:limit] if position or limit < len(data) else data
        self._count(matches)
        spans = _merge([*self._found, *(span for match in matches for span in match.spans)])
        shown = []
        for start, end in spans:
            if position < end and start <= limit:
                if start > position:
                    shown.append(data[position:start])
                    self._is_masking = False
                if not self._is_masking:
                    shown.append(self._matcher.mark)
                    self._is_masking = True
                position = end
        if position < limit:
            shown.append(data[position:limit])
            self._is_masking = False
        self._shown = max(position, limit)
        self._found = [span for span in spans if span[0] > self._shown]
        return b"".join(shown)

    def _count(self, matches: Collection[Match]) -> None:
        for match in sorted(matches, key=lambda match: match.start):
            name = match.needle.name
            if self._base + match.start >= self._ends.get(name, 0):
                self._counts[name] = self._counts.get(name, 0) + 1
            self._ends[name] = max(self._ends.get(name, 0), self._base + match.end)


def _merge(spans: Iterable[Span]) -> list[Span]:
    """Return the spans in order; those that overlap or touch become one."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def mask_bytes(data: bytes, needles: Matcher | Iterable[Needle]) -> bytes:
    """Return the data with every needle masked."""
    masker = Masker(needles)
    return masker.feed(data) + masker.close()


def mask_text(text: str, needles: Matcher | Iterable[Needle]) -> str:
    """Return the text with every needle masked.

    For what we quote: the message of an error, a path, a line of the build's output. Do not mask our own words: a value
    such as `error` would replace them.
    """
    return mask_bytes(text.encode(errors="surrogatepass"), needles).decode(errors="surrogatepass")
