"""Start a build in namespaces of its own, by bubblewrap (bwrap).

bubblewrap itself stands in a session without a terminal, so that no signal from there reaches it: its monitor would die
and take the build along. The build has a session of its own inside (setsid), with the terminal that we made for it.
Signals go to that session's group, as it is numbered outside. bubblewrap answers with status 1 for faults of its own;
its status descriptor tells those from the build's.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..core.linux import is_zombie, list_children, read_start_time
from ..errors import NOT_STARTED, IsolationError
from ..process.child import First, Started
from ..process.watchdog import end_processes
from .namespaces import listen_inside
from .seccomp import make_program

if TYPE_CHECKING:
    from .probe import Ability
    from .view import View

# What root keeps: enough for the files of other users in the project, not enough to be root outside.
_CAPABILITIES = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID")
_SHARED = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 -- private to the build
_SYSTEM_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
_HOSTS = "/etc/hosts"
# How long, in seconds, bubblewrap may take to begin.
_PATIENCE = 30.0
_INTERVAL = 0.001
_LARGEST = 65_536


class Bubblewrap:
    """A `process.child.Launch` by bubblewrap."""

    is_leader = False

    def __init__(
        self,
        ability: Ability,
        view: View,
        hosts: bytes,
        places: Sequence[tuple[str, int]],
        deliver: Callable[[list[socket.socket]], None],
    ) -> None:
        """`ability` is what the probe found, `hosts` the content of /etc/hosts.

        `deliver` gets sockets that listen inside at the `places` (address, port).
        """
        self._ability = ability
        self._view = view
        self._hosts = hosts
        self._places = places
        self._deliver = deliver
        self._told = b""
        self._status = -1
        self._init = (0, 0)  # the first process inside, and when it started

    def start(self, first: First) -> Started:
        """Start bubblewrap, make the sockets inside, and let the build begin; OSError, IsolationError."""
        pid, release = self._start_bubblewrap(first)
        try:
            init = self._read_init()
            self._init = init, read_start_time(init) or 0
            self._deliver(listen_inside(init, self._places))
            os.write(release, b"\0")
            return Started(pid, self._find_group(pid, init))
        except BaseException:
            end_processes([pid], signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
            raise
        finally:
            os.close(release)

    def _start_bubblewrap(self, first: First) -> tuple[int, int]:
        """Return the id of bubblewrap, and the descriptor that lets the build begin when it is written to; OSError."""
        takes_terminal = first.has_terminal and any(each[:2] == (os.POSIX_SPAWN_OPEN, 0) for each in first.actions)
        words = [find_setsid(), *(["-c"] if takes_terminal else []), first.program, *first.command[1:]]
        self._status, told = os.pipe()
        waiting, release = os.pipe()
        given = {"--json-status-fd": told, "--block-fd": waiting, "--seccomp": _hand(make_program())}
        hosts = _hand(self._hosts)
        options = [word for name, number in given.items() for word in (name, str(number))]
        arguments = [*options, *render_arguments(self._ability, self._view), "--ro-bind-data", str(hosts), _HOSTS]
        arguments += ["--remount-ro", "/", "--chdir", self._view.directory]
        listed = _hand(b"".join(os.fsencode(word) + b"\0" for word in arguments))
        inherited = [*given.values(), hosts, listed]
        program = self._ability.program
        try:
            for number in inherited:
                os.set_inheritable(number, True)
            return first.spawn(program, [program, "--args", str(listed), "--", *words], setsid=True), release
        except BaseException:
            os.close(release)
            os.close(self._status)
            raise
        finally:
            for number in inherited:
                os.close(number)

    def read_status(self, status: int) -> int:
        """End what the build left inside; return what bubblewrap says of its end, NOT_STARTED where it never began."""
        self._end_inside()
        with contextlib.suppress(OSError):
            while piece := os.read(self._status, _LARGEST):
                self._told += piece
            os.close(self._status)
        found = [each["exit-code"] for each in _read_documents(self._told) if "exit-code" in each]
        if found:
            return int(found[-1])
        return status if status > 128 else NOT_STARTED

    def _end_inside(self) -> None:
        """Kill the first process inside, and all others with it, and wait until they are gone."""
        pid, start = self._init
        deadline = time.monotonic() + _PATIENCE
        while start and read_start_time(pid) == start and not is_zombie(pid) and time.monotonic() < deadline:
            end_processes([pid], signal.SIGKILL)
            time.sleep(_INTERVAL)

    def _read_init(self) -> int:
        """Return the id, outside, of the first process inside; IsolationError if bubblewrap fails."""
        while piece := os.read(self._status, _LARGEST):
            self._told += piece
            for each in _read_documents(self._told):
                if "child-pid" in each:
                    return int(each["child-pid"])
        raise IsolationError(
            "bubblewrap cannot make the namespaces of the build", hint="`ic-secrets doctor` says what is missing"
        )

    def _find_group(self, pid: int, init: int) -> int:
        """Return the build's session, once it leads one; bubblewrap's own group where the build is over already."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            for child in list_children(init):
                with contextlib.suppress(ProcessLookupError):
                    if os.getsid(child) == child:
                        return child
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            time.sleep(_INTERVAL)
        return pid


def render_arguments(ability: Ability, view: View) -> list[str]:
    """Return bubblewrap's arguments for the view."""
    arguments = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    arguments += ["--die-with-parent", *(["--unshare-user"] if ability.user_namespace else [])]
    arguments += ["--disable-userns"] if ability.stops_nesting else []
    if os.geteuid() == 0:
        arguments += ["--cap-drop", "ALL"]
        if not ability.user_namespace:
            arguments += [word for name in _CAPABILITIES for word in ("--cap-add", name)]
    mounts = {"/": ["--tmpfs", "/"], "/dev": ["--dev", "/dev"], "/run": ["--perms", "755", "--tmpfs", "/run"]}
    mounts |= {path: ["--perms", "1777", "--tmpfs", path] for path in _SHARED}
    mounts["/proc"] = ["--proc", "/proc"] if ability.own_proc else ["--ro-bind", "/proc", "/proc"]
    if os.geteuid() == 0:  # bubblewrap covers it only where access(2) says that it is writable
        mounts["/proc/sys"] = ["--ro-bind", "/proc/sys", "/proc/sys"]
    mounts |= {view.home: ["--perms", "700", "--tmpfs", view.home]} if view.home else {}
    mounts |= {path: ["--symlink", target, path] for path, target in view.links}
    mounts |= {path: ["--ro-bind", path, path] for path in view.readable}
    mounts |= {path: ["--bind", path, path] for path in view.writable}
    mounts |= {path: ["--ro-bind", path, path] for path in view.protected}
    mounts |= {path: _hide(path) for path in view.hidden}
    # What is mounted later covers what is below it, so a directory comes before all that it contains.
    for path in sorted(mounts, key=lambda each: each.split("/")):
        arguments += mounts[path]
    return arguments


def _hide(path: str) -> list[str]:
    return ["--perms", "000", "--tmpfs", path] if os.path.isdir(path) else ["--ro-bind", os.devnull, path]


def find_setsid() -> str:
    """Return the path of util-linux' or BusyBox' setsid; IsolationError."""
    for directory in _SYSTEM_PATH.split(":"):
        path = os.path.join(directory, "setsid")
        if os.access(path, os.X_OK):
            return path
    raise IsolationError("setsid is missing, by which an isolated build gets its session", hint="install util-linux")


def _hand(data: bytes) -> int:
    """Return the descriptor of a file in memory that holds the data, at its start."""
    number = os.memfd_create("ic-secrets", os.MFD_CLOEXEC)
    os.write(number, data)
    os.lseek(number, 0, os.SEEK_SET)
    return number


def _read_documents(data: bytes) -> list[dict[str, Any]]:
    """Return the whole JSON documents, a line each, that bubblewrap has written so far."""
    found = []
    for line in data.splitlines():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return [each for each in found if isinstance(each, dict)]
