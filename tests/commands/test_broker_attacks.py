"""What programs of a build, and servers, might try with the broker; and that it would work without what refuses it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from brokers import (
    CANARIES,
    CANARY,
    LOGIN,
    PASSWORD,
    SENT,
    Broker,
    World,
    make_world,
    read_all,
    serve_proxy,
    start_for_bitbucket,
)
from ic_secrets.broker.authority import Authority
from ic_secrets.broker.exchange import Limits
from ic_secrets.broker.order import Order
from ic_secrets.broker.proxy import Proxy
from ic_secrets.broker.report import Tally
from servers.scripted import Connection, Scripted


def ask_directly(world: World, server: Scripted, data: bytes) -> bytes:
    """The same bytes without the broker."""
    context = ssl.create_default_context(cafile=str(world.ca))
    plain = socket.create_connection(("127.0.0.1", server.port), 30)
    with context.wrap_socket(plain, server_hostname="localhost") as peer:
        peer.sendall(data.replace(b"%h", f"localhost:{server.port}".encode()))
        return read_all(peer)


def answer_all(each: Connection) -> bool:
    """Answer until nothing more comes at once, so that a second request hidden in the first is seen."""
    each.read_body()
    each.answer(b"x")
    each.peer.settimeout(1)
    return True


HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: %h\r\n\r\n"
SMUGGLED = {
    "two lengths": b"POST / HTTP/1.1\r\nHost: %h\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\n" + HIDDEN,
    "the same length twice": b"POST /hidden HTTP/1.1\r\nHost: %h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "a list of lengths": b"POST /hidden HTTP/1.1\r\nHost: %h\r\nContent-Length: 1, 1\r\n\r\nx",
    "chunks and a length": b"POST / HTTP/1.1\r\nHost: %h\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"0\r\n\r\n"
    + HIDDEN,
    "chunks in HTTP/1.0": b"POST /hidden HTTP/1.0\r\nHost: %h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding": b"POST /hidden HTTP/1.1\r\nHost: %h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a signed length": b"POST / HTTP/1.1\r\nHost: %h\r\nContent-Length: +0\r\n\r\n" + HIDDEN,
    "a folded line": b"GET / HTTP/1.1\r\nHost: %h\r\nX: a\r\n /hidden\r\n\r\n",
    "a bare CR": b"GET / HTTP/1.1\r\nHost: %h\r\nX: a\r/hidden\r\n\r\n",
    "a bare LF": b"GET / HTTP/1.1\r\nHost: %h\nX: /hidden\r\n\r\n",
    "a NUL": b"GET / HTTP/1.1\r\nHost: %h\r\nX: \0/hidden\r\n\r\n",
    "a space before the colon": b"POST / HTTP/1.1\r\nHost: %h\r\nContent-Length : 40\r\n\r\n" + HIDDEN,
    "a tab before the colon": b"GET / HTTP/1.1\r\nHost: %h\r\nX\t: /hidden\r\n\r\n",
    "a line without a name": b"GET / HTTP/1.1\r\nHost: %h\r\n: /hidden\r\n\r\n",
    "another Host": b"GET /hidden HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "another port": b"GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "two Hosts": b"GET /hidden HTTP/1.1\r\nHost: %h\r\nHost: evil.example\r\n\r\n",
    "no Host": b"GET /hidden HTTP/1.1\r\nX: y\r\n\r\n",
    "no Host in HTTP/1.0": b"GET /hidden HTTP/1.0\r\n\r\n",
    "a user in the Host": b"GET /hidden HTTP/1.1\r\nHost: user@%h\r\n\r\n",
    "an absolute URL": b"GET http://evil.example/hidden HTTP/1.1\r\nHost: %h\r\n\r\n",
    "an absolute URL to the same host": b"GET https://%h/hidden HTTP/1.1\r\nHost: %h\r\n\r\n",
    "a tunnel inside": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\nX: /hidden\r\n\r\n",
    "a request to be repeated": b"TRACE /hidden HTTP/1.1\r\nHost: %h\r\n\r\n",
    "an upgrade": b"GET /hidden HTTP/1.1\r\nHost: %h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "HTTP/1.2": b"GET /hidden HTTP/1.2\r\nHost: %h\r\n\r\n",
    "HTTP/0.9 with a Host": b"GET /hidden HTTP/0.9\r\nHost: %h\r\n\r\n",
    "no version": b"GET /hidden\r\nHost: %h\r\n\r\n",
    "two spaces": b"GET  /hidden HTTP/1.1\r\nHost: %h\r\n\r\n",
    "no slash": b"GET hidden HTTP/1.1\r\nHost: %h\r\n\r\n",
    "a backslash": b"GET /a\\..\\hidden HTTP/1.1\r\nHost: %h\r\nConnection: close\r\n\r\n",
    "an encoded way up": b"GET /a/%2e%2e/hidden HTTP/1.1\r\nHost: %h\r\nConnection: close\r\n\r\n",
    "an encoded slash on the way up": b"GET /a/..%2fhidden HTTP/1.1\r\nHost: %h\r\nConnection: close\r\n\r\n",
    "a fragment": b"GET /hidden#x HTTP/1.1\r\nHost: %h\r\nConnection: close\r\n\r\n",
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Scripted, Broker]]:
    """A server that takes nearly everything, and a broker with a credential for it."""
    with make_world(tmp_path_factory.mktemp("world")) as world:
        server = world.serve(answer_all)
        yield world, server, world.start(server, writable=frozenset({f"localhost:{server.port}"}))


@pytest.mark.parametrize("name", SMUGGLED)
def test_a_request_that_can_be_read_in_two_ways_reaches_no_server(
    guarded: tuple[World, Scripted, Broker], name: str
) -> None:
    world, server, broker = guarded
    server.heads.clear()
    answer = broker.ask_inside(server, SMUGGLED[name])
    assert answer[:10] in {b"HTTP/1.1 4", b"HTTP/1.1 5"}, answer
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"\r\nconnection: close\r\n" in answer
    assert not server.heads
    assert b"hidden" not in answer
    ask_directly(world, server, SMUGGLED[name])
    assert b"hidden" in b"".join(server.heads), "without the broker it reaches the server"


def test_what_remains_in_two_readings_is_sent_in_one(guarded: tuple[World, Scripted, Broker]) -> None:
    """Two requests in one piece are two requests, each with its credential; a chunk's extension is not passed on."""
    _, server, broker = guarded
    server.heads.clear()
    last = HIDDEN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    chunked = (
        b"POST / HTTP/1.1\r\nHost: %h\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=\x01\r\nabc\r\n0\r\nX-Trailer: y\r\n\r\n"
    )
    answer = broker.ask_inside(server, chunked + HIDDEN + last)
    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert server.paths == ["/", "/hidden", "/hidden"]
    assert all(head.count(SENT) == 1 for head in server.heads)
    server.heads.clear()
    odd = chunked.replace(b"3;x=\x01", b"3\r\nabc\r\n-1")
    assert b"HTTP/1.1 200 " not in broker.ask_inside(server, odd + last)
    assert "/hidden" not in server.paths


TARGETS = {
    "a user": b"user@localhost:%p",
    "no port": b"localhost",
    "port 0": b"localhost:0",
    "a port too high": b"localhost:65999",
    "a port with a sign": b"localhost:+%p",
    "IPv4 as a number": b"2130706433:%p",
    "IPv4 in hexadecimal": b"0x7f000001:%p",
    "IPv4 in octal": b"0177.0.0.1:%p",
    "a short IPv4": b"127.1:%p",
    "IPv6 with a zone": b"[::1%25lo]:%p",
    "IPv6 without brackets": b"::1:%p",
    "a URL": b"https://localhost:%p",
    "a path": b"localhost:%p/x",
    "a percent sign": b"%6cocalhost:%p",
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_in_an_odd_spelling_is_not_connected_to(guarded: tuple[World, Scripted, Broker], name: str) -> None:
    """libc and curl read most of them as this machine: a host that has a credential could be reached past the rules."""
    _, server, broker = guarded
    server.connections = 0
    target = TARGETS[name].replace(b"%p", str(server.port).encode())
    answer = broker.ask(b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n%%b\r\n" % (target, target))
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    url = target if name == "a URL" else b"http://%s/" % target
    if name not in {"no port", "a URL", "a path"}:
        answer = broker.ask(b"GET %s HTTP/1.1\r\nHost: %s\r\n%%b\r\n" % (url, target))
        assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert server.connections == 0
    if name.startswith(("IPv4", "a short")):
        assert socket.getaddrinfo(target.split(b":")[0], 80)[0][4][0] == "127.0.0.1"


@pytest.mark.parametrize("spelling", ["LOCALHOST", "localhost.", "LocalHost."])
def test_another_spelling_of_a_host_is_the_same_host(guarded: tuple[World, Scripted, Broker], spelling: str) -> None:
    _, server, broker = guarded
    for path, words in (("/x", b"200"), ("/x/%2e%2e/y", b"400")):
        form = ["--path-as-is", "-o", "-", "-w", "%{http_code}"]
        found = broker.curl(*form, f"https://{spelling}:{server.port}{path}")
        assert found.stdout.endswith(words), found
    assert SENT in server.heads[-1]
    assert f"\r\nhost: localhost:{server.port}\r\n".encode() in server.heads[-1]


def test_a_host_that_has_no_login_is_not_reached_by_the_tunnel_of_one_that_has(world: World) -> None:
    private, other = world.serve(), world.serve(tls=False)
    broker = world.start(private)
    request = b"GET http://localhost:%d/ HTTP/1.1\r\nHost: %%h\r\n\r\n" % other.port
    assert broker.ask_inside(private, request).startswith(b"HTTP/1.1 4")
    outside = request.replace(b"%h", b"localhost:%d" % private.port).replace(b"\r\n\r\n", b"\r\n%b\r\n")
    assert broker.ask(outside).startswith(b"HTTP/1.1 421 ")
    assert not private.heads
    assert not other.heads


def test_a_credential_is_not_led_elsewhere_by_a_redirect(world: World) -> None:
    other = world.serve(tls=False)
    private = world.serve(
        lambda each: each.answer(
            b"", "302 Found", f"Location: http://localhost:{other.port}/http-basic.localhost:{private.port}"
        )
    )
    broker = world.start(private)
    found = broker.curl("-L", f"https://localhost:{private.port}/")
    assert b"GET /http-basic.localhost:" in found.stdout
    assert b"authorization" not in found.stdout.lower()
    assert SENT in private.heads[0]


# --- servers that misbehave ---------------------------------------------------------------------------------

MISBEHAVIOURS = {
    "garbage": b"\x00\xff" * 5000,
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a head without an end": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200_000,
    "a line without an end": b"HTTP/1.1 200 " + b"x" * 2_000_000,
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nabc",
    "a huge length": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n",
    "an unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: br\r\n\r\nabc",
    "only interim answers": b"HTTP/1.1 102 Processing\r\n\r\n" * 3,
    "interim answers without an end": b"HTTP/1.1 102 Processing\r\n\r\n" * 1000,
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-",
}


@pytest.mark.parametrize("name", MISBEHAVIOURS)
def test_a_server_that_answers_something_else_is_an_error_in_words(world: World, name: str) -> None:
    def script(each: Connection) -> bool:
        with contextlib.suppress(OSError):
            each.send(MISBEHAVIOURS[name])
        return False

    server = world.serve(script)
    broker = world.start(server)
    found = broker.curl("-w", " %{http_code}", f"https://localhost:{server.port}/")
    assert found.stdout.endswith(b" 502"), found.stdout[:200]
    assert f"ic-secrets: localhost:{server.port}: ".encode() in found.stdout
    assert len(found.stdout) < 200
    assert broker.read_status("VmRSS") < 60_000


def test_an_answer_that_follows_without_a_request_is_never_taken_for_another(world: World) -> None:
    """A server, or whoever smuggles, may send more than one answer to one request."""
    surplus = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"

    def script(each: Connection) -> None:
        each.answer(each.path.encode())
        if each.path == "/0":
            each.send(surplus)

    server = world.serve(script)
    broker = world.start(server)
    found = [broker.curl(f"https://localhost:{server.port}/{number}").stdout for number in range(4)]
    assert found == [b"/0", b"/1", b"/2", b"/3"]
    assert server.connections == 2


class Threaded:
    """A proxy in this process, with other limits."""

    def __init__(self, order: Order, limits: Limits) -> None:
        self.authority = Authority()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._order, self._limits = order, limits
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    async def _run(self) -> None:
        self._over = asyncio.Event()
        self._serving = asyncio.ensure_future(
            Proxy(self._order, self.authority, Tally(), self._limits).serve({self._listener: None})
        )
        await self._over.wait()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def __enter__(self) -> Threaded:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._loop.close()


def test_nobody_is_waited_for_without_an_end(world: World) -> None:
    stuck = threading.Event()

    def script(each: Connection) -> bool:
        starts = {"/body": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "/head": b"HTTP/1.1 200 OK\r\nX"}
        each.send(starts.get(each.path, b""))
        stuck.wait(30)
        return False

    server = world.serve(script, tls=False)
    limits = Limits(idle=1, head=1, start=1, silence=1, poll=3)
    with Threaded(Order(password=PASSWORD), limits) as proxy:

        def ask(data: bytes) -> tuple[bytes, float]:
            start = time.monotonic()
            with socket.create_connection(("127.0.0.1", proxy.port), 30) as peer:
                peer.sendall(data)
                return read_all(peer), time.monotonic() - start

        where = b"http://127.0.0.1:%d" % server.port
        rest = b" HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%b" % (server.port, LOGIN)
        for data, status in (
            (b"", b""),
            (b"GET / HT", b""),
            (b"GET " + where + b"/nothing" + rest + b"\r\n", b"HTTP/1.1 504 "),
            (b"GET " + where + b"/head" + rest + b"\r\n", b"HTTP/1.1 504 "),
            (b"GET " + where + b"/body" + rest + b"\r\n", b"HTTP/1.1 200 "),
        ):
            answer, took = ask(data)
            assert answer.startswith(status), data
            assert bool(status) == bool(answer)
            assert 0.5 < took < 10
        stuck.set()


# --- clients that misbehave ---------------------------------------------------------------------------------


def test_a_client_that_stops_reading_makes_nothing_grow(world: World) -> None:
    sent = [0]

    def script(each: Connection) -> bool:
        each.send(b"HTTP/1.1 200 OK\r\n\r\n")
        each.peer.settimeout(3)
        with contextlib.suppress(OSError):
            while True:
                each.send(bytes(1 << 20))
                sent[0] += 1
        return False

    private, other = world.serve(script), world.serve(script)
    broker = world.start(private)
    for server in (private, other):
        sent[0] = 0
        peer = broker.connect()
        if server is private:
            peer.close()
            peer = broker.tunnel(f"localhost:{server.port}")
        else:
            target = b"localhost:%d" % server.port
            peer.sendall(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (target, target, LOGIN))
            assert peer.recv(39)[:12] == b"HTTP/1.1 200"
            peer = ssl.create_default_context(cafile=str(world.ca)).wrap_socket(peer, server_hostname="localhost")
        with peer:
            peer.sendall(b"GET / HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % server.port)
            assert peer.recv(10)
            time.sleep(5)
            assert sent[0] < 40  # what the kernel's and our buffers hold
            assert broker.read_status("VmRSS") < 60_000


def test_five_hundred_connections_at_once_are_all_answered(world: World) -> None:
    server = world.serve(lambda each: each.answer(b"x"))
    broker = world.start(server)
    idle = []
    for _ in range(500):
        peer = broker.connect()
        peer.sendall(b"CONNECT localhost:%d HTTP/1.1\r\n" % server.port)
        idle.append(peer)
    with ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(
                lambda _: broker.ask_inside(server, b"GET / HTTP/1.1\r\nHost: %h\r\nConnection: close\r\n\r\n"),
                range(100),
            )
        )
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    for peer in idle:
        peer.sendall(b"Host: x\r\n\r\n")
        assert peer.recv(12) == b"HTTP/1.1 407"
        peer.close()
    assert broker.curl("-w", "%{http_code}", f"https://localhost:{server.port}/").stdout == b"x200"


def test_a_build_that_asks_many_hosts_does_not_use_up_the_brokers_descriptors(world: World) -> None:
    server = world.serve(lambda each: each.answer(b"x"), tls=False, host="0.0.0.0")
    broker = world.start()
    urls = [f"http://127.0.0.{number}:{server.port}/" for number in range(1, 151)]
    assert broker.curl(*urls).stdout == b"x" * 150
    assert server.connections == 150
    assert len(list(Path(f"/proc/{broker.pid}/fd").iterdir())) < 100
    assert broker.curl(*urls[-20:]).stdout == b"x" * 20
    assert server.connections == 150  # the newest are kept


def test_a_server_that_hands_out_gigabytes_instead_of_a_token_is_not_read_to_the_end(world: World) -> None:
    sent = [0]

    def script(each: Connection) -> bool:
        each.read_body()
        each.send(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(OSError):
            while sent[0] < 1000:
                each.send(bytes(1 << 20))
                sent[0] += 1
        return False

    server = world.serve(script, context=world.make_context("bitbucket.org", "api.bitbucket.org"))
    through = world.serve(lambda each: serve_proxy(each, server.port), tls=False)
    broker = start_for_bitbucket(world, through)
    found = broker.curl("-w", " %{http_code}", "https://api.bitbucket.org/2.0/repositories/acme/private")
    assert b"its answer is too large" in found.stdout
    assert found.stdout.endswith(b" 502")
    assert sent[0] < 100
    assert broker.read_status("VmHWM") < 90_000


def test_a_client_that_goes_away_ends_what_it_asked_for(world: World) -> None:
    gone = threading.Event()

    def script(each: Connection) -> bool:
        with contextlib.suppress(OSError):
            each.peer.recv(1)
        gone.set()
        return False

    server = world.serve(script)
    broker = world.start(server)
    with broker.tunnel(f"localhost:{server.port}") as peer:
        peer.sendall(b"GET / HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % server.port)
        deadline = time.monotonic() + 30
        while not server.heads and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not gone.is_set()
    assert gone.wait(10)


WORDS = """
    GET POST PUT / /x //x HTTP/1.1 HTTP/1.0 Host: Content-Length: Transfer-Encoding: chunked 0 5 : %h %o http://%h/
    http://%o/ https://%o/ Authorization: Connection: close keep-alive Expect: 100-continue a , ;
"""
PIECES = st.sampled_from(
    [
        *(word.encode() for word in WORDS.split()),
        *(b" ", b"\t", b"\r", b"\n", b"\r\n", b"\r\n ", b"\r\n\r\n", b"\0", b"\xff"),
        b"GET / HTTP/1.1\r\nHost: %h\r\n\r\n",
        b"GET http://%o/ HTTP/1.1\r\nHost: %o\r\n%b\r\n",
        b"POST /x HTTP/1.1\r\nHost: %h\r\nContent-Length: 5\r\n\r\nhello",
    ]
)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scripted, Scripted, Broker]]:
    with make_world(tmp_path_factory.mktemp("world")) as world:
        private, other = (
            world.serve(lambda each: each.answer(b"x")),
            world.serve(lambda each: each.answer(b"x"), tls=False),
        )
        yield private, other, world.start(private)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(PIECES, max_size=12), is_inside=st.booleans())
def test_no_credential_reaches_another_host_whatever_is_sent(
    two: tuple[Scripted, Scripted, Broker], pieces: list[bytes], is_inside: bool
) -> None:
    private, other, broker = two
    private.heads.clear()
    other.heads.clear()
    data = b"".join(pieces).replace(b"%o", b"localhost:%d" % other.port).replace(b"%h", b"localhost:%d" % private.port)
    with broker.tunnel(f"localhost:{private.port}") if is_inside else broker.connect() as peer:
        peer.sendall(data.replace(b"%b", LOGIN))
        with contextlib.suppress(OSError):
            (peer.unwrap() if isinstance(peer, ssl.SSLSocket) else peer).shutdown(socket.SHUT_WR)
        answer = read_all(peer)
    assert not any(canary in head for head in (*other.heads, answer) for canary in (*CANARIES, CANARY.encode()))
    assert all(head.count(SENT) == 1 for head in private.heads)
    assert answer.count(b"HTTP/1.1 200 ") <= len(private.heads) + len(other.heads)
