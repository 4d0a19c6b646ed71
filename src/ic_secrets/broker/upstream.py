"""Connections to the servers, through the person's own proxy where there is one, and a small pool of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Collection

import h11

from ..composer.credential import Credential
from .addresses import GuardedError, connect, is_guarded
from .decisions import HeaderLines
from .messages import Framing, read_response, write_request
from .order import Order
from .proxies import UnreachableError as UnreachableError, UpstreamProxy, find_proxy
from .streams import BrokenError, Stream
from .targets import Endpoint

# How many idle connections are kept for one server and credential, in all, and for how long, in seconds.
_KEPT = 8
_KEPT_IN_ALL = 64
_KEPT_FOR = 30.0
# After so long a server may be about to close it: no request is risked that must not be sent twice.
_FRESH_FOR = 3.0
_CONNECT = 30.0
_CERTIFICATE = "client-certificate"


class OutOfReachError(Exception):
    """The server is not within the reach of an isolated build; the text says so, and how to change that."""


class Link:
    """A connection to a server."""

    def __init__(self, stream: Stream, key: tuple[Endpoint, str], proxy: UpstreamProxy | None = None) -> None:
        """`proxy` is what reads the requests instead of the server, if anything does."""
        self.stream = stream
        self.key = key
        self.proxy = proxy
        self.is_reused = False
        self.idle_since = 0.0

    def write_request(
        self, method: str, target: str, headers: HeaderLines, framing: Framing
    ) -> tuple[bytes, h11.Connection]:
        """Return the head of a request, and the parser of its answer; a proxy wants a whole URL as the target."""
        if not self.proxy:
            return write_request(method, target, headers, framing)
        return write_request(method, f"http://{self.key[0].key}{target}", headers, framing, self.proxy.lines)


class Upstream:
    """What connects to servers, and to none that is not within reach: there is no other way out."""

    def __init__(self, order: Order, learned: Collection[Endpoint] = ()) -> None:
        """Take the person's proxy, authorities and the reach from the order; it grows by what is `learned`."""
        self._reach = order.reach
        self._learned = learned
        self._environment = order.environment
        self._authorities = order.authorities
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._idle: dict[tuple[Endpoint, str], list[Link]] = {}

    async def open(self, endpoint: Endpoint, credential: Credential | None = None, *, is_safe: bool = True) -> Link:
        """Return a connection for requests to the server, a kept one where there is one.

        UnreachableError, OutOfReachError. A client certificate goes along with TLS. `is_safe` means that the request
        may be sent again.
        """
        name = credential.name if credential else ""
        key = endpoint, name
        now = asyncio.get_running_loop().time()
        links = self._idle.get(key, [])
        while links:
            link = links.pop()
            if link.stream.is_fresh and now - link.idle_since < (_KEPT_FOR if is_safe else _FRESH_FOR):
                link.is_reused = True
                return link
            link.stream.close()
        proxy = find_proxy(self._environment, endpoint)
        if endpoint.scheme == "http":
            self._check(endpoint)
            stream = await self._connect(proxy or endpoint, proxy)
            return Link(stream, key, proxy)
        stream = await self.join(endpoint)
        context = self._find_context(credential if credential and credential.method == _CERTIFICATE else None)
        try:
            await stream.start_tls(context, endpoint.host, _CONNECT)
        except ssl.SSLCertVerificationError as error:
            stream.abort()
            raise UnreachableError(f"its certificate is not trusted: {error.verify_message}") from None
        except (BrokenError, ValueError) as error:
            stream.abort()
            raise UnreachableError(str(error)) from None
        return Link(stream, key)

    async def join(self, endpoint: Endpoint, *, is_direct: bool = False) -> Stream:
        """Return a plain connection to the server, past the person's proxy if `is_direct`.

        UnreachableError, OutOfReachError.
        """
        self._check(endpoint)
        proxy = None if is_direct else find_proxy(self._environment, endpoint)
        stream = await self._connect(proxy or endpoint, proxy)
        if proxy:
            try:
                await _ask_for_tunnel(stream, proxy, endpoint)
            except BaseException:
                stream.abort()
                raise
        return stream

    def keep(self, link: Link) -> None:
        """Keep the connection for another request; its last answer was read whole."""
        links = self._idle.setdefault(link.key, [])
        if len(links) >= _KEPT or not link.stream.is_fresh:
            link.stream.close()
            return
        link.stream.on_end = None
        link.idle_since = asyncio.get_running_loop().time()
        links.append(link)
        idle = [each for kept in self._idle.values() for each in kept]
        if len(idle) > _KEPT_IN_ALL:
            oldest = min(idle, key=lambda each: each.idle_since)
            self._idle[oldest.key].remove(oldest)
            oldest.stream.close()
        if len(self._idle) > _KEPT_IN_ALL:
            self._idle = {key: kept for key, kept in self._idle.items() if kept}

    def _check(self, endpoint: Endpoint) -> None:
        """OutOfReachError where an isolated build may not have a connection to the endpoint.

        What a name stands for is judged as it is connected to. A name that the person's proxy is asked for is the
        proxy's to resolve, so that such a one reaches what the proxy does; of addresses nobody has to be asked.
        """
        if not self._reach or self._reach.names(endpoint):
            return
        if not self._reach.covers(endpoint) and endpoint not in self._learned:
            host = endpoint.key
            raise OutOfReachError(f"{host} is not within the reach of this build; --allow-host {host} permits it")
        if is_guarded(endpoint.host):
            raise OutOfReachError(_explain_guarded(endpoint))

    async def _connect(self, place: Endpoint | UpstreamProxy, proxy: UpstreamProxy | None) -> Stream:
        loop = asyncio.get_running_loop()
        try:
            making = self._connect_within(place) if self._reach and isinstance(place, Endpoint) else None
            making = making or loop.create_connection(Stream, place.host, place.port, happy_eyeballs_delay=0.25)
            transport, stream = await asyncio.wait_for(making, _CONNECT)
        except (asyncio.TimeoutError, TimeoutError):
            reason = "it cannot be reached in time"
        except socket.gaierror:
            reason = "its name does not exist, or no name server answers"
        except UnicodeError:
            reason = "its name is not one"
        except OSError as error:
            reason = (os.strerror(error.errno) if error.errno else "it cannot be reached").lower()
        else:
            with contextlib.suppress(OSError):
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return stream
        raise UnreachableError(f"the proxy {proxy.host}:{proxy.port}: {reason}" if proxy else reason)

    async def _connect_within(self, endpoint: Endpoint) -> tuple[asyncio.Transport, Stream]:
        """Connect as an isolated build may; OutOfReachError, OSError."""
        is_named = self._reach is not None and self._reach.names(endpoint)
        try:
            made = await connect(endpoint.host, endpoint.port, is_named=is_named)
        except GuardedError:
            raise OutOfReachError(_explain_guarded(endpoint)) from None
        return await asyncio.get_running_loop().create_connection(Stream, sock=made)

    def _find_context(self, credential: Credential | None) -> ssl.SSLContext:
        name = credential.name if credential else ""
        if name not in self._contexts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.set_alpn_protocols(["http/1.1"])
            _trust(context, self._authorities)
            if credential:
                content = credential.content
                try:
                    # An encrypted key without a passphrase would be asked for on the terminal.
                    context.load_cert_chain(
                        content["local_cert"], content.get("local_pk") or None, content.get("passphrase") or ""
                    )
                except OSError:
                    raise UnreachableError(f"the client certificate of {name} cannot be loaded") from None
            self._contexts[name] = context
        return self._contexts[name]


def _explain_guarded(endpoint: Endpoint) -> str:
    return (
        f"{endpoint.key} leads to this machine, its link or its cloud, where a build reaches only what composer.json, "
        f"a secret or --allow-host {endpoint.key} names"
    )


async def _ask_for_tunnel(stream: Stream, proxy: UpstreamProxy, endpoint: Endpoint) -> None:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    name = f"{host}:{endpoint.port}"
    head, parser = write_request("CONNECT", name, (("host", name),), Framing("none"), proxy.lines)
    try:
        await stream.send(head)
        response = await read_response(stream, parser, "CONNECT", _CONNECT, _CONNECT)
    except BrokenError as error:
        raise UnreachableError(f"the proxy {proxy.host}:{proxy.port}: {error}") from None
    if not 200 <= response.status < 300:
        raise UnreachableError(f"the proxy {proxy.host}:{proxy.port} answers {response.status}")
    stream.unread(parser.trailing_data[0])


def _trust(context: ssl.SSLContext, certificates: str) -> None:
    """Trust the certificates; one by one where OpenSSL does not take one of them."""
    end = "-----END CERTIFICATE-----\n"
    if not certificates:
        return
    try:
        context.load_verify_locations(cadata=certificates)
    except ssl.SSLError:
        for each in certificates.split(end)[:-1]:
            with contextlib.suppress(ssl.SSLError):
                context.load_verify_locations(cadata=each + end)
