"""What the contracts share: owners, short ways to write and to read, and the features that a format may lack."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from ..model.secret import (
    Override,
    Owner,
    Scope,
    Scopes,
    Secret,
    SecretType,
    SecretValue,
)
from ..stores.base import Place, Store, Write

SITE = Owner("site", "my-site")
ORGANIZATION = Owner("organization", "agency")
BUILD = frozenset({Scope.IC})
ALL = frozenset(Scope)


def set_base(
    store: Store,
    owner: Owner,
    name: str,
    text: str,
    kind: SecretType = SecretType.ENV,
    scopes: Scopes = BUILD,
) -> bool:
    """Set a base with that type and those scopes; whether it is new."""
    return store.put(Place(owner, None, name), Write(SecretValue(text), type=kind, scopes=scopes))


def get_base(store: Store, owner: Owner, name: str) -> Secret:
    """Return the owner's base of that name, with its value; AssertionError when it has none."""
    for secret in store.read(owner).secrets:
        if secret.name == name:
            return secret
    raise AssertionError(f"{owner} has no base {name}")


def get_override(store: Store, owner: Owner, environment: str, name: str) -> Override:
    """Return the owner's override of that name for the environment, with its value; AssertionError when it has none."""
    for override in store.read(owner).overrides:
        if (override.environment, override.name) == (environment, name):
            return override
    raise AssertionError(f"{owner}.{environment} has no override {name}")


@contextlib.contextmanager
def refused(error: type[BaseException]) -> Iterator[None]:
    """Assert that the block raises that error."""
    try:
        yield
    except error:
        return
    raise AssertionError(f"this should have been refused with {error.__name__}")


_Test = TypeVar("_Test", bound=Callable[..., None])
# What a store's format may have no place for, and what that means.
FEATURES = {
    "owners": "more than one site, organizations that are not the site's, or a site beside nothing",
    "organizations": "an organization that is written, and whose name is kept",
    "supporting": "organizations that only support a site",
    "types": "a site's and its organization's secret of one name with different types or scopes",
    "expiry": "when a value expires",
    "versions": "how many values a secret has had, and when it was made",
    "values": "values that people may not read back",
    "hosts": "the hosts that a secret is bound to",
    "identity": "which secret of a name it is, so that an override is not of a later one",
}


def needs(*features: str) -> Callable[[_Test], _Test]:
    """Mark a test of the contract that is about one of the `FEATURES`."""
    assert set(features) <= set(FEATURES)

    def mark(test: _Test) -> _Test:
        NEEDS[test.__name__] = frozenset(features)
        return test

    return mark


NEEDS: dict[str, frozenset[str]] = {}
