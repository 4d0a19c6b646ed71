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
from collections.abc import Callable, Iterable

from .authority import Authority
from .decisions import Answer, Head, Refusal
from .exchange import Exchange, Limits, Services, word_refusal
from .messages import Request, read_request, write_answer
from .order import Order
from .report import Tally
from .rules import Rules
from .streams import BrokenError, Stream
from .targets import Endpoint, RequestError, parse_absolute, parse_connect, parse_host, split_path
from .upstream import UnreachableError, Upstream

_LARGEST_NUMBER = 2048
# The most connections that have not said the password yet: whoever has waited longest makes room for the next one.
_MOST_STRANGERS = 1024
_HANDSHAKE = 30.0
_WANTED = Answer(407, "Proxy Authentication Required", (("proxy-authenticate", 'Basic realm="ic-secrets"'),), b"")
# A tunnel inside another, and what has a server say what it was sent.
_NEVER = frozenset({"CONNECT", "TRACE"})
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Proxy:
    """The proxy, on connections to 127.0.0.1."""

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
        self._services = Services(self._rules, Upstream(order), self._tally, limits or Limits(), {}, announce)
        self._clients: set[asyncio.Task[None]] = set()
        self._strangers: dict[Stream, None] = {}
        self._most_strangers = _MOST_STRANGERS

    async def serve(self, listener: socket.socket) -> None:
        """Accept on the listening socket, and answer, until it is cancelled."""
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        with contextlib.suppress(OSError, ValueError):  # two descriptors for each connection
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        if most != resource.RLIM_INFINITY:
            self._most_strangers = min(_MOST_STRANGERS, most // 4)
        making = asyncio.get_running_loop().create_server(lambda: Stream(self._accept), sock=listener, backlog=512)
        async with await making as server:
            await server.serve_forever()

    def _accept(self, stream: Stream) -> None:
        if len(self._strangers) >= self._most_strangers:
            oldest = next(iter(self._strangers))
            self._welcome(oldest)
            oldest.abort()
        self._strangers[stream] = None
        if len(self._clients) >= _LARGEST_NUMBER:
            self._welcome(stream)
            stream.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(stream))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    def _welcome(self, stream: Stream) -> None:
        self._strangers.pop(stream, None)

    async def _serve(self, stream: Stream) -> None:
        """Answer a client until it or we have enough of it."""
        try:
            await self._answer(stream, None)
            await stream.linger()
        except BrokenError:
            stream.abort()
        except BaseException:
            stream.abort()
            raise
        finally:
            self._welcome(stream)

    async def _answer(self, stream: Stream, inside: Endpoint | None) -> None:
        """Answer requests one after the other; `inside` is the server at the other end of the tunnel, if any."""
        limits = self._services.limits
        while True:
            try:
                idle = limits.head if stream in self._strangers else limits.idle
                request = await read_request(stream, idle, limits.head)
            except RequestError as error:
                self._count_refusal(inside)
                await stream.send(write_answer(Refusal(error.status, error.words, "text").render(), keeps_alive=False))
                return
            if not request or not await self._answer_one(stream, inside, request):
                return

    async def _answer_one(self, stream: Stream, inside: Endpoint | None, request: Request) -> bool:
        """Answer the request; return whether another one may follow."""
        try:
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
        endpoint = parse_connect(request.target)
        if self._rules.intercepts(endpoint):
            stream.write(_ESTABLISHED)
            try:
                await stream.start_tls(self._authority.make_context(endpoint.host), None, _HANDSHAKE)
                await self._answer(stream, endpoint)
            except BrokenError as error:
                if re.search("alert.*(unknown ca|certificate)", str(error)):
                    words = f"a program of the build does not trust the broker's certificate for {endpoint.key}"
                    self._tally.note(words, "let it read the authorities in the file that SSL_CERT_FILE names")
                raise
            return
        try:
            server = await self._services.upstream.join(endpoint)
        except UnreachableError as error:
            # No program prints the body of an answer to CONNECT.
            self._tally.note(f"{endpoint.key} could not be reached: {error}")
            raise RequestError(502, f"{endpoint.key}: {error}") from None
        self._tally.add(endpoint.key, joined=1)
        try:
            stream.write(_ESTABLISHED)
            await _join(stream, server, self._tally, endpoint.key)
            server.close()
        except BaseException:
            server.abort()
            raise

    def _count_refusal(self, endpoint: Endpoint | None) -> None:
        if endpoint:
            self._tally.add(endpoint.key, refused=1)


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


async def _join(client: Stream, server: Stream, tally: Tally, key: str) -> None:
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
