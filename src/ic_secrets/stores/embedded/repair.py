"""Whether an embedded store is whole; if not, what of it can still be read, and a new store of that.

A store that is whole is shown to be so by the same checks that every reader makes, for all owners. Where
one of them fails, the store's pages are searched (wreck.py), since what is damaged may be the way to
what is not.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

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
from .database import BUSY_TIMEOUT_MS, FORMAT, Database
from .pages import Image
from .rows import Row
from .session import DataKeys, Session
from .wreck import Finding, Progress, Wreck

# Owners that are looked at in one transaction: writers wait for the end of each.
_BATCH = 64
# A larger number is no version that will ever be, but a damaged one.
_LARGEST_FORMAT = 100


class Report:
    """What a check has found. `fault` is the first thing that is wrong, "" where the store is whole, and
    `hint` what would help where that is another thing than to repair it.

    The counts and `readable` are of what the manifest vouches for, `doubtful` of what is genuine but
    perhaps not the newest: (owner, environment, name), environment "" for a base. `doubts` says why, by owner;
    `damaged` are the labels of rows whose seal does not open; of at least `lost_records` owners the records are lost.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.fault = self.hint = ""
        self.store_id = ""
        self.key_id = ""
        self.generation: int | None = None
        self.sites = self.organizations = self.secrets = self.overrides = 0
        self.readable: list[tuple[str, str, str]] = []
        self.doubtful: list[tuple[str, str, str]] = []
        self.doubts: dict[str, str] = {}
        self.damaged: list[str] = []
        self.lost_records = 0

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

    A StoreError where nothing can be said of it: there is none, no key is its own, it is of a newer format,
    or too little is left.
    """
    report = Report(path)
    error = _verify(report, keys, progress)
    if error:
        report = Report(path)
        with _opened_wreck(path, keys, backup, error, progress) as wreck:
            _begin(report, wreck, error)
            for finding in wreck.findings():
                report.add(finding)
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
    generation. StoreExistsError where anything is at `target`. Before anything is made, `vet` may refuse the damaged
    store by raising, by what the report says of its identity. The damaged file is only read, but that a
    write which was cut off is undone first, as by every command.
    """
    report = Report(path)
    error = _verify(report, keys, progress)
    if error is None:
        return report, None
    report = Report(path)
    with _opened_wreck(path, keys, backup, error, progress) as wreck:
        _begin(report, wreck, error)
        vet(report)

        def fill(session: Session) -> None:
            for finding in wreck.findings():
                report.add(finding)
                _salvage(session, wreck, finding, doubtful=doubtful)
            session.manifest.generation = max(session.manifest.generation, wreck.generation or 0)

        local.create(target, wreck.master, fill).close()
        made = Report(target)
        fault = _verify(made, [wreck.master], progress)
        if fault:  # a fault of ours or of the disk
            raise fault
    return report, Salvage(target, made.secrets + made.overrides)


def _salvage(session: Session, wreck: Wreck, finding: Finding, *, doubtful: bool) -> None:
    record = finding.record
    if record and record.owner.is_site and (finding.listed or doubtful):
        session.set_site(record.owner, record.organization, record.supporting)
    if not finding.doubt or doubtful:
        for row in finding.rows:
            session.write(row, wreck.open(row))


def _begin(report: Report, wreck: Wreck, error: StoreError) -> None:
    report.fault = str(error)
    report.hint = error.hint if isinstance(error, StoreReadError) else ""
    report.store_id, report.key_id, report.generation = wreck.store_id, wreck.master.id, wreck.generation
    report.lost_records = wreck.gaps


def _verify(report: Report, keys: Sequence[MasterKey], progress: Progress) -> StoreError | None:
    """Check every owner as a reader would; the first error, unless it is one that no damage can explain."""
    try:
        database = Database(report.path, read_only=True)
        try:
            _verify_owners(report, database, keys, progress)
        finally:
            database.close()
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
def _opened_wreck(
    path: str, keys: Sequence[MasterKey], backup: str | None, error: StoreError, progress: Progress
) -> Iterator[Wreck]:
    """The store's pages; where nothing can be made of them, the error that was there first is the one to tell."""
    with contextlib.ExitStack() as stack:
        image = Image(path, busy_timeout=BUSY_TIMEOUT_MS)
        stack.callback(image.close)
        if isinstance(error, StoreFormatError) and FORMAT < image.version < _LARGEST_FORMAT:
            raise error
        older = None
        if backup is not None:
            older = Image(backup, busy_timeout=BUSY_TIMEOUT_MS)
            stack.callback(older.close)
        try:
            wreck = Wreck(image, keys, older, progress)
        except StoreTamperedError as nothing:
            if isinstance(error, (StoreFormatError, StoreReadError)):
                raise error from None
            raise StoreTamperedError(
                f"{path}: nothing can be read: {nothing}", hint="an older copy of it helps: --backup FILE"
            ) from None
        yield wreck
