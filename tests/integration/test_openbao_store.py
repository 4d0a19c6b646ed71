"""A store on a real OpenBao server keeps the contract of all stores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bao_servers import ROOT, Server, running
from ic_secrets.stores.base import Store
from ic_secrets.stores.openbao import store as openbao
from ic_secrets.stores.openbao.store import BaoStore
from ic_secrets.stores.registry import read_variables
from ic_secrets.testing import StoreContract


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as server:
        yield server


def open_with(url: str, token: str = ROOT) -> BaoStore:
    environment = {"BAO_TOKEN": token, "IC_SECRETS_BAO_TIMEOUT": "5s"}
    return openbao.open_store(url, read_variables(environment), environment)


class TestBaoStore(StoreContract):
    """The contract, where `reopen` is another client."""

    @pytest.fixture
    def store(self, server: Server) -> Iterator[Store]:
        self.opened: list[BaoStore] = []
        with open_with(server.url(server.mount())) as store:
            yield store
        for again in self.opened:
            again.close()

    def reopen(self, store: Store) -> Store:
        self.opened.append(open_with(store.url))
        return self.opened[-1]
