"""A kept connection to one node: how it is made, and how one request is answered on it in a time that it can keep."""

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple
from urllib.parse import quote, urlsplit

from ...client.messages import Response, StrangeAnswerError, TransientError, read_response, render_request
from ...errors import ConfigError, StoreUnreachableError, StoreUntrustedError

if TYPE_CHECKING:
    from ssl import SSLContext

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# With these the server always says something.
_EXPLAINED = frozenset({200, 403, 404})


class Address(NamedTuple):
    """A node: its host and port, and whether it speaks TLS."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


class Answer(NamedTuple):
    """A status and the JSON object that came with it; `errors` is what the server says of a failure."""

    status: int
    body: Mapping[str, Any]

    @property
    def errors(self) -> str:
        """Its messages as one line."""
        found = self.body.get("errors") or ()
        return " ".join(" ".join(str(one).split()) for one in found)[:300]


class Request(NamedTuple):
    """A method, a path below `/v1/`, unquoted, and a body."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None


def parse_address(text: str) -> Address:
    """The node that an `http` or `https` URL names; ConfigError for plain HTTP to anything but this machine."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port or 8200
    except ValueError:
        host, port = "", 0
    if not host or parts.username is not None or parts.scheme not in {"http", "https"}:
        raise ConfigError("the store's URL names no server", hint="it is bao+https://HOST:8200/MOUNT")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise ConfigError(
            f"{host} is not this machine, so it is not asked without TLS", hint="use bao+https://HOST:8200/MOUNT"
        )
    return Address(host, port, parts.scheme == "https")


def parse_addresses(url: str) -> list[Address]:
    """The nodes that `SCHEME://HOST:PORT,HOST:PORT` names, as `parse_address` would each."""
    scheme, _, hosts = url.partition("://")
    return [parse_address(f"{scheme}://{host}") for host in hosts.split(",")]


class Line:
    """A kept connection to a node, and when that last said that it is the active one."""

    def __init__(self, address: Address, sock: "_TimedSocket") -> None:
        """`connect` is the way here."""
        self.address = address
        self.active_at = 0.0
        self.is_open = True
        self._sock = sock
        self._reader: BinaryIO = io.BufferedReader(_TimedReader(sock))
        self._host = str(address).partition("://")[2]

    def close(self) -> None:
        """Let go of it; safe to call twice."""
        self.is_open = False
        self._sock.close()

    def exchange(self, request: Request, headers: Mapping[str, str], timeout: float) -> Answer:
        """The answer to the request; TransientError where none came whole within so many seconds."""
        data = None
        headers = dict(headers)
        if request.body is not None:
            data = json.dumps(request.body).encode()
            headers["Content-Type"] = "application/json"
        path = f"/v1/{quote(request.path, safe='/?=')}"
        response = self.send(request.method, path, data, headers, timeout)
        try:
            body = json.loads(response.content) if response.content else {}
        except (ValueError, RecursionError):
            body = None
        if isinstance(body, dict) and (body or response.status not in _EXPLAINED):
            return Answer(response.status, body)
        if response.status in _EXPLAINED:  # a machine in between said that
            raise StrangeAnswerError(f"status {response.status} without what the server says with it")
        return Answer(response.status, {})

    def send(self, method: str, path: str, data: bytes | None, headers: Mapping[str, str], timeout: float) -> Response:
        """What comes back, its content cut at the largest that an answer can be; TransientError."""
        if not self.is_open:
            raise TransientError("the connection broke")
        self._sock.end = time.monotonic() + timeout
        is_kept = False
        try:
            self._sock.send(render_request(method, path, self._host, headers, data))
            response = read_response(self._reader)
            is_kept = not response.is_last
            return response
        except TimeoutError:
            raise TransientError("timed out") from None
        except OSError as error:
            raise TransientError(error.strerror or "the connection broke") from None
        finally:
            if not is_kept:  # what else comes in on it would be taken for the next answer
                self.close()


class _TimedSocket:
    """A connected socket that is used until `end` (of the monotonic clock), however slowly its bytes come in."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.end = 0.0

    def arm(self) -> socket.socket:
        """The socket, for one call; TimeoutError when the time is up."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._sock

    def send(self, data: bytes) -> None:
        """All of it."""
        self.arm().sendall(data)

    def close(self) -> None:
        """Safe to call twice."""
        self._sock.close()


class _TimedReader(io.RawIOBase):
    def __init__(self, timed: _TimedSocket) -> None:
        self._timed = timed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._timed.arm().recv_into(buffer)


def connect(address: Address, make_context: "Callable[[], SSLContext]", timeout: float) -> Line:
    """A new connection. TransientError; StoreUnreachableError and StoreUntrustedError for what no other try mends."""
    end = time.monotonic() + timeout
    failure = "timed out"
    for family, place in _resolve(address, timeout):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(max(end - time.monotonic(), 0.01))
            sock.connect(place)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return Line(address, _TimedSocket(_secure(sock, address, make_context()) if address.tls else sock))
        except BaseException as error:
            sock.close()
            if not isinstance(error, (OSError, TransientError)):
                raise
            failure = getattr(error, "strerror", None) or (str(error) if error.args else failure)
    raise TransientError(failure)


def _secure(sock: socket.socket, address: Address, context: "SSLContext") -> socket.socket:
    """The connection in TLS."""
    import ssl

    try:
        return context.wrap_socket(sock, server_hostname=address.host)
    except ssl.SSLCertVerificationError as error:
        raise StoreUntrustedError(
            f"the certificate of {address} is not trusted: {error.verify_message}",
            hint="BAO_CACERT names a file with the certificate of who signed it",
        ) from None
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        raise TransientError("the connection broke") from None
    except ssl.SSLError as error:
        raise StoreUntrustedError(
            f"{address} does not speak TLS as it should: {error.reason}", hint="is it the right port?"
        ) from None


def _resolve(address: Address, timeout: float) -> Sequence[tuple[int, Any]]:
    """The families and places of the node; a name server that does not answer is not waited for any longer."""
    found: list[Any] = []

    def ask() -> None:
        try:
            found.append(socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM))
        except OSError as error:
            found.append(error)

    if address.host.replace(".", "").isdigit() or ":" in address.host:
        ask()
    else:
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(timeout)
    if not found or (isinstance(found[0], socket.gaierror) and found[0].errno == socket.EAI_AGAIN):
        raise TransientError("its name is not resolved")
    if isinstance(found[0], OSError):
        raise StoreUnreachableError(f"there is no host {address.host}", hint="look at the store's URL") from None
    return [(family, place) for family, _, _, _, place in found[0]]
