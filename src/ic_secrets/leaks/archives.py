"""Reading inside archives: zip, tar (also compressed), gzip, bzip2, xz, PHP's phar, and what git compresses.

Archives come from anywhere. None can make us unpack more than a limit, or hold more than a piece of a member in memory,
and whatever is wrong with one is an ArchiveError or a MemberError.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any, cast

from ..core.records import NamedTuple
from .git_objects import PACK_MAGIC, is_loose_object, read_loose_object, read_pack

if TYPE_CHECKING:
    import zipfile

Read = Callable[[int], bytes]

_SUFFIXES = frozenset(".zip .phar .tar .gz .tgz .bz2 .tbz2 .xz .txz .zst .7z .jar .rar".split())
_MAGIC = (
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x1f\x8b\x08",
    b"BZh",
    b"\xfd7zXZ\0",
    b"\x28\xb5\x2f\xfd",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a\x07",
    PACK_MAGIC,
)
_FIRST_BYTES = frozenset(magic[:1] for magic in _MAGIC)
_TAR_MAGIC = b"ustar"
_TAR_OFFSET = 257
_TAR_BLOCK = 512

# The most that is unpacked of one archive, in bytes and in members: more is an attack, or nothing that a build needs.
_LARGEST = 1 << 30
# What the search of one member costs beside that of its bytes, in bytes.
_MEMBER_COST = 4096
_OBJECT_COST = 256
_MOST_MEMBERS = 200_000
# The header of a tar, and the list or a packed member of a phar, are held in memory.
_LARGEST_HEADER = 1 << 20
_LARGEST_PIECE = 64 << 20

_HALT = b"__HALT_COMPILER();"
_PHAR_ZLIB, _PHAR_BZIP2 = 0x1000, 0x2000


class ArchiveError(Exception):
    """An archive cannot be read to its end; the message says why."""


class MemberError(Exception):
    """One member cannot be read to its end, but others may; the message says why."""


class Member(NamedTuple):
    """A file or link in an archive. `read` returns up to so many bytes of its content; ArchiveError, MemberError."""

    name: str
    target: str
    read: Read


class Budget:
    """How much of an archive, or of several together, may still be unpacked, in bytes."""

    def __init__(self, size: int | None = None) -> None:
        self._size = self._left = _LARGEST if size is None else size

    def spend(self, size: int) -> None:
        """Raise ArchiveError if the total is too much."""
        self._left -= size
        if self._left < 0:
            raise ArchiveError(f"more than {self._size >> 20} MiB inside")

    def guard(self, read: Read) -> Read:
        """Return the function, limited by the budget; whatever is wrong with the member is a MemberError."""

        def guarded(size: int) -> bytes:
            try:
                data = read(size)
            except ArchiveError:
                raise
            except Exception as error:
                raise MemberError(f"a damaged member ({type(error).__name__})") from None
            self.spend(len(data))
            return data

        return guarded


def is_archive(name: str, start: bytes) -> bool:
    """Return whether the name or the first bytes are those of an archive."""
    return (
        name[name.rfind(".") :].lower() in _SUFFIXES
        or (start[:1] in _FIRST_BYTES and start.startswith(_MAGIC))
        or start[_TAR_OFFSET : _TAR_OFFSET + len(_TAR_MAGIC)] == _TAR_MAGIC
        or is_loose_object(name, start)
        or (start.startswith(b"#!") and _find_manifest(start) > 0 and b"Phar" in start)
    )


def open_members(file: IO[bytes], name: str, budget: Budget) -> Iterator[Member]:
    """Yield the members of the archive in the file, each to be read before the next; ArchiveError."""
    import zipfile

    try:
        start = _read_at(file, 0, _TAR_BLOCK)
        unpacker = _find_unpacker(start)
        if start.startswith(PACK_MAGIC) or is_loose_object(name, start):
            members = _open_objects(file, start, budget)
        elif unpacker:
            members = _open_packed(unpacker, file, name, budget)
        elif _is_tar(start):
            members = _open_tar(file, budget)
        elif zipfile.is_zipfile(file):
            members = _open_zip(file, budget)
        elif _find_halt(file) is not None:
            members = _open_phar(file, budget)
        else:
            raise ArchiveError("an archive of an unknown kind, or a damaged one")
        for number, member in enumerate(members):
            if number == _MOST_MEMBERS:
                raise ArchiveError(f"more than {_MOST_MEMBERS:,} files inside")
            budget.spend(_MEMBER_COST)
            yield member
    except (ArchiveError, GeneratorExit):
        raise
    except Exception as error:  # zlib.error, LZMAError, BadZipFile, TarError and struct.error share no base
        raise ArchiveError(f"a damaged archive ({type(error).__name__})") from None


def _read_nothing(_size: int) -> bytes:
    return b""


def _read_at(file: IO[bytes], offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


# --- zip ------------------------------------------------------------------------------------------


def _open_zip(file: IO[bytes], budget: Budget) -> Iterator[Member]:
    import zipfile

    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if info.is_dir():
                yield Member(info.filename, "", _read_nothing)
            elif info.flag_bits & 1:
                yield Member(info.filename, "", _refuse("an encrypted member"))
            else:
                yield from _open_zipped(archive, info, budget)


def _open_zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget) -> Iterator[Member]:
    try:
        opened = archive.open(info)
    except Exception as error:
        yield Member(info.filename, "", _refuse(f"a damaged member ({type(error).__name__})"))
        return
    with opened:
        yield Member(info.filename, "", budget.guard(opened.read))


def _refuse(reason: str) -> Read:
    def refuse(_size: int) -> bytes:
        raise MemberError(reason)

    return refuse


# --- tar, and what is compressed as a whole -------------------------------------------------------


def _is_tar(start: bytes) -> bool:
    """Return whether the first block is the header of a tar, of any format: its checksum is right."""
    import tarfile

    try:
        tarfile.TarInfo.frombuf(start, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


class _Stream:
    """A limited stream for tarfile, which begins with what has been read of it already."""

    def __init__(self, start: bytes, read: Read) -> None:
        self._start = start
        self._read = read

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes."""
        data, self._start = self._start[:size], self._start[size:]
        return data or self._read(size)


class _Headers:
    """The stream of a tar, of which a header may read only so much."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._left: int | None = None

    @contextlib.contextmanager
    def limited(self) -> Iterator[None]:
        """Read a header, and those that it consists of, in the block."""
        before, self._left = self._left, _LARGEST_HEADER if self._left is None else self._left
        try:
            yield
        finally:
            self._left = before

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; ArchiveError for a header that is too long."""
        if self._left is not None:
            self._left -= size
            if self._left < 0:
                raise ArchiveError(f"a header of more than {_LARGEST_HEADER >> 20} MiB")
        data: bytes = self._stream.read(size)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _open_tar(stream: IO[bytes] | _Stream, budget: Budget) -> Iterator[Member]:
    import tarfile
    from tarfile import EmptyHeaderError, EOFHeaderError, HeaderError, TarFile  # type: ignore[attr-defined]

    class Info(tarfile.TarInfo):
        """A header, refused where it is damaged, or makes tarfile read too much into memory."""

        @classmethod
        def fromtarfile(cls, tarfile: TarFile) -> Info:
            stream = tarfile.fileobj if isinstance(tarfile.fileobj, _Headers) else _Headers(tarfile.fileobj)
            tarfile.fileobj = cast("IO[bytes]", stream)
            with stream.limited():
                try:
                    return super().fromtarfile(tarfile)
                except (EmptyHeaderError, EOFHeaderError):
                    raise
                except HeaderError:  # to tarfile it would be the end
                    raise ArchiveError("a damaged archive") from None

    if not isinstance(stream, _Stream):
        stream.seek(0)
    with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|", tarinfo=Info) as archive:
        for info in archive:
            file = archive.extractfile(info) if info.isreg() else None
            yield Member(info.name, info.linkname, budget.guard(file.read) if file else _read_nothing)


def _find_unpacker(start: bytes) -> Callable[[IO[bytes]], IO[bytes]] | None:
    """Return what opens a stream that was compressed as a whole."""
    import bz2
    import gzip
    import lzma

    if start.startswith(b"\x1f\x8b"):
        return lambda file: cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if start.startswith(b"BZh"):
        return bz2.BZ2File
    if start.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMAFile
    return None


def _open_packed(
    unpacker: Callable[[IO[bytes]], IO[bytes]], file: IO[bytes], name: str, budget: Budget
) -> Iterator[Member]:
    """Yield the members of the tar that was compressed, or the one file that was."""
    file.seek(0)
    with unpacker(file) as unpacked:
        start = unpacked.read(_TAR_BLOCK)
        # The structure of a tar counts too: its headers may unpack to more than all its members.
        stream = _Stream(start, budget.guard(unpacked.read))
        if _is_tar(start):
            yield from _open_tar(stream, Budget())
        else:
            yield Member(os.path.splitext(os.path.basename(name))[0], "", stream.read)


# --- git ------------------------------------------------------------------------------------------


def _open_objects(file: IO[bytes], start: bytes, budget: Budget) -> Iterator[Member]:
    pieces = read_pack(file) if start.startswith(PACK_MAGIC) else read_loose_object(file)
    waiting = b""

    def read(size: int) -> bytes:
        nonlocal waiting
        parts, length = [waiting], len(waiting)
        while length < size and (piece := next(pieces, None)) is not None:
            budget.spend(_OBJECT_COST)
            parts.append(piece)
            length += len(piece)
        data = b"".join(parts)
        waiting = data[size:]
        return data[:size]

    yield Member("objects", "", budget.guard(read))


# --- PHP's phar -----------------------------------------------------------------------------------


def _find_manifest(data: bytes) -> int:
    """Return the offset after the stub, as PHP finds it (phar_parse_pharfile); -1 if there is no stub."""
    start = data.find(_HALT)
    if start < 0:
        return -1
    start += len(_HALT)
    for ending in (b" ?>\r\n", b"\n?>\r\n", b" ?>\n", b"\n?>\n", b" ?>", b"\n?>"):
        if data.startswith(ending, start):
            return start + len(ending)
    return start


def _find_halt(file: IO[bytes]) -> int | None:
    """Return the offset of a phar's list of files; the stub before it is a program, and never large."""
    position = _find_manifest(_read_at(file, 0, _LARGEST_HEADER))
    return position if position > 0 else None


def _open_phar(file: IO[bytes], budget: Budget) -> Iterator[Member]:
    """Yield the files of a phar in PHP's own format (https://www.php.net/manual/en/phar.fileformat.phar.php)."""
    start = _find_halt(file) or 0
    (length,) = struct.unpack("<I", _read_at(file, start, 4))
    if length > _LARGEST_PIECE:
        raise ArchiveError("a list of files that is too long")
    manifest = file.read(length)
    content = start + 4 + length
    count, _version, _flags, alias = struct.unpack_from("<IHII", manifest)
    position = 14 + alias
    (metadata,) = struct.unpack_from("<I", manifest, position)
    position += 4 + metadata
    for _ in range(count):
        (size,) = struct.unpack_from("<I", manifest, position)
        name = manifest[position + 4 : position + 4 + size].decode(errors="surrogateescape")
        position += 4 + size
        _size, _time, packed, _crc, flags, more = struct.unpack_from("<IIIIII", manifest, position)
        position += 24 + more
        yield Member(name, "", budget.guard(_open_packed_piece(file, content, packed, flags)))
        content += packed


def _open_packed_piece(file: IO[bytes], offset: int, packed: int, flags: int) -> Read:
    """Return a function that unpacks what is there, as far as it is asked."""
    import bz2
    import zlib

    if packed > _LARGEST_PIECE:
        return _refuse(f"a member of more than {_LARGEST_PIECE >> 20} MiB")
    body = _read_at(file, offset, packed)
    if not flags & (_PHAR_ZLIB | _PHAR_BZIP2):
        return _Stream(body, _read_nothing).read
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS) if flags & _PHAR_ZLIB else bz2.BZ2Decompressor()

    def unpack(size: int) -> bytes:
        nonlocal body
        if unpacker.eof:
            return b""
        data = unpacker.decompress(body, size)
        body = getattr(unpacker, "unconsumed_tail", b"")  # only zlib returns what it has not used
        if not data and not unpacker.eof:
            raise EOFError
        return data

    return unpack
