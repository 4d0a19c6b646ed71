"""`ic-secrets export`: secrets to a file."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from ..core import read_regular, replace_file
from ..core.new_files import replace_private
from ..errors import IcSecretsError, UsageError
from ..keys import MasterKey
from ..model import Owner
from ..stores import Store
from ..transfer import SecretSet, read_secrets
from ..transfer.formats.base import Format
from ..transfer.formats.registry import FORMATS, SEALED, guess_format
from . import Call
from .call import read_call
from .importing import print_omissions
from .output import print_message
from .parser import Parser, add_store_options
from .transfer import add_owner_options, choose_owners, key_loader, parse_owner_or_all

# A file that is there already is read up to this, to see whether it would change.
_LARGEST = 1 << 30


def run_export(call: Call) -> int:
    """Write what an owner holds to stdout or a file, which is replaced at once or left as it is."""
    arguments, context = read_call(call, make_parser())
    owner = parse_owner_or_all(arguments)
    keys = key_loader(context.settings, "seal-key-file", arguments.seal_key_file)()
    # From here on nobody is asked for a passphrase: the store is held.
    name = arguments.format or guess_format(arguments.output or "")
    form = None if name == SEALED else FORMATS[name]
    _check_plaintext(arguments, form)
    with (
        context.open_store(read_only=True) as store,
        context.observed(store, command="export", owner=str(owner or "--all")) as record,
        store.snapshot(),
    ):
        secret_set = read_secrets(store, choose_owners(store, owner, with_org=not arguments.without_org))
        record.names = secret_set.names
        data = _render(store, secret_set, owner, form, arguments, keys)
    if secret_set.inherited:
        print_message("warning", f"{owner} overrides what it inherits, which has no effect without the organization")
    if arguments.output in {None, "-"}:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        return 0
    is_written = _write_file(arguments.output, data, form, lambda: keys)
    print_message("", f"{'wrote' if is_written else 'nothing has changed in'} {arguments.output}")
    return 0


def make_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser("export", "Write secrets to a file.", "ic-secrets export my-site --format sealed -o my.sealed")
    add_owner_options(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="the file; stdout without it")
    parser.add_argument("--without-org", action="store_true", help="leave a site's primary organization out")
    parser.add_argument("--plaintext", action="store_true", help="write the values as they are, for all to read")
    places = ", ".join(form.name for form in FORMATS.values() if form.has_places)
    parser.add_argument("--without-values", action="store_true", help=f"{places}: places for values, safe to commit")
    parser.add_argument("--seal-key-file", metavar="F", help="seal with this file's key instead of the store's")
    add_store_options(parser)
    return parser


def _check_plaintext(arguments: argparse.Namespace, form: Format | None) -> None:
    """Raise UsageError where values would be readable by everybody and the person did not ask for that."""
    if arguments.without_values:
        if form is None or not form.has_places:
            able = " and ".join(each.name for each in FORMATS.values() if each.has_places)
            raise UsageError(f"only the formats {able} have places for values")
        return
    if form is None:
        return
    if not arguments.plaintext:
        raise UsageError(
            f"a file of the format {form.name} shows every value",
            hint="--plaintext confirms that you want this; the format sealed shows none",
        )
    if arguments.output in {None, "-"} and sys.stdout.isatty():
        raise UsageError("values are not written to a terminal", hint="name a file with -o")


def _render(
    store: Store,
    secret_set: SecretSet,
    owner: Owner | None,
    form: Format | None,
    arguments: argparse.Namespace,
    keys: Sequence[MasterKey],
) -> bytes:
    if form is None:
        from ..transfer.formats import sealed

        scope = "without" if arguments.without_org else "with"
        return sealed.write(store, secret_set, ("--all",) if owner is None else (str(owner), scope), keys)
    if owner is None:
        raise UsageError(f"a file of the format {form.name} has one owner", hint="name it: SITE or org:ORG")
    text, omissions = form.write(secret_set, owner, values=not arguments.without_values)
    print_omissions(omissions)
    return text.encode()


def _write_file(path: str, data: bytes, form: Format | None, load_keys: Callable[[], Sequence[MasterKey]]) -> bool:
    """Return whether the file had to be written: one with the same content stays as it is, to the byte."""
    from ..transfer.formats import sealed

    path = os.path.realpath(path)
    try:
        if os.path.lexists(path):
            before = read_regular(path, _LARGEST)
            if before is None:
                raise IcSecretsError(f"{path} is not a regular file", hint="without -o the export goes to stdout")
            if before == data if form else sealed.is_same(before, data, load_keys):
                return False
            if before and not before.startswith(form.beginnings if form else sealed.START):
                raise IcSecretsError(
                    f"{path} exists and is not an export of this format", hint="remove it first, or name another file"
                )
        (replace_private if form else replace_file)(path, data)
    except OSError as error:
        raise IcSecretsError(f"{path} cannot be written: {error.strerror}") from None
    return True
