"""Keep secrets at rest: the protocol of every store, and the stores behind it.

base          the whole protocol: `Store`, `ReadOnlyStore`, `Place`, `Write`
registry      one record for each scheme of a URL
embedded/     one SQLite file
sealed_file   a text file for a repository, only read
openbao/      an OpenBao server
pantheon/     Pantheon's secrets.json and its API
cache         a server's store that goes on for a while without it; cache_files keeps its files
rollback      whether a store is the newest of its copies
names         the names that a store shows without its key
"""

from typing import TYPE_CHECKING

from ..core.faces import make_face

if TYPE_CHECKING:
    from .base import Identity as Identity, Place as Place, Store as Store, Write as Write
    from .registry import (
        StoreOpener as StoreOpener,
        StoreRequest as StoreRequest,
        find_scheme as find_scheme,
        open_store as open_store,
    )
else:
    __getattr__ = make_face(
        __name__, base="Identity Place Store Write", registry="StoreOpener StoreRequest find_scheme open_store"
    )
