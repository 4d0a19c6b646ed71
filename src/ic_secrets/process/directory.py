"""Make, fill, scrub and sweep the private directory of a build.

It is on a tmpfs if there is one, since nothing reliably erases a disk. Its owner holds a lock (flock) on the directory
itself; a directory whose lock is free has no living owner and may be swept. A process id would prove nothing: ids are
used again.
"""

import contextlib
import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Protocol

from ..core.files import is_below, is_private_directory, remove_all_but, remove_directory, remove_tree, write_private
from ..core.linux import is_in_memory
from ..core.records import NamedTuple
from ..errors import ExposureError, ScrubIncompleteError
from .watchdog import Watchdog

# What a guard leaves of a directory when its time is up, for whoever ends the build: it contains no value. It stays for
# so long, in seconds.
NOTE = "note.json"
_NOTE_LIFE = 86_400
# What the two steps of a build share, as long as the secrets are exposed.
STEPS = "build"
_PREFIX = "ic-secrets-"
# How the name of a directory goes on that a build's own cache is in.
SCRATCH = "cache-"
_TRIES = 10
_MEMORY = "/dev/shm"  # noqa: S108 -- world-writable, so every directory there is made new and 0700
_LAST_RESORT = "/tmp"  # noqa: S108
_ROOMY = "/var/tmp"  # noqa: S108
_ROOM = 1 << 30


class Keeper(Protocol):
    """Removes a private directory when its owner cannot."""

    def watch(self, pid: int) -> None:
        """Name the process group of the build."""

    def dismiss(self) -> None:
        """Say that nothing is left to do. Safe to call twice."""


class Guard(Keeper, Protocol):
    """A keeper that is told of a directory before there is one."""

    def guard(self, path: str) -> None:
        """Remove the path too when its owner cannot; ExposureError."""


class SharedGuard:
    """The watchdog of a build, for a directory beside its private one: with that one alone its work is over."""

    def __init__(self, watchdog: Watchdog) -> None:
        self.guard = watchdog.guard

    def watch(self, pid: int) -> None:
        """Do nothing: it is told of the build once."""

    def dismiss(self) -> None:
        """Do nothing: a directory that is gone is no work."""


class PrivateDirectory:
    """A 0700 directory that one build owns, with a watchdog that outlives us; a context manager that scrubs it.

    `in_memory` says whether it is on a tmpfs.
    """

    def __init__(self, path: str, descriptor: int, watchdog: Keeper) -> None:
        self.path = path
        self.in_memory = is_in_memory(path)
        self.watchdog = watchdog
        self._descriptor = descriptor
        self._written: list[str] = []

    @classmethod
    def make(cls, parent: str, watchdog: Guard, kind: str = "") -> "PrivateDirectory":
        """Make a directory in `parent`, guarded before it exists, and locked; ExposureError.

        The name of one that is not for secrets begins with its `kind`.
        """
        problem = "a sweep removed it again and again"
        for _ in range(_TRIES):
            path = _choose_path(parent, kind)
            watchdog.guard(path)
            try:
                os.mkdir(path, 0o700)
                os.chmod(path, 0o700)  # whatever the umask
                descriptor = _lock(path)
            except OSError as error:
                with contextlib.suppress(OSError):
                    os.rmdir(path)
                problem = error.strerror or "unknown error"
                break
            if descriptor is not None:
                return cls(path, descriptor, watchdog)
        raise ExposureError(f"no private directory can be made in {parent}: {problem}")

    @classmethod
    def resume(cls, path: str, written: Iterable[str], keeper: Keeper) -> "PrivateDirectory":
        """Take over the directory that another process filled with the files `written`; OSError if it is not ours."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        if os.fstat(descriptor).st_uid != os.geteuid():
            os.close(descriptor)
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)
        directory = cls(path, descriptor, keeper)
        directory._written = [os.path.join(path, name) for name in written]
        return directory

    @property
    def descriptor(self) -> int:
        """Return the directory's descriptor, which holds its lock."""
        return self._descriptor

    @property
    def written(self) -> tuple[str, ...]:
        """Return the paths that were written, relative to the directory."""
        return tuple(os.path.relpath(path, self.path) for path in self._written)

    def release(self) -> None:
        """Leave it to another process that has the descriptor: nothing here scrubs it any more."""
        self.watchdog.dismiss()
        os.close(self._descriptor)
        self._descriptor = -1

    @property
    def is_scrubbed(self) -> bool:
        """Return whether `scrub` or `release` was called."""
        return self._descriptor < 0

    def write(self, path: str, data: bytes, mode: int = 0o600) -> None:
        """Write a new file below the directory, private from its first byte; ExposureError."""
        try:
            write_private(path, data, mode)
        except OSError as error:
            raise ExposureError(f"{os.path.basename(path)} cannot be written: {error.strerror}") from None
        self._written.append(path)

    def subdirectory(self, name: str) -> str:
        """Make a 0700 directory below this one and return its path; ExposureError."""
        path = os.path.join(self.path, name)
        try:
            os.mkdir(path, 0o700)
            os.chmod(path, 0o700)
        except OSError as error:
            raise ExposureError(f"{path} cannot be made: {error.strerror}") from None
        return path

    def remove_secrets(self) -> None:
        """Remove the files that we wrote, at once; `scrub` removes the rest."""
        with contextlib.suppress(OSError):
            os.chmod(self.path, 0o700)
        for path in self._written:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def scrub(self) -> Sequence[str]:
        """Remove all of it, dismiss the watchdog, and return the paths that we had written.

        ScrubIncompleteError names what could not be removed. Safe to call twice.
        """
        try:
            remove_directory(self.path, None if self.is_scrubbed else self._descriptor)
        except OSError as error:
            raise ScrubIncompleteError(f"{error.filename or self.path} cannot be removed: {error.strerror}") from None
        finally:
            self.watchdog.dismiss()
            if not self.is_scrubbed:
                os.close(self._descriptor)
                self._descriptor = -1
        if any(os.path.lexists(path) for path in (self.path, *self._written)):
            raise ScrubIncompleteError(f"{self.path} still exists")
        return self._written

    def __enter__(self) -> "PrivateDirectory":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.scrub()


def leave_note(parent: str, data: bytes) -> str:
    """Leave a note, which contains no value, in a directory of its own there, and return its path; OSError."""
    path = _choose_path(parent)
    os.mkdir(path, 0o700)
    write_private(os.path.join(path, NOTE), data)
    return path


def choose_parent(environment: Mapping[str, str], projects: Iterable[str], explicit: str | None = None) -> str:
    """Return where private directories go: `explicit`, else a tmpfs of the user's, else of the system's.

    Without a tmpfs it is the temporary directory. It is never below one of the projects; ExposureError when no place is
    left, or `explicit` cannot be used.
    """
    if explicit is not None and not os.path.isdir(explicit):
        raise ExposureError(f"{explicit!r} is not a directory", hint="name an existing one with --run-dir")
    parents = [os.path.abspath(explicit)] if explicit else _list_parents(environment)
    projects = tuple(projects)
    for parent in parents:
        if not any(is_below(parent, project) for project in projects):
            return parent
    raise ExposureError(
        f"{parents[-1]} is below the project, where nothing secret is ever written",
        hint="name a directory on a tmpfs with --run-dir",
    )


def choose_roomy_parent(environment: Mapping[str, str], projects: Iterable[str], *, is_small: bool = False) -> str:
    """Return where a directory without a secret goes that may get large: outside the projects; ExposureError.

    One that `is_small` goes to a tmpfs if there is one with much room: a disk takes 30 times as long to make a link.
    """
    projects = tuple(projects)
    small = [path for path in _list_parents(environment)[:-1] if is_small and _has_room(path)]
    for parent in (*small, *_list_roomy_parents(environment)):
        if os.access(parent, os.W_OK | os.X_OK) and not any(is_below(parent, project) for project in projects):
            return parent
    raise ExposureError("no temporary directory outside the project can be written", hint="name one with TMPDIR")


class Sweep(NamedTuple):
    """The private directories of dead runs: those that were removed, and those that could not be, and why."""

    removed: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]


def sweep(environment: Mapping[str, str], explicit: str | None = None) -> Sweep:
    """Remove the private directories that no living run owns.

    Safe at any time: directories of living runs and of other users are not touched. A guard's note stays for a day.
    """
    removed: list[str] = []
    failed: list[tuple[str, str]] = []
    places = (*_list_parents(environment), *_list_roomy_parents(environment))
    scratch = [path for parent in dict.fromkeys(places) for path in _list_own(parent) if is_scratch(path)]
    for path in (*list_directories(environment, explicit), *scratch):
        try:
            if remove_dead(path):
                removed.append(path)
        except OSError as error:
            if not os.path.lexists(path):  # its own run, or another's sweep, removed it meanwhile
                continue
            failed.append((error.filename or path, error.strerror or "unknown error"))
    return Sweep(tuple(removed), tuple(failed))


def list_directories(environment: Mapping[str, str], explicit: str | None = None) -> Sequence[str]:
    """Return the private directories of this user, of living and dead runs, in every place where they are made."""
    parents = dict.fromkeys([explicit] if explicit else [])
    parents |= dict.fromkeys(_list_parents(environment))
    return [path for parent in parents if parent for path in _list_own(parent) if not is_scratch(path)]


def find_owner(path: str) -> int | None:
    """Return the id of the user that owns a private directory; None where it is gone."""
    try:
        return os.lstat(path).st_uid
    except PermissionError:  # a directory above it belongs to another user, and is closed
        return int(os.path.basename(path).split("-")[2])
    except OSError:
        return None


def has_private_name(path: str) -> bool:
    """Return whether the path is named like a private directory, of any user."""
    name = os.path.basename(path)
    return name.startswith(_PREFIX) and re.fullmatch(rf"{_PREFIX}[0-9]+-[0-9a-f]{{16}}", name) is not None


def is_scratch(path: str) -> bool:
    """Return whether the path is named like a scratch cache, which is swept, but is not a build."""
    return os.path.basename(path).startswith(f"{_PREFIX}{os.geteuid()}-{SCRATCH}")


def find_enclosing(path: str) -> str | None:
    """Return the private directory, of any user, that the path is or is below; None without one."""
    while path and path != os.path.dirname(path):
        if has_private_name(path):
            return path
        path = os.path.dirname(path)
    return None


def _choose_path(parent: str, kind: str = "") -> str:
    return os.path.join(parent, f"{_PREFIX}{os.geteuid()}-{kind}{os.urandom(8).hex()}")


def _list_parents(environment: Mapping[str, str]) -> list[str]:
    """Return the places for private directories, best first; there is always one."""
    places = []
    runtime = environment.get("XDG_RUNTIME_DIR")
    if runtime and is_private_directory(runtime):
        places.append(runtime)
    places.append(_MEMORY)
    parents = [path for path in places if os.access(path, os.W_OK | os.X_OK) and is_in_memory(path)]
    parents.append(os.path.abspath(environment.get("TMPDIR") or _LAST_RESORT))
    return parents


def _list_roomy_parents(environment: Mapping[str, str]) -> list[str]:
    """Return the places for what may get large: not on a tmpfs that a container keeps small, if there is a choice."""
    places = [environment.get("TMPDIR"), _ROOMY, _LAST_RESORT]
    return [os.path.abspath(place) for place in dict.fromkeys(places) if place]


def _has_room(path: str) -> bool:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize > _ROOM


def _list_own(parent: str) -> list[str]:
    """Return the directories there that we own and that are named like a private directory of ours."""
    prefix = f"{_PREFIX}{os.geteuid()}-"
    found = []
    with contextlib.suppress(OSError):
        for name in sorted(name for name in os.listdir(parent) if name.startswith(prefix)):
            path = os.path.join(parent, name)
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(path)
                if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                    found.append(path)
    return found


def remove_dead(path: str) -> bool:
    """Remove the directory, or all but a guard's note, unless a living run owns it; return whether it is gone."""
    if os.lstat(path).st_mode & 0o700 != 0o700:
        os.chmod(path, 0o700)  # a lock needs it to be readable
    descriptor = _lock(path)
    if descriptor is None:
        return False
    try:
        if is_noted := _is_noted(path):
            remove_all_but(path, NOTE)
        else:
            remove_tree(path)
    finally:
        os.close(descriptor)
    return not is_noted


def _is_noted(path: str) -> bool:
    """Return whether a guard has scrubbed the directory less than a day ago."""
    try:
        age = time.time() - os.lstat(os.path.join(path, NOTE)).st_mtime
    except OSError:
        return False
    return age < _NOTE_LIFE and not os.path.lexists(os.path.join(path, STEPS))


def _lock(path: str) -> int | None:
    """Lock the directory and return its descriptor; None when another holds the lock, or it is gone. OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between mkdir and lock a sweep may have removed what we just locked.
        if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
            return descriptor
    except OSError as error:
        if error.errno not in {errno.EWOULDBLOCK, errno.ENOENT}:
            os.close(descriptor)
            raise
    os.close(descriptor)
    return None
