"""What every store has without saying so, and what a store that is only read refuses."""

from collections.abc import Callable, Iterator

import pytest

from ic_secrets.errors import NoPlaceError, StoreWriteError, UnknownSiteError
from ic_secrets.model.resolve import Holdings
from ic_secrets.model.secret import Owner, Scope, Secret, SecretType, SecretValue, Site
from ic_secrets.stores.base import Place, ReadOnlyStore, Store, Write

SITE = Owner("site", "my-site")
AGENCY = Owner("organization", "agency")
PLACE = Place(SITE, "dev", "API_KEY")


class Fixed(ReadOnlyStore):
    """The least that a store needs: one site, and an organization that it names."""

    url = "fixed:"

    def site(self, name: str) -> Site:
        if name != "my-site":
            raise UnknownSiteError(f"there is no site {name}")
        return Site("my-site", "agency")

    def sites(self) -> Iterator[Site]:
        return iter([self.site("my-site")])

    def owners(self) -> Iterator[Owner]:
        return iter([SITE])

    def read(
        self, owner: Owner, *, environment: str | None = None, scope: Scope | None = None, values: bool = True
    ) -> Holdings:
        return Holdings(owner)


def test_a_store_has_the_capabilities_of_the_plainest_one() -> None:
    secret = Secret("id", SITE, "API_KEY", SecretType.ENV, frozenset({Scope.IC}), None)
    with Fixed() as store:
        assert (store.only_site, store.has_organizations, store.master_id, store.cached) == (None, True, None, None)
        assert (store.identify(), store.take_notices()) == (None, ())
        store.check_supported(secret)
        with pytest.raises(NoPlaceError, match="cannot store the hosts that my-site API_KEY is bound to"):
            store.check_supported(secret._replace(hosts=("api.example.com",)))
        with store.transaction(), store.snapshot():
            chain = store.read_chain(SITE)
    assert [held.owner for held in chain] == [SITE, AGENCY]
    assert [held.owner for held in store.read_chain(AGENCY)] == [AGENCY]
    with pytest.raises(UnknownSiteError):
        store.read_chain(Owner("site", "other"))


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.set_site(Site("my-site")),
        lambda store: store.delete_site("my-site"),
        lambda store: store.put(PLACE, Write(SecretValue("v"))),
        lambda store: store.bind(SITE, "API_KEY", ()),
        lambda store: store.delete(PLACE),
    ],
    ids=["set_site", "delete_site", "put", "bind", "delete"],
)
def test_a_store_that_is_only_read_refuses_every_change(change: Callable[[Store], object]) -> None:
    with pytest.raises(StoreWriteError, match="fixed: is read-only"):
        change(Fixed())


def test_a_store_that_lacks_a_method_cannot_be_made() -> None:
    class Incomplete(Fixed):
        read = Store.read

    with pytest.raises(TypeError, match="read"):
        Incomplete()  # type: ignore[abstract]


def test_a_place_is_written_as_people_write_it_and_a_write_never_shows_its_value() -> None:
    assert [str(PLACE), str(Place(AGENCY, None, "KEY"))] == ["my-site.dev API_KEY", "org:agency KEY"]
    assert "canary" not in repr(Write(SecretValue("canary")))
