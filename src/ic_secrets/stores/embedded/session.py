"""The embedded store within one transaction: what it says of its owners, verified, and its changes.

Rows that were read for writing are kept, without their values, until the transaction ends, so that a
bulk of writes reads and checks each owner once and computes its digest once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...errors import StoreTamperedError
from ...keys.sealing import DataKey, MasterKey, SealError, unwrap_data_key
from ...model.secret import Owner, SecretValue
from .database import Database
from .manifest import Manifest, Record
from .rows import Row, delete_row, delete_rows, digest_rows, select_rows, write_row

# How many rows are kept for writing, about 1 kB each, before those of the owners used least recently go.
_MAX_ROWS = 20_000

DataKeys = dict[tuple[int, bytes], DataKey]


class Held:
    """What an owner holds, without the values: by name, then by environment ("" for the base)."""

    def __init__(self) -> None:
        self.names: dict[str, dict[str, Row]] = {}
        self.digests: dict[tuple[str, str], bytes] = {}
        self.changed = False

    def keep(self, row: Row, digest: bytes) -> None:
        """Take the row in, with its digest."""
        self.names.setdefault(row.name, {})[row.environment] = row._replace(sealed=b"")
        self.digests[row.name, row.environment] = digest

    def drop(self, row: Row) -> None:
        """Leave the row out."""
        del self.names[row.name][row.environment]
        if not self.names[row.name]:
            del self.names[row.name]
        del self.digests[row.name, row.environment]

    def digest(self) -> bytes:
        """Return the owner's digest as its rows now stand."""
        return digest_rows(digest for _, digest in sorted(self.digests.items()))


class Session:
    """A view of the store in the running transaction of `database`.

    `data_keys` remembers unwrapped data keys from one session to the next.
    """

    def __init__(self, database: Database, keys: Sequence[MasterKey], data_keys: DataKeys) -> None:
        """Check the manifest's root: StoreLockedError, StoreTamperedError."""
        self._database = database
        self._data_keys = data_keys
        self._held: dict[Owner, Held] = {}  # the most recently used last
        self._rows = 0
        self._changed = False
        self.manifest = Manifest(database, keys)

    def find(self, owner: Owner) -> Record | None:
        """Return the owner's record, or None for an owner that the store does not know: both are verified."""
        self._settle(owner)
        return self.manifest.find(owner)

    def records(self) -> list[Record]:
        """Return the records of all owners, verified, in no particular order."""
        for owner in list(self._held):
            self._settle(owner)
        return self.manifest.records()

    def rows(self, owner: Owner) -> list[Row]:
        """Return what the owner holds, verified, in the order of name and environment.

        StoreTamperedError names the row that is not genuine, or the owner where a row is missing.
        """
        record = self.find(owner)
        found = select_rows(self._database, owner)
        if record is None and not found:
            return []
        if record is None or digest_rows(row.digest(self.manifest.store_id) for row in found) != record.digest:
            raise self._find_culprit(owner, found)
        return found

    def open(self, row: Row) -> SecretValue:
        """Return the value in the row; StoreTamperedError, which names it, when it is not the one sealed there."""
        try:
            data = self._data_key(row.data_key).open(row.sealed, row.associated(self.manifest.store_id))
        except SealError:
            raise self._database.tampered(row.label()) from None
        return SecretValue.from_bytes(data)

    def held(self, owner: Owner) -> Held:
        """Return what the owner holds, verified, for a caller that goes on to change it by `write` and `delete`."""
        held = self._held.pop(owner, None)
        if held is None:
            held = Held()
            for row in self.rows(owner):
                held.keep(row, row.digest(self.manifest.store_id))
            self._rows += len(held.digests)
        self._held[owner] = held
        self._forget()
        return held

    def write(self, row: Row, value: SecretValue) -> None:
        """Seal the value and write it as the row, whose own data key and sealed bytes are of no account."""
        held = self.held(Owner(row.kind, row.owner))
        row = row._replace(data_key=max(self.manifest.data_keys))
        data = value.reveal().encode()
        row = row._replace(sealed=self._data_key(row.data_key).seal(data, row.associated(self.manifest.store_id)))
        self._changed = held.changed = True
        write_row(self._database, row)
        self._rows -= len(held.digests)
        held.keep(row, row.digest(self.manifest.store_id))
        self._rows += len(held.digests)

    def delete(self, owner: Owner, rows: Iterable[Row]) -> None:
        """Delete these rows of the owner."""
        held = self.held(owner)
        self._changed = held.changed = True
        for row in rows:
            delete_row(self._database, row)
            held.drop(row)
            self._rows -= 1

    def set_site(self, owner: Owner, organization: str | None, supporting: tuple[str, ...]) -> None:
        """Make the site, or give it these organizations."""
        record = self.find(owner)
        self._changed = True
        digest = record.digest if record else digest_rows(())
        self.manifest.set(Record(owner, organization, supporting, digest))

    def remove_site(self, owner: Owner) -> int:
        """Remove the site with all that it holds; how many values went."""
        held = self.held(owner)
        self._changed = True
        delete_rows(self._database, owner)
        self.manifest.remove(owner)
        self._rows -= len(held.digests)
        del self._held[owner]
        return len(held.digests)

    def rotate(self, master: MasterKey) -> None:
        """Put the store under another master key; no value is touched."""
        for owner in list(self._held):
            self._settle(owner)
        self.manifest.rotate(master)
        self._changed = True

    def save(self) -> bool:
        """Bring the manifest in step with the changes, so that they can be committed; False if nothing has changed."""
        if self._changed:
            for owner in list(self._held):
                self._settle(owner)
            self.manifest.save()
        return self._changed

    def _settle(self, owner: Owner) -> None:
        """Bring the owner's record in step with its rows."""
        held = self._held.get(owner)
        if held is None or not held.changed:
            return
        record = self.manifest.find(owner)
        if owner.is_site or held.digests:
            record = record or Record(owner, None, (), b"")
            self.manifest.set(record._replace(digest=held.digest()))
        elif record:
            self.manifest.remove(owner)
        held.changed = False

    def _forget(self) -> None:
        """Keep memory in bounds, though never less than a site and its organization."""
        while self._rows > _MAX_ROWS and len(self._held) > 2:
            owner = next(iter(self._held))
            self._settle(owner)
            self._rows -= len(self._held.pop(owner).digests)

    def _data_key(self, number: int) -> DataKey:
        wrapped = self.manifest.data_keys.get(number)
        if wrapped is None:
            raise SealError("there is no such data key")
        key = self._data_keys.get((number, wrapped))
        if key is None:
            key = unwrap_data_key(self.manifest.master, self.manifest.store_id, number, wrapped)
            self._data_keys[number, wrapped] = key
        return key

    def _find_culprit(self, owner: Owner, found: list[Row]) -> StoreTamperedError:
        """Return the error that names the first row whose seal does not match, else the owner."""
        for row in found:
            try:
                self.open(row)
            except StoreTamperedError as error:
                return error
        return self._database.tampered(f"what {owner} holds")
