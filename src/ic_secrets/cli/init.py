"""`ic-secrets init`: the embedded store and its key."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..config import Settings
from ..errors import ConfigError, StoreExistsError, StoreWriteError
from ..stores import split_url
from .output import print_json, print_message
from .parsing import Parser, add_json, add_store_options, read_settings
from .recording import observed


def run_init(words: Sequence[str]) -> int:
    """Make the store, and its key unless there is one; refuses to touch a store that exists."""
    arguments = make_parser().read(words)
    settings = read_settings(arguments, dict(os.environ))
    scheme, path = split_url(settings.store.value)
    if scheme != "sqlite":
        raise ConfigError(f"`init` makes embedded stores only, not {scheme}:", hint="name a path with --store")
    if os.path.lexists(path):
        raise StoreExistsError(f"there is a store already: {path}")
    from ..stores import local

    key_file, made = _provide_key(settings)
    keys = settings.load_keys()
    with observed(None, arguments, command="init") as record:
        _make_directory(path)
        record.write("ok", must=True)
        with local.create(path, keys[0]) as store:
            store_id = store.store_id
    if arguments.json:
        print_json("init", {"store": f"sqlite:{path}", "store_id": store_id, "key_file": key_file, "key_made": made})
        return 0
    print_message("", f"made the store {path}")
    if made:
        print_message("", f"made its key {key_file}: keep a copy elsewhere, nothing else opens the store")
    return 0


def make_parser() -> Parser:
    """Its arguments."""
    parser = Parser("init", "Make the embedded store and, unless there is one, its random key.", "ic-secrets init")
    add_store_options(parser)
    add_json(parser)
    return parser


def _make_directory(path: str) -> None:
    """Make the store's directory, where its audit log lies too."""
    from ..stores.files import make_private_directory

    try:
        make_private_directory(os.path.dirname(os.path.abspath(path)))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StoreWriteError(f"no store can be made at {path}: {reason}") from None


def _provide_key(settings: Settings) -> tuple[str | None, bool]:
    """The key's file (None when another source gives it), and whether it was made now."""
    from ..stores.keys import create_key_file
    from ..stores.sealing import MasterKey

    source, *others = settings.key_sources
    if source.kind != "file":
        return None, False
    path = source.place
    if os.path.lexists(path) or others:  # a new key would be another than theirs
        return path, False
    create_key_file(path, MasterKey.generate().format())
    return path, True
