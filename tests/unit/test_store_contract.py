"""The embedded store keeps the contract of all stores, and the contract notices a store that does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ic_secrets.stores import Store, local
from ic_secrets.stores.local import LocalStore
from ic_secrets.stores.sealing import MasterKey
from ic_secrets.testing import StoreContract

KEY = MasterKey.generate()


class TestLocalStore(StoreContract):
    """The contract on an embedded store, where `reopen` is a second connection to its file."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        self.opened: list[LocalStore] = []
        with local.create(str(tmp_path / "store.db"), KEY) as store:
            yield store
        for again in self.opened:
            again.close()

    def reopen(self, store: Store) -> Store:
        self.opened.append(local.open_store(store.url.removeprefix("sqlite:"), [KEY], read_only=True))
        return self.opened[-1]
