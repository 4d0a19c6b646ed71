"""Ask a person for the passphrase of a master key."""

import os

from ..errors import MasterKeyError


def ask_passphrase(prompt: str) -> str:
    """Return what a person types at the terminal, unseen; MasterKeyError without a terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        raise MasterKeyError(
            "the key is locked, and there is no terminal to ask for its passphrase",
            hint="IC_SECRETS_PASSPHRASE_FILE names a file that holds it",
        ) from None
    from getpass import getpass

    try:
        return getpass(prompt)
    except (EOFError, UnicodeError):
        raise MasterKeyError("no passphrase entered") from None
