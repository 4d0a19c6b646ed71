"""`ic-secrets import`: secrets from a file."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence

from ..assembly import Context
from ..composer import parse_credential
from ..config.catalogue import split_names
from ..core import read_regular
from ..core.console import print_table
from ..errors import (
    ImportFileError,
    ImportRefusedError,
    InvalidValueError,
    StoreLockedError,
    UnknownSiteError,
    UsageError,
)
from ..masking.parts import list_leaves
from ..model.secret import Owner, SecretType, SecretValue, parse_scopes, parse_type
from ..stores import Store
from ..transfer.formats.base import Format, Omission, ParsedFile, Place, ReadOptions, Refusal
from ..transfer.formats.registry import FORMATS, SEALED, guess_format
from ..transfer.merge import (
    Action,
    Change,
    Check,
    SecretSet,
    accept_any,
    check_value,
    count_actions,
    count_kinds,
    import_secrets,
    is_refused,
    list_made_owners,
    list_written,
    plan_changes,
    read_secrets,
)
from . import Call
from .call import read_call
from .output import print_json, print_message
from .parser import Parser, add_json, add_store_options
from .transfer import (
    add_owner_options,
    choose_owners,
    describe_change,
    describe_counts,
    key_loader,
    parse_owner_or_all,
    print_made_owners,
)

# What templates have where a value is to be put: ${TOKEN}, ${{ secrets.TOKEN }}, {{ token }}, %env(TOKEN)%, <token>.
_PLACEHOLDER = re.compile(r"\$\{[^{}]+\}|(\$?\{)\{[^{}]+\}\}|%env\([^()]+\)%|<[A-Za-z][A-Za-z0-9 ._-]*>")
# Some thousands of the longest values.
_LARGEST = 64 << 20


def run_import(call: Call) -> int:
    """Bring what a file holds of an owner into the store, in one transaction: all of it or nothing."""
    arguments, context = read_call(call, make_parser())
    if arguments.all and arguments.file is None:  # then the only word is the file
        arguments.owner, arguments.file = None, arguments.owner
    return import_file(arguments, context, parse_owner_or_all(arguments))


def make_parser() -> Parser:
    """Return the parser of its arguments."""
    description = "Bring the secrets of a file into the store."
    parser = Parser("import", description, "ic-secrets import my-site --format sealed my.sealed")
    add_owner_options(parser)
    parser.add_argument("file", metavar="FILE", nargs="?", help="the file to read; - is stdin")
    parser.add_argument("--from-env", metavar="VAR", help="read what that variable holds: COMPOSER_AUTH, as auth")
    add_reading_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="show what would be made, changed and refused")
    parser.add_argument("--with-org", action="store_true", help="bring a site's organization along, and the link to it")
    parser.add_argument("--open-key-file", metavar="F", help="open FILE with this file's key instead of the store's")
    add_store_options(parser)
    add_json(parser)
    return parser


def add_reading_options(parser: Parser) -> None:
    """Add what formats need that do not hold all of a secret."""
    parser.add_argument("--type", metavar="T", help="the type of what a .env file holds: env or runtime")
    parser.add_argument("--scope", metavar="S[,S...]", help="the scopes of what an auth.json or .env file holds")
    parser.add_argument("--allow-empty", action="store_true", help="accept empty values")
    parser.add_argument("--only", metavar="N,..", dest="chosen", help="bring in only these secrets")
    parser.add_argument("--expand", action="store_true", help="put in ${OTHER} of a .env file from its earlier lines")
    parser.add_argument("--skip-refused", action="store_true", help="bring in the rest where something is refused")


def import_file(arguments: argparse.Namespace, context: Context, owner: Owner | None) -> int:
    """Import the file that the arguments name, as `import` and `init --from` do."""
    name = arguments.format or guess_format(arguments.file or "")
    check: Check = accept_any
    if name == SEALED:
        parsed = ParsedFile(_read_sealed(arguments, context, owner))
        parsed = parsed.select(split_names(arguments.chosen)) if arguments.chosen else parsed
    else:
        check = _make_check(context.settings.find_names("allow-env") or (), allow_empty=arguments.allow_empty)
        with context.open_store(read_only=True) as store:
            parsed = _read_text_file(arguments, context, FORMATS[name], owner, store)
    secret_set, unread = parsed.secret_set, parsed.refused
    relink = arguments.all or arguments.with_org
    if arguments.dry_run or (unread and not arguments.skip_refused):
        with context.open_store(read_only=True) as store:
            changes = plan_changes(store, secret_set, relink=relink, check=check)
        status = _report(arguments, changes, unread)
        if not arguments.dry_run:
            raise _explain_refused(changes, unread)
        return status
    changes = ()
    try:
        with (
            context.open_store() as store,
            context.recorded(store, command="import", owner=str(owner or "--all")) as record,
        ):
            changes = import_secrets(store, secret_set, skip_refused=arguments.skip_refused, relink=relink, check=check)
            record.names = list_written(changes)
            if is_refused(changes) and not arguments.skip_refused:
                raise _explain_refused(changes, unread)
    except ImportRefusedError:
        _report(arguments, changes, unread)
        raise
    return _report(arguments, changes, unread)


def _explain_refused(changes: Sequence[Change], unread: Sequence[Refusal]) -> ImportRefusedError:
    refused = count_actions(changes)["refused"] + len(unread)
    count = f"{refused:,} of {len(changes) + len(unread):,}"
    return ImportRefusedError(f"{count} definitions cannot be imported, so nothing was")


def print_omissions(omissions: Iterable[Omission]) -> None:
    """Name what was not brought along."""
    for what, reason in omissions:
        print_message("warning", f"{what} is left out: {reason}")


def _report(arguments: argparse.Namespace, changes: Sequence[Change], unread: Sequence[Refusal]) -> int:
    refused = [(str(change), change.reason) for change in changes if change.action is Action.REFUSED]
    refused += [(one.what, one.reason) for one in unread]
    counts = count_actions(changes)
    counts["refused"] += len(unread)
    is_done = not arguments.dry_run and (arguments.skip_refused or not refused)
    if arguments.json:
        content = {"dry_run": arguments.dry_run, "done": is_done, "counts": counts}
        described = [describe_change(change) for change in changes]
        described += [
            {"action": Action.REFUSED.value, "owner": arguments.owner, "environment": None}
            | {"name": one.name or None, "reason": one.reason, "note": None}
            for one in unread
        ]
        print_json("import", {**content, "changes": described})
    elif arguments.dry_run:
        rows = [
            [change.action.value, str(change), change.note] for change in changes if change.action is not Action.SAME
        ]
        if rows:
            print_table(["CHANGE", "WHAT", ""], rows)
    for what, reason in refused:
        print_message("warning", f"{what} cannot be imported: {reason}")
    if not arguments.json and is_done:
        print_made_owners(list_made_owners(changes))
    if not arguments.json and (is_done or arguments.dry_run):
        kinds = count_kinds(changes)
        kinds[Action.REFUSED, False] += len(unread)
        print_message("", describe_counts(kinds))
    return 1 if refused else 0


def _make_check(allowed: Collection[str], *, allow_empty: bool) -> Check:
    """Return what checks every value, as `set` does, and that somebody has filled it in."""

    def check(kind: SecretType, name: str, value: SecretValue) -> None:
        if not value.reveal() and not allow_empty:
            raise InvalidValueError("the value is empty: --allow-empty accepts that")
        check_value(kind, name, value, allowed)
        content = parse_credential(name, value).content if kind is SecretType.COMPOSER else value.reveal()
        if any(_PLACEHOLDER.fullmatch(text.strip()) for _, text in list_leaves(content)):
            raise InvalidValueError("it is a placeholder, not a value: fill it in, or leave it out")

    return check


# --- reading --------------------------------------------------------------------------------------------


def _read_sealed(arguments: argparse.Namespace, context: Context, owner: Owner | None) -> SecretSet:
    from ..stores import sealed_file

    path = arguments.file
    if path in {None, "-"}:
        raise UsageError("a sealed file is read by its name")
    load_keys = key_loader(context.settings, "open-key-file", arguments.open_key_file)
    try:
        with context.guard(
            lambda: sealed_file.open_store(path, load_keys), read_only=True, is_configured=False
        ) as store:
            return read_secrets(store, choose_owners(store, owner, with_org=arguments.with_org))
    except StoreLockedError as error:
        raise StoreLockedError(str(error), hint="--open-key-file names the file that holds its key") from None


def _read_text_file(
    arguments: argparse.Namespace, context: Context, form: Format, owner: Owner | None, store: Store
) -> ParsedFile:
    """Read the file, stdin or the variable, and fill in its empty places; name what is left out."""
    if owner is None:
        raise UsageError(f"a file of the format {form.name} has one owner", hint="name it: SITE or org:ORG")
    options = ReadOptions(
        owner,
        parse_type(arguments.type) if arguments.type else None,
        parse_scopes(arguments.scope) if arguments.scope else None,
        _find_organization(store, owner),
        arguments.with_org,
        int(time.time()),
        arguments.allow_empty,
        arguments.expand,
    )
    parsed = form.read(_read_text(arguments, context.settings.environment), options)
    print_omissions(parsed.omissions)
    parsed = parsed.select(split_names(arguments.chosen)) if arguments.chosen else parsed
    parsed = parsed.fill(_find_values(parsed, store))  # what the store has stays as it is
    return parsed.fill(_ask_for_values(parsed.empty))


def _find_organization(store: Store, owner: Owner) -> str | None:
    if not owner.is_site:
        return None
    try:
        return store.site(owner.name).organization
    except UnknownSiteError:
        return None


def _read_text(arguments: argparse.Namespace, environment: Mapping[str, str]) -> str:
    if (arguments.file is None) == (arguments.from_env is None):
        raise UsageError("name one FILE, - for stdin, or --from-env VAR")
    if arguments.from_env is not None:
        value = environment.get(arguments.from_env)
        if value is None:
            raise UsageError("the variable that --from-env names is not set", hint="it takes a variable's name")
        data = os.fsencode(value)
    elif arguments.file == "-":
        data = sys.stdin.buffer.read(_LARGEST)
    else:
        data = _read_file(arguments.file)
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise ImportFileError("the file is not UTF-8") from None


def _read_file(path: str) -> bytes:
    try:
        data = read_regular(path, _LARGEST)
    except OSError as error:
        raise ImportFileError(f"{path} cannot be read: {error.strerror}") from None
    if data is None:
        shown = path if path[:1] not in {"{", "["} else "of that name; is it the content of one?"
        raise ImportFileError(f"there is no file {shown}")
    return data


def _find_values(parsed: ParsedFile, store: Store) -> dict[Place, SecretValue]:
    """Return the store's values of the owners with empty places."""
    known: dict[Place, SecretValue] = {}
    for owner in {place.owner for place in parsed.empty}:
        _, secrets, overrides = store.read(owner)
        known |= {Place(owner, None, one.name): one.value for one in secrets if one.value is not None}
        known |= {Place(owner, one.environment, one.name): one.value for one in overrides if one.value is not None}
    return known


def _ask_for_values(places: Sequence[Place]) -> dict[Place, SecretValue]:
    """Ask a person for the values; ImportFileError where there is nobody to ask."""
    if not places:
        return {}
    if not sys.stdin.isatty():
        hint = "fill it in, or import at a terminal, which asks"
        raise ImportFileError(f"no value for {', '.join(map(str, places))}", hint=hint)
    from getpass import getpass

    return {place: SecretValue(getpass(f"value of {place}: ")) for place in places}
