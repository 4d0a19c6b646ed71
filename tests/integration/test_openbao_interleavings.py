"""Writers of one OpenBao server at once, in any order of their requests, killed between any two: never half a secret.

Real stores ask a model of the engine, which draws whose request comes next, seeded by the number of the round.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import pytest

from ic_secrets.errors import (
    IcSecretsError,
    ImmutableError,
    StoreBusyError,
    UnknownSecretError,
    UnknownSiteError,
)
from ic_secrets.model.secret import Owner, Scope, SecretType, SecretValue, Site
from ic_secrets.stores.base import Place, Write
from ic_secrets.stores.openbao import store as openbao
from ic_secrets.stores.openbao.store import BaoStore
from ic_secrets.stores.registry import read_variables
from kv_models import ModelServer

pytestmark = pytest.mark.slow

SITE = Owner("site", "my-site")
AGENCY = Owner("organization", "agency")
PLACE = Place(SITE, None, "KEY")
NAMES = ("ONE", "TWO", "THREE")
IC, WEB, BOTH = frozenset({Scope.IC}), frozenset({Scope.WEB}), frozenset({Scope.IC, Scope.USER})
KINDS = [(SecretType.ENV, IC), (SecretType.RUNTIME, IC), (SecretType.ENV, WEB), (SecretType.ENV, BOTH)]

Work = Callable[[BaoStore], object]


class Played(NamedTuple):
    """What came of a round: what each writer returned or raised, and who was killed."""

    returned: dict[str, object]
    raised: dict[str, BaseException]
    killed: set[str]


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    model = ModelServer()
    yield model
    model.close()


def open_with(model: ModelServer, token: str) -> BaoStore:
    environment = {"BAO_TOKEN": token, "IC_SECRETS_BAO_TIMEOUT": "10s"}
    return openbao.open_store(model.url, read_variables(environment), environment)


def play(model: ModelServer, works: Mapping[str, Work], *, kills: int = 0, killable: str = "") -> Played:
    """Let the writers run at once, by the drawing of the round; so many of them are killed somewhere."""
    turns = model.turns
    chance = turns._chance
    for token in chance.sample(sorted(killable or works), kills):
        turns.lives[token] = chance.randrange(24)
        if chance.random() < 0.5:
            turns.lost.add(token)
    returned: dict[str, object] = {}
    raised: dict[str, BaseException] = {}

    def run(token: str, work: Work) -> None:
        try:
            with open_with(model, token) as store:
                returned[token] = work(store)
        except BaseException as error:
            raised[token] = error
        finally:
            turns.end(token)

    for token in works:
        turns.start(token)
    threads = [threading.Thread(target=run, args=each) for each in works.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for token in turns.killed:  # one that was done before its last request has done it
        returned.pop(token, None)
        raised.pop(token, None)
    return Played(returned, raised, set(turns.killed))


def set_key(text: str, kind: SecretType = SecretType.ENV, scopes: frozenset[Scope] = IC, place: Place = PLACE) -> Work:
    return lambda store: store.put(place, Write(SecretValue(text), kind, scopes))


def import_site(text: str) -> Work:
    """A copy of a whole site, in an order of its own."""

    def work(store: BaoStore) -> None:
        with store.transaction():
            store.set_site(Site("my-site", "agency"))
            for name in NAMES if text != "b" else NAMES[::-1]:
                store.put(Place(SITE, None, name), Write(SecretValue(text), SecretType.ENV, IC))

    return work


def read(model: ModelServer, owner: Owner = SITE) -> dict[str, tuple[str, SecretType]]:
    """What a person, and a build, find afterwards."""
    with open_with(model, "reader") as store:
        return {one.name: (one.value.reveal(), one.type) for one in store.read(owner).secrets if one.value}


def prepare(model: ModelServer, number: int, *, site: bool = True) -> random.Random:
    chance = random.Random(number)
    model.reset(chance)
    if chance.random() < 0.5:
        model.engine.limited.update("abcdefghijklmnopqrst")
    with open_with(model, "first") as store:
        set_key("of the agency", place=Place(AGENCY, None, "KEY"))(store)
        if site:
            store.set_site(Site("my-site", "agency"))
    return chance


@pytest.mark.parametrize("kills", [0, 1, 2])
def test_two_writers_of_one_new_secret_leave_one_value(
    model: ModelServer, rounds: Callable[[int, int], int], kills: int
) -> None:
    """Of one type both are done, of two types or scopes one is refused: and no half of one with half of the other."""
    for number in range(rounds(30, 3000)):
        chance = prepare(model, number)
        kinds = {"a": KINDS[0], "b": chance.choice(KINDS)}
        played = play(model, {who: set_key(who, *kind) for who, kind in kinds.items()}, kills=kills)
        found = read(model)
        told = f"round {number}: {played}"
        alive = kinds.keys() - played.killed
        if kinds["a"] == kinds["b"]:
            assert played.returned.keys() == alive, told
        else:
            assert all(isinstance(error, ImmutableError) for error in played.raised.values()), told
            assert len(played.returned) == 1 or played.killed, told
        assert "KEY" in found or not played.returned, told
        if "KEY" in found:
            value, kind = found["KEY"]
            assert kind == kinds[value][0], told
            assert value in {*played.returned, *played.killed}, told
            if kinds["a"] != kinds["b"] and played.returned:
                assert value in played.returned, told
        with open_with(model, "first") as store:  # whatever was left hinders nobody
            chain = store.read_chain(SITE, environment="dev", scope=Scope.IC, values=True)
            assert chain[1].secrets[0].value == SecretValue("of the agency"), told
            if found:
                store.delete(PLACE)
            set_key("again", SecretType.RUNTIME)(store)
        assert read(model) == {"KEY": ("again", SecretType.RUNTIME)}, told


def build(store: BaoStore) -> str | None:
    """What a build of the site gets; a build sees nothing of the secrets that are for the application alone."""
    own, _ = store.read_chain(SITE, environment="dev", scope=Scope.IC, values=True)
    return own.secrets[0].value.reveal() if own.secrets and own.secrets[0].value else None


@pytest.mark.parametrize("kills", [0, 1, 2])
@pytest.mark.parametrize("scopes", [WEB, BOTH], ids=["web", "both"])
def test_a_build_gets_the_value_of_the_writer_that_was_first_whatever_the_scopes_of_the_other(
    model: ModelServer, rounds: Callable[[int, int], int], scopes: frozenset[Scope], kills: int
) -> None:
    """Even where a writer with other scopes was killed before they saw that they came second."""
    for number in range(rounds(40, 4000)):
        prepare(model, number)
        kinds = {"a": IC, "b": scopes}
        works: dict[str, Work] = {who: set_key(who, SecretType.ENV, kind) for who, kind in kinds.items()}
        played = play(model, works | {"x": build, "y": build}, kills=kills, killable="ab")
        told = f"round {number}: {played}"
        counting = read(model).get("KEY", (None,))[0]
        expected = counting if counting and Scope.IC in kinds[counting] else None
        with open_with(model, "first") as store:
            assert build(store) == expected, told
        assert {played.returned["x"], played.returned["y"]} <= {None, expected}, told


@pytest.mark.parametrize("kills", [0, 1])
def test_two_copies_of_one_new_site_leave_one_of_them(
    model: ModelServer, rounds: Callable[[int, int], int], kills: int
) -> None:
    """Or none, and nothing of them; half a copy is a site that nobody knows, and copied again it is whole."""
    for number in range(rounds(25, 2000)):
        prepare(model, number, site=False)
        played = play(model, {who: import_site(who) for who in "ab"}, kills=kills)
        told = f"round {number}: {played}"
        assert all(isinstance(error, StoreBusyError) for error in played.raised.values()), told
        found = {name: value for name, (value, _) in read(model).items()}
        with open_with(model, "first") as store:
            try:
                store.site("my-site")
            except UnknownSiteError:
                assert not played.returned, told
                assert not found or played.killed, told
            else:
                assert found.keys() == {*NAMES}, told
                assert {*found.values()} <= {*played.returned, *played.killed}, told
                assert len({*found.values()}) == 1 or played.killed, told
            import_site("again")(store)
            assert store.site("my-site").organization == "agency"
        assert {value for value, _ in read(model).values()} == {"again"}, told


@pytest.mark.parametrize("kills", [0, 1])
def test_a_build_beside_a_deletion_or_a_copy_never_gets_the_organizations_values(
    model: ModelServer, rounds: Callable[[int, int], int], kills: int
) -> None:
    """Half a deletion is an unknown site; so is half a copy. Deleted again, nothing is left."""

    def delete(store: BaoStore) -> int:
        return store.delete_site("my-site")

    def build(store: BaoStore) -> str:
        own, _ = store.read_chain(SITE, environment="dev", scope=Scope.IC, values=True)
        return str(own.secrets[0].value.reveal() if own.secrets and own.secrets[0].value else "the organization's")

    def copy(store: BaoStore) -> None:
        with store.transaction():
            store.set_site(Site("my-site", "agency"))
            set_key("of the site")(store)

    for number in range(rounds(25, 2000)):
        is_there = number % 2 == 0
        prepare(model, number, site=is_there)
        if is_there:
            with open_with(model, "first") as store:
                set_key("of the site")(store)
        played = play(model, {"a": delete if is_there else copy, "b": build, "c": build}, kills=kills)
        told = f"round {number}: {played}"
        for reader in {"b", "c"} - played.killed:
            if reader in played.raised:
                assert isinstance(played.raised[reader], (UnknownSiteError, StoreBusyError)), told
            else:
                assert played.returned[reader] == "of the site", told
        with open_with(model, "first") as store:
            try:
                assert build(store) == "of the site", told
            except UnknownSiteError:
                assert is_there or "a" in played.killed, told
            if "a" in played.killed:
                with open_with(model, "first") as again:
                    try:
                        delete(again)
                    except UnknownSiteError:
                        assert read(model) == {}, told
                assert read(model) == {}, told


def test_a_writer_beside_one_that_takes_back_keeps_its_value(
    model: ModelServer, rounds: Callable[[int, int], int]
) -> None:
    """A copy that fails takes back what it wrote, but never what somebody has set since."""

    def fail(store: BaoStore) -> None:
        with store.transaction():
            set_key("a")(store)
            set_key("a", place=Place(SITE, None, "LATER"))(store)

    for number in range(rounds(25, 2000)):
        prepare(model, number)
        works = {"a": fail, "b": set_key("b"), "c": set_key("c", place=Place(SITE, None, "LATER"))}
        played = play(model, works)
        told = f"round {number}: {played}"
        found = {name: value for name, (value, _) in read(model).items()}
        assert {"b", "c"} <= played.returned.keys(), told
        assert found["KEY"] in {"a", "b"}, told
        assert found["LATER"] in {"a", "c"}, told
        if "a" in played.raised:
            assert found == {"KEY": "b", "LATER": "c"}, told


@pytest.mark.parametrize("kills", [0, 5])
def test_twenty_writers_of_one_secret_wait_their_turn(
    model: ModelServer, rounds: Callable[[int, int], int], kills: int
) -> None:
    """None of them fails, whoever is killed."""
    for number in range(rounds(1, 100)):
        prepare(model, number)
        writers = "abcdefghijklmnopqrst"
        played = play(model, {who: set_key(who) for who in writers}, kills=kills)
        told = f"round {number}: {played}"
        assert not played.raised, told
        assert played.returned.keys() | played.killed == {*writers}, told
        assert read(model)["KEY"][0] in writers, told


def test_a_deletion_beside_a_writer_leaves_the_value_or_nothing(
    model: ModelServer, rounds: Callable[[int, int], int]
) -> None:
    for number in range(rounds(25, 2000)):
        prepare(model, number)
        with open_with(model, "first") as store:
            set_key("old")(store)
        played = play(model, {"a": set_key("a"), "b": lambda store: store.delete(PLACE)}, kills=number % 2)
        told = f"round {number}: {played}"
        assert all(isinstance(error, (UnknownSecretError, IcSecretsError)) for error in played.raised.values()), told
        assert "a" in played.returned or "a" in played.killed, told
        found = read(model)
        assert found.get("KEY", ("a", 0))[0] in ({"a"} if "b" in played.returned else {"a", "old"}), told
        with open_with(model, "first") as store:
            set_key("again")(store)
        assert read(model)["KEY"][0] == "again", told
