"""What a damaged store still says, and how much of that its manifest vouches for.

Everything in the file's pages is a claim. A row is genuine when its own seal opens, a record of an owner
when its own MAC is right: then ic-secrets wrote it once, for this store. That it is also the newest,
and all there is, only the manifest tells: root, bucket, record, and the digest over the rows.
"""

from __future__ import annotations

import hmac
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ...errors import StoreTamperedError
from ...keys.sealing import DataKey, MasterKey, SealError, unwrap_data_key
from ...model.secret import Owner, SecretValue
from .manifest import BUCKETS, Macs, Record, bucket_of
from .pages import Columns, Image
from .rows import Row, digest_rows

Progress = Callable[[int, int], object]

# So many buckets may be damaged for all combinations of what is left of them to be tried.
_MOST_DOUBTS = 10
_MAC_BYTES = 32


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


class _Root(NamedTuple):
    store_id: str
    generation: int
    mac: bytes


class Wreck:
    """A damaged store, read from its pages with the one of the keys that is its own.

    `generation` is None where there is no root that vouches for one. `gaps` says how many buckets have lost
    the record of an owner, or more.
    """

    def __init__(self, image: Image, keys: Sequence[MasterKey], backup: Image | None, progress: Progress) -> None:
        """StoreTamperedError when no key opens anything. `backup` is an older copy, which may help with its keys."""
        self._image = image
        self._claims = _Claims()
        self._claims.read(image, progress)
        helpful = _Claims()
        helpful.roots += self._claims.roots
        helpful.data_keys |= self._claims.data_keys
        if backup is not None:
            helpful.read(backup, lambda *_: None)
        self.master, self.store_id, self._data_keys = helpful.open_data_keys(keys)
        self._macs = Macs(self.master, self.store_id)
        found = (self._macs.find_record(columns) for columns in self._claims.records)
        self._records = {record.owner: record for record in found if record}
        self.generation, self._listed = self._check_root()
        self.gaps = 0 if self.generation is None else BUCKETS - len(self._listed)

    def findings(self) -> Iterator[Finding]:
        """What is left of each owner, sites first, in the order of names."""
        owners = self._records.keys() | self._claims.places.keys()
        for owner in sorted(owners, key=lambda owner: (not owner.is_site, owner.name)):
            yield self._find(owner)

    def open(self, row: Row) -> SecretValue:
        """The value in a genuine row; SealError for any other."""
        key = self._data_keys.get(row.data_key)
        if key is None or not row.is_typed():
            raise SealError("there is no such data key, or no such row")
        return SecretValue.from_bytes(key[0].open(row.sealed, row.associated(self.store_id)))

    def _find(self, owner: Owner) -> Finding:
        genuine: dict[tuple[str, str], Row] = {}
        damaged: dict[tuple[str, str], str] = {}
        for place in self._claims.places.get(owner, ()):
            row = Row(*self._image.record(place))
            at = row.name, row.environment
            try:
                self.open(row)
            except SealError:
                damaged[at] = row.label()
            else:
                other = genuine.get(at, row)
                genuine[at] = max(row, other, key=lambda row: (row.version, row.changed))
        rows = tuple(row for _, row in sorted(genuine.items()))
        record = self._records.get(owner)
        listed = record is not None and bucket_of(owner) in self._listed
        doubt = self._doubt(owner, record, listed, rows)
        return Finding(
            owner, record, listed, rows, tuple(damaged[at] for at in sorted(damaged.keys() - genuine)), doubt
        )

    def _doubt(self, owner: Owner, record: Record | None, listed: bool, rows: Sequence[Row]) -> str:
        if record is None:
            return "its record is lost" if bucket_of(owner) not in self._listed else "the store knows no such owner"
        if digest_rows(row.digest(self.store_id) for row in rows) != record.digest:
            return "something that it held is damaged, missing or older"
        return "" if listed else "the manifest that would tell its newest state is damaged"

    def _check_root(self) -> tuple[int | None, frozenset[int]]:
        """The generation, and the buckets of which every owner is there, by a root whose MAC is right.

        A bucket's MAC follows from its owners: where one of the two is lost, the root tells whether the
        other is right.
        """
        owners: dict[int, list[Record]] = {number: [] for number in range(BUCKETS)}
        for record in self._records.values():
            owners[bucket_of(record.owner)].append(record)
        computed = {number: self._macs.bucket(number, records) for number, records in owners.items()}
        claimed = {number: {mac, self._claims.buckets.get(number, mac)} for number, mac in computed.items()}
        doubts = sum(len(macs) > 1 for macs in claimed.values())
        if doubts <= _MOST_DOUBTS:
            choices: list[list[bytes]] = [list(macs) for macs in itertools.product(*claimed.values())]
        else:
            choices = [
                list(computed.values()),
                [self._claims.buckets.get(number, mac) for number, mac in computed.items()],
            ]
        everything = {number: wrapped for number, (_, wrapped) in self._data_keys.items()}
        here = {
            number: wrapped for number, wrapped in everything.items() if (number, wrapped) in self._claims.data_keys
        }
        for root, data_keys, macs in itertools.product(self._claims.roots, (here, everything), choices):
            if root.store_id == self.store_id and hmac.compare_digest(
                self._macs.root(root.generation, data_keys, macs), root.mac
            ):
                return root.generation, frozenset(number for number in computed if macs[number] == computed[number])
        return None, frozenset()


class _Claims:
    """What the records in some pages claim to be, by their shape."""

    def __init__(self) -> None:
        self.roots: list[_Root] = []
        self.data_keys: set[tuple[int, bytes]] = set()
        self.buckets: dict[int, bytes] = {}
        self.records: list[Columns] = []
        self.places: dict[Owner, list[int]] = {}

    def read(self, image: Image, progress: Progress) -> None:
        """Take in every record of the file. Rows are only noted: they are many, and read again one owner at a time."""
        for place, columns in image.records():
            if not place & 0xFFFF:
                progress(place >> 16, image.pages)
            shape = tuple(map(type, columns))
            if len(columns) == len(Row._fields) and shape[:4] == (str, str, str, str):
                self.places.setdefault(Owner(columns[0], columns[1]), []).append(place)
            elif len(columns) == 7:
                self.records.append(columns[1:])
            elif shape == (int, str, str, int, bytes):
                self.roots.append(_Root(columns[1], columns[3], columns[4]))
            elif shape == (int, bytes) and len(columns[1]) == _MAC_BYTES:
                self.buckets[columns[0]] = columns[1]
            elif shape == (int, bytes):
                self.data_keys.add((columns[0], columns[1]))

    def open_data_keys(self, keys: Sequence[MasterKey]) -> tuple[MasterKey, str, dict[int, tuple[DataKey, bytes]]]:
        """The master key and the store's id under which data keys open, and those, with their wrappings."""
        for master, root in itertools.product(keys, self.roots):
            opened = {}
            for number, wrapped in self.data_keys:
                try:
                    opened[number] = unwrap_data_key(master, root.store_id, number, wrapped), wrapped
                except SealError:
                    continue
            if opened:
                return master, root.store_id, opened
        raise StoreTamperedError("neither its identity nor a data key can be read")
