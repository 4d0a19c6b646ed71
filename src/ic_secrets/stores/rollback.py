"""Whether a store is the newest of its copies, as far as something outside of it remembers.

A store proves that nothing in it was changed, but an older copy of it proves that too. Two things can show
it: a generation that the caller names (`--min-generation`), and a state file, which keeps the highest
generation that was seen of each store, by the store's id.

    {"schema": "ic-secrets.state/1", "stores": {"6e1f…": 17}}
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from shlex import quote

from ..core.new_files import new_file, replace_private
from ..errors import StateFileError, StoreError, StoreRolledBackError
from .base import Identity, Store

SCHEMA = "ic-secrets.state/1"
# How long another process's look at the state file is waited for, in seconds.
_PATIENCE = 30.0
# Some 20,000 stores.
_LARGEST = 1 << 20

Generations = dict[str, int]


FindIdentity = Callable[[], Identity | None]


def check_minimum(url: str, identity: Identity | None, minimum: int, source: str) -> None:
    """Raise StoreRolledBackError when the store's generation is below the minimum, which `source` asks for.

    StoreError for a store that has no generations (None), since it cannot give what was asked for.
    """
    if identity is None:
        raise StoreError(f"{url} has no generations, so {source} cannot be checked")
    if identity.generation < minimum:
        raise StoreRolledBackError(
            f"{url} has the generation {identity.generation}; {source} requires {minimum} or later"
        )


def check_state(url: str, find: FindIdentity, path: str) -> None:
    """Compare the store with what the state file remembers of it, and remember what is newer.

    StoreRolledBackError; StateFileError when the file cannot be read, or could not be written. A store
    without generations is passed over. The file is created if it does not exist.
    """
    with _locked(path) as generations:
        # Asked for under the lock: whatever is remembered was committed before.
        identity = find()
        if identity is None:
            return
        _refuse_older(url, identity, path, generations)
        _remember(path, generations, identity)


def look_at_state(url: str, identity: Identity | None, path: str) -> None:
    """Compare the store with what the state file remembers, as `check_state`, and write nothing."""
    if identity and os.path.lexists(path):
        with _locked(path) as generations:
            _refuse_older(url, identity, path, generations)


def _refuse_older(url: str, identity: Identity, path: str, generations: Generations) -> None:
    known = generations.get(identity.id, 0)
    if identity.generation < known:
        raise StoreRolledBackError(
            f"{url} has the generation {identity.generation}; {path} remembers {known}",
            hint=f"put the newest copy back; if the older one is meant, take {identity.id} out of {path}",
        )


def update_state(store: Store, path: str) -> None:
    """Remember the generation of a store that was just written, unless a later one is known; StateFileError."""
    with _locked(path) as generations:
        identity = store.identify()
        if identity is not None:
            _remember(path, generations, identity)


def _remember(path: str, generations: Generations, identity: Identity) -> None:
    if identity.generation <= generations.get(identity.id, 0):
        return
    try:
        replace_private(path, _render({**generations, identity.id: identity.generation}))
    except OSError as error:
        raise _explain(path, "written", error) from None


@contextlib.contextmanager
def _locked(path: str) -> Iterator[Generations]:
    """Yield what the state file holds; nobody else changes it meanwhile."""
    try:
        descriptor = _open(path)
    except (OSError, ValueError) as error:
        raise _explain(path, "read", error) from None
    try:
        try:
            data = os.read(descriptor, _LARGEST)
        except OSError as error:
            raise _explain(path, "read", error) from None
        if not os.access(os.path.dirname(os.path.abspath(path)), os.W_OK | os.X_OK):
            raise StateFileError(f"the state file {path} cannot be written: its directory takes no file from this user")
        yield _parse(path, data)
    finally:
        os.close(descriptor)


def _open(path: str) -> int:
    """Open the state file, made if need be, and lock it: again where it was replaced meanwhile."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError), new_file(path) as temporary, open(temporary, "wb") as file:
                file.write(_render({}))
            continue
        try:
            _check_file(path, os.fstat(descriptor))
            while not _lock(descriptor):
                if time.monotonic() > until:
                    raise StateFileError(f"the state file {path} is locked by another process")
                time.sleep(0.005)
            if _is_at(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: str, descriptor: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    return False


def _check_file(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise StateFileError(f"the state file {path} is not a regular file")
    if found.st_uid != os.geteuid():
        raise StateFileError(f"the state file {path} belongs to the user {found.st_uid}, not to {os.geteuid()}")
    if found.st_mode & 0o022:
        raise StateFileError(
            f"the state file {path} can be written by other users (mode {stat.S_IMODE(found.st_mode):04o})",
            hint=f"chmod 600 {quote(path)}",
        )


def _render(generations: Generations) -> bytes:
    return (json.dumps({"schema": SCHEMA, "stores": dict(sorted(generations.items()))}, indent=2) + "\n").encode()


def _parse(path: str, data: bytes) -> Generations:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    stores = document.get("stores") if isinstance(document, dict) and document.get("schema") == SCHEMA else None
    if not isinstance(stores, dict) or not all(
        re.fullmatch("[0-9a-f]{1,64}", name) and type(number) is int and number >= 0 for name, number in stores.items()
    ):
        raise StateFileError(
            f"the state file {path} is not in the format that ic-secrets writes",
            hint="mend it, or remove it: what it remembers is then learned anew",
        )
    return dict(stores)


def _explain(path: str, done: str, error: OSError | ValueError) -> StateFileError:
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return StateFileError(f"the state file {path} is a symbolic link", hint="name the file itself")
    reason = error.strerror if isinstance(error, OSError) else error
    return StateFileError(
        f"the state file {path} cannot be {done}: {reason}", hint="IC_SECRETS_STATE_FILE names it, or another"
    )
