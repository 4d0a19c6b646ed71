"""HTTP/1.1 on streams: heads and bodies, parsed and written by h11, which is stricter here to clients.

What a client sends is parsed and then written anew, so that no two readers can take it for different requests. No
error holds anything of a message.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from typing import Literal

import h11

from ..core.records import NamedTuple
from .decisions import Answer, HeaderLines
from .streams import BrokenError, Stream
from .targets import RequestError

# The largest head that is taken from a client, and from a server.
_LARGEST_REQUEST = 64 << 10
_LARGEST_RESPONSE = 256 << 10
# A lone CR or LF, a folded or empty name's line, white space before a colon, or a control character.
_ODD_HEAD = re.compile(rb"\r(?!\n)|(?<!\r)\n|\n[ \t:]|\n[^:\r\n]*[ \t]:|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_NO_BODY = frozenset({204, 304})
# What says how a message is framed, is meant for the next hop alone, or leads a client past us.
_HOP = frozenset(
    "connection content-length http2-settings keep-alive proxy-authenticate proxy-authorization proxy-connection te "
    "trailer transfer-encoding upgrade alt-svc".split()
)


class GarbageError(BrokenError):
    """What a server answers is not HTTP."""


class Framing(NamedTuple):
    """How a body ends: after a length, with a last chunk or with the connection; or there is no body at all."""

    kind: Literal["none", "length", "chunked", "end"]
    length: int = 0


class Request(NamedTuple):
    """The head of a client's request, names of headers in lower case, and its parser."""

    method: str
    target: str
    headers: HeaderLines
    version: bytes
    framing: Framing
    parser: h11.Connection

    def __repr__(self) -> str:
        return f"Request({self.method})"

    def list(self, name: str) -> list[str]:
        """Return the values of the header of that (lower-case) name."""
        return [value for key, value in self.headers if key == name]

    @property
    def keeps_alive(self) -> bool:
        """Whether the client wants to send another request after it."""
        words = ",".join((*self.list("connection"), *self.list("proxy-connection"))).lower()
        return self.version == b"1.1" and "close" not in words

    @property
    def waits(self) -> bool:
        """Whether the client waits for a word before it sends the body."""
        return self.framing.kind != "none" and "100-continue" in ",".join(self.list("expect")).lower()


class Response(NamedTuple):
    """The head of a server's answer, and its parser."""

    status: int
    reason: str
    headers: HeaderLines
    framing: Framing
    keeps_alive: bool
    parser: h11.Connection

    def __repr__(self) -> str:
        return f"Response({self.status})"


async def read_request(stream: Stream, idle: float, timeout: float) -> Request | None:
    """Return the next request's head, None where the client sends none any more.

    It may wait `idle` seconds with a request, and take `timeout` for its head. RequestError; BrokenError.
    """
    data = await stream.read(idle)
    if data[:2] == b"\r\n":  # an empty line before a request (RFC 9112, 2.2)
        data = data[2:] or await stream.read(idle)
    if not data:
        return None
    start = 0  # what came before was looked at: whoever sends byte after byte costs little
    while (end := data.find(b"\r\n\r\n", max(start - 3, 0))) < 0 and len(data) <= _LARGEST_REQUEST:
        _check_head(data[max(start - 1, 0) :].rstrip(b"\r"))
        more = await stream.read(timeout)
        if not more:
            raise BrokenError("the request was cut off")
        start = len(data)
        data += more
    if not 0 <= end <= _LARGEST_REQUEST:
        raise RequestError(431, "the head of the request is too large")
    head, rest = data[: end + 4], data[end + 4 :]
    _check_head(head)
    stream.unread(rest)
    return _parse_request(head)


def _check_head(data: bytes) -> None:
    if _ODD_HEAD.search(data):
        raise RequestError(400, "the request is not plain HTTP/1.1")


def _parse_request(head: bytes) -> Request:
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=_LARGEST_REQUEST + 4)
    try:
        parser.receive_data(head)
        event = parser.next_event()
    except h11.RemoteProtocolError as error:
        raise RequestError(error.error_status_hint or 400, "the request is not plain HTTP/1.1") from None
    if not isinstance(event, h11.Request) or event.http_version not in (b"1.0", b"1.1"):
        raise RequestError(505, "the request is not HTTP/1.1")
    headers = _decode(event.headers)
    # h11 takes lengths that agree, in several lines or in one.
    lengths = re.findall(rb"\r\ncontent-length:([^\r]*)", head, re.IGNORECASE)
    codings = [value for name, value in headers if name == "transfer-encoding"]
    is_doubled = len(lengths) > 1 or any(b"," in each for each in lengths)
    if is_doubled or (codings and (lengths or event.http_version == b"1.0")):
        raise RequestError(400, "the request says twice where its body ends")
    length = int(next((value for name, value in headers if name == "content-length"), "0"))
    framing = Framing("chunked") if codings else Framing("length", length) if length else Framing("none")
    version = event.http_version
    return Request(event.method.decode(), event.target.decode(), headers, version, framing, parser)


async def read_response(stream: Stream, parser: h11.Connection, method: str, timeout: float, idle: float) -> Response:
    """Return the next answer's head, an interim one too; `parser` is that of `write_request`.

    It may take `timeout` seconds to come, and then be silent for `idle`. BrokenError.
    """
    while True:
        try:
            event = parser.next_event()
        except h11.RemoteProtocolError:
            raise GarbageError("its answer is not HTTP") from None
        if event is not h11.NEED_DATA:
            break
        data = await stream.read(timeout)
        timeout = idle
        if not data:
            raise BrokenError("it ended without an answer")
        parser.receive_data(data)
    if not isinstance(event, (h11.InformationalResponse, h11.Response)):
        raise GarbageError("its answer is not HTTP")
    headers = _decode(event.headers)
    reason = bytes(event.reason).decode("latin-1")
    if isinstance(event, h11.InformationalResponse):
        return Response(event.status_code, reason, headers, Framing("none"), True, parser)
    found = dict(headers)
    if method == "HEAD" or event.status_code in _NO_BODY:
        framing = Framing("none")
    elif "transfer-encoding" in found:
        framing = Framing("chunked")
    elif "content-length" in found:
        framing = Framing("length", int(found["content-length"]))
    else:
        framing = Framing("end")
    keeps_alive = event.http_version == b"1.1" and framing.kind != "end"
    keeps_alive = keeps_alive and "close" not in found.get("connection", "").lower()
    return Response(event.status_code, reason, headers, framing, keeps_alive, parser)


async def read_body(
    stream: Stream, framing: Framing, parser: h11.Connection, idle: float | None
) -> AsyncIterator[bytes]:
    """Return the pieces of the body that follows a head, which may be `idle` seconds apart.

    What follows the body stays in the stream. RequestError for chunks that are not; BrokenError.
    """
    if parser.our_role is h11.CLIENT and framing.kind != "chunked":
        stream.unread(parser.trailing_data[0])
    if framing.kind == "chunked":
        async for piece in _read_chunks(stream, parser, idle):
            yield piece
    elif framing.kind == "end":
        while piece := await stream.read(idle):
            yield piece
    left = framing.length if framing.kind == "length" else 0
    while left:
        piece = await stream.read(idle)
        if not piece:
            raise BrokenError("it was cut off")
        if len(piece) > left:
            stream.unread(piece[left:])
            piece = piece[:left]
        left -= len(piece)
        yield piece


async def _read_chunks(stream: Stream, parser: h11.Connection, idle: float | None) -> AsyncIterator[bytes]:
    while True:
        try:
            event = parser.next_event()
        except h11.RemoteProtocolError:
            if parser.our_role is h11.SERVER:
                raise RequestError(400, "the chunks of the request are not plain HTTP/1.1") from None
            raise GarbageError("its chunks are not HTTP") from None
        if isinstance(event, h11.Data):
            yield bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            stream.unread(parser.trailing_data[0])
            return
        elif event is h11.NEED_DATA:
            data = await stream.read(idle)
            if not data:
                raise BrokenError("it was cut off")
            parser.receive_data(data)
        else:
            raise GarbageError("its chunks are not HTTP")


def write_request(
    method: str, target: str, headers: HeaderLines, framing: Framing, hop: HeaderLines = ()
) -> tuple[bytes, h11.Connection]:
    """Return the head of a request, and the parser of its answer.

    The framing replaces what the headers say of it; `hop` is for the next proxy alone.
    """
    lines = [line for line in headers if line[0] not in _HOP] + [*hop]
    if framing.kind == "chunked":
        lines.append(("transfer-encoding", "chunked"))
    elif framing.kind == "length" or method in ("POST", "PUT", "PATCH"):
        lines.append(("content-length", str(framing.length)))
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LARGEST_RESPONSE)
    try:
        event = h11.Request(method=method, target=target.encode("latin-1"), headers=_encode(lines))
        head = parser.send(event) or b""
    except (h11.LocalProtocolError, UnicodeError):
        raise RequestError(400, "the request cannot be sent as HTTP/1.1") from None
    return head, parser


def write_response(request: Request, response: Response, *, keeps_alive: bool) -> tuple[bytes, bool]:
    """Return the head of an answer for the client, and whether its body is sent in chunks."""
    lines = [line for line in response.headers if line[0] not in _HOP]
    kind, chunked = response.framing.kind, False
    has_no_body = response.status in _NO_BODY or response.status < 200
    if kind == "none":  # that of the answer to a GET is kept for HEAD and 304
        lines += [line for line in response.headers if line[0] == "content-length" and response.status != 204][:1]
    elif kind == "length":
        lines.append(("content-length", str(response.framing.length)))
    elif request.version == b"1.1":
        chunked = True
        lines.append(("transfer-encoding", "chunked"))
    if not keeps_alive and not (has_no_body and response.status < 200):
        lines.append(("connection", "close"))
    reason = re.sub(r"[^\t\x20-\x7e\x80-\xff]", " ", response.reason)
    text = "".join(f"{name}: {value}\r\n" for name, value in lines)
    return f"HTTP/1.1 {response.status} {reason}\r\n{text}\r\n".encode("latin-1", "replace"), chunked


def write_answer(answer: Answer, *, keeps_alive: bool, is_head: bool = False) -> bytes:
    """Return a whole answer of our own."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in answer.headers if name != "content-length")
    lines += f"content-length: {len(answer.body)}\r\n" + ("" if keeps_alive else "connection: close\r\n")
    reason = re.sub(r"[^\x20-\x7e]", "?", answer.reason)
    return f"HTTP/1.1 {answer.status} {reason}\r\n{lines}\r\n".encode("latin-1") + (b"" if is_head else answer.body)


def write_chunk(piece: bytes) -> bytes:
    """Return the piece as a chunk; the empty one is the last."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _decode(headers: Iterable[tuple[bytes, bytes]]) -> HeaderLines:
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)


def _encode(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
