"""Stores that an earlier version wrote: what opened then opens now, what was refused is refused for the same reason."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ic_secrets.errors import StoreError, StoreFormatError, StoreLockedError, StoreTamperedError
from ic_secrets.keys.sealing import MasterKey
from ic_secrets.stores import sealed_file as sealed
from ic_secrets.stores.embedded import store as local
from local_stores import memory_directory
from vectors import VECTORS, Vector, describe, parse

# The failure that a header names, as the class of the error and a part of its message.
FAILURES: dict[str, tuple[type[StoreError], str]] = {
    "wrong key": (StoreLockedError, "is sealed with the key"),
    "associated data": (StoreTamperedError, r"(shop|org:agency)(\.dev)? \S+ (\(line \d+\) )?was changed"),
    "manifest": (StoreTamperedError, "what shop holds|the record of|the manifest|removed, added, moved or put back"),
    "newer format": (StoreFormatError, "has the format 99"),
    "schema": (StoreTamperedError, "the schema was changed"),
    "truncated": (StoreError, "is damaged|was changed|it was cut off"),
    "no store": (StoreFormatError, "is not an ic-secrets store|is not a sealed file"),
}
FILES = sorted(VECTORS.glob("*.txt"))


@contextlib.contextmanager
def opened_sqlite(content: bytes, key: MasterKey) -> Iterator[local.LocalStore]:
    with memory_directory() as directory:
        path = directory / "store.db"
        path.write_bytes(content)
        with local.open_store(str(path), [key], read_only=True) as store:
            yield store


@contextlib.contextmanager
def opened_sealed(content: bytes, key: MasterKey) -> Iterator[sealed.SealedStore]:
    store = sealed.parse("vector", content, lambda: [key])
    yield store
    store.close()


# How a vector of each kind is opened.
OPENERS = {"sqlite": opened_sqlite, "sealed": opened_sealed}


def read(vector: Vector) -> dict[str, Any]:
    """All that the store of the vector holds; a StoreError."""
    opened: Callable[[bytes, MasterKey], contextlib.AbstractContextManager[Any]] = OPENERS[vector.kind]
    with opened(vector.content, MasterKey.parse(vector.key)) as store:
        return describe(store)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_vector_comes_to_what_its_header_says(path: Path) -> None:
    """It opens and holds what it held, or fails with the class and the words of the failure that it names."""
    vector = parse(path.read_text())
    if vector.expect == "success":
        assert read(vector) == json.loads(path.with_suffix(".json").read_text())
        return
    error, message = FAILURES[vector.expect]
    with pytest.raises(error, match=message):
        read(vector)


def test_every_failure_has_a_vector() -> None:
    """And there is none without a header that is known."""
    assert {parse(path.read_text()).expect for path in FILES} == {"success", *FAILURES}


@pytest.mark.slow
def test_every_byte_flipped_changes_nothing_or_is_noticed(rounds: Callable[[int, int], int]) -> None:
    """Of a whole store: exactly what it held, or a StoreError, for each byte of the file in turn."""
    good = parse((VECTORS / "sqlite-good.txt").read_text())
    key = MasterKey.parse(good.key)
    with memory_directory() as directory:
        path = directory / "store.db"
        path.write_bytes(good.content)
        expected = json.loads((VECTORS / "sqlite-good.json").read_text())
        noticed = 0
        tried = range(0, len(good.content), rounds(61, 1))
        with open(path, "r+b", buffering=0) as file:
            for at in tried:
                file.seek(at)
                file.write(bytes([good.content[at] ^ 0xFF]))
                try:
                    with local.open_store(str(path), [key], read_only=True) as store:
                        assert describe(store) == expected, at
                except StoreError:
                    noticed += 1
                file.seek(at)
                file.write(good.content[at : at + 1])
        assert len(tried) > noticed > len(tried) // 4
        assert path.read_bytes() == good.content


def test_every_byte_of_a_sealed_file_flipped_is_noticed(rounds: Callable[[int, int], int]) -> None:
    """There is none in it that means nothing."""
    good = parse((VECTORS / "sealed-good.txt").read_text())
    for at in range(0, len(good.content), rounds(7, 1)):
        flipped = good.content[:at] + bytes([good.content[at] ^ 0xFF]) + good.content[at + 1 :]
        with pytest.raises(StoreError), opened_sealed(flipped, MasterKey.parse(good.key)) as store:
            describe(store)
