"""Needles: every form in which the secret parts of a value may appear, their encodings included. Pure.

Not covered are values that were reversed, compressed, encrypted, or cut in ways that no program here does.
"""

from collections.abc import Iterable
from typing import Protocol

from ..core.records import NamedTuple
from .encodings import cut_for_databases, encode_for_files, encode_pair, encode_text
from .parts import SHORTEST, SHORTEST_FORM, SecretParts, is_common, to_bytes

SHORTEST_SEARCHED = 8
# How programs put long values into databases.
_IN_DATABASES = frozenset({"raw", "line", "utf-16", "json", "base64", "hex"})


class Needle(NamedTuple):
    """One form of one secret. `encoding` is a short stable word for reports; `data` is never shown."""

    name: str
    encoding: str
    data: bytes

    def __repr__(self) -> str:
        return f"Needle({self.name}, {self.encoding})"


class Exposed(NamedTuple):
    """One secret that a build can see, by its name."""

    name: str
    parts: SecretParts


class HasParts(Protocol):
    """A secret with its parts, such as `Exposed`."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def parts(self) -> SecretParts:
        """The parts of its value that must not be seen."""


def derive_needles(name: str, parts: SecretParts) -> tuple[Needle, ...]:
    """Return every needle of one secret, the raw ones first; each run of bytes once, under its plainest encoding."""
    found: dict[bytes, Needle] = {}

    def add(encoding: str, data: bytes, shortest: int = SHORTEST_FORM) -> None:
        if len(data) >= shortest and data not in found:
            found[data] = Needle(name, encoding, data)

    texts = [text for text in parts.texts if len(to_bytes(text)) >= SHORTEST]
    for text in texts:
        add("raw", to_bytes(text), SHORTEST)
    for encoding, pieces in (("line", parts.lines), ("leaf", parts.leaves)):
        for piece in pieces:
            add(encoding, to_bytes(piece))
    for text in (*texts, *parts.lines):
        for encoding, data in encode_text(text, is_credential=parts.is_credential):
            add(encoding, data)
    for user, password in parts.pairs:
        for encoding, data in encode_pair(user, password):
            add(encoding, data)
    return tuple(found.values())


def derive_all(secrets: Iterable[HasParts]) -> tuple[Needle, ...]:
    """Return the needles of several secrets."""
    return tuple(needle for secret in secrets for needle in derive_needles(secret.name, secret.parts))


def for_search(needles: Iterable[Needle]) -> tuple[Needle, ...]:
    """Return the needles that mean something when they are found in a file.

    They have at least 8 bytes; common words, small numbers, the words and plain addresses in a JSON value, and the mere
    beginnings of values are left out, since an honest tree is full of them. What a value becomes in files alone is
    added.
    """
    kept = [
        needle
        for needle in needles
        if len(needle.data) >= SHORTEST_SEARCHED
        and not (needle.encoding in {"raw", "line"} and is_common(needle.data.decode(errors="replace")))
        and needle.encoding not in {"leaf", "cut"}
    ]
    more = [
        Needle(needle.name, encoding, data)
        for needle in kept
        if needle.encoding in {"raw", "line"}
        for encoding, data in encode_for_files(needle.data.decode(errors="surrogateescape"))
    ]
    pieces = (
        Needle(needle.name, "piece", data)
        for needle in (*kept, *more)
        if needle.encoding in _IN_DATABASES
        for data in cut_for_databases(needle.data, needle.encoding)
    )
    return (*kept, *more, *dict.fromkeys(pieces))
