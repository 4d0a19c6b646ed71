"""`ic-secrets export` and `import`: secrets to a file and from one."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..assembly.context import Context
from ..config.settings import Settings
from ..core.console import print_table
from ..core.files import read_regular, replace_file
from ..core.new_files import replace_private
from ..errors import (
    IcSecretsError,
    ImportRefusedError,
    MasterKeyError,
    StoreError,
    StoreLockedError,
    UnknownSecretError,
    UsageError,
)
from ..keys.sealing import MasterKey
from ..model.secret import Owner, parse_owner
from ..stores.base import Identity, Store
from ..transfer.merge import (
    Action,
    Bundle,
    Change,
    Check,
    add_organizations,
    bring,
    check_nothing,
    count_actions,
    plan_changes,
    read_bundle,
)
from . import Call
from .calls import read_call
from .formats import (
    add_reading_options,
    guess_format,
    is_one_of,
    list_formats,
    make_check,
    read_content,
    write_content,
)
from .output import print_json, print_message
from .parsing import Parser, add_json, add_store_options

_MANY = "every owner: each site, and each organization that holds something"
# A file that is there already is read up to this, to see whether it would change.
_LARGEST = 1 << 30
_SEALED = b"ic-secrets-sealed-"


class Request(NamedTuple):
    """What is to be exported or imported: the owner (None for all), whether with its organization, and the keys."""

    owner: Owner | None
    with_org: bool
    load_keys: Callable[[], Sequence[MasterKey]]


def run_export(call: Call) -> int:
    """Write what an owner holds to stdout or a file, which is replaced at once or left as it is."""
    arguments, context = read_call(call, make_export_parser())
    owner = parse_owner_or_all(arguments)
    load_keys = key_loader(context.settings, "seal-key-file", arguments.seal_key_file)
    keys = load_keys()  # now: nobody is asked for a passphrase while the store is held
    request = Request(owner, not arguments.without_org, lambda: keys)
    form = arguments.format or guess_format(arguments.output or "")
    _check_plaintext(arguments, form)
    with (
        context.open_store(read_only=True) as store,
        context.observed(store, command="export", owner=str(owner or "--all")) as record,
        store.snapshot(),
    ):
        bundle = read_bundle(store, _choose_owners(store, request))
        record.names = bundle.names
        if form == "sealed":
            data = _write_sealed(store, bundle, request)
        else:
            data = write_content(form, bundle, owner, values=not arguments.without_values)
    if bundle.inherited:
        print_message("warning", f"{owner} overrides what it inherits, which has no effect without the organization")
    if arguments.output in {None, "-"}:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        return 0
    written = _write_file(arguments.output, data, form, request.load_keys)
    print_message("", f"{'wrote' if written else 'nothing has changed in'} {arguments.output}")
    return 0


def make_export_parser() -> Parser:
    """Its arguments."""
    parser = _make_parser(
        "export", "Write secrets to a file.", "ic-secrets export my-site --format sealed -o my.sealed"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="the file; stdout without it")
    parser.add_argument("--without-org", action="store_true", help="leave a site's primary organization out")
    parser.add_argument("--plaintext", action="store_true", help="yes, write the values as they are, for all to read")
    parser.add_argument("--without-values", action="store_true", help="yaml, toml: places to be filled, safe to commit")
    parser.add_argument("--seal-key-file", metavar="F", help="seal with this file's key instead of the store's")
    add_store_options(parser)
    return parser


def run_import(call: Call) -> int:
    """Bring what a file holds of an owner into the store, in one transaction: all of it or nothing."""
    arguments, context = read_call(call, make_import_parser())
    if arguments.all and arguments.file is None:  # then the one word there is is the file
        arguments.owner, arguments.file = None, arguments.owner
    owner = parse_owner_or_all(arguments)
    return import_file(arguments, context, owner)


def import_file(arguments: argparse.Namespace, context: Context, owner: Owner | None) -> int:
    """What `import` does, whatever its words were."""
    form = arguments.format or guess_format(arguments.file or "")
    if form == "sealed":
        if arguments.file in {None, "-"}:
            raise UsageError("a sealed file is read by its name")
        load_keys = key_loader(context.settings, "open-key-file", arguments.open_key_file)
        bundle = _read_sealed(context, arguments.file, Request(owner, arguments.with_org, load_keys))
    else:
        with context.open_store(read_only=True) as store:
            bundle = read_content(arguments, context, form, owner, store)
    relink = arguments.all or arguments.with_org
    check = check_nothing if form == "sealed" else make_check(allow_empty=arguments.allow_empty)
    if arguments.dry_run:
        with context.open_store(read_only=True) as store:
            return _report(arguments, plan_changes(store, bundle, relink=relink, check=check))
    return _import(arguments, context, owner, bundle, relink=relink, check=check)


def make_import_parser() -> Parser:
    """Its arguments."""
    parser = _make_parser(
        "import", "Bring the secrets of a file into the store.", "ic-secrets import my-site --format sealed my.sealed"
    )
    parser.add_argument("file", metavar="FILE", nargs="?", help="the file to read; - is stdin")
    parser.add_argument("--from-env", metavar="VAR", help="read what that variable holds: COMPOSER_AUTH, as auth")
    add_reading_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="show what would be made, changed and refused")
    parser.add_argument("--with-org", action="store_true", help="bring a site's organization along, and the link to it")
    parser.add_argument("--skip-refused", action="store_true", help="bring in the rest where something is refused")
    parser.add_argument("--open-key-file", metavar="F", help="open FILE with this file's key instead of the store's")
    add_store_options(parser)
    add_json(parser)
    return parser


def _import(
    arguments: argparse.Namespace,
    context: Context,
    owner: Owner | None,
    bundle: Bundle,
    *,
    relink: bool,
    check: Check,
) -> int:
    changes: Sequence[Change] = ()
    try:
        with (
            context.open_store() as store,
            context.recorded(store, command="import", owner=str(owner or "--all")) as record,
        ):
            changes = bring(store, bundle, skip_refused=arguments.skip_refused, relink=relink, check=check)
            record.names = name_written(changes)
            refused = count_actions(changes)["refused"]
            if refused and not arguments.skip_refused:
                raise ImportRefusedError(
                    f"{refused:,} of {len(changes):,} definitions cannot be brought in, so nothing was"
                )
    except ImportRefusedError:
        _report(arguments, changes)
        raise
    return _report(arguments, changes)


def name_written(changes: Sequence[Change]) -> tuple[str, ...]:
    """The names of the secrets that the changes write, for the audit log."""
    written = {Action.MADE, Action.CHANGED}
    return tuple(sorted({c.name for c in changes if c.name is not None and c.action in written}))


def key_loader(settings: Settings, option: str, path: str | None) -> Callable[[], Sequence[MasterKey]]:
    """What loads the keys in the file that the option names, and no others; without one, those of the settings."""
    if path is None:
        return settings.load_keys
    if path.startswith("ic-secrets-"):
        raise MasterKeyError(f"--{option} holds a key, not the path of its file", hint="make a file of it, mode 0600")

    def load() -> Sequence[MasterKey]:
        from ..keys.sources import KeySource

        return settings.keyholder.load([KeySource(f"--{option}", "file", path)])

    return load


def describe_change(change: Change) -> dict[str, object]:
    """A change as the JSON of a report has it."""
    return {
        "action": change.action.value,
        "owner": str(change.owner),
        "environment": change.environment,
        "name": change.name,
        "reason": change.reason or None,
        "note": change.note or None,
    }


def _make_parser(command: str, description: str, example: str) -> Parser:
    parser = Parser(command, description, example)
    parser.add_argument("owner", metavar="OWNER", nargs="?", help="SITE or org:ORG")
    parser.add_argument("--all", action="store_true", help=_MANY)
    parser.add_argument("--format", choices=list_formats(), help="what the file is (else its name tells)")
    return parser


def parse_owner_or_all(arguments: argparse.Namespace) -> Owner | None:
    """The owner, None for all; UsageError for neither or both."""
    if arguments.all != (arguments.owner is None):
        raise UsageError("name one owner, or --all", hint="SITE or org:ORG, or --all for every owner")
    if arguments.owner is None:
        return None
    owner, environment = parse_owner(arguments.owner)
    if environment is not None:
        raise UsageError(f"{arguments.owner} names an environment", hint=f"name the whole owner: {owner}")
    return owner


def _check_plaintext(arguments: argparse.Namespace, form: str) -> None:
    """Values that everybody can read are written only where the person says so."""
    if arguments.without_values and form not in {"yaml", "toml"}:
        raise UsageError("only the formats yaml and toml have places to be filled")
    if form == "sealed" or arguments.without_values:
        return
    if not arguments.plaintext:
        raise UsageError(
            f"a file of the format {form} shows every value",
            hint="--plaintext says that you want that; the format sealed shows none",
        )
    if arguments.output in {None, "-"} and sys.stdout.isatty():
        raise UsageError("values are not written to a terminal", hint="name a file with -o")


def _choose_owners(store: Store, request: Request) -> Sequence[Owner]:
    """Whom the request means in that store; UnknownSiteError, UnknownSecretError."""
    if request.owner is None:
        return tuple(store.owners())
    if not request.owner.is_site and request.owner not in store.owners():
        raise UnknownSecretError(f"{store.url} holds nothing of {request.owner}")
    owners = (request.owner,)
    return add_organizations(store, owners) if request.with_org else owners


def _write_file(path: str, data: bytes, form: str, load_keys: Callable[[], Sequence[MasterKey]]) -> bool:
    """Whether the file had to be written: one with the same content stays as it is, to the byte."""
    path = os.path.realpath(path)
    try:
        if os.path.lexists(path):
            before = read_regular(path, _LARGEST)
            if before is None:
                raise IcSecretsError(f"{path} is no regular file", hint="without -o the export goes to stdout")
            is_sealed = form == "sealed"
            if _is_same_sealed(before, data, load_keys) if is_sealed else before == data:
                return False
            if before and not (before.startswith(_SEALED) if is_sealed else is_one_of(form, before)):
                raise IcSecretsError(
                    f"{path} is there, and is no export of this format", hint="remove it first, or name another file"
                )
        (replace_file if form == "sealed" else replace_private)(path, data)
    except OSError as error:
        raise IcSecretsError(f"{path} cannot be written: {error.strerror}") from None
    return True


def _report(arguments: argparse.Namespace, changes: Sequence[Change]) -> int:
    refused = [change for change in changes if change.action is Action.REFUSED]
    done = not arguments.dry_run and (arguments.skip_refused or not refused)
    if arguments.json:
        content = {"dry_run": arguments.dry_run, "done": done, "counts": count_actions(changes)}
        print_json("import", {**content, "changes": [describe_change(change) for change in changes]})
    elif arguments.dry_run:
        rows = [
            [change.action.value, str(change), change.note] for change in changes if change.action is not Action.SAME
        ]
        if rows:
            print_table(["CHANGE", "WHAT", ""], rows)
    for change in refused:
        print_message("warning", f"{change} cannot be brought in: {change.reason}")
    if not arguments.json and (done or arguments.dry_run):
        print_message("", ", ".join(f"{count:,} {action}" for action, count in count_actions(changes).items()))
    return 1 if refused else 0


# --- the formats ----------------------------------------------------------------------------------------


def _read_sealed(context: Context, path: str, request: Request) -> Bundle:
    from ..stores import sealed_file as sealed

    try:
        with context.guard(
            lambda: sealed.open_store(path, request.load_keys), read_only=True, is_configured=False
        ) as store:
            return read_bundle(store, _choose_owners(store, request))
    except StoreLockedError as error:
        raise StoreLockedError(str(error), hint="--open-key-file names the file that holds its key") from None


def _write_sealed(store: Store, bundle: Bundle, request: Request) -> bytes:
    """The file's id tells the store and what of it was asked for, so that two exports are never versions of one."""
    import hashlib

    from ..keys.sealing import encode
    from ..stores import sealed_file as sealed

    asked = ("--all",) if request.owner is None else (str(request.owner), "with" if request.with_org else "without")
    identity = store.identify() or Identity(store.url, 0)
    source = encode("ic-secrets/1 export", identity.id, *asked)
    keys = request.load_keys()
    # While a rotation is under way there are two: that of the store is what will open it on.
    return sealed.render(
        next((key for key in keys if key.id == store.master_id), keys[0]),
        hashlib.sha256(source).hexdigest()[:32],
        identity.generation,
        bundle.sites,
        bundle.holdings,
    )


def _is_same_sealed(before: bytes, after: bytes, load_keys: Callable[[], Sequence[MasterKey]]) -> bool:
    """One that was damaged is not, though every line of it may be right."""
    from ..stores import sealed_file as sealed

    if not sealed.is_same_content(before, after):
        return False
    try:
        sealed.parse("", before, load_keys)
    except StoreError:
        return False
    return True
