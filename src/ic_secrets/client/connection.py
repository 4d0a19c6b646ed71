"""One kept connection to a server, on urllib3. A time limit bounds each exchange, however slowly its bytes come."""

import http.client
import io
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, NewConnectionError, TimeoutError as Urllib3TimeoutError
from urllib3.response import BaseHTTPResponse

from ..core.records import NamedTuple
from ..errors import ConfigError
from .addresses import Address
from .errors import (
    CertificateError,
    DemandedCertificateError,
    HttpError,
    InvalidReplyError,
    ReplyTooLargeError,
    TlsError,
    TransientError,
    UnavailableError,
)

# In bytes.
LARGEST_REPLY = 16 << 20
_PIECE = 1 << 16
_SENDABLE = re.compile(r"[ -~]*")
_BROKEN = "the connection broke"
_FAILURES = (OSError, http.client.HTTPException, HTTPError)

MakeContext = Callable[[], ssl.SSLContext]


class Request(NamedTuple):
    """A method, a target (path and query, quoted), an object that is sent as JSON, and further headers."""

    method: str
    target: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return f"Request({self.method} {self.target})"


class Reply(NamedTuple):
    """A status, the headers (found in any case), and the content."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def __repr__(self) -> str:
        return f"Reply({self.status})"

    def parse_object(self) -> dict[str, Any] | None:
        """Return the JSON object that the content is; None for anything else, {} for no content."""
        try:
            found = json.loads(self.content) if self.content else {}
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None


class Proxy(NamedTuple):
    """An HTTP proxy on the way to a server, and the headers that it asks for."""

    address: Address
    headers: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return f"Proxy({self.address})"


class Connection:
    """A connection that was made by `connect`. For one thread at a time.

    `checked_at` is for who uses it: when (of the monotonic clock) the server last said that it is fit to answer.
    """

    def __init__(self, address: Address, raw: HTTPConnection, limit: "_TimeLimit", proxy: Proxy | None) -> None:
        self.address = address
        self.checked_at = 0.0
        default = f":{443 if address.tls else 80}"
        self._host = address.authority.removesuffix(default)
        self._raw = raw
        self._limit = limit
        self._proxy = None if address.tls else proxy

    @property
    def is_open(self) -> bool:
        """Return whether another request can be sent on it; False also where the server has closed it meanwhile."""
        return self._raw.sock is not None and self._raw.is_connected

    def close(self) -> None:
        """Close it; safe to call twice."""
        self._raw.close()

    def exchange(self, request: Request, timeout: float, *, reads_content: bool = True) -> Reply:
        """Return the reply to the request, whole within so many seconds; HttpError.

        ConfigError where a header would not be one line of ASCII. No redirect is followed. Where the content is not
        read, the connection is closed.
        """
        if self._raw.sock is None:
            raise TransientError(_BROKEN)
        self._limit.end = time.monotonic() + timeout
        target, headers, data = self._render(request)
        response: BaseHTTPResponse | None = None
        is_kept = False
        try:
            self._raw.request(request.method, target, data, headers, preload_content=False, decode_content=False)
            response = self._raw.getresponse()
            content = _read(response) if reads_content else b""
            is_kept = reads_content and self._raw.sock is not None
            return Reply(response.status, response.headers, content)
        except _FAILURES as error:
            raise _explain_exchange(error, self.address) from None
        finally:
            if response is not None:
                response.close()
            if not is_kept:  # whatever else arrives on it would pass for the next reply
                self.close()

    def _render(self, request: Request) -> tuple[str, dict[str, str], bytes | None]:
        """Return the target, the headers and the body as they are sent."""
        headers = {"Host": self._host, "Accept-Encoding": "identity", "User-Agent": "ic-secrets"}
        headers |= request.headers
        data = None
        if request.body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(request.body).encode()
        target = request.target
        if self._proxy:
            target, headers = f"{self.address}{target}", {**headers, **self._proxy.headers}
        if not all(_SENDABLE.fullmatch(each) for each in (target, *headers, *headers.values())) or " " in target:
            raise ConfigError("a token, namespace or path for the server is not one line of ASCII")
        return target, headers, data


def connect(address: Address, make_context: MakeContext, timeout: float, proxy: Proxy | None = None) -> Connection:
    """Return a new connection to the server; HttpError.

    Resolving its name, connecting, and TLS take at most so many seconds each.
    """
    first = proxy.address if proxy else address
    failure: HttpError = TransientError("timed out")
    end = time.monotonic() + timeout
    for host in _resolve(first, timeout):
        left = max(end - time.monotonic(), 0.01)
        if address.tls:
            secure = HTTPSConnection(
                host, first.port, timeout=left, ssl_context=make_context(), server_hostname=address.host
            )
            if proxy:
                secure.set_tunnel(address.host, address.port, dict(proxy.headers))
            raw: HTTPConnection = secure
        else:
            raw = HTTPConnection(host, first.port, timeout=left)
        try:
            raw.connect()
        except BaseException as error:
            raw.close()
            if not isinstance(error, _FAILURES):
                raise
            failure = _explain_connect(error, address)
            if not isinstance(failure, TransientError):
                break
        else:
            limit = _TimeLimit()
            raw.sock = _TimedSocket(raw.sock, limit)
            return Connection(address, raw, limit, proxy)
    raise failure from None


def _read(response: BaseHTTPResponse) -> bytes:
    content = bytearray()
    while piece := response.read(_PIECE, decode_content=False):
        content += piece
        if len(content) > LARGEST_REPLY:
            raise ReplyTooLargeError(f"the reply is larger than {LARGEST_REPLY:,} bytes")
    return bytes(content)


def _resolve(address: Address, timeout: float) -> Sequence[str]:
    """Return the IP addresses of the host. A name server that does not answer in time is not waited for."""
    if address.host.replace(".", "").isdigit() or ":" in address.host:
        return [address.host]
    found: list[Any] = []

    def ask() -> None:
        try:
            found.append(socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout)
    if not found or (isinstance(found[0], socket.gaierror) and found[0].errno == socket.EAI_AGAIN):
        raise TransientError("its name was not resolved in time")
    if isinstance(found[0], Exception):
        raise UnavailableError(f"the host {address.host} does not exist")
    return list(dict.fromkeys(str(place[0]) for *_, place in found[0]))


# --- what went wrong ------------------------------------------------------------------------------------


def _explain_connect(error: Exception, address: Address) -> HttpError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return CertificateError(f"the certificate of {address} is not trusted: {error.verify_message}")
    if _is_demand(error):
        return _explain_exchange(error, address)
    if isinstance(error, ssl.SSLError) and not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return TlsError(f"{address} does not speak TLS: {error.reason}", hint="check the port")
    return _explain_exchange(error, address)


def _is_demand(error: Exception) -> bool:
    """Return whether the server says that it wants a certificate of ours: in TLS 1.3 that comes after the handshake."""
    found = re.search(r"ALERT_(.*CERTIFICATE|UNKNOWN_CA)", str(getattr(error, "reason", "")))
    return isinstance(error, ssl.SSLError) and found is not None


def _explain_exchange(error: Exception, address: Address) -> HttpError:
    if isinstance(error, NewConnectionError) and isinstance(error.__cause__, OSError):
        error = error.__cause__
    if isinstance(error, (TimeoutError, Urllib3TimeoutError)):
        return TransientError("timed out")
    if _is_demand(error):
        return DemandedCertificateError(f"{address} demands a certificate, and was not shown one that it trusts")
    if isinstance(error, ssl.SSLError):  # its strerror is full of OpenSSL's own places
        return TransientError(_BROKEN)
    if isinstance(error, OSError):  # RemoteDisconnected among them
        return TransientError((error.strerror or _BROKEN).lower())
    if isinstance(error, (http.client.IncompleteRead, http.client.ResponseNotReady)):
        return TransientError(_BROKEN)
    if isinstance(error, HTTPError) and "IncompleteRead" in repr(error):
        return TransientError(_BROKEN)
    return InvalidReplyError("the reply is not valid HTTP")


# --- one limit for many reads ---------------------------------------------------------------------------


class _TimeLimit:
    """Until when (of the monotonic clock) a socket may be used."""

    end = 0.0


class _TimedSocket:
    """What http.client uses of a socket, until the limit, however slowly the bytes come in."""

    def __init__(self, sock: socket.socket, limit: _TimeLimit) -> None:
        self._sock = sock
        self._limit = limit

    def arm(self) -> socket.socket:
        """Return the socket for one call; TimeoutError when the time is up."""
        left = self._limit.end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._sock

    def sendall(self, data: Any) -> None:
        self.arm().sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self, self._sock.makefile(mode, buffering=0)))  # type: ignore[call-overload]

    def settimeout(self, timeout: float | None) -> None:
        """Do nothing: the limit decides."""

    def fileno(self) -> int:
        return self._sock.fileno()

    def shutdown(self, how: int) -> None:
        self._sock.shutdown(how)

    def close(self) -> None:
        self._sock.close()


class _TimedReader(io.RawIOBase):
    def __init__(self, timed: _TimedSocket, raw: io.RawIOBase) -> None:
        self._timed = timed
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._timed.arm()
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
