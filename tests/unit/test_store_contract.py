"""The embedded store keeps the contract of all stores, and the contract notices a store that does not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ic_secrets.errors import (
    BaseMissingError,
    IcSecretsError,
    ImmutableError,
    InvalidNameError,
    NoPlaceError,
    UndefinedSecretError,
    UnknownSecretError,
    UnknownSiteError,
)
from ic_secrets.keys.sealing import MasterKey
from ic_secrets.model.resolve import Holdings
from ic_secrets.model.secret import Owner, Scope, SecretType, SecretValue, Site
from ic_secrets.plugins.store import PluginStore
from ic_secrets.stores.base import Place, Store, Write
from ic_secrets.stores.embedded import store as local
from ic_secrets.stores.embedded.store import LocalStore
from ic_secrets.testing import StoreContract
from local_stores import memory_directory

KEY = MasterKey.generate()


class TestLocalStore(StoreContract):
    """The contract on an embedded store, where `reopen` is a second connection to its file."""

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        self.opened: list[LocalStore] = []
        with memory_directory() as directory, local.create(str(directory / "store.db"), KEY) as store:
            yield store
        for again in self.opened:
            again.close()

    def reopen(self, store: Store) -> Store:
        self.opened.append(local.open_store(store.url.removeprefix("sqlite:"), [KEY], read_only=True))
        return self.opened[-1]


class TestPluginStore(TestLocalStore):
    """The contract on a plugin's store: reporting its faults changes nothing that it does."""

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        self.opened = []
        with memory_directory() as directory, local.create(str(directory / "store.db"), KEY) as store:
            yield PluginStore(store, "mine")
        for again in self.opened:
            again.close()

    def reopen(self, store: Store) -> Store:
        return PluginStore(super().reopen(store), "mine")


def test_a_plugins_store_that_keeps_no_hosts_refuses_them() -> None:
    """Rather than forget them, though it would take the write; a value alone is written as ever."""

    class Forgetful(LocalStore):
        has_hosts = False
        bind = Store.bind

    with memory_directory() as directory:
        local.create(str(directory / "store.db"), KEY).close()
        made = local.open_store(str(directory / "store.db"), [KEY])
        made.__class__ = Forgetful
        with PluginStore(made, "mine") as store:
            place = Place(Owner("site", "my-site"), None, "KEY")
            write = Write(SecretValue("v"), SecretType.ENV, frozenset({Scope.IC}))
            for refused in (
                lambda: store.put(place, write._replace(hosts=("a.example.com",))),
                lambda: store.bind(place.owner, "KEY", ("a.example.com",)),
            ):
                with pytest.raises(NoPlaceError, match="cannot store the hosts that my-site KEY is bound to"):
                    refused()
            assert store.put(place, write._replace(hosts=()))


# --- the contract itself ----------------------------------------------------------------------------


def _read(change: Callable[[Holdings], Holdings]) -> dict[str, Any]:
    """A store whose answers are changed."""

    def read(self: LocalStore, owner: Owner, **narrow: Any) -> Holdings:
        return change(LocalStore.read(self, owner, **narrow))

    return {"read": read}


def _each(**fields: Any) -> dict[str, Any]:
    """A store that gives every entry with these fields."""

    def change(held: Holdings) -> Holdings:
        secrets = tuple(secret._replace(**fields) for secret in held.secrets)
        overrides = tuple(override._replace(**fields) for override in held.overrides)
        return held._replace(secrets=secrets, overrides=overrides)

    return _read(change)


def _without(*names: str) -> dict[str, Any]:
    """A store that does not hear how it is narrowed."""

    def read(self: LocalStore, owner: Owner, **narrow: Any) -> Holdings:
        return LocalStore.read(self, owner, **{name: value for name, value in narrow.items() if name not in names})

    return {"read": read}


def _silent(method: str, error: type[IcSecretsError], answer: Any) -> dict[str, Any]:
    """A store that gives an answer where it should refuse."""

    def call(self: LocalStore, *arguments: Any, **named: Any) -> Any:
        try:
            return getattr(LocalStore, method)(self, *arguments, **named)
        except error:
            return answer

    return {method: call}


def _answer(method: str, change: Callable[[Any], Any]) -> dict[str, Any]:
    """A store with another answer of that method."""

    def call(self: LocalStore, *arguments: Any, **named: Any) -> Any:
        return change(getattr(LocalStore, method)(self, *arguments, **named))

    return {method: call}


def _put(change: Callable[[Place, Write], tuple[Place, Write]]) -> dict[str, Any]:
    """A store that writes something else than it was given."""

    def put(self: LocalStore, place: Place, write: Write) -> bool:
        return LocalStore.put(self, *change(place, write))

    return {"put": put}


# What a store does wrong, and the test of the contract that notices.
BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "gives every value": (_without("values"), "values_are_given_only_where_asked_for"),
    "hears of no scope": (_without("scope"), "values_are_given_only_where_asked_for"),
    "hears of no environment": (_without("environment"), "values_are_given_only_where_asked_for"),
    "gives only what was asked for": (
        _read(lambda held: held._replace(secrets=tuple(s for s in held.secrets if s.value is not None))),
        "values_are_given_only_where_asked_for",
    ),
    "gives no values": (_each(value=None), "a_base_is_given_back_whole"),
    "counts no versions": (_each(version=1), "a_new_value_keeps_the_secret"),
    "has no expiry": (_each(expires=None), "a_value_expires_when_it_was_said_to"),
    "forgets hosts": (
        _read(lambda held: held._replace(secrets=tuple(secret._replace(hosts=()) for secret in held.secrets))),
        "a_secret_stays_bound_to_its_hosts",
    ),
    "knows one type": (_each(type=SecretType.ENV), "a_base_is_given_back_whole"),
    "knows one set of scopes": (_each(scopes=frozenset({Scope.IC})), "an_override_belongs_to_its_owners_base"),
    "knows one owner": (_each(owner=Owner("site", "my-site")), "a_base_is_given_back_whole"),
    "has entries backwards": (
        _read(lambda held: held._replace(secrets=held.secrets[::-1], overrides=held.overrides[::-1])),
        "entries_come_in_the_order_of_names",
    ),
    "takes a name for an identity": (
        _read(
            lambda held: held._replace(
                secrets=tuple(s._replace(id=s.name) for s in held.secrets),
                overrides=tuple(o._replace(base=o.name) for o in held.overrides),
            )
        ),
        "an_override_is_never_revived",
    ),
    "has no overrides": (_read(lambda held: held._replace(overrides=())), "one_override_goes_alone"),
    "has sites backwards": (
        _answer("sites", lambda sites: iter(sorted(sites, key=lambda s: s.name, reverse=True))),
        "sites_come_in_the_order_of_their_names",
    ),
    "forgets supporting organizations": (
        _answer("site", lambda site: site._replace(supporting=())),
        "a_site_is_given_back_as_it_was_set",
    ),
    "forgets the organization": (
        _answer("site", lambda site: site._replace(organization=None)),
        "only_the_primary_organization_reaches_a_site",
    ),
    "says that all is new": (_answer("put", lambda new: True), "a_new_value_keeps_the_secret"),
    "says that nothing is new": (_answer("put", lambda new: False), "a_base_is_given_back_whole"),
    "miscounts what it deletes": (_answer("delete", lambda count: 1), "a_base_takes_its_overrides_along"),
    "miscounts what a site held": (
        _answer("delete_site", lambda count: 1),
        "a_deleted_site_takes_all_that_it_holds_along",
    ),
    "has every site": (_silent("site", UnknownSiteError, Site("my-site")), "an_unknown_site_is_an_error"),
    "deletes any site": (_silent("delete_site", UnknownSiteError, 0), "an_unknown_site_is_an_error"),
    "deletes anything": (_silent("delete", UnknownSecretError, 0), "what_is_not_there_cannot_be_deleted"),
    "drops overrides without a base": (
        _silent("put", BaseMissingError, False),
        "an_override_without_a_base_is_refused",
    ),
    "drops changed types": (_silent("put", ImmutableError, False), "type_and_scopes_never_change"),
    "drops undefined secrets": (_silent("put", UndefinedSecretError, False), "the_first_set_says_type_and_scopes"),
    "drops bad names": (_silent("put", InvalidNameError, False), "a_name_follows_the_grammar_of_its_type"),
    "strips values": (
        _put(lambda place, write: (place, write._replace(value=SecretValue(write.value.reveal().strip())))),
        "a_value_is_given_back_to_the_byte",
    ),
    "cuts at NUL": (
        _put(lambda place, write: (place, write._replace(value=SecretValue(write.value.reveal().partition("\0")[0])))),
        "a_value_is_given_back_to_the_byte",
    ),
    "keeps what a failed transaction wrote": (
        {"transaction": lambda self: contextlib.nullcontext()},
        "a_transaction_that_fails_leaves_nothing",
    ),
    "cannot be closed twice": (
        {"close": lambda self: (self.generation, LocalStore.close(self))},
        "closing_twice_is_safe",
    ),
    "writes nothing": (
        _put(lambda place, write: (place._replace(name="ANOTHER"), write)),
        "a_base_is_given_back_whole",
    ),
}


@pytest.mark.parametrize("promise", BROKEN, ids=lambda name: name.replace(" ", "-"))
def test_the_contract_notices_a_broken_promise(promise: str) -> None:
    """A store that is right but for one thing passes all but the tests of that thing."""
    members, noticed_by = BROKEN[promise]
    test = getattr(StoreContract(), f"test_{noticed_by}")
    with memory_directory() as directory, local.create(str(directory / "store.db"), KEY) as store:
        store.__class__ = type("Broken", (LocalStore,), members)
        try:
            with pytest.raises((AssertionError, AttributeError, ValueError, IcSecretsError)):
                test(store)
        finally:
            store.__class__ = LocalStore
