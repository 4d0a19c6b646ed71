"""What the commands that move secrets have in common: whose they are, which keys, and how a change is shown."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence

from ..config import Settings
from ..errors import MasterKeyError, UnknownSecretError, UsageError
from ..keys import MasterKey
from ..model.secret import Owner, parse_owner
from ..stores import Store
from ..transfer.formats.registry import list_formats
from ..transfer.merge import Action, Change, add_organizations
from .output import print_message
from .parser import Parser
from .questions import list_some


def add_owner_options(parser: Parser) -> None:
    """Add the arguments that say whose secrets are moved, and as what."""
    parser.add_argument("owner", metavar="OWNER", nargs="?", help="SITE or org:ORG")
    parser.add_argument(
        "--all", action="store_true", help="every owner: each site, and each organization that holds something"
    )
    parser.add_argument("--format", choices=list_formats(), help="the format of the file (default: by its name)")


def parse_whole_owner(text: str) -> Owner:
    """Return the owner; UsageError where the text names an environment of it."""
    owner, environment = parse_owner(text)
    if environment is not None:
        raise UsageError(f"{text} names an environment", hint=f"name the whole owner: {owner}")
    return owner


def parse_owner_or_all(arguments: argparse.Namespace) -> Owner | None:
    """Return the owner, None for all; UsageError for neither or both."""
    if arguments.all != (arguments.owner is None):
        raise UsageError("name one owner, or --all", hint="SITE or org:ORG, or --all for every owner")
    return None if arguments.owner is None else parse_whole_owner(arguments.owner)


def choose_owners(store: Store, owner: Owner | None, *, with_org: bool) -> Sequence[Owner]:
    """Return the owners to move from that store, all for None; UnknownSiteError, UnknownSecretError."""
    if owner is None:
        return tuple(store.owners())
    if not owner.is_site and owner not in store.owners():
        raise UnknownSecretError(f"{store.url} holds nothing of {owner}")
    return add_organizations(store, (owner,)) if with_org else (owner,)


def key_loader(settings: Settings, option: str, path: str | None) -> Callable[[], Sequence[MasterKey]]:
    """Return what loads the keys in the file that the option names, and no others; without one, the settings' keys."""
    if path is None:
        return settings.load_keys
    if path.startswith("ic-secrets-"):
        raise MasterKeyError(f"--{option} holds a key, not the path of its file", hint="make a file of it, mode 0600")

    def load() -> Sequence[MasterKey]:
        from ..keys import KeySource

        return settings.keyholder.load([KeySource(f"--{option}", "file", path)])

    return load


def describe_counts(counts: Mapping[tuple[Action, bool], int]) -> str:
    """Return how many sites and values are made, changed, same and refused, in one line; see `count_kinds`."""

    def describe(action: Action) -> str:
        kinds = (("site", counts.get((action, True), 0)), ("value", counts.get((action, False), 0)))
        nouns = [f"{count:,} {noun}{'' if count == 1 else 's'}" for noun, count in kinds if count]
        return f"{' and '.join(nouns)} {action.value}" if nouns else ""

    return ", ".join(filter(None, map(describe, Action))) or "nothing to do"


def print_made_owners(owners: Sequence[Owner]) -> None:
    """Name the owners that were not known before: a typing mistake makes one, too."""
    for what, is_site in (("site", True), ("organization", False)):
        names = [owner.name for owner in owners if owner.is_site is is_site]
        if len(names) == 1:
            print_message("", f"made the {what} {names[0]}, which was not known before")
        elif names:
            print_message("", f"made the {what}s {list_some(names)}, which were not known before")


def describe_change(change: Change) -> dict[str, object]:
    """Return the change as the JSON of a report has it."""
    return {
        "action": change.action.value,
        "owner": str(change.owner),
        "environment": change.environment,
        "name": change.name,
        "reason": change.reason or None,
        "note": change.note or None,
    }
