"""Each system call of a write fails once, or is the last: the store holds what was acknowledged.

strace makes the kernel answer a call on the store's files with an error, or kills the process there.
"""

from __future__ import annotations

import collections
import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import acknowledging
from ic_secrets.model.secret import SecretValue
from ic_secrets.stores.base import Place, Write
from ic_secrets.stores.embedded import store as local
from local_stores import AGENCY, KEY, MY_SITE, dump, make_store, memory_directory, open_for_reading, put

# All with which SQLite changes a file or a directory, or learns how it stands with its locks.
CALLS = "pwrite64,write,fsync,fdatasync,ftruncate,unlink,openat,fcntl,pread64,close"


@functools.cache
def why_not() -> str:
    """Why strace can trace nothing here, "" where it can."""
    if not shutil.which("strace"):
        pytest.fail("strace is not installed: run .ci/install", pytrace=False)
    done = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True)
    return done.stderr.decode().strip() if done.returncode else ""


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """A store that is copied for each run, on a file system where fsync costs nothing."""
    if why_not():
        pytest.skip(f"no process may be traced here: {why_not()}")
    with memory_directory() as directory:
        path = Path(make_store(directory))
        with local.open_store(str(path), [KEY]) as store:
            for owner in (MY_SITE, AGENCY):
                store.put(Place(owner, None, "LICENSE_KEY"), Write(SecretValue("0 " * 2000)))
        yield path


def write(template: Path, path: Path, *options: str) -> tuple[int, list[str]]:
    """The exit status of the process that writes to a copy of the store, and its lines."""
    shutil.copy(template, path)
    log = ["-o", str(path.parent.parent / "trace"), "-e", f"trace={CALLS}"]
    places = [word for place in (path, f"{path}-journal", path.parent) for word in ("-P", str(place))]
    command = ["strace", "-qqq", *log, *places, *options, sys.executable, acknowledging.__file__, str(path)]
    environment = os.environ | {"PYTHONPATH": str(Path(acknowledging.__file__).parent)}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=60)
    return done.returncode, done.stdout.decode().splitlines()


def list_calls(template: Path, path: Path) -> list[tuple[str, int]]:
    """The calls on the store's files that a process makes which nothing disturbs, each with its number."""
    status, lines = write(template, path)
    assert (status, len(lines)) == (0, acknowledging.WRITES)
    names = re.findall(r"^(\w+)\(", (path.parent.parent / "trace").read_text(), re.MULTILINE)
    counts: collections.Counter[str] = collections.Counter()
    found = []
    for name in names:
        counts[name] += 1
        found.append((name, counts[name]))
    assert {"pwrite64", "fdatasync", "unlink", "openat", "fcntl"} <= counts.keys()
    return found


def read_number(path: Path) -> int:
    """Which of the writes the store holds, after whatever has to be undone."""
    with open_for_reading(str(path)) as store:
        dump(store)
        values = {
            secret.value.reveal()
            for owner in (MY_SITE, AGENCY)
            for secret in store.read(owner).secrets
            if secret.name == "LICENSE_KEY" and secret.value
        }
    (text,) = values
    number = text.split()[0]
    assert text == f"{number} " * 2000
    return int(number)


def leaves_nothing(path: Path) -> bool:
    """Whether the next write works and leaves the store's file alone in its directory."""
    with local.open_store(str(path), [KEY]) as store:
        put(store, MY_SITE, None, "API_KEY")
    return os.listdir(path.parent) == [path.name]


def last(lines: list[str], *words: str) -> int:
    return max((int(line.split()[1]) for line in lines if line.startswith(words)), default=0)


@pytest.mark.slow
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_a_failing_call_leaves_what_was_acknowledged(
    template: Path, rounds: Callable[[int, int], int], error: str
) -> None:
    """Also for the same process, which goes on writing; what it was refused is not there later."""
    with memory_directory() as directory:
        path = directory / "store" / "store.db"
        path.parent.mkdir()
        calls = list_calls(template, path)
        refused = 0
        for name, number in calls[:: rounds(12, 1)]:
            status, lines = write(template, path, "-e", f"inject={name}:error={error}:when={number}")
            refused += status != 0 or len([line for line in lines if line.startswith("refused")])
            assert read_number(path) == last(lines, "acknowledged", "unconfirmed"), (name, number, lines)
            assert leaves_nothing(path), (name, number)
        assert refused > len(calls[:: rounds(12, 1)]) // 3


@pytest.mark.slow
def test_a_process_killed_at_a_call_leaves_what_was_acknowledged(
    template: Path, rounds: Callable[[int, int], int]
) -> None:
    """Or what was under way, whole."""
    with memory_directory() as directory:
        path = directory / "store" / "store.db"
        path.parent.mkdir()
        calls = list_calls(template, path)
        for name, number in calls[:: rounds(12, 1)]:
            status, lines = write(template, path, "-e", f"inject={name}:signal=KILL:when={number}")
            assert status != 0
            acknowledged = last(lines, "acknowledged")
            assert read_number(path) in (acknowledged, acknowledged + 1), (name, number, lines)
            assert leaves_nothing(path), (name, number)


def test_what_the_disk_does_not_confirm_is_said_to_be_there(template: Path) -> None:
    """The last step of a commit puts on disk that the journal is gone: to fail there undoes nothing any more."""
    with memory_directory() as directory:
        path = directory / "store" / "store.db"
        path.parent.mkdir()
        last_sync = max(number for name, number in list_calls(template, path) if name == "fdatasync")
        status, lines = write(template, path, "-e", f"inject=fdatasync:error=EIO:when={last_sync}")
        assert (status, lines[:2]) == (0, ["acknowledged 1", "acknowledged 2"])
        assert lines[2].startswith("unconfirmed 3")
        assert lines[2].endswith("is written, but the disk did not confirm it")
        assert read_number(path) == 3
        assert leaves_nothing(path)
