"""`ic-secrets init`: the embedded store and its key."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Sequence

from ..assembly import Context
from ..config import Settings
from ..errors import ConfigError, StoreExistsError, StoreWriteError, UsageError
from ..model import Site
from ..model.names import check_site_name
from ..stores.registry import EMBEDDED, split_url
from ..transfer.formats.registry import list_formats
from . import Call
from .call import read_call
from .importing import add_reading_options
from .output import print_json, print_message
from .parser import Parser, add_json, add_store_options


def run_init(call: Call) -> int:
    """Make the store, and its key unless there is one. Never touch an existing store."""
    arguments, context = read_call(call, make_parser())
    settings = context.settings
    scheme, path = split_url(settings.store.value)
    if scheme != EMBEDDED:
        raise ConfigError(f"`init` makes embedded stores only, not {scheme}:", hint="name a path with --store")
    if os.path.lexists(path):
        raise StoreExistsError(f"a store already exists: {path}")
    if arguments.org and (arguments.file is None or arguments.owner is None):
        raise UsageError("--org goes with --from and a site", hint="ic-secrets init SITE --org ORG --from FILE")
    from ..stores.embedded import store as local

    leftovers = _list_new(
        [path, settings.audit_file, *(os.path.dirname(each) for each in (path, settings.key_file.value))]
    )
    status = 0
    key_file, made = _provide_key(settings)
    keys = settings.load_keys()
    with context.observed(None, command="init") as record:
        _make_directory(path)
        record.write("ok", must=True)
        with local.create(path, keys[0]) as store:
            store_id = store.store_id
            if arguments.org and arguments.owner:
                store.set_site(Site(check_site_name(arguments.owner), check_site_name(arguments.org, "organization")))
    if arguments.file is not None:
        status = _fill(arguments, context, [*([key_file] if made and key_file else []), *leftovers])
        if status and not arguments.skip_refused:
            return status
    if arguments.json:
        print_json("init", {"store": f"sqlite:{path}", "store_id": store_id, "key_file": key_file, "key_made": made})
        return status
    print_message("", f"made the store {path}")
    if made:
        print_message("", f"made its key {key_file}: keep a copy elsewhere, nothing else opens the store")
    return status


def make_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser(
        "init",
        "Make the embedded store and, unless there is one, its random key. --from starts it with what a file holds,\n"
        "as `import` brings it in; where that is refused, neither store, key nor log is left.",
        "ic-secrets init\n  ic-secrets init my-site --from secrets.json",
    )
    parser.add_argument("owner", metavar="OWNER", nargs="?", help="whose secrets FILE holds: SITE or org:ORG")
    parser.add_argument("--from", metavar="FILE", dest="file", help="start with the secrets of this file")
    parser.add_argument("--all", action="store_true", help="FILE is a sealed one of many owners")
    parser.add_argument("--format", choices=list_formats(), help="the format of FILE (default: by its name)")
    parser.add_argument("--org", metavar="ORG", help="the site's primary organization, whose part of FILE comes along")
    parser.add_argument("--with-org", action="store_true", help="of a sealed FILE, the site's organization too")
    parser.add_argument("--open-key-file", metavar="F", help="open a sealed FILE with this file's key")
    add_reading_options(parser)
    add_store_options(parser)
    add_json(parser)
    return parser


def _fill(arguments: argparse.Namespace, context: Context, made: Sequence[str]) -> int:
    """Import the file; if that fails, or something is refused without --skip-refused, remove what was made."""
    from .importing import import_file
    from .transfer import parse_owner_or_all

    # What only `import` has.
    arguments.from_env = None
    arguments.dry_run = False
    arguments.with_org = arguments.with_org or arguments.org is not None
    is_kept = False
    try:
        status = import_file(arguments, context, parse_owner_or_all(arguments))
        is_kept = not status or arguments.skip_refused
    finally:
        for path in () if is_kept else made:
            with contextlib.suppress(OSError):
                (os.rmdir if os.path.isdir(path) else os.unlink)(path)
    return status


def _list_new(paths: Sequence[str | None]) -> list[str]:
    """Return those of the paths where nothing is yet, each once."""
    return [path for path in dict.fromkeys(paths) if path and not os.path.lexists(path)]


def _make_directory(path: str) -> None:
    """Make the store's directory, which is also that of its audit log."""
    from ..core.new_files import make_private_directory

    try:
        make_private_directory(os.path.dirname(os.path.abspath(path)))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StoreWriteError(f"no store can be made at {path}: {reason}") from None


def _provide_key(settings: Settings) -> tuple[str | None, bool]:
    """Return the key's file (None if the key comes from elsewhere), and whether it was just made."""
    from ..keys import MasterKey
    from ..keys.master import create_key_file

    source, *others = settings.key_sources
    if source.kind != "file":
        return None, False
    path = source.place
    if os.path.lexists(path) or others:  # a new key would differ from theirs
        return path, False
    create_key_file(path, MasterKey.generate().format())
    return path, True
