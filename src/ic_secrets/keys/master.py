"""Master keys in files: read only where nobody else can read them, and made so."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable
from shlex import quote
from typing import NoReturn

from ..core.new_files import locked_directory, new_file, replace_private
from ..errors import MasterKeyError
from .sealing import MasterKey

Unlock = Callable[[str], MasterKey]
"""What opens a locked key: the text of one in, the key out, or MasterKeyError."""


def holds_key(text: str) -> bool:
    """Return whether the text holds a key, as where somebody put it in place of a path; then it must not be shown."""
    return re.search("ic-secrets-(locked-)?key-[0-9]+:", text) is not None


def is_locked(text: str) -> bool:
    """Return whether the text is a key under a passphrase (passphrase.py), of this version or another."""
    return text.startswith("ic-secrets-locked-key-")


def refuse_locked(_: str) -> NoReturn:
    """Refuse a locked key, where nobody can be asked for its passphrase."""
    raise MasterKeyError("the key is locked by a passphrase", hint="IC_SECRETS_PASSPHRASE_FILE names a file with it")


# A key has 60 characters, a locked one 200; a file that holds much more than a few is something else.
_MAX_BYTES = 4096


def load_key_file(path: str, unlock: Unlock = refuse_locked) -> tuple[MasterKey, ...]:
    """Return the keys in the file; MasterKeyError, which names the file and never shows what is in it.

    The file is as `read_key_file` wants it.
    """
    return parse_keys(read_key_file(path), f"the key file {path}", unlock)


def read_key_file(path: str) -> str:
    """Return what the file holds; MasterKeyError, also for a file that is not as private as it must be."""
    try:
        return _read(path, "key file").decode("ascii")
    except UnicodeDecodeError:
        raise MasterKeyError(f"the key file {path} does not hold a master key") from None


def read_passphrase_file(path: str) -> str:
    """Return the passphrase in the file, less one newline at its end; MasterKeyError, as for a key file."""
    text = _read(path, "passphrase file").decode(errors="surrogateescape").removesuffix("\n")
    if not text:
        raise MasterKeyError(f"the passphrase file {path} is empty")
    return text


def _read(path: str, what: str) -> bytes:
    """Return the bytes of a regular file of ours, not a symbolic link, that is closed to others (mode & 077 = 0)."""
    try:
        # Without O_NONBLOCK a FIFO of that name would hold us up for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise _explain(path, what, error) from None
    try:
        _check_private(path, what, os.fstat(descriptor))
        data = os.read(descriptor, _MAX_BYTES + 1)
    except OSError as error:
        raise _explain(path, what, error) from None
    finally:
        os.close(descriptor)
    if len(data) > _MAX_BYTES:
        raise MasterKeyError(f"the {what} {path} holds more than {_MAX_BYTES:,} bytes, so it is not one")
    return data


def parse_keys(text: str, place: str, unlock: Unlock = refuse_locked) -> tuple[MasterKey, ...]:
    """Return the keys in the text, separated by white space, the current one first; MasterKeyError names the place.

    There is one, but for the time of a rotation.
    """
    try:
        found = [unlock(word) if is_locked(word) else MasterKey.parse(word) for word in text.split() or [""]]
        return tuple(dict.fromkeys(found))
    except MasterKeyError as error:
        raise MasterKeyError(f"{place}: {error}", hint=error.hint) from None


def replace_key_file(path: str, text: str, before: str | None) -> None:
    """Put the text in the place of `before`, whole or not at all, 0600; MasterKeyError where the file holds another.

    None takes the place of whatever is there. Two that do this at once never lose a key of one another.
    """
    try:
        with locked_directory(os.path.dirname(os.path.abspath(path))):
            if before is not None and read_key_file(path) != before:
                raise MasterKeyError(f"the key file {path} was changed meanwhile", hint="run the command again")
            replace_private(path, text.encode("ascii"))
    except OSError as error:
        raise MasterKeyError(f"the key file {path} cannot be written: {error.strerror}") from None


def create_key_file(path: str, text: str) -> None:
    """Make a file, 0600 from its first byte and on disk when this returns, that holds the key as text.

    Missing directories are made, 0700. MasterKeyError where there is a file already, which is left as
    it is, and where none can be written, and then none is left.
    """
    try:
        with new_file(path) as temporary, open(temporary, "w", encoding="ascii") as file:
            file.write(text + "\n")
    except FileExistsError:
        raise MasterKeyError(
            f"the key file {path} is there already",
            hint="it was left as it is; IC_SECRETS_KEY_FILE names another place",
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MasterKeyError(f"the key file {path} cannot be made: {reason}") from None


def _check_private(path: str, what: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise MasterKeyError(f"the {what} {path} is not a regular file")
    if found.st_uid != os.geteuid():
        raise MasterKeyError(
            f"the {what} {path} belongs to the user {found.st_uid}, not to {os.geteuid()}",
            hint=f"chown {os.geteuid()} {quote(path)}, or make one of your own",
        )
    if found.st_mode & 0o077:
        raise MasterKeyError(
            f"the {what} {path} is open to other users (mode {stat.S_IMODE(found.st_mode):04o})",
            hint=f"chmod 600 {quote(path)}",
        )


def _explain(path: str, what: str, error: OSError | ValueError) -> MasterKeyError:
    if not isinstance(error, OSError):  # a NUL in the name
        return MasterKeyError(f"the {what} {path!r} cannot be read: {error}")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        hint = "`ic-secrets init` makes one; IC_SECRETS_KEY_FILE names another" if what == "key file" else ""
        return MasterKeyError(f"there is no {what} {path}", hint=hint)
    if error.errno == errno.ELOOP:
        return MasterKeyError(f"the {what} {path} is a symbolic link", hint="name the file itself")
    return MasterKeyError(f"the {what} {path} cannot be read: {error.strerror}")
