"""The embedded store, opened by several processes and under other users."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from children import fork, run_unprivileged, wait
from ic_secrets.errors import (
    StoreExistsError,
    StoreReadError,
    StoreWriteError,
)
from ic_secrets.keys.sealing import MasterKey
from ic_secrets.stores.embedded import store as local
from ic_secrets.stores.embedded.store import LocalStore
from local_stores import (
    AGENCY,
    KEY,
    MY_SITE,
    dump,
    make_store,
    memory_directory,
    open_for_reading,
    put,
)

TESTS = str(Path(__file__).parent.parent)


@pytest.fixture
def path() -> Iterator[str]:
    """A filled store in a directory of its own."""
    with memory_directory() as directory:
        yield make_store(directory)


@pytest.fixture
def store(path: str) -> Iterator[LocalStore]:
    """The filled store, open for writing."""
    with local.open_store(path, [KEY]) as store:
        yield store


def test_of_many_who_make_one_store_one_succeeds(tmp_path: Path) -> None:
    """And it is that one's: its key opens it, the others' do not."""
    path = str(tmp_path / "store.db")
    keys = [MasterKey.generate() for _ in range(6)]
    children = [fork(lambda key=key: make_or_fail(path, key)) for key in keys]
    statuses = [wait(child) for child in children]
    assert sorted(statuses) == [0] + [1] * 5
    with local.open_store(path, [keys[statuses.index(0)]]) as store:
        assert store.generation == 1
    assert [p.name for p in tmp_path.iterdir()] == ["store.db"]


def make_or_fail(path: str, key: MasterKey) -> None:
    try:
        local.create(path, key).close()
    except StoreExistsError:
        os._exit(1)


def open_directory(path: str) -> Path:
    """A copy of the store where every user can reach and read it, but not write."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    (directory / "store.db").write_bytes(Path(path).read_bytes())
    (directory / "store.db").chmod(0o444)
    directory.chmod(0o555)
    return directory


@pytest.fixture
def unwritable(path: str) -> Iterator[str]:
    """The store in a directory that is not to be written."""
    directory = open_directory(path)
    yield str(directory / "store.db")
    directory.chmod(0o755)
    for name in directory.iterdir():
        name.unlink()
    directory.rmdir()


def test_a_build_reads_from_an_unwritable_directory(unwritable: str) -> None:
    """Neither the file nor its directory need be writable."""

    def child() -> None:
        with open_for_reading(unwritable) as store:
            site, organization = store.read_chain(MY_SITE, environment="dev", values=True)
            assert len(site.secrets) == 3
            assert organization.secrets[0].value is not None

    assert run_unprivileged(child) == 0


def test_a_write_to_an_unwritable_store_is_refused(unwritable: str) -> None:
    """In words of ours, and it can still be read."""

    def child() -> None:
        with local.open_store(unwritable, [KEY]) as store:
            before = dump(store)
            with pytest.raises(StoreWriteError, match=r"store\.db cannot be written"):
                put(store, MY_SITE, None, "API_KEY")
            assert dump(store) == before

    assert run_unprivileged(child) == 0


def test_a_store_that_cannot_be_read_says_so(unwritable: str) -> None:
    """It is there, but not for this user: that is neither missing nor locked."""
    os.chmod(unwritable, 0o000)

    def child(read_only: bool) -> None:
        with pytest.raises(StoreReadError, match=r"store\.db cannot be read"):
            local.open_store(unwritable, [KEY], read_only=read_only)

    for read_only in (False, True):
        assert run_unprivileged(lambda read_only=read_only: child(read_only)) == 0


def test_a_snapshot_is_of_one_moment(path: str) -> None:
    """What another process writes meanwhile waits; a chain is never half old and half new."""
    program = f"""
from local_stores import *
with local.open_store({path!r}, [KEY]) as store:
    with store.transaction():
        put(store, MY_SITE, None, "API_KEY")
        put(store, AGENCY, None, "API_KEY")
        print("written", flush=True)
"""
    with open_for_reading(path) as reader:
        with reader.snapshot():
            first = reader.generation
            before = reader.read(MY_SITE), reader.read(AGENCY)
            writer = subprocess.Popen(
                [sys.executable, "-c", program],
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([TESTS, os.environ.get("PYTHONPATH", "")])},
            )
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"written\n"
            # It now tries to commit, which it cannot before this snapshot ends.
            assert (reader.read(MY_SITE), reader.read(AGENCY)) == before
            assert reader.generation == first
            assert writer.poll() is None
        assert writer.wait() == 0
        writer.stdout.close()
        assert reader.generation == first + 1
        assert (reader.read(MY_SITE).secrets[0].version, reader.read(AGENCY).secrets[0].version) == (3, 2)


def test_names_are_read_without_opening_a_value(path: str) -> None:
    """`list` and completions need no cryptography, and no module that is slow to import."""
    program = f"""
import sys
before = set(sys.modules)
from ic_secrets.keys import sealing
from ic_secrets.stores.embedded import store as local
from ic_secrets.model.secret import Owner
with local.open_store({path!r}, [sealing.MasterKey(bytes(range(32)))], read_only=True) as store:
    chain = store.read_chain(Owner.site("my-site"))
    assert [secret.name for secret in chain[0].secrets][0] == "API_KEY", chain
    assert len(list(store.sites())) == 3
    loaded = {{name.partition(".")[0] for name in set(sys.modules) - before}}
    assert not loaded & {{"cryptography", "pathlib", "tempfile", "shutil", "urllib", "platformdirs", "random"}}, loaded
    assert store.read(Owner.site("my-site")).secrets[0].value is not None
    assert "cryptography" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
