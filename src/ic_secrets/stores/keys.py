"""Master keys in files: read only where nobody else can read them, and made so."""

from __future__ import annotations

import errno
import os
import stat

from ..errors import MasterKeyError
from .files import new_file
from .sealing import MasterKey

# A key has 60 characters; a file that holds much more is something else.
_MAX_BYTES = 1024


def load_key_file(path: str) -> MasterKey:
    """The key in the file; MasterKeyError, which names the file and never shows what is in it.

    The file must be regular and no symbolic link, ours, and closed to everybody else (mode & 077 = 0).
    """
    try:
        # Without O_NONBLOCK a FIFO of that name would hold us up for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise _explain(path, error) from None
    try:
        _check_private(path, os.fstat(descriptor))
        data = os.read(descriptor, _MAX_BYTES)
    except OSError as error:
        raise _explain(path, error) from None
    finally:
        os.close(descriptor)
    try:
        return MasterKey.parse(data.decode("ascii"))
    except UnicodeDecodeError:
        raise MasterKeyError(f"the key file {path} holds no master key") from None
    except MasterKeyError as error:
        raise MasterKeyError(f"the key file {path}: {error}", hint=error.hint) from None


def create_key_file(path: str, key: MasterKey) -> None:
    """A new file, 0600 from its first byte and on disk when this returns, that holds the key.

    Missing directories are made, 0700. MasterKeyError where there is a file already, which is left as
    it is, and where none can be written, and then none is left.
    """
    try:
        with new_file(path) as temporary, open(temporary, "w", encoding="ascii") as file:
            file.write(key.format() + "\n")
    except FileExistsError:
        raise MasterKeyError(
            f"the key file {path} is there already",
            hint="it was left as it is; IC_SECRETS_KEY_FILE names another place",
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MasterKeyError(f"the key file {path} cannot be made: {reason}") from None


def _check_private(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise MasterKeyError(f"the key file {path} is no regular file")
    if found.st_uid != os.geteuid():
        raise MasterKeyError(
            f"the key file {path} belongs to the user {found.st_uid}, not to {os.geteuid()}",
            hint=f"chown {os.geteuid()} {path}, or make a key of your own",
        )
    if found.st_mode & 0o077:
        raise MasterKeyError(
            f"the key file {path} is open to other users (mode {stat.S_IMODE(found.st_mode):04o})",
            hint=f"chmod 600 {path}",
        )


def _explain(path: str, error: OSError | ValueError) -> MasterKeyError:
    if not isinstance(error, OSError):  # a NUL in the name
        return MasterKeyError(f"the key file {path!r} cannot be read: {error}")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return MasterKeyError(
            f"there is no key file {path}", hint="`ic-secrets init` makes one; IC_SECRETS_KEY_FILE names another"
        )
    if error.errno == errno.ELOOP:
        return MasterKeyError(f"the key file {path} is a symbolic link", hint="name the file itself")
    return MasterKeyError(f"the key file {path} cannot be read: {error.strerror}")
