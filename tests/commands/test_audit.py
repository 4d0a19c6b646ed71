"""The audit log as a file: many writers, killed ones, full disks, hostile files, and a chain that shows changes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import resource
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from children import fork, run_in_child, run_unprivileged, wait
from ic_secrets.audit import log as audit
from ic_secrets.audit.log import START, Log, read_log
from ic_secrets.errors import AuditError


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "store.db.audit")


def add(path: str, *texts: str) -> None:
    log = Log(path)
    for text in texts:
        log.append([{"text": text}])
    log.close()


def texts(path: str) -> list[str]:
    return [str(line.entry["text"]) for line in read_log(path) if line.entry]


def breaks(path: str) -> list[int]:
    return [line.number for line in read_log(path) if not line.follows]


def damaged(path: str) -> list[int]:
    return [line.number for line in read_log(path) if line.entry is None]


def rewrite(path: str, change: Callable[[list[bytes]], object]) -> None:
    lines = Path(path).read_bytes().splitlines(keepends=True)
    change(lines)
    Path(path).write_bytes(b"".join(lines))


def head(path: str) -> str:
    return list(read_log(path))[-1].digest


# --- one writer ---------------------------------------------------------------------------------------


def test_each_line_has_the_hash_of_the_one_before(path: str) -> None:
    add(path, "a", "b", "c")
    found = list(read_log(path))
    assert [line.entry["previous"] for line in found if line.entry] == [START, found[0].digest, found[1].digest]
    assert [(line.number, line.follows) for line in found] == [(1, True), (2, True), (3, True)]
    assert os.stat(path).st_mode & 0o7777 == 0o600


@pytest.mark.parametrize("umask", [0, 0o777])
def test_a_new_log_is_private_whatever_the_umask(path: str, umask: int) -> None:
    def child() -> None:
        os.umask(umask)
        add(path, "a")

    assert run_in_child(child) == 0
    assert os.stat(path).st_mode & 0o7777 == 0o600


def test_several_entries_are_written_as_one(path: str) -> None:
    log = Log(path)
    log.append([{"text": str(number)} for number in range(1000)])
    log.close()
    assert texts(path) == [str(number) for number in range(1000)]
    assert breaks(path) == []


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 65_537, 300_000])
def test_a_last_line_of_any_length_is_hashed_whole(path: str, size: int) -> None:
    add(path, "before", "x" * size, "after")
    assert breaks(path) == []


def test_to_append_reads_only_the_end(path: str) -> None:
    """A log of sixteen gigabytes (of nothing, but for its end) costs what an empty one does."""
    add(path, "a")
    line = Path(path).read_bytes()
    with open(path, "r+b") as file:
        file.truncate(1 << 34)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + line)
    reads: list[int] = []
    pread = os.pread

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        reads.append(size)
        return pread(descriptor, size, offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pread", counted)
        add(path, "b")
    assert sum(reads) < 200_000
    assert json.loads(_tail(path))["text"] == "b"


def _tail(path: str) -> bytes:
    with open(path, "rb") as file:
        file.seek(-300, os.SEEK_END)
        return file.read().splitlines()[-1]


def test_a_log_that_was_moved_away_is_left_alone_and_a_new_one_begun(path: str) -> None:
    log = Log(path)
    log.append([{"text": "a"}])
    os.rename(path, path + ".1")
    log.append([{"text": "b"}])
    log.close()
    assert (texts(path + ".1"), texts(path)) == (["a"], ["b"])
    assert breaks(path) == []


@pytest.mark.parametrize("instead", ["nothing", "link", "directory", "fifo"])
def test_what_comes_in_the_place_of_an_open_log_gets_nothing(tmp_path: Path, instead: str) -> None:
    """A build that moves the log away, and its directory, or puts something else there, is told of."""
    place = tmp_path / "logs"
    place.mkdir()
    path = place / "log"
    target = tmp_path / "target"
    target.write_text("kept")
    log = Log(str(path))
    log.append([{"text": "a"}])
    os.rename(path, tmp_path / "kept.log")
    if instead == "nothing":
        place.rmdir()
    elif instead == "link":
        path.symlink_to(target)
    elif instead == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(AuditError):
        log.append([{"text": "b"}])
    log.close()
    assert texts(str(tmp_path / "kept.log")) == ["a"]
    assert target.read_text() == "kept"


def test_a_log_that_was_removed_is_told_of(path: str) -> None:
    """What was written in it is lost, and a new one would hide that."""
    log = Log(path)
    log.append([{"text": "a"}])
    os.unlink(path)
    with pytest.raises(AuditError, match="was removed in the meantime"):
        log.append([{"text": "b"}])
    log.close()
    assert not os.path.exists(path)


# --- what is no log -----------------------------------------------------------------------------------


def put_link(path: str) -> None:
    Path(path + ".target").write_text("")
    os.symlink(path + ".target", path)


def put_dangling_link(path: str) -> None:
    os.symlink(path + ".target", path)


def put_open_file(path: str) -> None:
    Path(path).write_text("")
    os.chmod(path, 0o620)


@pytest.mark.parametrize(
    ("put", "reason"),
    [
        (put_link, "is a symbolic link"),
        (put_dangling_link, "is a symbolic link"),
        (put_open_file, r"is writable by other users \(mode 0620\)"),
        (os.mkdir, "Is a directory"),
        (os.mkfifo, "is not a regular file"),
        (lambda path: os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3)), "is not a regular file"),
    ],
    ids=["link", "dangling link", "writable", "directory", "fifo", "device"],
)
def test_what_is_no_log_of_ours_is_refused(path: str, put: Callable[[str], None], reason: str) -> None:
    try:
        put(path)
    except PermissionError:
        pytest.skip("a device can be made only by root")
    with pytest.raises(AuditError, match=reason):
        add(path, "a")
    assert not os.path.exists(path + ".target") or Path(path + ".target").read_bytes() == b""


def test_a_directory_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:3]:
        with contextlib.suppress(OSError):
            parent.chmod(parent.stat().st_mode | 0o055)

    def child() -> None:
        with pytest.raises(AuditError, match="cannot be written: Permission denied"):
            Log(str(tmp_path / "log"))

    if os.geteuid() == 0:
        assert run_unprivileged(child) == 0
    assert not (tmp_path / "log").exists()


def test_a_name_that_is_none_is_an_error() -> None:
    with pytest.raises(AuditError, match="cannot be written"):
        Log("a\0b")
    with pytest.raises(AuditError, match="there is no audit log"):
        list(read_log("/no/such/log"))


def test_a_log_that_is_kept_locked_is_given_up(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped process must not stop every build of the machine."""
    add(path, "a")
    monkeypatch.setattr(audit, "_PATIENCE", 0.1)
    with open(path, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(AuditError, match="is locked by another process"):
            add(path, "b")
    add(path, "c")
    assert texts(path) == ["a", "c"]


# --- many writers, and killed ones ----------------------------------------------------------------------


def test_twenty_processes_at_once_lose_nothing(path: str, rounds: Callable[[int, int], int]) -> None:
    count = rounds(20, 300)

    def write(number: int) -> None:
        for turn in range(count):
            add(path, f"{number} {turn} {'x' * random.randrange(9000)}")

    children = [fork(lambda number=number: write(number)) for number in range(20)]
    assert [wait(child) for child in children] == [0] * 20
    found = [tuple(map(int, text.split()[:2])) for text in texts(path)]
    assert sorted(found) == [(number, turn) for number in range(20) for turn in range(count)]
    for number in range(20):
        assert [turn for who, turn in found if who == number] == list(range(count))
    assert (breaks(path), damaged(path)) == ([], [])


def test_a_killed_writer_breaks_no_chain_and_loses_nothing_acknowledged(
    path: str, rounds: Callable[[int, int], int]
) -> None:
    chosen = random.Random()
    number = 0
    for _ in range(rounds(25, 500)):
        told, tell = os.pipe()
        child = fork(lambda number=number, tell=tell: append_for_ever(path, number, tell))
        os.close(tell)
        number = int(os.read(told, 20))
        select.select([], [], [], chosen.random() * 0.01)
        os.kill(child, signal.SIGKILL)
        assert wait(child) == -signal.SIGKILL
        with open(told, "rb") as file:
            number = max([number, *map(int, file.read().split())])
        found = texts(path)  # one more than was acknowledged may be there
        assert [text for text in found if int(text) <= number] == [str(each) for each in range(1, number + 1)]
        number = max(map(int, found))
    add(path, "last")
    assert breaks(path) == []
    assert texts(path)[-1] == "last"


def append_for_ever(path: str, number: int, tell: int) -> None:
    log = Log(path)
    while True:
        number += 1
        log.append([{"text": str(number), "filling": "x" * 20_000}])
        os.write(tell, b"%19d\n" % number)


@pytest.mark.parametrize("kept", [1, 20, 77, 78, 85, -2])
def test_a_line_that_was_cut_off_is_ended_and_the_chain_goes_on(path: str, kept: int) -> None:
    """Wherever it was cut: it counts as damaged, and is no break."""
    add(path, "a", "b")
    before = Path(path).read_bytes()
    start = before.index(b"\n") + 1
    Path(path).write_bytes(before[: start + kept] if kept >= 0 else before[:kept])
    add(path, "c", "d")
    assert breaks(path) == []
    assert (damaged(path), texts(path)) == ([2], ["a", "c", "d"])


def test_a_line_that_lacks_only_its_newline_is_whole_when_the_next_one_ends_it(path: str) -> None:
    add(path, "a", "b")
    os.truncate(path, os.path.getsize(path) - 1)
    assert damaged(path) == [2]
    add(path, "c")
    assert (breaks(path), damaged(path), texts(path)) == ([], [], ["a", "b", "c"])


# --- a disk that is full --------------------------------------------------------------------------------


def test_a_file_that_may_not_grow_keeps_whole_lines(path: str) -> None:
    """RLIMIT_FSIZE stands for a quota: what does not fit is an error, and nothing of it stays."""

    def child() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        with pytest.raises(AuditError, match="cannot be written: File too large"):
            add(path, *map(str, range(1000)))

    assert run_in_child(child) == 0
    assert 9_000 < os.path.getsize(path) <= 10_000
    before = len(texts(path))
    add(path, "afterwards")
    assert len(texts(path)) == before + 1
    assert (breaks(path), damaged(path)) == ([], [])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB, with nothing left on it but a log of one line."""
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("a file system can be mounted only by root")
    add(str(place / "log"), "a")
    with open(place / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(512)):
            pass
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_is_an_error_and_leaves_whole_lines(small_disk: Path) -> None:
    path = str(small_disk / "log")
    with pytest.raises(AuditError, match="No space left on device"):
        add(path, "x" * 10_000)
    assert texts(path) == ["a"]
    (small_disk / "filler").unlink()
    add(path, "x" * 10_000)
    assert (breaks(path), damaged(path)) == ([], [])


# --- what someone did to it -----------------------------------------------------------------------------


def change_text(lines: list[bytes]) -> None:
    lines[2] = lines[2].replace(b'"text":"2"', b'"text":"9"')


def change_spaces(lines: list[bytes]) -> None:
    lines[2] = lines[2].replace(b'"text":', b'"text": ')


def swap(lines: list[bytes]) -> None:
    lines[2], lines[3] = lines[3], lines[2]


def put_nonsense(lines: list[bytes]) -> None:
    lines[2] = b"nonsense\n"


def overwrite_the_end(lines: list[bytes]) -> None:
    lines[4:] = [b"{}\n", b"[]\n", b"\0" * 40 + b"\n"]


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (change_text, [4]),
        (change_spaces, [4]),
        (lambda lines: lines.pop(2), [3]),
        (lambda lines: lines.pop(0), [1]),
        (lambda lines: lines.insert(2, lines[4]), [3, 4]),
        (lambda lines: lines.insert(2, lines[2]), [4]),
        (lambda lines: lines.insert(2, b"\n"), [4]),
        (lambda lines: lines.insert(2, b"[" * 100_000 + b"\n"), [3, 4]),
        (swap, [3, 4, 5]),
        (put_nonsense, [3, 4]),
        (overwrite_the_end, [5, 6, 7]),
        (lambda lines: lines.__setitem__(2, lines[2][:50] + b"\n"), [4]),
        (lambda lines: lines.__setitem__(5, b"x"), [6]),
        (lambda lines: lines.__setitem__(2, lines[2][:-1] + b" and more\n"), [3, 4]),
    ],
    ids="edit spaces delete behead insert repeat empty deep swap nonsense overwritten shorten end lengthen".split(),
)
def test_a_change_is_named_by_its_line(path: str, change: Callable[[list[bytes]], object], broken: list[int]) -> None:
    add(path, *"012345")
    rewrite(path, change)
    assert breaks(path) == broken


def test_every_byte_that_is_flipped_is_noticed(path: str) -> None:
    """By the chain; in the last line, which nothing follows yet, by a head that was kept."""
    add(path, "0", "1", "2")
    genuine, kept = Path(path).read_bytes(), head(path)
    for at in range(len(genuine)):
        Path(path).write_bytes(genuine[:at] + bytes([genuine[at] ^ 1]) + genuine[at + 1 :])
        assert breaks(path) or damaged(path) or kept not in {line.digest for line in read_log(path)}, at


def test_a_log_cut_short_no_longer_has_the_head_that_was_kept(path: str) -> None:
    add(path, "0", "1", "2")
    kept = head(path)
    add(path, "3")
    assert kept in {line.digest for line in read_log(path)}
    rewrite(path, lambda lines: lines.__delitem__(slice(2, None)))
    assert breaks(path) == []
    assert kept not in {line.digest for line in read_log(path)}
