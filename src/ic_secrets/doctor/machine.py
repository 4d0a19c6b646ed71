"""The machine itself: where private files go, what /proc tells, what becomes of core dumps, whether clocks agree."""

from __future__ import annotations

import os
import platform
import sys
import time

from .. import __version__
from ..core.clocks import read_clock
from ..core.linux import find_file_system, is_in_memory
from ..process.directory import choose_parent
from .finding import OK, WARN, Finding, Place

# What a private directory needs at the most, roughly, in bytes.
_ROOM = 16 << 20
# By how much clocks may differ, in seconds.
_TOLERANCE = 2.0
_PATTERN = "/proc/sys/kernel/core_pattern"


def look_at_system(place: Place) -> Finding:
    """Say what runs here."""
    who = "root" if os.geteuid() == 0 else f"user {os.geteuid()}"
    system = f"{platform.system()} {platform.release()} on {platform.machine()}"
    text = f"ic-secrets {__version__}, Python {platform.python_version()}, {system}, as {who}"
    facts = {"version": __version__, "python": platform.python_version(), "kernel": platform.release()}
    if sys.platform != "linux":
        return Finding(WARN, text, "processes that outlive a build are found on Linux alone", facts)
    return Finding(OK, text, facts=facts)


def look_at_memory(place: Place) -> Finding:
    """Say whether the private directory is in memory; ExposureError if none can be made."""
    setting = place.context.settings.get("run-dir")
    path = choose_parent(place.environment, [place.directory], setting.value or None)
    kind = find_file_system(os.stat(path).st_dev) or "an unknown file system"
    if not is_in_memory(path):
        text = f"in {path} on {kind}: what was deleted there can be read from the disk"
        return Finding(WARN, text, "mount a tmpfs on /dev/shm, or name one with --run-dir", {"path": path})
    if not os.access(path, os.W_OK | os.X_OK):
        return Finding(WARN, f"{path} is not writable", "name a writable tmpfs with --run-dir", {"path": path})
    room = os.statvfs(path)
    free = room.f_bavail * room.f_frsize
    if free < _ROOM:
        text = f"{path} ({kind}) has {free >> 10} KiB left"
        return Finding(WARN, text, "make room there: in a container by --shm-size", {"path": path})
    return Finding(OK, f"in {path}, a {kind}: in memory, never on a disk", facts={"path": path})


def look_at_proc(place: Place) -> Finding:
    """Say whether what a build starts can be found."""
    if os.path.exists("/proc/thread-self/children"):
        return Finding(OK, "what a build leaves running is found and ended")
    is_there = os.path.exists("/proc/self/stat")
    text = "it does not list the children of processes" if is_there else "it is not mounted"
    remedy = "use a kernel with CONFIG_PROC_CHILDREN" if is_there else "mount -t proc proc /proc"
    return Finding(WARN, f"{text}: what a build leaves running is not found", remedy)


def look_at_core_dumps(place: Place) -> Finding:
    """Say whether somebody keeps the memory of programs that crash: a pipe gets it in spite of RLIMIT_CORE."""
    try:
        with open(_PATTERN, encoding="utf-8", errors="replace") as file:
            pattern = file.read().strip()
    except OSError:
        return Finding(OK, "the build's are turned off")
    if not pattern.startswith("|"):
        return Finding(OK, "the build's are turned off")
    program = pattern[1:].split(" ", 1)[0]
    text = f"{program} gets the memory of a program that crashes, with the secrets in it"
    return Finding(WARN, text, "use --broker, or: sysctl -w kernel.core_pattern=core")


def look_at_clocks(place: Place) -> Finding:
    """Compare our clock with that of the project's file system, by which the search for leaks knows what is new."""
    try:
        stamp = read_clock(place.directory)
    except OSError as error:
        return Finding(WARN, f"nothing can be written in {place.directory}: {error.strerror}", "start in the project")
    if stamp is None:
        return Finding(OK, "that of the project's file system is asked when a build begins")
    ahead = (stamp - time.time_ns()) / 1e9
    if abs(ahead) <= _TOLERANCE:
        return Finding(OK, "the project's file system agrees with ours")
    text = f"the project's file system is {abs(ahead):.0f} seconds {'ahead of' if ahead > 0 else 'behind'} ours"
    return Finding(WARN, text, "let both machines keep time (NTP); builds allow for it")
