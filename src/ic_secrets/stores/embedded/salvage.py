"""What SQLite still reads of a damaged store, and how much of that its manifest vouches for.

Everything in the tables is a claim. A row is genuine when its own seal opens, a record of an owner
when its own MAC is right: then ic-secrets wrote it once, for this store. That it is also the newest,
and all there is, only the manifest shows: root, bucket, record, and the digest over the rows.
"""

from __future__ import annotations

import hmac
import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ...core.records import NamedTuple
from ...errors import StoreBusyError, StoreTamperedError
from ...keys.sealing import DataKey, MasterKey, SealError, unwrap_data_key
from ...model.secret import Owner, SecretValue
from .database import BUSY_TIMEOUT_MS, connect
from .manifest import BUCKETS, OWNER_COLUMNS, Macs, Record, bucket_of
from .rows import Row, digest_rows, list_columns

_MAC_BYTES = 32
Columns = tuple[Any, ...]


class Finding(NamedTuple):
    """What is left of an owner: its genuine rows, in their order, and the labels of those that are not.

    `record` is None where no genuine one was found; only one that is `listed` is known to be the
    newest. `doubt` says why the rows may not be the newest, or all; "" where the manifest vouches for them.
    """

    owner: Owner
    record: Record | None
    listed: bool
    rows: tuple[Row, ...]
    damaged: tuple[str, ...]
    doubt: str


class Tables:
    """The tables of a damaged store, in one transaction, as far as SQLite reads them; a context manager."""

    def __init__(self, path: str) -> None:
        """Open the file, which is only read; StoreBusyError where another process keeps it locked."""
        self._path = path
        self._connection = connect(path, "ro", BUSY_TIMEOUT_MS)
        # Damaged text is read too: with a character changed, its row is not genuine.
        self._connection.text_factory = lambda data: data.decode(errors="replace")
        self._names: frozenset[str] = frozenset()

    def __enter__(self) -> Tables:
        try:
            self._select("PRAGMA trusted_schema=OFF")
            self._select("BEGIN")
            # A view or a virtual table, which somebody else made, may have no end.
            self._names = frozenset(
                str(name)
                for (name,) in self._select("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0")
            )
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    @property
    def has_hosts(self) -> bool:
        """Return whether the table of secrets has a column for their hosts, whatever format the file names."""
        return any(columns[1] == "hosts" for columns in self._select("PRAGMA table_info(secrets)"))

    @property
    def version(self) -> int:
        """Return the format that the file names; 0 where that cannot be read."""
        return next((number for (number,) in self._select("PRAGMA user_version")), 0)

    def read(self, table: str, columns: str, order: Sequence[str], owner: Owner | None = None) -> Iterator[Columns]:
        """Return the rows as far as SQLite reads them, from both ends where one way stops; some may come twice."""
        if table not in self._names:
            return
        where = "" if owner is None else "WHERE kind = ? AND owner = ?"
        values = () if owner is None else (owner.kind, owner.name)
        for direction in ("ASC", "DESC"):
            ordered = ", ".join(f"{column} {direction}" for column in order)
            try:
                yield from self._connection.execute(f"SELECT {columns} FROM {table} {where} ORDER BY {ordered}", values)  # noqa: S608
                return
            except sqlite3.Error as error:
                self._refuse_busy(error)

    def _select(self, sql: str) -> list[Columns]:
        try:
            return self._connection.execute(sql).fetchall()
        except sqlite3.Error as error:
            self._refuse_busy(error)
            return []

    def _refuse_busy(self, error: sqlite3.Error) -> None:
        if "locked" in str(error):
            raise StoreBusyError(f"{self._path} is locked by another process") from None


class Root(NamedTuple):
    """What the store says about itself."""

    store_id: str
    generation: int
    mac: bytes


class Remains:
    """What is left of a damaged store, opened with the one of the keys that is its own.

    `generation` is None where no root vouches for one. `lost_records` says how many buckets have lost
    the record of an owner, or more.
    """

    def __init__(
        self, tables: Tables, keys: Sequence[MasterKey], backup: tuple[str, Mapping[int, bytes]] | None
    ) -> None:
        """StoreTamperedError when no key opens anything. `backup` is the id and the data keys of an older copy."""
        self._tables = tables
        roots = [
            Root(*columns)
            for columns in tables.read("store", "id, generation, mac", ["one"])
            if tuple(map(type, columns)) == (str, int, bytes)
        ]
        wrapped = _take_pairs(tables.read("data_keys", "id, wrapped", ["id"]))
        self._buckets = {
            number: mac
            for number, mac in _take_pairs(tables.read("buckets", "number, mac", ["number"])).items()
            if len(mac) == _MAC_BYTES
        }
        ids = {root.store_id for root in roots} | ({backup[0]} if backup else set())
        self.master, self.store_id, self._data_keys = _open_data_keys(keys, ids, [wrapped, backup[1] if backup else {}])
        self._macs = Macs(self.master, self.store_id)
        found = map(self._macs.find_record, tables.read("owners", OWNER_COLUMNS, ["bucket", "kind", "name"]))
        self._records = {record.owner: record for record in found if record}
        self.generation, self._listed = self._check_root(roots, wrapped)
        self.lost_records = 0 if self.generation is None else BUCKETS - len(self._listed)

    def owners(self) -> list[Owner]:
        """Return all owners of which anything is left, sites first, in the order of names."""
        named = {
            Owner(kind, name)
            for kind, name in self._tables.read("secrets", "kind, owner", ["kind", "owner"])
            if isinstance(kind, str) and isinstance(name, str)
        }
        return sorted(self._records.keys() | named, key=lambda owner: (not owner.is_site, owner.name))

    def find(self, owner: Owner) -> Finding:
        """Return what is left of the owner."""
        genuine: dict[tuple[str, str], Row] = {}
        damaged: dict[str, None] = {}
        columns = list_columns(self._tables.has_hosts)
        for row in itertools.starmap(Row, self._tables.read("secrets", columns, ["name", "environment"], owner)):
            try:
                self.open(row)
            except SealError:
                damaged[row.label()] = None
            else:
                genuine[row.name, row.environment] = row
        rows = tuple(row for _, row in sorted(genuine.items()))
        record = self._records.get(owner)
        is_listed = record is not None and bucket_of(owner) in self._listed
        return Finding(owner, record, is_listed, rows, tuple(damaged), self._doubt(owner, record, is_listed, rows))

    def open(self, row: Row) -> SecretValue:
        """Return the value in a genuine row; SealError for any other."""
        key = self._data_keys.get(row.data_key) if row.is_typed() else None
        if key is None:
            raise SealError("the row has no data key of the store")
        return SecretValue.from_bytes(key[0].open(row.sealed, row.associated(self.store_id)))

    def _doubt(self, owner: Owner, record: Record | None, is_listed: bool, rows: Sequence[Row]) -> str:
        if record is None:
            return "its record is lost" if bucket_of(owner) not in self._listed else "the store does not know it"
        if digest_rows(row.digest(self.store_id) for row in rows) != record.digest:
            return "something that it held is damaged, missing or older"
        return "" if is_listed else "the manifest that would show its newest state is damaged"

    def _check_root(self, roots: Sequence[Root], wrapped: Mapping[int, bytes]) -> tuple[int | None, frozenset[int]]:
        """Return the generation, and the buckets of which every owner is there, by a root whose MAC is right.

        A bucket's MAC follows from its owners: where one of the two is lost, the root shows whether the
        other is right.
        """
        owners: dict[int, list[Record]] = {number: [] for number in range(BUCKETS)}
        for record in self._records.values():
            owners[bucket_of(record.owner)].append(record)
        computed = [self._macs.bucket(number, records) for number, records in owners.items()]
        claimed = [self._buckets.get(number, mac) for number, mac in enumerate(computed)]
        every_key = {number: data for number, (_, data) in self._data_keys.items()}
        own_keys = {number: data for number, data in every_key.items() if wrapped.get(number) == data}
        for root, data_keys, macs in itertools.product(roots, (own_keys, every_key), (computed, claimed)):
            if root.store_id == self.store_id and hmac.compare_digest(
                self._macs.root(root.generation, data_keys, macs), root.mac
            ):
                whole = (number for number in range(BUCKETS) if macs[number] == computed[number])
                return root.generation, frozenset(whole)
        return None, frozenset()


def _take_pairs(found: Iterable[Columns]) -> dict[int, bytes]:
    """Return the rows that are a number and bytes."""
    return {number: data for number, data in found if isinstance(number, int) and isinstance(data, bytes)}


def _open_data_keys(
    keys: Sequence[MasterKey], ids: Iterable[str], sources: Sequence[Mapping[int, bytes]]
) -> tuple[MasterKey, str, dict[int, tuple[DataKey, bytes]]]:
    """Return the master key and the store's id under which data keys open, and those, with their wrappings."""
    for master, store_id in itertools.product(keys, sorted(ids)):
        opened: dict[int, tuple[DataKey, bytes]] = {}
        for number, wrapped in itertools.chain.from_iterable(source.items() for source in sources):
            if number not in opened:
                try:
                    opened[number] = unwrap_data_key(master, store_id, number, wrapped), wrapped
                except SealError:
                    continue
        if opened:
            return master, store_id, opened
    raise StoreTamperedError("neither its identity nor a data key can be read")
