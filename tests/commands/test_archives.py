"""Archives that PHP itself makes."""

from __future__ import annotations

import gzip
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from archive_files import FILES, make_tar, make_zip, read_all
from ic_secrets.leaks.archives import ArchiveError, is_archive


def make_phar(path: Path, compression: str = "", stub: str = "") -> Path:
    """A phar as PHP itself makes it."""
    if not shutil.which("php"):
        pytest.fail("php is not installed")
    source = path.parent / f"{path.name}.files"
    for name, data in FILES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    code = f"$p = new Phar('{path}'); $p->buildFromDirectory('{source}'); {stub} {compression}"
    subprocess.run(["php", "-d", "phar.readonly=0", "-r", code], check=True)
    return path


@pytest.mark.parametrize("compression", ["", "$p->compressFiles(Phar::GZ);"])
@pytest.mark.parametrize(
    "stub",
    [
        "",
        r"$p->setStub(\"#!/usr/bin/env php\n<?php echo 1; __HALT_COMPILER();\");".replace(r"\"", '"'),
        "$p->setMetadata(['key' => 'value']); $p->setAlias('name.phar');",
    ],
)
def test_phar(tmp_path: Path, compression: str, stub: str) -> None:
    assert read_all(make_phar(tmp_path / "a.phar", compression, stub)) == FILES


@pytest.mark.parametrize("kind", ["Phar::TAR", "Phar::ZIP"])
def test_a_phar_that_is_a_tar_or_a_zip(tmp_path: Path, kind: str) -> None:
    path = make_phar(tmp_path / "a.phar", f"$p->convertToExecutable({kind});")
    (made,) = (found for found in tmp_path.glob("a.phar.*") if found.is_file())
    assert path.exists()
    found = read_all(made)
    assert {name: found[name] for name in FILES} == FILES


def test_a_phar_without_its_suffix_is_an_archive(tmp_path: Path) -> None:
    stub = '$p->setStub("#!/usr/bin/env php\\n<?php Phar::mapPhar(); __HALT_COMPILER(); ?>");'
    path = make_phar(tmp_path / "a.phar", stub=stub).rename(tmp_path / "tool")
    assert is_archive("tool", path.read_bytes())
    assert read_all(path) == FILES


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "gz", "phar"])
def test_cut_or_changed_archives_end_with_an_error_or_are_read(tmp_path: Path, kind: str) -> None:
    """Nothing but ArchiveError and MemberError comes out, and no member has content that was never in it."""
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        make_zip(path)
    elif kind == "gz":
        path.write_bytes(gzip.compress(FILES["sub/b.bin"]))
    elif kind == "phar":
        make_phar(path, "$p->compressFiles(Phar::GZ);")
    else:
        make_tar(path, f"w:{kind[4:]}")
    whole = path.read_bytes()
    chance = random.Random(kind)
    failed = 0
    for number in range(150):
        data = bytearray(whole)
        if number % 2:
            del data[chance.randrange(len(data)) :]
        else:
            for _ in range(3):
                data[chance.randrange(min(len(data), 2000))] = chance.randrange(256)
        path.write_bytes(data)
        try:
            failed += any(isinstance(content, str) for content in read_all(path).values())
        except ArchiveError:
            failed += 1
    assert failed > 50
