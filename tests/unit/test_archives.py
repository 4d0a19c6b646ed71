"""What is inside of archives: every kind that is read, and every way in which one can be bad."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from archive_files import FILES, make_tar, make_zip, read_all
from ic_secrets.leaks import archives
from ic_secrets.leaks.archives import ArchiveError, Budget, is_archive, open_members


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip(tmp_path: Path, compression: int) -> None:
    assert read_all(make_zip(tmp_path / "a.zip", compression)) == FILES


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar(tmp_path: Path, mode: str, form: int) -> None:
    assert read_all(make_tar(tmp_path / "a.any", mode, form)) == FILES


def test_names_and_links_of_a_tar(tmp_path: Path) -> None:
    long = "long/" * 60 + "name"
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in ((long, tarfile.REGTYPE), ("link", tarfile.SYMTYPE), ("pipe", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            info.linkname = "/the/target" if name == "link" else ""
            archive.addfile(info)
    with (tmp_path / "a.tar").open("rb") as file:
        members = [(member.name, member.target, member.read(10)) for member in open_members(file, "a.tar", Budget())]
    assert members == [(long, "", b""), ("link", "/the/target", b""), ("pipe", "", b"")]


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_one_compressed_file(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    (tmp_path / "dump.sql.packed").write_bytes(compress(FILES["a.txt"]) + compress(b"and more"))
    assert read_all(tmp_path / "dump.sql.packed") == {"dump.sql": FILES["a.txt"] + b"and more"}


@pytest.mark.parametrize("flags", [0x1000, 0x2000])
def test_a_compressed_phar(tmp_path: Path, flags: int) -> None:
    (tmp_path / "a.phar").write_bytes(make_phar_by_hand(FILES["sub/b.bin"], flags))
    assert read_all(tmp_path / "a.phar") == {"z": FILES["sub/b.bin"]}


@pytest.mark.parametrize(
    ("name", "start", "expected"),
    [
        ("a.zip", b"", True),
        ("A.TAR.GZ", b"", True),
        ("a.phar", b"<?php", True),
        ("no-suffix", b"PK\x03\x04", True),
        ("no-suffix", b"\x1f\x8b\x08", True),
        ("no-suffix", b"x" * 257 + b"ustar\0", True),
        ("Compiler.php", b"<?php return new Phar($file, '__HALT_COMPILER();');", False),
        ("zip", b"PKI", False),
        ("README", b"", False),
        ("dir.zip/file", b"BZ", False),
    ],
)
def test_what_is_an_archive(name: str, start: bytes, expected: bool) -> None:
    assert is_archive(name, start) is expected


def test_a_file_that_is_not_an_archive_is_an_error(tmp_path: Path) -> None:
    for name, data in {"a.zip": b"", "b.phar": b"<?php", "c.7z": b"7z\xbc\xaf\x27\x1c" + b"x" * 999}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ArchiveError, match="unknown kind, or a damaged one"):
            read_all(tmp_path / name)


def test_an_encrypted_member_is_named_and_others_are_read(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip")
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 8] |= 1
    path.write_bytes(data)
    assert read_all(path) == FILES | {"a.txt": "an encrypted member"}


def test_a_damaged_member_of_a_zip_is_named_and_others_are_read(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(b"the first")] = 0
    path.write_bytes(data)
    assert read_all(path) == FILES | {"a.txt": "a damaged member (BadZipFile)"}


def test_a_tar_that_is_damaged_behind_its_first_member_is_not_taken_for_read(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", form=tarfile.USTAR_FORMAT)
    data = bytearray(path.read_bytes())
    data[data.index(b"sub/b.bin")] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="damaged"):
        read_all(path)


@pytest.mark.parametrize("kind", ["zip", "gz", "tar.gz", "phar"])
def test_a_bomb_is_bounded(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_LARGEST", 1 << 20)
    path = tmp_path / f"a.{kind}"
    zeros = bytes(8 << 20)
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in "abc":
                archive.writestr(name, zeros[: 700 << 10])
    elif kind == "gz":
        path.write_bytes(gzip.compress(zeros))
    elif kind == "tar.gz":
        with tarfile.open(path, "w:gz") as archive:
            info = tarfile.TarInfo("zeros")
            info.size = len(zeros)
            archive.addfile(info, io.BytesIO(zeros))
    else:
        path.write_bytes(make_phar_by_hand(zeros))
    with pytest.raises(ArchiveError, match="more than 1 MiB inside"):
        read_all(path)


def make_phar_by_hand(content: bytes, flags: int = 0x1000) -> bytes:
    """With one file: `flags` 0x1000 compresses it as zlib does, 0x2000 by bzip2, which PHP can do where it has it."""
    packer = zlib.compressobj(wbits=-15)
    packed = bz2.compress(content) if flags == 0x2000 else packer.compress(content) + packer.flush()
    entry = struct.pack("<I", 1) + b"z" + struct.pack("<IIIIII", len(content), 0, len(packed), 0, flags, 0)
    manifest = struct.pack("<IHIII", 1, 0x1100, 0, 0, 0) + entry
    return b"<?php __HALT_COMPILER(); ?>\r\n" + struct.pack("<I", len(manifest)) + manifest + packed


def test_a_header_that_is_a_bomb_is_bounded(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type = tarfile.GNUTYPE_LONGNAME
    info.size = 64 << 20
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(64 << 20)))
    with pytest.raises(ArchiveError, match="header"):
        read_all(tmp_path / "a.tar.gz")


def test_too_many_members_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MOST_MEMBERS", 2)
    with pytest.raises(ArchiveError, match="more than 2 files"):
        read_all(make_zip(tmp_path / "a.zip"))
