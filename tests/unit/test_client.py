"""The HTTP client for every server that we ask: what it takes for a reply, how long it waits, what it never sends."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ic_secrets.client import connection as connections, http
from ic_secrets.client.addresses import Address, parse_address
from ic_secrets.client.connection import Reply, Request, connect
from ic_secrets.client.errors import (
    InvalidReplyError,
    ReplyTooLargeError,
    TransientError,
    UnavailableError,
    UntrustedError,
)
from ic_secrets.errors import ConfigError
from ic_secrets.stores.openbao import client as bao
from ic_secrets.stores.openbao.layout import Node
from ic_secrets.stores.openbao.login import Session
from ic_secrets.stores.pantheon import client as pantheon

CANARY = "a-canary-of-a-token"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

REPLIES = {
    "of a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", True),
    "without a reason": (b"HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", 404, b"", True),
    "in chunks": (CHUNKED + b"3\r\nhel\r\n2;why=not\r\nlo\r\n0\r\nTrailer: yes\r\n\r\n", 200, b"hello", True),
    "to the end": (b"HTTP/1.1 200 OK\r\n\r\nhello", 200, b"hello", False),
    "the last one": (b"HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 2\r\n\r\nhi", 200, b"hi", False),
    "of HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", False),
    "after an interim one": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "a redirect": (b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n", 307, b"", True),
}

BROKEN = {
    "nothing": b"",
    "cut in its content": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
    "cut in a chunk": CHUNKED + b"9\r\nhello",
    "cut between chunks": CHUNKED + b"5\r\nhello\r\n",
}

INVALID = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a newer version": b"HTTP/2 200\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhi",
    "an endless line": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000,
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000,
}


class Listener:
    """A server on a free port that reads each request and replies with what `reply` gives, b"" to hang up."""

    def __init__(self, reply: Callable[[int], bytes], hangs_up: bool) -> None:
        self.requests: list[bytes] = []
        self._reply = reply
        self._hangs_up = hangs_up
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.address = Address("127.0.0.1", self._sock.getsockname()[1], False)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._sock.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(sock,), daemon=True))
                self._threads[-1].start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            while data := sock.recv(1 << 16):
                self.requests.append(data)
                reply = self._reply(len(self.requests))
                sock.sendall(reply)
                if (
                    self._hangs_up
                    or not reply
                    or b"Content-Length" not in reply
                    or b"onnection: " in reply
                    or b"HTTP/1.0" in reply
                ):
                    return

    def close(self) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


@contextlib.contextmanager
def replying(*replies: bytes, hangs_up: bool = False) -> Iterator[Listener]:
    """A server that gives these replies in turn, the last of them again and again."""
    listener = Listener(lambda number: replies[min(number, len(replies)) - 1], hangs_up)
    try:
        yield listener
    finally:
        listener.close()


GET = Request("GET", "/")


def exchange(address: Address, request: Request = GET, timeout: float = 5.0) -> Reply:
    connection = connect(address, lambda: None, timeout)  # type: ignore[arg-type, return-value]
    try:
        return connection.exchange(request, timeout)
    finally:
        connection.close()


# --- what is taken for a reply --------------------------------------------------------------------------


@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_is_read_whole(name: str) -> None:
    """The connection is kept only where another reply can follow; a redirect is a reply, and not followed."""
    data, status, content, is_kept = REPLIES[name]
    with replying(data) as listener:
        connection = connect(listener.address, lambda: None, 5)  # type: ignore[arg-type, return-value]
        reply = connection.exchange(Request("GET", "/"), 5)
        assert (reply.status, reply.content) == (status, content)
        if not is_kept:
            assert not connection.is_open
            with pytest.raises(TransientError, match="broke"):
                connection.exchange(Request("GET", "/"), 5)
        elif b"chunked" not in data and b"Continue" not in data:
            assert connection.exchange(Request("GET", "/"), 5).content == content
        connection.close()


@pytest.mark.parametrize("name", BROKEN)
def test_a_reply_that_ends_too_early_is_not_one(name: str) -> None:
    with replying(BROKEN[name], hangs_up=True) as listener, pytest.raises(TransientError) as error:
        exchange(listener.address)
    assert not isinstance(error.value, InvalidReplyError)


@pytest.mark.parametrize("name", INVALID)
def test_what_is_not_http_is_not_a_reply(name: str) -> None:
    with replying(INVALID[name]) as listener, pytest.raises(InvalidReplyError, match="not valid HTTP"):
        exchange(listener.address)


@pytest.mark.parametrize("name", ["of a length", "in chunks", "to the end"])
def test_too_large_a_reply_is_not_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LARGEST_REPLY", 4)
    with replying(REPLIES[name][0]) as listener, pytest.raises(ReplyTooLargeError):
        exchange(listener.address)


@pytest.mark.parametrize(
    ("content", "found"),
    [(b"", {}), (b'{"a": 1}', {"a": 1}), (b"[]", None), (b"<html>", None), (b"[" * 100_000, None), (b"\xff", None)],
)
def test_only_a_json_object_is_one(content: bytes, found: object) -> None:
    assert Reply(200, {}, content).parse_object() == found


# --- what is sent ---------------------------------------------------------------------------------------


def test_a_request_is_what_was_asked() -> None:
    with replying(OK) as listener:
        exchange(listener.address, Request("POST", "/v1/a?b=c", {"a": "b"}, {"X-Vault-Token": "t"}))
        exchange(listener.address, Request("POST", "/"))
        exchange(listener.address, Request("LIST", "/"))
    head, _, content = listener.requests[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /v1/a?b=c HTTP/1.1"
    assert set(head.split(b"\r\n")[1:]) == {
        f"Host: {listener.address.authority}".encode(),
        b"Accept-Encoding: identity",
        b"User-Agent: ic-secrets",
        b"X-Vault-Token: t",
        b"Content-Type: application/json",
        b"Content-Length: 10",
    }
    assert content in {b"", b'{"a": "b"}'}
    rest = b"".join(listener.requests[1:])
    assert b"POST / HTTP/1.1\r\nContent-Length: 0\r\n" in rest
    assert b"LIST / HTTP/1.1\r\n" in rest


@pytest.mark.parametrize("end", ["\r\nX: y", "\nb", "\n b", "ä", "\x00"])
def test_nothing_is_smuggled_into_a_request(end: str) -> None:
    """A token of two lines would be two headers; the error does not show it."""
    with replying(OK) as listener:
        for request in (Request("GET", "/", headers={"X-Token": CANARY + end}), Request("GET", f"/{CANARY}{end}")):
            with pytest.raises(ConfigError) as error:
                exchange(listener.address, request)
            assert CANARY not in str(error.value)
    assert listener.requests == []


def test_no_repr_shows_what_is_sent_or_received() -> None:
    """Tokens and values are in headers, bodies and contents."""
    secret = {"value": CANARY}
    shown: list[object] = [
        Request("GET", "/", secret, secret),
        Reply(200, secret, CANARY.encode()),
        connections.Proxy(Address("127.0.0.1", 1, False), secret),
        bao.Request("GET", "a", secret),
        bao.Answer(200, secret),
        Node(secret, secret, 1),
        Session(CANARY, ours=True),
        pantheon.Reply(200, secret),
    ]
    assert CANARY not in repr(shown) + "".join(map(str, shown))


def test_only_this_machine_is_asked_without_tls() -> None:
    for url in (
        "http://a.example.org",
        "ftp://127.0.0.1",
        "https://user@a.example.org",
        "https://",
        "x",
        "http://[::1",
    ):
        with pytest.raises(ConfigError, match="the URL"):
            parse_address(url, name="the URL", hint="")
    assert parse_address("https://a.example.org", name="", hint="") == ("a.example.org", 443, True)
    assert str(parse_address("http://[::1]", name="", hint="", port=8200)) == "http://[::1]:8200"


# --- how long it takes ----------------------------------------------------------------------------------


def drip(data: bytes) -> Iterator[bytes]:
    yield data
    while True:
        time.sleep(0.1)
        yield b"a"


@pytest.mark.parametrize("tls", [False, True], ids=["headers", "handshake"])
def test_a_server_that_drips_is_given_up_in_time(tls: bool) -> None:
    """One byte after the other, each well within the time of a read; in a TLS handshake too."""
    start = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xf0" if tls else b"HTTP/1.1 200 OK\r\nX-Slow: "
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            sock, _ = server.accept()
            with sock, contextlib.suppress(OSError):
                for data in drip(start):
                    sock.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        address = Address("127.0.0.1", server.getsockname()[1], tls)
        client = http.Client([address], http.TimeBudget(1))
        started = time.monotonic()
        with pytest.raises(TransientError, match="timed out"):
            http.fetch(client, lambda connection: connection.exchange(Request("GET", "/"), client.find_timeout()))
        assert time.monotonic() - started < 3
        client.close()
    thread.join()


def fetch(address: Address, budget: float = 5.0, nodes: tuple[Address, ...] = ()) -> Reply:
    client = http.Client([address, *nodes], http.TimeBudget(budget))
    try:
        return http.fetch(client, lambda connection: connection.exchange(Request("GET", "/"), client.find_timeout()))
    finally:
        client.close()


@pytest.mark.parametrize(
    "failure",
    [b"", b"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"],
    ids=["hangs-up", "429", "503"],
)
def test_failures_are_tried_again(failure: bytes) -> None:
    with replying(failure, failure, OK) as listener:
        assert fetch(listener.address).status == 200
    assert len(listener.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_refusals_are_never_tried_again(status: int) -> None:
    with replying(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()) as listener:
        assert fetch(listener.address).status == status
    assert len(listener.requests) == 1


def test_the_server_says_how_long_to_wait() -> None:
    later = b"HTTP/1.1 429 Slow\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
    with replying(later, OK) as listener:
        started = time.monotonic()
        assert fetch(listener.address).status == 200
        assert time.monotonic() - started >= 1
    with replying(later.replace(b"1\r\nC", b"3600\r\nC")) as listener, pytest.raises(TransientError, match="too many"):
        fetch(listener.address)
    assert len(listener.requests) == 1


def test_the_budget_is_for_all_tries() -> None:
    with replying(b"") as listener:
        started = time.monotonic()
        with pytest.raises(TransientError):
            fetch(listener.address, budget=0.6)
        assert time.monotonic() - started < 2
    assert len(listener.requests) > 1


def closed_address() -> Address:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return Address("127.0.0.1", server.getsockname()[1], False)


def test_the_next_node_is_asked_at_once() -> None:
    with replying(OK) as listener:
        assert fetch(closed_address(), nodes=(listener.address,)).status == 200
    with pytest.raises(TransientError, match="refused"):
        fetch(closed_address(), budget=0.3)


def test_a_host_that_does_not_exist_is_not_asked_again() -> None:
    """Where a name server says so; one that does not reply is asked again."""
    with pytest.raises((UnavailableError, TransientError), match=r"does not exist|not resolved"):
        fetch(Address("no-such-host.invalid", 80, False), budget=1)


def test_a_connection_that_the_server_closed_meanwhile_is_not_used() -> None:
    with replying(OK) as listener:
        client = http.Client([listener.address], http.TimeBudget(5))
        with client.connection() as first:
            assert first.exchange(Request("GET", "/"), 5).status == 200
        with client.connection() as again:
            assert again is first
        first._raw.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
        with client.connection() as second:
            assert second is not first
            assert second.exchange(Request("GET", "/"), 5).status == 200
        client.close()


def test_what_does_not_speak_tls_is_not_trusted() -> None:
    with replying(OK) as listener:
        client = http.Client([listener.address._replace(tls=True)], http.TimeBudget(5))
        with pytest.raises(UntrustedError, match="does not speak TLS"), client.connection():
            pass


# --- side by side ---------------------------------------------------------------------------------------


def test_many_requests_go_side_by_side_on_kept_connections() -> None:
    with replying(OK) as listener:
        client = http.Client([listener.address], http.TimeBudget(5))

        def ask(number: int) -> int:
            http.fetch(client, lambda connection: connection.exchange(Request("GET", f"/{number}"), 5))
            return number

        assert client.run_all(ask, range(20)) == list(range(20))
        assert client.run_all(ask, []) == []
        assert len(client._kept) <= 3
        client.close()
    assert len({json.dumps(request.split(b" ")[1].decode()) for request in listener.requests}) == 20


def test_the_first_failure_of_many_is_raised_when_all_have_ended() -> None:
    client = http.Client([closed_address()], http.TimeBudget(5))
    ended: list[int] = []

    def work(number: int) -> None:
        time.sleep(0.05)
        ended.append(number)
        if number == 1:
            raise TransientError("one failed")

    with pytest.raises(TransientError, match="one failed"):
        client.run_all(work, range(9))
    assert len(ended) <= 6
