"""The cryptography of the embedded store: its keys, and how one value is sealed.

    master key ─ HKDF ─ wrapping key ─ AES-256-GCM ─ data keys ─ AES-256-GCM ─ values
               └ HKDF ─ manifest key ─ HMAC-SHA256 ─ the manifest (manifest.py)

A data key is random and is kept wrapped, so that another master key needs new wrappings and a new
manifest, and no value is touched. cryptography is imported when a value is first sealed or opened:
naming what a store holds needs hashlib and hmac alone.
"""

from __future__ import annotations

import binascii
import hmac
import os
import re
from typing import TYPE_CHECKING, NoReturn

from ..errors import MasterKeyError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NONCE_BYTES = 12
_PREFIX = "ic-secrets-key-1:"
_FAMILY = re.compile(r"ic-secrets-key-[0-9]+:.*", re.DOTALL)
_TEXT = re.compile(rf"{_PREFIX}([A-Za-z0-9_-]{{43}})")


class SealError(ValueError):
    """Sealed bytes are not those that were made with this key and these associated data."""


class MasterKey:
    """The 32 random bytes from which the keys of a store are derived; whoever has them has all.

    repr and str show the public id alone, and it refuses pickle and copy. `format()` gives the one
    line of text that a key file holds, `parse` takes it.
    """

    __slots__ = ("_secret",)
    _secret: bytes

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise MasterKeyError(f"a master key has {KEY_BYTES} bytes, not {len(secret)}")
        object.__setattr__(self, "_secret", secret)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a MasterKey does not change")

    @classmethod
    def generate(cls) -> MasterKey:
        """Return a new random key."""
        return cls(os.urandom(KEY_BYTES))

    @classmethod
    def parse(cls, text: str) -> MasterKey:
        """Return the key that `format` gave, white space around it aside; MasterKeyError for anything else.

        The message never holds any of the text, which may be a key with a slip in it.
        """
        text = text.strip()
        found = _TEXT.fullmatch(text)
        if not found:
            if not text:
                raise MasterKeyError("the master key is empty", hint="`ic-secrets key new` makes one")
            if _FAMILY.fullmatch(text) and not text.startswith(_PREFIX):
                raise MasterKeyError(
                    "the master key has a format that this version does not know",
                    hint="a newer ic-secrets made it: upgrade",
                )
            raise MasterKeyError("the master key is malformed", hint=f"it is one line, {_PREFIX} and 43 characters")
        key = cls(binascii.a2b_base64(found[1].replace("-", "+").replace("_", "/") + "="))
        if not hmac.compare_digest(key.format(), text):  # 43 characters hold two bits more than 32 bytes
            raise MasterKeyError("the master key is malformed", hint="its last character was changed")
        return key

    def format(self) -> str:
        """Return the key as one line of text, without a newline: secret."""
        text = binascii.b2a_base64(self._secret, newline=False).decode()
        return _PREFIX + text.rstrip("=").replace("+", "-").replace("/", "_")

    @property
    def id(self) -> str:
        """16 hexadecimal digits that name the key and give nothing of it away."""
        return self.derive(b"", b"ic-secrets/1 key id", 8).hex()

    def derive(self, salt: bytes, info: bytes, length: int = KEY_BYTES) -> bytes:
        """Return a key for one purpose, from which neither this one nor any other can be found (HKDF)."""
        return hkdf(self._secret, salt, info, length)

    def __repr__(self) -> str:
        return f"MasterKey({self.id})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MasterKey):
            return NotImplemented
        return hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a MasterKey is not to be pickled or copied out of its process")


class DataKey:
    """A key of one store under which values are sealed with AES-256-GCM; `id` is its number there.

    Nonces are random 96-bit numbers: safe for 2^32 values under one key (NIST SP 800-38D, 8.3).
    """

    __slots__ = ("_cipher", "id")

    def __init__(self, number: int, secret: bytes) -> None:
        self.id = number
        self._cipher = _cipher(secret)

    def seal(self, plain: bytes, associated: bytes) -> bytes:
        """Nonce, ciphertext and tag of the value, bound to the associated data."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, associated)

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """Return the value that `seal` took; SealError when the bytes or the associated data are others."""
        return _decrypt(self._cipher, sealed, associated)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a DataKey is not to be pickled or copied out of its process")


def new_data_key(master: MasterKey, store_id: str, number: int) -> tuple[DataKey, bytes]:
    """Return a random data key for the store, and its wrapping, which the store keeps."""
    secret = os.urandom(KEY_BYTES)
    nonce = os.urandom(_NONCE_BYTES)
    cipher = _wrapping_cipher(master, store_id)
    return DataKey(number, secret), nonce + cipher.encrypt(nonce, secret, _wrapping_data(master, store_id, number))


def rewrap_data_key(old: MasterKey, new: MasterKey, store_id: str, number: int, wrapped: bytes) -> bytes:
    """Return the wrapping of the same data key for another master key; SealError where the old one does not open it."""
    secret = _decrypt(_wrapping_cipher(old, store_id), wrapped, _wrapping_data(old, store_id, number))
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + _wrapping_cipher(new, store_id).encrypt(nonce, secret, _wrapping_data(new, store_id, number))


def unwrap_data_key(master: MasterKey, store_id: str, number: int, wrapped: bytes) -> DataKey:
    """Return the data key that `new_data_key` wrapped for this master key, store and number; else SealError."""
    cipher = _wrapping_cipher(master, store_id)
    return DataKey(number, _decrypt(cipher, wrapped, _wrapping_data(master, store_id, number)))


def encode(*fields: str) -> bytes:
    """Return the fields one after the other, each after its length and a colon (netstrings without the comma).

    No two lists of fields give the same bytes, so that what is bound to them is bound to each.
    """
    return "".join([f"{len(field)}:{field}" for field in fields]).encode()


def hkdf(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """HKDF with SHA-256 (RFC 5869); at most 8,160 bytes.

    Written out over the standard library because cryptography's takes longer to import than to run.
    """
    if not 0 < length <= 255 * 32:
        raise ValueError(f"HKDF-SHA256 gives 1 to {255 * 32} bytes")
    key = hmac.digest(salt or bytes(32), secret, "sha256")
    found = block = b""
    counter = 0
    while len(found) < length:
        counter += 1
        block = hmac.digest(key, block + info + bytes([counter]), "sha256")
        found += block
    return found[:length]


def _wrapping_cipher(master: MasterKey, store_id: str) -> AESGCM:
    return _cipher(master.derive(store_id.encode(), b"ic-secrets/1 wrapping key"))


def _wrapping_data(master: MasterKey, store_id: str, number: int) -> bytes:
    return encode("ic-secrets/1 data key", store_id, master.id, str(number))


def _cipher(secret: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(secret)


def _decrypt(cipher: AESGCM, sealed: bytes, associated: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag

    try:
        return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], associated)
    except (InvalidTag, ValueError):
        raise SealError("the seal does not match") from None
