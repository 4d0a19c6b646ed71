"""Files searched together: what is found in each is what is found in it alone."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from ic_secrets.leaks import reader
from ic_secrets.leaks.findings import Finding
from ic_secrets.leaks.search import search
from ic_secrets.leaks.walk import Place
from ic_secrets.masking.matcher import Matcher
from ic_secrets.masking.needles import Needle

VALUE = b"canary-of-a-batch-value"
MATCHER = Matcher([Needle("TOKEN", "raw", VALUE), Needle("OTHER", "raw", b"another-value")])


def look(path: Path) -> list[Finding]:
    return search([Place(str(path))], MATCHER).findings


def test_halves_in_two_files_are_no_value(tmp_path: Path) -> None:
    """In whatever order the files are read; nor are halves of it that are their names."""
    for number in range(20):
        (tmp_path / f"{number}").write_bytes(VALUE[12:] if number % 2 else VALUE[:12])
        (tmp_path / (VALUE[12:] if number % 2 else VALUE[:12]).decode()).touch()
    assert look(tmp_path) == []


@pytest.mark.parametrize("size", [len(VALUE), 512, 513, reader.LONG - 1, reader.LONG, reader.LONG + 1, 3 * reader.LONG])
def test_a_value_is_found_at_both_ends_of_a_file(tmp_path: Path, size: int) -> None:
    for number in range(9):
        (tmp_path / f"{number}-first").write_bytes(VALUE + b"." * (size - len(VALUE)))
        (tmp_path / f"{number}-last").write_bytes(b"." * (size - len(VALUE)) + VALUE)
        (tmp_path / f"{number}-none").write_bytes(b"." * size)
    expected = [
        Finding(f"{tmp_path}/{number}-{end}", 1, offset, "TOKEN", "raw")
        for number in range(9)
        for end, offset in (("first", 0), ("last", size - len(VALUE)))
    ]
    assert look(tmp_path) == expected


def test_together_they_give_what_each_gives_alone(tmp_path: Path) -> None:
    """Of all sizes, binary ones, with colours, with values whole and broken by a colour or a line break."""
    chance = random.Random(3)
    for number in range(300):
        pieces = [chance.randbytes(1) * chance.choice([0, 1, 7, 500, 9000, 60_000]) for _ in range(4)]
        pieces += chance.choices(
            [VALUE, b"another-value", VALUE[:16] + b"\n  " + VALUE[16:], b"\n", b"\0", b"\x1b[m"], k=2
        )
        pieces += chance.choices([VALUE[:9] + b"\x1b[31m" + VALUE[9:], b"canary-of-a-batch"], k=1)
        chance.shuffle(pieces)
        (tmp_path / f"{number}").write_bytes(b"".join(pieces))
    alone = [finding for name in sorted(os.listdir(tmp_path)) for finding in look(tmp_path / name)]
    assert look(tmp_path) == alone
    assert len(alone) > 200


def test_a_name_is_found_among_many(tmp_path: Path) -> None:
    for number in range(1200):
        (tmp_path / f"n{number}").touch()
    name = f"of {VALUE.decode()}\n"
    (tmp_path / name).touch()
    assert look(tmp_path) == [Finding(f"{tmp_path}/***", None, 3, "TOKEN", "raw", "name")]


def test_a_batch_may_end_with_any_piece() -> None:
    """Pieces of every length up to the longest, of which each holds a value."""
    found: list[tuple[str, bytes]] = []
    pieces = reader.Batch(MATCHER, lambda source, data: found.append((source[0], data)))
    sizes = [len(VALUE) + step for step in (0, 1, 2, 1000, reader.LONG - len(VALUE), 0, reader.LONG - len(VALUE), 5)]
    for number, size in enumerate(sizes):
        pieces.make_room(size)[:] = VALUE.rjust(size)
        pieces.add((str(number), "content", None), size)
    pieces.flush()
    pieces.flush()
    assert found == [(str(number), VALUE.rjust(size)) for number, size in enumerate(sizes)]
