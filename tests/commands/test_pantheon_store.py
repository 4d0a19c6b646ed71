"""The platform's own store over its API, against a server that keeps to its protocol and its rate limit."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from commandline import Cli
from ic_secrets.errors import (
    BaseMissingError,
    ConfigError,
    IcSecretsError,
    ImmutableError,
    NoPlaceError,
    StoreDeniedError,
    StoreError,
    StoreFormatError,
    StoreUnreachableError,
    StoreUntrustedError,
    StoreWriteError,
    UnknownSecretError,
    UnknownSiteError,
)
from ic_secrets.model.resolve import resolve
from ic_secrets.model.secret import Owner, Scope, SecretType, SecretValue, Site
from ic_secrets.stores.base import Place, Store, Write
from ic_secrets.stores.pantheon.client import PantheonClient, find_token, parse_home
from ic_secrets.stores.pantheon.store import PantheonStore, open_store
from ic_secrets.testing import ALL, BUILD, FEATURES, SITE, StoreContract, set_base
from pantheon_servers import SESSION, TOKEN, Fault, Platform, Secret, running

CANARY = "hunter2-canary"
READABLE = ("ic", "user")
WINDOW = 0.12


@pytest.fixture
def platform() -> Iterator[Platform]:
    with running(WINDOW) as platform:
        yield platform


def open_with(platform: Platform, token: str = TOKEN, site: str | None = None, deadline: float = 5.0) -> PantheonStore:
    client = PantheonClient(parse_home(platform.url), token, timeout=deadline, window=WINDOW)
    return PantheonStore(f"pantheon:{site or ''}", client, site)


@pytest.fixture
def store(platform: Platform) -> Iterator[Store]:
    with open_with(platform) as store:
        yield store


class TestPantheonStore(StoreContract):
    """The contract, as far as the platform gives it: values come back of secrets with the scope `user`."""

    lacks = frozenset(FEATURES)

    @pytest.fixture
    def store(self, platform: Platform) -> Iterator[Store]:
        self.platform = platform
        self.opened: list[PantheonStore] = []
        with open_with(platform, site="my-site") as store:
            yield store
        for again in self.opened:
            again.close()

    def reopen(self, store: Store) -> Store:
        self.opened.append(open_with(self.platform, site="my-site"))
        return self.opened[-1]


def values(store: Store, environment: str = "dev") -> dict[str, str | None]:
    chain = store.read_chain(SITE, environment=environment, scope=Scope.IC, values=True)
    return {d.name: d.value.reveal() if d.value else None for d in resolve(environment, Scope.IC, chain)}


# --- reading --------------------------------------------------------------------------------------------


def test_a_null_is_unknown_and_the_organizations_value_never_stands_in_for_it(platform: Platform, store: Store) -> None:
    """Without the scope `user` nobody can say whether the site has a value: it is the site's, and not known."""
    held = platform.secrets[platform.ids["my-site"]]
    held["HIDDEN"] = Secret("env", CANARY, ("ic",), {})
    held["SHOWN"] = Secret("env", "shown", READABLE, {"dev": "dev"})
    platform.lent["HIDDEN"] = Secret("env", "of the organization", ("ic",), {})
    platform.lent["LENT"] = Secret("env", "lent", READABLE, {})
    platform.lent["LENT_HIDDEN"] = Secret("env", "of the organization", ("ic",), {})
    assert values(store) == {"HIDDEN": None, "LENT": "lent", "LENT_HIDDEN": None, "SHOWN": "dev"}


def test_an_organization_value_that_is_given_beside_a_null_is_not_taken(platform: Platform, store: Store) -> None:
    """Should the platform show it: the site's may be hidden beside it."""
    entry = {"Type": "env", "Value": None, "Scopes": ["ic"], "EnvValues": {}, "OrgValues": {"default": CANARY}}
    platform.faults.append(Fault(200, json.dumps({"Secrets": {"KEY": entry}}).encode(), path="showall"))
    assert values(store) == {"KEY": None}


def test_a_build_takes_three_requests(platform: Platform, store: Store) -> None:
    """A session, the site's id, and all of its secrets."""
    values(store)
    assert [(one.method, one.status) for one in platform.asked] == [("POST", 200), ("GET", 200), ("GET", 200)]
    assert [one.authorization for one in platform.asked] == [None, f"Bearer {SESSION}", SESSION]


def test_an_unknown_site_is_an_error(platform: Platform, store: Store) -> None:
    with pytest.raises(UnknownSiteError):
        store.read_chain(Owner("site", "my-siet"))
    with pytest.raises(UnknownSiteError):
        list(store.sites())
    with open_with(platform, site="my-site") as only:
        assert list(only.sites()) == [Site("my-site")]
        with pytest.raises(UnknownSiteError):
            only.site("other")


def test_what_is_unknown_here_is_named_and_passed_over(platform: Platform, store: Store) -> None:
    held = platform.secrets[platform.ids["my-site"]]
    held["CERT"] = Secret("file", CANARY, READABLE, {})
    held["KEY"] = Secret("env", "v", (*READABLE, "ops"), {})
    assert values(store) == {"KEY": "v"}
    assert [text.partition(" is")[0] for text in store.take_notices()] == ["CERT", "the scope 'ops' of KEY"]


# --- writing --------------------------------------------------------------------------------------------


def test_what_is_written_is_there(platform: Platform, store: Store) -> None:
    """A new base is posted, a known one patched, an override patched by its environment, also of what is inherited."""
    held = platform.secrets[platform.ids["my-site"]]
    platform.lent["LENT"] = Secret("env", "lent", READABLE, {})
    name = "http-basic.repo.example.org:8443"
    assert set_base(store, SITE, name, "user word", SecretType.COMPOSER)
    assert held[name] == Secret("composer", "user word", ("ic",), {})
    assert not store.put(Place(SITE, None, name), Write(SecretValue("user other")))
    assert store.put(Place(SITE, "dev", name), Write(SecretValue("user third")))
    assert held[name] == Secret("composer", "user other", ("ic",), {"dev": "user third"})
    assert store.put(Place(SITE, "dev", "LENT"), Write(SecretValue("mine")))
    assert values(store)["LENT"] == "mine"
    assert store.delete(Place(SITE, None, "LENT")) == 1
    assert store.delete(Place(SITE, "dev", name)) == 1
    assert store.delete(Place(SITE, None, name)) == 1
    assert held == {}
    with pytest.raises(UnknownSecretError):
        store.delete(Place(SITE, None, name))


def test_the_rules_hold_by_our_checks(platform: Platform, store: Store) -> None:
    """Rules 3 and 6; and what the platform has no place for is refused before anything is written."""
    platform.secrets[platform.ids["my-site"]]["KEY"] = Secret("env", "v", READABLE, {})
    with pytest.raises(ImmutableError):
        store.put(Place(SITE, None, "KEY"), Write(SecretValue("w"), type=SecretType.RUNTIME))
    with pytest.raises(BaseMissingError):
        store.put(Place(SITE, "dev", "NEW"), Write(SecretValue("w")))
    with pytest.raises(NoPlaceError):
        store.put(Place(SITE, None, "KEY"), Write(SecretValue("w"), expires=1_900_000_000))
    with pytest.raises(NoPlaceError):
        set_base(store, Owner("organization", "agency"), "KEY", "w")
    assert {one.method for one in platform.asked[1:]} == {"GET"}


def test_a_secret_that_was_made_meanwhile_is_changed_only_if_it_is_the_same(platform: Platform, store: Store) -> None:
    """400 naming PATCH says that it exists: type and scopes still never change."""
    held = platform.secrets[platform.ids["my-site"]]
    empty = json.dumps({"Secrets": []}).encode()
    held["KEY"] = Secret("env", "theirs", ("ic",), {})
    platform.faults.append(Fault(200, empty, path="showall"))
    set_base(store, SITE, "KEY", "ours", SecretType.ENV, BUILD)
    assert held["KEY"].value == "ours"
    platform.faults.append(Fault(200, empty, path="showall"))
    with pytest.raises(ImmutableError):
        set_base(store, SITE, "KEY", "again", SecretType.ENV, ALL)
    assert held["KEY"].value == "ours"


def test_a_write_whose_answer_is_lost_is_done_once(platform: Platform, store: Store) -> None:
    held = platform.secrets[platform.ids["my-site"]]
    platform.faults[:] = [Fault(0, path="/showall"), Fault(0, after=True, path="/secrets")]
    set_base(store, SITE, "KEY", "v")
    assert held["KEY"] == Secret("env", "v", ("ic",), {})
    platform.faults[:] = [Fault(0, path="/showall"), Fault(0, after=True, path="/secrets/KEY")]
    assert store.delete(Place(SITE, None, "KEY")) == 1
    assert held == {}


def test_a_hidden_secret_of_the_organization_is_made_the_sites_own(platform: Platform, store: Store) -> None:
    """It looked as if the site had it: the platform says that it has not."""
    platform.lent["KEY"] = Secret("env", "lent", ("ic",), {})
    store.put(Place(SITE, None, "KEY"), Write(SecretValue("mine")))
    assert platform.secrets[platform.ids["my-site"]]["KEY"] == Secret("env", "mine", ("ic",), {})


def test_a_transaction_that_fails_in_the_middle_says_how_far_it_came(platform: Platform, store: Store) -> None:
    platform.faults.append(Fault(422, CANARY.encode(), path="/secrets/TWO"))
    platform.secrets[platform.ids["my-site"]]["TWO"] = Secret("env", "v", READABLE, {})

    def write() -> None:
        with store.transaction():
            for name in ("ONE", "TWO", "THREE"):
                set_base(store, SITE, name, CANARY, SecretType.ENV, frozenset({Scope.IC, Scope.USER}))

    with pytest.raises(StoreWriteError, match="1 of 3") as caught:
        write()
    assert CANARY not in str(caught.value) + caught.value.hint
    assert sorted(platform.secrets[platform.ids["my-site"]]) == ["ONE", "TWO"]


# --- the rate, and a server that fails ------------------------------------------------------------------


def test_three_requests_a_second_are_kept() -> None:
    """With the platform's own second: no request of eight is refused."""
    with running() as platform:
        client = PantheonClient(parse_home(platform.url), TOKEN)
        for _ in range(7):
            assert client.find_site("my-site")
        client.close()
    assert len(platform.asked) == 8
    assert platform.find_most_in_a_window() == 3
    assert {one.status for one in platform.asked} == {200}


@pytest.mark.parametrize("wait", [None, "1"], ids=["a little", "Retry-After"])
def test_a_refusal_for_too_many_requests_is_waited_out(wait: str | None, platform: Platform) -> None:
    """Others may have used the rate up: as long as Retry-After says, else a little longer each time."""
    client = PantheonClient(parse_home(platform.url), TOKEN, window=0)
    assert client.find_site("my-site")
    platform.faults.append(Fault(429, b"too many", (("Retry-After", wait),) if wait else ()))
    assert client.find_site("my-site")
    client.close()
    refused = next(one.at for one in platform.asked if one.status == 429)
    after = min(one.at for one in platform.asked if one.at > refused)
    assert after - refused >= float(wait or 0)


@pytest.mark.parametrize(
    "fault",
    [Fault(500), Fault(503), Fault(502, b"<html>"), Fault(0), Fault(429, headers=(("Retry-After", "nonsense"),))],
    ids=lambda fault: str(fault.status),
)
def test_failures_are_tried_again(fault: Fault, platform: Platform, store: Store) -> None:
    platform.faults += [fault, fault]
    assert values(store) == {}


def test_refusals_are_never_tried_again(platform: Platform, store: Store) -> None:
    values(store)
    platform.asked.clear()
    platform.faults.append(Fault(403, CANARY.encode(), path="showall"))
    with pytest.raises(StoreDeniedError) as caught:
        values(store)
    assert CANARY not in str(caught.value)
    assert "bao" not in caught.value.hint
    assert [one.status for one in platform.asked] == [403]


def test_a_session_that_ends_in_a_long_copy_is_followed_by_another(platform: Platform, store: Store) -> None:
    """One new login, then the same request; refused again, it is an error."""
    values(store)
    ended = Fault(401, CANARY.encode(), path="showall")
    platform.asked.clear()
    platform.faults.append(ended)
    assert values(store) == {}
    assert [(one.method, one.status) for one in platform.asked] == [("GET", 401), ("POST", 200), ("GET", 200)]
    platform.faults += [ended, ended]
    with pytest.raises(StoreDeniedError, match="does not accept the session") as caught:
        values(store)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("name", [".", ".."])
def test_no_name_leads_to_a_place_above(platform: Platform, store: Store, name: str) -> None:
    """`DELETE …/secrets/..` would be asked of the site itself."""
    platform.secrets[platform.ids["my-site"]][name] = Secret("runtime", "v", READABLE, {"dev": "v"})
    before = len(platform.asked)
    for environment in (None, "dev"):
        place = Place(SITE, environment, name)
        with pytest.raises(IcSecretsError):
            store.delete(place)
        with pytest.raises(IcSecretsError):
            store.put(place, Write(SecretValue("w"), SecretType.RUNTIME, frozenset({Scope.IC, Scope.USER})))
    assert {one.method for one in platform.asked[before:]} <= {"GET", "POST"}
    assert not any(one.path.endswith(name) for one in platform.asked)


def test_a_wrong_machine_token_is_refused_at_once(platform: Platform) -> None:
    with open_with(platform, CANARY) as store, pytest.raises(StoreDeniedError) as caught:
        values(store)
    assert len(platform.asked) == 1
    assert CANARY not in str(caught.value) + caught.value.hint


def test_what_stays_broken_ends_within_the_time_that_is_set(platform: Platform) -> None:
    """Also where Retry-After asks for more than that."""
    for fault in (Fault(503), Fault(429, headers=(("Retry-After", "3600"),))):
        platform.faults[:] = [fault] * 50
        started = time.monotonic()
        with open_with(platform, deadline=0.6) as store, pytest.raises(StoreUnreachableError):
            values(store)
        assert time.monotonic() - started < 3


def test_a_server_that_takes_its_time_is_given_up() -> None:
    """A byte now and then does not keep us: a try has two seconds in all."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def drip() -> None:
        line, _ = listener.accept()
        with line:
            line.recv(65536)
            while not ended.wait(0.2):
                try:
                    line.send(b"H")
                except OSError:
                    return

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    client = PantheonClient(parse_home(f"http://127.0.0.1:{listener.getsockname()[1]}"), TOKEN, timeout=0.1)
    started = time.monotonic()
    with pytest.raises(StoreUnreachableError):
        client.find_site("my-site")
    assert time.monotonic() - started < 4
    ended.set()
    thread.join()
    listener.close()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(302, headers=(("Location", "http://127.0.0.1:9/x"),)), StoreUnreachableError),
        (Fault(200, b"{" + CANARY.encode()), StoreFormatError),
        (Fault(200, b"[]"), StoreFormatError),
        (Fault(200, b"[" * 100_000), StoreFormatError),
        (Fault(200, b'{"Secrets": 1}'), StoreFormatError),
        (Fault(200, b'{"a": "' + b"x" * (16 << 20) + b'"}'), StoreFormatError),
        (Fault(400, CANARY.encode()), StoreFormatError),
        (Fault(404, CANARY.encode()), StoreFormatError),
        (Fault(418, CANARY.encode()), StoreError),
    ],
    ids=["redirect", "malformed", "list", "deep", "shape", "huge", "400", "404", "418"],
)
def test_an_answer_that_is_none_is_an_error_and_no_absence(
    fault: Fault, error: type[StoreError], platform: Platform, store: Store
) -> None:
    """Nothing that the server says is shown: it may repeat a value."""
    platform.faults.append(fault._replace(path="showall"))
    with pytest.raises(error) as caught:
        values(store)
    assert CANARY not in str(caught.value) + caught.value.hint
    assert values(store) == {}


def test_a_redirect_carries_the_session_nowhere(platform: Platform, store: Store) -> None:
    with running() as other:
        location = (("Location", f"{other.url}/v0/site-names/my-site"),)
        platform.faults.append(Fault(307, headers=location, path="site-names"))
        with pytest.raises(StoreUnreachableError):
            values(store)
        assert other.asked == []


def test_only_this_machine_is_asked_without_tls(platform: Platform) -> None:
    for url in ("http://api.example.org", "ftp://127.0.0.1", "https://user@api.example.org", "https://", "x"):
        with pytest.raises(ConfigError):
            parse_home(url)
    assert str(parse_home("https://api.example.org/base/")) == "https://api.example.org:443/base"
    port = platform.url.rpartition(":")[2]
    client = PantheonClient(parse_home(f"https://127.0.0.1:{port}"), TOKEN, timeout=2)
    with pytest.raises(StoreUntrustedError, match="TLS") as caught:
        client.find_site("my-site")
    assert "BAO" not in caught.value.hint


def test_the_machine_token_comes_from_a_variable_or_a_file(tmp_path: Path) -> None:
    """Plain, or as Terminus keeps it; never one that would add a line to a request."""
    (tmp_path / "plain").write_text(f"{TOKEN}\n")
    (tmp_path / "terminus").write_text(json.dumps({"token": TOKEN, "email": "me@example.org"}))
    for name in ("plain", "terminus"):
        assert find_token(lambda _, name=name: str(tmp_path / name), {}) == TOKEN  # type: ignore[misc]
    for variable in ("IC_SECRETS_PANTHEON_TOKEN", "TERMINUS_TOKEN"):
        assert find_token(lambda _: None, {variable: TOKEN}) == TOKEN
    (tmp_path / "broken").write_text('{"token": "' + CANARY)
    for environment, path in (
        ({}, None),
        ({}, "none"),
        ({}, "broken"),
        ({"TERMINUS_TOKEN": f"{CANARY}\nX: y"}, None),
    ):
        with pytest.raises(ConfigError) as caught:
            find_token(lambda _, path=path: str(tmp_path / path) if path else None, environment)  # type: ignore[misc]
        assert CANARY not in str(caught.value)


def test_a_store_opens_without_a_request(platform: Platform) -> None:
    environment = {name: value for name, value in platform.environment().items() if name != "IC_SECRETS_STORE"}
    ask = {"pantheon-url": platform.url}.get
    open_store("pantheon:my-site", ask, environment).close()
    assert platform.asked == []
    for url, more in (("pantheon:My_Site", {}), ("pantheon:", {"pantheon-timeout": "soon"})):
        with pytest.raises(IcSecretsError):
            open_store(url, {"pantheon-url": platform.url, **more}.get, environment)


# --- commands -------------------------------------------------------------------------------------------


def test_a_build_runs_from_the_platform_and_knows_nothing_of_the_token(cli: Cli, tmp_path: Path) -> None:
    with running() as platform:
        held = platform.secrets[platform.ids["my-site"]]
        held["SHOWN"] = Secret("env", CANARY, READABLE, {})
        cli.home |= platform.environment() | {"TERMINUS_TOKEN": TOKEN}
        done = cli("run", "my-site.dev", "--", "sh", "-c", "echo $SHOWN; env", check=0)
        assert done.stdout.startswith(b"***\n")
        assert CANARY.encode() not in done.stdout + done.stderr
        assert TOKEN.encode() not in done.stdout + done.stderr
        held["HIDDEN"] = Secret("env", CANARY, ("ic",), {})
        done = cli("run", "my-site.dev", "--", "touch", tmp_path / "started", check=125)
        assert b"HIDDEN" in done.stderr
        assert b"SHOWN" not in done.stderr
        assert b"HIDDEN" in cli("plan", "my-site.dev", check=1).stdout
        assert not (tmp_path / "started").exists()


def test_a_signal_ends_a_build_that_waits(cli: Cli, tmp_path: Path) -> None:
    """It is waiting for a platform that has had enough for an hour: nothing was exposed."""
    with running() as platform:
        platform.faults[:] = [Fault(429, headers=(("Retry-After", "20"),))] * 9
        cli.home |= platform.environment()
        with cli.start("run", "my-site.dev", "--", "touch", tmp_path / "started") as process:
            until = time.monotonic() + 30
            while not platform.asked and time.monotonic() < until:
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == 143
    assert not (tmp_path / "started").exists()


def test_a_site_is_pushed_and_what_the_platform_has_no_place_for_is_named(cli: Cli, tmp_path: Path) -> None:
    """Its secrets and overrides, not its organization's; pushed again, what people may read is the same."""
    cli.home |= {"IC_SECRETS_STORE": str(tmp_path / "store.db"), "IC_SECRETS_KEY_FILE": str(tmp_path / "key")}
    cli("init", check=0)
    cli("site", "set", "my-site", "--org", "agency", check=0)
    cli("set", "my-site", "SHOWN", "--type", "env", "--scope", "ic,user", stdin=CANARY.encode(), check=0)
    cli("set", "my-site.dev", "SHOWN", stdin=b"other", check=0)
    cli("set", "my-site", "HIDDEN", "--type", "env", "--scope", "ic", stdin=CANARY.encode(), check=0)
    cli("set", "org:agency", "LENT", "--type", "env", "--scope", "ic", stdin=CANARY.encode(), check=0)
    with running() as platform:
        cli.home |= {name: value for name, value in platform.environment().items() if name != "IC_SECRETS_STORE"}
        done = cli("copy", "--to", "pantheon:my-site", check=0)
        held = platform.secrets[platform.ids["my-site"]]
        assert held == {
            "HIDDEN": Secret("env", CANARY, ("ic",), {}),
            "SHOWN": Secret("env", CANARY, READABLE, {"dev": "other"}),
        }
        assert platform.find_most_in_a_window() <= 3
        assert b"1 owner: 3 values made" in done.stderr
        assert b"1 value changed, 1 site and 2 values same" in cli("copy", "--to", "pantheon:my-site", check=0).stderr
        cli("set", "my-site", "ENDS", "--type", "env", "--scope", "ic", "--expires", "2099-01-01", stdin=b"v", check=0)
        done = cli("copy", tmp_path / "store.db", "pantheon:my-site", check=1)
        assert b"my-site ENDS was not copied: " in done.stderr
        assert "ENDS" not in held
        assert CANARY.encode() not in done.stdout + done.stderr
        assert cli("copy", "--to", "pantheon:", check=1).stderr.startswith(b"error: `copy` writes to one site")
        assert b"no site other" in cli("copy", "--to", "pantheon:other", check=1).stderr


def test_a_site_is_copied_to_a_file_and_back(cli: Cli, tmp_path: Path) -> None:
    """A copy from a file leaves the organizations of the site as they are."""
    cli.home |= {"IC_SECRETS_STORE": str(tmp_path / "store.db"), "IC_SECRETS_KEY_FILE": str(tmp_path / "key")}
    cli("init", check=0)
    cli("site", "set", "my-site", "--org", "agency", check=0)
    cli("set", "my-site", "KEY", "--type", "env", "--scope", "ic", stdin=CANARY.encode(), check=0)
    url = f"pantheon-file:{tmp_path}/secrets.json?site=my-site"
    cli("copy", "--to", url, check=0)
    assert json.loads((tmp_path / "secrets.json").read_text())["Secrets"]["KEY"]["Value"] == CANARY
    cli("delete", "my-site", "KEY", check=0)
    cli("copy", url, tmp_path / "store.db", check=0)
    shown = json.loads(cli("site", "show", "my-site", "--json", check=0).stdout)
    assert "agency" in json.dumps(shown)
    assert cli("run", "my-site", "--", "sh", "-c", 'test -n "$KEY"', check=0).returncode == 0
    assert cli("copy", "--to", f"pantheon-file:{tmp_path}/x.json", check=1).stderr.startswith(b"error: `copy` has to")
