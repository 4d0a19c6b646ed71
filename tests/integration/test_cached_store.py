"""When a cache is used, for how long, and what makes it none; the servers are real ones."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bao_servers import ROOT, Fault, Server, Way, running
from children import NOBODY, fork, run_in_child, wait
from ic_secrets.errors import (
    ConfigError,
    IcSecretsError,
    StoreDeniedError,
    StoreFormatError,
    StoreMissingError,
    StoreUnreachableError,
    StoreUntrustedError,
    UnknownSiteError,
)
from ic_secrets.keys.sealing import MasterKey
from ic_secrets.model.resolve import resolve
from ic_secrets.model.secret import Owner, Scope, SecretType, SecretValue, Site, Target
from ic_secrets.stores import cache as cached
from ic_secrets.stores.base import Place, Store, Write
from ic_secrets.stores.cache import CachedStore, TargetCache
from ic_secrets.stores.embedded import store as local
from ic_secrets.stores.openbao import store as openbao
from ic_secrets.stores.registry import read_variables
from ic_secrets.testing import StoreContract

KEY, OTHER_KEY = MasterKey(bytes(range(32))), MasterKey(bytes(32))
SITE, AGENCY = Owner("site", "my-site"), Owner("organization", "agency")
DEV = Target("my-site", "dev")
NOW = 1_800_000_000
HOUR = 3600
PLACE = ("bao+https://bao.example.org/ic", "")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def mount(server: Server) -> str:
    """A site and its organization: a base and an override each for dev and live, and what no build reads."""
    mount = server.mount()
    with open_bao(server.address, mount, deadline="20s") as store, store.transaction():
        store.set_site(Site("my-site", "agency", ("help",)))
        for owner in (SITE, AGENCY):
            for scope, name in ((Scope.IC, "KEY"), (Scope.WEB, "APP"), (Scope.IC, f"ONLY_{owner.kind[:4].upper()}")):
                store.put(
                    Place(owner, None, name),
                    Write(SecretValue(f"{owner} {name}"), type=SecretType.ENV, scopes=frozenset({scope})),
                )
            for environment in ("dev", "live"):
                store.put(Place(owner, environment, "KEY"), Write(SecretValue(f"{owner}.{environment}"), expires=NOW))
    return mount


def open_bao(address: str, mount: str, *, deadline: str = "0.3s", **more: str) -> openbao.BaoStore:
    environment = {"BAO_TOKEN": ROOT, "IC_SECRETS_BAO_TIMEOUT": deadline, **more}
    return openbao.open_store(f"bao+{address}/{mount}", read_variables(environment), environment)


def make_cache(directory: Path, *, now: float = NOW, key: MasterKey = KEY, target: Target = DEV) -> TargetCache:
    return TargetCache(str(directory / "secrets"), PLACE, target, [key], HOUR, lambda: now)


def read(store: CachedStore, environment: str = "dev") -> dict[str, str]:
    """What a build gets, by name."""
    chain = store.read_chain(SITE, environment=environment, scope=Scope.IC, values=True)
    return {one.name: one.value.reveal() for one in resolve(environment, Scope.IC, chain) if one.value}


GIVEN = {"KEY": "my-site.dev", "ONLY_ORGA": "org:agency ONLY_ORGA", "ONLY_SITE": "my-site ONLY_SITE"}


@pytest.fixture
def filled(server: Server, mount: str, tmp_path: Path) -> Path:
    """The directory of a cache that was filled at NOW."""
    with cached.open_store(lambda: open_bao(server.address, mount, deadline="20s"), make_cache(tmp_path)) as store:
        assert read(store) == GIVEN
        assert store.cached is None
    return tmp_path


def ask_broken(cache: TargetCache) -> CachedStore:
    """A store whose server is nowhere: nobody listens at that port."""
    return cached.open_store(lambda: open_bao("http://127.0.0.1:9", "ic"), cache)


def find_hint(cache: TargetCache) -> str:
    """Why the cache is not used."""
    with ask_broken(cache) as store, pytest.raises(StoreUnreachableError, match="does not answer") as caught:
        read(store)
    return caught.value.hint


# --- what is kept -------------------------------------------------------------------------------------


def test_what_was_given_is_given_again_and_no_more(filled: Path) -> None:
    """With types, scopes, versions, times and overrides as they were; of other scopes and environments nothing."""
    with ask_broken(make_cache(filled, now=NOW + HOUR)) as store:
        assert read(store) == GIVEN
        assert store.cached is not None
        assert store.cached.moment == NOW
        assert "does not answer" in store.cached.reason
        site, agency = store.read_chain(SITE, environment="dev", scope=Scope.IC, values=True)
        assert {one.name for one in site.secrets} == {"KEY", "ONLY_SITE"}
        assert [(one.environment, one.expires) for one in site.overrides] == [("dev", NOW)]
        assert agency.owner == AGENCY
        for other in (AGENCY, Owner("site", "another")):
            with pytest.raises(StoreUnreachableError):
                store.read_chain(other)


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.site("my-site"),
        lambda store: store.sites(),
        lambda store: store.owners(),
        lambda store: store.read(SITE),
        lambda store: store.set_site(Site("my-site")),
        lambda store: store.put(Place(SITE, "dev", "KEY"), Write(SecretValue("v"))),
        lambda store: store.delete(Place(SITE, None, "KEY")),
        lambda store: store.delete_site("my-site"),
    ],
    ids=["site", "sites", "owners", "read", "set_site", "put", "delete", "delete_site"],
)
def test_only_a_build_is_answered_from_it(filled: Path, call: Callable[[Store], object]) -> None:
    with ask_broken(make_cache(filled)) as store:
        read(store)
        with pytest.raises(StoreUnreachableError):
            call(store)


def test_a_new_answer_takes_the_place_of_the_old(server: Server, mount: str, filled: Path) -> None:
    with cached.open_store(
        lambda: open_bao(server.address, mount, deadline="20s"), make_cache(filled, now=NOW + 2 * HOUR)
    ) as store:
        read(store)
    with ask_broken(make_cache(filled, now=NOW + 2 * HOUR)) as store:
        read(store)
        assert store.cached
        assert store.cached.moment == NOW + 2 * HOUR
    assert len(list((filled / "secrets").iterdir())) == 1


def test_each_target_has_its_own(server: Server, mount: str, filled: Path) -> None:
    live = Target("my-site", "live")
    with cached.open_store(
        lambda: open_bao(server.address, mount, deadline="20s"), make_cache(filled, target=live)
    ) as store:
        read(store, "live")
    with ask_broken(make_cache(filled, target=live)) as store:
        assert read(store, "live")["KEY"] == "my-site.live"
    with ask_broken(make_cache(filled)) as store:
        assert read(store)["KEY"] == "my-site.dev"


# --- which failures are outages -----------------------------------------------------------------------


REFUSED = {"errors": ["permission denied"]}


def at(part: str, status: int, body: dict[str, Any] | None = None) -> Fault:
    return lambda _, path: (status, body or {}) if part in path else None


OUTAGES = {
    "connection-broken": at("", 0),
    "answer-lost": at("/data/sites/my-site/ic", -1),
    "sealed": at("sys/health", 503, {"sealed": True}),
    "not-initialized": at("sys/health", 501),
    "standby-without-leader": at("sys/", 429, {"leader_address": ""}),
    "too-busy": at("/data/sites/my-site/ic", 429),
    "500": at("metadata/sites/my-site/ic", 500),
    "502": at("", 502),
    "503": at("my-site/record", 503),
}


@pytest.mark.parametrize("name", OUTAGES)
def test_an_outage_is_one(server: Server, mount: str, filled: Path, name: str) -> None:
    """Wherever in a build's reads it comes: nothing is put together of what was read and what was kept."""
    with (
        Way(server, OUTAGES[name]) as way,
        cached.open_store(lambda: open_bao(way.address, mount, deadline="1s"), make_cache(filled)) as store,
    ):
        assert read(store) == GIVEN
        assert store.cached is not None
        seen = len(way.seen)
        assert read(store) == GIVEN
        assert len(way.seen) == seen


def test_a_host_that_is_not_found_is_an_outage(filled: Path) -> None:
    """As it is on a laptop whose VPN is down."""
    cache = make_cache(filled)
    with cached.open_store(lambda: open_bao("https://bao.invalid", "ic"), cache) as store:
        assert read(store) == GIVEN


ANSWERS = {
    "denied": (at("/data/sites/my-site/ic", 403, REFUSED), StoreDeniedError),
    "may-not-list": (at("metadata/sites/my-site/ic", 403, REFUSED), StoreDeniedError),
    "token-unknown": (lambda _, path: None if path.startswith("sys/") else (403, REFUSED), StoreDeniedError),
    "site-unknown": (at("/data/sites/my-site/record", 404, {"errors": []}), UnknownSiteError),
    "nothing-mounted": (at("my-site/record", 404, {"errors": ["no handler for route x"]}), StoreMissingError),
    "no-secret": (
        at("/data/sites/my-site/ic", 200, {"data": {"data": {"value": "v"}, "metadata": {"version": 1}}}),
        StoreFormatError,
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_believed_and_the_cache_is_gone(server: Server, mount: str, filled: Path, name: str) -> None:
    fault, kind = ANSWERS[name]
    with (
        Way(server, fault) as way,
        cached.open_store(lambda: open_bao(way.address, mount, deadline="1s"), make_cache(filled)) as store,
    ):
        with pytest.raises(kind):
            read(store)
        assert store.cached is None
    assert list((filled / "secrets").iterdir()) == []
    assert "has nothing of my-site.dev" in find_hint(make_cache(filled))


def test_what_cannot_prove_to_be_the_server_is_no_outage(filled: Path, tmp_path: Path) -> None:
    """A certificate that nobody trusts, a port that speaks no TLS: somebody is there. The cache is kept, unused."""
    cache = make_cache(filled)
    with running("-dev-tls", f"-dev-tls-cert-dir={tmp_path}") as other:
        secure = other.address.replace("http:", "https:")
        with cached.open_store(lambda: open_bao(secure, "secret"), cache) as store:
            with pytest.raises(StoreUntrustedError, match="is not trusted"):
                read(store)
            assert store.cached is None
    with running() as other:
        plain = other.address.replace("http:", "https:")
        with (
            cached.open_store(lambda: open_bao(plain, "secret"), cache) as store,
            pytest.raises(StoreUntrustedError, match="does not speak TLS"),
        ):
            read(store)
    with ask_broken(cache) as store:
        assert read(store) == GIVEN


@pytest.mark.parametrize("status", [200, 401, 403, 404, 451])
def test_a_refusal_on_the_way_is_no_outage(server: Server, mount: str, filled: Path, status: int) -> None:
    """A gateway before the server, which has its own reasons: nobody knows what the server would say."""
    with (
        Way(server, at("my-site/record", status, {})) as way,
        cached.open_store(lambda: open_bao(way.address, mount, deadline="1s"), make_cache(filled)) as store,
    ):
        with pytest.raises(StoreUntrustedError, match=f"status {status}|the status {status}"):
            read(store)
        assert store.cached is None
    assert len(list((filled / "secrets").iterdir())) == 1


def test_a_mistake_of_our_own_neither_uses_nor_loses_it(filled: Path) -> None:
    def open_it() -> Store:
        environment: dict[str, str] = {}
        return openbao.open_store("bao+http://127.0.0.1:9/ic", read_variables(environment), environment)

    with pytest.raises(ConfigError, match="no OpenBao credentials"):
        cached.open_store(open_it, make_cache(filled))
    with ask_broken(make_cache(filled)) as store:
        assert read(store) == GIVEN


def test_an_error_of_what_no_build_reads_is_not_about_the_build(server: Server, mount: str, filled: Path) -> None:
    """A build's token may not list other scopes; that takes nothing from it."""
    with (
        Way(server, at("/other", 403, REFUSED)) as way,
        cached.open_store(lambda: open_bao(way.address, mount, deadline="1s"), make_cache(filled)) as store,
    ):
        with pytest.raises(StoreDeniedError):
            store.read_chain(SITE)
        assert len(list((filled / "secrets").iterdir())) == 1


# --- for how long -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("later", "said", "is_left"),
    [(HOUR, "", True), (HOUR + 1, "was 60 minutes old; `cache` allows 60 minutes", False), (-1, "clock", True)],
    ids=["in-time", "too-old", "clock-put-back"],
)
def test_a_cache_has_its_time(filled: Path, later: int, said: str, is_left: bool) -> None:
    """By the time that is sealed in it: the file's own may say what it likes."""
    (file,) = (filled / "secrets").iterdir()
    os.utime(file, (NOW + later, NOW + later))
    cache = make_cache(filled, now=NOW + later)
    if said:
        assert said in find_hint(cache)
    else:
        with ask_broken(cache) as store:
            assert read(store) == GIVEN
    assert file.exists() is is_left


def test_a_build_sweeps_what_others_left(server: Server, mount: str, filled: Path) -> None:
    """Those too old, and a file that somebody was killed over; those in time, and other files, stay."""
    directory = filled / "secrets"
    for name, age in (("a" * 32 + ".sealed", HOUR + 1), ("b" * 32 + ".sealed", 60), ("notes", HOUR + 1)):
        (directory / name).write_text("x")
        os.utime(directory / name, (NOW - age, NOW - age))
    (directory / ("c" * 32 + ".sealed.new")).write_text("x")
    with cached.open_store(lambda: open_bao(server.address, mount, deadline="20s"), make_cache(filled)) as store:
        read(store)
    assert {path.name for path in directory.iterdir()} == {
        "b" * 32 + ".sealed",
        "notes",
        Path(make_cache(filled).path).name,
    }


# --- what makes it none -------------------------------------------------------------------------------


def _flip(data: bytes) -> bytes:
    at = data.index(b"KEY")
    return data[:at] + b"k" + data[at + 1 :]


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "time": lambda data: data.replace(str(NOW).encode() + b"\n", str(NOW + 9).encode() + b"\n", 1),
    "name": _flip,
    "line-gone": lambda data: b"\n".join(data.split(b"\n")[:2] + data.split(b"\n")[3:]),
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda _: b"",
    "foreign": lambda _: b"not ours\n",
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_cache_that_was_tampered_with_is_none(filled: Path, name: str) -> None:
    (file,) = (filled / "secrets").iterdir()
    file.write_bytes(CHANGES[name](file.read_bytes()))
    assert "the cache cannot be used either" in find_hint(make_cache(filled))


def test_the_cache_of_another_target_or_store_is_none(filled: Path) -> None:
    """Put in the place of ours by somebody; its seal is right."""
    other = make_cache(filled, target=Target("my-site", "live"))
    shutil.copy(make_cache(filled).path, other.path)
    assert "is another one's" in find_hint(other)
    elsewhere = TargetCache(str(filled / "secrets"), ("bao+https://other/ic", ""), DEV, [KEY], HOUR, lambda: NOW)
    assert "has nothing" in find_hint(elsewhere)


def test_another_key_opens_nothing(filled: Path) -> None:
    assert f"is sealed with the key {KEY.id}" in find_hint(make_cache(filled, key=OTHER_KEY))


def test_while_a_key_is_rotated_both_open(filled: Path) -> None:
    cache = TargetCache(str(filled / "secrets"), PLACE, DEV, [OTHER_KEY, KEY], HOUR, lambda: NOW)
    with ask_broken(cache) as store:
        assert read(store) == GIVEN


def _make_link(file: Path) -> None:
    file.rename(file.with_suffix(".elsewhere"))
    file.symlink_to(file.with_suffix(".elsewhere"))


def _make_fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


def _make_directory_link(file: Path) -> None:
    file.parent.rename(file.parent.with_name("elsewhere"))
    file.parent.symlink_to("elsewhere")


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(_make_link, "it is a symbolic link", id="link"),
        pytest.param(_make_fifo, "not a regular file", id="fifo"),
        pytest.param(_make_directory_link, "is a symbolic link", id="directory-link"),
        pytest.param(lambda file: file.chmod(0o640), "open to other users (mode 0640)", id="mode"),
        pytest.param(lambda file: os.chown(file, NOBODY, -1), "belongs to the user 65534", id="owner", marks=as_root),
        pytest.param(
            lambda file: os.chown(file.parent, NOBODY, -1), "belongs to the user 65534", id="dir-owner", marks=as_root
        ),
    ],
)
def test_a_file_that_is_not_ours_alone_is_none(filled: Path, change: Callable[[Path], None], said: str) -> None:
    (file,) = (filled / "secrets").iterdir()
    change(file)
    assert said in find_hint(make_cache(filled))


@as_root
def test_nothing_is_written_where_somebody_else_rules(server: Server, mount: str, tmp_path: Path) -> None:
    """And the build hears of it, and goes on."""
    directory = tmp_path / "secrets"
    directory.mkdir()
    os.chown(directory, NOBODY, -1)
    with cached.open_store(lambda: open_bao(server.address, mount, deadline="20s"), make_cache(tmp_path)) as store:
        assert read(store) == GIVEN
        assert store.cached
        assert store.cached.moment is None
        assert "belongs to the user 65534" in store.cached.reason
    assert list(directory.iterdir()) == []


def test_what_cannot_be_kept_does_not_leave_what_was_kept_before(server: Server, mount: str, filled: Path) -> None:
    """The disk takes no more: the old answer is not the server's last word any more, so it goes."""

    def body() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
        with cached.open_store(lambda: open_bao(server.address, mount, deadline="20s"), make_cache(filled)) as store:
            assert read(store) == GIVEN
            assert store.cached == (None, "File too large")

    assert run_in_child(body) == 0
    assert list((filled / "secrets").iterdir()) == []


def test_a_directory_that_is_open_is_closed(server: Server, mount: str, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir(mode=0o755)
    with cached.open_store(lambda: open_bao(server.address, mount, deadline="20s"), make_cache(tmp_path)) as store:
        read(store)
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700


def test_what_cannot_be_removed_is_named(server: Server, mount: str, filled: Path) -> None:
    """Whoever is refused has to know that values are still there."""
    cache = make_cache(filled)
    os.unlink(cache.path)
    os.mkdir(cache.path)  # which unlink does not remove
    with (
        Way(server, at("my-site/record", 403, REFUSED)) as way,
        cached.open_store(lambda: open_bao(way.address, mount, deadline="1s"), cache) as store,
        pytest.raises(StoreDeniedError) as caught,
    ):
        read(store)
    assert f"remove {cache.path}" in caught.value.hint


# --- processes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["replace", "utime", "fchmod", "fsync"])
def test_a_writer_that_is_killed_leaves_a_private_file_at_most(
    server: Server, mount: str, filled: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Right before any step; the cache is the old one or the new one, and the next build sweeps."""

    def body() -> None:
        monkeypatch.setattr(os, call, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        with cached.open_store(
            lambda: open_bao(server.address, mount, deadline="20s"), make_cache(filled, now=NOW + 60)
        ) as store:
            read(store)

    assert wait(fork(body)) == -signal.SIGKILL
    for path in (filled / "secrets").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        assert b"my-site.dev" not in path.read_bytes()
    with ask_broken(make_cache(filled, now=NOW + 60)) as store:
        assert read(store) == GIVEN
    with cached.open_store(
        lambda: open_bao(server.address, mount, deadline="20s"), make_cache(filled, now=NOW + 60)
    ) as store:
        read(store)
    assert [path.suffix for path in (filled / "secrets").iterdir()] == [".sealed"]


def test_builds_at_once_do_not_hinder_one_another(server: Server, mount: str, tmp_path: Path) -> None:
    """Eight that write and eight that read, of two targets: every one of them has the whole."""
    targets = [DEV, Target("my-site", "live")]
    failed: list[object] = []

    def build(number: int) -> None:
        target = targets[number % 2]

        def body() -> None:
            cache = make_cache(tmp_path, target=target)
            for _ in range(5):
                with cached.open_store(lambda: open_bao(server.address, mount, deadline="20s"), cache) as store:
                    assert read(store, target.environment)["KEY"] == str(target)
                    assert store.cached is None
                assert resolve(target.environment, Scope.IC, _recall(cache))

        status = run_in_child(body)
        if status:
            failed.append((number, status))

    threads = [threading.Thread(target=build, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(list((tmp_path / "secrets").iterdir())) == 2


def _recall(cache: TargetCache) -> Any:
    store, _ = cache.recall(StoreUnreachableError("none"))
    return [store.read(SITE), store.read(AGENCY)]


# --- the contract of all stores -----------------------------------------------------------------------


class TestCachedStore(StoreContract):
    """Everything but a build's reads goes through to the store behind it; here an embedded one."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        self.directory = tmp_path
        self.opened: list[Store] = []
        with local.create(str(tmp_path / "store.db"), KEY) as inner, self._wrap(inner) as store:
            yield store
        for again in self.opened:
            again.close()

    def reopen(self, store: Store) -> Store:
        self.opened.append(self._wrap(local.open_store(str(self.directory / "store.db"), [KEY], read_only=True)))
        return self.opened[-1]

    def _wrap(self, inner: Store) -> CachedStore:
        return CachedStore(inner, make_cache(self.directory))


def test_an_error_names_no_value(filled: Path) -> None:
    for name, change in CHANGES.items():
        copy = filled / name
        shutil.copytree(filled / "secrets", copy / "secrets")
        file = Path(make_cache(copy).path)
        file.write_bytes(change(file.read_bytes()))
        with pytest.raises(IcSecretsError) as caught:
            make_cache(copy).recall(StoreUnreachableError("none"))
        assert not any(value in f"{caught.value} {caught.value.hint}" for value in GIVEN.values())
