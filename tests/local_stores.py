"""An embedded store with something of everything in it, and the raw file for an enemy's hands."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from children import run_in_child
from ic_secrets.keys.sealing import MasterKey
from ic_secrets.model.resolve import Holdings
from ic_secrets.model.secret import Owner, Scope, SecretType, SecretValue, Site
from ic_secrets.stores.base import Place, Store, Write
from ic_secrets.stores.embedded import store as local

KEY = MasterKey(bytes(range(32)))
CANARY = "hunter2-canary"

MY_SITE = Owner("site", "my-site")
OTHER_SITE = Owner("site", "other-site")
EMPTY = Owner("site", "empty")
AGENCY = Owner("organization", "agency")
STUDIO = Owner("organization", "studio")
OWNERS = (MY_SITE, OTHER_SITE, EMPTY, AGENCY, STUDIO)

BUILD = frozenset({Scope.IC})
READABLE = frozenset({Scope.IC, Scope.USER})


def make_store(directory: Path) -> str:
    """The path of a new store with sites, organizations, every type, overrides and several versions."""
    path = str(directory / "store.db")
    with local.create(path, KEY) as store, store.transaction():
        store.set_site(Site("my-site", "agency", ("help",)))
        store.set_site(Site("other-site", "agency"))
        store.set_site(Site("empty"))
        for owner in (MY_SITE, OTHER_SITE, AGENCY, STUDIO):
            put(store, owner, None, "API_KEY", SecretType.ENV)
            put(store, owner, None, "LICENSE_KEY", SecretType.ENV, READABLE)
            put(store, owner, None, "http-basic.repo.example.org", SecretType.COMPOSER)
        put(store, AGENCY, None, "INHERITED", SecretType.RUNTIME, READABLE)
        for owner in (MY_SITE, OTHER_SITE, AGENCY):
            for environment in ("dev", "live"):
                put(store, owner, environment, "API_KEY")
        put(store, MY_SITE, "dev", "LICENSE_KEY")
        put(store, MY_SITE, "dev", "INHERITED")
        put(store, MY_SITE, None, "API_KEY")
        for owner in (MY_SITE, AGENCY):
            store.bind(owner, "API_KEY", ("api.example.com", "api.example.com:8443"))
    return path


def put(
    store: Store,
    owner: Owner,
    environment: str | None,
    name: str,
    kind: SecretType | None = None,
    scopes: frozenset[Scope] | None = None,
) -> None:
    """Set a value that tells its place, with the scope `ic` unless it says otherwise."""
    if kind is not None and scopes is None:
        scopes = BUILD
    value = SecretValue(f"{CANARY} {owner}.{environment} {name}")
    store.put(Place(owner, environment, name), Write(value, type=kind, scopes=scopes, expires=1_900_000_000))


def open_for_reading(path: str) -> local.LocalStore:
    """The store, opened as a build opens it."""
    return local.open_store(path, [KEY], read_only=True)


def dump(store: Store, owners: Sequence[Owner] = OWNERS) -> tuple[list[Site], list[Holdings]]:
    """All that the store says: its sites, and what each owner holds."""
    with store.snapshot():
        return list(store.sites()), [store.read(owner) for owner in owners]


@contextlib.contextmanager
def raw(path: str) -> Iterator[sqlite3.Connection]:
    """The file as SQLite lets anyone write it; what is done is committed at the end."""
    connection = sqlite3.connect(path)
    try:
        yield connection
        connection.commit()
    finally:
        connection.close()


def cut_off_a_write(path: str) -> None:
    """Leave the file half-written and its journal beside it, as a kill does in the middle of a commit."""

    def child() -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("PRAGMA cache_spill = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE secrets SET sealed = zeroblob(20000)")
        connection.execute("UPDATE buckets SET mac = zeroblob(32)")
        os.kill(os.getpid(), signal.SIGKILL)

    before = Path(path).read_bytes()
    assert run_in_child(child) == -signal.SIGKILL
    assert os.path.getsize(path + "-journal") > 0
    assert Path(path).read_bytes() != before


@contextlib.contextmanager
def memory_directory() -> Iterator[Path]:
    """A fresh directory where fsync costs nothing, if there is one: for what is written, not how safely."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base) as name:
        yield Path(name)
