"""The embedded store as a file: made, opened, refused, and what can be seen of it from outside."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ic_secrets.errors import (
    BaseMissingError,
    ImmutableError,
    InvalidNameError,
    InvalidValueError,
    StoreBusyError,
    StoreError,
    StoreExistsError,
    StoreFormatError,
    StoreLockedError,
    StoreMissingError,
    StoreReadError,
    StoreTamperedError,
    StoreUnconfirmedError,
    StoreWriteError,
)
from ic_secrets.keys.sealing import MasterKey
from ic_secrets.model.secret import MAX_TIME, Owner, Scope, SecretType, SecretValue, Site
from ic_secrets.stores.base import Place, Write
from ic_secrets.stores.embedded import session, store as local
from ic_secrets.stores.embedded.manifest import OWNER_COLUMNS, Macs
from ic_secrets.stores.embedded.repair import check
from ic_secrets.stores.embedded.rows import Row
from ic_secrets.stores.embedded.session import Session
from ic_secrets.stores.embedded.store import LocalStore
from local_stores import (
    BUILD,
    CANARY,
    EMPTY,
    KEY,
    MY_SITE,
    OTHER_SITE,
    dump,
    make_store,
    memory_directory,
    open_for_reading,
    put,
    raw,
)


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


# --- making one -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_new_store_is_private(tmp_path: Path, mask: int) -> None:
    """0600 below directories of 0700, whatever the umask, and alone in its directory."""
    tmp_path.chmod(0o755)
    path = tmp_path / "a" / "b" / "store.db"
    before = os.umask(mask)
    try:
        local.create(str(path), KEY).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [stat.S_IMODE(p.stat().st_mode) for p in (path.parent, path.parent.parent, tmp_path)] == [
        0o700,
        0o700,
        0o755,
    ]
    assert [p.name for p in path.parent.iterdir()] == ["store.db"]
    assert path.stat().st_nlink == 1


def test_a_new_store_can_be_written_at_once(tmp_path: Path) -> None:
    """And opened by its key alone; two stores are never the same, even under one key."""
    with local.create(str(tmp_path / "one"), KEY) as one, local.create(str(tmp_path / "two"), KEY) as two:
        put(one, MY_SITE, None, "KEY", SecretType.ENV)
        assert one.generation == 2
        assert two.generation == 1
        assert one.store_id != two.store_id
        assert one.url == f"sqlite:{tmp_path}/one"
    with local.open_store(str(tmp_path / "one"), [KEY]) as again:
        assert again.store_id == one.store_id


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_a_store_is_never_made_over_something(tmp_path: Path, make: Callable[[Path], object]) -> None:
    """Not even over an empty file or through a link to nothing."""
    path = tmp_path / "store.db"
    make(path)
    before = os.lstat(path)
    with pytest.raises(StoreExistsError, match=r"store\.db"):
        local.create(str(path), KEY)
    assert os.path.samestat(os.lstat(path), before)
    assert [p.name for p in tmp_path.iterdir()] == ["store.db"]


def test_a_store_that_exists_is_left_as_it_is(path: str) -> None:
    """Another `init` changes no byte of it."""
    before = Path(path).read_bytes()
    with pytest.raises(StoreExistsError):
        local.create(path, MasterKey.generate())
    assert Path(path).read_bytes() == before


@pytest.mark.parametrize(
    "name",
    ["with space", "100%25.db", "what?mode=memory", "a#b", "ünï.db", b"raw-\xff.db", ":memory:", "file:x", "-x", "'"],
)
def test_a_store_can_have_any_name(tmp_path: Path, name: str | bytes) -> None:
    """SQLite takes a URL, in which such names would mean something else."""
    path = os.path.join(tmp_path, os.fsdecode(name))
    with local.create(path, KEY) as store:
        put(store, MY_SITE, None, "KEY", SecretType.ENV)
    with open_for_reading(path) as store:
        assert len(store.read(MY_SITE).secrets) == 1
    assert os.listdir(os.fsencode(tmp_path)) == [os.fsencode(name)]


def test_a_relative_path_is_that_of_its_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the working directory changes later."""
    monkeypatch.chdir(tmp_path)
    with local.create("store.db", KEY) as store:
        monkeypatch.chdir("/")
        put(store, MY_SITE, None, "KEY", SecretType.ENV)
    assert (tmp_path / "store.db").exists()


# --- opening one ------------------------------------------------------------------------------------


@pytest.mark.parametrize("read_only", [False, True])
def test_a_store_opens_with_the_right_key_among_others(path: str, read_only: bool) -> None:
    """As during a rotation, when readers hold two; in any order."""
    other = MasterKey.generate()
    for keys in ([KEY], [KEY, other], [other, KEY]):
        with local.open_store(path, keys, read_only=read_only) as store:
            assert len(store.read(MY_SITE).secrets) == 3


@pytest.mark.parametrize("read_only", [False, True])
def test_a_wrong_key_opens_nothing(path: str, read_only: bool) -> None:
    """Not even the names; the message tells the keys apart by their ids."""
    other = MasterKey.generate()
    for keys in ([], [other], [other, MasterKey.generate()]):
        with pytest.raises(StoreLockedError) as caught:
            local.open_store(path, keys, read_only=read_only)
        assert KEY.id in str(caught.value)
        assert all(key.id in str(caught.value) for key in keys)
        assert "IC_SECRETS_KEY_FILE" in caught.value.hint


def make_other_database(path: Path) -> None:
    """Make a database of SQLite that is not a store."""
    with raw(str(path)) as connection:
        connection.execute("CREATE TABLE secrets (a)")


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda path: None, StoreMissingError),
        (lambda path: path.symlink_to("nowhere"), StoreMissingError),
        (Path.touch, StoreFormatError),
        (Path.mkdir, StoreFormatError),
        (os.mkfifo, StoreFormatError),
        (lambda path: path.symlink_to("store.db"), StoreReadError),
        (lambda path: path.write_text("no store\n" * 500), StoreFormatError),
        (lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(8192)), StoreError),
        (make_other_database, StoreFormatError),
    ],
)
def test_what_is_no_store_is_refused(
    tmp_path: Path, make: Callable[[Path], object], error: type[StoreError], read_only: bool
) -> None:
    """Named, unchanged, and with nothing made beside it."""
    path = tmp_path / "store.db"
    make(path)
    before = path.read_bytes() if path.is_file() else None, sorted(tmp_path.iterdir())
    with pytest.raises(error, match=r"store\.db"):
        local.open_store(str(path), [KEY], read_only=read_only)
    assert (path.read_bytes() if path.is_file() else None, sorted(tmp_path.iterdir())) == before


@pytest.mark.parametrize("name", ["a\0b", "/etc/passwd/store.db", ""])
def test_a_path_that_can_be_no_store_has_none(name: str) -> None:
    """Whatever the system says of such a path."""
    with pytest.raises((StoreMissingError, StoreFormatError)):
        local.open_store(name, [KEY])


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_format_is_refused(path: str, read_only: bool) -> None:
    """With the advice to upgrade, and without a try at reading it."""
    with raw(path) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("CREATE TABLE later (a)")
    with pytest.raises(StoreFormatError, match="the format 99") as caught:
        local.open_store(path, [KEY], read_only=read_only)
    assert "upgrade" in caught.value.hint


def test_a_store_is_of_the_first_format_until_a_secret_is_bound(tmp_path: Path) -> None:
    """So long an earlier version reads it too. What is not bound keeps its row, its seal and its MAC."""
    path = str(tmp_path / "store.db")
    with local.create(path, KEY) as store:
        for name in ("API_KEY", "OTHER"):
            put(store, MY_SITE, None, name, SecretType.ENV)

    def look() -> tuple[int, list[tuple[object, ...]]]:
        with raw(path) as db:
            ((version,),) = db.execute("PRAGMA user_version").fetchall()
            return version, [row[:13] for row in db.execute("SELECT * FROM secrets ORDER BY name")]

    before = look()
    with local.open_store(path, [KEY]) as store, open_for_reading(path) as other:
        with contextlib.suppress(KeyboardInterrupt), store.transaction():
            store.bind(MY_SITE, "API_KEY", ("a.example.com",))
            raise KeyboardInterrupt
        assert (before[0], look()) == (1, before)
        put(store, MY_SITE, None, "LATER", SecretType.ENV)
        store.bind(MY_SITE, "API_KEY", ("a.example.com",))
        put(store, MY_SITE, None, "LATEST", SecretType.ENV)
        store.bind(MY_SITE, "API_KEY", ("a.example.com",))
        for each in (store, other):
            hosts = {secret.name: secret.hosts for secret in each.read(MY_SITE).secrets}
            assert hosts == {"API_KEY": ("a.example.com",), "LATER": (), "LATEST": (), "OTHER": ()}
    after = look()
    assert (after[0], after[1][-1]) == (2, before[1][-1])
    assert check(path, [KEY], lambda done, total: None).fault == ""


@pytest.mark.parametrize("size", [0, 100, 512, 4096, 8192, -4096, -1])
def test_a_truncated_store_is_refused(path: str, size: int) -> None:
    """Wherever it was cut."""
    os.truncate(path, size if size >= 0 else os.path.getsize(path) + size)
    with pytest.raises(StoreError), open_for_reading(path) as store:
        dump(store)


def test_a_store_in_another_journal_mode_is_brought_back(path: str) -> None:
    """A reader of a directory that it may not write could not open a WAL."""
    with raw(path) as connection:
        assert connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    with local.open_store(path, [KEY]) as store:
        put(store, MY_SITE, None, "API_KEY")
        assert os.listdir(os.path.dirname(path)) == ["store.db"]
    with raw(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_foreign_database_is_not_converted(tmp_path: Path) -> None:
    """To be told apart it is only read."""
    path = tmp_path / "other.db"
    with raw(str(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (a)")
    with pytest.raises(StoreFormatError):
        local.open_store(str(path), [KEY])
    with raw(str(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


# --- reading only -----------------------------------------------------------------------------------


def test_reading_writes_nothing(path: str) -> None:
    """Not a byte, not a file beside it, and every write is refused."""
    before = Path(path).read_bytes(), os.stat(path).st_mtime_ns
    with open_for_reading(path) as store:
        dump(store)
        with store.transaction():
            store.read_chain(MY_SITE, values=True)
            assert os.listdir(os.path.dirname(path)) == ["store.db"]
        for write in (
            lambda: put(store, MY_SITE, None, "API_KEY"),
            lambda: store.set_site(Site("new")),
            lambda: store.delete_site("my-site"),
            lambda: store.delete(Place(MY_SITE, None, "API_KEY")),
        ):
            with pytest.raises(StoreWriteError, match="for reading only"):
                write()
    assert (Path(path).read_bytes(), os.stat(path).st_mtime_ns) == before


# --- transactions and locks -------------------------------------------------------------------------


def test_a_write_waits_for_the_lock_and_gives_up(path: str) -> None:
    """Named as busy; a reader goes on meanwhile; afterwards it works."""
    with raw(path) as connection, local.open_store(path, [KEY], busy_timeout=20) as store:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusyError, match="locked by another process"):
            put(store, MY_SITE, None, "API_KEY")
        assert len(store.read(MY_SITE).secrets) == 3
        connection.rollback()
        put(store, MY_SITE, None, "API_KEY")


def test_a_commit_that_waits_too_long_leaves_nothing(path: str) -> None:
    """A reader holds it up: the write is undone, and said to be busy."""
    with open_for_reading(path) as reader, local.open_store(path, [KEY], busy_timeout=20) as store:
        before = dump(store)
        with reader.snapshot():
            reader.read(MY_SITE)
            with pytest.raises(StoreBusyError):
                put(store, MY_SITE, None, "API_KEY")
        assert dump(store) == before
        put(store, MY_SITE, None, "API_KEY")


def test_a_transaction_that_changes_nothing_waits_for_no_reader(path: str) -> None:
    """There is nothing to put on disk, and no generation to count up."""
    with open_for_reading(path) as reader, local.open_store(path, [KEY], busy_timeout=20) as store:
        before = reader.generation
        with reader.snapshot():
            reader.site("my-site")
            with store.transaction():
                store.site("my-site")
        assert store.generation == before


def test_a_reader_behind_an_exclusive_lock_gives_up(path: str) -> None:
    """That too is busy, not damaged."""
    with raw(path) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreBusyError):
            local.open_store(path, [KEY], read_only=True, busy_timeout=20)


def test_the_generation_counts_the_writes(store: LocalStore) -> None:
    """One for each transaction that changed something; reading and refusals are none."""
    first = store.generation
    put(store, MY_SITE, None, "API_KEY")
    assert store.generation == first + 1
    with store.transaction():
        for _ in range(3):
            put(store, MY_SITE, None, "API_KEY")
    assert store.generation == first + 2
    dump(store)
    with store.transaction():
        store.read(MY_SITE)
    with pytest.raises(BaseMissingError):
        put(store, MY_SITE, "dev", "UNKNOWN")
    assert store.generation == first + 2
    store.set_site(Site("my-site"))
    store.delete(Place(MY_SITE, None, "API_KEY"))
    store.delete_site("my-site")
    assert store.generation == first + 5


def test_a_transaction_within_another_is_a_part_of_it(store: LocalStore) -> None:
    """It ends with the outer one; when it fails, so does that, even if somebody catches the error."""
    first = store.generation
    with store.transaction():
        put(store, MY_SITE, None, "API_KEY")
        with store.transaction():
            put(store, MY_SITE, None, "LICENSE_KEY")
    assert store.generation == first + 1
    before = dump(store)
    with pytest.raises(StoreWriteError, match="a part of the transaction failed"):
        go_on_after_a_failure(store)
    assert dump(store) == before
    assert store.generation == first + 1


def go_on_after_a_failure(store: LocalStore) -> None:
    with store.transaction():
        put(store, MY_SITE, None, "API_KEY")
        with contextlib.suppress(ImmutableError), store.transaction():
            put(store, MY_SITE, None, "LICENSE_KEY")
            put(store, MY_SITE, None, "API_KEY", SecretType.RUNTIME)
        with pytest.raises(StoreWriteError, match="an earlier write"):
            put(store, MY_SITE, None, "API_KEY")


@pytest.mark.parametrize(
    "write",
    [
        lambda store: put(store, MY_SITE, None, "API_KEY"),
        lambda store: store.set_site(Site("my-site")),
        lambda store: store.delete_site("my-site"),
        lambda store: None,
    ],
)
def test_nothing_is_written_outside_of_its_transaction(store: LocalStore, write: Callable[[LocalStore], None]) -> None:
    """When SQLite itself has undone it after a failure, what follows is refused, not kept piece by piece."""
    before = dump(store)
    with pytest.raises(StoreWriteError, match="its transaction has ended"):
        go_on_after_a_rollback(store, write)
    assert dump(store) == before


def go_on_after_a_rollback(store: LocalStore, write: Callable[[LocalStore], None]) -> None:
    with store.transaction():
        put(store, MY_SITE, None, "API_KEY")
        store._database._connection.rollback()
        write(store)


def test_an_organization_whose_only_secret_goes_in_the_same_transaction_was_never_there(store: LocalStore) -> None:
    """A site would stay; an organization is what it holds."""
    fresh = Owner("organization", "fresh")
    before = list(store.owners())
    with store.transaction():
        put(store, fresh, None, "API_KEY", SecretType.ENV)
        store.delete(Place(fresh, None, "API_KEY"))
    assert list(store.owners()) == before


def test_a_type_of_a_newer_version_is_named(tmp_path: Path) -> None:
    """It is genuine, so the store is not called damaged."""

    def fill(session: Session) -> None:
        row = Row("organization", "agency", "API_KEY", "", "base", "passkey", "ic", 1, 0, 0, None, 0, b"")
        session.write(row, SecretValue(CANARY))

    said = "type 'passkey', which this version does not know"
    with local.create(str(tmp_path / "store.db"), KEY, fill) as store, pytest.raises(StoreFormatError, match=said):
        store.read(Owner("organization", "agency"))


def test_a_data_key_that_does_not_open_is_named_by_a_rotation_and_nothing_is_written(tmp_path: Path) -> None:
    """Even where the manifest vouches for it, as after a fault of ours."""

    def spoil(session: Session) -> None:
        session.set_site(EMPTY, None, ())
        session.manifest.data_keys[1] = bytes(60)
        session._database.run("UPDATE data_keys SET wrapped = ?", (bytes(60),))

    with local.create(str(tmp_path / "store.db"), KEY, spoil) as store:
        before = store.generation
        with pytest.raises(StoreTamperedError, match="the data key 1 was changed"):
            store.rotate(MasterKey(bytes(32)))
        assert store.generation == before
    local.open_store(str(tmp_path / "store.db"), [KEY]).close()


def test_what_was_written_before_a_rotation_in_the_same_transaction_is_under_the_new_key(
    store: LocalStore, path: str
) -> None:
    new = MasterKey(bytes(32))
    with store.transaction():
        put(store, EMPTY, None, "API_KEY", SecretType.ENV)
        assert store.rotate(new)
    store.close()
    with local.open_store(path, [new], read_only=True) as again:
        assert [secret.name for secret in again.read(EMPTY).secrets] == ["API_KEY"]


@pytest.mark.parametrize("refused", [("ROLLBACK",), ("COMMIT", "ROLLBACK")])
def test_a_transaction_that_cannot_be_undone_is_undone_by_who_opens_the_store_next(
    store: LocalStore, path: str, refused: tuple[str, ...]
) -> None:
    """This connection is closed, so that nothing more is written by it."""
    before = dump(store)

    def authorize(_action: int, operation: str | None, *_: str | None) -> int:
        return sqlite3.SQLITE_DENY if operation in refused else sqlite3.SQLITE_OK

    store._database._connection.set_authorizer(authorize)
    with pytest.raises((StoreError, InvalidNameError)) as caught:
        write_in_vain(store, environment="dev" if "COMMIT" in refused else "no environment")
    assert not isinstance(caught.value, StoreUnconfirmedError)
    with pytest.raises(StoreError, match="closed database"):
        dump(store)
    with open_for_reading(path) as again:
        assert dump(again) == before


def write_in_vain(store: LocalStore, environment: str) -> None:
    with store.transaction():
        put(store, MY_SITE, None, "API_KEY")
        put(store, MY_SITE, environment, "API_KEY")


def test_a_key_id_that_cannot_be_one_is_not_believed(path: str) -> None:
    assert local.read_master_id(path) == KEY.id
    with raw(path) as connection:
        connection.execute("UPDATE store SET master = 'x'")
    with pytest.raises(StoreTamperedError, match="the manifest was changed"):
        local.read_master_id(path)


def test_an_owners_record_is_known_by_its_mac(path: str) -> None:
    with raw(path) as connection:
        (store_id,) = connection.execute("SELECT id FROM store").fetchone()
        query = f"SELECT {OWNER_COLUMNS} FROM owners WHERE name = 'my-site'"
        columns = connection.execute(query).fetchone()
    macs = Macs(KEY, store_id)
    record = macs.find_record(columns)
    assert record
    assert (record.owner, record.organization, record.supporting) == (MY_SITE, "agency", ("help",))
    for number in range(len(columns)):
        for other in (columns[number] + columns[number][:1], 7):
            assert macs.find_record((*columns[:number], other, *columns[number + 1 :])) is None


def test_a_write_that_was_interrupted_spoils_its_transaction(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its traces cannot be told from what was meant, even if the caller goes on as if nothing had happened."""
    before = dump(store)
    with pytest.raises(StoreWriteError, match="a part of the transaction failed"):
        go_on_after_an_interrupt(store, monkeypatch)
    assert dump(store) == before


def go_on_after_an_interrupt(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> bytes:
        raise KeyboardInterrupt

    with store.transaction():
        put(store, MY_SITE, None, "LICENSE_KEY")
        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            patch.setattr(os, "urandom", interrupt)
            put(store, MY_SITE, None, "API_KEY")
        with pytest.raises(StoreWriteError, match="an earlier write"):
            put(store, MY_SITE, None, "API_KEY")


def test_the_connection_is_set_up_for_safety(store: LocalStore, path: str) -> None:
    """As the promises about crashes, enemies and the disk need it."""
    wanted = {
        "journal_mode": "delete",
        "synchronous": 3,  # EXTRA: the directory too is on disk before a write is acknowledged
        "secure_delete": 1,
        "trusted_schema": 0,
        "cell_size_check": 1,
        "temp_store": 2,  # memory: no temporary file holds what the store does
        "busy_timeout": 30_000,
    }
    assert {name: store._database.query(f"PRAGMA {name}")[0][0] for name in wanted} == wanted
    with open_for_reading(path) as reader:
        for name in ("trusted_schema", "cell_size_check", "temp_store", "busy_timeout"):
            assert reader._database.query(f"PRAGMA {name}")[0][0] == wanted[name]


def test_a_snapshot_is_not_written(store: LocalStore) -> None:
    """It has no write lock, and could not get one safely."""
    with store.snapshot():
        for attempt in (lambda: put(store, MY_SITE, None, "API_KEY"), lambda: store.transaction().__enter__()):
            with pytest.raises(StoreWriteError, match="for reading"):
                attempt()
        assert len(store.read(MY_SITE).secrets) == 3
    put(store, MY_SITE, None, "API_KEY")


def test_a_closed_store_says_so(path: str) -> None:
    """Every method, in words of ours; within a transaction nothing was written."""
    store = local.open_store(path, [KEY])
    store.close()
    store.close()
    for use in (
        lambda: store.read(MY_SITE),
        lambda: store.site("my-site"),
        store.sites,
        lambda: put(store, MY_SITE, None, "API_KEY"),
        lambda: store.generation,
    ):
        with pytest.raises(StoreError, match="closed"):
            use()
    with open_for_reading(path) as reader:
        before = dump(reader)
    with pytest.raises(StoreError):
        close_too_early(local.open_store(path, [KEY]))
    with open_for_reading(path) as reader:
        assert dump(reader) == before


def close_too_early(store: LocalStore) -> None:
    with store.transaction():
        put(store, MY_SITE, None, "API_KEY")
        store.close()


def test_another_thread_is_refused_in_our_words(store: LocalStore) -> None:
    """A store is for one thread."""
    with ThreadPoolExecutor(1) as pool, pytest.raises(StoreError):
        pool.submit(store.read, MY_SITE).result()


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [
        lambda store: put(store, Owner("site", "Not A Site"), None, "KEY", SecretType.ENV),
        lambda store: put(store, Owner("team", "a"), None, "KEY", SecretType.ENV),
        lambda store: put(store, Owner("organization", "../x"), None, "KEY", SecretType.ENV),
        lambda store: put(store, MY_SITE, "", "API_KEY"),
        lambda store: put(store, MY_SITE, "a-very-long-environment", "API_KEY"),
        lambda store: put(store, MY_SITE, None, "no-variable", SecretType.ENV),
        lambda store: store.delete(Place(MY_SITE, "", "API_KEY")),
        lambda store: store.set_site(Site("Not A Site")),
        lambda store: store.set_site(Site("my-site", "")),
        lambda store: store.set_site(Site("my-site", "A B")),
        lambda store: store.set_site(Site("my-site", "agency", ("help", "a,b"))),
        lambda store: store.site("\udcff"),
        lambda store: store.delete_site(""),
    ],
)
def test_names_that_are_none_are_refused(store: LocalStore, write: Callable[[LocalStore], object]) -> None:
    """Whatever came before the store; nothing is changed."""
    before = dump(store)
    with pytest.raises(InvalidNameError):
        write(store)
    assert dump(store) == before


@pytest.mark.parametrize("expires", [-1, MAX_TIME, 2**64])
def test_a_time_that_is_none_is_refused(store: LocalStore, expires: int) -> None:
    """Beyond what every reader can hold exactly."""
    with pytest.raises(InvalidValueError):
        store.put(Place(MY_SITE, None, "API_KEY"), Write(SecretValue("v"), expires=expires))


def test_times_are_those_of_the_writes(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole seconds since 1970: created by the first value, changed by each."""
    for now in (1_000.9, 2_000.1, 3_000.0):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        put(store, MY_SITE, None, "NEW", SecretType.ENV)
        put(store, MY_SITE, "dev", "NEW")
        holdings = store.read(MY_SITE)
        secret = next(secret for secret in holdings.secrets if secret.name == "NEW")
        override = next(override for override in holdings.overrides if override.name == "NEW")
        assert (secret.created, secret.changed) == (override.created, override.changed) == (1000, int(now))


# --- what can be seen from outside ------------------------------------------------------------------


def test_no_value_and_no_key_is_in_the_file(path: str) -> None:
    """Nor in its journal, nor in a message: names are readable there, values in no form."""
    hidden = [CANARY.encode(), CANARY.encode().hex().encode(), KEY.format()[17:].encode(), bytes(range(32))]
    with local.open_store(path, [KEY]) as store, store.transaction():
        for number in range(2000):
            store.put(
                Place(MY_SITE, None, f"KEY_{number}"),
                Write(SecretValue(CANARY * 50), type=SecretType.ENV, scopes=BUILD),
            )
        files = {name: (Path(path).parent / name).read_bytes() for name in os.listdir(os.path.dirname(path))}
    files["committed"] = Path(path).read_bytes()
    assert b"API_KEY" in files["committed"]
    assert not [(name, needle) for name, data in files.items() for needle in hidden if needle in data]


def test_what_was_deleted_or_replaced_is_gone_from_the_file(path: str) -> None:
    """Not even its sealed form stays in free pages, where a key that leaks later would open it."""
    with raw(path) as connection:
        sealed = {row[0] for row in connection.execute("SELECT sealed FROM secrets WHERE owner = 'my-site'")}
        kept = {row[0] for row in connection.execute("SELECT sealed FROM secrets WHERE owner <> 'my-site'")}
    assert all(each in Path(path).read_bytes() for each in sealed | kept)
    with local.open_store(path, [KEY]) as store:
        put(store, MY_SITE, None, "LICENSE_KEY")
        store.delete(Place(MY_SITE, None, "API_KEY"))
        store.delete_site("my-site")
    data = Path(path).read_bytes()
    assert not [each for each in sealed if each in data]
    assert all(each in data for each in kept)


def test_the_same_value_is_never_sealed_alike(path: str) -> None:
    """So nobody sees that two secrets are equal, or that one was set to what it was."""
    with local.open_store(path, [KEY]) as store:
        for name in ("A", "B"):
            for _ in range(2):
                store.put(Place(MY_SITE, None, name), Write(SecretValue("same"), type=SecretType.ENV, scopes=BUILD))
    with raw(path) as connection:
        found = [row[0] for row in connection.execute("SELECT sealed FROM secrets")]
    assert len({each[:12] for each in found}) == len(found)
    assert len(set(found)) == len(found)


def test_a_read_does_not_follow_the_size_of_the_store(path: str) -> None:
    """What SQLite steps through for one site is the same beside 3 sites and beside 300."""
    small = count_steps(path)
    with local.open_store(path, [KEY]) as store, store.transaction():
        for number in range(300):
            put(store, Owner.site(f"site-{number}"), None, "KEY", SecretType.ENV)
    assert count_steps(path) < 1.3 * small


def count_steps(path: str) -> int:
    """How many hundreds of instructions of SQLite's machine the load of a build takes."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    with open_for_reading(path) as store:
        store._database._connection.set_progress_handler(count, 10)
        store.read_chain(MY_SITE, environment="dev", scope=Scope.IC, values=True)
    return steps


def test_a_bulk_reads_each_owner_once(path: str) -> None:
    """However many values are written to it, and each site's organization once for all of them."""
    with local.open_store(path, [KEY]) as store:
        statements: list[str] = []
        store._database._connection.set_trace_callback(statements.append)
        with store.transaction():
            for number in range(20):
                store.set_site(Site(f"site-{number}", "agency"))
                for name in ("A", "B", "C"):
                    put(store, Owner.site(f"site-{number}"), None, name, SecretType.ENV)
                put(store, Owner.site(f"site-{number}"), "dev", "INHERITED")
        assert len([each for each in statements if each.startswith("SELECT") and "FROM secrets" in each]) == 21
        assert len([each for each in statements if each.startswith("UPDATE store")]) == 1


def test_a_bulk_keeps_its_memory_in_bounds(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept for writing is counted right, and the owners used least recently make room."""
    monkeypatch.setattr(session, "_MAX_ROWS", 30)
    with local.open_store(path, [KEY]) as store, store.transaction():
        for _ in range(3):
            for number in range(10):
                for name in ("A", "B", "C", "D", "E"):
                    put(store, Owner.site(f"site-{number}"), None, name, SecretType.ENV)
                    assert store._session is not None
                    kept = {owner.name: len(held.digests) for owner, held in store._session._held.items()}
                    assert store._session._rows == sum(kept.values()) <= 30 + 1
                store.delete(Place(Owner.site(f"site-{number}"), None, "A"))
            assert list(kept) == [f"site-{number}" for number in range(10 - len(kept), 10)]
            assert len(kept) > 4
            assert len(list(store.sites())) == 3 + 10
            assert store.delete_site("site-9") == 4
            assert store._session._rows == sum(len(held.digests) for held in store._session._held.values())
    with open_for_reading(path) as store:
        assert [len(store.read(Owner.site(f"site-{number}")).secrets) for number in range(10)] == [4] * 9 + [0]


def test_a_build_of_another_site_is_not_held_up_by_a_damaged_one(path: str) -> None:
    """A read verifies its own owner; the damaged one is refused by its own."""
    with raw(path) as connection:
        connection.execute("DELETE FROM secrets WHERE owner = 'other-site' AND name = 'API_KEY'")
    with open_for_reading(path) as store:
        assert len(store.read(MY_SITE).secrets) == 3
        assert store.read(EMPTY).secrets == ()
        with pytest.raises(StoreTamperedError, match="other-site"):
            store.read(OTHER_SITE)


def test_a_write_reads_an_organization_only_where_it_matters(path: str) -> None:
    """For an override of what it holds, not for what the site has itself: here it is damaged."""
    with raw(path) as connection:
        connection.execute("DELETE FROM secrets WHERE owner = 'agency' AND name = 'API_KEY'")
    with local.open_store(path, [KEY]) as store:
        put(store, MY_SITE, None, "API_KEY")
        put(store, MY_SITE, "live", "API_KEY")
        put(store, MY_SITE, None, "NEW", SecretType.ENV)
        with pytest.raises(StoreTamperedError, match="org:agency"):
            put(store, MY_SITE, "live", "INHERITED")
        with pytest.raises(StoreTamperedError, match="org:agency"):
            put(store, MY_SITE, None, "INHERITED", SecretType.RUNTIME)


def test_a_copy_keeps_its_times(tmp_path: Path) -> None:
    """Those that it is given, for a new value and over an old one; no time at all is refused."""
    with local.create(str(tmp_path / "new.db"), KEY) as store:
        for times in ((5, 7), (3, 9)):
            store.put(
                Place(MY_SITE, None, "KEY"), Write(SecretValue("v"), type=SecretType.ENV, scopes=BUILD, times=times)
            )
            (secret,) = store.read(MY_SITE).secrets
            assert (secret.created, secret.changed) == times
        for times in ((-1, 0), (0, MAX_TIME)):
            with pytest.raises(InvalidValueError):
                store.put(Place(MY_SITE, None, "KEY"), Write(SecretValue("w"), times=times))
