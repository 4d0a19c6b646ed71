"""A real broker for tests: its process, a certificate of a test's authority for servers, curl and raw sockets."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ic_secrets.broker.order import Order, Place
from ic_secrets.broker.process import Running, StartingBroker
from ic_secrets.composer.credential import Credential, parse_credential
from servers.certificates import Authority
from servers.scripted import Connection, Scripted, run_scripted

PASSWORD = "password-of-the-proxy"
# The password of the secret; nothing but the server that it is for may see it.
CANARY = "canary+/4711"
CANARIES = (CANARY.encode(), base64.b64encode(f"user:{CANARY}".encode()))
# What a request that has it holds.
SENT = b"authorization: Basic " + CANARIES[1]
NAMES = ("localhost", "127.0.0.1", "::1")


class World:
    """An authority, and the servers and brokers that a test starts."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self.directory = directory
        self.authority = Authority()
        self.ca = directory / "ca.pem"
        self.ca.write_bytes(self.authority.certificate)
        self._stack = stack

    def make_context(self, *names: str, authority: Authority | None = None) -> ssl.SSLContext:
        """Return a server's context with a certificate for the names."""
        file = self.directory / f"leaf-{len(list(self.directory.iterdir()))}.pem"
        file.write_bytes(b"".join((authority or self.authority).sign(names or NAMES)))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def serve(
        self,
        script: Callable[[Connection], object] = lambda each: each.answer(each.head),
        *,
        tls: bool = True,
        context: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> Scripted:
        """Start a server; by default it answers with the head of the request."""
        chosen = (context or self.make_context()) if tls else None
        return self._stack.enter_context(run_scripted(script, chosen, host))

    def start(self, *servers: Scripted, host: str = "localhost", **fields: Any) -> Broker:
        """Start a broker with a secret for each of the servers, and further fields of its order."""
        value = json.dumps({"username": "user", "password": CANARY})
        credentials = tuple(parse_credential(f"http-basic.{host}:{each.port}", value) for each in servers)
        order = Order(credentials=credentials, password=PASSWORD, authorities=self.authority.certificate.decode())
        starting = self._stack.enter_context(StartingBroker())
        return Broker(starting.take(order._replace(**fields)), self.directory)


class Broker:
    """A broker that runs."""

    def __init__(self, running: Running, directory: Path) -> None:
        self.running = running
        self.pid = running.broker.pid
        self.bundle = directory / f"bundle-{running.port}.pem"
        self.bundle.write_text(running.certificate)
        self.proxy = f"http://ics:{PASSWORD}@127.0.0.1:{running.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What leads curl and git through it."""
        named = dict.fromkeys(("http_proxy", "https_proxy"), self.proxy)
        return {"PATH": os.environ["PATH"], "GIT_SSL_CAINFO": str(self.bundle), "GIT_CONFIG_NOSYSTEM": "1", **named}

    def curl(self, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run curl through it."""
        command = ["curl", "-q", "-sS", "--max-time", "60", "--cacert", str(self.bundle), *arguments]
        return subprocess.run(command, capture_output=True, env={**self.environment, **(environment or {})})

    def connect(self) -> socket.socket:
        """Return a connection to it."""
        return socket.create_connection(("127.0.0.1", self.running.port), 30)

    def ask(self, data: bytes) -> bytes:
        """Return all that it answers to these bytes, with a password in them where `%b` is."""
        with self.connect() as peer:
            peer.sendall(data.replace(b"%b", LOGIN))
            return read_all(peer)

    def tunnel(self, target: str) -> ssl.SSLSocket:
        """Return a TLS connection to what the broker says is the target (`host:port`)."""
        peer = self.connect()
        peer.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n".encode() + LOGIN + b"\r\n")
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            data = peer.recv(1)
            assert data, answer
            answer += data
        assert answer.split(b" ")[1] == b"200", answer
        context = ssl.create_default_context(cafile=str(self.bundle))
        return context.wrap_socket(peer, server_hostname=target.rpartition(":")[0].strip("[]"))

    def ask_inside(self, server: Scripted, data: bytes, host: str = "localhost") -> bytes:
        """Return all that is answered to these bytes inside a tunnel to the server."""
        with self.tunnel(f"{host}:{server.port}") as peer:
            peer.sendall(data.replace(b"%h", f"{host}:{server.port}".encode()))
            return read_all(peer)

    def read_status(self, name: str) -> int:
        """Return a number from /proc/PID/status."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


LOGIN = b"Proxy-Authorization: Basic " + base64.b64encode(f"ics:{PASSWORD}".encode()) + b"\r\n"


def read_all(peer: socket.socket) -> bytes:
    """Return what comes until the other side ends it."""
    found = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := peer.recv(65536):
            found += data
    return found


def serve_proxy(each: Connection, target: int, login: bytes = b"proxy-authorization: Basic cDpxLz8=\r\n") -> bool:
    """Be a forward proxy with the password `q/?` whose every name is on this machine, at the port `target`."""
    if login not in each.head:
        each.answer(b"", "407 Proxy Authentication Required", 'Proxy-Authenticate: Basic realm="x"')
        return False
    with socket.create_connection(("127.0.0.1", target)) as server:
        if each.method == "CONNECT":
            each.send(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            server.sendall(each.head)
        copying = threading.Thread(target=copy, args=(each.peer, server))
        copying.start()
        copy(server, each.peer)
        copying.join()
    return False


def copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def start_for_bitbucket(world: World, through: Scripted) -> Broker:
    """Start a broker with a consumer for a repository of acme's, with that proxy on its way."""
    consumer = {"consumer-key": "the-consumer", "consumer-secret": CANARY}
    return world.start(
        credentials=(Credential("bitbucket-oauth.bitbucket.org", "bitbucket-oauth", "bitbucket.org", consumer),),
        places=(Place("vcs", "https://bitbucket.org/acme/private", "git"),),
        forges={"bitbucket.org": "bitbucket-oauth"},
        environment={"https_proxy": f"http://p:q%2F%3F@127.0.0.1:{through.port}"},
    )


@contextlib.contextmanager
def make_world(directory: Path) -> Iterator[World]:
    """Within it, what is started runs."""
    with contextlib.ExitStack() as stack:
        yield World(directory, stack)
