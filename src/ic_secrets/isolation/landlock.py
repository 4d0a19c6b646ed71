"""Start a build where namespaces are refused: confined by Landlock, a seccomp filter and the loss of capabilities.

All three hold for a thread and for what it starts. So a thread of ours confines itself, starts the build and ends, and
the rest of us is free. The build's sockets are made by us, when the filter asks for them: each is a stream that is
bound to the loopback interface and hears 127.0.0.1 alone. The ports that it may connect to are kept by Landlock.

What stays open: names and attributes of files (stat, chdir, and chmod or utime of the user's own), the command lines of
processes, and a `.git` in the project, since a right to a directory holds for everything beneath it: `safeguard` puts
back what git obeys in there. Before version 6 of Landlock's interface, signals to others of the same user.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import stat
import struct
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..errors import IsolationError
from ..process.child import First, Started
from .probe import find_abi
from .seccomp import ALLOWING, make_program

if TYPE_CHECKING:
    import ctypes

    from .view import View

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_LEAST_ABI, _DEVICES_ABI, _SCOPES_ABI = 4, 5, 6
# Landlock's rights to files: bit 0 is to execute, 1 to write, 2 to read a file, 3 a directory, 14 to truncate, 15 to
# control a device. Devices (6 and 11) are never made.
_FILES, _DEVICES = 0x7FFF, 0x8000
_READ, _READ_FILE, _OF_FILES = 0b1101, 0b101, 0xC007
_WRITE = _FILES & ~(1 << 6 | 1 << 11)
_USE = 0b110 | 1 << 14 | _DEVICES
_PATHS, _PORTS = 1, 2
_BIND, _CONNECT = 1, 2
_SCOPES = 0b11  # abstract sockets and signals
# prctl's: no_new_privs, the bounding set, ambient capabilities and how all of those are cleared.
_NO_NEW_PRIVILEGES, _DROP, _AMBIENT, _CLEAR = 38, 24, 47, 4
_CAPABILITIES = 0b11011  # CHOWN, DAC_OVERRIDE, FOWNER, FSETID
_CAPABILITY_VERSION = 0x20080522
_SET_FILTER, _LISTENER, _UNINTERRUPTED = 1, 1 << 3, 1 << 5
# ioctls of seccomp's listener (seccomp_unotify(2)), and the flag that answers with the descriptor.
_RECEIVE, _ANSWER, _HAND_OVER = 0xC0502100, 0xC0182101, 0x40182103
_AND_ANSWER = 2
_NOTICE = struct.Struct("=QIIiIQ6Q")
# setsockopt's, and a filter that drops what does not come from 127.0.0.1: the packet's IP header is at this offset.
_ATTACH, _LOCK = 26, 44
_SOURCE = 0xFFF00000 + 12
_HEARD = struct.pack("=HBBIHBBIHBBIHBBI", 0x20, 0, 0, _SOURCE, 0x15, 0, 1, 0x7F000001, 6, 0, 0, 0xFFFFFFFF, 6, 0, 0, 0)
_SYSTEM = ("/proc", "/sys")
_USED = tuple(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty", "ptmx"))


class Landlock:
    """A `process.child.Launch` by Landlock."""

    is_leader = True

    def __init__(self, view: View, ports: Iterable[int]) -> None:
        """The build sees the view, and may connect to the ports of 127.0.0.1."""
        self._view = view
        self._ports = sorted(set(ports))

    def start(self, first: First) -> Started:
        """Start it, from a thread that confines itself; OSError, IsolationError."""
        filter_program = make_program(asks=True)
        # Of terminals it has the one that was made for it; of the person's it must not even be able to open /dev/tty.
        terminal = [str(each[2]) for each in first.actions if first.has_terminal and each[0] == os.POSIX_SPAWN_OPEN]
        listeners: list[int] = []

        def start_confined() -> int:
            listeners.append(confine(self._view, self._ports, terminal, filter_program))
            return first.spawn(first.program, first.command, setsid=True)

        try:
            pid = run_in_thread(start_confined)
        except BaseException:
            for listener in listeners:
                os.close(listener)
            raise
        # Whoever serves must not be confined: its own sockets would wait for itself.
        threading.Thread(target=_serve, args=(listeners[0],), daemon=True).start()
        return Started(pid, pid)

    def read_status(self, status: int) -> int:
        """Return it as it is."""
        return status


def run_in_thread(function: Callable[[], int]) -> int:
    """Run the function in a thread of its own, which ends with what it did to itself; raise what it raises."""
    results: list[int] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    for error in errors:
        raise error
    return results[0]


# --- confining a thread ------------------------------------------------------------------------------------


def confine(view: View, ports: Iterable[int], devices: Iterable[str], filter_program: bytes) -> int:
    """Confine the thread for good; return the descriptor at which its filter asks for sockets; IsolationError.

    The devices are those that it may use beside the usual ones.
    """
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    try:
        rules = _make_rules(library, view, ports, (*_USED, *devices))
        try:
            _drop_capabilities(library)
            _forbid_privileges(library)
            _call(library, _RESTRICT, rules, 0)
        finally:
            os.close(rules)
    except OSError as error:
        raise IsolationError(f"the build cannot be confined by Landlock: {error.strerror}") from None
    return _load_filter(library, filter_program)


def check_filter() -> None:
    """Load a filter that asks and allows everything, in a thread that ends; IsolationError where it is refused."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)

    def load() -> int:
        _forbid_privileges(library)
        return _load_filter(library, ALLOWING)

    os.close(run_in_thread(load))


def _forbid_privileges(library: ctypes.CDLL) -> None:
    import ctypes

    _check(library.prctl(_NO_NEW_PRIVILEGES, *map(ctypes.c_ulong, (1, 0, 0, 0))))


def _load_filter(library: ctypes.CDLL, program: bytes) -> int:
    """Filter the thread's system calls; return the descriptor at which it asks; IsolationError."""
    import ctypes

    code = ctypes.create_string_buffer(program, len(program))
    loaded = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    try:
        return _call(library, _SECCOMP[os.uname().machine], _SET_FILTER, _LISTENER | _UNINTERRUPTED, loaded)
    except OSError as error:
        if error.errno == errno.EBUSY:
            reason, hint = (
                "an isolated build, or a sandbox of that kind, is around this one",
                "isolate the outer one alone",
            )
        else:
            reason, hint = (
                f"the kernel refuses the filter of its system calls ({error.strerror})",
                "use a kernel with seccomp",
            )
        raise IsolationError(reason, hint=hint) from None


def _make_rules(library: ctypes.CDLL, view: View, ports: Iterable[int], devices: Iterable[str]) -> int:
    """Return the descriptor of a Landlock ruleset."""
    abi = find_abi()
    if abi < _LEAST_ABI:
        raise IsolationError(f"Landlock cannot isolate a build here: its version is {abi}, and {_LEAST_ABI} is needed")
    handled = _FILES | (_DEVICES if abi >= _DEVICES_ABI else 0)
    attributes = struct.pack("=QQ", handled, _BIND | _CONNECT)
    if abi >= _SCOPES_ABI:
        attributes += struct.pack("=Q", _SCOPES)
    rules = _call(library, _CREATE, attributes, len(attributes), 0)
    try:
        for rights, paths in (
            (_READ, [*_SYSTEM, *view.readable]),
            (_WRITE, view.writable),
            (_READ_FILE | _USE, devices),
        ):
            for path in paths:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                    _allow(library, rules, path, rights & handled)
        for port in ports:
            _call(library, _ADD, rules, _PORTS, struct.pack("=QQ", _CONNECT, port), 0)
    except BaseException:
        os.close(rules)
        raise
    return rules


def _allow(library: ctypes.CDLL, rules: int, path: str, rights: int) -> None:
    """Allow the rights at the path, and beneath it where it is a directory."""
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _OF_FILES
        _call(library, _ADD, rules, _PATHS, struct.pack("=Qi", rights, place), 0)
    finally:
        os.close(place)


def _drop_capabilities(library: ctypes.CDLL) -> None:
    """Leave to what is started from this thread no more than what files of other users need."""
    import ctypes

    def control(*words: int) -> int:
        return int(library.prctl(*map(ctypes.c_ulong, (*words, *[0] * (5 - len(words))))))

    for number in range(64):
        if not _CAPABILITIES >> number & 1:
            control(_DROP, number)  # who may not do it gains none either, by no_new_privs
    control(_AMBIENT, _CLEAR)
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    held = ctypes.create_string_buffer(24)
    _check(library.capget(header, held))
    _, permitted, *_ = struct.unpack("=6I", held.raw)
    kept = permitted & _CAPABILITIES
    _check(library.capset(header, struct.pack("=6I", kept, kept, 0, 0, 0, 0)))


def _call(library: ctypes.CDLL, number: int, *arguments: int | bytes) -> int:
    import ctypes

    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return _check(library.syscall(ctypes.c_long(number), *words))


def _check(result: int) -> int:
    import ctypes

    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(result)


# --- making sockets for it ---------------------------------------------------------------------------------


def _serve(listener: int) -> None:
    """Answer what the filter asks, until nobody is left who could ask."""
    ready = select.poll()
    ready.register(listener, select.POLLIN)
    try:
        while ready.poll()[0][1] & select.POLLIN:
            with contextlib.suppress(OSError):  # who asked is gone
                _answer(listener)
    finally:
        os.close(listener)


def _answer(listener: int) -> None:
    question = bytearray(_NOTICE.size)
    fcntl.ioctl(listener, _RECEIVE, question)
    number, *_, kind, _protocol, _, _, _ = _NOTICE.unpack(question)
    try:
        with make_socket() as made:
            made.setblocking(not kind & socket.SOCK_NONBLOCK)
            flags = os.O_CLOEXEC if kind & socket.SOCK_CLOEXEC else 0
            fcntl.ioctl(listener, _HAND_OVER, struct.pack("=QIIII", number, _AND_ANSWER, made.fileno(), 0, flags))
    except OSError as error:
        fcntl.ioctl(listener, _ANSWER, struct.pack("=QqiI", number, 0, -(error.errno or errno.EPERM), 0))


def make_socket() -> socket.socket:
    """Return a stream that reaches nothing but 127.0.0.1, whoever holds it."""
    import ctypes

    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        code = ctypes.create_string_buffer(_HEARD, len(_HEARD))
        loaded = struct.pack("@HP", len(_HEARD) // 8, ctypes.addressof(code))
        made.setsockopt(socket.SOL_SOCKET, _ATTACH, loaded)
        made.setsockopt(socket.SOL_SOCKET, _LOCK, 1)
    except BaseException:
        made.close()
        raise
    return made
