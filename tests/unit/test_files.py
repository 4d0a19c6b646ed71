"""Files that are replaced: at once, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ic_secrets.core.files import replacing


def test_what_replaces_a_file_is_seen_only_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with replacing(str(path), 0o600) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["page.html"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt], ids=lambda kind: kind.__name__)
def test_a_file_stays_as_it_was_where_its_successor_is_not_finished(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "page.html"
    path.write_bytes(b"old")

    def write() -> None:
        with replacing(str(path)) as file:
            file.write(b"half of the ne")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["page.html"]


def test_a_new_file_has_the_mode_that_was_asked_for_less_what_the_umask_takes(tmp_path: Path) -> None:
    for mode in (0o600, 0o666):
        with replacing(str(tmp_path / f"{mode:o}"), mode) as file:
            file.write(b"new")
    mask = os.umask(0o077)
    os.umask(mask)
    assert (tmp_path / "600").stat().st_mode & 0o777 == 0o600 & ~mask
    assert (tmp_path / "666").stat().st_mode & 0o777 == 0o666 & ~mask
