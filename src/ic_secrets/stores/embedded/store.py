"""The embedded store: one SQLite file in which every value is sealed and every row accounted for.

It keeps names, types, scopes, organizations and times readable, and values closed to everybody without
the master key. database.py knows the file, sealing.py the keys, rows.py a row, manifest.py what makes a
removed or replayed row be noticed, session.py one transaction; here are the rules of the model.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence

from ...core.new_files import new_file
from ...errors import (
    IcSecretsError,
    InvalidNameError,
    InvalidValueError,
    StoreError,
    StoreExistsError,
    StoreLockedError,
    StoreMissingError,
    StoreRolledBackError,
    StoreWriteError,
    UnknownSecretError,
    UnknownSiteError,
)
from ...keys.sealing import MasterKey, new_data_key
from ...model.names import check_environment, check_site_name
from ...model.resolve import Holdings, choose_hosts
from ...model.secret import MAX_TIME, Hosts, Owner, Scope, SecretType, Site, format_scopes
from ..base import Identity, Place, Store, Write
from ..registry import StoreRequest
from .database import BUSY_TIMEOUT_MS, Database, lay_out, refuse_network
from .definitions import define, read_name_chain
from .manifest import Record, find_master_id, write_manifest
from .rows import Row
from .session import DataKeys, Session


def create(path: str, key: MasterKey, fill: Callable[[Session], None] | None = None) -> LocalStore:
    """Make a store, sealed with the key, and open it for writing.

    The file is private from its first byte and appears at `path` complete, with all that `fill` writes;
    missing directories are made, 0700. StoreExistsError where anything is there already;
    StoreOnNetworkError; StoreWriteError where none can be made, and then nothing is left.
    """
    try:
        with new_file(path) as temporary:
            refuse_network(path, os.stat(temporary).st_dev)
            _lay_out(temporary, key, fill)
    except FileExistsError:
        raise StoreExistsError(f"there is a file at {path} already") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StoreWriteError(f"no store can be made at {path}: {reason}") from None
    return open_store(path, [key])


def open_store(
    path: str,
    keys: Sequence[MasterKey],
    *,
    read_only: bool = False,
    busy_timeout: int = BUSY_TIMEOUT_MS,
    reload: Callable[[], Sequence[MasterKey]] = tuple,
) -> LocalStore:
    """Open the store with that one of the keys that is its own.

    `reload` gives the keys once more, when none is the store's: a rotation may have changed it since.

    StoreMissingError; StoreFormatError for what is not a store, or one of another format; StoreLockedError
    when none of the keys opens it; StoreTamperedError. With `read_only` nothing is ever written, so that
    it works from a directory which may not be. Another process's write is waited for as long as
    `busy_timeout` (milliseconds), then it is a StoreBusyError.
    """
    database = Database(path, read_only=read_only, busy_timeout=busy_timeout)
    try:
        return LocalStore(database, keys, reload)
    except BaseException:
        database.close()
        raise


def open_request(request: StoreRequest) -> LocalStore:
    """Open the store of the URL. A missing store is reported before a missing key."""
    if not os.path.lexists(request.path):
        raise StoreMissingError(f"there is no store at {request.path}")
    return open_store(request.path, request.load_keys(), read_only=request.read_only, reload=request.load_keys)


def create_request(request: StoreRequest) -> LocalStore:
    """Open the store of the URL, and create it first if it does not exist."""
    if not os.path.lexists(request.path):
        with contextlib.suppress(StoreExistsError):  # made by another process meanwhile
            return create(request.path, request.load_keys()[0])
    return open_request(request)


def read_master_id(path: str) -> str:
    """Return the id of the master key that the store says it is sealed with; not verified, since it needs no key.

    The errors of `open_store`, those of keys aside.
    """
    database = Database(path, read_only=True)
    try:
        return find_master_id(database)
    finally:
        database.close()


class LocalStore(Store):
    """An embedded store, opened; a context manager that closes it. For one thread of one process."""

    has_hosts = True

    def __init__(
        self, database: Database, keys: Sequence[MasterKey], reload: Callable[[], Sequence[MasterKey]] = tuple
    ) -> None:
        """Check the keys and the manifest's root; `create` and `open_store` are the way here."""
        self.url = f"sqlite:{database.path}"
        self._database = database
        self._keys = tuple(keys)
        self._reload = reload
        self._data_keys: DataKeys = {}
        self._session: Session | None = None
        self._writing = False
        self._doomed = False
        self._store_id = ""
        self._seen = 0
        with self._reading() as session:
            self._store_id = session.manifest.store_id

    @property
    def store_id(self) -> str:
        """Return the random identity of this store, which a copy of its file has too."""
        return self._store_id

    @property
    def generation(self) -> int:
        """Return how many times the store has been written, verified; it falls only where an older copy is put back."""
        with self._reading() as session:
            return session.manifest.generation

    def identify(self) -> Identity:
        return Identity(self._store_id, self.generation)

    def site(self, name: str) -> Site:
        with self._reading() as session:
            return _to_site(_find_site(session, name))

    def sites(self) -> Iterator[Site]:
        with self._reading() as session:
            found = [_to_site(record) for record in session.records() if record.owner.is_site]
        return iter(sorted(found, key=lambda site: site.name))

    def owners(self) -> Iterator[Owner]:
        with self._reading() as session:
            found = [record.owner for record in session.records()]
        return iter(sorted(found, key=lambda owner: (not owner.is_site, owner.name)))

    def set_site(self, site: Site) -> None:
        for organization in (site.organization, *site.supporting):
            if organization is not None:
                check_site_name(organization, "organization")
        owner = Owner.site(site.name)
        with self._changing() as session:
            session.set_site(owner, site.organization, site.supporting)

    def delete_site(self, name: str) -> int:
        with self._changing() as session:
            return session.remove_site(_find_site(session, name).owner)

    def read(
        self, owner: Owner, *, environment: str | None = None, scope: Scope | None = None, values: bool = True
    ) -> Holdings:
        secrets = []
        overrides = []
        with self._reading() as session:
            for row in session.rows(owner):
                wanted = values and (not row.environment or environment in (None, row.environment))
                wanted = wanted and (scope is None or scope.value in row.scopes.split(","))
                value = session.open(row) if wanted else None
                if row.environment:
                    overrides.append(row.override(owner, value))
                else:
                    secrets.append(row.secret(owner, value))
        return Holdings(owner, tuple(secrets), tuple(overrides))

    def put(self, place: Place, write: Write) -> bool:
        owner, environment, name = place
        _check_owner(owner)
        for moment in (*(write.times or ()), write.expires):
            if moment is not None and not 0 <= moment < MAX_TIME:
                raise InvalidValueError(f"{moment} is not a time in seconds since 1970")
        if environment is not None:
            check_environment(environment)
        with self._changing() as session:
            chain = read_name_chain(session, owner, environment, name)
            kind, scopes, base, hosts = define(chain, place, write)
            old = session.held(owner).names.get(name, {}).get(environment or "")
            now = int(time.time())
            created, changed = write.times or (old.created if old else now, now)
            row = Row(
                kind=owner.kind,
                owner=owner.name,
                name=name,
                environment=environment or "",
                base=base,
                type=kind.value,
                scopes=format_scopes(scopes),
                version=old.version + 1 if old else 1,
                created=created,
                changed=changed,
                expires=write.expires,
                data_key=0,
                sealed=b"",
                hosts=",".join(hosts),
            )
            session.write(row, write.value)
        return old is None

    def bind(self, owner: Owner, name: str, hosts: Hosts) -> None:
        with self._changing() as session:
            row = next((row for row in session.rows(owner) if (row.name, row.environment) == (name, "")), None)
            if row is None:
                raise UnknownSecretError(f"there is no secret {Place(owner, None, name)}")
            hosts = choose_hosts(SecretType(row.type), hosts, None)
            session.write(row._replace(hosts=",".join(hosts)), session.open(row))

    def delete(self, place: Place) -> int:
        owner, environment, name = place
        if environment is not None:
            check_environment(environment)
        with self._changing() as session:
            held = session.held(owner).names.get(name, {})
            base = held.get("")
            if environment is not None:
                rows = [row for row in held.values() if row.environment == environment]
            else:
                rows = [row for row in held.values() if base is None or row.base == base.base]
            if not rows:
                raise UnknownSecretError(f"there is no secret {place}")
            session.delete(owner, rows)
        return len(rows)

    def rotate(self, master: MasterKey) -> bool:
        """Put the store under another master key, after which the old one opens nothing; False where it is already.

        All sites and organizations are verified on the way. A reader that holds both keys goes on.
        """
        with self._changing() as session:
            if session.manifest.master == master:
                return False
            self._keys = (master, *self._keys)
            session.rotate(master)
            self.master_id = master.id
        return True

    @property
    def data_keys(self) -> int:
        """Return how many data keys the store has: one, and one more since each rotation."""
        with self._reading() as session:
            return len(session.manifest.data_keys)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """As every store; one within another is a part of it. A store opened for reading takes a snapshot."""
        if self._database.read_only:
            with self.snapshot():
                yield
        elif self._session is None:
            with self._transact(write=True):
                yield
        else:
            try:
                with self._changing():
                    yield
            except BaseException:
                self._doomed = self._writing
                raise

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """As every store. While it lasts, no other process can finish a write."""
        with self._reading():
            yield

    def close(self) -> None:
        self._database.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Session]:
        """Yield the running transaction's session, or one for this moment."""
        if self._session is not None:
            yield self._session
        else:
            with self._transact(write=False) as session:
                yield session

    @contextlib.contextmanager
    def _changing(self) -> Iterator[Session]:
        """Yield the running transaction's session, or one of its own, to write in.

        A refusal (a rule of the model) touched nothing. After any other failure nothing of the running
        transaction will be written, even where its caller goes on.
        """
        if self._database.read_only:
            raise StoreWriteError(f"{self._database.path} was opened for reading only")
        if self._session is None:
            with self._transact(write=True) as session:
                yield session
            return
        if not self._writing or self._doomed:
            reason = "an earlier write of the transaction failed" if self._writing else "a snapshot is for reading"
            raise StoreWriteError(f"{self._database.path} is not written: {reason}")
        try:
            yield self._session
        except BaseException as error:
            refused = isinstance(error, IcSecretsError) and not isinstance(error, StoreError)
            self._doomed = self._doomed or not refused
            raise

    @contextlib.contextmanager
    def _transact(self, *, write: bool) -> Iterator[Session]:
        self._database.begin(write=write)
        try:
            self._session = session = self._start_session()
            self._check_successor(session)
            self._writing, self._doomed = write, False
            yield session
            if self._doomed:
                raise StoreWriteError(f"{self._database.path} was not written: a part of the transaction failed")
            if write and session.save():
                self._database.commit()
        finally:
            self._session = None
            self._database.rollback()

    def _start_session(self) -> Session:
        try:
            return Session(self._database, self._keys, self._data_keys)
        except StoreLockedError:
            keys = tuple(self._reload())
            if set(keys) <= set(self._keys):
                raise
            self._keys = keys
            return Session(self._database, self._keys, self._data_keys)

    def _check_successor(self, session: Session) -> None:
        """Check that this is the store that was opened, no older than when it was last looked at.

        So what was checked of its generation holds for whatever is read later, even where somebody
        writes an older copy over the file in between.
        """
        manifest = session.manifest
        if self._store_id and manifest.store_id != self._store_id:
            raise self._database.tampered("the whole store")
        if manifest.generation < self._seen:
            raise StoreRolledBackError(
                f"{self.url} has the generation {manifest.generation}; a moment ago it had {self._seen}"
            )
        self._seen = manifest.generation
        self.master_id = manifest.master.id


def _lay_out(path: str, key: MasterKey, fill: Callable[[Session], None] | None) -> None:
    """Make the empty file a store, without any owner but those that `fill` writes."""
    store_id = os.urandom(16).hex()
    _, wrapped = new_data_key(key, store_id, 1)
    lay_out(path)
    database = Database(path, read_only=False, journal="MEMORY")
    try:
        database.begin(write=True)
        write_manifest(database, key, store_id, wrapped)
        if fill:
            session = Session(database, [key], {})
            fill(session)
            session.save()
        database.commit()
    finally:
        database.close()


def _check_owner(owner: Owner) -> None:
    if owner not in (Owner.site(owner.name), Owner.organization(owner.name)):
        raise InvalidNameError(f"{owner.kind!r} is not a kind of owner")


def _find_site(session: Session, name: str) -> Record:
    record = session.find(Owner.site(name))
    if record is None:
        raise UnknownSiteError(f"the store has no site {name}")
    return record


def _to_site(record: Record) -> Site:
    return Site(record.owner.name, record.organization, record.supporting)
