"""Master keys under a passphrase: what lies in a file or a variable opens nothing without what people know.

    ic-secrets-locked-key-1:KEY ID:MEMORY,ITERATIONS,LANES:SALT:SEALED KEY

The passphrase goes through Argon2id (RFC 9106), whose costs are written down beside the salt, and the
key that comes out seals the master key with AES-256-GCM; all that stands before the sealed key is bound
to it. The costs are capped, since they are read from a file that somebody else may have written.
"""

from __future__ import annotations

import binascii
import os
import re

from ..errors import MasterKeyError
from .sealing import KEY_BYTES, DataKey, MasterKey, SealError

PREFIX = "ic-secrets-locked-key-1:"
_TEXT = re.compile(
    rf"({PREFIX}([0-9a-f]{{16}}):([0-9]{{1,9}}),([0-9]{{1,9}}),([0-9]{{1,9}}):([A-Za-z0-9_-]{{22}}):)([A-Za-z0-9_-]{{118}})"
)
# In KiB, passes and lanes: the second recommendation of RFC 9106, section 4, about 0.15 s.
_COSTS = (65_536, 3, 4)
_LEAST = (8_192, 1, 1)
_MOST = (1_048_576, 16, 16)
_SALT_BYTES = 16


def lock(key: MasterKey, passphrase: str) -> str:
    """Return the key as one line of text that `unlock` opens with the passphrase."""
    salt = os.urandom(_SALT_BYTES)
    head = f"{PREFIX}{key.id}:{','.join(map(str, _COSTS))}:{_to_text(salt)}:"
    sealed = DataKey(0, _derive(passphrase, salt, _COSTS)).seal(key.format().encode(), head.encode())
    return head + _to_text(sealed)


def unlock(text: str, passphrase: str) -> MasterKey:
    """Return the key that `lock` took; MasterKeyError, which shows neither, for another passphrase or text."""
    key_id, costs, salt, head, sealed = _parse(text)
    try:
        return MasterKey.parse(DataKey(0, _derive(passphrase, salt, costs)).open(sealed, head.encode()).decode())
    except SealError:
        raise MasterKeyError(f"the passphrase does not open the key {key_id}") from None


def read_id(text: str) -> str:
    """Return the id of the locked key, without opening it; MasterKeyError for any other text."""
    return _parse(text)[0]


def _parse(text: str) -> tuple[str, tuple[int, int, int], bytes, str, bytes]:
    found = _TEXT.fullmatch(text)
    if not found:
        if not text.startswith(PREFIX):
            raise MasterKeyError(
                "the locked key has a format that this version does not know",
                hint="a newer ic-secrets made it: upgrade",
            )
        raise MasterKeyError("the locked key is malformed", hint="it is one line, as `ic-secrets key new` wrote it")
    costs = int(found[3]), int(found[4]), int(found[5])
    for name, cost, least, most in zip(("memory", "iterations", "lanes"), costs, _LEAST, _MOST, strict=True):
        if not least <= cost <= most:
            raise MasterKeyError(f"the locked key asks for {name} of {cost:,}; {least:,} to {most:,} are allowed")
    salt, sealed = _from_text(found[6]), _from_text(found[7])
    if (_to_text(salt), _to_text(sealed)) != (found[6], found[7]):  # their last characters hold bits to spare
        raise MasterKeyError("the locked key is malformed", hint="its last character was changed")
    return found[2], costs, salt, found[1], sealed


def _derive(passphrase: str, salt: bytes, costs: tuple[int, int, int]) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    memory, iterations, lanes = costs
    try:
        function = Argon2id(salt=salt, length=KEY_BYTES, iterations=iterations, lanes=lanes, memory_cost=memory)
        return function.derive(passphrase.encode(errors="surrogateescape"))
    except UnsupportedAlgorithm:
        raise MasterKeyError(
            "this installation of cryptography has no Argon2id",
            hint="its wheels from PyPI have; or use a key in a file",
        ) from None


def _to_text(data: bytes) -> str:
    text = binascii.b2a_base64(data, newline=False).decode()
    return text.rstrip("=").replace("+", "-").replace("/", "_")


def _from_text(text: str) -> bytes:
    return binascii.a2b_base64(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4))
