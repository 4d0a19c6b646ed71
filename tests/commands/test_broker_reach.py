"""What an isolated build reaches through the broker, and how programs get there that ignore proxies."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from brokers import LOGIN, PASSWORD, SENT, World, read_all
from ic_secrets.broker.order import Order
from ic_secrets.broker.process import Running, StartingBroker
from ic_secrets.broker.reach import Listener, Reach, plan_listeners
from ic_secrets.broker.report import Report
from ic_secrets.composer.credential import parse_credential
from servers.scripted import Scripted

INSIDE = "127.0.1.1"


def make_reach(*hosts: str, more: tuple[str, ...] = (), carried: tuple[tuple[str, int], ...] = ()) -> Reach:
    """Return a reach with these hosts, which are named, and with more that are not."""
    return Reach(frozenset((*hosts, *more)), frozenset(hosts), carried)


def count_denied(report: Report) -> dict[str, int]:
    return {each.host: each.denied for each in report.hosts if each.denied}


@contextlib.contextmanager
def run_inside(
    world: World, *listeners: Listener, reach: Reach, secrets: tuple[Scripted, ...] = (), **fields: Any
) -> Iterator[Running]:
    """Within it, a broker listens at these places, as it would in the network of an isolated build."""
    value = '{"username": "user", "password": "canary+/4711"}'
    credentials = tuple(parse_credential(f"http-basic.localhost:{each.port}", value) for each in secrets)
    authorities = world.authority.certificate.decode()
    order = Order(credentials=credentials, password=PASSWORD, authorities=authorities, reach=reach)
    with StartingBroker() as starting, contextlib.ExitStack() as stack:
        running = starting.take(order._replace(**fields), inside=True)
        sockets = []
        for each in listeners:
            family = socket.AF_INET6 if ":" in each.address else socket.AF_INET
            sockets.append(stack.enter_context(socket.socket(family)))
            sockets[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sockets[-1].bind((each.address, each.port))
            sockets[-1].listen()
        running.listen(listeners, sockets)
        yield running


def curl(running: Running, world: World, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run curl without a proxy, with the authorities of the broker and of the servers."""
    bundle = world.directory / "bundle.pem"
    bundle.write_bytes(running.certificate.encode() + world.authority.certificate)
    command = ["curl", "-q", "-sS", "--max-time", "20", "--cacert", str(bundle), *arguments]
    return subprocess.run(command, capture_output=True, env={"PATH": os.environ["PATH"]})


# --- what is within reach


@pytest.mark.parametrize("spelling", ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "[::ffff:127.0.0.1]"])
def test_a_host_that_is_not_within_reach_gets_no_connection(world: World, spelling: str) -> None:
    server, plain = world.serve(), world.serve(tls=False)
    broker = world.start(reach=make_reach("repo.example", f"localhost:{plain.port + 1}"))
    for target in (f"{spelling}:{server.port}", f"{spelling}:{plain.port}"):
        answer = broker.ask(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n".encode() + LOGIN + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 403 "), answer
        assert b"is not within the reach of this build; --allow-host" in answer
    url = f"http://{spelling}:{plain.port}/"
    answer = broker.ask(
        f"GET {url} HTTP/1.1\r\nHost: {spelling}:{plain.port}\r\nConnection: close\r\n".encode() + LOGIN + b"\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 403 "), answer
    assert b"is not within the reach of this build; --allow-host" in answer
    assert not server.heads
    assert not plain.heads
    denied = count_denied(broker.running.finish())
    assert sum(denied.values()) == 3
    assert {name.rpartition(":")[0] for name in denied} <= {"localhost", "127.0.0.1"}


@pytest.mark.parametrize("spelling", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0x7f000001", "[fe80::1%25lo]"])
def test_an_address_that_is_spelled_as_another_is_not_asked(world: World, spelling: str) -> None:
    server = world.serve()
    broker = world.start(reach=make_reach(f"127.0.0.1:{server.port}"))
    target = f"{spelling}:{server.port}"
    answer = broker.ask(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n".encode() + LOGIN + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert not server.heads


def test_the_host_of_a_secret_and_one_that_is_allowed_are_reached(world: World) -> None:
    private, other = world.serve(), world.serve()
    reach = make_reach(f"localhost:{private.port}", f"127.0.0.1:{other.port}")
    broker = world.start(private, reach=reach)
    assert SENT in broker.curl(f"https://localhost:{private.port}/").stdout
    assert b"GET / HTTP/1.1" in broker.curl("--cacert", str(world.ca), f"https://127.0.0.1:{other.port}/").stdout
    assert not count_denied(broker.running.finish())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "[::]"])
def test_what_only_a_lock_names_is_never_on_this_machine(world: World, host: str) -> None:
    server = world.serve(host="::1") if host in {"[::1]", "[::]"} else world.serve()
    shown = "127.0.0.1" if "ffff" in host else host
    broker = world.start(reach=make_reach(more=(f"{shown}:{server.port}",)))
    target = f"{host}:{server.port}"
    answer = broker.ask(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n".encode() + LOGIN + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 403 "), answer
    assert b"leads to this machine" in answer
    assert not server.heads
    assert count_denied(broker.running.finish()) == {f"{shown}:{server.port}": 1}


def test_the_machines_own_name_does_not_lead_around(world: World) -> None:
    """Many a machine has it at an address that is not of the loopback interface."""
    name = socket.gethostname()
    with contextlib.suppress(OSError):
        address = socket.gethostbyname(name)
        server = world.serve(host=address)
        broker = world.start(reach=make_reach(more=(f"{name}:{server.port}", f"{address}:{server.port}")))
        for each in (name, address):
            target = f"{each}:{server.port}"
            answer = broker.ask(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n".encode() + LOGIN + b"\r\n")
            assert answer.startswith(b"HTTP/1.1 403 "), answer
        assert not server.heads


# --- what listens inside


def test_a_program_that_ignores_proxies_gets_to_a_server_by_its_name(world: World) -> None:
    private, other = world.serve(), world.serve()
    reach = make_reach(f"localhost:{private.port}", f"localhost:{other.port}")
    listeners = [Listener("web", INSIDE, each.port) for each in (private, other)]
    with run_inside(world, *listeners, reach=reach, secrets=(private,)) as running:
        for server in (private, other):
            done = curl(
                running, world, "--resolve", f"localhost:{server.port}:{INSIDE}", f"https://localhost:{server.port}/x"
            )
            assert b"GET /x HTTP/1.1" in done.stdout, done.stderr
            assert (SENT in done.stdout) == (server is private)
        report = running.finish()
    counts = {each.host: (each.requests, each.joined) for each in report.hosts}
    assert counts == {f"localhost:{private.port}": (1, 0), f"localhost:{other.port}": (0, 1)}


def test_plain_http_goes_where_its_host_says_and_no_further_than_the_reach(world: World) -> None:
    plain, secret = world.serve(tls=False), world.serve(tls=False)
    reach = make_reach(f"localhost:{plain.port}")
    with run_inside(world, Listener("web", INSIDE, plain.port), reach=reach) as running:
        done = curl(
            running, world, "--resolve", f"localhost:{plain.port}:{INSIDE}", f"http://localhost:{plain.port}/x?y"
        )
        assert b"GET /x?y HTTP/1.1" in done.stdout, done.stderr
        for head in (
            f"GET / HTTP/1.1\r\nHost: localhost:{secret.port}\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            f"GET http://localhost:{secret.port}/ HTTP/1.1\r\nHost: localhost:{plain.port}\r\n\r\n",
            f"CONNECT localhost:{secret.port} HTTP/1.1\r\nHost: localhost:{secret.port}\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
        ):
            with socket.create_connection((INSIDE, plain.port), 20) as peer:
                peer.sendall(head.encode())
                peer.shutdown(socket.SHUT_WR)
                assert read_all(peer)[9:10] == b"4", head
        assert not secret.heads
        assert len(plain.heads) == 1
        assert count_denied(running.finish()) == {f"localhost:{secret.port}": 1, "evil.example": 1}


def test_a_server_name_that_is_not_within_reach_is_told_so_in_tls(world: World) -> None:
    server = world.serve()
    with run_inside(world, Listener("web", INSIDE, server.port), reach=make_reach("repo.example")) as running:
        done = curl(
            running, world, "--resolve", f"localhost:{server.port}:{INSIDE}", f"https://localhost:{server.port}/"
        )
        assert b"access denied" in done.stderr
        context = ssl.create_default_context()
        context.check_hostname = False
        with (
            pytest.raises((ssl.SSLError, ConnectionError)),
            socket.create_connection((INSIDE, server.port), 20) as peer,
        ):
            context.wrap_socket(peer)  # without a name
        assert not server.heads
        assert count_denied(running.finish()) == {f"localhost:{server.port}": 1}


def test_a_server_that_speaks_first_is_carried_in(world: World) -> None:
    """As a database does, which the person allows by its address."""

    def greet() -> bytes:
        with socket.create_connection(("127.0.0.9", port), 20) as peer:
            assert peer.recv(5) == b"hello"
            peer.sendall(b"query")
            peer.shutdown(socket.SHUT_WR)
            return read_all(peer)

    with socket.create_server(("127.0.0.1", 0)) as database:
        port = database.getsockname()[1]
        listener = Listener("raw", "127.0.0.9", port, f"127.0.0.1:{port}")
        reach = make_reach(f"127.0.0.1:{port}", carried=(("127.0.0.1", port),))
        environment = {"https_proxy": "http://127.0.0.1:1"}  # no proxy is asked for a database
        with run_inside(world, listener, reach=reach, environment=environment) as running:
            found: list[bytes] = []
            asking = threading.Thread(target=lambda: found.append(greet()))
            asking.start()
            peer, _ = database.accept()
            with peer:
                peer.sendall(b"hello")
                assert peer.recv(5) == b"query"
                assert peer.recv(1) == b""
                peer.sendall(b"answer")
            asking.join()
            assert found == [b"answer"]
            traffic = running.finish().hosts[0]
            assert (traffic.host, traffic.joined) == (f"127.0.0.1:{port}", 1)
            assert (traffic.bytes_in, traffic.bytes_out) == (11, 5)


def test_the_proxy_inside_wants_its_password_as_ever(world: World) -> None:
    server = world.serve()
    reach = make_reach(f"localhost:{server.port}")
    proxy = next(each for each in plan_listeners(reach) if each.kind == "proxy")
    listener = proxy._replace(address="127.0.0.7")
    with run_inside(world, listener, reach=reach, secrets=(server,)) as running:
        assert running.port == proxy.port == 3128
        for password, status in ((PASSWORD, b"200"), ("wrong", b"000")):
            done = curl(
                running, world, "-o", "/dev/null", "-w", "%{http_code}",
                "-x", f"http://ics:{password}@127.0.0.7:{running.port}", f"https://localhost:{server.port}/",
            )  # fmt: skip
            assert done.stdout == status
        assert len(server.heads) == 1


def test_hundreds_of_listeners_are_handed_over(world: World) -> None:
    server = world.serve()
    addresses = [f"127.1.{number // 200}.{number % 200 + 1}" for number in range(450)]
    listeners = [Listener("web", address, server.port) for address in addresses]
    with run_inside(world, *listeners, reach=make_reach(f"localhost:{server.port}")) as running:
        for address in (addresses[0], addresses[199], addresses[200], addresses[449]):
            done = curl(
                running, world, "--resolve", f"localhost:{server.port}:{address}", f"https://localhost:{server.port}/"
            )
            assert b"GET / HTTP/1.1" in done.stdout, done.stderr


def test_a_broker_that_is_never_let_in_reports_and_ends(world: World) -> None:
    with StartingBroker() as starting:
        running = starting.take(Order(reach=make_reach("repo.example")), inside=True)
        assert running.port == 3128
        assert not running.finish().is_lost
    assert starting._process.returncode is not None


PROGRAMS = {
    "php": (
        "-r",
        "$tls = ['cafile' => $argv[3], 'peer_name' => 'localhost'];"
        "$http = ['header' => 'Host: localhost:' . $argv[2]];"
        'echo file_get_contents("https://$argv[1]:$argv[2]/", false,'
        " stream_context_create(['ssl' => $tls, 'http' => $http]));",
    ),
    "node": (
        "-e",
        "const [, host, port, ca] = process.argv, headers = {Host: 'localhost:' + port};"
        "require('https').get({host, port, headers, servername: 'localhost', ca: require('fs').readFileSync(ca)},"
        " answer => answer.pipe(process.stdout));",
    ),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_that_know_no_proxy_get_what_the_secret_opens(world: World, program: str) -> None:
    """PHP's streams and node, with the address that the build's /etc/hosts would give them."""
    if not shutil.which(program):
        pytest.skip(f"there is no {program}")
    server = world.serve()
    web = Listener("web", INSIDE, server.port)
    with run_inside(world, web, reach=make_reach(f"localhost:{server.port}"), secrets=(server,)) as running:
        bundle = world.directory / "ours.pem"
        bundle.write_text(running.certificate)
        command = [program, *PROGRAMS[program], INSIDE, str(server.port), str(bundle)]
        done = subprocess.run(command, capture_output=True, timeout=30)
        assert SENT in done.stdout, done.stderr
