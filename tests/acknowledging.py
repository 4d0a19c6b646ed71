"""A process that writes to a store three times, and says of each write whether it was told that it is done."""

from __future__ import annotations

import sys

from ic_secrets.errors import StoreError, StoreUnconfirmedError
from ic_secrets.model.secret import SecretValue
from ic_secrets.stores.base import Place, Write
from ic_secrets.stores.embedded import store as local
from local_stores import AGENCY, KEY, MY_SITE

WRITES = 3


def main(path: str) -> None:
    """Set my-site's LICENSE_KEY and the organization's to 1, 2 and 3, two at a time."""
    with local.open_store(path, [KEY]) as store:
        for number in range(1, WRITES + 1):
            try:
                with store.transaction():
                    for owner in (MY_SITE, AGENCY):
                        store.put(Place(owner, None, "LICENSE_KEY"), Write(SecretValue(f"{number} " * 2000)))
            except StoreUnconfirmedError as error:
                print(f"unconfirmed {number} {error}", flush=True)
            except StoreError as error:
                print(f"refused {number} {error}", flush=True)
            else:
                print(f"acknowledged {number}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
