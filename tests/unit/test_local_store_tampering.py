"""Whatever else writes to an embedded store is noticed, and named, before anything of it is given out.

The enemy has the file and no key. A lazy one edits rows; a diligent one also mends the digest of the
owner, which has no key in it, so that only MACs and seals are in the way; a patient one kept older copies.
"""

from __future__ import annotations

import itertools
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ic_secrets.errors import StoreError, StoreFormatError, StoreLockedError, StoreTamperedError
from ic_secrets.keys.sealing import MasterKey
from ic_secrets.model.secret import Owner, SecretType, SecretValue, Site
from ic_secrets.stores.base import Place, Write
from ic_secrets.stores.embedded import store as local
from ic_secrets.stores.embedded.manifest import bucket_of
from ic_secrets.stores.embedded.rows import Row, digest_rows
from local_stores import (
    AGENCY,
    BUILD,
    CANARY,
    KEY,
    MY_SITE,
    OTHER_SITE,
    OWNERS,
    STUDIO,
    dump,
    make_store,
    memory_directory,
    open_for_reading,
    put,
    raw,
)

Attack = Callable[[sqlite3.Connection], object]


@pytest.fixture(scope="module")
def templates() -> Iterator[tuple[Path, Path]]:
    """A store, and the same a few writes later: every table but the data keys differs."""
    with memory_directory() as directory:
        older = Path(make_store(directory))
        newer = directory / "newer.db"
        shutil.copy(older, newer)
        with local.open_store(str(newer), [KEY]) as store:
            put(store, MY_SITE, None, "API_KEY")
            put(store, MY_SITE, "dev", "API_KEY")
            store.delete(Place(MY_SITE, "live", "API_KEY"))
            put(store, MY_SITE, None, "NEW", SecretType.ENV)
            put(store, OTHER_SITE, None, "API_KEY")
            put(store, AGENCY, None, "API_KEY")
            store.set_site(Site("other-site", "studio"))
            store.set_site(Site("late", "agency"))
        yield older, newer


@pytest.fixture
def path(templates: tuple[Path, Path]) -> Iterator[str]:
    """A copy of the newer store, to be attacked."""
    with memory_directory() as directory:
        yield str(shutil.copy(templates[1], directory / "store.db"))


@pytest.fixture
def older(templates: tuple[Path, Path]) -> str:
    """The older store, which the enemy kept."""
    return str(templates[0])


def where(owner: Owner, environment: str, name: str) -> tuple[str, tuple[str, ...]]:
    """The condition that picks one row, and its values."""
    values = (owner.kind, owner.name, environment, name)
    return "kind = ? AND owner = ? AND environment = ? AND name = ?", values


def edit(assignment: str, owner: Owner = MY_SITE, environment: str = "", name: str = "API_KEY") -> Attack:
    """Change columns of one row."""
    condition, values = where(owner, environment, name)
    return lambda db: changed(db.execute(f"UPDATE secrets SET {assignment} WHERE {condition}", values))


def delete(owner: Owner, environment: str, name: str) -> Attack:
    """Delete one row."""
    condition, values = where(owner, environment, name)
    return lambda db: changed(db.execute(f"DELETE FROM secrets WHERE {condition}", values))


def swap(one: tuple[Owner, str, str], other: tuple[Owner, str, str], columns: str = "sealed") -> Attack:
    """Exchange columns of two rows."""

    def attack(db: sqlite3.Connection) -> None:
        rows = []
        for place in (one, other):
            condition, values = where(*place)
            rows.append(db.execute(f"SELECT {columns} FROM secrets WHERE {condition}", values).fetchone())
        assert rows[0] != rows[1]
        for place, row in zip((one, other), reversed(rows), strict=True):
            condition, values = where(*place)
            names = ", ".join(f"{column} = ?" for column in columns.split(", "))
            changed(db.execute(f"UPDATE secrets SET {names} WHERE {condition}", (*row, *values)))

    return attack


def insert(**fields: str) -> Attack:
    """Insert a copy of my-site's API_KEY with other fields."""

    def attack(db: sqlite3.Connection) -> None:
        condition, values = where(MY_SITE, "", "API_KEY")
        row = Row(*db.execute(f"SELECT * FROM secrets WHERE {condition}", values).fetchone())._replace(**fields)
        changed(db.execute(f"INSERT INTO secrets VALUES ({', '.join('?' * len(row))})", row))

    return attack


def sql(statement: str, *values: object) -> Attack:
    """Run any statement that changes a row."""
    return lambda db: changed(db.execute(statement, values))


def both(*attacks: Attack) -> Attack:
    """One attack after the other."""
    return lambda db: [attack(db) for attack in attacks]


def changed(cursor: sqlite3.Cursor) -> None:
    """An attack that changes nothing would prove nothing."""
    assert cursor.rowcount > 0


BASE = (MY_SITE, "", "API_KEY")
DEV = (MY_SITE, "dev", "API_KEY")

# The attack; the owner whose read finds it; and what the message names: the row, where its seal tells
# (an edit, a swap, an insertion), else the owner (a deletion, the return of an older row).
ROW_ATTACKS: dict[str, tuple[Attack, Owner, str]] = {
    "values swapped between sites": (swap(BASE, (OTHER_SITE, "", "API_KEY")), MY_SITE, "my-site API_KEY"),
    "values swapped between site and organization": (swap(BASE, (AGENCY, "", "API_KEY")), AGENCY, "org:agency API_KEY"),
    "values swapped between environments": (
        swap((OTHER_SITE, "dev", "API_KEY"), (OTHER_SITE, "live", "API_KEY")),
        OTHER_SITE,
        "other-site.dev API_KEY",
    ),
    "values swapped between base and override": (swap(BASE, DEV), MY_SITE, "my-site API_KEY"),
    "values swapped between names": (swap(BASE, (MY_SITE, "", "LICENSE_KEY")), MY_SITE, "my-site API_KEY"),
    "rows swapped whole between sites": (
        swap(BASE, (OTHER_SITE, "", "API_KEY"), "base, version, created, changed, data_key, sealed"),
        OTHER_SITE,
        "other-site API_KEY",
    ),
    "a row moved to another site": (edit("owner = 'empty'"), Owner("site", "empty"), "empty API_KEY"),
    "a row moved from this site": (edit("owner = 'empty'"), MY_SITE, "what my-site holds"),
    "a row moved to an unknown site": (edit("owner = 'unknown'"), Owner("site", "unknown"), "unknown API_KEY"),
    "a site's row given to an organization": (
        edit("kind = 'organization'"),
        Owner("organization", "my-site"),
        "API_KEY",
    ),
    "a row renamed": (edit("name = 'ZZZ'"), MY_SITE, "my-site ZZZ"),
    "an override moved to another environment": (edit("environment = 'test'", *DEV), MY_SITE, "my-site.test API_KEY"),
    "a base made an override": (edit("environment = 'test'"), MY_SITE, "my-site.test API_KEY"),
    "the type changed": (edit("type = 'runtime'"), MY_SITE, "my-site API_KEY"),
    "a type made up": (edit("type = 'file'"), MY_SITE, "my-site API_KEY"),
    "a scope added": (edit("scopes = 'ic,user'"), MY_SITE, "my-site API_KEY"),
    "a scope taken away": (edit("scopes = 'web'"), MY_SITE, "my-site API_KEY"),
    "the version raised": (edit("version = version + 1"), MY_SITE, "my-site API_KEY"),
    "the version lowered": (edit("version = version - 1"), MY_SITE, "my-site API_KEY"),
    "another base": (edit("base = 'ffffffffffffffff'"), MY_SITE, "my-site API_KEY"),
    "an override bound to another base": (
        edit("base = (SELECT base FROM secrets WHERE owner = 'agency' AND name = 'INHERITED')", *DEV),
        MY_SITE,
        "my-site.dev API_KEY",
    ),
    "born earlier": (edit("created = created - 1"), MY_SITE, "my-site API_KEY"),
    "changed later": (edit("changed = changed + 1"), MY_SITE, "my-site API_KEY"),
    "expires never": (edit("expires = NULL"), MY_SITE, "my-site API_KEY"),
    "expires at the beginning": (edit("expires = 0"), MY_SITE, "my-site API_KEY"),
    "another data key": (edit("data_key = 2"), MY_SITE, "my-site API_KEY"),
    "a host added": (edit("hosts = hosts || ',evil.example.net'"), MY_SITE, "my-site API_KEY"),
    "another host": (edit("hosts = 'evil.example.net'"), MY_SITE, "my-site API_KEY"),
    "a secret unbound": (edit("hosts = ''"), MY_SITE, "my-site API_KEY"),
    "a secret bound": (edit("hosts = 'api.example.com'", name="LICENSE_KEY"), MY_SITE, "my-site LICENSE_KEY"),
    "an override bound apart from its base": (edit("hosts = 'evil.example.net'", *DEV), MY_SITE, "my-site.dev API_KEY"),
    "hosts as bytes": (edit("hosts = CAST(hosts AS BLOB)"), MY_SITE, "what my-site holds"),
    "a value's last byte changed": (
        edit(
            "sealed = CAST(substr(sealed, 1, length(sealed) - 1)"
            " || CASE substr(sealed, -1) WHEN x'00' THEN x'01' ELSE x'00' END AS BLOB)"
        ),
        MY_SITE,
        "my-site API_KEY",
    ),
    "a value cut": (edit("sealed = substr(sealed, 1, length(sealed) - 1)"), MY_SITE, "my-site API_KEY"),
    "a value emptied": (edit("sealed = x''"), MY_SITE, "my-site API_KEY"),
    "a value as text": (edit("sealed = 'text'"), MY_SITE, "what my-site holds"),
    "a version as bytes": (edit("version = x'31'"), MY_SITE, "what my-site holds"),
    "a version with a fraction": (edit("version = 1.5"), MY_SITE, "what my-site holds"),
    "a name as bytes": (edit("name = CAST(name AS BLOB)"), MY_SITE, "what my-site holds"),
    "a base deleted": (delete(*BASE), MY_SITE, "what my-site holds"),
    "an override deleted": (delete(*DEV), MY_SITE, "what my-site holds"),
    "all rows of an owner deleted": (
        sql("DELETE FROM secrets WHERE owner = 'agency'"),
        AGENCY,
        "what org:agency holds",
    ),
    "all rows deleted": (sql("DELETE FROM secrets"), MY_SITE, "what my-site holds"),
    "a base inserted": (insert(name="AAA"), MY_SITE, "my-site AAA"),
    "an override inserted": (insert(environment="live"), MY_SITE, "my-site.live API_KEY"),
    "a row inserted for an unknown site": (insert(owner="unknown"), Owner("site", "unknown"), "unknown API_KEY"),
    "a name with a terminal's commands inserted": (insert(name="\x1b[2J"), MY_SITE, "my-site \\x1b[2J"),
}


def mend_digests(path: str) -> None:
    """Make every owner's digest that of its rows as they are, as an enemy can who knows the program."""
    with raw(path) as db:
        (store_id,) = db.execute("SELECT id FROM store").fetchone()
        for kind, name in db.execute("SELECT kind, name FROM owners").fetchall():
            query = "SELECT * FROM secrets WHERE kind = ? AND owner = ? ORDER BY name, environment"
            rows = [Row(*columns) for columns in db.execute(query, (kind, name))]
            if all(isinstance(row.sealed, bytes) for row in rows):
                digest = digest_rows(row.digest(store_id) for row in rows)
                db.execute("UPDATE owners SET digest = ? WHERE kind = ? AND name = ?", (digest, kind, name))


def refuse(path: str, owner: Owner, *named: str) -> None:
    """Nothing of the owner is read, in no way of asking, nor written, and the message names one of these."""
    with local.open_store(path, [KEY]) as store:
        for ask in (
            lambda: store.read(owner),
            lambda: store.read(owner, values=False),
            lambda: put(store, owner, None, "ANOTHER", SecretType.ENV),
            lambda: store.delete(Place(owner, None, "LICENSE_KEY")),
        ):
            with pytest.raises(StoreTamperedError) as caught:
                ask()
            assert any(name in str(caught.value) for name in named), caught.value
            assert str(caught.value).isprintable()
            assert CANARY not in str(caught.value)


@pytest.mark.parametrize("attack", ROW_ATTACKS, ids=lambda name: name.replace(" ", "-"))
def test_a_row_that_was_tampered_with_is_named(path: str, attack: str) -> None:
    """By owner, environment and name where the seal tells, else by the owner."""
    act, owner, named = ROW_ATTACKS[attack]
    with raw(path) as db:
        act(db)
    refuse(path, owner, named)


@pytest.mark.parametrize("attack", ROW_ATTACKS, ids=lambda name: name.replace(" ", "-"))
def test_a_mended_digest_does_not_hide_it(path: str, attack: str) -> None:
    """The MAC over it has a key; then the owner's record is named, or the row of an owner without one."""
    act, owner, named = ROW_ATTACKS[attack]
    with raw(path) as db:
        act(db)
    mend_digests(path)
    refuse(path, owner, f"the record of {owner}", named)


def test_every_attack_is_seen_through_the_chain_of_a_build(path: str) -> None:
    """Also what is wrong with the organization that a site inherits from."""
    with raw(path) as db:
        edit("scopes = 'web'", AGENCY, "", "INHERITED")(db)
    with open_for_reading(path) as store:
        assert store.read(MY_SITE).secrets
        with pytest.raises(StoreTamperedError, match="org:agency INHERITED"):
            store.read_chain(MY_SITE, environment="dev", values=True)
    with local.open_store(path, [KEY]) as store, pytest.raises(StoreTamperedError, match="org:agency INHERITED"):
        put(store, MY_SITE, "live", "INHERITED")


def test_an_older_row_that_is_put_back_is_noticed(path: str, older: str) -> None:
    """Its seal is genuine, so it is the owner that is named; with its digest mended, the record."""
    for place in (BASE, DEV, (MY_SITE, "live", "API_KEY")):
        fresh = path + ".fresh"
        shutil.copy(path, fresh)
        condition, values = where(*place)
        with raw(older) as db:
            (row,) = db.execute(f"SELECT * FROM secrets WHERE {condition}", values).fetchall()
        with raw(fresh) as db:
            db.execute(f"INSERT OR REPLACE INTO secrets VALUES ({', '.join('?' * len(row))})", row)
        refuse(fresh, MY_SITE, "what my-site holds")
        mend_digests(fresh)
        refuse(fresh, MY_SITE, "the record of my-site")


def test_an_override_deleted_and_set_again_does_not_open_the_old_one(path: str) -> None:
    """Same base, same version, same second: only the manifest tells the two apart, and it does."""
    with local.open_store(path, [KEY]) as store:
        put(store, MY_SITE, "test", "API_KEY")
        with raw(path) as db:
            condition, values = where(MY_SITE, "test", "API_KEY")
            old = Row(*db.execute(f"SELECT * FROM secrets WHERE {condition}", values).fetchone())
        store.delete(Place(MY_SITE, "test", "API_KEY"))
        put(store, MY_SITE, "test", "API_KEY")
    with raw(path) as db:
        edit(f"sealed = x'{old.sealed.hex()}', created = {old.created}, changed = {old.changed}", MY_SITE, "test")(db)
    refuse(path, MY_SITE, "what my-site holds")


# --- the manifest -----------------------------------------------------------------------------------

SITE_ROW = "WHERE kind = 'site' AND name = 'my-site'"

# The attack, and what the message names when my-site is read; "" where only the key or format is wrong.
MANIFEST_ATTACKS: dict[str, tuple[Attack, str]] = {
    "given another organization": (
        sql(f"UPDATE owners SET organization = 'studio' {SITE_ROW}"),
        "the record of my-site",
    ),
    "taken from its organization": (sql(f"UPDATE owners SET organization = NULL {SITE_ROW}"), "the record of my-site"),
    "given an organization without a name": (
        sql(f"UPDATE owners SET organization = '' {SITE_ROW}"),
        "the record of my-site",
    ),
    "given a supporting organization": (
        sql(f"UPDATE owners SET supporting = 'help,studio' {SITE_ROW}"),
        "the record of my-site",
    ),
    "a supporting organization made primary": (
        sql(f"UPDATE owners SET organization = 'help', supporting = 'agency' {SITE_ROW}"),
        "the record of my-site",
    ),
    "its digest changed": (sql(f"UPDATE owners SET digest = zeroblob(32) {SITE_ROW}"), "the record of my-site"),
    "its MAC changed": (sql(f"UPDATE owners SET mac = zeroblob(32) {SITE_ROW}"), "the record of my-site"),
    "its MAC cut": (sql(f"UPDATE owners SET mac = substr(mac, 1, 31) {SITE_ROW}"), "the record of my-site"),
    "its MAC as text": (sql(f"UPDATE owners SET mac = 'text' {SITE_ROW}"), "the manifest"),
    "its record deleted": (sql(f"DELETE FROM owners {SITE_ROW}"), "the manifest"),
    "it was deleted whole": (
        both(sql(f"DELETE FROM owners {SITE_ROW}"), sql("DELETE FROM secrets WHERE owner = 'my-site'")),
        "the manifest",
    ),
    "it was renamed": (sql(f"UPDATE owners SET name = 'my-site-2' {SITE_ROW}"), "the record of my-site-2"),
    "made an organization": (sql(f"UPDATE owners SET kind = 'organization' {SITE_ROW}"), "the record of org:my-site"),
    "its record moved to another bucket": (
        sql(f"UPDATE owners SET bucket = (bucket + 1) % 256 {SITE_ROW}"),
        "the manifest",
    ),
    "its bucket's MAC changed": (
        sql("UPDATE buckets SET mac = zeroblob(32) WHERE number = ?", bucket_of(MY_SITE)),
        "the manifest",
    ),
    "its bucket deleted": (sql("DELETE FROM buckets WHERE number = ?", bucket_of(MY_SITE)), "the manifest"),
    "another bucket's MAC changed": (
        sql("UPDATE buckets SET mac = zeroblob(32) WHERE number = ?", bucket_of(MY_SITE) ^ 1),
        "the manifest",
    ),
    "a bucket added": (sql("INSERT INTO buckets VALUES (256, zeroblob(32))"), "the manifest"),
    "a bucket renumbered": (sql("UPDATE buckets SET number = 256 WHERE number = 255"), "the manifest"),
    "a bucket's MAC as text": (sql("UPDATE buckets SET mac = 'text' WHERE number = 1"), "the manifest"),
    "the generation raised": (sql("UPDATE store SET generation = generation + 1"), "the manifest"),
    "the generation lowered": (sql("UPDATE store SET generation = generation - 1"), "the manifest"),
    "the generation as bytes": (sql("UPDATE store SET generation = x'31'"), "the manifest"),
    "the root's MAC changed": (sql("UPDATE store SET mac = zeroblob(32)"), "the manifest"),
    "the store's id changed": (sql("UPDATE store SET id = 'ffffffffffffffffffffffffffffffff'"), "the manifest"),
    "the master key's id changed": (sql("UPDATE store SET master = 'ffffffffffffffff'"), "the manifest"),
    "the master key's id made up": (sql("UPDATE store SET master = char(27)"), "the manifest"),
    "the root deleted": (sql("DELETE FROM store"), "the manifest"),
    "a data key changed": (sql("UPDATE data_keys SET wrapped = zeroblob(60)"), "the manifest"),
    "a data key renumbered": (sql("UPDATE data_keys SET id = 2"), "the manifest"),
    "a data key added": (sql("INSERT INTO data_keys VALUES (2, zeroblob(60))"), "the manifest"),
    "a data key as text": (sql("UPDATE data_keys SET wrapped = 'text'"), "the manifest"),
    "the data keys deleted": (sql("DELETE FROM data_keys"), "the manifest"),
}


@pytest.mark.parametrize("attack", MANIFEST_ATTACKS, ids=lambda name: name.replace(" ", "-"))
def test_a_manifest_that_was_tampered_with_is_noticed(path: str, attack: str) -> None:
    """Before the site, its secrets or the list of sites is given out, and before anything is written."""
    act, named = MANIFEST_ATTACKS[attack]
    with raw(path) as db:
        act(db)
    for ask in (
        lambda store: store.site("my-site"),
        lambda store: store.read(MY_SITE),
        lambda store: list(store.sites()),
        lambda store: put(store, MY_SITE, None, "API_KEY"),
        lambda store: store.set_site(Site("my-site", "studio")),
        lambda store: store.delete_site("my-site"),
    ):
        with pytest.raises(StoreTamperedError, match=named), local.open_store(path, [KEY]) as store:
            ask(store)


def test_a_key_id_that_is_none_is_not_shown(path: str) -> None:
    """Who has another key is told the store's key, but not what an enemy wrote in its place."""
    for master in ("\x1b[2J", "a" * 15, "A" * 16, ""):
        with raw(path) as db:
            sql("UPDATE store SET master = ?", master)(db)
        with pytest.raises(StoreTamperedError, match="the manifest") as caught:
            local.open_store(path, [MasterKey.generate()])
        assert str(caught.value).isprintable()


def test_an_absent_owner_is_proved_absent(path: str) -> None:
    """A deleted site is not an unknown one, nor an organization one that holds nothing."""
    for owner in (MY_SITE, AGENCY):
        fresh = path + ".fresh"
        shutil.copy(path, fresh)
        with raw(fresh) as db:
            sql("DELETE FROM owners WHERE kind = ? AND name = ?", owner.kind, owner.name)(db)
            sql("DELETE FROM secrets WHERE kind = ? AND owner = ?", owner.kind, owner.name)(db)
        refuse(fresh, owner, "the manifest")
    with open_for_reading(path) as store:
        assert store.read(Owner("site", "unknown")).secrets == ()


RECORD = "kind, name, organization, supporting, digest, mac"


def test_a_list_of_sites_is_verified_whole(path: str) -> None:
    """Each record of it, though no secret is read: one wrong site refuses the list."""
    for statement, named in (
        ("UPDATE owners SET organization = 'studio' WHERE name = 'empty'", "the record of empty"),
        ("DELETE FROM owners WHERE name = 'late'", "the manifest"),
        ("UPDATE owners SET bucket = 1000 WHERE name = 'late'", "the manifest"),
        (f"INSERT INTO owners SELECT 1000, {RECORD} FROM owners WHERE name = 'empty'", "the manifest"),
        (
            f"INSERT INTO owners SELECT bucket, {RECORD.replace('name', repr('new'))} FROM owners WHERE name = 'empty'",
            "new",
        ),
    ):
        fresh = path + ".fresh"
        shutil.copy(path, fresh)
        with raw(fresh) as db:
            sql(statement)(db)
        with open_for_reading(fresh) as store:
            with pytest.raises(StoreTamperedError, match=named):
                store.sites()
            assert store.site("my-site").organization == "agency"


TABLES = ("secrets", "owners", "buckets", "store")
SOME_TABLES = [some for size in (1, 2, 3) for some in itertools.combinations(TABLES, size)]


@pytest.mark.parametrize("tables", SOME_TABLES, ids="+".join)
def test_no_part_of_an_older_store_can_be_put_back(path: str, older: str, tables: tuple[str, ...]) -> None:
    """Any of the tables from an older copy, short of all of them, is noticed by whoever it concerns."""
    put_back(path, older, tables)
    with pytest.raises(StoreTamperedError), open_for_reading(path) as store:
        store.read_chain(MY_SITE, values=True)


def test_no_owner_of_an_older_store_can_be_put_back(path: str, older: str) -> None:
    """Rows and record are genuine and fit each other: the bucket tells; with its MAC put back too, the root."""
    with raw(path) as db:
        db.execute("ATTACH ? AS older", (older,))
        db.execute("DELETE FROM secrets WHERE owner = 'my-site'")
        db.execute("INSERT INTO secrets SELECT * FROM older.secrets WHERE owner = 'my-site'")
        db.execute("INSERT OR REPLACE INTO owners SELECT * FROM older.owners WHERE name = 'my-site'")
    refuse(path, MY_SITE, "the manifest")
    with raw(path) as db:
        db.execute("ATTACH ? AS older", (older,))
        number = bucket_of(MY_SITE)
        db.execute("DELETE FROM owners WHERE bucket = ?", (number,))
        db.execute("INSERT INTO owners SELECT * FROM older.owners WHERE bucket = ?", (number,))
        db.execute("INSERT OR REPLACE INTO buckets SELECT * FROM older.buckets WHERE number = ?", (number,))
    with pytest.raises(StoreTamperedError, match="the manifest"):
        open_for_reading(path)


def test_the_whole_of_an_older_store_shows_its_generation(path: str, older: str) -> None:
    """That is a genuine store: only a generation that somebody remembers tells that it is old."""
    with open_for_reading(path) as store:
        last_seen = store.generation
    put_back(path, older, TABLES)
    with open_for_reading(path) as store:
        dump(store)
        assert store.generation < last_seen


def put_back(path: str, older: str, tables: tuple[str, ...]) -> None:
    with raw(path) as db:
        db.execute("ATTACH ? AS older", (older,))
        for table in tables:
            db.execute(f"DELETE FROM {table}")
            db.execute(f"INSERT INTO {table} SELECT * FROM older.{table}")


def test_a_store_of_another_key_cannot_be_grafted_in(path: str) -> None:
    """The enemy's own store, genuine under the enemy's key, is locked for us; pieces of it are noticed."""
    with memory_directory() as directory:
        other = str(directory / "other.db")
        with local.create(other, MasterKey.generate()) as store:
            store.put(Place(MY_SITE, None, "API_KEY"), Write(SecretValue("evil"), type=SecretType.ENV, scopes=BUILD))
            store.bind(MY_SITE, "API_KEY", ("evil.example.net",))
        with pytest.raises(StoreLockedError):
            open_for_reading(other)
        for tables in (("store",), ("data_keys",), ("store", "data_keys"), (*TABLES, "data_keys")):
            fresh = path + ".fresh"
            shutil.copy(path, fresh)
            put_back(fresh, other, tables)
            with pytest.raises((StoreTamperedError, StoreLockedError)):
                open_for_reading(fresh)
            if "store" in tables:
                with raw(fresh) as db:
                    sql("UPDATE store SET master = ?", KEY.id)(db)
                with pytest.raises(StoreTamperedError, match="the manifest"):
                    open_for_reading(fresh)


def test_rows_of_another_store_under_the_same_key_are_noticed(path: str) -> None:
    """Seals, digests and MACs are bound to the one store."""
    with memory_directory() as directory:
        other = make_store(directory)
        for tables in (("secrets",), ("owners",), ("secrets", "owners"), ("secrets", "owners", "buckets", "data_keys")):
            fresh = path + ".fresh"
            shutil.copy(path, fresh)
            put_back(fresh, other, tables)
            with pytest.raises(StoreTamperedError), open_for_reading(fresh) as store:
                store.read(STUDIO)


# --- the schema -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON secrets BEGIN DELETE FROM secrets; END",
        "CREATE VIEW v AS SELECT * FROM secrets",
        "CREATE INDEX i ON secrets (name)",
        "CREATE TABLE t (a)",
        "CREATE TABLE sqlite_stat_1 (a)",
        "ALTER TABLE secrets ADD COLUMN note TEXT",
        "ALTER TABLE store RENAME COLUMN one TO two",
        "DROP TABLE data_keys",
        "ALTER TABLE secrets RENAME TO hidden",
    ],
)
@pytest.mark.parametrize("read_only", [False, True])
def test_a_schema_that_is_not_ours_is_refused(path: str, statement: str, read_only: bool) -> None:
    """At the opening, and in every later transaction of a store that is open already."""
    with local.open_store(path, [KEY], read_only=read_only) as store:
        with raw(path) as db:
            if "sqlite_" in statement:
                db.execute("ANALYZE")
            else:
                db.execute(statement)
        with pytest.raises(StoreTamperedError, match="the schema"):
            store.read(MY_SITE)
        if not read_only:
            with pytest.raises(StoreTamperedError, match="the schema"):
                put(store, MY_SITE, None, "API_KEY")
    with pytest.raises(StoreTamperedError, match="the schema"):
        local.open_store(path, [KEY], read_only=read_only)


def test_a_view_in_the_place_of_a_table_is_refused(path: str) -> None:
    """It could show each reader something else."""
    with raw(path) as db:
        db.execute("ALTER TABLE secrets RENAME TO hidden")
        db.execute("CREATE VIEW secrets AS SELECT * FROM hidden")
    with pytest.raises(StoreTamperedError, match="the schema"):
        open_for_reading(path)


# --- bytes ------------------------------------------------------------------------------------------


def test_a_flipped_bit_changes_nothing_or_is_noticed(path: str, rounds: Callable[[int, int], int]) -> None:
    """Anywhere in the file: the store says exactly what it said before, or an error of ours, never another answer."""
    data = Path(path).read_bytes()
    with open_for_reading(path) as store:
        before = dump(store)
    chosen = random.Random(7)  # the same places each time
    used = [at for at, byte in enumerate(data) if byte]
    count = rounds(250, len(used))
    messages = []
    for at in chosen.sample(used, count) + chosen.sample(range(len(data)), count // 5):
        broken = bytearray(data)
        broken[at] ^= 1 << chosen.randrange(8)
        Path(path).write_bytes(broken)
        try:
            with open_for_reading(path) as store:
                assert dump(store) == before, f"byte {at}"
        except StoreError as error:
            messages.append(str(error))
    assert len(messages) > 0.7 * count
    assert not [message for message in messages if CANARY in message]


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (b"tablebucketsbuckets", b"table\xf3ucketsbuckets", StoreTamperedError),  # SQLite's message is no UTF-8 then
        (b"CREATE TABLE buckets", b"CREATE TABLE \xf3uckets", StoreTamperedError),
        (b"my-site", b"my-\xf3ite", StoreTamperedError),
        (b"SQLite format 3", b"SQLite format 4", StoreFormatError),
    ],
)
def test_damaged_text_is_refused_in_our_words(path: str, old: bytes, new: bytes, error: type[StoreError]) -> None:
    """Text that is no UTF-8, wherever: an error of ours, not one of the decoder's."""
    data = Path(path).read_bytes()
    assert old in data
    Path(path).write_bytes(data.replace(old, new))
    for read_only in (True, False):
        with pytest.raises(error), local.open_store(path, [KEY], read_only=read_only) as store:
            dump(store)


@pytest.mark.parametrize("seed", range(10))
def test_overwritten_pages_are_noticed(path: str, seed: int) -> None:
    """Noise or zeros over a page, two pages exchanged: an error of ours."""
    data = Path(path).read_bytes()
    with open_for_reading(path) as store:
        before = dump(store)
    chosen = random.Random(seed)
    pages = [data[at : at + 4096] for at in range(0, len(data), 4096)]
    one, other = chosen.sample(range(1, len(pages)), 2)
    for change in ({one: bytes(4096)}, {one: chosen.randbytes(4096)}, {one: pages[other], other: pages[one]}):
        Path(path).write_bytes(b"".join(change.get(number, page) for number, page in enumerate(pages)))
        with pytest.raises(StoreError), open_for_reading(path) as store:
            dump(store)
    Path(path).write_bytes(data)
    with open_for_reading(path) as store:
        assert dump(store, OWNERS) == before
