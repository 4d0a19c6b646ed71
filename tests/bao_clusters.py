"""Three real OpenBao nodes on this machine that keep one raft between them, and can be killed one by one."""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import secrets
import signal
import socket
import subprocess
import time
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path

from bao_servers import PROGRAM, Server

# Nodes that share two processors with the tests need longer than this now and then.
_PATIENCE = 120.0


class Node:
    """One of them: its server, and the process, None while it does not run."""

    def __init__(
        self, directory: Path, number: int, ports: list[tuple[int, int]], key: Path, count: Iterator[int]
    ) -> None:
        port, cluster_port = ports[number]
        self.server = Server(port, count)
        self.process: subprocess.Popen[bytes] | None = None
        self._log = directory / f"node-{number}.log"
        data = directory / f"data-{number}"
        data.mkdir()
        others = [other for other, _ in ports if other != port]
        joins = "\n".join(f'retry_join {{ leader_api_addr = "http://127.0.0.1:{other}" }}' for other in others)
        self._config = directory / f"node-{number}.hcl"
        self._config.write_text(
            f"""
            storage "raft" {{
              path = "{data}"
              node_id = "node-{number}"
              performance_multiplier = 1
              {joins}
            }}
            listener "tcp" {{
              address = "127.0.0.1:{port}"
              cluster_address = "127.0.0.1:{cluster_port}"
              tls_disable = true
            }}
            seal "static" {{
              current_key_id = "test"
              current_key = "file://{key}"
            }}
            api_addr = "http://127.0.0.1:{port}"
            cluster_addr = "https://127.0.0.1:{cluster_port}"
            """
        )

    def start(self) -> None:
        """Start it, and do not wait for it."""
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
        with self._log.open("ab") as log:
            words = [PROGRAM, "server", f"-config={self._config}"]
            self.process = subprocess.Popen(words, stdout=log, stderr=log, env=environment)

    def send(self, number: signal.Signals) -> None:
        """Send its process a signal; with KILL it is over when this returns."""
        assert self.process is not None
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait(20)
            self.process = None

    def health(self) -> int:
        """The status of its health, 0 where it gives none."""
        try:
            return self.server.status("GET", "sys/health", "")
        except (OSError, urllib.error.URLError):
            return 0

    def describe(self) -> str:
        """The end of what it said, for a test that fails."""
        return self._log.read_text(errors="replace")[-2000:]


class Cluster:
    """The nodes; `root` is the token of their administrator."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.root = ""

    def url(self, mount: str) -> str:
        """A store on it, that names every node."""
        hosts = ",".join(node.server.address.removeprefix("http://") for node in self.nodes)
        return f"bao+http://{hosts}/{mount}"

    def find_leader(self) -> Node | None:
        """The active node, if there is one just now."""
        return next((node for node in self.nodes if node.process and node.health() == 200), None)

    def is_stable(self) -> bool:
        """Whether every node has a vote: only then two of them can do without the third."""
        leader = self.find_leader()
        if leader is None:
            return False
        found = leader.server.ask("GET", "sys/storage/raft/configuration")["data"]["config"]["servers"]
        return [each["voter"] for each in found] == [True] * len(self.nodes)

    def wait_for_leader(self) -> Node:
        """The active node."""
        self.wait(lambda: self.find_leader() is not None, "no node becomes the active one")
        leader = self.find_leader()
        return leader or self.wait_for_leader()

    def wait(self, is_so: Callable[[], bool], failure: str) -> None:
        """Until it is so; AssertionError with what the nodes said."""
        end = time.monotonic() + _PATIENCE
        while not is_so():
            logs = "\n".join(node.describe() for node in self.nodes)
            assert time.monotonic() < end, f"{failure}:\n{logs}"
            time.sleep(0.05)


def _find_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]


@contextlib.contextmanager
def running_cluster(directory: Path) -> Iterator[Cluster]:
    """Three nodes that have joined, for the time of the block."""
    found = _find_ports(6)
    key = directory / "seal.key"
    key.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    ports = list(zip(found[:3], found[3:], strict=True))
    count = itertools.count(1)
    cluster = Cluster([Node(directory, number, ports, key, count) for number in range(3)])
    try:
        for node in cluster.nodes:
            node.start()
        first = cluster.nodes[0]
        cluster.wait(lambda: first.health() == 501, "the first node does not start")
        made = first.server.ask("PUT", "sys/init", {"recovery_shares": 1, "recovery_threshold": 1}, token="")
        cluster.root = str(made["root_token"])
        for node in cluster.nodes:
            node.server.root = cluster.root
        cluster.wait(lambda: sorted(node.health() for node in cluster.nodes) == [200, 429, 429], "they do not join")
        first.server.ask("POST", "sys/storage/raft/autopilot/configuration", {"server_stabilization_time": "1s"})
        cluster.wait(cluster.is_stable, "not every node gets a vote")
        yield cluster
    finally:
        for node in cluster.nodes:
            if node.process:
                node.process.kill()
        for node in cluster.nodes:
            if node.process:
                node.process.wait(20)
