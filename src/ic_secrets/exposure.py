"""The private directory of a build: made, filled, scrubbed and swept.

It lies on a tmpfs where there is one, since nothing reliably erases a disk. Its owner holds a lock
(flock) on the directory itself; a directory whose lock is free belongs to nobody alive and may be
swept. A process id would prove nothing: ids are used again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType

from .errors import ExposureError, ScrubIncompleteError
from .files import is_below, is_private_directory, remove_tree, write_private
from .linux import is_in_memory
from .watchdog import Watchdog

_PREFIX = "ic-secrets-"
_MEMORY = "/dev/shm"  # noqa: S108 -- world-writable, so every directory there is made new and 0700
_LAST_RESORT = "/tmp"  # noqa: S108


class PrivateDirectory:
    """A 0700 directory that one build owns, with a watchdog that outlives us; a context manager.

    Leaving it scrubs. `parent` is where it is made; `in_memory` says whether that is a tmpfs.
    """

    def __init__(self, path: str, descriptor: int, watchdog: Watchdog) -> None:
        self.path = path
        self.in_memory = is_in_memory(path)
        self.watchdog = watchdog
        self._descriptor = descriptor
        self._written: list[str] = []

    @classmethod
    def make(cls, parent: str) -> PrivateDirectory:
        """A new directory in `parent`, watched from before it is there, and locked; ExposureError when it cannot be."""
        while True:
            path = os.path.join(parent, f"{_PREFIX}{os.geteuid()}-{os.urandom(8).hex()}")
            watchdog = Watchdog(path)
            try:
                os.mkdir(path, 0o700)
                descriptor = _lock(path)
            except OSError as error:
                watchdog.dismiss()
                raise ExposureError(f"no private directory can be made in {parent}: {error.strerror}") from None
            if descriptor is not None:
                return cls(path, descriptor, watchdog)
            watchdog.dismiss()  # a sweep won the moment between the two, and took it for a dead run's

    @property
    def is_scrubbed(self) -> bool:
        """Whether `scrub` was called."""
        return self._descriptor < 0

    def write(self, path: str, data: bytes, mode: int = 0o600) -> None:
        """A new file below the directory, private from its first byte; ExposureError when it fails."""
        try:
            write_private(path, data, mode)
        except OSError as error:
            raise ExposureError(f"{os.path.basename(path)} cannot be written: {error.strerror}") from None
        self._written.append(path)

    def subdirectory(self, name: str) -> str:
        """A new 0700 directory below; its path."""
        path = os.path.join(self.path, name)
        try:
            os.mkdir(path, 0o700)
        except OSError as error:
            raise ExposureError(f"{path} cannot be made: {error.strerror}") from None
        return path

    def remove_secrets(self) -> None:
        """Remove the files that we wrote, at once; the rest goes with `scrub`."""
        for path in self._written:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def scrub(self) -> Sequence[str]:
        """Remove all of it and stand the watchdog down; the paths that we had written, now gone.

        ScrubIncompleteError names the directory when something could not be removed. Safe to call
        twice.
        """
        try:
            remove_tree(self.path)
        except OSError as error:
            raise ScrubIncompleteError(f"{error.filename or self.path} cannot be removed: {error.strerror}") from None
        finally:
            self.watchdog.dismiss()
            if not self.is_scrubbed:
                os.close(self._descriptor)
                self._descriptor = -1
        if any(os.path.lexists(path) for path in (self.path, *self._written)):
            raise ScrubIncompleteError(f"{self.path} is still there")
        return self._written

    def __enter__(self) -> PrivateDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.scrub()


def choose_parent(environment: Mapping[str, str], project: str, explicit: str | None = None) -> str:
    """Where private directories go: `explicit`, else a tmpfs of the user's, else of the system's.

    Where there is no tmpfs it is the temporary directory. It is never below the project; ExposureError
    when no place is left, or `explicit` is unfit.
    """
    if explicit and not os.path.isdir(explicit):
        raise ExposureError(f"{explicit} is no directory", hint="name one that exists with --run-dir")
    parents = [os.path.abspath(explicit)] if explicit else _list_parents(environment)
    for parent in parents:
        if not is_below(parent, project):
            return parent
    raise ExposureError(
        f"{parents[-1]} lies below the project, where nothing secret is ever written",
        hint="name a directory on a tmpfs with --run-dir",
    )


def sweep(environment: Mapping[str, str], explicit: str | None = None) -> tuple[str, ...]:
    """Remove the private directories that no living run owns; the paths that went.

    Never touches the directory of a living run, nor what another user made; safe at any time.
    """
    parents = dict.fromkeys([explicit] if explicit else [])
    parents |= dict.fromkeys(_list_parents(environment))
    return tuple(path for parent in parents if parent for path in _sweep_parent(parent))


def _list_parents(environment: Mapping[str, str]) -> list[str]:
    """The places for private directories, best first; there is always one."""
    candidates = []
    runtime = environment.get("XDG_RUNTIME_DIR")
    if runtime and is_private_directory(runtime):
        candidates.append(runtime)
    candidates.append(_MEMORY)
    parents = [path for path in candidates if os.access(path, os.W_OK | os.X_OK) and is_in_memory(path)]
    parents.append(os.path.abspath(environment.get("TMPDIR") or _LAST_RESORT))
    return parents


def _sweep_parent(parent: str) -> Iterator[str]:
    prefix = f"{_PREFIX}{os.geteuid()}-"
    try:
        names = sorted(name for name in os.listdir(parent) if name.startswith(prefix))
    except OSError:
        return
    for name in names:
        path = os.path.join(parent, name)
        descriptor = _lock(path)
        if descriptor is None:
            continue
        try:
            if os.fstat(descriptor).st_uid == os.geteuid():
                remove_tree(path)
                yield path
        except OSError:
            continue
        finally:
            os.close(descriptor)


def _lock(path: str) -> int | None:
    """A locked descriptor of the directory; None when another holds it, or it is gone or no directory."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A sweep may have won the moment between mkdir and lock, and removed what we just locked.
        if os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False)):
            return descriptor
    except OSError as error:
        if error.errno not in {errno.EWOULDBLOCK, errno.ENOENT}:
            os.close(descriptor)
            raise
    os.close(descriptor)
    return None
