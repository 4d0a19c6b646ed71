"""What the server refuses to a token that has nothing but the policy that `bao policy` prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import pytest

from bao_servers import ROOT, Server, running
from commandline import Cli
from ic_secrets.errors import ImmutableError, StoreDeniedError
from ic_secrets.model.resolve import Holdings, resolve
from ic_secrets.model.secret import Override, Owner, Scope, Scopes, Secret, SecretType, SecretValue, Site
from ic_secrets.stores.base import Place, Write
from ic_secrets.stores.openbao import store as openbao
from ic_secrets.stores.openbao.policy import render_policy
from ic_secrets.stores.openbao.store import BaoStore
from ic_secrets.stores.registry import read_variables

SITE = Site("my-site", "agency", ("help",))
BUILD = frozenset({Scope.IC})
APPLICATION = frozenset({Scope.WEB, Scope.USER})
SHOWN = frozenset({Scope.IC, Scope.USER})


Entry = TypeVar("Entry", Secret, Override)


class Fleet(NamedTuple):
    """A store with sites and organizations that are close to each other, and tokens for one of the sites."""

    server: Server
    mount: str
    tokens: dict[str, str]

    def open(self, who: str) -> BaoStore:
        environment = {"BAO_TOKEN": self.tokens[who], "IC_SECRETS_BAO_TIMEOUT": "5s"}
        return openbao.open_store(self.server.url(self.mount), read_variables(environment), environment)


def fill(store: BaoStore) -> None:
    """Each owner has two secrets for builds, one of them shown, one for the application, and overrides of all."""
    store.set_site(SITE)
    store.set_site(Site("my-site-2", "agency-2"))
    store.set_site(Site("neighbour", "agency"))
    names = [("site", "my-site"), ("site", "my-site-2"), ("site", "neighbour")]
    names += [("organization", name) for name in ("agency", "agency-2", "help", "my-site")]
    for kind, name in names:
        owner = Owner(kind, name)
        for secret, scopes in (("KEY", BUILD), ("APP", APPLICATION), ("SEEN", SHOWN)):
            put(store, owner, f"{secret}_{kind.upper()}", f"{secret} of {owner}", scopes)
            for environment in ("dev", "dev-2", "live"):
                value = SecretValue(f"{secret} of {owner}.{environment}")
                store.put(Place(owner, environment, f"{secret}_{kind.upper()}"), Write(value))


def put(store: BaoStore, owner: Owner, name: str, text: str, scopes: Scopes = BUILD) -> bool:
    return store.put(Place(owner, None, name), Write(SecretValue(text), type=SecretType.ENV, scopes=scopes))


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with running() as server:
        mount = server.mount()
        tokens = {"root": ROOT}
        fleet = Fleet(server, mount, tokens)
        with fleet.open("root") as store:
            fill(store)
        for purpose in ("build", "manage", "read"):
            policy = render_policy(mount, SITE, purpose)
            tokens[purpose] = server.token(policy, no_default_policy=True)
        yield fleet


# --- a build ------------------------------------------------------------------------------------------


def test_a_build_gets_all_that_it_needs(fleet: Fleet) -> None:
    """The same as with a token that may do anything."""
    chosen = []
    for who in ("build", "root"):
        with fleet.open(who) as store:
            chain = store.read_chain(Owner("site", "my-site"), environment="dev", scope=Scope.IC, values=True)
        chosen.append([(one.name, one.value, one.source) for one in resolve("dev", Scope.IC, chain)])
    assert chosen[0] == chosen[1]
    assert [(name, source) for name, _, source in chosen[0]] == [
        ("KEY_ORGANIZATION", "org:agency.dev"),
        ("KEY_SITE", "my-site.dev"),
        ("SEEN_ORGANIZATION", "org:agency.dev"),
        ("SEEN_SITE", "my-site.dev"),
    ]


REFUSED_READS = [
    "data/sites/my-site/other/base/user:APP_SITE",
    "data/sites/my-site/other/env/dev/user:APP_SITE",
    "data/sites/my-site/ic/env/live/KEY_SITE",
    "data/sites/my-site/ic/env/dev-2/KEY_SITE",
    "data/sites/my-site/ic/env/live/user:SEEN_SITE",
    "data/sites/my-site-2/record",
    "data/sites/my-site-2/ic/base/KEY_SITE",
    "data/sites/my-site-2/ic/env/dev/KEY_SITE",
    "data/sites/neighbour/ic/base/KEY_SITE",
    "data/orgs/agency/other/base/user:APP_ORGANIZATION",
    "data/orgs/agency/ic/env/live/KEY_ORGANIZATION",
    "data/orgs/agency-2/ic/base/KEY_ORGANIZATION",
    "data/orgs/help/ic/base/KEY_ORGANIZATION",
    "data/orgs/my-site/ic/base/KEY_ORGANIZATION",
    "metadata/sites/my-site/ic/base/KEY_SITE",
    "config",
]
REFUSED_LISTS = [
    "",
    "sites",
    "sites/my-site",
    "sites/my-site/ic",
    "sites/my-site/ic/env",
    "sites/my-site/ic/env/live",
    "sites/my-site/other",
    "sites/my-site/other/base",
    "sites/my-site-2/ic/base",
    "sites/neighbour/ic/base",
    "orgs",
    "orgs/agency",
    "orgs/agency/other/base",
    "orgs/agency-2/ic/base",
    "orgs/help/ic/base",
]


@pytest.mark.parametrize("path", REFUSED_READS)
def test_a_build_reads_nothing_else(fleet: Fleet, path: str) -> None:
    """Other scopes and environments, neighbours, siblings whose names begin alike, supporting organizations."""
    assert fleet.server.status("GET", f"{fleet.mount}/{path}", fleet.tokens["build"]) == 403
    assert fleet.server.status("GET", f"{fleet.mount}/{path}", ROOT) == 200


@pytest.mark.parametrize("folder", REFUSED_LISTS)
def test_a_build_lists_nothing_else(fleet: Fleet, folder: str) -> None:
    """No parent tells it the names of others."""
    for path in (f"{fleet.mount}/metadata/{folder}", f"{fleet.mount}/metadata/{folder}/".replace("//", "/")):
        assert fleet.server.status("LIST", path, fleet.tokens["build"]) == 403
    assert fleet.server.status("LIST", f"{fleet.mount}/metadata/{folder}", ROOT) == 200


WRITES = [
    ("POST", "data/sites/my-site/ic/base/KEY_SITE", {"data": {"value": "evil"}}),
    ("POST", "data/sites/my-site/ic/base/NEW", {"data": {"value": "evil"}}),
    ("POST", "data/sites/my-site/record", {"data": {"organization": "help", "supporting": []}}),
    ("POST", "metadata/sites/my-site/ic/base/KEY_SITE", {"custom_metadata": {"type": "runtime"}}),
    ("DELETE", "data/sites/my-site/ic/base/KEY_SITE", None),
    ("DELETE", "metadata/sites/my-site/ic/base/KEY_SITE", None),
    ("POST", "destroy/sites/my-site/ic/base/KEY_SITE", {"versions": [1]}),
]


@pytest.mark.parametrize("who", ["build", "read"])
@pytest.mark.parametrize(("method", "path", "body"), WRITES, ids=lambda value: str(value).partition("{")[0])
def test_neither_a_build_nor_a_reader_writes(
    fleet: Fleet, who: str, method: str, path: str, body: dict[str, object] | None
) -> None:
    assert fleet.server.status(method, f"{fleet.mount}/{path}", fleet.tokens[who], body) == 403


@pytest.mark.parametrize("who", ["build", "manage", "read"])
@pytest.mark.parametrize("path", ["create", "create-orphan", "create/any"])
def test_nobody_makes_tokens_that_outlive_theirs(fleet: Fleet, who: str, path: str) -> None:
    assert fleet.server.status("POST", f"auth/token/{path}", fleet.tokens[who], {"policies": ["root"]}) == 403


def test_what_a_build_needs_and_may_not_read_is_no_absence(fleet: Fleet) -> None:
    """Its policy is of another environment, so the site's override is unknown: the base must not stand in for it."""
    with fleet.open("build") as store, pytest.raises(StoreDeniedError, match="env/live"):
        store.read_chain(Owner("site", "my-site"), environment="live", scope=Scope.IC, values=True)
    with fleet.open("build") as store, pytest.raises(StoreDeniedError):
        store.read_chain(Owner("site", "neighbour"), environment="dev", scope=Scope.IC, values=True)


# --- people -------------------------------------------------------------------------------------------


def test_who_manages_a_site_does_all_of_it(fleet: Fleet) -> None:
    """Set, override what is inherited, and delete, without a trace on the server."""
    owner = Owner("site", "my-site")
    with fleet.open("manage") as store:
        assert put(store, owner, "MINE", "one")
        assert not put(store, owner, "MINE", "two")
        assert store.put(Place(owner, "dev", "MINE"), Write(SecretValue("three")))
        assert store.put(Place(owner, "qa", "KEY_ORGANIZATION"), Write(SecretValue("four")))
        with pytest.raises(ImmutableError):
            put(store, owner, "MINE", "five", APPLICATION)
        assert (store.delete(Place(owner, None, "MINE")), store.delete(Place(owner, "qa", "KEY_ORGANIZATION"))) == (
            2,
            1,
        )
    for path in ("metadata/sites/my-site/ic/base/MINE", "metadata/sites/my-site/ic/env/dev/MINE"):
        assert fleet.server.status("GET", f"{fleet.mount}/{path}", ROOT) == 404


def test_who_manages_and_reads_a_site_does_both(fleet: Fleet) -> None:
    """Two policies of one token add up, in whatever order; and with those of another site."""
    other = Site("neighbour", "agency")
    for first, second in (("manage", "read"), ("read", "manage")):
        policies = [render_policy(fleet.mount, SITE, first), render_policy(fleet.mount, SITE, second)]
        fleet.tokens["both"] = make_token(fleet, *policies, render_policy(fleet.mount, other, "read"))
        with fleet.open("both") as store:
            for name, scopes in (("BUILT", BUILD), ("SHOWN", SHOWN), ("USED", APPLICATION)):
                place = Place(Owner("site", "my-site"), None, name)
                assert put(store, place.owner, name, "one", scopes)
                assert not put(store, place.owner, name, "two", scopes)
                assert store.put(place._replace(environment="dev"), Write(SecretValue("three")))
                assert store.delete(place) == 2
            assert store.read(Owner("site", "neighbour")).secrets


def test_a_token_with_a_build_s_policy_too_learns_why_it_does_not_write(fleet: Fleet) -> None:
    """The build's paths are more specific, and OpenBao adds up equal ones only."""
    policies = [render_policy(fleet.mount, SITE, purpose) for purpose in ("manage", "build")]
    fleet.tokens["both"] = make_token(fleet, *policies)
    with fleet.open("both") as store, pytest.raises(StoreDeniedError) as caught:
        put(store, Owner("site", "my-site"), "KEY_SITE", "changed")
    assert "more specific" in caught.value.hint


@pytest.mark.parametrize("purpose", ["manage", "read", "build"])
def test_who_manages_a_site_does_not_choose_its_organization(fleet: Fleet, purpose: str) -> None:
    """The policy that is printed next would open that one's secrets."""
    record = "sites/my-site/record"
    with fleet.open(purpose) as store:
        with pytest.raises(StoreDeniedError):
            store.set_site(Site("my-site", "help"))
        with pytest.raises(StoreDeniedError):
            store.delete_site("my-site")
    token = fleet.tokens[purpose]
    for method, path, body in (
        ("POST", f"data/{record}", {"data": {"organization": "help", "supporting": []}}),
        ("DELETE", f"data/{record}", None),
        ("DELETE", f"metadata/{record}", None),
        ("POST", f"metadata/{record}", {"max_versions": 1}),
    ):
        assert fleet.server.status(method, f"{fleet.mount}/{path}", token, body) == 403
    with fleet.open("root") as store:
        assert store.site("my-site") == SITE
        assert len(store.read(Owner("site", "my-site")).secrets) == 3


def make_token(fleet: Fleet, *policies: str) -> str:
    """A token with several policies."""
    names = [f"one-of-{number}" for number in range(len(policies))]
    for name, policy in zip(names, policies, strict=True):
        fleet.server.ask("PUT", f"sys/policies/acl/{name}", {"policy": policy})
    return str(fleet.server.ask("POST", "auth/token/create", {"policies": names})["auth"]["client_token"])


def test_type_and_scopes_cannot_be_changed_on_the_server(fleet: Fleet) -> None:
    """Not even by who manages the site, with another tool."""
    for path in ("ic/base/KEY_SITE", "ic/env/dev/KEY_SITE", "other/base/user:APP_SITE"):
        where = f"{fleet.mount}/metadata/sites/my-site/{path}"
        for method in ("POST", "PATCH"):
            body = {"custom_metadata": {"type": "runtime", "scopes": "ic,web,user"}}
            assert fleet.server.status(method, where, fleet.tokens["manage"], body) in {403, 405, 415}
        before = fleet.server.ask("GET", where)["data"]["custom_metadata"]
        assert before["type"] == "env"


@pytest.mark.parametrize("who", ["manage", "read"])
@pytest.mark.parametrize("path", ["sites/my-site-2", "sites/neighbour", "orgs/agency-2", "orgs/help", "orgs/my-site"])
def test_people_see_nothing_of_others(fleet: Fleet, who: str, path: str) -> None:
    kind = "SITE" if path.startswith("sites") else "ORGANIZATION"
    for method, where in (("LIST", f"metadata/{path}/ic/base"), ("GET", f"data/{path}/ic/base/KEY_{kind}")):
        assert fleet.server.status(method, f"{fleet.mount}/{where}", fleet.tokens[who]) == 403
        assert fleet.server.status(method, f"{fleet.mount}/{where}", ROOT) == 200


def test_who_manages_a_site_does_not_write_what_it_inherits(fleet: Fleet) -> None:
    body = {"data": {"value": "evil"}}
    where = f"{fleet.mount}/data/orgs/agency/ic/base/KEY_ORGANIZATION"
    assert fleet.server.status("POST", where, fleet.tokens["manage"], body) == 403
    with fleet.open("manage") as store, pytest.raises(StoreDeniedError):
        put(store, Owner("organization", "agency"), "NEW", "evil")


def test_who_reads_a_site_reads_back_what_has_the_scope_user(fleet: Fleet) -> None:
    """Rule 9, kept by the server: of the rest there is all but the value."""
    owner = Owner("site", "my-site")
    with fleet.open("read") as store, fleet.open("root") as whole:
        held, expected = store.read_chain(owner, values=True), whole.read_chain(owner, values=True)
    assert [one.value is not None for one in held[0].secrets] == [True, False, True]
    assert [shut_all(holdings) for holdings in held] == [shut_all(holdings) for holdings in expected]


def test_who_manages_a_site_reads_all_of_it_and_of_what_it_inherits_as_a_reader(fleet: Fleet) -> None:
    owner = Owner("site", "my-site")
    with fleet.open("manage") as store, fleet.open("read") as reader, fleet.open("root") as whole:
        site, organization = store.read_chain(owner, values=True)
        assert site == whole.read_chain(owner, values=True)[0]
        assert organization == reader.read_chain(owner, values=True)[1]


def shut_all(held: Holdings) -> Holdings:
    """What it is to who may not read its values back."""
    return held._replace(secrets=tuple(map(shut, held.secrets)), overrides=tuple(map(shut, held.overrides)))


def shut(item: Entry) -> Entry:
    """Without the value; the time of a change is then the server's, which may be a second later than ours."""
    return item if Scope.USER in item.scopes else item._replace(value=None, changed=0)


UNSHOWN = [
    ("read", "sites/my-site/ic/base/KEY_SITE"),
    ("read", "sites/my-site/ic/env/dev/KEY_SITE"),
    ("read", "orgs/agency/ic/base/KEY_ORGANIZATION"),
    ("manage", "orgs/agency/ic/base/KEY_ORGANIZATION"),
    ("manage", "orgs/agency/ic/env/live/KEY_ORGANIZATION"),
]


@pytest.mark.parametrize(("who", "path"), UNSHOWN)
def test_people_are_not_shown_what_has_not_the_scope_user(fleet: Fleet, who: str, path: str) -> None:
    """Neither its value nor an older one, nor the names of its parts, with any tool."""
    for way in ("data", "subkeys"):
        for more in ("", "?version=1"):
            where = f"{fleet.mount}/{way}/{path}{more}"
            assert fleet.server.status("GET", where, fleet.tokens[who]) == 403
            assert fleet.server.status("GET", where, ROOT) == 200
    assert fleet.server.status("GET", f"{fleet.mount}/metadata/{path}", fleet.tokens[who]) == 200


# --- the command --------------------------------------------------------------------------------------


def test_the_command_prints_one_policy_and_nothing_else(fleet: Fleet, cli: Cli) -> None:
    cli.home |= {"IC_SECRETS_STORE": fleet.server.url(fleet.mount), "BAO_TOKEN": ROOT}
    for words, purpose, environment in (
        (("my-site",), "build", "dev"),
        (("my-site.qa", "--for", "build"), "build", "qa"),
        (("my-site", "--for", "manage"), "manage", "dev"),
        (("my-site", "--for=read"), "read", "dev"),
    ):
        done = cli("bao", "policy", *words, check=0)
        assert done.stdout.decode() == render_policy(fleet.mount, SITE, purpose, environment)
        assert done.stderr == b""
    assert cli("bao", "policy", "unknown").returncode == 1
    assert cli("bao", "policy", "org:agency").returncode == 2
    assert cli("bao", "policy", "my-site.dev", "--for", "read").returncode == 2


def test_a_build_runs_with_its_policy_alone(fleet: Fleet, cli: Cli) -> None:
    """And inherits neither token nor store."""
    cli.home |= {"IC_SECRETS_STORE": fleet.server.url(fleet.mount), "BAO_TOKEN": fleet.tokens["build"]}
    program = 'test "$KEY_SITE" = "KEY of my-site.dev" && env | grep -c -e TOKEN -e IC_SECRETS'
    done = cli("run", "my-site", "--", "sh", "-c", program)
    assert (done.returncode, done.stdout) == (1, b"0\n"), done.stderr


def test_a_build_s_token_explains_what_a_build_gets(fleet: Fleet, cli: Cli) -> None:
    """And says that there may be more."""
    cli.home |= {"IC_SECRETS_STORE": fleet.server.url(fleet.mount), "BAO_TOKEN": fleet.tokens["build"]}
    done = cli("explain", "my-site", "KEY_SITE", check=0)
    assert b"my-site.dev" in done.stdout
    assert b"warning: the store shows us only what a build of my-site.dev gets" in done.stderr
    assert cli("explain", "my-site", "APP_SITE", check=1).stdout == b""
    cli.home["BAO_TOKEN"] = fleet.tokens["read"]
    assert cli("explain", "my-site", "APP_SITE", check=0).stderr == b""


def test_a_refused_site_starts_no_build(fleet: Fleet, cli: Cli) -> None:
    cli.home |= {"IC_SECRETS_STORE": fleet.server.url(fleet.mount), "BAO_TOKEN": fleet.tokens["build"]}
    done = cli("run", "neighbour", "--", "touch", "started")
    assert done.returncode in {1, 125}
    assert b"does not allow the token to read" in done.stderr
    assert b"bao policy" in done.stderr
    assert not (cli.cwd / "started").exists()
