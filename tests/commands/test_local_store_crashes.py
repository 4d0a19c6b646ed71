"""The embedded store among many writers, killed ones, and on a disk that is full: nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from children import fork, run_in_child, run_unprivileged, wait
from ic_secrets.errors import StoreReadError, StoreWriteError
from ic_secrets.model.secret import Owner, SecretType, SecretValue, Site
from ic_secrets.stores.base import Place, Write
from ic_secrets.stores.embedded import store as local
from ic_secrets.stores.embedded.database import BUSY_TIMEOUT_MS
from local_stores import (
    AGENCY,
    BUILD,
    KEY,
    MY_SITE,
    cut_off_a_write,
    dump,
    make_store,
    memory_directory,
    open_for_reading,
)


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A filled store on a real disk."""
    return make_store(tmp_path)


def set_value(store: local.LocalStore, owner: Owner, name: str, text: str) -> None:
    store.put(Place(owner, None, name), Write(SecretValue(text), type=SecretType.ENV, scopes=BUILD))


# --- many writers -----------------------------------------------------------------------------------


def test_fifty_writers_lose_nothing(rounds: Callable[[int, int], int]) -> None:
    """Each writes to its own site and to the one organization; every write counts once."""
    with memory_directory() as directory:
        check_fifty_writers(make_store(directory), rounds(2, 20))


def check_fifty_writers(path: str, writes: int) -> None:
    with open_for_reading(path) as store:
        before = store.generation

    def write(number: int) -> None:
        with local.open_store(path, [KEY], busy_timeout=writes * BUSY_TIMEOUT_MS) as store:
            for turn in range(writes):
                with store.transaction():
                    set_value(store, Owner("site", f"site-{number}"), f"KEY_{turn}", f"{number} {turn}")
                    set_value(store, AGENCY, f"KEY_{number}_{turn}", f"{number} {turn}")
                set_value(store, AGENCY, "SHARED", f"{number} {turn}")

    children = [fork(lambda number=number: write(number)) for number in range(50)]
    assert [wait(child) for child in children] == [0] * 50
    with open_for_reading(path) as store:
        organization = {secret.name: secret for secret in store.read(AGENCY).secrets}
        assert store.generation == before + 2 * 50 * writes
        assert organization["SHARED"].version == 50 * writes
        for number in range(50):
            site = {secret.name: secret.value for secret in store.read(Owner("site", f"site-{number}")).secrets}
            assert site == {f"KEY_{turn}": SecretValue(f"{number} {turn}") for turn in range(writes)}
            for turn in range(writes):
                assert organization[f"KEY_{number}_{turn}"].value == SecretValue(f"{number} {turn}")


# --- killed writers ---------------------------------------------------------------------------------


def test_a_killed_writer_leaves_what_it_acknowledged(path: str, rounds: Callable[[int, int], int]) -> None:
    """At whatever moment: the last acknowledged value or the one under way, whole and verified.

    A journal that was not yet begun may lie there until the next write, which leaves no other file.
    """
    chosen = random.Random()
    version = 0
    for _ in range(rounds(12, 300)):
        with contextlib.ExitStack() as stack:
            acknowledged, told = os.pipe()
            stack.callback(os.close, acknowledged)
            child = fork(lambda told=told: write_for_ever(path, told))
            os.close(told)
            for _ in range(chosen.randrange(1, 4)):
                version = int(os.read(acknowledged, 20))
            # It goes on writing. Within this time it acknowledges, or it does not: the kill comes at any moment.
            select.select([acknowledged], [], [], chosen.random() * 0.01)
            os.kill(child, signal.SIGKILL)
            assert wait(child) == -signal.SIGKILL
            for said in os.read(acknowledged, 65536).split():
                version = int(said)
        with open_for_reading(path) as store:
            dump(store)
            (secret,) = (secret for secret in store.read(MY_SITE).secrets if secret.name == "COUNTER")
            assert secret.version in (version, version + 1)
            assert secret.value == SecretValue(f"{secret.version} " * 500)
            (other,) = (secret for secret in store.read(AGENCY).secrets if secret.name == "COUNTER")
            assert other.version == secret.version
    with local.open_store(path, [KEY]) as store:
        set_value(store, MY_SITE, "AFTERWARDS", "v")
    assert os.listdir(os.path.dirname(path)) == ["store.db"]


def write_for_ever(path: str, told: int) -> None:
    with local.open_store(path, [KEY]) as store:
        version = next((s.version for s in store.read(MY_SITE).secrets if s.name == "COUNTER"), 0)
        while True:
            version += 1
            with store.transaction():
                for owner in (MY_SITE, AGENCY):
                    set_value(store, owner, "COUNTER", f"{version} " * 500)
            os.write(told, b"%19d\n" % version)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_write_that_was_cut_off_is_undone_by_who_comes_next(path: str, read_only: bool) -> None:
    """A build too, which cannot do it over its own connection; also one that was open before."""
    with open_for_reading(path) as store:
        before = dump(store)
    cut_off_a_write(path)
    with local.open_store(path, [KEY], read_only=read_only) as store:
        assert dump(store) == before
    assert os.listdir(os.path.dirname(path)) == ["store.db"]
    with local.open_store(path, [KEY], read_only=read_only) as store:
        cut_off_a_write(path)
        assert dump(store) == before


def test_who_may_not_undo_a_write_is_told_so() -> None:
    """In a directory that is not to be written the half-written store is no answer, and neither is it tampered with."""
    with memory_directory() as directory:
        path = make_store(directory)
        cut_off_a_write(path)
        os.chmod(path, 0o444)
        os.chmod(path + "-journal", 0o444)
        directory.chmod(0o555)

        def child() -> None:
            for read_only in (True, False):
                with pytest.raises(StoreReadError, match="a write was cut off") as caught:
                    local.open_store(path, [KEY], read_only=read_only)
                assert "run any command once" in caught.value.hint

        assert run_unprivileged(child) == 0
        directory.chmod(0o755)
        os.chmod(path, 0o600)
        with open_for_reading(path) as store:
            assert len(dump(store)[0]) == 3


def test_a_killed_init_leaves_no_store(tmp_path: Path) -> None:
    """At each step of it: none, or a whole one; and the next init works and cleans up."""
    path = tmp_path / "store.db"
    outcomes = set()
    for step in range(1, 60):
        status = run_in_child(lambda step=step: create_until(str(path), step))
        if path.exists():
            with open_for_reading(str(path)) as store:
                assert list(store.sites()) == []
        else:
            local.create(str(path), KEY).close()
        outcomes.add(status)
        assert [name for name in os.listdir(tmp_path) if name != "store.db"] in ([], ["store.db.new"])
        path.unlink()
        if status == 0:
            break
    assert outcomes == {-signal.SIGKILL, 0}
    local.create(str(path), KEY).close()
    assert os.listdir(tmp_path) == ["store.db"]


def create_until(path: str, step: int) -> None:
    """Make a store, and be killed before the step-th change to the file system or to the tables."""
    watched = {"open", "os.link", "os.remove", "os.mkdir", "sqlite3.connect"}
    left = step

    def count(event: str, _: tuple[object, ...]) -> None:
        nonlocal left
        if event in watched:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    local.create(path, KEY).close()


# --- a full disk ------------------------------------------------------------------------------------


def fill_up(path: str) -> None:
    """Write until the disk refuses, then see that all that was acknowledged is there and nothing else."""
    with local.open_store(path, [KEY]) as store:
        kept = dump(store)
        acknowledged: list[str] = []
        with pytest.raises(StoreWriteError, match=r"store\.db cannot be written: (.* is full|disk I/O error)"):
            write_big_values(store, acknowledged)
        for _ in range(2):  # by the connection that failed, and by one that never wrote
            names = [secret.name for secret in store.read(AGENCY).secrets if secret.name.startswith("BIG_")]
            assert sorted(names) == sorted(acknowledged)
            assert dump(store)[0] == kept[0]
            assert store.read(MY_SITE) == kept[1][0]
            store = local.open_store(path, [KEY], read_only=True)
        store.close()
    assert os.listdir(os.path.dirname(path)) == ["store.db"]


def write_big_values(store: local.LocalStore, acknowledged: list[str]) -> None:
    for number in range(500):
        set_value(store, AGENCY, f"BIG_{number}", "x" * 16_384)
        acknowledged.append(f"BIG_{number}")


def test_a_file_that_may_not_grow_refuses_the_write(path: str) -> None:
    """RLIMIT_FSIZE stands for a full disk or a quota: the store stays as it was, and says why."""

    def child() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
        fill_up(path)

    assert run_in_child(child) == 0
    with local.open_store(path, [KEY]) as store:
        set_value(store, MY_SITE, "AFTERWARDS", "v")


def test_a_bulk_that_does_not_fit_leaves_nothing(path: str) -> None:
    """Even where its caller goes on after the refusal, no later write slips in alone."""

    def child() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
        with local.open_store(path, [KEY]) as store:
            store._database.query("PRAGMA cache_size = 10")  # so that it writes, and fails, before the commit
            before = dump(store), store.generation
            with pytest.raises(StoreWriteError):
                write_whatever_happens(store)
            assert (dump(store), store.generation) == before

    assert run_in_child(child) == 0


def write_whatever_happens(store: local.LocalStore) -> None:
    with store.transaction():
        for number in range(100):
            with contextlib.suppress(StoreWriteError):
                set_value(store, MY_SITE, f"BIG_{number}", "x" * 16_384)
                store.set_site(Site(f"site-{number}"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("a file system can be mounted only by root")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_refuses_the_write_and_keeps_the_store(small_disk: Path) -> None:
    """A real one: also with not a byte left for a journal; it is written again when there is room."""
    path = make_store(small_disk)
    fill_up(path)
    with open(small_disk / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(512)):
            pass
    with local.open_store(path, [KEY]) as store:
        before = dump(store)
        with pytest.raises(StoreWriteError):
            store.delete(Place(MY_SITE, None, "API_KEY"))
        assert dump(store) == before
        (small_disk / "filler").unlink()
        assert store.delete(Place(MY_SITE, None, "API_KEY")) == 3


def test_a_full_disk_has_no_room_for_a_new_store(small_disk: Path) -> None:
    """And nothing of one is left there."""
    with open(small_disk / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    with pytest.raises(StoreWriteError):
        local.create(str(small_disk / "store.db"), KEY)
    assert os.listdir(small_disk) == ["filler"]


def test_a_store_cannot_be_made_where_nothing_can(tmp_path: Path) -> None:
    """The message has the path and the reason."""
    (tmp_path / "file").write_text("")
    for path in (str(tmp_path / "file" / "store.db"), "a\0b", "/proc/store.db"):
        with pytest.raises(StoreWriteError, match="no store can be made"):
            local.create(path, KEY)
