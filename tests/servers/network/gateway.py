"""A forward proxy, as companies have one: it wants a password, and knows the way to every host of the network."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping

from servers.network.base import basic

_REFUSED = (
    b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="proxy"\r\n'
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)


class Gateway:
    """The proxy. `tunnels` are what was asked of it (`host:port`), `refused` how often it was asked without a password.

    A host that is not in `ports` is at the `default` port.
    """

    def __init__(self, default: int, ports: Mapping[str, int], user: str, password: str) -> None:
        self.port = 0
        self.tunnels: list[str] = []
        self.refused = 0
        self._default = default
        self._ports = ports
        self._login = basic(user, password)[1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split()
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
            if headers.get("proxy-authorization") != self._login:
                self.refused += 1
                writer.write(_REFUSED)
            elif method != "CONNECT":
                writer.write(b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n")
            else:
                self.tunnels.append(target)
                await self._join(target, reader, writer)
        writer.close()

    async def _join(self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = self._ports.get(target.rpartition(":")[0], self._default)
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_copy(reader, other_writer), _copy(other_reader, writer), return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@contextlib.contextmanager
def running_gateway(gateway: Gateway) -> Iterator[None]:
    """Within it, the gateway listens."""
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with await asyncio.start_server(gateway.serve, "127.0.0.1", 0, limit=1 << 18) as server:
            gateway.port = server.sockets[0].getsockname()[1]
            ready.set()
            await asyncio.get_running_loop().run_in_executor(None, over.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(30)
        yield
    finally:
        over.set()
        thread.join()
