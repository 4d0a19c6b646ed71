"""The contracts that every store and every renderer keeps, as tests: for authors of ours and of plugins alike.

    from ic_secrets.testing import StoreContract

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self, tmp_path):
            with open_my_store(tmp_path) as store:
                yield store

pytest finds the tests by inheritance. Each needs a store that is open for writing and empty. A store that can
only be read keeps `ReadingContract`: its `reopen` brings what another store holds into it. A format that has no place
for something that a store may keep says so in `lacks`, and the tests that are about that are no tests of it.
`RendererContract` is for what renders secrets.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, TypeVar

from .build.render import RenderContext, Rendered, render_others
from .build.secrets import BuildSecret, BuildSecrets
from .errors import (
    BaseMissingError,
    ImmutableError,
    InvalidNameError,
    UndefinedSecretError,
    UnknownSecretError,
    UnknownSiteError,
)
from .model.resolve import inert_overrides
from .model.secret import (
    MAX_VALUE_BYTES,
    Override,
    Owner,
    Scope,
    Scopes,
    Secret,
    SecretType,
    SecretValue,
    Site,
    Target,
)
from .stores.base import Place, Store, Write

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
    """The owner's base of that name, with its value; AssertionError when it has none."""
    for secret in store.read(owner).secrets:
        if secret.name == name:
            return secret
    raise AssertionError(f"{owner} has no base {name}")


def get_override(store: Store, owner: Owner, environment: str, name: str) -> Override:
    """The owner's override of that name for the environment, with its value; AssertionError when it has none."""
    for override in store.read(owner).overrides:
        if (override.environment, override.name) == (environment, name):
            return override
    raise AssertionError(f"{owner}.{environment} has no override {name}")


@contextlib.contextmanager
def refused(error: type[BaseException]) -> Iterator[None]:
    """What is inside raises that error; AssertionError when it does not."""
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
    "identity": "which secret of a name it is, so that an override is not of a later one",
}


def needs(*features: str) -> Callable[[_Test], _Test]:
    """Mark a test of the contract that is about one of the `FEATURES`."""
    assert set(features) <= set(FEATURES)

    def mark(test: _Test) -> _Test:
        _NEEDS[test.__name__] = frozenset(features)
        return test

    return mark


_NEEDS: dict[str, frozenset[str]] = {}


class ReadingContract:
    """What any store promises of reading, also one that cannot be written.

    Subclass it with a fixture `store`, any store that is open for writing and empty, and with `reopen`. `lacks` names
    those of the `FEATURES` that the store's format has no place for.
    """

    lacks: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        assert cls.lacks <= set(FEATURES)
        for name, features in _NEEDS.items():
            if features & cls.lacks:
                setattr(cls, name, None)  # so pytest finds no test there

    def reopen(self, store: Store) -> Store:
        """The store under test as another process would find it now, with all that `store` holds.

        Override it if yours can be opened again; earlier answers are still read from after a later one.
        """
        return store

    @needs("owners")
    def test_a_new_store_is_empty(self, store: Store) -> None:
        """It has no sites, and an owner that it does not know holds nothing."""
        assert list(self.reopen(store).sites()) == []
        for owner in (SITE, ORGANIZATION):
            holdings = self.reopen(store).read(owner)
            assert (holdings.owner, holdings.secrets, holdings.overrides) == (owner, (), ())

    @needs("owners")
    def test_an_unknown_site_is_an_error(self, store: Store) -> None:
        """A typing mistake is not an empty site; a site that an organization is called like neither."""
        store.set_site(Site("my-site-2"))
        set_base(store, Owner("organization", "my-site"), "KEY", "v")
        with refused(UnknownSiteError):
            self.reopen(store).site("my-site")
        with refused(UnknownSiteError):
            store.delete_site("my-site")
        with refused(UnknownSiteError):
            self.reopen(store).read_chain(SITE)

    @needs("owners", "supporting")
    def test_a_site_is_given_back_as_it_was_set(self, store: Store) -> None:
        """With its primary and its supporting organizations, in their order, or without any."""
        for site in (Site("a"), Site("b", "agency"), Site("c", None, ("z", "y")), Site("d", "agency", ("help",))):
            store.set_site(site)
            assert self.reopen(store).site(site.name) == site

    @needs("owners")
    def test_sites_come_in_the_order_of_their_names(self, store: Store) -> None:
        """All of them, each with its organizations; organizations themselves are no sites."""
        sites = [Site("a"), Site("a-b", "agency"), Site("b", None, ("help",)), Site("c")]
        for site in (sites[2], sites[0], sites[3], sites[1]):
            store.set_site(site)
        set_base(store, ORGANIZATION, "KEY", "v")
        assert list(self.reopen(store).sites()) == sites

    @needs("owners")
    def test_owners_are_all_sites_and_the_organizations_that_hold_something(self, store: Store) -> None:
        """An organization that was only named by a site, or lost its last secret, is none of them."""
        store.set_site(Site("beta", "named"))
        store.set_site(Site("alpha", None, ("helper",)))
        for name in ("studio", "agency", "emptied"):
            set_base(store, Owner("organization", name), "KEY", "value")
        store.delete(Place(Owner("organization", "emptied"), None, "KEY"))
        organizations = [Owner("organization", name) for name in ("agency", "studio")]
        assert list(self.reopen(store).owners()) == [Owner("site", "alpha"), Owner("site", "beta"), *organizations]

    @needs("owners")
    def test_a_base_is_given_back_whole(self, store: Store) -> None:
        """Name, type, scopes, value, version 1, and an identity; for each type and each set of scopes."""
        cases = [
            (SecretType.ENV, "API_KEY", BUILD),
            (SecretType.RUNTIME, "a.b-c_D", ALL),
            (SecretType.COMPOSER, "http-basic.repo.example.org:8443", frozenset({Scope.IC, Scope.USER})),
            (SecretType.ENV, "OTHER", frozenset({Scope.WEB})),
        ]
        for owner in (SITE, ORGANIZATION):
            for kind, name, scopes in cases:
                assert set_base(store, owner, name, f"value of {name}", kind, scopes)
            for kind, name, scopes in cases:
                secret = get_base(self.reopen(store), owner, name)
                assert (secret.owner, secret.name, secret.type, secret.scopes) == (owner, name, kind, scopes)
                assert secret.value == SecretValue(f"value of {name}")
                assert (secret.version, secret.expires) == (1, None)
                assert secret.id

    @needs("values")
    def test_a_value_is_given_back_to_the_byte(self, store: Store) -> None:
        """Empty, with newlines, quotes, NUL and every script, up to 16,384 bytes (rule 4)."""
        texts = ["", " ", "\n", "a\r\nb\n", "p@ss/%+\"\\ '`$", "\0", "ключ 鍵 🔑", "é" * (MAX_VALUE_BYTES // 2)]
        for number, text in enumerate(texts):
            set_base(store, SITE, f"KEY_{number}", text)
        again = self.reopen(store)
        for number, text in enumerate(texts):
            secret = get_base(again, SITE, f"KEY_{number}")
            assert secret.value is not None
            assert secret.value.reveal() == text

    @needs("expiry")
    def test_a_value_expires_when_it_was_said_to(self, store: Store) -> None:
        """A later value has its own date, or none."""
        store.put(
            Place(SITE, None, "KEY"),
            Write(SecretValue("one"), type=SecretType.ENV, scopes=BUILD, expires=1_900_000_000),
        )
        store.put(Place(SITE, "dev", "KEY"), Write(SecretValue("one"), expires=1_800_000_000))
        secret, override = (
            get_base(self.reopen(store), SITE, "KEY"),
            get_override(self.reopen(store), SITE, "dev", "KEY"),
        )
        assert (secret.expires, override.expires) == (1_900_000_000, 1_800_000_000)
        store.put(Place(SITE, None, "KEY"), Write(SecretValue("two")))
        secret = get_base(self.reopen(store), SITE, "KEY")
        assert secret.expires is None

    @needs("owners")
    def test_owners_are_apart(self, store: Store) -> None:
        """A site and an organization of one name, and names that begin alike, share nothing."""
        owners = [Owner("site", "a"), Owner("site", "a-b"), Owner("organization", "a"), Owner("organization", "a-b")]
        for owner in owners:
            set_base(store, owner, "KEY", f"of {owner}")
        for owner in owners:
            secret = get_base(self.reopen(store), owner, "KEY")
            assert secret.value == SecretValue(f"of {owner}")
        store.delete(Place(owners[0], None, "KEY"))
        assert [len(self.reopen(store).read(owner).secrets) for owner in owners] == [0, 1, 1, 1]

    @needs("owners", "versions")
    def test_an_override_belongs_to_its_owners_base(self, store: Store) -> None:
        """Rule 6: type and scopes come from it; the base keeps its value; each environment has its own."""
        for owner in (SITE, ORGANIZATION):
            set_base(store, owner, "KEY", "base", SecretType.ENV, ALL)
            assert store.put(Place(owner, "dev", "KEY"), Write(SecretValue("one")))
            assert store.put(Place(owner, "live", "KEY"), Write(SecretValue("two"), type=SecretType.ENV, scopes=ALL))
            assert not store.put(Place(owner, "dev", "KEY"), Write(SecretValue("three")))
            secret = get_base(self.reopen(store), owner, "KEY")
            dev = get_override(self.reopen(store), owner, "dev", "KEY")
            live = get_override(self.reopen(store), owner, "live", "KEY")
            assert (dev.owner, dev.base, dev.type, dev.scopes) == (owner, secret.id, SecretType.ENV, ALL)
            assert (dev.value, dev.version) == (SecretValue("three"), 2)
            assert (live.value, live.version) == (SecretValue("two"), 1)
            assert (secret.value, secret.version) == (SecretValue("base"), 1)

    @needs("organizations", "types")
    def test_a_site_overrides_what_it_inherits(self, store: Store) -> None:
        """Rule 6: the base may be that of the primary organization; the site's own goes first."""
        store.set_site(Site("my-site", "agency"))
        set_base(store, ORGANIZATION, "KEY", "org", SecretType.RUNTIME, ALL)
        store.put(Place(SITE, "dev", "KEY"), Write(SecretValue("v")))
        inherited = get_base(self.reopen(store), ORGANIZATION, "KEY")
        override = get_override(self.reopen(store), SITE, "dev", "KEY")
        assert (override.base, override.type, override.scopes) == (inherited.id, SecretType.RUNTIME, ALL)
        assert self.reopen(store).read(SITE).secrets == ()

        set_base(store, SITE, "OWN", "site", SecretType.ENV, BUILD)
        set_base(store, ORGANIZATION, "OWN", "org", SecretType.RUNTIME, ALL)
        store.put(Place(SITE, "dev", "OWN"), Write(SecretValue("v")))
        own, override = get_base(self.reopen(store), SITE, "OWN"), get_override(self.reopen(store), SITE, "dev", "OWN")
        assert (override.base, override.type) == (own.id, SecretType.ENV)

    @needs("identity")
    def test_an_override_is_never_revived(self, store: Store) -> None:
        """Rule 6: it is inert once its base is gone, also beside a new one, until it is set again."""
        store.set_site(Site("my-site", "agency"))
        set_base(store, ORGANIZATION, "KEY", "one", SecretType.ENV, BUILD)
        first = get_base(self.reopen(store), ORGANIZATION, "KEY")
        store.put(Place(SITE, "dev", "KEY"), Write(SecretValue("v")))
        store.delete(Place(ORGANIZATION, None, "KEY"))
        assert [o.environment for o in inert_overrides(self.reopen(store).read_chain(SITE))] == ["dev"]
        set_base(store, ORGANIZATION, "KEY", "two", SecretType.RUNTIME, ALL)
        second = get_base(self.reopen(store), ORGANIZATION, "KEY")
        assert second.id != first.id
        assert second.version == 1
        assert [o.environment for o in inert_overrides(self.reopen(store).read_chain(SITE))] == ["dev"]
        store.put(Place(SITE, "dev", "KEY"), Write(SecretValue("w")))
        override = get_override(self.reopen(store), SITE, "dev", "KEY")
        assert (override.base, override.type, override.scopes) == (second.id, SecretType.RUNTIME, ALL)
        assert inert_overrides(self.reopen(store).read_chain(SITE)) == ()

    def test_entries_come_in_the_order_of_names(self, store: Store) -> None:
        """Whatever the order in which they were set."""
        for name in ("B", "_", "a", "A", "C"):
            set_base(store, SITE, name, "v")
            store.put(Place(SITE, "dev", name), Write(SecretValue("w")))
        holdings = self.reopen(store).read(SITE)
        assert [secret.name for secret in holdings.secrets] == ["A", "B", "C", "_", "a"]
        assert [override.name for override in holdings.overrides] == ["A", "B", "C", "_", "a"]

    @needs("values")
    def test_values_are_given_only_where_asked_for(self, store: Store) -> None:
        """Scope and environment narrow which values are given, never which entries."""
        set_base(store, SITE, "BUILD", "v", SecretType.ENV, BUILD)
        set_base(store, SITE, "USER", "v", SecretType.ENV, frozenset({Scope.USER, Scope.WEB}))
        for name in ("BUILD", "USER"):
            for override in ("dev", "live"):
                store.put(Place(SITE, override, name), Write(SecretValue("w")))
        everything = {(n, e) for n in ("BUILD", "USER") for e in ("", "dev", "live")}
        cases: list[tuple[str | None, Scope | None, bool, set[tuple[str, str]]]] = [
            (None, None, True, everything),
            (None, None, False, set()),
            ("dev", Scope.IC, False, set()),
            (None, Scope.IC, True, {("BUILD", ""), ("BUILD", "dev"), ("BUILD", "live")}),
            ("dev", None, True, {(n, e) for n, e in everything if e != "live"}),
            ("dev", Scope.USER, True, {("USER", ""), ("USER", "dev")}),
            ("other", Scope.WEB, True, {("USER", "")}),
        ]
        for environment, scope, values, expected in cases:
            found = self.reopen(store).read(SITE, environment=environment, scope=scope, values=values)
            entries = [(s.name, "", s.value) for s in found.secrets]
            entries += [(o.name, o.environment, o.value) for o in found.overrides]
            assert {(name, where) for name, where, _ in entries} == everything
            assert {(name, where) for name, where, value in entries if value is not None} == expected

    @needs("organizations")
    def test_only_the_primary_organization_reaches_a_site(self, store: Store) -> None:
        """Rule 5, as the chain that a resolution gets."""
        store.set_site(Site("my-site", "agency", ("help",)))
        for name in ("agency", "help", "my-site"):
            set_base(store, Owner("organization", name), "KEY", f"of {name}")
        site, organization = self.reopen(store).read_chain(SITE, values=True)
        assert (site.owner, site.secrets) == (SITE, ())
        assert [secret.value for secret in organization.secrets] == [SecretValue("of agency")]

    @needs("values")
    def test_a_snapshot_reads_the_same(self, store: Store) -> None:
        """What is read within one is what would be read without."""
        set_base(store, SITE, "KEY", "v")
        again = self.reopen(store)
        with again.snapshot():
            assert again.site("my-site") == Site("my-site")
            assert get_base(again, SITE, "KEY").value == SecretValue("v")
        set_base(store, SITE, "KEY_2", "v")
        assert len(self.reopen(store).read(SITE).secrets) == 2

    def test_closing_twice_is_safe(self, store: Store) -> None:
        """As a context manager after an explicit close does it."""
        for each in (self.reopen(store), store):
            each.close()
            each.close()


class StoreContract(ReadingContract):
    """What any store promises. Subclass it with a fixture `store`: open for writing, and empty."""

    # --- sites and organizations ----------------------------------------------------------------

    @needs("organizations")
    def test_a_site_can_change_its_organization(self, store: Store) -> None:
        """It keeps what it holds, and inherits from the new one alone."""
        store.set_site(Site("my-site", "agency", ("help",)))
        set_base(store, SITE, "KEY", "v")
        store.set_site(Site("my-site", "studio"))
        assert store.site("my-site") == Site("my-site", "studio")
        assert [holdings.owner.name for holdings in store.read_chain(SITE)] == ["my-site", "studio"]
        assert get_base(store, SITE, "KEY").value == SecretValue("v")

    @needs("owners")
    def test_the_first_base_makes_its_site(self, store: Store) -> None:
        """A site without organizations; one that is there keeps its own."""
        set_base(store, SITE, "KEY", "v")
        assert store.site("my-site") == Site("my-site")
        store.set_site(Site("other", "agency"))
        set_base(store, Owner("site", "other"), "KEY", "v")
        assert store.site("other") == Site("other", "agency")

    @needs("owners")
    def test_a_deleted_site_takes_all_that_it_holds_along(self, store: Store) -> None:
        """Bases and overrides are counted; what others hold stays; the site can be made anew, empty."""
        store.set_site(Site("my-site", "agency"))
        for owner in (SITE, ORGANIZATION, Owner("site", "my-site-2"), Owner("organization", "my-site")):
            set_base(store, owner, "KEY", "v")
            store.put(Place(owner, "dev", "KEY"), Write(SecretValue("w")))
        assert store.delete_site("my-site") == 2
        with refused(UnknownSiteError):
            self.reopen(store).site("my-site")
        assert store.read(SITE).secrets == ()
        for owner in (ORGANIZATION, Owner("site", "my-site-2"), Owner("organization", "my-site")):
            assert len(store.read(owner).secrets) == len(store.read(owner).overrides) == 1
        store.set_site(Site("my-site"))
        assert store.read(SITE).overrides == ()
        assert store.delete_site("my-site") == 0

    @needs("organizations")
    def test_a_site_outlives_its_last_secret(self, store: Store) -> None:
        """And an organization is there as long as somebody names it."""
        store.set_site(Site("my-site", "agency"))
        for owner in (SITE, ORGANIZATION):
            set_base(store, owner, "KEY", "v")
            store.delete(Place(owner, None, "KEY"))
        assert store.site("my-site") == Site("my-site", "agency")
        assert [holdings.secrets for holdings in store.read_chain(SITE)] == [(), ()]

    # --- bases ----------------------------------------------------------------------------------

    @needs("versions")
    def test_a_new_value_keeps_the_secret(self, store: Store) -> None:
        """Its identity, type, scopes and date of birth stay; the version counts its values."""
        assert set_base(store, SITE, "KEY", "one")
        first = get_base(store, SITE, "KEY")
        assert not store.put(Place(SITE, None, "KEY"), Write(SecretValue("two")))
        assert not set_base(store, SITE, "KEY", "three")
        third = get_base(self.reopen(store), SITE, "KEY")
        assert (third.version, third.value) == (3, SecretValue("three"))
        assert (third.id, third.type, third.scopes, third.created) == (
            first.id,
            first.type,
            first.scopes,
            first.created,
        )
        assert third.changed >= first.changed

    @needs("owners")
    def test_the_first_set_says_type_and_scopes(self, store: Store) -> None:
        """Without them nothing is written, and no site made."""
        for kind, scopes in ((None, None), (SecretType.ENV, None), (None, BUILD)):
            with refused(UndefinedSecretError):
                store.put(Place(SITE, None, "KEY"), Write(SecretValue("v"), type=kind, scopes=scopes))
        assert list(store.sites()) == []

    @needs("organizations")
    def test_type_and_scopes_never_change(self, store: Store) -> None:
        """Rule 3: another type, more scopes or fewer are refused, and the value stays."""
        for owner in (SITE, ORGANIZATION):
            set_base(store, owner, "KEY", "v", SecretType.ENV, frozenset({Scope.IC, Scope.USER}))
            for kind, scopes in ((SecretType.RUNTIME, None), (None, BUILD), (None, ALL)):
                with refused(ImmutableError):
                    store.put(Place(owner, None, "KEY"), Write(SecretValue("w"), type=kind, scopes=scopes))
            secret = get_base(store, owner, "KEY")
            assert (secret.value, secret.version) == (SecretValue("v"), 1)

    def test_a_name_follows_the_grammar_of_its_type(self, store: Store) -> None:
        """Rule 10: what the type cannot be called is refused."""
        for kind, name in (
            (SecretType.ENV, "1KEY"),
            (SecretType.ENV, "A-B"),
            (SecretType.RUNTIME, "a b"),
            (SecretType.COMPOSER, "API_KEY"),
            (SecretType.COMPOSER, "http-basic.https://a.org"),
        ):
            with refused(InvalidNameError):
                set_base(store, SITE, name, "v", kind)

    # --- overrides ------------------------------------------------------------------------------

    @needs("owners")
    def test_an_override_without_a_base_is_refused(self, store: Store) -> None:
        """Rule 6: neither another name's, another site's nor a supporting organization's base will do."""
        store.set_site(Site("my-site", "agency", ("help",)))
        for owner, name in (
            (SITE, "OTHER"),
            (Owner("site", "my-site-2"), "KEY"),
            (Owner("organization", "help"), "KEY"),
            (Owner("organization", "my-site"), "KEY"),
        ):
            set_base(store, owner, name, "v")
        for owner in (SITE, ORGANIZATION, Owner("site", "unknown")):
            with refused(BaseMissingError):
                store.put(Place(owner, "dev", "KEY"), Write(SecretValue("v"), type=SecretType.ENV, scopes=BUILD))
        assert [site.name for site in store.sites()] == ["my-site", "my-site-2"]

    def test_an_override_has_no_type_or_scopes_of_its_own(self, store: Store) -> None:
        """Rule 6: naming others than the base's is refused."""
        set_base(store, SITE, "KEY", "v")
        for kind, scopes in ((SecretType.RUNTIME, None), (None, ALL)):
            with refused(ImmutableError):
                store.put(Place(SITE, "dev", "KEY"), Write(SecretValue("w"), type=kind, scopes=scopes))
        assert store.read(SITE).overrides == ()

    @needs("organizations")
    def test_a_base_beside_an_override_is_like_it(self, store: Store) -> None:
        """Rule 6: a site base made later has the type and scopes that a live override already has."""
        store.set_site(Site("my-site", "agency"))
        set_base(store, ORGANIZATION, "KEY", "org", SecretType.RUNTIME, ALL)
        store.put(Place(SITE, "dev", "KEY"), Write(SecretValue("v")))
        for kind, scopes in ((SecretType.ENV, ALL), (SecretType.RUNTIME, BUILD)):
            with refused(ImmutableError):
                set_base(store, SITE, "KEY", "site", kind, scopes)
        assert set_base(store, SITE, "KEY", "site", SecretType.RUNTIME, ALL)
        store.delete(Place(ORGANIZATION, None, "KEY"))
        store.delete(Place(SITE, None, "KEY"))
        assert set_base(store, SITE, "KEY", "site", SecretType.ENV, BUILD)

    # --- delete ---------------------------------------------------------------------------------

    @needs("organizations")
    def test_a_base_takes_its_overrides_along(self, store: Store) -> None:
        """All that the owner holds under the name, and nothing else; each value is counted."""
        for owner in (SITE, ORGANIZATION):
            for name in ("KEY", "KEY_2"):
                set_base(store, owner, name, "v")
                store.put(Place(owner, "dev", name), Write(SecretValue("w")))
            store.put(Place(owner, "live", "KEY"), Write(SecretValue("w")))
        assert store.delete(Place(SITE, None, "KEY")) == 3
        again = self.reopen(store)
        assert [secret.name for secret in again.read(SITE).secrets] == ["KEY_2"]
        assert [override.name for override in again.read(SITE).overrides] == ["KEY_2"]
        assert len(again.read(ORGANIZATION).overrides) == 3

    @needs("organizations")
    def test_overrides_alone_go_by_their_name_too(self, store: Store) -> None:
        """Where the base is the organization's, it stays."""
        store.set_site(Site("my-site", "agency"))
        set_base(store, ORGANIZATION, "KEY", "v")
        for environment in ("dev", "live"):
            store.put(Place(SITE, environment, "KEY"), Write(SecretValue("w")))
        assert store.delete(Place(SITE, None, "KEY")) == 2
        assert get_base(store, ORGANIZATION, "KEY").value == SecretValue("v")

    def test_one_override_goes_alone(self, store: Store) -> None:
        """The base and the other environments stay."""
        set_base(store, SITE, "KEY", "v")
        for environment in ("dev", "live"):
            store.put(Place(SITE, environment, "KEY"), Write(SecretValue("w")))
        assert store.delete(Place(SITE, "dev", "KEY")) == 1
        holdings = self.reopen(store).read(SITE)
        assert [override.environment for override in holdings.overrides] == ["live"]
        assert len(holdings.secrets) == 1

    @needs("owners")
    def test_what_is_not_there_cannot_be_deleted(self, store: Store) -> None:
        """Another name, another environment, an unknown owner."""
        set_base(store, SITE, "KEY", "v")
        store.put(Place(SITE, "dev", "KEY"), Write(SecretValue("w")))
        for owner, environment, name in (
            (SITE, None, "KEY_2"),
            (SITE, "live", "KEY"),
            (ORGANIZATION, None, "KEY"),
            (Owner("site", "unknown"), None, "KEY"),
        ):
            with refused(UnknownSecretError):
                store.delete(Place(owner, environment, name))
        assert len(store.read(SITE).secrets) == len(store.read(SITE).overrides) == 1

    # --- reading --------------------------------------------------------------------------------

    # --- transactions ---------------------------------------------------------------------------

    @needs("organizations")
    def test_a_transaction_is_done_together(self, store: Store) -> None:
        """What was written in it can be read in it, and afterwards."""
        with store.transaction():
            store.set_site(Site("my-site", "agency"))
            set_base(store, ORGANIZATION, "KEY", "v")
            store.put(Place(SITE, "dev", "KEY"), Write(SecretValue("one")))
            store.put(Place(SITE, "dev", "KEY"), Write(SecretValue("two")))
            set_base(store, SITE, "GONE", "v")
            store.delete(Place(SITE, None, "GONE"))
            inside = get_override(store, SITE, "dev", "KEY")
        outside = get_override(self.reopen(store), SITE, "dev", "KEY")
        assert inside == outside
        assert (outside.value, outside.version) == (SecretValue("two"), 2)
        assert store.read(SITE).secrets == ()

    @needs("owners")
    def test_a_transaction_that_fails_leaves_nothing(self, store: Store) -> None:
        """Whatever ends it early; and the next one works."""
        set_base(store, SITE, "KEY", "before")
        for error in (UnknownSecretError("no such secret"), KeyboardInterrupt()):
            with refused(type(error)), store.transaction():
                store.put(Place(SITE, None, "KEY"), Write(SecretValue("after")))
                store.delete_site("my-site")
                store.set_site(Site("other"))
                raise error
            again = get_base(self.reopen(store), SITE, "KEY")
            assert (again.value, again.version) == (SecretValue("before"), 1)
            assert [site.name for site in store.sites()] == ["my-site"]
        assert not store.put(Place(SITE, None, "KEY"), Write(SecretValue("after")))

    def test_a_refusal_does_not_end_a_transaction(self, store: Store) -> None:
        """A bulk import may skip what the rules refuse."""
        with store.transaction():
            set_base(store, SITE, "A", "v")
            with refused(BaseMissingError):
                store.put(Place(SITE, "dev", "B"), Write(SecretValue("v")))
            set_base(store, SITE, "C", "v")
        assert [secret.name for secret in self.reopen(store).read(SITE).secrets] == ["A", "C"]


class RendererContract:
    """What every implementation of `ic_secrets_render_secrets` promises.

        class TestMine(RendererContract):
            render = staticmethod(my_plugin.ic_secrets_render_secrets)
            secrets = [("composer", "http-basic.repo.example.org", "user a-password"), ("env", "TOKEN", "a-token")]

    `secrets` are such (type, name, value) that it makes something of. The values stand nowhere else.
    """

    render: Callable[[RenderContext], Rendered | None]
    secrets: Sequence[tuple[str, str, str]]

    def make_context(self, directory: Path, secrets: Sequence[tuple[str, str, str]]) -> RenderContext:
        """A build of `my-site.dev` in that directory, which is also its home, with these secrets."""
        made = BuildSecrets(
            BuildSecret.make(name, SecretType(kind), SecretValue(value), source=str(SITE), scopes=BUILD)
            for kind, name, value in secrets
        )
        environment = MappingProxyType({"HOME": str(directory), "PATH": os.defpath})
        return RenderContext(Target("my-site", "dev"), str(directory), made, environment)

    def test_it_renders_something(self, tmp_path: Path) -> None:
        """From `secrets`, or the rest of the contract says nothing."""
        rendered = self.render(self.make_context(tmp_path, self.secrets))
        assert isinstance(rendered, Rendered)
        assert rendered.files or rendered.variables

    def test_what_it_gives_may_be_given(self, tmp_path: Path) -> None:
        """Files and variables of its own, whose types are right."""
        context = self.make_context(tmp_path, self.secrets)
        rendered = self.render(context) or Rendered()
        assert all(isinstance(path, str) and isinstance(data, bytes) for path, data in rendered.files.items())
        given = {**rendered.variables, **rendered.paths}
        assert all(isinstance(name, str) and isinstance(value, str) for name, value in given.items())
        render_others(context, Rendered(), [("the renderer", lambda _: rendered)])

    def test_without_secrets_it_adds_nothing(self, tmp_path: Path) -> None:
        """A file without a secret in it has no place in the private directory."""
        rendered = self.render(self.make_context(tmp_path, [])) or Rendered()
        assert (dict(rendered.files), dict(rendered.variables), dict(rendered.paths)) == ({}, {}, {})

    def test_the_same_secrets_give_the_same(self, tmp_path: Path) -> None:
        """It keeps nothing of the builds before, and does not depend on the order of the secrets."""
        first = self.render(self.make_context(tmp_path, self.secrets))
        self.render(self.make_context(tmp_path, []))
        again = self.render(self.make_context(tmp_path, list(reversed(self.secrets))))
        assert (first or Rendered()) == (again or Rendered())

    def test_it_touches_nothing(self, tmp_path: Path) -> None:
        """It decides; what it returns is written by others."""
        environment = dict(os.environ)
        self.render(self.make_context(tmp_path, self.secrets))
        assert list(tmp_path.iterdir()) == []
        assert dict(os.environ) == environment

    def test_no_name_holds_a_value(self, tmp_path: Path) -> None:
        """Names of files and variables are told: in errors, to other plugins, in lists of processes."""
        rendered = self.render(self.make_context(tmp_path, self.secrets)) or Rendered()
        names = " ".join([*rendered.files, *rendered.variables, *rendered.paths, *rendered.paths.values()])
        for _, _, value in self.secrets:
            assert not [word for word in value.split() if len(word) >= 6 and word in names]
