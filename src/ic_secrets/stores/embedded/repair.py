"""Whether an embedded store is whole; if not, what of it can still be read, and a new store of that.

A store that is whole is shown to be so by the same checks that every reader makes, for all owners. Where
one of them fails, what SQLite still reads is verified piece by piece (salvage.py), since what is damaged may be
the way to what is not.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence

from ...core.records import NamedTuple
from ...errors import (
    StoreBusyError,
    StoreError,
    StoreFormatError,
    StoreLockedError,
    StoreMissingError,
    StoreOnNetworkError,
    StoreReadError,
    StoreTamperedError,
)
from ...keys.sealing import MasterKey
from ...model.secret import Owner
from . import store as local
from .database import FORMAT, Database
from .rows import Row
from .salvage import Finding, Remains, Tables
from .session import DataKeys, Session

# Owners that are looked at in one transaction: writers wait for the end of each.
_BATCH = 64
# A larger number is not a version that will ever be, but a damaged one.
_LARGEST_FORMAT = 100

Progress = Callable[[int, int], object]
# An owner, an environment ("" for a base) and a name.
Entry = tuple[str, str, str]


class Backup(NamedTuple):
    """What a backup of a damaged store has of the values that cannot be read in the store, or not be vouched for."""

    path: str
    generation: int
    values: tuple[Entry, ...]


class Report:
    """What a check has found. `fault` is the first thing that is wrong, "" where the store is whole, and
    `hint` what would help where that is another thing than to repair it.

    The counts and `readable` are of what the manifest vouches for, `doubtful` of what is genuine but
    perhaps not the newest. `doubts` says why, by owner; `damaged` are the labels of rows whose seal does not open; of
    at least `lost_records` owners the records are lost. `backup` says what the backup would bring, where one was named.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.fault = self.hint = ""
        self.store_id = ""
        self.key_id = ""
        self.generation: int | None = None
        self.sites = self.organizations = self.secrets = self.overrides = 0
        self.readable: list[Entry] = []
        self.doubtful: list[Entry] = []
        self.doubts: dict[str, str] = {}
        self.damaged: list[str] = []
        self.lost_records = 0
        self.backup: Backup | None = None

    def count(self, owner: Owner, rows: Sequence[Row]) -> None:
        """Count an owner and its rows as readable."""
        self.sites += owner.is_site
        self.organizations += not owner.is_site
        self.overrides += sum(bool(row.environment) for row in rows)
        self.secrets += sum(not row.environment for row in rows)

    def add(self, finding: Finding) -> None:
        """Take in what was found of an owner of a damaged store."""
        names = [(str(finding.owner), row.environment, row.name) for row in finding.rows]
        self.damaged += finding.damaged
        if finding.doubt:
            self.doubtful += names
            self.doubts[str(finding.owner)] = finding.doubt
        else:
            self.readable += names
            self.count(finding.owner, finding.rows)


class Salvage(NamedTuple):
    """A new store made of a damaged one, and how many values it has."""

    path: str
    values: int


def check(path: str, keys: Sequence[MasterKey], progress: Progress, *, backup: str | None = None) -> Report:
    """Check the whole store. Where it is damaged, that is what the report says.

    `backup` is an older copy of it. A StoreError where nothing can be said about the store: it is missing, no key is
    its own, it is of a newer format, or too little is left.
    """
    report = Report(path)
    error = _verify(report, keys, progress)
    if error:
        with _opened_remains(path, keys, backup, error) as (report, remains):
            for finding in _find_all(remains, progress):
                report.add(finding)
        _compare_backup(report, keys, backup)
    return report


def repair(
    path: str,
    target: str,
    keys: Sequence[MasterKey],
    progress: Progress,
    *,
    backup: str | None = None,
    doubtful: bool = False,
    vet: Callable[[Report], object] = lambda report: None,
) -> tuple[Report, Salvage | None]:
    """Check the store and, where it is damaged, make a new one at `target` of what can be read.

    It gets what the manifest vouches for; with `doubtful` also what is genuine, though it may be older
    than what the store held. Values keep their bases, versions and times; the new store has the same master key,
    an identity and data keys of its own, so that no row of the damaged one fits into it, and a later
    generation. Nothing comes from the `backup` but the damaged store's identity and data keys, where those are lost.
    StoreExistsError where anything is at `target`. Before anything is made, `vet` may refuse the damaged
    store by raising, by what the report says of its identity. The damaged file is only read, but that a
    write which was cut off is undone first, as by every command.
    """
    report = Report(path)
    error = _verify(report, keys, progress)
    if error is None:
        return report, None
    with _opened_remains(path, keys, backup, error) as (report, remains):
        vet(report)

        def fill(session: Session) -> None:
            for finding in _find_all(remains, progress):
                report.add(finding)
                _salvage(session, remains, finding, doubtful=doubtful)
            session.manifest.generation = max(session.manifest.generation, remains.generation or 0)

        local.create(target, remains.master, fill).close()
        made = Report(target)
        fault = _verify(made, [remains.master], progress)
        if fault:  # a fault of ours or of the disk
            raise fault
    _compare_backup(report, keys, backup)
    return report, Salvage(target, made.secrets + made.overrides)


def _find_all(remains: Remains, progress: Progress) -> Iterator[Finding]:
    owners = remains.owners()
    for done, owner in enumerate(owners, 1):
        yield remains.find(owner)
        progress(done, len(owners))


def _compare_backup(report: Report, keys: Sequence[MasterKey], backup: str | None) -> None:
    """Say what the backup has of what was not found, or not vouched for."""
    if backup is None:
        return
    with local.open_store(backup, keys, read_only=True) as older:
        values: list[Entry] = []
        for owner in older.owners():
            held = older.read(owner, values=False)
            values += ((str(owner), "", secret.name) for secret in held.secrets)
            values += ((str(owner), override.environment, override.name) for override in held.overrides)
        readable = set(report.readable)
        report.backup = Backup(backup, older.generation, tuple(each for each in values if each not in readable))


def _salvage(session: Session, remains: Remains, finding: Finding, *, doubtful: bool) -> None:
    record = finding.record
    if record and record.owner.is_site and (finding.listed or doubtful):
        session.set_site(record.owner, record.organization, record.supporting)
    if not finding.doubt or doubtful:
        for row in finding.rows:
            session.write(row, remains.open(row))


def _verify(report: Report, keys: Sequence[MasterKey], progress: Progress) -> StoreError | None:
    """Check every owner as a reader would; the first error, unless it is one that no damage can explain."""
    try:
        with Database(report.path, read_only=True) as database:
            _verify_owners(report, database, keys, progress)
    except (StoreMissingError, StoreBusyError, StoreLockedError, StoreOnNetworkError):
        raise
    except StoreError as error:
        return error
    return None


def _verify_owners(report: Report, database: Database, keys: Sequence[MasterKey], progress: Progress) -> None:
    data_keys: DataKeys = {}
    with _session(database, keys, data_keys) as session:
        manifest = session.manifest
        report.store_id, report.key_id, report.generation = manifest.store_id, manifest.master.id, manifest.generation
        known = {record.owner for record in session.records()}
        claimed = {Owner(*columns) for columns in database.query("SELECT DISTINCT kind, owner FROM secrets")}
        if not claimed <= known:
            raise database.tampered("what an owner that the store does not know holds")
        owners = list(known)
    done = 0
    while done < len(owners):
        with _session(database, keys, data_keys) as session:
            for owner in itertools.islice(owners, done, done + _BATCH):
                rows = session.rows(owner)
                for row in rows:
                    session.open(row)
                report.count(owner, rows)
        done = min(done + _BATCH, len(owners))
        progress(done, len(owners))


@contextlib.contextmanager
def _session(database: Database, keys: Sequence[MasterKey], data_keys: DataKeys) -> Iterator[Session]:
    database.begin(write=False)
    try:
        yield Session(database, keys, data_keys)
    finally:
        database.rollback()


@contextlib.contextmanager
def _opened_remains(
    path: str, keys: Sequence[MasterKey], backup: str | None, error: StoreError
) -> Iterator[tuple[Report, Remains]]:
    """Open what is left of the store; where nothing can be made of it, the error that was there first is raised."""
    report = Report(path)
    report.fault, report.hint = str(error), error.hint if isinstance(error, StoreReadError) else ""
    if not os.path.isfile(path):  # to open a pipe would wait for somebody to write to it
        raise error
    older = _read_backup(backup, keys) if backup is not None else None
    try:
        tables = Tables(path)
    except sqlite3.Error:
        raise error from None
    with tables:
        if isinstance(error, StoreFormatError) and FORMAT < tables.version < _LARGEST_FORMAT:
            raise error
        try:
            remains = Remains(tables, keys, older)
        except StoreTamperedError as nothing:
            if isinstance(error, (StoreFormatError, StoreReadError)):
                raise error from None
            raise StoreTamperedError(
                f"{path}: nothing can be read: {nothing}", hint="restore a backup, or name one: --backup FILE"
            ) from None
        report.store_id, report.key_id, report.generation = remains.store_id, remains.master.id, remains.generation
        report.lost_records = remains.lost_records
        yield report, remains


def _read_backup(path: str, keys: Sequence[MasterKey]) -> tuple[str, dict[int, bytes]]:
    """Return the id of the store that the backup is of, and its data keys; the errors of opening a store."""
    with Database(path, read_only=True) as database, _session(database, keys, {}) as session:
        return session.manifest.store_id, session.manifest.data_keys
