"""Where secrets are at rest: the face that every store has, and how one is opened by its URL."""

from __future__ import annotations

import abc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from ..errors import ConfigError, StoreDeniedError, StoreMissingError, StoreWriteError
from ..model.resolve import Holdings
from ..model.secret import Override, Owner, Scope, Scopes, Secret, SecretType, SecretValue, Site

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..keys.sealing import MasterKey


# What begins the URLs of our own stores: no plugin takes these over.
SCHEMES = frozenset({"sqlite", "sealed", "bao+https", "bao+http", "pantheon-file", "pantheon"})
# Those of them that servers are.
SERVERS = frozenset({"bao+https", "bao+http"})


class Identity(NamedTuple):
    """Which store it is, whatever its path, and how many times it has been written."""

    id: str
    generation: int


class Cached(NamedTuple):
    """What a store says about its cache: `moment` is when the server gave what was read from there, in Unix time.

    `reason` says why the server could not be asked; or, where there is no moment, why its answer could not be kept.
    """

    moment: int | None
    reason: str


class Place(NamedTuple):
    """Where a value is kept: a base (`environment` None) or an override, by its owner and name."""

    owner: Owner
    environment: str | None
    name: str

    def __str__(self) -> str:
        where = f"{self.owner}.{self.environment}" if self.environment else str(self.owner)
        return f"{where} {self.name}"


class Write(NamedTuple):
    """What `Store.put` writes. Type and scopes may be left out where they are known already.

    `expires` is in Unix time. `times` are those of a copy, when it was created and changed; a store that sets its own
    may ignore them.
    """

    value: SecretValue
    type: SecretType | None = None
    scopes: Scopes | None = None
    expires: int | None = None
    times: tuple[int, int] | None = None


class Store(abc.ABC):
    """One store, opened; a context manager that closes it. Every method raises a `StoreError` when the store fails.

    What comes out is verified: a store that finds a row changed, moved, missing or added raises
    StoreTamperedError before it returns anything of that owner. A failed read is an error and never
    an empty answer.

    What is abstract every store has; the rest are capabilities, whose defaults are those of a store without them.
    """

    url: str
    # The one site of a store that has a place for no other owner.
    only_site: str | None = None
    # Whether the store knows the organizations of its sites by name, and keeps which are whose.
    has_organizations: bool = True
    # The id of the master key that the store is sealed with.
    master_id: str | None = None
    # What the store has to say about its cache; None where there is none, or where the server simply answered.
    cached: Cached | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abc.abstractmethod
    def site(self, name: str) -> Site:
        """Return the site of that name; UnknownSiteError when the store has none."""

    @abc.abstractmethod
    def sites(self) -> Iterator[Site]:
        """Return all sites in the order of their names."""

    @abc.abstractmethod
    def owners(self) -> Iterator[Owner]:
        """Return all sites, then all organizations that hold something, each in the order of their names."""

    @abc.abstractmethod
    def set_site(self, site: Site) -> None:
        """Make the site, or give it these organizations."""

    @abc.abstractmethod
    def delete_site(self, name: str) -> int:
        """Delete the site with all that it holds, and return how many values (bases and overrides) went."""

    @abc.abstractmethod
    def read(
        self,
        owner: Owner,
        *,
        environment: str | None = None,
        scope: Scope | None = None,
        values: bool = True,
    ) -> Holdings:
        """Return what the owner holds, in the order of names (an unknown owner holds nothing).

        `environment` and `scope` narrow which values are opened, never which entries are returned
        or verified: a value outside of them, and every value with `values=False`, is None.
        """

    def read_chain(
        self, owner: Owner, *, environment: str | None = None, scope: Scope | None = None, values: bool = False
    ) -> tuple[Holdings, ...]:
        """Return what an owner holds, then for a site what its primary organization holds (rule 5).

        This is the `chain` of `resolve`. A site that the store does not know raises UnknownSiteError. Override it
        where the whole chain is read faster than owner by owner.
        """
        owners = [owner]
        with self.snapshot():
            if owner.is_site:
                organization = self.site(owner.name).organization
                owners += [Owner.organization(organization)] if organization else []
            return tuple(self.read(each, environment=environment, scope=scope, values=values) for each in owners)

    @abc.abstractmethod
    def put(self, place: Place, write: Write) -> bool:
        """Set a base or an override, and return whether it is new.

        Rules 3 and 6 hold (`resolve.check_base`, `resolve.find_base`). A site that the store does not
        know is made by its first base; an override for one is a BaseMissingError.
        """

    @abc.abstractmethod
    def delete(self, place: Place) -> int:
        """Delete one override, or (`environment` None) all that the owner holds under the name.

        Return how many values went; UnknownSecretError when there was none.
        """

    @abc.abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """Do all writes inside together, or none of them."""

    @abc.abstractmethod
    def snapshot(self) -> AbstractContextManager[None]:
        """Make all reads inside be of one moment, where the store can promise that; nothing is written inside."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of files and connections; safe to call twice."""

    def identify(self) -> Identity | None:
        """Return the store's id and generation, verified; None for a store without them."""
        return None

    def check_supported(self, item: Secret | Override) -> None:  # noqa: B027 - most stores keep everything
        """Raise NoPlaceError where the store could not keep all that the item says."""

    def take_notices(self) -> tuple[str, ...]:
        """Return, once, what the store has left out since it was last asked: sentences for people."""
        return ()


class ReadOnlyStore(Store):
    """A store that is only read: whatever would change it is a StoreWriteError."""

    # What to do instead of writing.
    write_hint = ""

    def set_site(self, site: Site) -> NoReturn:
        self._refuse()

    def delete_site(self, name: str) -> NoReturn:
        self._refuse()

    def put(self, place: Place, write: Write) -> NoReturn:
        self._refuse()

    def delete(self, place: Place) -> NoReturn:
        self._refuse()

    def transaction(self) -> AbstractContextManager[None]:
        """As every store; there is nothing to write in it."""
        return nullcontext()

    def snapshot(self) -> AbstractContextManager[None]:
        """As every store; override it where what is read can change meanwhile."""
        return nullcontext()

    def close(self) -> None:
        """As every store; override it where something is held."""

    def _refuse(self) -> NoReturn:
        raise StoreWriteError(f"{self.url} is read-only", hint=self.write_hint)


def read_visible_chain(store: Store, owner: Owner, environment: str, scope: Scope) -> tuple[tuple[Holdings, ...], bool]:
    """Return the whole chain without values, and True; where the store denies us that, what is resolved, and False."""
    try:
        return store.read_chain(owner), True
    except StoreDeniedError:
        return store.read_chain(owner, environment=environment, scope=scope), False


class StoreRequest(NamedTuple):
    """What is asked of whoever opens a store: the `url`, and its `path`, which is what stands after the scheme.

    A store that needs master keys asks `load_keys` for them; one that is `read_only` is never written.
    """

    url: str
    path: str
    load_keys: Callable[[], Sequence[MasterKey]]
    read_only: bool = False


StoreOpener = Callable[[StoreRequest], Store]


def open_store(
    url: str,
    load_keys: Callable[[], Sequence[MasterKey]],
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
