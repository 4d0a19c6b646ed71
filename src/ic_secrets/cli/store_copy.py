"""`ic-secrets copy`: everything from one store to another, an owner at a time."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..config import Settings
from ..core.console import progress
from ..errors import StoreWriteError, UnknownSiteError, UsageError
from ..model import Owner
from ..stores import Store
from ..transfer.merge import (
    Action,
    Change,
    count_kinds,
    import_secrets,
    list_made_owners,
    list_written,
    plan_changes,
    read_secrets,
)
from . import Call
from .call import read_call
from .output import print_json, print_message
from .parser import Parser, add_json
from .transfer import describe_change, describe_counts, key_loader, print_made_owners

if TYPE_CHECKING:
    from ..audit import Record


def run_copy(call: Call) -> int:
    """Copy each owner in a transaction of its own, and read it back; 1 if something could not be copied."""
    arguments, context = read_call(call, make_parser())
    settings = context.settings
    _choose_stores(arguments, settings)
    context.load_plugins_for(arguments.source, arguments.destination)
    from_keys = key_loader(settings, "from-key-file", arguments.from_key_file)
    to_keys = key_loader(settings, "to-key-file", arguments.to_key_file)
    with (
        context.guard(lambda: context.open_url(arguments.source, from_keys, read_only=True), read_only=True) as source,
        context.guard(
            lambda: context.open_url(arguments.destination, to_keys, create=True), read_only=False, is_configured=False
        ) as destination,
        context.observed(source, command="copy", url=arguments.source),
        context.observed(destination, command="copy", url=arguments.destination) as record,
    ):
        owners = _choose_owners(source, destination)
        refused, made, counts = _copy_owners(source, destination, owners, record)
    if arguments.json:
        described = [describe_change(change) for change in refused]
        totals = {action.value: counts[action, True] + counts[action, False] for action in Action}
        content = {"source": source.url, "destination": destination.url, "owners": len(owners)}
        print_json("copy", {**content, "counts": totals, "refused": described})
    for change in refused:
        print_message("warning", f"{change} was not copied: {change.reason}")
    if not arguments.json:
        print_made_owners(made)
        many = f"{len(owners):,} {'owner' if len(owners) == 1 else 'owners'}"
        print_message("", f"copied {many}: {describe_counts(counts)}" if owners else "there is nothing to copy")
    return 1 if refused else 0


def make_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser(
        "copy",
        "Copy all that one store holds to another; an embedded one is made when it is missing. Each owner is read\n"
        "back before the next one is copied. Run again, it goes on where it was ended; what is the same is passed by.\n"
        "To pantheon:SITE, or pantheon-file:PATH?site=SITE, goes what that site holds, nothing of its organization.",
        "ic-secrets copy sealed:all.sealed /srv/secrets/store.db\n  ic-secrets copy --to pantheon:my-site",
    )
    parser.add_argument("source", metavar="SRC", nargs="?", help="the store to read, a path or a URL")
    parser.add_argument("destination", metavar="DST", nargs="?", help="the store to write: a path or a URL")
    parser.add_argument("--to", metavar="DST", help="the same; then SRC may be left out: it is IC_SECRETS_STORE")
    parser.add_argument("--from-key-file", metavar="F", help="the file that holds SRC's key (IC_SECRETS_KEY_FILE)")
    parser.add_argument("--to-key-file", metavar="F", help="the file that holds DST's key (IC_SECRETS_KEY_FILE)")
    add_json(parser)
    return parser


def _choose_stores(arguments: argparse.Namespace, settings: Settings) -> None:
    """Fill in what was left out; UsageError if no DST is named, or two."""
    if arguments.to is not None and arguments.destination is not None:
        raise UsageError("two stores to write to are named", hint="ic-secrets copy SRC --to DST, or SRC DST")
    arguments.destination = arguments.to if arguments.to is not None else arguments.destination
    if arguments.destination is None:
        raise UsageError("no store to write to is named", hint="ic-secrets copy SRC DST, or --to DST")
    if arguments.source is None:
        arguments.source = settings.store.value


def _choose_owners(source: Store, destination: Store) -> list[Owner]:
    """Return all that the source has, or the only site that fits the destination; UnknownSiteError."""
    only = destination.only_site
    if only is not None:
        source.site(only)
        return [Owner.site(only)]
    return sorted(source.owners(), key=lambda owner: owner.is_site)  # a site's overrides need its organization


def _copy_owners(
    source: Store, destination: Store, owners: Sequence[Owner], record: Record
) -> tuple[list[Change], list[Owner], Counter[tuple[Action, bool]]]:
    """Copy owner by owner; return what was refused, who is new, and how many sites and values were made, changed, …"""
    refused: list[Change] = []
    made: list[Owner] = []
    counts: Counter[tuple[Action, bool]] = Counter()
    with progress("copying definitions") as advance:
        for left, owner in zip(reversed(range(len(owners))), owners, strict=True):
            changes = _copy_owner(source, destination, owner, record)
            refused += [change for change in changes if change.action is Action.REFUSED]
            made += list_made_owners(changes)
            counts.update(count_kinds(changes))
            done = sum(counts.values())
            advance(done, done + left * done // (len(owners) - left))  # as if the others held as much
    return refused, made, counts


def _copy_owner(source: Store, destination: Store, owner: Owner, record: Record) -> Sequence[Change]:
    """Copy one owner in one logged transaction; StoreWriteError when it does not read back as it was written."""
    try:
        secret_set = read_secrets(source, [owner])
    except UnknownSiteError:  # deleted since the owners were listed
        return ()
    with destination.transaction():
        changes = import_secrets(destination, secret_set, skip_refused=True)
        has_written = bool(_count_writes(changes))
        if has_written:
            record.names = list_written(changes)
            record.write("ok", must=True, owner=str(owner))
    if has_written and _count_writes(one for one in plan_changes(destination, secret_set) if not one.is_blind):
        raise StoreWriteError(
            f"{destination.url} does not give {owner} back as it was copied",
            hint="if nobody else writes to it, its disk is failing; run the same copy again",
        )
    return changes


def _count_writes(changes: Iterable[Change]) -> int:
    return sum(change.action in {Action.MADE, Action.CHANGED} for change in changes)
