"""Reading what git keeps compressed: a loose object, and the objects of a pack.

The formats are those of git's own documentation (gitformat-pack).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from typing import IO

PACK_MAGIC = b"PACK\0\0\0"
_LOOSE = re.compile(r".*/objects/[0-9a-f]{2}/[0-9a-f]{38}(?:[0-9a-f]{24})?", re.DOTALL)
_ZLIB = b"\x78"
_OFFSET_DELTA, _REFERENCE_DELTA = 6, 7
_NAME_BYTES = 20
_CHUNK = 16 << 10
# A delta is held in memory to be read; what is longer is read as it is.
_LONGEST_DELTA = 16 << 20
_BETWEEN = b"\0\n"


def is_loose_object(name: str, start: bytes) -> bool:
    """Return whether it is an object of git in a file of its own."""
    return start[:1] == _ZLIB and _LOOSE.fullmatch(name) is not None


def read_loose_object(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the object's content, its header first; zlib.error, EOFError."""
    file.seek(0)
    yield from _Input(file).inflate()


def read_pack(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the content of a pack's objects, with a separator after each: of one kept as a difference what is new.

    zlib.error, EOFError, struct.error, IndexError.
    """
    file.seek(0)
    _magic, _version, count = struct.unpack(">4sII", file.read(12))
    source = _Input(file)
    for _ in range(count):
        byte = source.read_byte()
        kind = byte >> 4 & 7
        while byte & 0x80:
            byte = source.read_byte()
        if kind == _OFFSET_DELTA:
            while source.read_byte() & 0x80:
                pass
        elif kind == _REFERENCE_DELTA:
            for _ in range(_NAME_BYTES):
                source.read_byte()
        pieces = source.inflate()
        yield from _read_delta(pieces) if kind in {_OFFSET_DELTA, _REFERENCE_DELTA} else pieces
        yield _BETWEEN


class _Input:
    """The compressed bytes, of which a stream takes as many as it has."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._data = b""

    def read_byte(self) -> int:
        self._fill()
        first, self._data = self._data[0], self._data[1:]
        return first

    def inflate(self) -> Iterator[bytes]:
        unpacker = zlib.decompressobj()
        while not unpacker.eof:
            self._fill()
            yield unpacker.decompress(self._data, 1 << 20)
            self._data = unpacker.unused_data or unpacker.unconsumed_tail

    def _fill(self) -> None:
        if not self._data:
            self._data = self._file.read(_CHUNK)
            if not self._data:
                raise EOFError


def _read_delta(pieces: Iterator[bytes]) -> Iterator[bytes]:
    data = b""
    for piece in pieces:
        data += piece
        if len(data) > _LONGEST_DELTA:
            yield data
            yield from pieces
            return
    yield b"".join(_list_new(data))


def _list_new(delta: bytes) -> Iterator[bytes]:
    """Yield what a difference adds, without what it copies from another object."""
    position = 0
    for _ in range(2):  # the sizes before and after
        while delta[position] & 0x80:
            position += 1
        position += 1
    while position < len(delta):
        code = delta[position]
        position += 1
        if code & 0x80:
            position += (code & 0x7F).bit_count()
            yield _BETWEEN
        else:
            yield delta[position : position + code]
            position += code
