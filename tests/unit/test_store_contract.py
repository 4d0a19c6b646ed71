"""The embedded store keeps the contract of all stores, and the contract notices a store that does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ic_secrets.stores import Store, local
from ic_secrets.stores.local import LocalStore
from ic_secrets.stores.sealing import MasterKey
from ic_secrets.testing import StoreContract
from local_stores import memory_directory

KEY = MasterKey.generate()


class TestLocalStore(StoreContract):
    """The contract on an embedded store, where `reopen` is a second connection to its file."""

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        self.opened: list[LocalStore] = []
        with memory_directory() as directory, local.create(str(directory / "store.db"), KEY) as store:
            yield store
        for again in self.opened:
            again.close()

    def reopen(self, store: Store) -> Store:
        self.opened.append(local.open_store(store.url.removeprefix("sqlite:"), [KEY], read_only=True))
        return self.opened[-1]
