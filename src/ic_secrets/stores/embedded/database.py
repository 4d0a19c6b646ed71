"""The SQLite file of the embedded store: its tables, how it is opened, and its errors in our words.

What SQLite promises here: a transaction is on disk when it is acknowledged and is there whole or not
at all, also after kill -9 and loss of power (rollback journal, `synchronous=EXTRA`). What it does not:
its own integrity check misses most flipped bits, so the manifest checks what was read.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Sequence
from typing import Any

from ...core.linux import find_file_system
from ...errors import (
    StoreBusyError,
    StoreError,
    StoreFormatError,
    StoreMissingError,
    StoreOnNetworkError,
    StoreReadError,
    StoreTamperedError,
    StoreUnconfirmedError,
    StoreWriteError,
)

APPLICATION_ID = 0x69635331  # "icS1", in the header of the file, where `file` and SQLite show it
# The newest format. A store is of the first until a secret in it is bound to hosts, so that until then earlier versions
# of ic-secrets read it too.
FORMAT = 2
_FIRST = 1
BUSY_TIMEOUT_MS = 30_000

# The tables as SQLite keeps their text: any other object, or another word in one of these, is refused.
# Rows are clustered by owner and owners by bucket, so that what a build reads lies together.
_TABLES = {
    "buckets": "CREATE TABLE buckets (number INTEGER PRIMARY KEY, mac BLOB NOT NULL)",
    "data_keys": "CREATE TABLE data_keys (id INTEGER PRIMARY KEY, wrapped BLOB NOT NULL)",
    "owners": (
        "CREATE TABLE owners (bucket INTEGER NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, organization TEXT,"
        " supporting TEXT NOT NULL, digest BLOB NOT NULL, mac BLOB NOT NULL,"
        " PRIMARY KEY (bucket, kind, name)) WITHOUT ROWID"
    ),
    "secrets": (
        "CREATE TABLE secrets (kind TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL, environment TEXT NOT NULL,"
        " base TEXT NOT NULL, type TEXT NOT NULL, scopes TEXT NOT NULL, version INTEGER NOT NULL,"
        " created INTEGER NOT NULL, changed INTEGER NOT NULL, expires INTEGER, data_key INTEGER NOT NULL,"
        " sealed BLOB NOT NULL, PRIMARY KEY (kind, owner, name, environment)) WITHOUT ROWID"
    ),
    "store": (
        "CREATE TABLE store (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL, master TEXT NOT NULL,"
        " generation INTEGER NOT NULL, mac BLOB NOT NULL)"
    ),
}
_ADDED = "hosts TEXT NOT NULL DEFAULT ''"
_END = ", PRIMARY KEY (kind, owner, name, environment)"
# The tables of each format, as SQLite lists them once that column is added.
_SCHEMAS = {
    _FIRST: [("table", name, name, sql) for name, sql in sorted(_TABLES.items())],
    FORMAT: [
        ("table", name, name, sql.replace(_END, f", {_ADDED}{_END}") if name == "secrets" else sql)
        for name, sql in sorted(_TABLES.items())
    ],
}

# What SQLite says of a disk or directory that fails it; nothing else of its messages is passed on.
_REASONS = (
    "database or disk is full",
    "disk I/O error",
    "unable to open database file",
    "readonly database",
    "closed database",
)

# A damaged name within SQLite's own message makes that a UnicodeDecodeError.
_ERRORS = (sqlite3.Error, UnicodeError)

# File systems whose files lie on other machines: their locks, caches and fsync are not those that SQLite builds on.
# What containers and virtual machines run on (overlay, 9p, virtiofs) is not among them, nor is FUSE on a local disk.
_NETWORK_TYPES = frozenset(
    "acfs afp afs beegfs ceph cifs coda davfs fuse.afpfs fuse.blobfuse fuse.blobfuse2 fuse.ceph fuse.ceph-fuse "
    "fuse.cephfs fuse.curlftpfs fuse.davfs2 fuse.gcsfuse fuse.glusterfs fuse.goofys fuse.gvfsd-fuse fuse.hdfs "
    "fuse.juicefs fuse.lizardfs fuse.mfs fuse.moosefs fuse.mount-s3 fuse.mountpoint-s3 fuse.nfs fuse.objectivefs "
    "fuse.ossfs fuse.rclone fuse.s3fs fuse.s3ql fuse.seaweedfs fuse.smbnetfs fuse.sshfs fuse.sshfs-fuse fuse.weed "
    "fuse_dfs fuse.fuse_dfs glusterfs gpfs kafs lustre mountpoint-s3 ncpfs nfs nfs4 objectivefs "
    "orangefs panfs pvfs2 smb2 smb3 smbfs wekafs".split()
)

# The bytes of a path that mean themselves in a file: URL.
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-")

Value = str | bytes | int | None


class Database:
    """One connection. Every method raises a `StoreError`, and never what SQLite raises."""

    def __init__(
        self, path: str, *, read_only: bool, busy_timeout: int = BUSY_TIMEOUT_MS, journal: str = "DELETE"
    ) -> None:
        """Open the file, which must be a store of this format: else StoreMissingError, StoreFormatError.

        `journal` is SQLite's mode; a file that no other process can reach yet needs none on disk.
        """
        self.path = path
        self.read_only = read_only
        self._busy_timeout = busy_timeout
        self._writing = False
        self._format = _FIRST
        self._file = os.path.abspath(path)
        _check_file(path)
        self._connection = self._connect("ro" if read_only else "rw")
        try:
            self._arrange(journal)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def query(self, sql: str, values: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        """Return the rows that the statement gives."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except _ERRORS as error:
            raise self._translate(error) from None

    def run(self, sql: str, values: Sequence[Value] = ()) -> None:
        """Change rows, within a transaction that writes."""
        if not self._is_running():  # SQLite undid it when something failed; alone this would be kept at once
            raise StoreWriteError(f"{self.path} is not written: its transaction has ended")
        self.query(sql, values)

    @property
    def has_hosts(self) -> bool:
        """Return whether the running transaction sees a column for the hosts of a secret."""
        return self._format == FORMAT

    def add_hosts(self) -> None:
        """Add that column, within a transaction that writes; rows stay as they are."""
        self.run(f"ALTER TABLE secrets ADD COLUMN {_ADDED}")
        self.run(f"PRAGMA user_version={FORMAT}")
        self._format = FORMAT

    def begin(self, *, write: bool) -> None:
        """Start a transaction, and check that the file is still ours.

        All that is read in it is of one moment. To write is to hold the one write lock from the start,
        for which it waits; StoreBusyError when another process keeps it too long.
        """
        try:
            self._begin(write)
        except _CutOffError:
            self._mend()
            self._begin(write)

    def commit(self) -> None:
        """Put the transaction on disk; when that fails, it is undone and the error says so.

        StoreUnconfirmedError where it is not undone: its last step, to put on disk that the journal is
        gone, can fail when the journal is gone for all who look.
        """
        ours = self._read_root() if self._is_running() else None
        try:
            self.run("COMMIT")
        except BaseException as error:
            self.rollback()
            if isinstance(error, StoreError) and ours is not None and self._read_root() == ours:
                raise StoreUnconfirmedError(f"{self.path} is written, but the disk did not confirm it") from None
            raise
        finally:
            self._writing = False

    def _read_root(self) -> list[tuple[Any, ...]] | None:
        """Return what no two states of the store have in common; None where it cannot be read."""
        try:
            return self._connection.execute("SELECT mac FROM store").fetchall()
        except _ERRORS:
            return None

    def rollback(self) -> None:
        """Undo the transaction; do nothing if none is open."""
        try:
            if self._is_running():
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            # The journal is still there, and whoever opens the file next undoes it.
            self._connection.close()
        self._writing = False

    def close(self) -> None:
        """Let go of the file, undoing what is not committed; safe to call twice."""
        self._connection.close()

    def tampered(self, what: str) -> StoreTamperedError:
        """Return the error that says what of the store something else has written."""
        return StoreTamperedError(f"{self.path}: {what} was changed by something other than ic-secrets")

    def _connect(self, mode: str) -> sqlite3.Connection:
        try:
            return connect(self._file, mode, self._busy_timeout)
        except sqlite3.Error as error:
            raise self._translate(error) from None

    def _is_running(self) -> bool:
        try:
            return self._connection.in_transaction
        except sqlite3.ProgrammingError:  # closed
            return False

    def _begin(self, write: bool) -> None:
        self._writing = write
        self.query("BEGIN IMMEDIATE" if write else "BEGIN")
        try:
            self._check_format()
        except BaseException:
            self.rollback()
            raise

    def _arrange(self, journal: str) -> None:
        """Check the format before anything that could change a file that is not ours."""
        self.query("PRAGMA trusted_schema=OFF")
        self.query("PRAGMA cell_size_check=ON")
        self.query("PRAGMA temp_store=MEMORY")
        self.begin(write=False)
        self.rollback()
        if not self.read_only:
            self.query(f"PRAGMA journal_mode={journal}")
            self.query("PRAGMA synchronous=EXTRA")
            self.query("PRAGMA secure_delete=ON")
            self.query("PRAGMA cache_size=-32768")

    def _check_format(self) -> None:
        ((application,),) = self.query("PRAGMA application_id")
        if application != APPLICATION_ID:
            raise StoreFormatError(f"{self.path} is not an ic-secrets store")
        ((version,),) = self.query("PRAGMA user_version")
        if version not in _SCHEMAS:
            hint = "a newer ic-secrets wrote it: upgrade" if version > FORMAT else ""
            raise StoreFormatError(
                f"{self.path} has the format {version}; this version reads the formats {_FIRST} to {FORMAT}", hint=hint
            )
        self._format = version
        schema = self.query("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name")
        if schema != _SCHEMAS[version]:
            raise self.tampered("the schema")

    def _mend(self) -> None:
        """Undo what a killed writer left half-done, which only a connection that may write can."""
        connection = self._connect("rw")
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
        except _ERRORS:
            raise StoreReadError(
                f"{self.path}: a write was cut off, and this user may not undo it",
                hint="run any command once as a user who may write the store and its directory",
            ) from None
        finally:
            connection.close()

    def _translate(self, error: sqlite3.Error | UnicodeError) -> StoreError:
        """Return the error in our words; of SQLite's message only what is known to hold no data."""
        text = str(error)
        if "not a database" in text:
            return StoreFormatError(f"{self.path} is not an ic-secrets store")
        # SQLITE_CORRUPT is a bare DatabaseError, whose message is lost on Python 3.10 where it quotes damaged text.
        is_bare = type(error) is sqlite3.DatabaseError
        if is_bare or isinstance(error, UnicodeError) or text.startswith("Could not decode") or "malformed" in text:
            return StoreTamperedError(f"{self.path} is damaged")
        if "locked" in text:
            return StoreBusyError(f"{self.path} is locked by another process")
        if "readonly database" in text and not self._writing:
            return _CutOffError(f"{self.path} cannot be read: a write was cut off")
        reason = next((reason for reason in _REASONS if reason in text), type(error).__name__)
        if self._writing:
            return StoreWriteError(f"{self.path} cannot be written: {reason}")
        return StoreReadError(f"{self.path} cannot be read: {reason}")


class _CutOffError(StoreReadError):
    """A killed writer's journal is there, and a connection that only reads cannot undo it."""


def connect(path: str, mode: str, busy_timeout: int) -> sqlite3.Connection:
    """Open the file, which must be there, in that mode of SQLite's; `busy_timeout` is in ms. sqlite3.Error."""
    name = "".join(chr(c) if c in _PLAIN else f"%{c:02x}" for c in os.fsencode(os.path.abspath(path)))
    return sqlite3.connect(f"file://{name}?mode={mode}", uri=True, isolation_level=None, timeout=busy_timeout / 1000)


def lay_out(path: str) -> None:
    """Make the tables in an empty file that no other process can reach yet."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=MEMORY")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={_FIRST}")
        for _, sql in sorted(_TABLES.items()):
            connection.execute(sql)
    except sqlite3.Error as error:
        raise StoreWriteError(f"{path} cannot be written: {error}") from None
    finally:
        connection.close()


def refuse_network(path: str, device: int) -> None:
    """Raise StoreOnNetworkError when the device (`st_dev`) of a store at `path` is a network file system's."""
    if os.major(device):  # a disk's own number: only file systems without one need to be looked up
        return
    kind = find_file_system(device)
    if kind in _NETWORK_TYPES:
        raise StoreOnNetworkError(f"{path} lies on a network file system ({kind})")


def _check_file(path: str) -> None:
    # Only its name is looked at: to open and close the file would drop this process's locks on it (fcntl).
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise StoreMissingError(f"there is no store at {path}") from None
    except ValueError:  # a NUL in the name
        raise StoreMissingError(f"there can be no store at {path!r}") from None
    except OSError as error:
        raise StoreReadError(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise StoreFormatError(f"{path} is not an ic-secrets store: it is not a regular file")
    refuse_network(path, found.st_dev)
