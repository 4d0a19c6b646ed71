"""Where secrets are at rest: the face that every store has, and how one is opened by its URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from ..resolve import Holdings
from ..secret import Owner, Scope, Scopes, SecretType, SecretValue, Site, Target


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
    ) -> bool:
        """Set a base (`environment` None) or an override; whether it is new.

        Rules 3 and 6 hold (`resolve.check_base`, `resolve.find_base`). A site that the store does not
        know is made by its first base; an override for one is a BaseMissingError.
        """

    def delete(self, owner: Owner, environment: str | None, name: str) -> int:
        """Delete one override, or (`environment` None) all that the owner holds under the name.

        How many values went; UnknownSecretError when there was none.
        """

    def transaction(self) -> AbstractContextManager[None]:
        """All writes inside are done together, or none is."""

    def close(self) -> None:
        """Let go of files and connections; safe to call twice."""


def read_chain(
    store: Store, target: Target, *, scope: Scope | None = None, values: bool = True
) -> tuple[Site, tuple[Holdings, ...]]:
    """The site, and what it and its primary organization hold: the `chain` of `resolve` (rule 5)."""
    site = store.site(target.site)
    owners = [Owner.site(site.name)]
    if site.organization:
        owners.append(Owner.organization(site.organization))
    return site, tuple(
        store.read(owner, environment=target.environment, scope=scope, values=values) for owner in owners
    )
