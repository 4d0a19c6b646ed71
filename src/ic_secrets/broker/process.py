"""The broker's process, and our end of it.

It is a fresh interpreter, so it has nothing of our memory: no key, and no value but those of its order. It gets that
over a socket, and ends as soon as nobody holds the other end of it any more.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..core.records import NamedTuple
from ..errors import ExposureError
from .report import Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .handed import HandedOut
    from .order import Order
    from .reach import Listener

# The directory that holds the package.
_SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
# Without the modules of a site, its own directories are all that it has.
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[3:]; from ic_secrets.broker.service import serve; "
    "serve(*map(int, sys.argv[1:3]))"
)
# How long, in seconds, it has to start and take its order, to report, and to end.
_TIMEOUT = 20.0
_PATIENCE = 5.0
_LENGTH = 4
# Descriptors in one message: the kernel takes 253 (SCM_MAX_FD).
MOST_AT_ONCE = 200
_LARGEST = 256 << 20
_LARGEST_REPORT = 16 << 20


class StartingBroker:
    """A broker without an order yet, which gets ready while we go on; a context manager that ends it."""

    def __init__(self) -> None:
        """Start it; ExposureError."""
        import subprocess

        self._ours, theirs = socket.socketpair()
        self._heard, told = socket.socketpair()
        self._ours.settimeout(_TIMEOUT)
        paths = dict.fromkeys([_SOURCE, *(path for path in sys.path if os.path.isabs(path))])
        try:
            with theirs, told:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _PROGRAM, str(theirs.fileno()), str(told.fileno()), *paths],
                    env={},
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), told.fileno()),
                    start_new_session=True,
                )
        except OSError as error:
            self._ours.close()
            self._heard.close()
            raise ExposureError(f"the broker cannot be started: {error.strerror}") from None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def descriptor(self) -> int:
        """The descriptor that keeps it alive: as long as some process has it, the broker runs."""
        return self._ours.fileno()

    def take(
        self,
        order: Order,
        listener: socket.socket | None = None,
        reports: socket.socket | None = None,
        *,
        inside: bool = False,
    ) -> Running:
        """Hand it the order, and return how it is reached; ExposureError.

        It accepts on `listener`, or else on a port of 127.0.0.1 of its own. To whoever connects to `reports`, a
        listening Unix socket, it sends its report (`ask_report`). The caller closes its own descriptors of both. With
        `inside` it accepts on nothing before `Running.listen`: it is reached from the build's own network alone.
        """
        given = [each.fileno() for each in (listener, reports) if each]
        head = {"listener": listener is not None, "inside": inside, "order": order.to_json()}
        try:
            send_message(self._ours, head, given)
            answer = receive_message(self._ours)
        except (OSError, ValueError):
            answer = None
        if not isinstance(answer, dict) or "port" not in answer:
            words = answer.get("error") if isinstance(answer, dict) else None
            raise ExposureError(f"the broker cannot start: {words or 'it ended at once'}")
        return Running(_find_port(order) if inside else answer["port"], answer["certificate"], self)

    def accept_on(self, listeners: Sequence[Listener], sockets: Sequence[socket.socket]) -> None:
        """Have it accept on the sockets, each the one of a listener, as well; ExposureError."""
        try:
            for start in range(0, len(listeners), MOST_AT_ONCE):
                end = start + MOST_AT_ONCE
                message = {"listeners": listeners[start:end], "is_last": end >= len(listeners)}
                send_message(self._ours, message, [each.fileno() for each in sockets[start:end]])
                if receive_message(self._ours) is None:
                    raise OSError
        except (OSError, ValueError):
            raise ExposureError("the broker cannot listen in the build's network: it ended") from None

    def listen(self) -> HandedOut:
        """Return what servers hand out, as it comes."""
        from .handed import HandedOut

        return HandedOut(self._heard)

    def finish(self) -> Report:
        """End it once it has taken an order, wait until it is gone, and return what it did."""
        report = _read_report(self._ours)
        self.close()
        return report

    def release(self) -> None:
        """Leave it to another process that has the descriptor: it outlives us."""
        self._process.returncode = 0  # nobody here waits for it
        self._ours.close()
        self._heard.close()

    def close(self) -> None:
        """End it, and wait until it is gone. Safe to call twice."""
        if self._ours.fileno() >= 0:
            with self._ours, self._heard, contextlib.suppress(OSError):
                self._ours.settimeout(_PATIENCE)
                self._ours.shutdown(socket.SHUT_WR)
                while self._ours.recv(4096):  # until its end is gone: waiting for a process with a limit is polling
                    pass
        self._process.kill()  # it is ending, or hangs
        self._process.wait()

    def __enter__(self) -> StartingBroker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self.close()


class Running(NamedTuple):
    """A broker with an order: its port on 127.0.0.1, the build's own or ours, and its authority's certificate (PEM)."""

    port: int
    certificate: str
    broker: StartingBroker

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.broker.pid

    def listen(self, listeners: Sequence[Listener], sockets: Sequence[socket.socket]) -> None:
        """Let a build in that has a network of its own, where the sockets listen, one for each listener.

        They are those of `plan_listeners`, all of them at once. ExposureError. The caller closes its own descriptors.
        """
        self.broker.accept_on(listeners, sockets)

    def finish(self) -> Report:
        """End it, wait until it is gone, and return what it did."""
        return self.broker.finish()


def _find_port(order: Order) -> int:
    from .reach import Reach, plan_listeners

    return plan_listeners(order.reach or Reach())[0].port


def ask_report(path: str) -> Report:
    """Return what the broker did so far that answers on the Unix socket at the path."""
    with socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(_TIMEOUT)
        with contextlib.suppress(OSError):
            asked.connect(path)
        return _read_report(asked)


def _read_report(asked: socket.socket) -> Report:
    """Ask for the report and return it; without an answer, return one marked as lost.

    The socket may be one that the build has made.
    """
    try:
        send_message(asked, {"report": True})
        return Report.from_json(receive_message(asked, largest=_LARGEST_REPORT, patience=_TIMEOUT)["report"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return Report(is_lost=True)


# --- messages, the same at both ends ----------------------------------------------------------------------


def send_message(connection: socket.socket, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
    """Send one message, and with it the descriptors; OSError."""
    data = json.dumps(message).encode()
    socket.send_fds(connection, [len(data).to_bytes(_LENGTH, "big")], descriptors or [])
    connection.sendall(data)


def receive_message(
    connection: socket.socket,
    descriptors: list[int] | None = None,
    *,
    largest: int = _LARGEST,
    patience: float | None = None,
    most: int = 2,
) -> Any:
    """Return the next message, or None at the end; append the descriptors that came, up to `most`, to `descriptors`.

    OSError, and ValueError where it has more bytes than `largest` or, once begun, takes more seconds than `patience`.
    """
    start, given, _, _ = socket.recv_fds(connection, _LENGTH, most)
    if descriptors is not None:
        descriptors += given
    if len(start) < _LENGTH:
        return None
    size = int.from_bytes(start, "big")
    if size > largest:
        raise ValueError("the message is too large")
    data = bytearray()
    end = time.monotonic() + (patience or math.inf)
    while len(data) < size:
        if time.monotonic() > end:
            raise ValueError("the message takes too long")
        piece = connection.recv(size - len(data))
        if not piece:
            return None
        data += piece
    return json.loads(data)
