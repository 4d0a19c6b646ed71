"""What is inside of archives: zip, tar (also compressed), gzip, and PHP's phar."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

Member = tuple[str, Callable[[int], bytes]]

_SUFFIXES = (".zip", ".phar", ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".7z", ".jar")
_MAGIC = (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c")
_TAR_MAGIC = b"ustar"
_TAR_OFFSET = 257
# A member, and an archive, are unpacked so far, in bytes: one that claims more is an attack or no business of a build.
_LARGEST = 1 << 30

_HALT = b"__HALT_COMPILER();"
_ZLIB, _BZIP2 = 0x1000, 0x2000


class ArchiveError(Exception):
    """The archive cannot be read to its end; the message says why."""


def is_archive(name: str, start: bytes) -> bool:
    """Whether the name or the first bytes are those of an archive."""
    return (
        name.lower().endswith(_SUFFIXES)
        or start.startswith(_MAGIC)
        or start[_TAR_OFFSET : _TAR_OFFSET + len(_TAR_MAGIC)] == _TAR_MAGIC
    )


def open_members(path: str) -> Iterator[Member]:
    """The files inside, each with a function that reads so many bytes of it; ArchiveError."""
    import tarfile
    import zipfile

    budget = _Budget()
    try:
        if zipfile.is_zipfile(path):
            yield from _open_zip(path, budget)
        elif tarfile.is_tarfile(path):
            yield from _open_tar(path, budget)
        else:
            yield from _open_other(path, budget)
    except ArchiveError:
        raise
    except (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, struct.error) as error:
        raise ArchiveError(f"a damaged or unknown archive ({type(error).__name__})") from None
    except Exception as error:  # zlib.error, lzma.LZMAError, BadZipFile, TarError share no base
        raise ArchiveError(f"a damaged or unknown archive ({type(error).__name__})") from None


class _Budget:
    """How much may still be unpacked from one archive."""

    def __init__(self) -> None:
        self._left = _LARGEST

    def reader(self, file: BinaryIO) -> Callable[[int], bytes]:
        """A function that reads from the file; ArchiveError when all in all it is too much."""

        def read(size: int) -> bytes:
            data = file.read(size)
            self._left -= len(data)
            if self._left < 0:
                raise ArchiveError(f"more than {_LARGEST >> 20} MiB inside")
            return data

        return read


def _open_zip(path: str, budget: _Budget) -> Iterator[Member]:
    import zipfile

    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.flag_bits & 1:
                raise ArchiveError("an encrypted archive")
            if not info.is_dir():
                with archive.open(info) as file:
                    yield info.filename, budget.reader(file)  # type: ignore[arg-type]


def _open_tar(path: str, budget: _Budget) -> Iterator[Member]:
    import tarfile

    with tarfile.open(path) as archive:
        for info in archive:
            file = archive.extractfile(info) if info.isreg() else None
            if file is not None:
                with file:
                    yield info.name, budget.reader(file)  # type: ignore[arg-type]


def _open_other(path: str, budget: _Budget) -> Iterator[Member]:
    import bz2
    import gzip
    import lzma

    openers: dict[bytes, Callable[[str], BinaryIO]] = {
        b"\x1f\x8b": gzip.open,  # type: ignore[dict-item]
        b"BZh": bz2.open,  # type: ignore[dict-item]
        b"\xfd7zXZ\0": lzma.open,  # type: ignore[dict-item]
    }
    with open(path, "rb") as file:
        start = file.read(8)
    for magic, opener in openers.items():
        if start.startswith(magic):
            with opener(path) as unpacked:
                yield os.path.splitext(os.path.basename(path))[0], budget.reader(unpacked)
            return
    if path.lower().endswith(".phar"):
        yield from _open_phar(path, budget)
        return
    raise ArchiveError("an archive of a kind that is not read")


def _open_phar(path: str, budget: _Budget) -> Iterator[Member]:
    """The files of a phar in PHP's own format (https://www.php.net/manual/en/phar.fileformat.phar.php)."""
    import bz2
    import zlib

    with open(path, "rb") as file:
        data = file.read(_LARGEST)
    start = data.find(_HALT)
    if start < 0:
        raise ArchiveError("no phar: it has no __HALT_COMPILER")
    position = start + len(_HALT)
    for ending in (b" ?>\r\n", b" ?>\n", b"?>\r\n", b"?>\n", b" ?>", b"\r\n", b"\n"):
        if data.startswith(ending, position):
            position += len(ending)
            break
    length, count, _, _, alias = struct.unpack_from("<IIHII", data, position)
    content = position + 4 + length
    position += 18 + alias
    (metadata,) = struct.unpack_from("<I", data, position)
    position += 4 + metadata
    for _ in range(count):
        (size,) = struct.unpack_from("<I", data, position)
        name = data[position + 4 : position + 4 + size].decode(errors="surrogateescape")
        position += 4 + size
        _, _, packed, _, flags, more = struct.unpack_from("<IIIIII", data, position)
        position += 24 + more
        body = data[content : content + packed]
        content += packed
        if flags & _ZLIB:
            body = zlib.decompressobj(-zlib.MAX_WBITS).decompress(body, _LARGEST)
        elif flags & _BZIP2:
            body = bz2.BZ2Decompressor().decompress(body, _LARGEST)
        yield name, budget.reader(io.BytesIO(body))
