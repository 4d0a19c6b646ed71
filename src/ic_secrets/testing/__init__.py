"""Test that a store or a renderer keeps its contract: for authors of ours and of plugins alike.

    from ic_secrets.testing import StoreContract

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self, tmp_path):
            with open_my_store(tmp_path) as store:
                yield store

pytest finds the tests by inheritance. Each needs a store that is open for writing and empty. A store that can
only be read passes `ReadingContract`: its `reopen` brings what another store holds into it. A format that cannot keep
something says so in `lacks`, which leaves out the tests about that. `RendererContract` is for what renders secrets.

    helpers     what the contracts share
    reading     `ReadingContract`
    store       `StoreContract`
    renderer    `RendererContract`
"""

from .helpers import ALL, BUILD, FEATURES, ORGANIZATION, SITE, get_base, get_override, needs, refused, set_base
from .reading import ReadingContract
from .renderer import RendererContract
from .store import StoreContract

__all__ = [
    "ALL",
    "BUILD",
    "FEATURES",
    "ORGANIZATION",
    "SITE",
    "ReadingContract",
    "RendererContract",
    "StoreContract",
    "get_base",
    "get_override",
    "needs",
    "refused",
    "set_base",
]
