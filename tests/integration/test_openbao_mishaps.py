"""What goes wrong between us and a real OpenBao server: nothing wrong is read, nor half written; all is reported."""

from __future__ import annotations

import itertools
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from bao_servers import PROGRAM, ROOT, Fault, Server, Way, running
from commandline import Cli
from ic_secrets.client.http import find_named_proxy
from ic_secrets.errors import (
    ConfigError,
    IcSecretsError,
    ImmutableError,
    StoreDeniedError,
    StoreFormatError,
    StoreMissingError,
    StoreUnreachableError,
    StoreUntrustedError,
    StoreWriteError,
    UnknownSecretError,
)
from ic_secrets.model.secret import Owner, Scope, SecretType, SecretValue, Site
from ic_secrets.stores.base import Place, Write
from ic_secrets.stores.openbao import store as openbao
from ic_secrets.stores.openbao.client import Answer, BaoClient, parse_nodes
from ic_secrets.stores.openbao.policy import render_policy
from ic_secrets.stores.openbao.store import BaoStore
from ic_secrets.stores.registry import read_variables
from servers.certificates import Authority

SITE = Owner("site", "my-site")
AGENCY = Owner("organization", "agency")
BUILD = frozenset({Scope.IC})
OLD_META = {"id": "0", "type": "env", "scopes": "ic", "created": "1"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def mount(server: Server) -> str:
    """A mount with a site and its organization, which both have a KEY."""
    mount = server.mount()
    with open_with(server.url(mount)) as store:
        store.set_site(Site("my-site", "agency"))
        for owner in (AGENCY, SITE):
            put(store, owner, "KEY", f"of {owner}")
    return mount


def open_with(url: str, **more: str) -> BaoStore:
    environment = {"BAO_TOKEN": ROOT, "IC_SECRETS_BAO_TIMEOUT": "1s", **more}
    return openbao.open_store(url, read_variables(environment), environment)


def put(store: BaoStore, owner: Owner, name: str, text: str) -> bool:
    return store.put(Place(owner, None, name), Write(SecretValue(text), type=SecretType.ENV, scopes=BUILD))


def write_three(store: BaoStore, *, delete: bool = False) -> None:
    """Something new, a change or a deletion, and something else, in one transaction."""
    with store.transaction():
        put(store, SITE, "FIRST", "new")
        if delete:
            store.delete(Place(SITE, None, "KEY"))
        else:
            put(store, SITE, "KEY", "changed")
        put(store, SITE, "LAST", "refused")


def read_values(store: BaoStore, owner: Owner = SITE) -> dict[str, SecretValue | None]:
    return {secret.name: secret.value for secret in store.read(owner).secrets}


def first(times: int, fault: Fault) -> Fault:
    """Only so many of the faults."""
    left = itertools.repeat(None, times)

    def answer(method: str, path: str) -> tuple[int, dict[str, Any]] | None:
        made = fault(method, path)
        return made if made and next(left, 0) is None else None

    return answer


def at(part: str, status: int, body: dict[str, Any] | None = None, method: str = "") -> Fault:
    """A fault of the requests whose path has that part."""
    answer = (status, {"errors": ["as planned"]} if body is None else body)
    return lambda asked, path: answer if part in path and method in ("", asked) else None


# --- reads --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 429, 500, 502])
def test_what_passes_is_waited_for(server: Server, mount: str, status: int) -> None:
    """Connections that break, a server that has too much to do: two of them are not even noticed."""
    with Way(server, first(2, at("/data/", status))) as way, open_with(f"bao+{way.address}/{mount}") as store:
        assert read_values(store) == {"KEY": SecretValue("of my-site")}


@pytest.mark.parametrize("status", [0, 500, 429, 403, 400])
@pytest.mark.parametrize("part", ["data/sites/my-site/ic", "metadata/sites/my-site/ic"])
def test_a_read_that_failed_never_falls_back_to_the_organization(
    server: Server, mount: str, status: int, part: str
) -> None:
    """Whatever the failure, and whether the list or the value failed; and it ends soon after its deadline."""
    started = time.monotonic()
    with (
        Way(server, at(part, status)) as way,
        open_with(f"bao+{way.address}/{mount}") as store,
        pytest.raises(IcSecretsError),
    ):
        store.read_chain(SITE, environment="dev", scope=Scope.IC, values=True)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("status", [200, 403, 404])
@pytest.mark.parametrize("part", ["data/sites/my-site/ic", "metadata/sites/my-site/ic", "my-site/record"])
def test_what_a_machine_in_between_says_is_no_answer(server: Server, mount: str, part: str, status: int) -> None:
    """A proxy's page, whatever its status, is neither an absence nor a refusal."""
    with (
        Way(server, at(part, status, {})) as way,
        open_with(f"bao+{way.address}/{mount}") as store,
        pytest.raises(StoreUntrustedError),
    ):
        store.read_chain(SITE, environment="dev", scope=Scope.IC, values=True)


@pytest.mark.parametrize("part", ["data/sites/my-site/ic", "metadata/sites/my-site/ic", "my-site/record"])
def test_what_a_standby_does_not_have_is_not_absent(server: Server, mount: str, part: str) -> None:
    """A node that was the active one steps down and answers 404: the one that it calls the leader is asked."""
    stepped_down: list[bool] = []

    def fault(method: str, path: str) -> tuple[int, dict[str, Any]] | None:
        if part in path:
            stepped_down.append(True)
            return 404, {"errors": []}
        if stepped_down and path == "sys/health":
            return 429, {"standby": True}
        return (200, {"leader_address": server.address}) if path == "sys/leader" else None

    with Way(server, fault) as way, open_with(f"bao+{way.address}/{mount}") as store:
        chain = store.read_chain(SITE, environment="dev", scope=Scope.IC, values=True)
    assert [secret.value for held in chain for secret in held.secrets] == [
        SecretValue("of my-site"),
        SecretValue("of org:agency"),
    ]


def test_a_standby_is_never_read(server: Server, mount: str) -> None:
    """It is left for the leader before anything is asked; where it knows none, that is an error."""
    faults = {"sys/health": (429, {}), "sys/leader": (200, {"leader_address": server.address})}
    with Way(server, lambda _, path: faults.get(path)) as way, open_with(f"bao+{way.address}/{mount}") as store:
        assert read_values(store) == {"KEY": SecretValue("of my-site")}
        assert {path for _, path in way.seen} == set(faults)
    faults["sys/leader"] = (200, {"leader_address": ""})
    with (
        Way(server, lambda _, path: faults.get(path)) as way,
        open_with(f"bao+{way.address}/{mount}") as store,
        pytest.raises(StoreUnreachableError, match="standby"),
    ):
        read_values(store)


def test_a_leader_is_not_followed_without_tls(server: Server, mount: str) -> None:
    """A token does not go to another machine in the clear because a node says so."""
    faults = {"sys/health": (429, {}), "sys/leader": (200, {"leader_address": "http://192.0.2.1:8200"})}
    with (
        Way(server, lambda _, path: faults.get(path)) as way,
        open_with(f"bao+{way.address}/{mount}") as store,
        pytest.raises(ConfigError, match="plain HTTP"),
    ):
        read_values(store)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [(503, {"sealed": True}, "is sealed"), (501, {}, "is not initialized")],
    ids=["sealed", "not-initialized"],
)
def test_a_server_that_cannot_answer_says_why_at_once(
    server: Server, mount: str, status: int, body: dict[str, Any], said: str
) -> None:
    with (
        Way(server, at("sys/health", status, body)) as way,
        open_with(f"bao+{way.address}/{mount}", IC_SECRETS_BAO_TIMEOUT="60s") as store,
        pytest.raises(StoreUnreachableError, match=said),
    ):
        read_values(store)


def test_a_soft_deleted_secret_is_deleted(server: Server, mount: str) -> None:
    """By another tool: what it leaves hinders nobody, and is gone when the name is set again."""
    path = f"{mount}/data/sites/my-site/ic/base/KEY"
    server.ask("DELETE", path)
    with open_with(server.url(mount)) as store:
        assert read_values(store) == {}
        with pytest.raises(UnknownSecretError):
            store.delete(Place(SITE, None, "KEY"))
        scopes = frozenset({Scope.IC, Scope.WEB})
        assert store.put(Place(SITE, None, "KEY"), Write(SecretValue("new"), type=SecretType.RUNTIME, scopes=scopes))
        assert read_values(store) == {"KEY": SecretValue("new")}
    found = server.ask("GET", path)["data"]["metadata"]
    assert (found["version"], found["custom_metadata"]["type"]) == (4, "runtime")  # after one, its end, and a claim


@pytest.mark.parametrize(
    ("where", "body"),
    [
        ("data", {"data": {"value": "evil"}}),
        ("data", {"data": {"value": "evil", "id": "0", "changed": 1, "expires": None}}),
        ("data", {"data": {"value": 5, "id": "0", "type": "env", "scopes": "ic", "created": 1, "changed": 1}}),
        ("data", {"data": {"value": ["a"], "id": "0", "type": 7, "scopes": {}, "created": "x", "changed": None}}),
    ],
)
def test_what_another_tool_wrote_is_no_secret(server: Server, mount: str, where: str, body: dict[str, Any]) -> None:
    """It is named, read as nothing, and `delete` removes it."""
    server.ask("POST", f"{mount}/{where}/sites/my-site/ic/base/KEY", body)
    with open_with(server.url(mount)) as store:
        with pytest.raises(StoreFormatError, match="sites/my-site/ic/base/KEY"):
            read_values(store)
        assert store.delete(Place(SITE, None, "KEY")) == 1
        assert read_values(store) == {}


@pytest.mark.parametrize(
    "meta", [{"type": "runtime"}, {"id": "0", "type": "runtime", "scopes": "web", "created": "1"}, {}]
)
def test_custom_metadata_of_another_hand_count_for_nothing(server: Server, mount: str, meta: dict[str, str]) -> None:
    """The data are whole; the next write puts its own beside them again."""
    path = f"{mount}/metadata/sites/my-site/ic/base/KEY"
    server.ask("POST", path, {"custom_metadata": meta})
    with open_with(server.url(mount)) as store:
        assert [(one.type, one.value) for one in store.read(SITE).secrets] == [
            (SecretType.ENV, SecretValue("of my-site"))
        ]
        put(store, SITE, "KEY", "again")
    assert server.ask("GET", path)["data"]["custom_metadata"]["type"] == "env"


def test_a_secret_of_an_earlier_version_is_read_and_changed(server: Server, mount: str) -> None:
    """Its type and scopes are custom metadata alone."""
    path = "sites/my-site/ic/base/OLD"
    server.ask("POST", f"{mount}/metadata/{path}", {"custom_metadata": OLD_META})
    server.ask("POST", f"{mount}/data/{path}", {"data": {"value": "old", "id": "0", "changed": 1, "expires": None}})
    with open_with(server.url(mount)) as store:
        assert read_values(store)["OLD"] == SecretValue("old")
        assert not put(store, SITE, "OLD", "new")
        assert store.read(SITE).secrets[1].created == 1
        assert read_values(store)["OLD"] == SecretValue("new")


def test_folders_of_another_tool_are_named_and_passed_over(server: Server, mount: str, cli: Cli) -> None:
    """Beside sites, organizations and environments; nothing below them is read."""
    foreign = ["sites/Bad Name", "orgs/Bad Name", "sites/my-site/ic/env/Bad_Env", "orgs/agency/other/env/Bad_Env"]
    for folder in foreign:
        for path in ("ic/base/KEY", "KEY", "record"):
            server.ask("POST", f"{mount}/data/{quote(folder)}/{path}", {"data": {"any": "thing"}})
    with open_with(server.url(mount)) as store:
        assert list(store.owners()) == [SITE, AGENCY]
        assert read_values(store) == {"KEY": SecretValue("of my-site")}
        assert read_values(store, AGENCY) == {"KEY": SecretValue("of org:agency")}
        notices = store.take_notices()
        assert sorted(notices) == sorted(
            f"{mount}/{folder}/ was not written by ic-secrets, and is left out" for folder in foreign
        )
        assert not put(store, SITE, "KEY", "changed")
        assert store.delete(Place(SITE, None, "KEY")) == 1
        assert store.take_notices() == ()
    cli.home |= {"IC_SECRETS_STORE": server.url(mount), "BAO_TOKEN": ROOT}
    done = cli("site", "list", check=0)
    assert b"my-site" in done.stdout
    assert b"Bad Name/ was not written by ic-secrets" in done.stderr


def test_a_hint_leads_to_a_command_that_works(server: Server, mount: str) -> None:
    """`ic-secrets delete` takes no name that no secret can have."""
    for name, command in (("Bad Name", "bao kv metadata delete"), ("GOOD", "ic-secrets delete")):
        path = f"{mount}/data/sites/my-site/ic/base/{quote(name)}"
        server.ask("POST", path, {"data": {"any": "thing"}})
        with open_with(server.url(mount)) as store, pytest.raises(StoreFormatError, match=name) as caught:
            read_values(store)
        assert command in caught.value.hint
        server.ask("DELETE", path.replace("/data/", "/metadata/"))


@pytest.mark.parametrize("keys", [[1, 2], "KEY", {"KEY": 1}, [None]])
def test_a_listing_that_is_none_names_its_folder(server: Server, mount: str, keys: object) -> None:
    odd = at("metadata/sites/my-site/ic/base", 200, {"data": {"keys": keys}})
    with (
        Way(server, odd) as way,
        open_with(f"bao+{way.address}/{mount}") as store,
        pytest.raises(StoreFormatError, match="sites/my-site/ic/base"),
    ):
        read_values(store)


@pytest.mark.parametrize(
    "data",
    [
        {"data": 5, "metadata": {"created_time": "x"}},
        {"data": {"value": "x"}, "metadata": {"created_time": 1, "custom_metadata": 7, "version": []}},
        {"data": ["x"], "metadata": {"created_time": 1, "custom_metadata": {"id": 7}, "version": "one"}},
    ],
)
def test_odd_json_in_the_place_of_a_secret_names_it(server: Server, mount: str, data: dict[str, Any]) -> None:
    with (
        Way(server, at("data/sites/my-site/ic/base/KEY", 200, {"data": data})) as way,
        open_with(f"bao+{way.address}/{mount}") as store,
        pytest.raises(StoreFormatError, match="sites/my-site/ic/base/KEY"),
    ):
        read_values(store)


def test_a_mount_that_deletes_versions_later_has_them_until_then(server: Server) -> None:
    """`delete_version_after`: a time of deletion in the future deletes nothing, whoever looks."""
    mount = server.mount()
    server.ask("POST", f"{mount}/config", {"delete_version_after": "1h"})
    with open_with(server.url(mount)) as store:
        store.set_site(Site("my-site"))
        put(store, SITE, "KEY", "kept")
        put(store, SITE, "KEY", "changed")
        assert read_values(store) == {"KEY": SecretValue("changed")}
    token = server.token(render_policy(mount, Site("my-site"), "read"))
    with open_with(server.url(mount), BAO_TOKEN=token) as store:
        assert read_values(store) == {"KEY": None}


# --- writes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["/metadata/", "/data/"])
def test_a_write_whose_answer_is_lost_is_done_once(server: Server, mount: str, part: str) -> None:
    """It is tried again, and found done."""
    for text in ("one", "two"):
        lost = first(1, at(f"{part}sites/my-site/ic/base/NEW", -1, method="POST"))
        with Way(server, lost) as way, open_with(f"bao+{way.address}/{mount}") as store:
            put(store, SITE, "NEW", text)
            assert read_values(store)["NEW"] == SecretValue(text)
    assert (
        server.ask("GET", f"{mount}/data/sites/my-site/ic/base/NEW")["data"]["metadata"]["version"] == 3
    )  # with the claim


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_transaction_that_fails_in_the_middle_is_taken_back(server: Server, mount: str, method: str) -> None:
    """What was new is gone without a trace, what was changed has its value again, what was deleted is back."""
    refuse = at("/base/LAST", 403, method="POST")
    with Way(server, refuse) as way, open_with(f"bao+{way.address}/{mount}") as store:
        with pytest.raises(StoreDeniedError):
            write_three(store, delete=method == "DELETE")
        assert read_values(store) == {"KEY": SecretValue("of my-site")}
    assert server.ask("LIST", f"{mount}/metadata/sites/my-site/ic/base")["data"]["keys"] == ["KEY"]


def test_what_could_not_be_taken_back_is_reported(server: Server, mount: str) -> None:
    broken: list[bool] = []

    def fault(method: str, path: str) -> tuple[int, dict[str, Any]] | None:
        if broken or ("/base/LAST" in path and method == "POST"):
            broken.append(True)
            return 500, {}
        return None

    with (
        Way(server, fault) as way,
        open_with(f"bao+{way.address}/{mount}") as store,
        pytest.raises(StoreWriteError, match="could be taken back"),
    ):
        write_three(store)


def test_who_writes_at_the_same_moment_is_not_overwritten(server: Server, mount: str) -> None:
    """Twenty writers of one secret: as many versions, and the last that was written is read."""
    count = 20
    stores = [open_with(server.url(mount), IC_SECRETS_BAO_TIMEOUT="10s") for _ in range(count)]
    failed: list[BaseException] = []

    def write(store: BaoStore, text: str) -> None:
        try:
            with store:
                put(store, SITE, "KEY", text)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(store, f"by {n}")) for n, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    found = server.ask("GET", f"{mount}/data/sites/my-site/ic/base/KEY")["data"]
    assert found["metadata"]["version"] == found["data"]["claim"] + 1 + count


def test_a_writer_that_was_given_up_for_dead_writes_nothing_any_more(server: Server, mount: str) -> None:
    """It claimed the secret, and is so slow that another, with other scopes, goes on: then it is told that it lost."""
    is_slow, other_is_done = threading.Event(), threading.Event()
    told: list[object] = []

    def fault(method: str, path: str) -> None:
        if method == "POST" and "/data/" in path and path.endswith("/ic/base/NEW"):
            if is_slow.is_set():
                other_is_done.wait(30)
            is_slow.set()  # after the claim

    def write(url: str) -> None:
        with open_with(url, IC_SECRETS_BAO_TIMEOUT="30s") as store:
            try:
                put(store, SITE, "NEW", "slow")
            except IcSecretsError as error:
                told.append(error)

    other = Write(SecretValue("quick"), SecretType.RUNTIME, frozenset({Scope.WEB}))
    with Way(server, fault) as way, open_with(server.url(mount)) as store:
        thread = threading.Thread(target=write, args=(f"bao+{way.address}/{mount}",))
        thread.start()
        assert is_slow.wait(10)
        time.sleep(0.2)
        store.put(Place(SITE, None, "NEW"), other)
        other_is_done.set()
        thread.join()
        assert [type(one) for one in told] == [ImmutableError]
        assert read_values(store)["NEW"] == SecretValue("quick")
        chain = store.read_chain(SITE, environment="dev", scope=Scope.IC, values=True)
        assert "NEW" not in [secret.name for secret in chain[0].secrets]


# --- the wrong server ---------------------------------------------------------------------------------


@pytest.mark.parametrize("do", [lambda store: store.site("my-site"), lambda store: store.set_site(Site("my-site"))])
def test_an_engine_of_version_1_is_no_store(server: Server, do: Callable[[BaoStore], object]) -> None:
    """In which every read would seem absent, and a value be written to a path of another meaning."""
    mount = server.mount("1")
    with open_with(server.url(mount)) as store, pytest.raises(StoreFormatError, match="KV version 1") as error:
        do(store)
    assert f"bao kv enable-versioning {mount}" in error.value.hint


def test_a_wrong_mount_is_reported(server: Server) -> None:
    with (
        open_with(server.url("nowhere")) as store,
        pytest.raises(StoreMissingError, match="nothing mounted"),
    ):
        store.site("my-site")


def test_a_store_in_a_namespace_works(server: Server) -> None:
    """Its health is asked outside of it, where alone a server gives it."""
    server.ask("POST", "sys/namespaces/team", {})
    inside = {"X-Vault-Namespace": "team"}
    server.ask("POST", "sys/mounts/ic", {"type": "kv", "options": {"version": "2"}}, more=inside)
    for name in ("BAO_NAMESPACE", "VAULT_NAMESPACE"):
        with open_with(server.url("ic"), **{name: "team", "IC_SECRETS_BAO_TIMEOUT": "10s"}) as store:
            store.set_site(Site("my-site"))
            put(store, SITE, "KEY", name)
            assert read_values(store) == {"KEY": SecretValue(name)}
    with open_with(server.url("ic")) as store, pytest.raises(StoreMissingError):
        read_values(store)


def test_a_server_that_is_slow_but_well_is_waited_for(server: Server, mount: str) -> None:
    """It needs longer for each answer than the first try lasts."""

    def fault(_: str, path: str) -> None:
        if "/data/" in path:
            time.sleep(2.5)

    with Way(server, fault) as way, open_with(f"bao+{way.address}/{mount}", IC_SECRETS_BAO_TIMEOUT="12s") as store:
        assert read_values(store) == {"KEY": SecretValue("of my-site")}


def test_a_proxy_of_the_environment_leads_to_a_server_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTPS_PROXY, and NO_PROXY, as the `bao` command reads them; this machine is asked without one."""
    asked = threading.Event()

    def serve(listener: socket.socket) -> None:
        line, _ = listener.accept()
        with line:
            if line.recv(4096).startswith(b"CONNECT bao.example.org:8200 "):
                asked.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")
        with (
            open_with("bao+https://bao.example.org/ic", IC_SECRETS_BAO_TIMEOUT="0.3s") as store,
            pytest.raises(StoreUnreachableError),
        ):
            store.site("my-site")
        thread.join()
    assert asked.is_set()
    monkeypatch.setenv("NO_PROXY", ".example.org")
    assert find_named_proxy(parse_nodes("https://bao.example.org")[0]) is None
    monkeypatch.setenv("NO_PROXY", "")
    assert find_named_proxy(parse_nodes("https://127.0.0.1")[0]) is None


def test_too_large_a_request_is_reported(server: Server, mount: str) -> None:
    big = at("/base/BIG", 413, {"errors": ["http: request body too large"]}, method="POST")
    with (
        Way(server, big) as way,
        open_with(f"bao+{way.address}/{mount}") as store,
        pytest.raises(StoreWriteError, match="too large"),
    ):
        put(store, SITE, "BIG", "value")


@pytest.mark.parametrize(
    "url",
    [
        "bao+http://example.org/secret",
        "bao+https://host",
        "bao+https:///secret",
        "bao+https://a:b@host/secret",
        "bao+https:x",
    ],
)
def test_a_url_that_names_no_store_is_an_error(url: str) -> None:
    with pytest.raises(ConfigError, match="URL"):
        open_with(url)


def test_one_node_that_is_well_is_enough(server: Server, mount: str) -> None:
    """Of those that the URL names, one takes no connection, and one is sealed."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with Way(server, at("sys/health", 503, {"sealed": True})) as sealed:
        names = (f"127.0.0.1:{port}", sealed.address.removeprefix("http://"), server.address.removeprefix("http://"))
        with open_with(f"bao+http://{','.join(names)}/{mount}") as store:
            assert read_values(store) == {"KEY": SecretValue("of my-site")}
        with (
            open_with(f"bao+http://{','.join(names[:2])}/{mount}") as store,
            pytest.raises(StoreUnreachableError, match=r"takes|sealed|refused"),
        ):
            store.site("my-site")


def test_a_standby_leads_nobody_away_from_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even to this machine: our token would go there in the open."""
    answers = {
        "sys/health": Answer(429, {"standby": True}),
        "sys/leader": Answer(200, {"leader_address": "http://localhost:1"}),
    }

    class Standby:
        address = parse_nodes("https://a.example.org")[0]

    client = BaoClient("https://a.example.org")
    monkeypatch.setattr(client, "_exchange", lambda _, request, *__: answers[request.path])
    with pytest.raises(StoreUntrustedError, match="without TLS"):
        client._find_leader(Standby())


def test_tls_is_verified(tmp_path: Path) -> None:
    """A certificate is trusted because BAO_CACERT names its authority, and for no other reason."""
    with running("-dev-tls", f"-dev-tls-cert-dir={tmp_path}") as server:
        secure = server.address.replace("http:", "https:")
        authority = next(tmp_path.glob("*-ca.pem"))
        with open_with(f"bao+{secure}/secret") as store:
            with pytest.raises(StoreUntrustedError, match="is not trusted") as error:
                store.site("my-site")
            assert "BAO_CACERT" in error.value.hint
        with open_with(f"bao+{secure}/secret", BAO_CACERT=str(authority)) as store:
            assert list(store.sites()) == []
        directory = tmp_path / "authorities"
        directory.mkdir()
        (directory / "any-name.pem").write_bytes(authority.read_bytes())
        with open_with(f"bao+{secure}/secret", BAO_CAPATH=str(directory)) as store:
            assert list(store.sites()) == []
        with (
            open_with(f"bao+{secure}/secret", BAO_CAPATH=str(directory), BAO_CLIENT_CERT=str(authority)) as store,
            pytest.raises(ConfigError, match="not a certificate that we can show"),
        ):
            store.site("my-site")
        with (
            open_with(f"bao+{secure}/secret", BAO_CACERT=str(tmp_path / "none.pem")) as store,
            pytest.raises(ConfigError, match=r"none\.pem"),
        ):
            store.site("my-site")


@pytest.fixture
def demanding(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server that demands a certificate, as a store, and a directory with what signs its own and one to show."""
    authority, other = Authority(), Authority("Another")
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    made = {
        "server": authority.sign(["localhost"]),
        "client": authority.sign(["builds"]),
        "locked": authority.sign(["builds"], b"a passphrase"),
        "other": other.sign(["builds"]),
    }
    for name, (certificate, key) in made.items():
        (tmp_path / f"{name}.pem").write_bytes(certificate)
        (tmp_path / f"{name}.key").write_bytes(key)
        (tmp_path / f"{name}-both.pem").write_bytes(certificate + key)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "server.hcl").write_text(
        f"""
        listener "tcp" {{
          address = "127.0.0.1:{port}"
          tls_cert_file = "{tmp_path}/server.pem"
          tls_key_file = "{tmp_path}/server.key"
          tls_client_ca_file = "{tmp_path}/ca.pem"
          tls_require_and_verify_client_cert = true
        }}
        """
    )
    with running(f"-config={tmp_path}/server.hcl"):
        yield f"bao+https://localhost:{port}/secret", tmp_path


def test_a_server_that_demands_a_certificate_is_shown_that_of_bao_client_cert(demanding: tuple[str, Path]) -> None:
    """With its key in BAO_CLIENT_KEY, or in the same file; by VAULT_CLIENT_CERT too."""
    url, directory = demanding
    for shown in (
        {"BAO_CLIENT_CERT": f"{directory}/client.pem", "BAO_CLIENT_KEY": f"{directory}/client.key"},
        {"BAO_CLIENT_CERT": f"{directory}/client-both.pem"},
        {"VAULT_CLIENT_CERT": f"{directory}/client.pem", "VAULT_CLIENT_KEY": f"{directory}/client.key"},
    ):
        with open_with(url, BAO_CACERT=f"{directory}/ca.pem", **shown) as store:
            put(store, SITE, "KEY", "v")
            assert read_values(store) == {"KEY": SecretValue("v")}


@pytest.mark.parametrize("shown", ["", "other"])
def test_a_server_that_demands_a_certificate_and_sees_none_that_it_trusts_is_an_error_with_a_hint(
    demanding: tuple[str, Path], shown: str
) -> None:
    """At once: no other try would be better."""
    url, directory = demanding
    more = {"BAO_CLIENT_CERT": f"{directory}/{shown}-both.pem"} if shown else {}
    began = time.monotonic()
    with (
        open_with(url, BAO_CACERT=f"{directory}/ca.pem", IC_SECRETS_BAO_TIMEOUT="20s", **more) as store,
        pytest.raises(StoreUntrustedError, match="certificate") as error,
    ):
        store.site("my-site")
    assert "BAO_CLIENT_CERT" in error.value.hint
    assert time.monotonic() - began < 10


def test_a_key_under_a_passphrase_is_refused_and_never_asks_for_it(demanding: tuple[str, Path]) -> None:
    url, directory = demanding
    shown = {"BAO_CLIENT_CERT": f"{directory}/locked.pem", "BAO_CLIENT_KEY": f"{directory}/locked.key"}
    with (
        open_with(url, BAO_CACERT=f"{directory}/ca.pem", **shown) as store,
        pytest.raises(ConfigError, match="not a certificate that we can show"),
    ):
        store.site("my-site")


# --- how much is asked --------------------------------------------------------------------------------


def test_a_build_of_fifty_secrets_asks_for_lists_and_then_for_values(server: Server, mount: str) -> None:
    """On a few kept connections: the record, one wave of lists, one of values; each value once."""
    with open_with(server.url(mount), IC_SECRETS_BAO_TIMEOUT="30s") as store, store.transaction():
        for number in range(25):
            put(store, SITE, f"S_{number}", "v")
            put(store, AGENCY, f"O_{number}", "v")
    with Way(server, lambda *_: None) as way, open_with(f"bao+{way.address}/{mount}") as store:
        chain = store.read_chain(SITE, environment="dev", scope=Scope.IC, values=True)
    assert sum(len(held.secrets) for held in chain) == 52
    asked = [(method, path) for method, path in way.seen if not path.startswith("sys/")]
    kinds = [method for method, _ in asked]
    lists = kinds.count("LIST")
    assert kinds == ["GET"] + ["LIST"] * lists + ["GET"] * 53
    assert len({path for method, path in asked if method == "LIST"}) == 4
    assert way.connections <= 3


def test_the_program_is_that_of_the_package() -> None:
    """These tests ask a real server."""
    done = subprocess.run([PROGRAM, "version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("OpenBao v2")


def test_an_import_asks_for_each_path_once(server: Server, mount: str) -> None:
    """With many environments too: what the lists do not name is not asked for."""
    environments = [f"env-{number}" for number in range(10)]
    with Way(server, lambda *_: None) as way, open_with(f"bao+{way.address}/{mount}") as store, store.transaction():
        for number in range(20):
            put(store, SITE, f"S_{number}", "v")
            for environment in environments:
                store.put(Place(SITE, environment, f"S_{number}"), Write(SecretValue("w")))
    written = 20 * 11
    posts = [path for method, path in way.seen if method == "POST"]
    assert len(posts) == 2 * written + 20, "metadata and data of each, and the claim of each base"
    others = [path for method, path in way.seen if method != "POST"]
    assert len(others) < 24, sorted(others)
    with Way(server, lambda *_: None) as way, open_with(f"bao+{way.address}/{mount}") as store, store.transaction():
        for number in range(20):
            put(store, SITE, f"S_{number}", "again")
    reads = [path for method, path in way.seen if method == "GET" and path.startswith(mount)]
    assert len(reads) == len(set(reads)), sorted(reads)
