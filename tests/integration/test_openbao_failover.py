"""A real cluster of three OpenBao nodes that lose their leader: nothing acknowledged is lost, nothing wrong is read."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from bao_clusters import Cluster, running_cluster
from commandline import Cli
from ic_secrets.model.resolve import resolve
from ic_secrets.model.secret import Owner, Scope, SecretType, SecretValue, Site
from ic_secrets.stores.base import Place, Write
from ic_secrets.stores.openbao import store as openbao
from ic_secrets.stores.openbao.store import BaoStore
from ic_secrets.stores.registry import read_variables

SITE = Owner("site", "my-site")
AGENCY = Owner("organization", "agency")
BUILD = frozenset({Scope.IC})
# Seconds that a command waits for the server, and what it may take beside that on a busy machine.
DEADLINE = 30.0
SLACK = 15.0
WORKERS = 4
OPERATIONS = 50


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def url(cluster: Cluster) -> str:
    """A store whose organization has a value for each name that the site will have."""
    url = cluster.url(cluster.wait_for_leader().server.mount())
    with open_store(cluster, url) as store, store.transaction():
        store.set_site(Site("my-site", "agency"))
        for number in range(WORKERS):
            put(store, AGENCY, f"KEY_{number}", "of the organization")
    return url


def open_store(cluster: Cluster, url: str) -> BaoStore:
    environment = {"BAO_TOKEN": cluster.root, "IC_SECRETS_BAO_TIMEOUT": f"{DEADLINE:.0f}s"}
    return openbao.open_store(url, read_variables(environment), environment)


def put(store: BaoStore, owner: Owner, name: str, text: str) -> None:
    store.put(Place(owner, None, name), Write(SecretValue(text), type=SecretType.ENV, scopes=BUILD))


def read(store: BaoStore) -> dict[str, SecretValue | None]:
    """What a build gets, by name."""
    chain = store.read_chain(SITE, environment="dev", scope=Scope.IC, values=True)
    return {one.name: one.value for one in resolve("dev", Scope.IC, chain)}


class Worker(threading.Thread):
    """Writes one name and reads it, in turns; nobody else writes that name. `last` is what was acknowledged last."""

    def __init__(self, cluster: Cluster, url: str, number: int, halfway: threading.Barrier) -> None:
        super().__init__(daemon=True)
        self.name_of_secret = f"KEY_{number}"
        self.last = ""
        self.slowest = 0.0
        self.failure: BaseException | None = None
        self._store = open_store(cluster, url)
        self._halfway = halfway

    def run(self) -> None:
        try:
            with self._store:
                for turn in range(OPERATIONS):
                    if turn == OPERATIONS // 2:
                        self._halfway.wait(120)  # the leader is killed now, while all of them go on
                    started = time.monotonic()
                    self._do(turn)
                    self.slowest = max(self.slowest, time.monotonic() - started)
        except BaseException as error:
            self.failure = error
            self._halfway.abort()

    def _do(self, turn: int) -> None:
        if turn % 2 == 0:
            put(self._store, SITE, self.name_of_secret, f"value {turn}")
            self.last = f"value {turn}"
        else:
            assert read(self._store)[self.name_of_secret] == SecretValue(self.last)


class Onlooker(threading.Thread):
    """Reads by commands, each a client of its own, what the workers write, as long as they do."""

    def __init__(self, cli: Cli, workers: list[Worker]) -> None:
        super().__init__(daemon=True)
        self.failure: BaseException | None = None
        self.looked = 0
        self._cli = cli
        self._workers = workers

    def run(self) -> None:
        try:
            while any(worker.is_alive() for worker in self._workers):
                acknowledged = {worker.name_of_secret: worker.last for worker in self._workers if worker.last}
                program = "import json, os; print(json.dumps(dict(os.environ)))"
                done = self._cli("run", "my-site", "--no-mask", "--", sys.executable, "-c", program, check=0)
                seen = json.loads(done.stdout)
                for name, value in acknowledged.items():
                    assert count(seen[name]) >= count(value), f"{name} was {value} before, and {seen[name]} now"
                self.looked += 1
        except BaseException as error:
            self.failure = error


def count(value: str) -> int:
    """How new a value is that a worker wrote; ValueError for the organization's."""
    return int(value.removeprefix("value "))


def test_the_leader_is_killed_during_two_hundred_reads_and_writes(cluster: Cluster, url: str, cli: Cli) -> None:
    """Each read gives what was acknowledged last, and never the organization's value; each ends in its time."""
    cli.home |= {"IC_SECRETS_STORE": url, "BAO_TOKEN": cluster.root}
    halfway = threading.Barrier(WORKERS + 1)
    workers = [Worker(cluster, url, number, halfway) for number in range(WORKERS)]
    onlooker = Onlooker(cli, workers)
    for thread in (*workers, onlooker):
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):  # a worker failed, which is reported below
        halfway.wait(120)
    leader = cluster.wait_for_leader()
    leader.send(signal.SIGKILL)
    for worker in workers:
        worker.join(OPERATIONS * (DEADLINE + SLACK))
    onlooker.join(2 * (DEADLINE + SLACK))
    leader.start()
    assert [*(worker.failure for worker in workers), onlooker.failure] == [None] * (WORKERS + 1)
    assert onlooker.looked
    assert max(worker.slowest for worker in workers) < DEADLINE + SLACK
    expected = {worker.name_of_secret: SecretValue(worker.last) for worker in workers}
    with open_store(cluster, url) as store:
        assert read(store) == expected
    cluster.wait(cluster.is_stable, "the killed node does not come back")


@pytest.fixture
def fleet(cluster: Cluster, url: str, cli: Cli) -> Cli:
    """Commands on that store, with a value of the site."""
    cli.home |= {"IC_SECRETS_STORE": url, "BAO_TOKEN": cluster.root}
    cli("set", "my-site", "KEY_0", "--type", "env", "--scope", "ic", stdin=b"of-the-site", check=0)
    return cli


CHECK = ("run", "my-site", "--", "sh", "-c", 'test "$KEY_0" = of-the-site')


@pytest.mark.slow
def test_many_builds_at_once_all_get_their_secrets(fleet: Cli, rounds: Callable[[int, int], int]) -> None:
    """Two hundred that start together; none fails, and none goes by the organization's value."""
    with contextlib.ExitStack() as stack:
        builds = [stack.enter_context(fleet.start(*CHECK)) for _ in range(rounds(30, 200))]
        ended = [(build.communicate(timeout=240)[1], build.returncode) for build in builds]
    assert ended == [(b"", 0)] * len(builds)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "paused"])
def test_a_build_outlives_its_leader(cluster: Cluster, fleet: Cli, number: signal.Signals) -> None:
    """One that starts when the leader has just gone gets its secrets from the next one, and so does a write."""
    leader = cluster.wait_for_leader()
    leader.send(number)
    try:
        started = time.monotonic()
        fleet(*CHECK, check=0)
        fleet("set", "my-site", "KEY_1", "--type", "env", "--scope", "ic", stdin=b"later", check=0)
        assert time.monotonic() - started < 2 * (DEADLINE + SLACK)
    finally:
        if number == signal.SIGSTOP:
            leader.send(signal.SIGCONT)
        else:
            leader.start()
    cluster.wait(cluster.is_stable, "the node does not come back")
    fleet(*CHECK, check=0)


def test_without_a_leader_nothing_is_concluded(cluster: Cluster, fleet: Cli) -> None:
    """Two of three are gone: the last one has all the data, and its word counts for nothing."""
    gone = cluster.nodes[:2]
    for node in gone:
        node.send(signal.SIGKILL)
    try:
        cluster.wait(lambda: cluster.nodes[2].health() != 200, "the last node leads alone")
        for words, status in ((("run", "my-site", "--", "touch", "started"), 125), (("list", "my-site"), 1)):
            started = time.monotonic()
            done = fleet(*words, env={"IC_SECRETS_BAO_TIMEOUT": "3s"}, check=status)
            assert time.monotonic() - started < 3 + SLACK
            assert b"does not answer" in done.stderr
            assert done.stdout == b""
        assert not (fleet.cwd / "started").exists()
    finally:
        for node in gone:
            node.start()
    cluster.wait(cluster.is_stable, "the nodes do not come back")
    fleet(*CHECK, check=0)
