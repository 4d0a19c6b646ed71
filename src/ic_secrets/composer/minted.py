"""Tokens that Composer mints while a build runs, and writes into its auth.json: they are masked from then on.

Composer exchanges a Bitbucket consumer for an access token, refreshes GitLab's, and stores both in the auth.json of its
home. So that file is checked before any of the build's output is shown.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..core.files import read_regular
from ..masking.needles import Needle, derive_needles
from ..masking.parts import list_leaves
from .auth_json import Document
from .credential import split_token

if TYPE_CHECKING:  # a build that prints nothing loads no matcher
    from ..masking.masker import Masker
    from ..masking.matcher import Matcher

# Shorter texts that Composer adds (a type, a number) are not tokens.
_SHORTEST = 8
_LARGEST = 1 << 20


class MintedTokens:
    """The texts that an auth.json has now and did not have when the build began."""

    def __init__(self, path: str, auth: Document) -> None:
        """`auth` is the document that was written to `path`."""
        self._path = path
        self._known = {text for _, text in _list_texts(auth)}
        self._state: tuple[int, ...] = ()
        self._lock = threading.Lock()
        self.needles: list[Needle] = []

    def refresh(self) -> None:
        """Look at the file again if it changed; that costs one system call if it did not."""
        try:
            found = os.stat(self._path)
            state = (found.st_mtime_ns, found.st_size, found.st_ino)
            if state == self._state:
                return
            with self._lock:
                self._add(json.loads(read_regular(self._path, _LARGEST) or b"null"))
                self._state = state
        except (OSError, ValueError, RecursionError):
            return  # gone, or half-written: the next time it is whole

    def _add(self, document: Any) -> None:
        for name, text in _list_texts(document):
            if text not in self._known and len(text) >= _SHORTEST:
                self._known.add(text)
                self.needles += derive_needles(name, split_token(name, text))


class Source(Protocol):
    """Where needles come from while a build runs: none of `needles` ever goes, and new ones are at the end."""

    needles: list[Needle]

    def refresh(self) -> None:
        """Look whether there are new ones."""


class LiveMasker:
    """A masker that learns what its sources have to say before it shows anything that came afterwards.

    The matcher is asked for when there is something to mask: a build that prints nothing loads none.
    """

    def __init__(
        self, get_matcher: Callable[[], Matcher], sources: Sequence[Source], others: Sequence[Needle] = ()
    ) -> None:
        """`others` are masked from the beginning."""
        self._get_matcher = get_matcher
        self._sources = sources
        self._others = others
        self._masker: Masker | None = None
        self._known = [0 for _ in sources]

    @property
    def masked(self) -> Mapping[str, int]:
        """How often a value of each secret was masked, by name."""
        return self._masker.masked if self._masker else {}

    def feed(self, data: bytes) -> bytes:
        """Take more of the stream; return what can be shown now."""
        return self._learn().feed(data)

    def flush_idle(self) -> bytes:
        """Return what can be shown when nothing more came for a while."""
        return self._learn().flush_idle() if self._masker else b""

    def close(self) -> bytes:
        """Return the rest."""
        return self._learn().close() if self._masker else b""

    def _learn(self) -> Masker:
        masker = self._masker
        if masker is None:
            from ..masking.masker import Masker

            masker = self._masker = Masker(self._get_matcher())
            if self._others:
                masker.add(self._others)
        for place, source in enumerate(self._sources):
            source.refresh()
            if len(source.needles) > self._known[place]:
                new = source.needles[self._known[place] :]
                self._known[place] += len(new)
                masker.add(new)
        return masker


def _list_texts(document: Any) -> Iterator[tuple[str, str]]:
    """Yield every text of an auth.json below a host, with the name `METHOD.HOST` that it belongs to."""
    for method, hosts in document.items() if isinstance(document, dict) else ():
        for host, content in hosts.items() if isinstance(hosts, dict) else ():
            for _, text in list_leaves(content):
                yield f"{method}.{host}", text
