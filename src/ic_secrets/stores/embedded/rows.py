"""One value of the embedded store as a row: what is bound to its seal, and its digest.

The associated data of a seal names everything of the row but the value itself, so that a sealed value
opens in no other place, under no other name, type, scopes or version, for no other base and no other hosts.
"""

import functools
import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ...core.records import NamedTuple
from ...errors import StoreFormatError
from ...keys.sealing import encode
from ...model.secret import Override, Owner, Scopes, Secret, SecretType, SecretValue, parse_scopes

if TYPE_CHECKING:
    from .database import Database

_NONE = type(None)
_TYPES = (
    (str, str, str, str, str, str, str, int, int, int, int, int, bytes, str),
    (str, str, str, str, str, str, str, int, int, int, _NONE, int, bytes, str),
)
_COLUMNS = "kind, owner, name, environment, base, type, scopes, version, created, changed, expires, data_key, sealed"


class Row(NamedTuple):
    """One row of the table `secrets`, in the order of its columns; environment is "" for a base.

    The hosts of a bound base are separated by commas; "" if it is not bound.
    """

    kind: str
    owner: str
    name: str
    environment: str
    base: str
    type: str
    scopes: str
    version: int
    created: int
    changed: int
    expires: int | None
    data_key: int
    sealed: bytes
    hosts: str = ""

    def is_typed(self) -> bool:
        """Return whether the columns are of their types, which SQLite lets anyone write otherwise."""
        return has_types(self, *_TYPES)

    def associated(self, store_id: str) -> bytes:
        """Return what the value's seal is bound to: the store and every field but the sealed value.

        That of a row without hosts is as it was before there were any.
        """
        bound = (self.hosts,) if self.hosts else ()
        return encode(
            "ic-secrets/1 bound value" if bound else "ic-secrets/1 value",
            store_id,
            self.kind,
            self.owner,
            self.name,
            self.environment,
            self.base,
            self.type,
            self.scopes,
            str(self.version),
            str(self.created),
            str(self.changed),
            "" if self.expires is None else str(self.expires),
            str(self.data_key),
            *bound,
        )

    def digest(self, store_id: str) -> bytes:
        """SHA-256 of all of the row: the first field says how many come before the sealed value."""
        return hashlib.sha256(self.associated(store_id) + self.sealed).digest()

    def label(self) -> str:
        """Return its owner, environment and name as people write them, safe to print even if an enemy wrote it."""
        where = f"{self.owner}.{self.environment}" if self.environment else self.owner
        text = f"{where if self.kind == 'site' else f'org:{where}'} {self.name}"
        return (text if text.isprintable() else ascii(text))[:400]

    def secret(self, owner: Owner, value: SecretValue | None) -> Secret:
        """Return the base that this row of the owner is."""
        kind, scopes = _meaning(self.type, self.scopes)
        return Secret(
            id=self.base,
            owner=owner,
            name=self.name,
            type=kind,
            scopes=scopes,
            value=value,
            version=self.version,
            created=self.created,
            changed=self.changed,
            expires=self.expires,
            hosts=tuple(self.hosts.split(",")) if self.hosts else (),
        )

    def override(self, owner: Owner, value: SecretValue | None) -> Override:
        """Return the override that this row of the owner is."""
        kind, scopes = _meaning(self.type, self.scopes)
        return Override(
            base=self.base,
            owner=owner,
            environment=self.environment,
            name=self.name,
            type=kind,
            scopes=scopes,
            value=value,
            version=self.version,
            created=self.created,
            changed=self.changed,
            expires=self.expires,
        )


def select_rows(database: "Database", owner: Owner) -> list[Row]:
    """Return the owner's rows in the order of name and environment, not yet verified.

    StoreTamperedError for one whose columns are not of their types, which SQLite lets anyone write.
    """
    columns = list_columns(database.has_hosts)
    found = database.query(
        f"SELECT {columns} FROM secrets WHERE kind = ? AND owner = ? ORDER BY name, environment",  # noqa: S608
        (owner.kind, owner.name),
    )
    if not all(has_types(columns, *_TYPES) for columns in found):
        raise database.tampered(f"what {owner} holds")
    return [Row(*columns) for columns in found]


def list_columns(has_hosts: bool) -> str:
    """Return what to select for a row; a table from before there were hosts gives none."""
    return f"{_COLUMNS}, {'hosts' if has_hosts else repr('')}"


def write_row(database: "Database", row: Row) -> None:
    """Insert the row, or put it in the place of the one for the same owner, name and environment."""
    if row.hosts and not database.has_hosts:
        database.add_hosts()
    columns, values = (f"{_COLUMNS}, hosts", row) if database.has_hosts else (_COLUMNS, row[:-1])
    database.run(f"INSERT OR REPLACE INTO secrets ({columns}) VALUES ({', '.join('?' * len(values))})", values)  # noqa: S608


def delete_row(database: "Database", row: Row) -> None:
    """Delete the row."""
    database.run(
        "DELETE FROM secrets WHERE kind = ? AND owner = ? AND name = ? AND environment = ?",
        (row.kind, row.owner, row.name, row.environment),
    )


def delete_rows(database: "Database", owner: Owner) -> None:
    """Delete all that the owner holds."""
    database.run("DELETE FROM secrets WHERE kind = ? AND owner = ?", (owner.kind, owner.name))


def digest_rows(digests: Iterable[bytes]) -> bytes:
    """Return the digest of what an owner holds, from those of its rows in the order of name and environment."""
    return hashlib.sha256(b"".join(digests)).digest()


def has_types(columns: Sequence[Any], *alternatives: tuple[type, ...]) -> bool:
    """Return whether the types of the columns are exactly one of the alternatives."""
    return tuple(map(type, columns)) in alternatives


@functools.cache
def _meaning(kind: str, scopes: str) -> tuple[SecretType, Scopes]:
    try:
        return SecretType(kind), parse_scopes(scopes)
    except ValueError:
        raise StoreFormatError(
            f"the store holds a secret of the type {kind!r}, which this version does not know"
        ) from None
