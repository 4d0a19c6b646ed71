"""What runs in the broker's process: it takes its order, serves, and ends with its owner.

A build waits for the start of this process, so it answers as soon as it has a certificate and a port: what comes to the
port meanwhile waits there while the proxy is imported.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn

from ..core.linux import harden, rename_process
from .authority import Authority
from .process import MOST_AT_ONCE, receive_message, send_message
from .report import Tally

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .reach import Listener

_BACKLOG = 512
_PATIENCE = 5.0
_SWITCH = 0.0005
# How long, in seconds, the proxy is not imported unless something comes: a build has other things to do as it starts.
_LEISURE = 0.05
_LARGEST_QUESTION = 1 << 10


def serve(number: int, told: int) -> NoReturn:
    """Run as the broker; these are descriptors of its ends of two sockets, the second for what servers hand out."""
    try:
        harden()
        rename_process("ic-secrets-brk")
        for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
            signal.signal(ignored, signal.SIG_IGN)
        _serve(socket.socket(fileno=number), socket.socket(fileno=told))
    finally:
        os._exit(0)


def _serve(owner: socket.socket, told: socket.socket) -> None:
    authority = Authority()
    given: list[int] = []
    message = receive_message(owner, given)
    if message is None:
        return
    sockets = [socket.socket(fileno=each) for each in given]
    listeners: list[socket.socket] = []
    try:
        if message["listener"]:
            listeners.append(sockets.pop(0))
        elif not message["inside"]:
            listeners.append(socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG))
    except OSError as error:
        send_message(owner, {"error": (error.strerror or "the system refuses it").lower()})
        return
    port = listeners[0].getsockname()[1] if listeners else 0
    send_message(owner, {"port": port, "certificate": authority.certificate})
    tally, inside = Tally(), _Inside()
    threading.Thread(target=_watch, args=(owner, tally, inside), daemon=True).start()
    for each in sockets:
        threading.Thread(target=_accept, args=(each, tally), daemon=True).start()

    accepting = dict.fromkeys(listeners) if listeners else inside.wait()
    select.select(accepting, [], [], _LEISURE)
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH)  # so that the others are heard while modules are loaded

    import asyncio

    from .handed import Announcer
    from .order import Order
    from .proxy import Proxy

    proxy = Proxy(Order.from_json(message.pop("order")), authority, tally, announce=Announcer(told).announce)
    sys.setswitchinterval(usual)
    asyncio.run(proxy.serve(accepting))


class _Inside:
    """The sockets that listen in the build's network, which come when that is made."""

    def __init__(self) -> None:
        self._found: dict[socket.socket, Listener | None] = {}
        self._is_whole = threading.Event()

    def add(self, message: dict[str, Any], given: list[int]) -> None:
        """Add those that came with a message, which says which is the last one."""
        from .reach import Listener

        for number, fields in zip(given, message["listeners"], strict=True):
            self._found[socket.socket(fileno=number)] = Listener(*fields)
        if message["is_last"]:
            self._is_whole.set()

    def wait(self) -> Mapping[socket.socket, Listener | None]:
        """Return all of them, once they are here."""
        self._is_whole.wait()
        return self._found


def _watch(owner: socket.socket, tally: Tally, inside: _Inside) -> None:
    """Answer our owner, and end with it, whatever else is being done."""
    with contextlib.suppress(OSError, ValueError):
        given: list[int] = []
        while (message := receive_message(owner, given, most=MOST_AT_ONCE)) is not None:
            if "listeners" in message:
                inside.add(message, given)
                send_message(owner, {"listening": len(given)})
                given = []
            else:
                send_message(owner, {"report": tally.make_report().to_json()})
    os._exit(0)


def _accept(reports: socket.socket, tally: Tally) -> None:
    """Answer whoever asks for a report."""
    while True:
        asker, _ = reports.accept()
        with asker, contextlib.suppress(OSError, ValueError, RecursionError):
            asker.settimeout(_PATIENCE)
            while receive_message(asker, largest=_LARGEST_QUESTION, patience=_PATIENCE) is not None:
                send_message(asker, {"report": tally.make_report().to_json()})
