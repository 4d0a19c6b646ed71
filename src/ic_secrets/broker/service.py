"""What runs in the broker's process: it takes its order, serves, and ends with its owner.

A build waits for the start of this process, so it answers as soon as it has a certificate and a port: what comes to the
port meanwhile waits there while the proxy is imported.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING, NoReturn

from ..core.linux import harden, rename_process
from .authority import Authority
from .process import receive_message, send_message

if TYPE_CHECKING:
    import asyncio

    from .proxy import Proxy
    from .report import Report

_BACKLOG = 512
_PATIENCE = 5.0


def serve(number: int) -> NoReturn:
    """Run as the broker; `number` is the descriptor of its end of the socket."""
    try:
        harden()
        rename_process("ic-secrets-brk")
        for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
            signal.signal(ignored, signal.SIG_IGN)
        _serve(socket.socket(fileno=number))
    finally:
        os._exit(0)


def _serve(owner: socket.socket) -> None:
    authority = Authority()
    given: list[int] = []
    message = receive_message(owner, given)
    if message is None:
        return
    sockets = [socket.socket(fileno=each) for each in given]
    try:
        listener = sockets.pop(0) if message["listener"] else socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
    except OSError as error:
        send_message(owner, {"error": (error.strerror or "the system refuses it").lower()})
        return
    send_message(owner, {"port": listener.getsockname()[1], "certificate": authority.certificate})

    import asyncio

    from .order import Order
    from .proxy import Proxy

    proxy = Proxy(Order.from_json(message.pop("order")), authority)
    asyncio.run(_run(owner, listener, sockets, proxy))


async def _run(owner: socket.socket, listener: socket.socket, reports: list[socket.socket], proxy: Proxy) -> None:
    import asyncio
    import threading

    loop = asyncio.get_running_loop()
    threading.Thread(target=_watch, args=(owner, loop, proxy), daemon=True).start()
    for each in reports:
        threading.Thread(target=_accept, args=(each, loop, proxy), daemon=True).start()
    await proxy.start(listener)
    await asyncio.Event().wait()


def _watch(owner: socket.socket, loop: asyncio.AbstractEventLoop, proxy: Proxy) -> None:
    """Answer our owner, and end with it, whatever the loop is doing."""
    with contextlib.suppress(OSError, ValueError):
        _answer(owner, loop, proxy)
    os._exit(0)


def _accept(reports: socket.socket, loop: asyncio.AbstractEventLoop, proxy: Proxy) -> None:
    """Answer whoever asks for a report."""
    while True:
        asker, _ = reports.accept()
        with asker, contextlib.suppress(OSError, ValueError):
            asker.settimeout(_PATIENCE)
            _answer(asker, loop, proxy)


def _answer(asker: socket.socket, loop: asyncio.AbstractEventLoop, proxy: Proxy) -> None:
    """Send a report for each message, until there is none any more."""
    import asyncio

    async def report() -> Report:
        return proxy.tally.make_report()

    while receive_message(asker) is not None:
        send_message(asker, {"report": asyncio.run_coroutine_threadsafe(report(), loop).result().to_json()})
