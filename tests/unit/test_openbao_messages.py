"""What is sent to a server on a line, and what is taken for its response: nothing that is not plainly one."""

from __future__ import annotations

import io
import json

import pytest

from ic_secrets.client import messages
from ic_secrets.client.messages import StrangeAnswerError, TransientError, read_response, render_request
from ic_secrets.errors import ConfigError

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

RESPONSES = {
    "of a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", False),
    "without a reason": (b"HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", 404, b"", False),
    "in chunks": (CHUNKED + b"3\r\nhel\r\n2;why=not\r\nlo\r\n0\r\nTrailer: yes\r\n\r\n", 200, b"hello", False),
    "to the end": (b"HTTP/1.1 200 OK\r\n\r\nhello", 200, b"hello", True),
    "the last one": (b"HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 2\r\n\r\nhi", 200, b"hi", True),
    "of HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", True),
    "after an interim one": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", 204, b"", False),
    "without content": (b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", 204, b"", False),
}

BROKEN = {
    "nothing": b"",
    "cut in its status": b"HTTP/1.1 20",
    "cut in its headers": b"HTTP/1.1 200 OK\r\nContent-Le",
    "cut in its content": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
    "cut in a chunk": CHUNKED + b"9\r\nhello",
    "cut between chunks": CHUNKED + b"5\r\nhello\r\n",
}

STRANGE = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a newer version": b"HTTP/2 200\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "a folded header": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
    "a header without a colon": b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
    "a space in a name": b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhi",
    "a length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a chunk of no size": CHUNKED + b"x\r\nhello\r\n0\r\n\r\n",
    "a chunk that goes on": CHUNKED + b"2\r\nhello\r\n0\r\n\r\n",
    "an endless line": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000,
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000,
    "endless interim responses": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
}


@pytest.mark.parametrize("name", RESPONSES)
def test_a_response_is_read_to_its_end_and_no_further(name: str) -> None:
    """What follows it is the next one's."""
    data, status, content, is_last = RESPONSES[name]
    reader = io.BytesIO(data if is_last else data + b"next")
    response = read_response(reader)
    assert (response.status, response.content, response.is_last) == (status, content, is_last)
    assert reader.read() == (b"" if is_last else b"next")


@pytest.mark.parametrize("name", BROKEN)
def test_what_ends_too_early_is_no_response(name: str) -> None:
    with pytest.raises(TransientError, match="the connection broke"):
        read_response(io.BytesIO(BROKEN[name]))


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_not_plainly_a_response_is_none(name: str) -> None:
    with pytest.raises(StrangeAnswerError):
        read_response(io.BytesIO(STRANGE[name]))


@pytest.mark.parametrize("name", ["of a length", "in chunks", "to the end"])
def test_no_more_is_read_than_an_answer_can_be(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the connection is of no more use."""
    monkeypatch.setattr(messages, "LARGEST_ANSWER", 4)
    response = read_response(io.BytesIO(RESPONSES[name][0]))
    assert (response.content, response.is_last) == (b"hell", True)


def test_a_request_is_what_was_asked() -> None:
    sent = render_request("POST", "/v1/a", "127.0.0.1:8200", {"X-Vault-Token": "t"}, json.dumps({"a": "b"}).encode())
    head, _, content = sent.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /v1/a HTTP/1.1",
        b"Host: 127.0.0.1:8200",
        b"Accept-Encoding: identity",
        b"X-Vault-Token: t",
        b"Content-Length: 10",
    ]
    assert content == b'{"a": "b"}'
    assert b"Content-Length: 0\r\n" in render_request("POST", "/", "h", {}, None)
    assert b"Content-Length" not in render_request("GET", "/", "h", {}, None)


@pytest.mark.parametrize("token", ["a\r\nX: y", "a\nb", "ä", "\x00"])
def test_nothing_is_smuggled_into_a_request(token: str) -> None:
    """A token of two lines would be two headers; the error does not show it."""
    with pytest.raises(ConfigError) as error:
        render_request("GET", "/v1/a", "h", {"X-Vault-Token": token}, None)
    assert token not in str(error.value)
