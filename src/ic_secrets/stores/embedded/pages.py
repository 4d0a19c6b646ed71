"""What lies in the pages of a SQLite file, read without SQLite, however damaged the file is.

SQLite gives up at the first page that it cannot make sense of, and finds nothing below one. But each
page of a B-tree says by itself what is in it (https://www.sqlite.org/fileformat2.html, 1.6 and 2), so every
record that is whole can be found by looking at all pages. Nothing of it is to be believed: who asks
must have seals and MACs to check it by.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import time
from collections.abc import Iterator
from typing import Any

from ...errors import StoreBusyError, StoreFormatError, StoreReadError

# Of text, bytes, numbers and None, in any order: whoever wrote the file chose them.
Columns = tuple[Any, ...]

_MAGIC = b"SQLite format 3\0"
_PAGE_SIZE = 4096
_INDEX_INTERIOR, _INDEX_LEAF, _TABLE_LEAF = 2, 10, 13
# No record of a store is larger: a value of 16 KiB and some names.
_MAX_RECORD = 1 << 16
# Where SQLite's readers have their lock, which keeps a writer from the file (os_unix.c).
_SHARED_FIRST, _SHARED_SIZE = 0x40000002, 510
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")


class Image:
    """A file as it was when its last write was finished: the pages that a journal keeps are put over it.

    Nothing is written. While it is open, no other process can finish a write. Not for a file that this
    process has open elsewhere: closing it here drops that one's locks (fcntl).
    """

    def __init__(self, path: str, *, busy_timeout: int) -> None:
        """StoreReadError; StoreBusyError where a writer is busy for longer than that (milliseconds)."""
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise StoreReadError(f"{path} cannot be read: {error.strerror}") from None
        try:
            if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                raise StoreFormatError(f"{path} is no ic-secrets store: it is no regular file")
            self._lock(time.monotonic() + busy_timeout / 1000)
            header = self._read(100, 0)
            sane = header.startswith(_MAGIC) and len(header) == 100
            size = int.from_bytes(header[16:18], "big") if sane else 0
            self.version = int.from_bytes(header[60:64], "big") if sane else 0
            self._size = size if size in {512 << shift for shift in range(7)} else _PAGE_SIZE
            self._usable = self._size - (header[20] if sane and header[20] <= 32 else 0)
            self.pages = -(-os.fstat(self._descriptor).st_size // self._size)
            self._originals: dict[int, bytes] = {}
            self._take_journal()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    def records(self) -> Iterator[tuple[int, Columns]]:
        """Every record that can be made out, with its place, in the order of the pages."""
        for number in range(1, self.pages + 1):
            page = self._page(number)
            for place, record in enumerate(self._list_records(number, page)):
                if record is not None:
                    yield number << 16 | place, record

    def record(self, place: int) -> Columns:
        """The record in the place that `records` gave."""
        number = place >> 16
        found = self._parse_cell(self._page(number), 100 if number == 1 else 0, place & 0xFFFF)
        if found is None:
            raise StoreReadError(f"{self._path} changes while it is read")
        return found

    def _lock(self, until: float) -> None:
        while True:
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, _SHARED_SIZE, _SHARED_FIRST)
                return
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise StoreReadError(f"{self._path} cannot be locked: {error.strerror}") from None
            if time.monotonic() > until:
                raise StoreBusyError(f"{self._path} is locked by another process")
            time.sleep(0.02)

    def _read(self, size: int, offset: int) -> bytes:
        try:
            return os.pread(self._descriptor, size, offset)
        except OSError:  # a bad sector: there is nothing in it
            return b""

    def _page(self, number: int) -> bytes:
        if number in self._originals:
            return self._originals[number]
        if not 0 < number <= self.pages:
            return b""
        return self._read(self._size, (number - 1) * self._size)

    def _list_records(self, number: int, page: bytes) -> Iterator[Columns | None]:
        start = 100 if number == 1 else 0
        if len(page) < self._size or page[start] not in (_INDEX_INTERIOR, _INDEX_LEAF, _TABLE_LEAF):
            return
        count = int.from_bytes(page[start + 3 : start + 5], "big")
        for cell in range(min(count, self._size // 4)):
            yield self._parse_cell(page, start, cell)

    def _parse_cell(self, page: bytes, start: int, cell: int) -> Columns | None:
        kind = page[start]
        pointer = start + (12 if kind == _INDEX_INTERIOR else 8) + 2 * cell
        at = int.from_bytes(page[pointer : pointer + 2], "big")
        try:
            if kind == _INDEX_INTERIOR:
                at += 4
            size, at = _varint(page, at)
            row = None
            if kind == _TABLE_LEAF:
                row, at = _varint(page, at)
            record = _parse_record(self._payload(page, at, size, is_table=row is not None))
        except (IndexError, ValueError, struct.error):
            return None
        return record if row is None else (row, *record[1:])

    def _payload(self, page: bytes, at: int, size: int, *, is_table: bool) -> bytes:
        """The bytes of a record, the part in overflow pages included; ValueError where they are not there."""
        if size > _MAX_RECORD:
            raise ValueError("too large a record")
        usable = self._usable
        largest = usable - 35 if is_table else (usable - 12) * 64 // 255 - 23
        here = size
        if size > largest:
            least = (usable - 12) * 32 // 255 - 23
            here = least + (size - least) % (usable - 4)
            here = here if here <= largest else least
        payload = page[at : at + here]
        following = page[at + here : at + here + 4]
        while len(payload) < size:
            rest = self._page(int.from_bytes(following, "big"))[:usable]
            if len(rest) < usable:
                raise ValueError("an overflow page is missing")
            following = rest[:4]
            payload += rest[4 : 4 + size - len(payload)]
        return payload

    def _take_journal(self) -> None:
        """Put the pages back that a write which was cut off has changed, as SQLite would (pager.c).

        Where no write was cut off, the journal of one that is under way says what the file says, since
        our lock keeps that from being written.
        """
        try:
            with open(os.path.realpath(self._path) + "-journal", "rb") as file:
                data = file.read()
        except OSError:
            return
        at = 0
        while data[at : at + 8] == _JOURNAL_MAGIC and len(data) >= at + 28:
            count, nonce, before, sector, size = struct.unpack_from(">IIIII", data, at + 8)
            if size not in {512 << shift for shift in range(8)} or not 32 <= sector <= 65536:
                return
            if at == 0:
                self._size = size
                self.pages = min(before, os.fstat(self._descriptor).st_size // size + len(data) // size)
            at += sector
            count = (len(data) - at) // (size + 8) if count == 0xFFFFFFFF else count
            for _ in range(count):
                number, page, sum_ = (
                    data[at : at + 4],
                    data[at + 4 : at + 4 + size],
                    data[at + 4 + size : at + 8 + size],
                )
                if len(sum_) < 4 or int.from_bytes(sum_, "big") != (nonce + sum(page[size - 200 : 0 : -200])) % (
                    1 << 32
                ):
                    return
                self._originals.setdefault(int.from_bytes(number, "big"), page)
                at += size + 8
            at = -(-at // sector) * sector


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number there, and where it ends; IndexError at the end of the data."""
    number = 0
    for count in range(8):
        byte = data[at + count]
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, at + count + 1
    return number << 8 | data[at + 8], at + 9


def _parse_record(data: bytes) -> Columns:
    """The columns of a record; ValueError or IndexError for what is none."""
    end, at = _varint(data, 0)
    kinds = []
    while at < end:
        kind, at = _varint(data, at)
        kinds.append(kind)
    columns: list[Any] = []
    for kind in kinds:
        if kind in (0, 8, 9):
            columns.append(None if kind == 0 else kind - 8)
            continue
        size = (0, 1, 2, 3, 4, 6, 8, 8)[kind] if kind < 8 else (kind - 12) // 2
        field = data[at : at + size]
        if kind in (10, 11) or len(field) < size:
            raise ValueError("no record")
        columns.append(_parse_column(kind, field))
        at += size
    return tuple(columns)


def _parse_column(kind: int, field: bytes) -> str | bytes | float:
    if kind < 7:
        return int.from_bytes(field, "big", signed=True)
    if kind == 7:
        return float(struct.unpack(">d", field)[0])
    return field.decode() if kind % 2 else field
