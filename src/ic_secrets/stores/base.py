"""The protocol of every store: what it must have, and what it may have besides."""

import abc
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NoReturn

from ..core.records import NamedTuple
from ..errors import NoPlaceError, StoreDeniedError, StoreWriteError
from ..model.resolve import Holdings
from ..model.secret import Hosts, Override, Owner, Scope, Scopes, Secret, SecretType, SecretValue, Site

if TYPE_CHECKING:
    from typing_extensions import Self


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
    may ignore them. `hosts` are those that a base is to be bound to: none unbind it, None leaves those that it has.
    """

    value: SecretValue
    type: SecretType | None = None
    scopes: Scopes | None = None
    expires: int | None = None
    times: tuple[int, int] | None = None
    hosts: Hosts | None = None


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
    # Whether the store keeps the hosts that a secret is bound to, in `put` and `bind`.
    has_hosts: bool = False
    # The id of the master key that the store is sealed with.
    master_id: str | None = None
    # What the store has to say about its cache; None where there is none, or where the server simply answered.
    cached: Cached | None = None

    def __enter__(self) -> "Self":
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
        self, owner: Owner, *, environment: str | None = None, scope: Scope | None = None, values: bool = True
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

    def bind(self, owner: Owner, name: str, hosts: Hosts) -> None:
        """Bind the owner's base to these hosts, or to none; its value, expiry and times stay.

        UnknownSecretError; NoPlaceError in a store that does not keep hosts.
        """
        self.refuse_hosts(Place(owner, None, name))

    @abc.abstractmethod
    def delete(self, place: Place) -> int:
        """Delete one override, or (`environment` None) the base with its overrides; without a base, every override.

        A site's overrides of its organization's secret are not those of its own base, and stay (rule 6). Return how
        many values went; UnknownSecretError when there was none.
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

    def check_supported(self, item: Secret | Override) -> None:
        """Raise NoPlaceError where the store could not keep all that the item says."""
        if isinstance(item, Secret) and item.hosts and not self.has_hosts:
            self.refuse_hosts(Place(item.owner, None, item.name))

    def refuse_hosts(self, place: Place) -> NoReturn:
        """Raise the NoPlaceError of a store that would forget the hosts of a secret."""
        raise NoPlaceError(f"{self.url} cannot store the hosts that {place} is bound to", hint="set it without --hosts")

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

    def bind(self, owner: Owner, name: str, hosts: Hosts) -> NoReturn:
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
