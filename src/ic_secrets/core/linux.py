"""Make the few system calls that the standard library lacks. On a system without them, nothing happens."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterable

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36


def harden() -> None:
    """Prevent core dumps of us and of what we start, and other processes from reading our memory and environment.

    The build inherits RLIMIT_CORE. PR_SET_DUMPABLE=0 keeps /proc/PID/environ and ptrace from other processes of the
    same user, and ends at the next exec.
    """
    import resource

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def adopt_orphans() -> bool:
    """Become the parent of every descendant whose own parent ends; return whether the system can do that."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with(parent: int) -> None:
    """Be killed when our parent, which has that id, ends; end at once if it has ended already."""
    import signal

    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)


def end_by_term() -> None:
    """Get TERM when the thread of our parent that started us ends; for a child that has more to end than itself."""
    _prctl(_PR_SET_PDEATHSIG, 15)


def rename_process(name: str) -> None:
    """Show this process under that name (15 bytes) in `ps` and `top`."""
    import ctypes

    _prctl(_PR_SET_NAME, ctypes.create_string_buffer(name.encode()[:15]))


def is_in_memory(path: str) -> bool:
    """Return whether the directory is on a tmpfs or ramfs."""
    with contextlib.suppress(OSError):
        return find_file_system(os.stat(path).st_dev) in {"tmpfs", "ramfs"}
    return False


def find_file_system(device: int) -> str:
    """Return the type of the file system with this `st_dev`, or "" where it is unknown."""
    return list_file_systems().get(device, "")


def list_file_systems() -> dict[int, str]:
    """Return the types of the mounted file systems by device; nothing where the system does not say."""
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", "rb") as mounts:
        return parse_mounts(mounts)
    return {}


def parse_mounts(lines: Iterable[bytes]) -> dict[int, str]:
    """Return the types by device from the lines of a mountinfo (proc(5)); other lines are ignored."""
    found = {}
    for line in lines:
        fields, _, tail = line.partition(b" - ")
        with contextlib.suppress(ValueError, IndexError):
            major, minor = fields.split(b" ", 3)[2].split(b":")
            found[os.makedev(int(major), int(minor))] = tail.split(b" ", 1)[0].decode("ascii", "replace")
    return found


def list_mounts(path: str) -> frozenset[str]:
    """Return the mount points below `path`, bind mounts of the same file system included."""
    below = f"{os.path.realpath(path)}/"
    found = set()
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", "rb") as mounts:
        for line in mounts:
            place = os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), line.split(b" ")[4]))
            if place.startswith(below):
                found.add(place)
    return frozenset(found)


def list_descendants(pid: int) -> list[int]:
    """Return the descendants of `pid`, parents first; those that end meanwhile may be missing."""
    found: list[int] = []
    queue = [pid]
    while queue:
        for child in list_children(queue.pop(0)):
            if child not in found:
                found.append(child)
                queue.append(child)
    return found


def list_children(pid: int) -> list[int]:
    """Return the children of `pid`; nothing where the system does not say."""
    children: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                children += (int(word) for word in file.read().split())
    except OSError:
        pass
    return children


def read_start_time(pid: int) -> int | None:
    """Return when the process started, in clock ticks since boot: with the pid, its identity. None if gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def is_zombie(pid: int) -> bool:
    """Return whether the process has ended and only waits to be reaped."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"Z"
    except (OSError, IndexError):
        return True


def list_processes_with(marker: bytes) -> list[int]:
    """Return the processes of this user that were started with an environment that contains the bytes."""
    found = []
    own = os.getpid()
    for name in os.listdir("/proc") if sys.platform == "linux" else ():
        if not name.isdigit() or int(name) == own:
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if marker in file.read():
                    found.append(int(name))
        except OSError:
            continue
    return found


def _prctl(option: int, argument: object) -> bool:
    if sys.platform != "linux":
        return False
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    return bool(library.prctl(option, argument, 0, 0, 0) == 0)
