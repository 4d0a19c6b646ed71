"""An empty Composer repository at as many ports as are asked for, which notes who comes with what."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
from collections.abc import Iterator

_BODY = b'{"packages": []}'


class Recorder:
    """`hosts` are its addresses; `headers` has, by host, each request's headers, with Basic credentials decoded."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.headers: dict[str, list[str]] = {}

    def sent(self, host: str, marks: list[str]) -> set[str]:
        """Which of the marks the requests to the host carried."""
        return {mark for mark in marks for headers in self.headers.get(host, []) if mark in headers}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            _, port = writer.get_extra_info("sockname")
            lines = [_decode(line) for line in request.splitlines()[1:]]
            self.headers.setdefault(f"127.0.0.1:{port}", []).append("\n".join(lines))
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(_BODY)}\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n".encode() + _BODY)
            await writer.drain()
        writer.close()


def _decode(line: str) -> str:
    name, _, value = line.partition(": Basic ")
    return f"{name}: {base64.b64decode(value).decode()}" if value else line


@contextlib.contextmanager
def start_recorder(number: int) -> Iterator[Recorder]:
    """One with so many addresses."""
    recorder, ready, over = Recorder(), threading.Event(), threading.Event()

    async def serve() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(number):
                server = await stack.enter_async_context(await asyncio.start_server(recorder._serve, "127.0.0.1", 0))
                recorder.hosts.append(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
            ready.set()
            await asyncio.get_running_loop().run_in_executor(None, over.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(30)
        yield recorder
    finally:
        over.set()
        thread.join()
