"""Sealed exports: text files of ciphertext, which are stores themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from ...errors import StoreError
from ...keys.sealing import MasterKey, encode
from ...stores import Identity, Store, sealed_file
from ..merge import SecretSet

# What every sealed file begins with: only such a file is replaced by a newer one.
START = b"ic-secrets-sealed-"


def write(store: Store, secret_set: SecretSet, asked: Sequence[str], keys: Sequence[MasterKey]) -> bytes:
    """Seal the set. The file's id is derived from the store and the words that were `asked`.

    So two exports of different things never look like versions of one.
    """
    identity = store.identify() or Identity(store.url, 0)
    source = encode("ic-secrets/1 export", identity.id, *asked)
    # While a rotation is under way there are two: that of the store is what will open it on.
    return sealed_file.render(
        next((key for key in keys if key.id == store.master_id), keys[0]),
        hashlib.sha256(source).hexdigest()[:32],
        identity.generation,
        secret_set.sites,
        secret_set.holdings,
    )


def is_same(before: bytes, after: bytes, load_keys: Callable[[], Sequence[MasterKey]]) -> bool:
    """Return whether both hold the same. A damaged one never does, though every line of it may be right."""
    if not sealed_file.is_same_content(before, after):
        return False
    try:
        sealed_file.parse("", before, load_keys)
    except StoreError:
        return False
    return True
