"""The filter of system calls of an isolated build: what no namespace holds, and what would lead out of one.

A classic BPF program (seccomp(2)), written by hand. It looks at numbers and at the low halves of arguments, since the
kernel takes no more of those that are compared here. Calls of another architecture than the machine's own, those of
x32 included, are refused as unknown: their numbers mean something else.

Where the build has no network of its own (Landlock), sockets are kept here too. Those of the internet are streams,
which somebody else makes for the build (seccomp_unotify(2)). Those with a path in the file system cannot be made, and
pairs of datagrams neither, since such a socket sends to any path.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable, Sequence

from ..core.records import NamedTuple
from ..errors import IsolationError

_LOAD, _JUMP_EQUAL, _JUMP_ANY, _RETURN, _AND = 0x20, 0x15, 0x45, 0x06, 0x54
_ALLOW, _ERRNO, _ASK = 0x7FFF0000, 0x00050000, 0x7FC00000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_X32 = 0x40000000
# CLONE_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID and _NEWNET (sched.h).
_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_TYPE, _STREAM, _RAW, _SEQUENCED, _PACKET = 0xF, 1, 3, 5, 10
_TCP, _ROUTE = 6, 0
_FAST_OPEN = 0x20000000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C


class Machine(NamedTuple):
    """An architecture: its AUDIT_ARCH, and which of a call's two numbers below is its own."""

    architecture: int
    column: int


_MACHINES = {"x86_64": Machine(0xC000003E, 0), "aarch64": Machine(0xC00000B7, 1)}


class Refused(NamedTuple):
    """Calls that are refused, each with its numbers on x86_64 and aarch64, with an error; and why."""

    why: str
    error: int
    calls: tuple[tuple[str, int, int], ...]


REFUSED = (
    Refused(
        "keyrings are those of the user, and in no namespace",
        errno.EPERM,
        (("add_key", 248, 217), ("request_key", 249, 218), ("keyctl", 250, 219)),
    ),
    Refused(
        "what goes through a ring passes no filter; programs that know rings do without",
        errno.ENOSYS,
        (("io_uring_setup", 425, 425), ("io_uring_enter", 426, 426), ("io_uring_register", 427, 427)),
    ),
    Refused(
        "its flags are in memory, where no filter sees them; libraries fall back to clone",
        errno.ENOSYS,
        (("clone3", 435, 435),),
    ),
    Refused(
        "namespaces and mounts are how the build is kept in",
        errno.EPERM,
        (
            ("setns", 308, 268),
            ("mount", 165, 40),
            ("umount2", 166, 39),
            ("pivot_root", 155, 41),
            ("open_tree", 428, 428),
            ("move_mount", 429, 429),
            ("fsopen", 430, 430),
            ("fsconfig", 431, 431),
            ("fsmount", 432, 432),
            ("fspick", 433, 433),
            ("mount_setattr", 442, 442),
            ("open_by_handle_at", 304, 265),
        ),
    ),
    Refused(
        "they change or watch the kernel, which all builds share",
        errno.EPERM,
        (
            ("bpf", 321, 280),
            ("perf_event_open", 298, 241),
            ("userfaultfd", 323, 282),
            ("init_module", 175, 105),
            ("finit_module", 313, 273),
            ("delete_module", 176, 106),
            ("kexec_load", 246, 104),
            ("kexec_file_load", 320, 294),
            ("reboot", 169, 142),
            ("swapon", 167, 224),
            ("swapoff", 168, 225),
            ("syslog", 103, 116),
            ("settimeofday", 164, 170),
            ("clock_settime", 227, 112),
        ),
    ),
)
# What a namespace keeps apart, and only a filter can where there is none.
SHARED = Refused(
    "shared memory and queues are those of the machine",
    errno.EPERM,
    (
        ("shmget", 29, 194),
        ("shmat", 30, 196),
        ("shmctl", 31, 195),
        ("semget", 64, 190),
        ("semop", 65, 193),
        ("semctl", 66, 191),
        ("semtimedop", 220, 192),
        ("msgget", 68, 186),
        ("msgsnd", 69, 189),
        ("msgrcv", 70, 188),
        ("msgctl", 71, 187),
        ("mq_open", 240, 180),
        ("mq_unlink", 241, 181),
    ),
)
_CLONE, _UNSHARE, _SOCKET, _IOCTL, _PAIR = (56, 220), (272, 97), (41, 198), (16, 29), (53, 199)
# sendto, sendmsg and sendmmsg, each with the argument that holds its flags.
_SENDING = (((44, 206), 3), ((46, 211), 2), ((307, 269), 3))


def make_program(machine: str | None = None, *, asks: bool = False) -> bytes:
    """Return the program, an array of `struct sock_filter`; IsolationError for an unknown machine.

    Where it `asks`, somebody else makes the build's sockets, and it has none but streams of the internet.
    """
    name = os.uname().machine if machine is None else machine
    if name not in _MACHINES:
        raise IsolationError(f"builds cannot be isolated on {name}: the numbers of its system calls are not known")
    architecture, column = _MACHINES[name]
    steps = [_step(_LOAD, _ARCHITECTURE), *_unless(_JUMP_EQUAL, architecture, _refuse(errno.ENOSYS))]
    steps.append(_step(_LOAD, _NUMBER))
    if name == "x86_64":
        steps += _when(_JUMP_ANY, _X32, _refuse(errno.ENOSYS))
    for group in (*REFUSED, *([SHARED] if asks else [])):
        for call in group.calls:
            steps += _when(_JUMP_EQUAL, int(call[1 + column]), _refuse(group.error))
    for numbers in (_CLONE, _UNSHARE):
        steps += _when(_JUMP_EQUAL, numbers[column], _check(0, _when(_JUMP_ANY, _NAMESPACES, _refuse(errno.EPERM))))
    requests = [_when(_JUMP_EQUAL, each, _refuse(errno.EPERM)) for each in (_TIOCSTI, _TIOCLINUX)]
    steps += _when(_JUMP_EQUAL, _IOCTL[column], _check(1, _join(requests)))
    if asks:
        steps += _when(_JUMP_EQUAL, _SOCKET[column], _check_lone_socket())
        steps += _when(_JUMP_EQUAL, _PAIR[column], _check_pair())
        fast = _when(_JUMP_ANY, _FAST_OPEN, _refuse(errno.EOPNOTSUPP))
        for numbers, flags in _SENDING:
            steps += _when(_JUMP_EQUAL, numbers[column], _check(flags, fast))
    else:
        steps += _when(_JUMP_EQUAL, _SOCKET[column], _check_socket())
    steps.append(_step(_RETURN, _ALLOW))
    return b"".join(steps)


def _check_socket() -> list[bytes]:
    """Allow sockets of the families that builds use, but no raw ones of the internet's."""
    kinds = _join([_when(_JUMP_EQUAL, each, _refuse(errno.EPERM)) for each in (_RAW, _PACKET)])
    internet = [_argument(1), _step(_AND, _TYPE), *kinds, _step(_RETURN, _ALLOW)]
    steps = [_argument(0)]
    for family in (_UNIX, _NETLINK):
        steps += _when(_JUMP_EQUAL, family, [_step(_RETURN, _ALLOW)])
    for family in (_INET, _INET6):
        steps += _when(_JUMP_EQUAL, family, internet)
    return [*steps, *_refuse(errno.EAFNOSUPPORT)]


def _check_lone_socket() -> list[bytes]:
    """Ask for streams of the internet, and allow what lists network interfaces."""
    asked = _join([_when(_JUMP_EQUAL, each, [_step(_RETURN, _ASK)]) for each in (0, _TCP)])
    refused = _refuse(errno.EPROTONOSUPPORT)
    stream = [_argument(1), _step(_AND, _TYPE), *_unless(_JUMP_EQUAL, _STREAM, refused), _argument(2), *asked, *refused]
    route = [_argument(2), *_unless(_JUMP_EQUAL, _ROUTE, refused), _step(_RETURN, _ALLOW)]
    steps = [_argument(0), *_when(_JUMP_EQUAL, _INET, stream), *_when(_JUMP_EQUAL, _NETLINK, route)]
    return [*steps, *_refuse(errno.EAFNOSUPPORT)]


def _check_pair() -> list[bytes]:
    """Allow pairs of sockets that stay connected to each other."""
    allowed = [_when(_JUMP_EQUAL, each, [_step(_RETURN, _ALLOW)]) for each in (_STREAM, _SEQUENCED)]
    return [_argument(1), _step(_AND, _TYPE), *_join(allowed), *_refuse(errno.EPROTONOSUPPORT)]


def _check(argument: int, body: Sequence[bytes]) -> list[bytes]:
    """Do the body with the argument's low half loaded; allow what it does not refuse."""
    return [_argument(argument), *body, _step(_RETURN, _ALLOW)]


def _argument(index: int) -> bytes:
    """Load the low half of an argument; both machines keep it first."""
    return _step(_LOAD, _ARGUMENTS + 8 * index)


def _refuse(error: int) -> list[bytes]:
    return [_step(_RETURN, _ERRNO | error)]


def _when(test: int, value: int, body: Sequence[bytes]) -> list[bytes]:
    """Do the body where the test of what is loaded holds, else go on behind it."""
    return [struct.pack("=HBBI", test, 0, len(body), value), *body]


def _unless(test: int, value: int, body: Sequence[bytes]) -> list[bytes]:
    return [struct.pack("=HBBI", test, len(body), 0, value), *body]


def _join(parts: Iterable[Sequence[bytes]]) -> list[bytes]:
    return [step for part in parts for step in part]


def _step(code: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, 0, 0, value)


# A program that refuses nothing.
ALLOWING = _step(_RETURN, _ALLOW)
