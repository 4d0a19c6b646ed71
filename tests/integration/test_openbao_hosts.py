"""The hosts of a secret on a real OpenBao server: whatever is cut off, and whoever else writes, it stays bound."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from bao_servers import ROOT, Server, Way, running
from ic_secrets.errors import IcSecretsError, NotReadableError, StoreFormatError
from ic_secrets.model.secret import Hosts, Owner, Scope, SecretType, SecretValue, Site
from ic_secrets.stores.base import Place, Write
from ic_secrets.stores.openbao import store as openbao
from ic_secrets.stores.openbao.policy import render_policy
from ic_secrets.stores.openbao.store import BaoStore
from ic_secrets.stores.registry import read_variables

SITE = Owner("site", "my-site")
KEY = Place(SITE, None, "KEY")
PATH = "sites/my-site/ic/base/KEY"
ONE: Hosts = ("a.example.com",)
TWO: Hosts = ("b.example.com", "c.example.com:8443")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as server:
        yield server


def make_mount(server: Server, hosts: Hosts = ONE) -> str:
    """A mount with a secret that is bound to these hosts."""
    mount = server.mount()
    with open_with(server.url(mount)) as store:
        store.set_site(Site("my-site"))
        store.put(KEY, Write(SecretValue("v"), SecretType.ENV, frozenset({Scope.IC}), hosts=hosts))
    return mount


def open_with(url: str, token: str = ROOT) -> BaoStore:
    environment = {"BAO_TOKEN": token, "IC_SECRETS_BAO_TIMEOUT": "1s"}
    return openbao.open_store(url, read_variables(environment), environment)


def read_hosts(server: Server, mount: str, token: str = ROOT) -> Hosts:
    with open_with(server.url(mount), token) as store:
        return store.read(SITE).secrets[0].hosts


def write_as_before(server: Server, mount: str) -> None:
    """Write a value as an ic-secrets does that knows of no hosts: those in the data go."""
    data = server.ask("GET", f"{mount}/data/{PATH}")["data"]["data"]
    data.pop("hosts", None)
    server.ask("POST", f"{mount}/data/{PATH}", {"data": {**data, "value": "newer"}})


@pytest.mark.parametrize(("before", "after"), [((), ONE), (ONE, TWO), (TWO, ())])
@pytest.mark.parametrize("is_lost", [False, True])
def test_a_change_that_is_cut_off_unbinds_nothing(server: Server, before: Hosts, after: Hosts, is_lost: bool) -> None:
    """After each request of it, done or not: nobody sees other hosts than those before or after it.

    Also where an ic-secrets that knows of no hosts writes a value then; it can at most leave a secret bound.
    """
    for last in itertools.count():
        mount = make_mount(server, before)
        passed = itertools.count()

        def fault(method: str, path: str, last: int = last, passed: Iterator[int] = passed) -> Any:
            is_cut = method != "GET" and method != "LIST" and "auth/" not in path and next(passed) >= last
            return (-1 if is_lost else 0, {}) if is_cut else None

        is_done = False
        with (
            Way(server, fault) as way,
            open_with(f"bao+{way.address}/{mount}") as store,
            contextlib.suppress(IcSecretsError),
        ):
            store.bind(SITE, "KEY", after)
            is_done = True
        found = read_hosts(server, mount)
        assert found == after if is_done else found in (before, after)
        write_as_before(server, mount)
        assert read_hosts(server, mount) in {before, after} - ({()} if found else set())
        if is_done:
            return


def test_a_value_of_an_earlier_version_leaves_the_secret_bound(server: Server) -> None:
    """And the next change of ours is in the data again. Unbound, it stays so."""
    mount = make_mount(server)
    write_as_before(server, mount)
    assert read_hosts(server, mount) == ONE
    for hosts in (TWO, ()):
        with open_with(server.url(mount)) as store:
            store.bind(SITE, "KEY", hosts)
        assert read_hosts(server, mount) == hosts
        write_as_before(server, mount)
        assert read_hosts(server, mount) == hosts


def test_what_others_keep_beside_a_secret_stays(server: Server) -> None:
    """Custom metadata of another hand are not ours to take away."""
    mount = make_mount(server)
    where = f"{mount}/metadata/{PATH}"
    meta = server.ask("GET", where)["data"]["custom_metadata"]
    server.ask("POST", where, {"custom_metadata": {**meta, "contact": "alice"}})
    for hosts in (TWO, ()):
        with open_with(server.url(mount)) as store:
            store.bind(SITE, "KEY", hosts)
        found = server.ask("GET", where)["data"]["custom_metadata"]
        assert (found["contact"], found.get("hosts", "")) == ("alice", ",".join(hosts))


def test_hosts_that_another_tool_wrote_are_checked(server: Server) -> None:
    mount = make_mount(server)
    data = server.ask("GET", f"{mount}/data/{PATH}")["data"]["data"]
    for hosts in ("*.example.com", "https://a.example.com", 7, ["a.example.com"]):
        server.ask("POST", f"{mount}/data/{PATH}", {"data": {**data, "hosts": hosts}})
        with pytest.raises(StoreFormatError, match=PATH):
            read_hosts(server, mount)


def test_who_manages_a_site_changes_hosts_and_who_may_not_read_the_value_does_not(server: Server) -> None:
    """The printed policies let nobody change custom metadata: then the data have the hosts that count."""
    mount = make_mount(server)
    manage = server.token(render_policy(mount, Site("my-site"), "manage"))
    read = server.token(render_policy(mount, Site("my-site"), "read"))
    with open_with(server.url(mount), manage) as store:
        store.bind(SITE, "KEY", TWO)
    assert [read_hosts(server, mount, token) for token in (ROOT, manage)] == [TWO, TWO]
    with open_with(server.url(mount), read) as store, pytest.raises(NotReadableError, match="with which its hosts"):
        store.bind(SITE, "KEY", ONE)
    build = server.token(render_policy(mount, Site("my-site"), "build"))
    with open_with(server.url(mount), build) as store:
        chain = store.read_chain(SITE, environment="dev", scope=Scope.IC, values=True)
    assert chain[0].secrets[0].hosts == TWO
