"""Key files that many processes make at once, or that one makes when it is killed."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from children import fork, run_in_child, run_unprivileged, wait
from ic_secrets.core.new_files import new_file
from ic_secrets.errors import MasterKeyError
from ic_secrets.keys.master import create_key_file, load_key_file
from ic_secrets.keys.sealing import MasterKey
from local_stores import memory_directory

KEY = MasterKey(bytes(range(1, 33)))


TEXT = KEY.format()


def write(path: Path, text: str | bytes = TEXT + "\n", mode: int = 0o600) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def test_what_is_there_is_said_to_be_there_first() -> None:
    """Also where nothing could be written: that is not the reason why there is no new key."""
    with memory_directory() as directory:
        write(directory / "key")
        directory.chmod(0o555)

        def child() -> None:
            with pytest.raises(MasterKeyError, match="is there already"):
                create_key_file(str(directory / "key"), TEXT)
            with pytest.raises(MasterKeyError, match="cannot be made: Permission denied"):
                create_key_file(str(directory / "other"), TEXT)

        assert run_unprivileged(child) == 0
        directory.chmod(0o700)


def test_a_key_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """When it cannot be written, no file is left under any name, and the message says why."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "key", "a\0b"):
        with pytest.raises(MasterKeyError, match="cannot be made"):
            create_key_file(str(path), TEXT)

    def child() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
        with pytest.raises(MasterKeyError, match="cannot be made: File too large"):
            create_key_file(str(tmp_path / "key"), TEXT)

    assert run_in_child(child) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_killed_process_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    """Killed while it fills the file, it has made no key file; the next call cleans up and works."""

    def child() -> None:
        with new_file(str(tmp_path / "key")) as temporary:
            Path(temporary).write_text("half a k")
            os.kill(os.getpid(), signal.SIGKILL)

    assert run_in_child(child) == -signal.SIGKILL
    assert not (tmp_path / "key").exists()
    create_key_file(str(tmp_path / "key"), TEXT)
    assert load_key_file(str(tmp_path / "key")) == (KEY,)
    assert [p.name for p in tmp_path.iterdir()] == ["key"]


def test_of_many_who_make_one_key_file_one_succeeds(tmp_path: Path) -> None:
    """And the file holds that one's key, whole."""
    path = str(tmp_path / "key")
    keys = [MasterKey.generate() for _ in range(8)]
    children = [fork(lambda key=key: create_key_file(path, key.format())) for key in keys]
    statuses = [wait(child) for child in children]
    assert sorted(statuses) == [0] + [1] * 7
    assert load_key_file(path) == (keys[statuses.index(0)],)
    assert [p.name for p in tmp_path.iterdir()] == ["key"]
