"""What runs in the broker's process: it takes its order, serves, and ends with its owner."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from typing import Any, NoReturn

from ..core.linux import harden, rename_process
from .authority import Authority
from .order import Order
from .process import receive_message, send_message
from .proxy import Proxy

_BACKLOG = 512


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
    listener = sockets.pop(0) if message["listener"] else None
    try:
        listener = listener or socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        order = Order.from_json(message.pop("order"))
        proxy = Proxy(order, authority)
    except OSError as error:
        send_message(owner, {"error": error.strerror or "the system refuses it"})
        return
    asyncio.run(_run(owner, listener, sockets, proxy, authority.certificate))


async def _run(
    owner: socket.socket, listener: socket.socket, reports: list[socket.socket], proxy: Proxy, certificate: str
) -> None:
    loop = asyncio.get_running_loop()
    await proxy.start(listener)

    def watch() -> None:
        """Answer our owner, and end with it, whatever the loop is doing."""
        with contextlib.suppress(OSError, ValueError):
            send_message(owner, {"port": listener.getsockname()[1], "certificate": certificate})
            _answer(owner, loop, proxy)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    for each in reports:
        threading.Thread(target=_accept, args=(each, loop, proxy), daemon=True).start()
    await asyncio.Event().wait()


def _accept(reports: socket.socket, loop: asyncio.AbstractEventLoop, proxy: Proxy) -> None:
    while True:
        asker, _ = reports.accept()
        with asker, contextlib.suppress(OSError, ValueError):
            asker.settimeout(5)
            _answer(asker, loop, proxy)


def _answer(asker: socket.socket, loop: asyncio.AbstractEventLoop, proxy: Proxy) -> None:
    """Send a report for each message, until there is none any more."""
    while receive_message(asker) is not None:
        send_message(asker, {"report": asyncio.run_coroutine_threadsafe(_report(proxy), loop).result().to_json()})


async def _report(proxy: Proxy) -> Any:
    return proxy.tally.make_report()
