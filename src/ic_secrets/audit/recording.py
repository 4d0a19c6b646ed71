"""The entries that a command leaves in the audit log.

    with recorded(store, settings, notify, command="set", owner="my-site", names=["A"]):
        store.put(…)

`recorded` is for commands that write, `observed` for those that reveal values, `BuildRecord` for builds.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..config import Settings
from ..core import Notice, Notify
from ..errors import (
    AuditError,
    IcSecretsError,
    StoreDeniedError,
    StoreError,
    StoreUnreachableError,
    StoreUntrustedError,
)
from ..model.secret import parse_owner
from ..stores import Identity, Store

if TYPE_CHECKING:  # imported when there is something to write
    from .log import Log

# The owner of an entry about all owners.
_EVERYBODY = "--all"
_UNANSWERED = (StoreUnreachableError, StoreUntrustedError, StoreDeniedError)
# More names than this go into further lines.
_NAMES_A_LINE = 1000


class Record:
    """The entries of one command, all with the same `id`. `names` and `identity` are set once they are known."""

    identity: Identity | None = None
    # What a command's transaction changes beside values, for its entry.
    details: Mapping[str, Any] = {}

    def __init__(
        self,
        store: Store | None,
        settings: Settings,
        notify: Notify,
        command: str,
        owner: str | None = None,
        names: Iterable[str] = (),
        *,
        place: str | None = None,
    ) -> None:
        """`place` is the directory whose git revision is logged, by default the working directory."""
        self.names = tuple(names)
        self.is_written = False
        self.place = place
        self._environment = settings.environment
        self._notify = notify
        self._mode = settings.audit
        self.path = settings.audit_file if self._mode != "off" else None
        if self._mode == "required" and self.path is None:
            raise AuditError("the store has no audit log", hint="IC_SECRETS_AUDIT_FILE names one")
        self._store = store
        self._command = {"format": 1, "id": os.urandom(8).hex(), "command": command, "owner": owner}
        self._circumstances: dict[str, Any] | None = None
        self._log: Log | None = None

    @property
    def memento(self) -> Mapping[str, Any]:
        """What another process needs to write further entries, ready for JSON."""
        return {
            "path": self.path,
            "mode": self._mode,
            "command": self._command,
            "names": self.names,
            "place": self.place,
            "store": self.identity,
        }

    @classmethod
    def resume(cls, memento: Mapping[str, Any], command: str, environment: Mapping[str, str], notify: Notify) -> Record:
        """Return the record that another process began; its next entries are those of `command`."""
        record = cls.__new__(cls)
        record.path, record._mode, record.place = memento["path"], memento["mode"], memento["place"]
        record._command = {**memento["command"], "command": command}
        record.names = tuple(memento["names"])
        record.identity = memento["store"] and Identity(*memento["store"])
        record.is_written = False
        record._environment, record._notify = environment, notify
        record._store = record._circumstances = record._log = None
        return record

    def write(self, result: str, *, must: bool = False, **details: object) -> None:
        """Append an entry. A failure is an AuditError if it `must` succeed or is required to, else one warning."""
        if self.path is None:
            return
        try:
            if self._log is None:
                from .log import Log

                self._log = Log(self.path)
            self._log.append(self._describe(result, details))
            self.is_written = True
        except AuditError as error:
            if must or self._mode == "required":
                raise
            self.path = None
            self._notify(Notice(f"{error}: this is not logged", error.hint))

    def fail(self, error: BaseException) -> None:
        """Append an entry with the error's class, since its message may hold anything. Never raises."""
        refused = isinstance(error, IcSecretsError) and not isinstance(error, (StoreError, AuditError))
        if isinstance(error, AuditError):  # reported already
            return
        if not self.is_written:
            # A server that does not answer is not asked again, and a signal does not wait for one.
            is_silent = isinstance(error, _UNANSWERED) or not isinstance(error, Exception)
            self._forget_unknown(None if is_silent else self._store)
        try:
            self.write("refused" if refused else "failed", error=type(error).__name__)
        except AuditError as unwritten:
            self._notify(Notice(str(unwritten), unwritten.hint))

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Open a transaction of the store whose entry is on disk before it commits: nothing changes unlogged."""
        assert self._store is not None
        with self._store.transaction():
            yield
            self.write("ok", must=True, **self.details)

    def _forget_unknown(self, store: Store | None) -> None:
        """Drop the owner and the names that the store does not know: they may be a value in the wrong place."""
        owner = self._command["owner"]
        known = _recall(store, str(owner)) if owner not in (None, _EVERYBODY) else frozenset()
        if known is None:
            self._command["owner"] = None
        self.names = tuple(name for name in self.names if name in (known or ()))

    def _describe(self, result: str, details: dict[str, object]) -> list[dict[str, Any]]:
        if self._circumstances is None:
            from .origin import describe_origin

            origin = describe_origin(self._environment, self.place or _find_directory())
            identity = self.identity or _identify(self._store)
            self._circumstances = {
                **origin,
                "store": identity and identity.id,
                "generation": identity and identity.generation,
            }
        parts = [self.names[at : at + _NAMES_A_LINE] for at in range(0, len(self.names) or 1, _NAMES_A_LINE)]
        return [
            {**self._command, "names": names, "result": result, **details, **self._circumstances} for names in parts
        ]


def check_log(settings: Settings) -> None:
    """Raise AuditError if a log is required but missing or not writable. Write nothing."""
    if settings.audit != "required":
        return
    path = settings.audit_file
    if path is None:
        raise AuditError("the store has no audit log", hint="IC_SECRETS_AUDIT_FILE names one")
    if not is_writable(path):
        raise AuditError(f"the audit log {path} cannot be written")


def is_writable(path: str) -> bool:
    """Return whether a log can be written there."""
    return os.access(path if os.path.lexists(path) else os.path.dirname(os.path.abspath(path)), os.W_OK)


@contextlib.contextmanager
def observed(
    store: Store | None,
    settings: Settings,
    notify: Notify,
    *,
    command: str,
    owner: str | None = None,
    names: Iterable[str] = (),
) -> Iterator[Record]:
    """Log what the block does in one entry, however it ends; show what it reveals only after it.

    For commands that read. One that asks for something before it writes does the latter within
    `record.transaction()`. A log that cannot be written is a warning, unless the person requires it.
    """
    record = Record(store, settings, notify, command, owner, names)
    try:
        yield record
        if not record.is_written:
            record.write("ok")
    except BaseException as error:
        record.fail(error)
        raise
    finally:
        record.close()


@contextlib.contextmanager
def recorded(
    store: Store,
    settings: Settings,
    notify: Notify,
    *,
    command: str,
    owner: str | None = None,
    names: Iterable[str] = (),
) -> Iterator[Record]:
    """Run the block as one transaction that is logged before it commits; AuditError, and nothing changes.

    An error in the block or the commit is logged too, as a second entry if the first was written.
    """
    with observed(store, settings, notify, command=command, owner=owner, names=names) as record, record.transaction():
        yield record


class BuildRecord:
    """The entries of a build (`build.run.Record`): `started` before anything is exposed, `ended` when all is over."""

    def __init__(self, store: Store, settings: Settings, notify: Notify, target: str, command: str = "run") -> None:
        self._record = Record(store, settings, notify, command, target)

    @property
    def path(self) -> str | None:
        """The log file, if any."""
        return self._record.path

    @property
    def memento(self) -> Mapping[str, Any]:
        """What `ResumedRecord` continues from."""
        return self._record.memento

    def start(self, names: Iterable[str], directory: str, store: Identity | None) -> None:
        """Append `started`; AuditError if the person requires a log that cannot be written."""
        self._record.names = tuple(names)
        self._record.identity = store
        self._record.place = directory
        self._record.write("started")

    def end(self, status: int, leaks: int | None) -> None:
        """Append `ended`, with the exit status and how many leaks were found (None if nobody looked)."""
        try:
            self._record.write("ended", status=status, leaks=leaks)
        finally:
            self._record.close()

    def fail(self, error: BaseException) -> None:
        """Append that the build was not started, or could not be ended properly."""
        self._record.fail(error)
        self._record.close()


class ResumedRecord(BuildRecord):
    """The record of a build that `pre-build` began and `post-build` ends."""

    def __init__(self, memento: Mapping[str, Any], environment: Mapping[str, str], notify: Notify) -> None:
        self._record = Record.resume(memento, "post-build", environment, notify)


def _recall(store: Store | None, owner: str) -> frozenset[str] | None:
    """Return the names that the owner has or inherits; None if the store does not know the owner, or fails."""
    try:
        chain = store.read_chain(parse_owner(owner)[0]) if store else ()
    except Exception:  # the store, perhaps a plugin's, may be what failed
        return None
    if not chain or not (chain[0].owner.is_site or chain[0].secrets or chain[0].overrides):
        return None
    names = {secret.name for held in chain for secret in held.secrets}
    return frozenset(names | {override.name for held in chain for override in held.overrides})


def _identify(store: Store | None) -> Identity | None:
    """Return which store it is; inside a transaction, with the generation before it."""
    try:
        return store.identify() if store else None
    except StoreError:  # it may be what failed
        return None


def _find_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it is gone
        return os.sep
