"""The store that the settings name, opened for one command."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator

from ..stores import Store, open_store
from .parsing import read_settings


@contextlib.contextmanager
def opened_store(arguments: argparse.Namespace, *, read_only: bool = False) -> Iterator[Store]:
    """The store, closed afterwards; every StoreError and MasterKeyError that opening it can raise."""
    settings = read_settings(arguments, dict(os.environ))
    store = open_store(settings.store.value, settings.load_keys, read_only=read_only)
    try:
        yield store
    finally:
        store.close()
