"""Key files: private from their first byte, and read only where nobody else can read them."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.exceptions import UnsupportedAlgorithm

from ic_secrets.core.new_files import new_file
from ic_secrets.errors import MasterKeyError
from ic_secrets.keys.master import create_key_file, load_key_file, replace_key_file
from ic_secrets.keys.passphrase import lock
from ic_secrets.keys.sealing import MasterKey

KEY = MasterKey(bytes(range(1, 33)))
TEXT = KEY.format()
CANARY = TEXT[17:30]


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    """Set the umask of this process until the test ends."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def write(path: Path, text: str | bytes = TEXT + "\n", mode: int = 0o600) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


# --- reading ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
@pytest.mark.parametrize("text", [TEXT, TEXT + "\n", TEXT + "\r\n", f"\n {TEXT} \n"])
def test_a_private_key_file_is_read(tmp_path: Path, mode: int, text: str) -> None:
    """With or without a newline, writable or not."""
    assert load_key_file(str(write(tmp_path / "key", text, mode))) == (KEY,)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666, 0o777])
def test_a_key_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    """Whichever bit of group or others it is; the hint is the command that mends it."""
    path = write(tmp_path / "key", mode=mode)
    with pytest.raises(MasterKeyError, match=f"mode 0{mode:o}") as caught:
        load_key_file(str(path))
    assert caught.value.hint == f"chmod 600 {path}"
    path.chmod(0o600)
    assert load_key_file(str(path)) == (KEY,)


def link(path: Path) -> None:
    path.symlink_to(write(path.with_name("real")))


def link_to_nothing(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (link, "symbolic link"),
        (link_to_nothing, "symbolic link"),
        (os.mkfifo, "not a regular file"),
        (listen, "cannot be read"),
        (lambda path: path.mkdir(mode=0o700), "not a regular file"),
        (lambda path: None, "there is no key file"),
        (lambda path: write(path, ""), "is empty"),
        (lambda path: write(path, TEXT[:-1]), "malformed"),
        (lambda path: write(path, "export KEY=" + TEXT), "malformed"),
        (lambda path: write(path, TEXT + " # my key"), "malformed"),
        (lambda path: write(path, TEXT + "\n" * 5000), "more than 4,096 bytes"),
        (lambda path: write(path, b"\xff\xfe" + TEXT.encode("utf-16-le")), "does not hold a master key"),
        (lambda path: write(path, TEXT.replace("key-1", "key-2")), "does not know"),
    ],
)
def test_what_is_no_key_file_is_refused(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    """The message names the file and has nothing of what is in it; a FIFO does not hold us up."""
    path = tmp_path / "key"
    make(path)
    with pytest.raises(MasterKeyError, match=message) as caught:
        load_key_file(str(path))
    assert str(path) in str(caught.value)
    assert CANARY not in f"{caught.value} {caught.value.hint}"


def test_a_path_that_cannot_be_one_is_refused() -> None:
    """A NUL, a name too long, a file where a directory should be."""
    for path in ("a\0b", "x" * 5000, "/etc/passwd/key"):
        with pytest.raises(MasterKeyError):
            load_key_file(path)


def test_a_locked_key_is_refused_where_nobody_can_be_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "key", lock(KEY, "a passphrase"))
    with pytest.raises(MasterKeyError, match=f"{path}: the key is locked by a passphrase") as caught:
        load_key_file(str(path))
    assert "IC_SECRETS_PASSPHRASE_FILE" in caught.value.hint


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a file that is private and cannot be read")
def test_a_disk_that_does_not_give_the_key_is_reported() -> None:
    """It was opened, and found private; the reason is the system's."""
    with pytest.raises(MasterKeyError, match="the key file /proc/self/mem cannot be read: Input/output error"):
        load_key_file("/proc/self/mem")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_file_of_another_user_is_refused(tmp_path: Path) -> None:
    """Its owner could have put a key of their own there."""
    path = write(tmp_path / "key")
    os.chown(path, 65534, 65534)
    with pytest.raises(MasterKeyError, match="belongs to the user 65534") as caught:
        load_key_file(str(path))
    assert "chown" in caught.value.hint


# --- making -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_new_key_file_is_private(tmp_path: Path, umask: Callable[[int], int], mask: int) -> None:
    """0600 below directories of 0700, whatever the umask; those that were there stay as they are."""
    tmp_path.chmod(0o755)
    umask(mask)
    path = tmp_path / "a" / "b" / "key"
    create_key_file(str(path), TEXT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [stat.S_IMODE(p.stat().st_mode) for p in (path.parent, path.parent.parent, tmp_path)] == [
        0o700,
        0o700,
        0o755,
    ]
    assert path.read_text() == TEXT + "\n"
    assert load_key_file(str(path)) == (KEY,)
    assert [p.name for p in path.parent.iterdir()] == ["key"]


def test_a_new_file_is_private_from_its_first_byte(tmp_path: Path, umask: Callable[[int], int]) -> None:
    """Also while it is being filled, under its other name."""
    umask(0)
    with new_file(str(tmp_path / "key")) as temporary:
        assert stat.S_IMODE(os.stat(temporary).st_mode) == 0o600
        assert not (tmp_path / "key").exists()


@pytest.mark.parametrize("make", [write, link, link_to_nothing, os.mkfifo, os.mkdir])
def test_a_key_file_is_never_overwritten(tmp_path: Path, make: Callable[[Path], object]) -> None:
    """Nor written through a link: what is there stays, and nothing is added."""
    make(tmp_path / "key")
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(MasterKeyError, match="is there already"):
        create_key_file(str(tmp_path / "key"), MasterKey.generate().format())
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    if make in (write, link):
        assert (tmp_path / "key").read_text() == TEXT + "\n"


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    """By whoever does not look for our lock: theirs stays, and ours is not left under its other name."""
    with pytest.raises(FileExistsError), new_file(str(tmp_path / "key")):
        write(tmp_path / "key", "theirs")
    assert (tmp_path / "key").read_text() == "theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["key"]


# --- replacing --------------------------------------------------------------------------------------


def test_a_key_file_is_replaced_only_where_it_holds_what_was_read(tmp_path: Path) -> None:
    path, new = write(tmp_path / "key"), MasterKey.generate().format() + "\n"
    with pytest.raises(MasterKeyError, match="was changed meanwhile"):
        replace_key_file(str(path), new, TEXT)  # without the newline
    assert path.read_text() == TEXT + "\n"
    replace_key_file(str(path), new, TEXT + "\n")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == (new, 0o600)
    with pytest.raises(MasterKeyError, match="cannot be written: No such file or directory"):
        replace_key_file(str(tmp_path / "absent" / "key"), new, None)


def test_without_argon2_a_key_under_a_passphrase_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a distribution built cryptography with an older OpenSSL."""

    def refuse(**_: object) -> None:
        raise UnsupportedAlgorithm("argon2id is not supported by this version of OpenSSL")

    monkeypatch.setattr("cryptography.hazmat.primitives.kdf.argon2.Argon2id", refuse)
    with pytest.raises(MasterKeyError, match="has no Argon2id") as caught:
        lock(KEY, "a passphrase")
    assert "PyPI" in caught.value.hint
