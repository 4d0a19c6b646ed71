"""The contract of a store that is written."""

from __future__ import annotations

from ..errors import (
    BaseMissingError,
    ImmutableError,
    InvalidHostError,
    InvalidNameError,
    NoPlaceError,
    UndefinedSecretError,
    UnknownSecretError,
    UnknownSiteError,
)
from ..model.resolve import inert_overrides, resolve
from ..model.secret import (
    Hosts,
    Owner,
    Scope,
    SecretType,
    SecretValue,
    Site,
)
from ..stores.base import Place, Store, Write
from .helpers import ALL, BUILD, ORGANIZATION, SITE, get_base, get_override, needs, refused, set_base
from .reading import ReadingContract


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

    # --- hosts ----------------------------------------------------------------------------------

    def test_a_secret_stays_bound_to_its_hosts(self, store: Store) -> None:
        """A new value leaves them; others come with a value or without one. A store that keeps none says so."""
        hosts: Hosts = ("a.example.com", "b.example.com:8443")
        others: Hosts = ("c.example.com",)
        set_base(store, SITE, "KEY", "one")
        if not store.has_hosts:
            with refused(NoPlaceError):
                store.bind(SITE, "KEY", hosts)
            with refused(NoPlaceError):
                store.check_supported(get_base(store, SITE, "KEY")._replace(hosts=hosts))
            return
        place = Place(SITE, None, "KEY")
        for write, expected in (
            (Write(SecretValue("two"), hosts=hosts), hosts),
            (Write(SecretValue("three")), hosts),
            (Write(SecretValue("four"), hosts=others), others),
        ):
            store.put(place, write)
            found = get_base(self.reopen(store), SITE, "KEY")
            assert (found.hosts, found.value) == (expected, write.value)
        for expected in (hosts, others, ()):
            before = get_base(store, SITE, "KEY")
            store.bind(SITE, "KEY", expected)
            after = get_base(self.reopen(store), SITE, "KEY")
            assert after == before._replace(hosts=expected, version=after.version)
        with refused(UnknownSecretError):
            store.bind(SITE, "OTHER", hosts)

    @needs("hosts")
    def test_only_an_env_secret_is_bound(self, store: Store) -> None:
        """Other types are refused, as is what is not a host; then nothing is written."""
        set_base(store, SITE, "file", "v", SecretType.RUNTIME)
        set_base(store, SITE, "KEY", "v")
        for name, hosts in (("file", ("a.example.com",)), ("KEY", ("A.example.com",)), ("KEY", ("https://a.org",))):
            with refused(InvalidHostError):
                store.bind(SITE, name, hosts)
            with refused(InvalidHostError):
                store.put(Place(SITE, None, name), Write(SecretValue("w"), hosts=hosts))
            found = get_base(store, SITE, name)
            assert (found.value, found.version, found.hosts) == (SecretValue("v"), 1, ())

    @needs("hosts", "organizations")
    def test_an_override_is_bound_as_its_base_is(self, store: Store) -> None:
        """Also a site's, of its organization's secret, and when the hosts of that change. It has none of its own."""
        store.set_site(Site("my-site", "agency"))
        set_base(store, ORGANIZATION, "KEY", "v")
        store.put(Place(SITE, "dev", "KEY"), Write(SecretValue("w")))
        for hosts in (("a.example.com",), ("b.example.com",), ()):
            store.bind(ORGANIZATION, "KEY", hosts)
            for scope in (None, Scope.IC):
                chain = store.read_chain(SITE, environment="dev", scope=scope, values=scope is not None)
                (won,) = resolve("dev", Scope.IC, chain)
                assert (won.source, won.hosts) == ("my-site.dev", hosts)
        with refused(ImmutableError):
            store.put(Place(SITE, "dev", "KEY"), Write(SecretValue("w"), hosts=("a.example.com",)))

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

    @needs("organizations", "identity")
    def test_an_override_of_the_organizations_secret_survives_the_sites_own(self, store: Store) -> None:
        """Rule 6: it belongs to that very base, whatever becomes of a site's base beside it."""
        store.set_site(Site("my-site", "agency"))
        set_base(store, ORGANIZATION, "KEY", "org")
        base = get_base(store, ORGANIZATION, "KEY").id
        store.put(Place(SITE, "dev", "KEY"), Write(SecretValue("one")))
        set_base(store, SITE, "KEY", "site")
        store.put(Place(SITE, "live", "KEY"), Write(SecretValue("of the site's")))
        assert not store.put(Place(SITE, "dev", "KEY"), Write(SecretValue("two")))
        assert get_override(self.reopen(store), SITE, "dev", "KEY").base == base
        assert store.delete(Place(SITE, None, "KEY")) == 2
        again = self.reopen(store)
        assert [(o.environment, o.value) for o in again.read(SITE).overrides] == [("dev", SecretValue("two"))]
        assert inert_overrides(again.read_chain(SITE)) == ()
        assert store.delete(Place(SITE, None, "KEY")) == 1

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
