"""Where secrets are at rest: the face that every store has, and how one is opened by its URL."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import ConfigError, StoreDeniedError, StoreMissingError
from ..model.resolve import Holdings
from ..model.secret import Override, Owner, Scope, Scopes, Secret, SecretType, SecretValue, Site

if TYPE_CHECKING:
    from ..keys.sealing import MasterKey


# What begins the URLs of our own stores: no plugin takes these over.
SCHEMES = frozenset({"sqlite", "sealed", "bao+https", "bao+http", "pantheon-file", "pantheon"})
# Those of them that servers are.
SERVERS = frozenset({"bao+https", "bao+http"})


class Store(Protocol):
    """One store, opened. Every method raises a `StoreError` when the store itself fails.

    What comes out is verified: a store that finds a row changed, moved, missing or added raises
    StoreTamperedError before it returns anything of that owner. A failed read is an error and never
    an empty answer.
    """

    url: str

    def site(self, name: str) -> Site:
        """The site of that name; UnknownSiteError when the store has none."""

    def sites(self) -> Iterator[Site]:
        """All sites in the order of their names."""

    def owners(self) -> Iterator[Owner]:
        """All sites, then all organizations that hold something, each in the order of their names."""

    def set_site(self, site: Site) -> None:
        """Make the site, or give it these organizations."""

    def delete_site(self, name: str) -> int:
        """Delete the site with all that it holds; how many values (bases and overrides) went."""

    def read(
        self,
        owner: Owner,
        *,
        environment: str | None = None,
        scope: Scope | None = None,
        values: bool = True,
    ) -> Holdings:
        """What the owner holds, in the order of names (an unknown owner holds nothing).

        `environment` and `scope` narrow which values are opened, never which entries are returned
        or verified: a value outside of them, and every value with `values=False`, is None.
        """

    def put(
        self,
        owner: Owner,
        environment: str | None,
        name: str,
        value: SecretValue,
        *,
        kind: SecretType | None = None,
        scopes: Scopes | None = None,
        expires: int | None = None,
        times: tuple[int, int] | None = None,
    ) -> bool:
        """Set a base (`environment` None) or an override; whether it is new.

        `times` are those of a copy, when it was created and changed; a store that sets its own may pass over them.
        Rules 3 and 6 hold (`resolve.check_base`, `resolve.find_base`). A site that the store does not
        know is made by its first base; an override for one is a BaseMissingError.
        """

    def delete(self, owner: Owner, environment: str | None, name: str) -> int:
        """Delete one override, or (`environment` None) all that the owner holds under the name.

        How many values went; UnknownSecretError when there was none.
        """

    def transaction(self) -> AbstractContextManager[None]:
        """All writes inside are done together, or none is."""

    def snapshot(self) -> AbstractContextManager[None]:
        """All reads inside are of one moment, where the store can promise that; there are no writes inside."""

    def close(self) -> None:
        """Let go of files and connections; safe to call twice."""


class Identity(NamedTuple):
    """Which store it is, whatever its path, and how many times it has been written."""

    id: str
    generation: int


def identify(store: Store) -> Identity | None:
    """The store's `store_id` and `generation`, verified; None for a store that has no such thing."""
    store_id = getattr(store, "store_id", None)
    return None if store_id is None else Identity(store_id, store.generation)  # type: ignore[attr-defined]


class Cached(NamedTuple):
    """What a store says of its cache: `moment` is when the server gave what was read from there, in Unix time.

    `reason` says why the server could not be asked; or, where there is no moment, why its answer could not be kept.
    """

    moment: int | None
    reason: str


def find_cached(store: Store) -> Cached | None:
    """What the store has to say of its cache; None for one that has none, or whose server simply answered."""
    cached: Cached | None = getattr(store, "cached", None)
    return cached


def read_chain(
    store: Store, owner: Owner, *, environment: str | None = None, scope: Scope | None = None, values: bool = False
) -> tuple[Holdings, ...]:
    """What an owner holds, then for a site what its primary organization holds (rule 5): the `chain` of `resolve`.

    A site that the store does not know raises UnknownSiteError. A store that gives the whole chain faster than owner by
    owner has a method `read_chain`.
    """
    whole = getattr(store, "read_chain", None)
    if whole is not None:
        found: tuple[Holdings, ...] = whole(owner, environment=environment, scope=scope, values=values)
        return found
    owners = [owner]
    with store.snapshot():
        if owner.is_site:
            organization = store.site(owner.name).organization
            owners += [Owner.organization(organization)] if organization else []
        return tuple(store.read(each, environment=environment, scope=scope, values=values) for each in owners)


def read_visible_chain(store: Store, owner: Owner, environment: str, scope: Scope) -> tuple[tuple[Holdings, ...], bool]:
    """The whole chain without values, and True; where the store refuses us that, what is resolved of it, and False."""
    try:
        return read_chain(store, owner), True
    except StoreDeniedError:
        return read_chain(store, owner, environment=environment, scope=scope), False


def tells_organizations(store: Store) -> bool:
    """Whether the store knows the organizations of its sites by name, and keeps which are whose."""
    return bool(getattr(store, "tells_organizations", True))


def find_only_site(store: Store) -> str | None:
    """The one site of a store that has a place for no other owner; None for a store of many."""
    only: str | None = getattr(store, "only_site", None)
    return only


def check_place(store: Store, item: Secret | Override) -> None:
    """NoPlaceError where the store could not keep all that the item says."""
    check = getattr(store, "check_place", None)
    if check is not None:
        check(item)


def take_notices(store: Store) -> tuple[str, ...]:
    """What the store has passed over since it was asked last, for people."""
    notices: list[str] = getattr(store, "notices", [])
    taken = tuple(notices)
    notices.clear()
    return taken


class StoreRequest(NamedTuple):
    """What is asked of whoever opens a store: the `url`, and its `path`, which is what stands after the scheme.

    A store that needs master keys asks `load_keys` for them; one that is `read_only` is never written.
    """

    url: str
    path: str
    load_keys: Callable[[], "Sequence[MasterKey]"]
    read_only: bool = False


StoreOpener = Callable[[StoreRequest], Store]


def open_store(
    url: str,
    load_keys: Callable[[], "Sequence[MasterKey]"],
    *,
    read_only: bool = False,
    find_opener: Callable[[str], StoreOpener | None] | None = None,
    ask: Callable[[str], str | None] | None = None,
) -> Store:
    """The store that the URL names; a bare path is an embedded store.

    ConfigError for a kind of store that there is none of. `load_keys` is called only by a store that
    needs keys, and again by one that was rotated meanwhile, `find_opener` only for a scheme that is none of ours.
    `ask` says what other settings are, by their names; without it their variables do.
    """
    scheme, path = split_url(url)
    if scheme == "sqlite":
        from .embedded import store as local

        if not os.path.lexists(path):  # said before a missing key is: without a store it opens nothing
            raise StoreMissingError(f"there is no store at {path}")
        return local.open_store(path, load_keys(), read_only=read_only, reload=load_keys)
    if scheme == "sealed":
        from . import sealed_file as sealed

        return sealed.open_store(path, load_keys)
    if scheme in SERVERS:
        from .openbao import store as openbao

        return openbao.open_store(url, ask or openbao.read_variables(os.environ), os.environ)
    if scheme == "pantheon-file":
        from .pantheon import file as pantheon_file

        return pantheon_file.open_store(url)
    if scheme == "pantheon":
        from .openbao import store as openbao
        from .pantheon import store as pantheon

        return pantheon.open_store(url, ask or openbao.read_variables(os.environ), os.environ)
    opener = find_opener(scheme) if find_opener and scheme not in SCHEMES else None
    if opener:
        return opener(StoreRequest(url, path, load_keys, read_only))
    raise ConfigError(
        f"there is no kind of store called {scheme}:",
        hint="an embedded store is sqlite:PATH, or a path; an exported one is sealed:FILE, "
        "one on an OpenBao server bao+https://HOST:8200/MOUNT; Pantheon's secrets.json pantheon-file:PATH, "
        "and the platform itself pantheon:",
    )


def split_url(url: str) -> tuple[str, str]:
    """The scheme and the rest; a path without a scheme is `sqlite`."""
    scheme, colon, rest = url.partition(":")
    if colon and scheme.replace("+", "").replace("-", "").isalnum() and "/" not in scheme:
        return scheme.lower(), rest
    return "sqlite", url
