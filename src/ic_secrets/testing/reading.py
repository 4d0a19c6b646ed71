"""The contract of every store, also of one that can only be read."""

from __future__ import annotations

from typing import ClassVar

from ..errors import (
    UnknownSiteError,
)
from ..model.resolve import inert_overrides
from ..model.secret import (
    MAX_VALUE_BYTES,
    Owner,
    Scope,
    SecretType,
    SecretValue,
    Site,
)
from ..stores.base import Place, Store, Write
from .helpers import ALL, BUILD, FEATURES, NEEDS, ORGANIZATION, SITE, get_base, get_override, needs, refused, set_base


class ReadingContract:
    """What any store promises of reading, also one that cannot be written.

    Subclass it with a fixture `store`, any store that is open for writing and empty, and with `reopen`. `lacks` names
    those of the `FEATURES` that the store's format has no place for.
    """

    lacks: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        assert cls.lacks <= set(FEATURES)
        for name, features in NEEDS.items():
            if features & cls.lacks:
                setattr(cls, name, None)  # so pytest finds no test there

    def reopen(self, store: Store) -> Store:
        """Return the store under test as another process would find it now, with all that `store` holds.

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
        """All of them, each with its organizations; organizations themselves are not sites."""
        sites = [Site("a"), Site("a-b", "agency"), Site("b", None, ("help",)), Site("c")]
        for site in (sites[2], sites[0], sites[3], sites[1]):
            store.set_site(site)
        set_base(store, ORGANIZATION, "KEY", "v")
        assert list(self.reopen(store).sites()) == sites

    @needs("owners")
    def test_owners_are_all_sites_and_the_organizations_that_hold_something(self, store: Store) -> None:
        """An organization that was only named by a site, or lost its last secret, is not among them."""
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
