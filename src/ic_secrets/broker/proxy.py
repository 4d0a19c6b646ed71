"""The proxy that a build's programs speak to: it wants its password, joins tunnels, or ends their TLS."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hmac
import re
import resource
import socket
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial

from .authority import Authority
from .decisions import Answer, Head, Refusal
from .exchange import Exchange, Limits, Services, word_refusal
from .hello import HelloError, find_server_name
from .messages import Request, read_request, write_answer
from .order import Order
from .reach import Listener
from .report import Tally
from .rules import Rules
from .streams import BrokenError, Stream
from .targets import Endpoint, RequestError, parse_absolute, parse_connect, parse_host, split_path
from .upstream import OutOfReachError, UnreachableError, Upstream

_LARGEST_NUMBER = 2048
# The most connections that have not said the password yet: whoever has waited longest makes room for the next one.
_MOST_STRANGERS = 1024
_HANDSHAKE = 30.0
_WANTED = Answer(407, "Proxy Authentication Required", (("proxy-authenticate", 'Basic realm="ic-secrets"'),), b"")
_FORBIDDEN = 403
# A TLS alert, `access_denied`, to whoever would not read words.
_DENIED = b"\x15\3\3\0\2\2\x31"
_TLS = b"\x16"
# A tunnel inside another, and what has a server say what it was sent.
_NEVER = frozenset({"CONNECT", "TRACE"})
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Proxy:
    """The proxy, and what joins programs to servers that do not know that it is there."""

    def __init__(
        self,
        order: Order,
        authority: Authority,
        tally: Tally,
        limits: Limits | None = None,
        announce: Callable[[Iterable[str]], None] = lambda texts: None,
    ) -> None:
        """Take the order; what is done is counted in `tally`, and `announce` gets what servers hand out."""
        self._tally = tally
        self._authority = authority
        self._password = order.password.encode()
        self._rules = Rules(order)
        upstream = Upstream(order, self._rules.reached)
        self._services = Services(self._rules, upstream, self._tally, limits or Limits(), {}, announce)
        self._clients: set[asyncio.Task[None]] = set()
        self._strangers: dict[Stream, None] = {}
        self._most_strangers = _MOST_STRANGERS

    async def serve(self, listening: Mapping[socket.socket, Listener | None]) -> None:
        """Accept on the listening sockets, and answer, until it is cancelled; None is a proxy as `Listener` says."""
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        with contextlib.suppress(OSError, ValueError):  # two descriptors for each connection
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        if most != resource.RLIM_INFINITY:
            self._most_strangers = min(_MOST_STRANGERS, most // 4)
        loop = asyncio.get_running_loop()
        servers = []
        try:
            for made, listener in listening.items():
                accept = self._find_door(listener)
                servers.append(await loop.create_server(partial(Stream, accept), sock=made, backlog=512))
            await loop.create_future()
        finally:
            for server in servers:
                server.close()

    def _find_door(self, listener: Listener | None) -> Callable[[Stream], None]:
        """Return what is called with each connection to the listener."""
        if not listener or listener.kind == "proxy":
            return self._accept
        serve = self._serve_web if listener.kind == "web" else self._serve_raw
        return lambda stream: self._begin(stream, serve(stream, listener))

    def _accept(self, stream: Stream) -> None:
        if len(self._strangers) >= self._most_strangers:
            oldest = next(iter(self._strangers))
            self._welcome(oldest)
            oldest.abort()
        self._strangers[stream] = None
        self._begin(stream, self._answer(stream, None))

    def _begin(self, stream: Stream, serving: Coroutine[None, None, None]) -> None:
        if len(self._clients) >= _LARGEST_NUMBER:
            serving.close()
            self._welcome(stream)
            stream.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(stream, serving))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    def _welcome(self, stream: Stream) -> None:
        self._strangers.pop(stream, None)

    async def _serve(self, stream: Stream, serving: Coroutine[None, None, None]) -> None:
        """Serve a client until it or we have enough of it."""
        try:
            await serving
            await stream.linger()
        except BrokenError:
            stream.abort()
        except BaseException:
            stream.abort()
            raise
        finally:
            self._welcome(stream)

    async def _serve_web(self, stream: Stream, listener: Listener) -> None:
        """Serve a program that takes us for the server; only the build is where it comes from, so it says no password.

        The name that it says, or else the listener's, is asked for as by CONNECT, or as in the URL of a request.
        """
        data = await stream.read(self._services.limits.head)
        if data[:1] != _TLS:
            stream.unread(data)
            await self._answer(stream, None, is_direct=True)
            return
        try:
            while (name := find_server_name(data)) is None:
                if not (more := await stream.read(self._services.limits.head)):
                    return
                data += more
            stream.unread(data)
            endpoint = parse_connect(f"{name}:{listener.port}" if name else listener.host)
            await self._open_tunnel(stream, endpoint, b"")
        except HelloError:
            return
        except RequestError as error:
            if error.status == _FORBIDDEN:
                stream.write(_DENIED)

    async def _serve_raw(self, stream: Stream, listener: Listener) -> None:
        """Join the stream to the server that the listener is for: it may be the one that speaks first."""
        with contextlib.suppress(RequestError):
            await self._join(stream, parse_connect(listener.host), b"", is_direct=True)

    async def _answer(self, stream: Stream, inside: Endpoint | None, *, is_direct: bool = False) -> None:
        """Answer requests one after the other; `inside` is the server at the other end of the tunnel, if any.

        With `is_direct` each request is one to the server that its Host names.
        """
        limits = self._services.limits
        while True:
            try:
                idle = limits.head if stream in self._strangers else limits.idle
                request = await read_request(stream, idle, limits.head)
            except RequestError as error:
                self._count_refusal(inside)
                await stream.send(write_answer(Refusal(error.status, error.words, "text").render(), keeps_alive=False))
                return
            if not request or not await self._answer_one(stream, inside, request, is_direct=is_direct):
                return

    async def _answer_one(
        self, stream: Stream, inside: Endpoint | None, request: Request, *, is_direct: bool = False
    ) -> bool:
        """Answer the request; return whether another one may follow."""
        try:
            inside = _read_host(request) if is_direct else inside
            if not inside and not self._is_allowed(request):
                await stream.send(write_answer(_WANTED, keeps_alive=False))
                return False
            self._welcome(stream)
            if not inside and request.method == "CONNECT":
                await self._tunnel(stream, request)
                return False
            endpoint, head = _read_head(inside, request)
        except RequestError as error:
            self._count_refusal(inside)
            refusal = word_refusal(request, error.status, error.words)
            await stream.send(write_answer(refusal.render(), keeps_alive=False))
            return False
        return await Exchange(self._services, stream, endpoint, request, head).run()

    def _is_allowed(self, request: Request) -> bool:
        """Return whether the client knows the password; whatever user name it says with it."""
        found = request.list("proxy-authorization")
        scheme, _, pair = found[0].partition(" ") if len(found) == 1 else ("", "", "")
        try:
            password = base64.b64decode(pair.strip(), validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            password = b""
        return hmac.compare_digest(password, self._password) and scheme.lower() == "basic" and bool(self._password)

    async def _tunnel(self, stream: Stream, request: Request) -> None:
        await self._open_tunnel(stream, parse_connect(request.target), _ESTABLISHED)

    async def _open_tunnel(self, stream: Stream, endpoint: Endpoint, greeting: bytes) -> None:
        """Be the server, or lead to it, once the client is greeted; RequestError."""
        if self._rules.intercepts(endpoint):
            stream.write(greeting)
            try:
                await stream.start_tls(self._authority.make_context(endpoint.host), None, _HANDSHAKE)
                await self._answer(stream, endpoint)
            except BrokenError as error:
                if re.search("alert.*(unknown ca|certificate)", str(error)):
                    words = f"a program of the build does not trust the broker's certificate for {endpoint.key}"
                    self._tally.note(words, "let it read the authorities in the file that SSL_CERT_FILE names")
                raise
            return
        await self._join(stream, endpoint, greeting)

    async def _join(self, stream: Stream, endpoint: Endpoint, greeting: bytes, *, is_direct: bool = False) -> None:
        """Join the stream to the server, once the client is greeted; RequestError."""
        try:
            server = await self._services.upstream.join(endpoint, is_direct=is_direct)
        except OutOfReachError as error:
            self._tally.add(endpoint.key, denied=1)
            raise RequestError(_FORBIDDEN, str(error)) from None
        except UnreachableError as error:
            # No program prints the body of an answer to CONNECT.
            self._tally.note(f"{endpoint.key} could not be reached: {error}")
            raise RequestError(502, f"{endpoint.key}: {error}") from None
        self._tally.add(endpoint.key, joined=1)
        try:
            stream.write(greeting)
            await _copy_both(stream, server, self._tally, endpoint.key)
            server.close()
        except BaseException:
            server.abort()
            raise

    def _count_refusal(self, endpoint: Endpoint | None) -> None:
        if endpoint:
            self._tally.add(endpoint.key, refused=1)


def _read_host(request: Request) -> Endpoint:
    """Return the server of a request that names it by its Host alone."""
    hosts = request.list("host")
    if len(hosts) != 1:
        raise RequestError(400, "the request does not say which server it is for")
    return parse_host(hosts[0], "http")


def _read_head(inside: Endpoint | None, request: Request) -> tuple[Endpoint, Head]:
    """Return the server and the request as the rules read it; RequestError where they contradict each other."""
    hosts = request.list("host")
    if request.method in _NEVER:
        raise RequestError(405, f"{request.method} is not passed on by the broker")
    if any(value.lower() != "h2c" for value in request.list("upgrade")):  # Composer offers that one on plain HTTP
        raise RequestError(501, "the broker speaks nothing but HTTP/1.1")
    if inside:
        endpoint, (path, query, _) = inside, split_path(request.target)
        if not path.startswith("/"):
            raise RequestError(400, "inside a tunnel a request names its path alone")
    else:
        url = parse_absolute(request.target)
        endpoint, path, query = url.endpoint, url.path, url.query
        if endpoint.scheme != "http":
            raise RequestError(400, "https is asked through a tunnel")
    if len(hosts) != 1 or parse_host(hosts[0], endpoint.scheme) != endpoint:
        raise RequestError(421, f"the Host of the request is not {endpoint.key}, which it was sent to")
    return endpoint, Head(request.method, path, query, request.headers)


async def _copy_both(client: Stream, server: Stream, tally: Tally, key: str) -> None:
    """Pass on what comes from either until both have ended, or one is gone."""
    sides = [
        asyncio.ensure_future(_copy(client, server, tally, key, "bytes_out")),
        asyncio.ensure_future(_copy(server, client, tally, key, "bytes_in")),
    ]
    try:
        await asyncio.gather(*sides)
    finally:
        for side in sides:
            side.cancel()


async def _copy(source: Stream, target: Stream, tally: Tally, key: str, count: str) -> None:
    while piece := await source.read():
        tally.add(key, **{count: len(piece)})
        await target.send(piece)
    target.write_end()
