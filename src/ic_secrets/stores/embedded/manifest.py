"""The manifest of the embedded store: what makes it notice that a row was removed or put back.

    row ─ SHA-256 ─ owner's digest ─┐
    owner's kind, name, organizations ┴ MAC an owner ─ MAC a bucket (256) ─ MAC of the root, with the generation

Seals alone show an edit, but neither a deletion nor the return of an older row. So every owner has a
MAC over its rows and its organizations, every owner belongs to one of 256 buckets with a MAC over its
owners, and the root has one over the buckets, the data keys and a generation number that grows with
each write. A reader checks the root, the bucket and the owner that it wants and nothing else: the cost
follows the owner, not the store. An owner that is absent is absent from a bucket that was checked.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from typing import Any

from ...core.records import NamedTuple
from ...errors import StoreLockedError, StoreTamperedError
from ...keys.sealing import MasterKey, SealError, encode, new_data_key, rewrap_data_key
from ...model.secret import Owner
from .database import Database
from .rows import has_types

BUCKETS = 256
_KEY_ID = r"[0-9a-f]{16}"
OWNER_COLUMNS = "kind, name, organization, supporting, digest, mac"
_OWNER_TYPES = ((str, str, str, str, bytes, bytes), (str, str, type(None), str, bytes, bytes))


class Record(NamedTuple):
    """What the manifest keeps of an owner. A site has one even while it holds nothing."""

    owner: Owner
    organization: str | None
    supporting: tuple[str, ...]
    digest: bytes

    def columns(self) -> tuple[str, str, str | None, str, bytes]:
        """Return the record as the columns of `owners`, its MAC and bucket aside."""
        return self.owner.kind, self.owner.name, self.organization, ",".join(self.supporting), self.digest


class Manifest:
    """The manifest as it stands in the database's running transaction; nothing of it is believed unchecked.

    `data_keys` are the store's, wrapped, by number: new values are sealed under the highest.
    """

    def __init__(self, database: Database, keys: Sequence[MasterKey]) -> None:
        """Check the root: StoreLockedError when none of the keys is the store's, StoreTamperedError."""
        self._database = database
        found = database.query("SELECT id, master, generation, mac FROM store")
        data_keys = database.query("SELECT id, wrapped FROM data_keys ORDER BY id")
        buckets = database.query("SELECT number, mac FROM buckets ORDER BY number")
        if not (
            len(found) == 1
            and has_types(found[0], (str, str, int, bytes))
            and re.fullmatch(_KEY_ID, found[0][1])
            and data_keys
            and all(has_types(columns, (int, bytes)) for columns in data_keys)
            and [number for number, _ in buckets] == list(range(BUCKETS))
            and all(has_types(columns, (int, bytes)) for columns in buckets)
        ):
            raise database.tampered("the manifest")
        self.store_id: str
        self.generation: int
        self.store_id, master_id, self.generation, mac = found[0]
        self.data_keys: dict[int, bytes] = dict(data_keys)
        self._buckets: list[bytes] = [mac for _, mac in buckets]
        self._owners: dict[int, dict[Owner, tuple[Any, ...]]] = {}
        self._dirty: set[int] = set()
        self.master = self._choose(keys, master_id, mac)
        self._key = _manifest_key(self.master, self.store_id)
        if not hmac.compare_digest(self._root_mac(self.master), mac):
            raise database.tampered("the manifest")

    def find(self, owner: Owner) -> Record | None:
        """Return the owner's record, or None for an owner that the store does not know: both are verified."""
        columns = self._bucket(owner).get(owner)
        return self._check_record(columns) if columns else None

    def records(self) -> list[Record]:
        """Return all records of the store, in no particular order; every bucket is verified."""
        rows: dict[int, list[tuple[Any, ...]]] = {number: [] for number in range(BUCKETS)}
        for number, *columns in self._database.query(f"SELECT bucket, {OWNER_COLUMNS} FROM owners"):  # noqa: S608
            rows.setdefault(number, []).append(tuple(columns))
        if len(rows) != BUCKETS:
            raise self._database.tampered("the manifest")
        for number, owners in rows.items():
            if number not in self._owners:
                self._owners[number] = self._check_bucket(number, owners)
        return [self._check_record(columns) for owners in self._owners.values() for columns in owners.values()]

    def set(self, record: Record) -> None:
        """Write the owner's record. Nothing is valid before `save`."""
        columns = record.columns()
        mac = _owner_mac(self._key, *columns)
        self._bucket(record.owner)[record.owner] = (*columns, mac)
        self._dirty.add(bucket_of(record.owner))
        self._database.run(
            f"INSERT OR REPLACE INTO owners (bucket, {OWNER_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            (bucket_of(record.owner), *columns, mac),
        )

    def remove(self, owner: Owner) -> None:
        """Delete the owner's record."""
        del self._bucket(owner)[owner]
        self._dirty.add(bucket_of(owner))
        self._database.run(
            "DELETE FROM owners WHERE bucket = ? AND kind = ? AND name = ?", (bucket_of(owner), owner.kind, owner.name)
        )

    def rotate(self, master: MasterKey) -> None:
        """Put all of the manifest under another master key, which `save` makes the store's.

        All of it is verified first. The data keys are wrapped anew, and one more is made, so that what is
        set from now on is sealed under a key that the old master key never opened.
        """
        records = self.records()
        try:
            for number, wrapped in self.data_keys.items():
                self.data_keys[number] = rewrap_data_key(self.master, master, self.store_id, number, wrapped)
        except SealError:
            raise self._database.tampered(f"the data key {number}") from None
        fresh = max(self.data_keys) + 1
        _, self.data_keys[fresh] = new_data_key(master, self.store_id, fresh)
        for number, wrapped in self.data_keys.items():
            self._database.run("INSERT OR REPLACE INTO data_keys VALUES (?, ?)", (number, wrapped))
        self.master = master
        self._key = _manifest_key(master, self.store_id)
        for record in records:
            self.set(record)
        self._dirty.update(range(BUCKETS))

    def save(self) -> None:
        """Write the MACs of the buckets that changed, and the root's with the next generation."""
        for number in sorted(self._dirty):
            self._buckets[number] = _bucket_mac(self._key, number, self._owners[number].values())
            self._database.run("UPDATE buckets SET mac = ? WHERE number = ?", (self._buckets[number], number))
        self._dirty.clear()
        self.generation += 1
        self._database.run(
            "UPDATE store SET master = ?, generation = ?, mac = ?",
            (self.master.id, self.generation, self._root_mac(self.master)),
        )

    def _choose(self, keys: Sequence[MasterKey], master_id: str, mac: bytes) -> MasterKey:
        """Return the key that the store names; where it names none of them, whether that is the truth."""
        for key in keys:
            if key.id == master_id:
                return key
        if any(hmac.compare_digest(self._root_mac(key), mac) for key in keys):
            raise self._database.tampered("the manifest")
        ours = ", ".join(key.id for key in keys) or "none"
        raise StoreLockedError(f"{self._database.path} is sealed with the key {master_id}; configured: {ours}")

    def _bucket(self, owner: Owner) -> dict[Owner, tuple[Any, ...]]:
        number = bucket_of(owner)
        if number not in self._owners:
            found = self._database.query(f"SELECT {OWNER_COLUMNS} FROM owners WHERE bucket = ?", (number,))  # noqa: S608
            self._owners[number] = self._check_bucket(number, found)
        return self._owners[number]

    def _check_bucket(self, number: int, found: list[tuple[Any, ...]]) -> dict[Owner, tuple[Any, ...]]:
        """Return the owners of a bucket whose MAC is right; their records are not yet checked."""
        if not all(has_types(columns, *_OWNER_TYPES) for columns in found):
            raise self._database.tampered("the manifest")
        if not hmac.compare_digest(_bucket_mac(self._key, number, found), self._buckets[number]):
            wrong = [columns for columns in found if not self._is_genuine(columns)]
            raise self._tampered_record(wrong[0]) if wrong else self._database.tampered("the manifest")
        return {Owner(columns[0], columns[1]): columns for columns in found}

    def _check_record(self, columns: tuple[Any, ...]) -> Record:
        if not self._is_genuine(columns):
            raise self._tampered_record(columns)
        kind, name, organization, supporting, digest, _ = columns
        return Record(Owner(kind, name), organization, tuple(supporting.split(",")) if supporting else (), digest)

    def _is_genuine(self, columns: tuple[Any, ...]) -> bool:
        *fields, mac = columns
        return hmac.compare_digest(_owner_mac(self._key, *fields), mac)

    def _tampered_record(self, columns: tuple[Any, ...]) -> StoreTamperedError:
        name = str(Owner(columns[0], columns[1]))
        return self._database.tampered(f"the record of {name if name.isprintable() else ascii(name)}"[:400])

    def _root_mac(self, master: MasterKey) -> bytes:
        return _root_mac(master, self.store_id, self.generation, self.data_keys, self._buckets)


def find_master_id(database: Database) -> str:
    """Return the id of the master key that the store names; StoreTamperedError where it names none."""
    found = database.query("SELECT master FROM store")
    if len(found) != 1 or not isinstance(found[0][0], str) or not re.fullmatch(_KEY_ID, found[0][0]):
        raise database.tampered("the manifest")
    return str(found[0][0])


def write_manifest(database: Database, master: MasterKey, store_id: str, wrapped: bytes) -> None:
    """Write the manifest of a new store, which has one data key, number 1, and no owner."""
    key = _manifest_key(master, store_id)
    buckets = [_bucket_mac(key, number, []) for number in range(BUCKETS)]
    for number, mac in enumerate(buckets):
        database.run("INSERT INTO buckets VALUES (?, ?)", (number, mac))
    database.run("INSERT INTO data_keys VALUES (1, ?)", (wrapped,))
    mac = _root_mac(master, store_id, 1, {1: wrapped}, buckets)
    database.run("INSERT INTO store VALUES (1, ?, ?, 1, ?)", (store_id, master.id, mac))


class Macs:
    """The MACs of one store's manifest, for who has pieces of it and asks which belong together."""

    def __init__(self, master: MasterKey, store_id: str) -> None:
        self._master = master
        self._store_id = store_id
        self._key = _manifest_key(master, store_id)

    def find_record(self, columns: tuple[Any, ...]) -> Record | None:
        """Return the record that these columns of `owners`, the bucket aside, are; None when the MAC is wrong."""
        if not has_types(columns, *_OWNER_TYPES):
            return None
        kind, name, organization, supporting, digest, mac = columns
        if not hmac.compare_digest(_owner_mac(self._key, *columns[:-1]), mac):
            return None
        return Record(Owner(kind, name), organization, tuple(supporting.split(",")) if supporting else (), digest)

    def bucket(self, number: int, records: Iterable[Record]) -> bytes:
        """Return the MAC of the bucket in which these are all the owners."""
        rows = [(*columns, _owner_mac(self._key, *columns)) for columns in (record.columns() for record in records)]
        return _bucket_mac(self._key, number, rows)

    def root(self, generation: int, data_keys: dict[int, bytes], buckets: list[bytes]) -> bytes:
        """Return the MAC of the root over all that."""
        return _root_mac(self._master, self._store_id, generation, dict(sorted(data_keys.items())), buckets)


def bucket_of(owner: Owner) -> int:
    """Return the number of the bucket in which the owner is, if the store knows it."""
    return hashlib.sha256(encode(owner.kind, owner.name)).digest()[0]


def _manifest_key(master: MasterKey, store_id: str) -> bytes:
    return master.derive(store_id.encode(), b"ic-secrets/1 manifest key")


def _owner_mac(key: bytes, kind: str, name: str, organization: str | None, supporting: str, digest: bytes) -> bytes:
    link = ("none", "") if organization is None else ("primary", organization)
    return _mac(key, "ic-secrets/1 owner", kind, name, *link, supporting, digest.hex())


def _bucket_mac(key: bytes, number: int, owners: Iterable[tuple[Any, ...]]) -> bytes:
    named = sorted((columns[0], columns[1], columns[-1].hex()) for columns in owners)
    return _mac(key, "ic-secrets/1 bucket", str(number), *(field for columns in named for field in columns))


def _root_mac(
    master: MasterKey, store_id: str, generation: int, data_keys: dict[int, bytes], buckets: list[bytes]
) -> bytes:
    keys = [field for number, wrapped in data_keys.items() for field in (str(number), wrapped.hex())]
    fields = (store_id, master.id, str(generation), str(len(data_keys)), *keys, *[mac.hex() for mac in buckets])
    return _mac(_manifest_key(master, store_id), "ic-secrets/1 root", *fields)


def _mac(key: bytes, *fields: str) -> bytes:
    return hmac.digest(key, encode(*fields), "sha256")
