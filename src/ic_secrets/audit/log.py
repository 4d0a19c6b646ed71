"""The audit log: JSON lines, each with the hash of the line before it, and only ever appended to.

A line is an object: `previous` (SHA-256 of the bytes of the line before, without its newline; 64 zeros
for the first), `time` (UTC, with milliseconds), `id` (random, common to all lines of one command), and
what `recording` adds. A line that a kill cut off is ended by whoever appends the next one, and is
hashed like any other. No line holds a value.

Changing, removing or inserting a line breaks the chain after it. Whoever can write to the file can write a
whole new chain, or cut lines off the end: keep a head elsewhere to notice that.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from shlex import quote
from typing import Any

from ..core.records import NamedTuple
from ..errors import AuditError

START = "0" * 64
"""The hash that the first line names."""

# How every line begins, and so the file.
_BEGINNING = b'{"previous":'
_PATIENCE = 10.0
_CHUNK = 1 << 16


class Line(NamedTuple):
    """A line that was read: its number from 1, its own hash, and the entry, None if it is damaged.

    `follows` is whether it names the hash of the line before, as far as the line goes.
    """

    number: int
    digest: str
    entry: dict[str, Any] | None
    follows: bool


class Log:
    """The log, open for appending; several processes may have it open at once.

    Only its last line is ever read, however long the log is.
    """

    def __init__(self, path: str) -> None:
        """Open the file or create it, mode 0600, in an existing directory; AuditError.

        It must be a regular file, not a symbolic link, and not writable by others.
        """
        self.path = path
        self._descriptor = _open(path)

    def append(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Append a line for each; all are on disk when this returns, or none is: AuditError.

        Entries may hold whatever JSON can; `previous` and `time` are set here.
        """
        try:
            self._lock()
            try:
                self._write(entries)
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        except OSError as error:
            raise AuditError(f"the audit log {self.path} cannot be written: {error.strerror}") from None

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _lock(self) -> None:
        """Lock the file that has the name now: the log may have been moved away since it was opened.

        AuditError if it was removed, or if the file that has the name now is not a log.
        """
        while True:
            _wait_for_lock(self._descriptor, self.path)
            found = os.fstat(self._descriptor)
            if not found.st_nlink:
                raise AuditError(f"the audit log {self.path} was removed in the meantime, with everything in it")
            with contextlib.suppress(OSError):
                if os.path.samestat(os.stat(self.path, follow_symlinks=False), found):
                    return
            fresh = _open(self.path)
            os.close(self._descriptor)
            self._descriptor = fresh

    def _write(self, entries: Sequence[Mapping[str, Any]]) -> None:
        size = os.fstat(self._descriptor).st_size
        previous, is_cut = _hash_last_line(self._descriptor, size)
        data = b"\n" if is_cut else b""
        moment = _format_time(time.time_ns())
        for entry in entries:
            line = json.dumps({"previous": previous, "time": moment, **entry}, separators=(",", ":")).encode()
            previous = hashlib.sha256(line).hexdigest()
            data += line + b"\n"
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
            getattr(os, "fdatasync", os.fsync)(self._descriptor)
        except OSError:
            self._undo(size)
            raise

    def _undo(self, size: int) -> None:
        """Remove lines that did not fit; where that is not allowed, they stay cut off."""
        try:
            os.ftruncate(self._descriptor, size)
        except OSError:
            return


def read_log(path: str) -> Iterator[Line]:
    """Yield the lines that the log has now; AuditError if it does not exist or cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise AuditError(f"there is no audit log {path}", hint="IC_SECRETS_AUDIT_FILE names another") from None
    except (OSError, ValueError) as error:
        raise _explain(path, error, "read") from None
    with open(descriptor, "rb") as file:
        try:
            _check_regular(path, os.fstat(descriptor))
            _wait_for_lock(descriptor, path, fcntl.LOCK_SH)  # otherwise the last line might be half written
            left = os.fstat(descriptor).st_size
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            previous, number = START, 0
            while left > 0 and (data := file.readline(left)):
                left -= len(data)
                number += 1
                line = _parse(number, data, previous)
                previous = line.digest
                yield line
        except OSError as error:
            raise _explain(path, error, "read") from None


def _parse(number: int, data: bytes, previous: str) -> Line:
    text = data.removesuffix(b"\n")
    digest = hashlib.sha256(text).hexdigest()
    entry = None
    if text is not data:  # without its newline it was cut off, even if it could be parsed
        try:
            entry = json.loads(text)
        except (ValueError, RecursionError):
            entry = None
    if isinstance(entry, dict):
        return Line(number, digest, entry, entry.get("previous") == previous)
    # A line that was cut off is the start of one that follows; anything else was not written by us.
    start = json.dumps({"previous": previous}, separators=(",", ":"))[:-1].encode()
    return Line(number, digest, None, start.startswith(text) or (text.startswith(start) and not _is_ended(text)))


def _is_ended(text: bytes) -> bool:
    """Return whether the text begins with a complete JSON value: then nothing was cut off."""
    try:
        json.JSONDecoder().raw_decode(text.decode(errors="replace"))
    except (ValueError, RecursionError):
        return False
    return True


def _open(path: str) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        try:
            descriptor = os.open(path, flags)
        except FileNotFoundError:
            descriptor = _create(path, flags)
    except (OSError, ValueError) as error:
        raise _explain(path, error, "written") from None
    try:
        found = os.fstat(descriptor)
        _check_regular(path, found)
        if found.st_mode & 0o022:
            raise AuditError(
                f"the audit log {path} is writable by other users (mode {stat.S_IMODE(found.st_mode):04o})",
                hint=f"find out who wrote to it, then: chmod 600 {quote(path)}",
            )
        start = os.pread(descriptor, len(_BEGINNING), 0)
        if start != _BEGINNING[: len(start)]:  # appending to a store or a key would break it
            raise AuditError(f"{path} is not an audit log", hint="IC_SECRETS_AUDIT_FILE names another")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _create(path: str, flags: int) -> int:
    """Create the file, synced with its directory; or open the one that another process has just created."""
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags)
    try:
        os.fchmod(descriptor, 0o600)  # whatever the umask
        directory = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_regular(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise AuditError(f"the audit log {path} is not a regular file")


def _wait_for_lock(descriptor: int, path: str, kind: int = fcntl.LOCK_EX) -> None:
    """Take the lock; AuditError if others hold it for longer than a write takes."""
    until = time.monotonic() + _PATIENCE
    pause = 0.0005
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise AuditError(f"the audit log {path} is locked by another process") from None
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


def _hash_last_line(descriptor: int, size: int) -> tuple[str, bool]:
    """Return the hash of the last line of a file of that size, and whether its newline is missing."""
    if not size:
        return START, False
    is_cut = os.pread(descriptor, 1, size - 1) != b"\n"
    end = size if is_cut else size - 1
    start = end
    while start > 0:
        before = max(0, start - _CHUNK)
        found = os.pread(descriptor, start - before, before).rfind(b"\n")
        if found >= 0:
            start = before + found + 1
            break
        start = before
    digest = hashlib.sha256()
    while start < end:
        data = os.pread(descriptor, min(_CHUNK, end - start), start)
        if not data:
            break
        digest.update(data)
        start += len(data)
    return digest.hexdigest(), is_cut


def _format_time(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{rest // 1_000_000:03}Z", time.gmtime(seconds))


def _explain(path: str, error: OSError | ValueError, what: str) -> AuditError:
    if not isinstance(error, OSError):  # a NUL in the name
        return AuditError(f"the audit log {path!r} cannot be {what}: {error}")
    if os.path.islink(path):
        return AuditError(f"the audit log {path} is a symbolic link", hint="name the file itself")
    return AuditError(f"the audit log {path} cannot be {what}: {error.strerror}")
