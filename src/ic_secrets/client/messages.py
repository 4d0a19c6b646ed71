"""HTTP/1.1 (RFC 9112) as far as a client of one JSON service needs it: one request out, one whole response in.

Written here since every build on a server's store pays for it: the standard library's client, with what it imports and
how it reads headers, takes as long as all the rest of reading fifty secrets. It is strict: what is not plainly a
response is none.
"""

import re
from collections.abc import Mapping
from typing import BinaryIO, NamedTuple

from ..errors import ConfigError

LARGEST_ANSWER = 16 << 20
_LONGEST_LINE = 16 << 10
_MOST_LINES = 200
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*\r?\n")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
_SENDABLE = re.compile(r"[ -~]*")
_WITHOUT_CONTENT = frozenset({204, 304})


class TransientError(Exception):
    """What may be over at the next try; its text says what it was."""


class StrangeAnswerError(TransientError):
    """Somebody answered, and not as the server does: a machine on the way to it."""


class Response(NamedTuple):
    """A status, the headers by their names in lower case (the last of a name), and the content.

    After one that `is_last` the connection is of no more use.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    is_last: bool


def render_request(method: str, target: str, host: str, headers: Mapping[str, str], content: bytes | None) -> bytes:
    """The request as it is sent; ConfigError where a header would not be one line of ASCII."""
    fields = {"Host": host, "Accept-Encoding": "identity", **headers}
    if content is not None or method in {"POST", "PUT", "PATCH"}:
        fields["Content-Length"] = str(len(content or b""))
    if not all(_SENDABLE.fullmatch(each) for each in (target, *fields, *fields.values())) or " " in target:
        raise ConfigError("what is to be sent to the server (a token, a namespace) is not one line of ASCII")
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + (content or b"")


def read_response(reader: BinaryIO) -> Response:
    """The next response to anything but HEAD; TransientError where there is none. OSErrors of the reader are raised.

    Content beyond the largest that an answer can be is not read; the response is the connection's last then.
    """
    for _ in range(10):
        found = _STATUS.fullmatch(_read_line(reader))
        if not found:
            raise StrangeAnswerError("no HTTP comes back")
        status, headers = int(found[1]), _read_headers(reader)
        if status >= 200:
            break
    else:
        raise StrangeAnswerError("nothing but interim responses come back")
    is_last = "close" in headers.get("connection", "").lower() or found[0].startswith(b"HTTP/1.0")
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if status in _WITHOUT_CONTENT:
        return Response(status, headers, b"", is_last)
    if coding is not None:
        if coding.lower() != "chunked" or length is not None:
            raise StrangeAnswerError("an answer comes back in a coding that nobody asked for")
        content, is_whole = _read_chunks(reader)
        return Response(status, headers, content, is_last or not is_whole)
    if length is None:
        return Response(status, headers, reader.read(LARGEST_ANSWER), True)
    if not re.fullmatch(r"[0-9]{1,15}", length):
        raise StrangeAnswerError("an answer comes back that does not say how long it is")
    size = min(int(length), LARGEST_ANSWER)
    return Response(status, headers, _read_exactly(reader, size), is_last or size < int(length))


def _read_headers(reader: BinaryIO) -> dict[str, str]:
    headers: dict[str, str] = {}
    for _ in range(_MOST_LINES):
        line = _read_line(reader)
        if line in {b"\r\n", b"\n"}:
            return headers
        found = _HEADER.fullmatch(line)
        if not found:
            raise StrangeAnswerError("headers come back that are none")
        name, value = found[1].decode().lower(), found[2].decode("latin-1")
        if name in {"content-length", "transfer-encoding"} and headers.get(name, value) != value:
            raise StrangeAnswerError("an answer comes back that says twice how long it is")
        headers[name] = value
    raise StrangeAnswerError("headers without end come back")


def _read_chunks(reader: BinaryIO) -> tuple[bytes, bool]:
    """The content, and whether that is all of it."""
    content = bytearray()
    while True:
        found = _CHUNK.fullmatch(_read_line(reader))
        if not found:
            raise StrangeAnswerError("an answer comes back in chunks that are none")
        size = int(found[1], 16)
        if not size:
            _read_headers(reader)
            return bytes(content), True
        if len(content) + size > LARGEST_ANSWER:
            return bytes(content + _read_exactly(reader, LARGEST_ANSWER - len(content))), False
        content += _read_exactly(reader, size)
        if _read_line(reader) not in {b"\r\n", b"\n"}:
            raise StrangeAnswerError("an answer comes back in chunks that are none")


def _read_exactly(reader: BinaryIO, size: int) -> bytes:
    content = reader.read(size)
    if len(content) < size:
        raise TransientError("the connection broke")
    return content


def _read_line(reader: BinaryIO) -> bytes:
    line = reader.readline(_LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise (
            TransientError("the connection broke")
            if len(line) < _LONGEST_LINE
            else StrangeAnswerError("headers without end come back")
        )
    return line
