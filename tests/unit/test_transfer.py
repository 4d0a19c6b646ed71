"""Definitions from one store in another: what is made, changed and refused, and that it is all or nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, strategies as st

from ic_secrets.errors import IcSecretsError, UnknownSiteError
from ic_secrets.model.resolve import Holdings, inert_overrides
from ic_secrets.model.secret import MAX_TIME, Owner, SecretType, SecretValue, Site
from ic_secrets.stores import sealed_file as sealed
from ic_secrets.stores.base import Place, Store, Write
from ic_secrets.stores.embedded import store as local
from ic_secrets.testing import ALL, BUILD, ORGANIZATION, SITE, get_base, get_override, set_base
from ic_secrets.transfer.merge import (
    SecretSet,
    add_organizations,
    count_actions,
    import_secrets,
    is_refused,
    plan_changes,
    read_secrets,
)
from local_stores import KEY, make_store, memory_directory, open_for_reading

Stores = tuple[local.LocalStore, local.LocalStore]


@contextlib.contextmanager
def two_stores() -> Iterator[Stores]:
    with (
        memory_directory() as directory,
        local.create(str(directory / "source.db"), KEY) as source,
        local.create(str(directory / "destination.db"), KEY) as destination,
    ):
        yield source, destination


@pytest.fixture
def stores() -> Iterator[Stores]:
    with two_stores() as stores:
        yield stores


def everything(store: Store) -> SecretSet:
    return read_secrets(store, list(store.owners()))


def told(store: Store, secret_set: SecretSet) -> dict[str, str]:
    """What becomes of each definition that is not the same already."""
    changes = plan_changes(store, secret_set)
    return {str(change): change.reason or change.action.value for change in changes if change.action.value != "same"}


def definitions(store: Store) -> tuple[list[Site], set[tuple[object, ...]]]:
    """All that a store says that has an effect: ids are told by whose base it is, versions and inert overrides not."""
    found: set[tuple[object, ...]] = set()
    for owner in store.owners():
        chain = store.read_chain(owner, values=True)
        bases = {secret.id: str(held.owner) for held in chain for secret in held.secrets}
        for secret in chain[0].secrets:
            found.add((str(owner), "", secret.name, *secret[3:6], *secret[7:]))
        for override in set(chain[0].overrides) - set(inert_overrides(chain)):
            found.add(
                (str(owner), override.environment, override.name, *override[4:7], *override[8:], bases[override.base])
            )
    return list(store.sites()), found


# --- all of it ------------------------------------------------------------------------------------------


def test_a_store_arrives_whole() -> None:
    """Sites, organizations, bases, overrides of both, values, times and expiry; a second time all is the same."""
    with memory_directory() as directory, open_for_reading(make_store(directory)) as source:
        secret_set = everything(source)
        with local.create(str(directory / "new.db"), KEY) as destination:
            changes = import_secrets(destination, secret_set)
            assert {change.action.value for change in changes} == {"made"}
            assert definitions(destination) == definitions(source)
            generation = destination.generation
            assert {change.action.value for change in import_secrets(destination, secret_set)} == {"same"}
            assert destination.generation == generation
            assert definitions(destination) == definitions(source)


NAMES = ("K", "L")
OWNERS = [Owner("site", "a"), Owner("site", "b"), Owner("organization", "a"), Owner("organization", "o")]
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"),
            st.sampled_from(OWNERS),
            st.sampled_from((None, None, "dev", "live")),
            st.sampled_from(NAMES),
            st.sampled_from(((SecretType.ENV, BUILD), (SecretType.RUNTIME, ALL))),
            st.text(st.characters(codec="utf-8"), max_size=40),
            st.none() | st.integers(0, MAX_TIME - 1),
        ),
        st.tuples(st.just("delete"), st.sampled_from(OWNERS), st.sampled_from((None, "dev")), st.sampled_from(NAMES)),
        st.tuples(
            st.just("site"), st.sampled_from("ab"), st.sampled_from((None, "a", "o")), st.sampled_from(((), ("h",)))
        ),
    ),
    max_size=30,
)


def perform(store: Store, operations: list[tuple[object, ...]]) -> None:
    """Do what the rules allow of it."""
    for what, *words in operations:
        with contextlib.suppress(IcSecretsError):
            if what == "put":
                owner, environment, name, (kind, scopes), text, expires = words  # type: ignore[misc]
                if environment:
                    kind = scopes = None
                times = (len(text), 1_000 + len(text))
                store.put(Place(owner, environment, name), Write(SecretValue(text), kind, scopes, expires, times))  # type: ignore[arg-type]
            elif what == "delete":
                store.delete(Place(*words))  # type: ignore[arg-type]
            else:
                store.set_site(Site(*words))  # type: ignore[arg-type]


@pytest.mark.slow
@given(OPERATIONS, OPERATIONS)
def test_any_store_exported_and_imported_gives_the_same(
    operations: list[tuple[object, ...]], beside: list[tuple[object, ...]]
) -> None:
    """Through the text of a sealed file; what is refused is just what is inert. And any store takes it, or nothing.

    Into a store that holds something already, the definitions come that the rules let in, and a second
    time finds them the same.
    """
    with two_stores() as (source, destination):
        perform(source, operations)
        secret_set = everything(source)
        data = sealed.render(KEY, "0" * 32, 1, secret_set.sites, secret_set.holdings)
        again = sealed.parse("all.sealed", data, lambda: [KEY])
        assert everything(again) == secret_set
        changes = import_secrets(destination, everything(again), skip_refused=True)
        inert = sum(len(inert_overrides(source.read_chain(owner))) for owner in source.owners())
        assert count_actions(changes)["refused"] == inert
        assert definitions(destination) == definitions(source)
    with two_stores() as (_, destination):
        perform(destination, beside)
        before = definitions(destination)
        changes = import_secrets(destination, secret_set)
        if is_refused(changes):
            assert definitions(destination) == before
            changes = import_secrets(destination, secret_set, skip_refused=True)
        second = plan_changes(destination, secret_set)
        assert count_actions(second)["refused"] == count_actions(changes)["refused"]
        assert count_actions(second)["made"] == count_actions(second)["changed"] == 0


# --- what is already there ------------------------------------------------------------------------------


def test_what_differs_is_changed_and_what_is_beside_stays(stores: Stores) -> None:
    """A value or an expiry makes a difference, times alone make none."""
    source, destination = stores
    for store, text in ((source, "new"), (destination, "old")):
        set_base(store, SITE, "VALUE", text)
        set_base(store, SITE, "SAME", "same")
        value, expires = SecretValue("same"), 1_900_000_000 if store is source else None
        store.put(Place(SITE, None, "EXPIRES"), Write(value, type=SecretType.ENV, scopes=BUILD, expires=expires))
        store.put(Place(SITE, None, "TIMES"), Write(value, type=SecretType.ENV, scopes=BUILD, times=(len(text), 9)))
        store.put(Place(SITE, "dev", "SAME"), Write(SecretValue(text)))
    set_base(destination, SITE, "BESIDE", "beside")
    assert told(destination, everything(source)) == {
        "my-site VALUE": "changed",
        "my-site EXPIRES": "changed",
        "my-site.dev SAME": "changed",
    }
    import_secrets(destination, everything(source))
    assert get_base(destination, SITE, "VALUE").value == SecretValue("new")
    assert get_base(destination, SITE, "VALUE").version == 2
    assert get_base(destination, SITE, "BESIDE").value == SecretValue("beside")
    assert told(destination, everything(source)) == {}


def test_hosts_make_a_difference_and_who_keeps_none_takes_none_away(stores: Stores) -> None:
    """A copy has the hosts of its source; a file that says none, and a store that has none, leave them."""
    source, destination = stores
    for store in stores:
        set_base(store, SITE, "KEY", "v")
        store.put(Place(SITE, "dev", "KEY"), Write(SecretValue("w")))
    for before, after in (((), ("a.org",)), (("a.org",), ("b.org",)), (("b.org",), ())):
        source.bind(SITE, "KEY", after)
        changed = {"my-site KEY": "changed"}
        silent = everything(source)._replace(has_hosts=False), everything(source)._replace(is_partial=True)
        assert [told(destination, each) for each in silent] == [changed if after else {}] * 2
        (change,) = [each for each in plan_changes(destination, everything(source)) if each.note]
        assert change.note == f"hosts: {', '.join(before) or 'none'} → {', '.join(after) or 'none'}"
        assert told(destination, everything(source)) == changed
        import_secrets(destination, everything(source))
        assert get_base(destination, SITE, "KEY").hosts == after
        assert told(destination, everything(source)) == {}


def refuse_hosts(source: Store, destination: Store) -> None:
    for store in (source, destination):
        set_base(store, SITE, "KEY", "v")
    source.bind(SITE, "KEY", ("a.org",))
    destination.has_hosts = False


def refuse_type(source: Store, destination: Store) -> None:
    set_base(source, SITE, "KEY", "v", SecretType.ENV)
    set_base(destination, SITE, "KEY", "v", SecretType.RUNTIME)


def refuse_scopes(source: Store, destination: Store) -> None:
    set_base(source, SITE, "KEY", "v", SecretType.ENV, BUILD)
    set_base(destination, SITE, "KEY", "v", SecretType.ENV, ALL)


def refuse_inert(source: Store, destination: Store) -> None:
    source.set_site(Site("my-site", "agency"))
    set_base(source, ORGANIZATION, "KEY", "v")
    source.put(Place(SITE, "dev", "KEY"), Write(SecretValue("v")))
    source.delete(Place(ORGANIZATION, None, "KEY"))
    set_base(source, ORGANIZATION, "KEY", "a namesake")


def refuse_hidden(source: Store, destination: Store) -> None:
    source.set_site(Site("my-site", "agency"))
    for store in (source, destination):
        set_base(store, ORGANIZATION, "KEY", "v")
    source.put(Place(SITE, "dev", "KEY"), Write(SecretValue("v")))
    set_base(destination, SITE, "KEY", "own")


def refuse_beside(source: Store, destination: Store) -> None:
    for store in (source, destination):
        store.set_site(Site("my-site", "agency"))
    set_base(destination, ORGANIZATION, "KEY", "v", SecretType.RUNTIME)
    destination.put(Place(SITE, "dev", "KEY"), Write(SecretValue("v")))
    set_base(source, SITE, "KEY", "own", SecretType.ENV)


REFUSED: dict[str, tuple[Callable[[Store, Store], None], str, str]] = {
    "hosts that the store does not keep": (refuse_hosts, "my-site KEY", "cannot store the hosts"),
    "another type": (refuse_type, "my-site KEY", "has the type runtime, not env"),
    "other scopes": (refuse_scopes, "my-site KEY", "has the scopes ic,web,user, not ic"),
    "an inert override": (refuse_inert, "my-site.dev KEY", "overrode is gone"),
    "an override whose base would be another": (refuse_hidden, "my-site.dev KEY", "has one of that name already"),
    "a base unlike the override beside it": (refuse_beside, "my-site KEY", "has the type runtime, not env"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_named_and_nothing_is_written(stores: Stores, case: str) -> None:
    """Unless the rest is asked for: then all but that is brought in."""
    prepare, what, reason = REFUSED[case]
    prepare(*stores)
    source, destination = stores
    set_base(source, Owner("site", "zebra"), "LAST", "v")
    secret_set = everything(source)
    before, generation = definitions(destination), destination.generation
    refused = {str(c): c.reason for c in import_secrets(destination, secret_set) if c.reason}
    assert list(refused) == [what]
    assert reason in refused[what]
    assert definitions(destination) == before
    import_secrets(destination, secret_set, skip_refused=True)
    assert get_base(destination, Owner("site", "zebra"), "LAST").value == SecretValue("v")
    assert destination.generation > generation
    assert list(told(destination, secret_set)) == [what]


def test_a_dry_run_writes_nothing(stores: Stores) -> None:
    """Not even in a store that could not be written; and it says what would then be done."""
    source, destination = stores
    set_base(source, SITE, "KEY", "v")
    path = destination.url.removeprefix("sqlite:")
    with local.open_store(path, [KEY], read_only=True) as reader:
        planned = plan_changes(reader, everything(source))
    assert list(destination.sites()) == []
    assert import_secrets(destination, everything(source)) == planned


# --- whose it is ----------------------------------------------------------------------------------------


def test_an_organization_is_left_alone_unless_it_is_brought(stores: Stores) -> None:
    """A site's override of what it inherits belongs to the destination's own base of that name."""
    source, destination = stores
    for store, text in ((source, "theirs"), (destination, "ours")):
        store.set_site(Site("my-site", "agency"))
        set_base(store, ORGANIZATION, "KEY", text)
    source.put(Place(SITE, "dev", "KEY"), Write(SecretValue("override")))
    import_secrets(destination, read_secrets(source, [SITE]))
    base = get_base(destination, ORGANIZATION, "KEY")
    assert base.value == SecretValue("ours")
    assert get_override(destination, SITE, "dev", "KEY").base == base.id
    owners = add_organizations(source, [SITE])
    assert owners == (SITE, ORGANIZATION)
    import_secrets(destination, read_secrets(source, owners))
    assert get_base(destination, ORGANIZATION, "KEY").value == SecretValue("theirs")


def test_an_override_keeps_its_base_beside_a_namesake(stores: Stores) -> None:
    """It was set over the organization's; the site's own came later, and goes alone."""
    source, destination = stores
    source.set_site(Site("my-site", "agency"))
    set_base(source, ORGANIZATION, "KEY", "org")
    source.put(Place(SITE, "dev", "KEY"), Write(SecretValue("override")))
    set_base(source, SITE, "KEY", "own")
    import_secrets(destination, everything(source))
    base = get_base(destination, ORGANIZATION, "KEY")
    assert get_override(destination, SITE, "dev", "KEY").base == base.id
    destination.delete(Place(ORGANIZATION, None, "KEY"))
    assert [override.name for override in inert_overrides(destination.read_chain(SITE))] == ["KEY"]


def test_an_override_beside_a_namesake_takes_a_new_value_and_never_another_base(stores: Stores) -> None:
    """Of the same base it is changed; one of the site's own secret does not take its place without a word."""
    source, destination = stores
    for store in stores:
        store.set_site(Site("my-site", "agency"))
        set_base(store, ORGANIZATION, "KEY", "org")
        store.put(Place(SITE, "dev", "KEY"), Write(SecretValue("override")))
        set_base(store, SITE, "KEY", "own")
    source.put(Place(SITE, "dev", "KEY"), Write(SecretValue("changed")))
    assert told(destination, everything(source)) == {"my-site.dev KEY": "changed"}
    import_secrets(destination, everything(source))
    assert told(destination, everything(source)) == {}
    source.delete(Place(SITE, "dev", "KEY"))
    source.put(Place(SITE, "dev", "KEY"), Write(SecretValue("of the site's")))
    reason = "the one that is there belongs to the secret of org:agency: delete it first"
    assert told(destination, everything(source)) == {"my-site.dev KEY": reason}


def test_an_inert_override_with_the_same_value_is_set_again(stores: Stores) -> None:
    """It would have no effect, where the one that was brought has."""
    for store in stores:
        store.set_site(Site("my-site", "agency"))
        set_base(store, ORGANIZATION, "KEY", "org")
        store.put(Place(SITE, "dev", "KEY"), Write(SecretValue("override")))
    source, destination = stores
    destination.delete(Place(ORGANIZATION, None, "KEY"))
    set_base(destination, ORGANIZATION, "KEY", "org")
    assert told(destination, everything(source)) == {"my-site.dev KEY": "changed"}
    import_secrets(destination, everything(source))
    assert inert_overrides(destination.read_chain(SITE)) == ()


def test_a_bundle_without_sites_leaves_organizations_as_they_are(stores: Stores) -> None:
    """As a format has it that knows no organizations; a site that is not known is made."""
    _, destination = stores
    destination.set_site(Site("my-site", "agency", ("help",)))
    with two_stores() as (other, _):
        for owner in (SITE, Owner("site", "new")):
            set_base(other, owner, "KEY", "v")
        secret_set = everything(other)._replace(sites=())
    import_secrets(destination, secret_set)
    assert list(destination.sites()) == [Site("my-site", "agency", ("help",)), Site("new")]


def test_a_value_that_is_not_given_is_refused(stores: Stores) -> None:
    source, destination = stores
    set_base(source, SITE, "KEY", "v")
    secret_set = SecretSet((), (source.read(SITE, values=False),))
    assert told(destination, secret_set) == {"the site my-site": "made", "my-site KEY": "it has no value"}


def test_an_unknown_site_is_an_error(stores: Stores) -> None:
    """A typing mistake is no empty secret_set."""
    with pytest.raises(UnknownSiteError):
        read_secrets(stores[0], [SITE])


def test_a_failure_leaves_nothing(stores: Stores) -> None:
    """What is no refusal but an error, in the middle of it."""
    source, destination = stores
    set_base(source, SITE, "KEY", "v")
    secret_set = read_secrets(source, [SITE])
    wrong = secret_set.holdings[0].secrets[0]._replace(name="LATER", created=-1)
    held = Holdings(SITE, (*secret_set.holdings[0].secrets, wrong), ())
    with pytest.raises(IcSecretsError):
        import_secrets(destination, SecretSet((Site("my-site"),), (held,)))
    assert list(destination.sites()) == []
