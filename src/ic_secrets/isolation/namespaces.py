"""Make listening sockets in the network namespace of another process.

A short-lived child of ours goes there, since only a process of one thread can enter a user namespace, and hands the
sockets out. Whoever accepts on them stays outside.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterable, Sequence
from typing import NoReturn

from ..errors import IsolationError

# The ioctl that returns a descriptor of the user namespace that a namespace belongs to (ioctl_ns(2)).
_NS_GET_USERNS = 0xB701
# How many descriptors go along with one message; the kernel takes 253.
_PIECE = 200
_BACKLOG = 512
# How long, in seconds, the loopback interface inside may take to come up, and how often it is looked at.
_PATIENCE = 10.0
_INTERVAL = 0.001


def listen_inside(pid: int, places: Sequence[tuple[str, int]]) -> list[socket.socket]:
    """Return a socket that listens at each of the places (address, port) as the process sees them.

    IsolationError where that cannot be done.
    """
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            child = os.fork()
            if child == 0:
                _serve(pid, places, theirs)
        try:
            return _receive(ours, len(places))
        finally:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)


def _receive(ours: socket.socket, count: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    ours.settimeout(2 * _PATIENCE)
    try:
        while len(sockets) < count:
            words, descriptors, _, _ = socket.recv_fds(ours, 1000, _PIECE)
            sockets += [socket.socket(fileno=each) for each in descriptors]
            if not descriptors:
                reason = words.decode(errors="replace") or "it ended at once"
                raise IsolationError(f"nothing can listen in the build's network: {reason}")
    except BaseException as error:
        for each in sockets:
            each.close()
        if isinstance(error, OSError):
            raise IsolationError(f"nothing can listen in the build's network: {error}") from None
        raise
    return sockets


def _serve(pid: int, places: Iterable[tuple[str, int]], answer: socket.socket) -> NoReturn:
    """In the forked child: go there, listen, and hand the sockets out."""
    try:
        _enter(pid)
        descriptors = [_listen(*place).detach() for place in places]
        for start in range(0, len(descriptors), _PIECE):
            socket.send_fds(answer, [b"+"], descriptors[start : start + _PIECE])
    except BaseException as error:
        reason = error.strerror if isinstance(error, OSError) else type(error).__name__
        with contextlib.suppress(OSError):
            answer.send((reason or "unknown error").encode())
    finally:
        os._exit(0)


def _enter(pid: int) -> None:
    network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    user = fcntl.ioctl(network, _NS_GET_USERNS)
    if not os.path.samestat(os.fstat(user), os.stat("/proc/self/ns/user")):
        _set_namespace(user)
    _set_namespace(network)


def _set_namespace(descriptor: int) -> None:
    import ctypes

    if ctypes.CDLL(None, use_errno=True).setns(descriptor, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _listen(address: str, port: int) -> socket.socket:
    """Listen there; the interface may not be up yet."""
    deadline = time.monotonic() + _PATIENCE
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    while True:
        try:
            return socket.create_server((address, port), family=family, backlog=_BACKLOG)
        except OSError as error:
            if error.errno not in {errno.EADDRNOTAVAIL, errno.ENETUNREACH} or time.monotonic() > deadline:
                raise
        time.sleep(_INTERVAL)
