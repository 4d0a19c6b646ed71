"""`ic-secrets list`: what an owner holds and inherits, or what nobody has changed for long."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..assembly import Context
from ..core import parse_duration
from ..core.console import print_table
from ..core.moments import format_date, format_time
from ..errors import UsageError
from ..model.resolve import Definition, Verdict, trace
from ..model.secret import Override, Owner, Scope, Secret, format_scopes, parse_owner
from ..stores import Store
from . import Call
from .call import read_call
from .output import REDACTED_VALUE, print_json, print_message
from .parser import Parser, add_json, add_store_options

# This many owners are read in one snapshot, for which a writer may have to wait.
_BATCH = 100

if TYPE_CHECKING:
    from ..audit import Record


def run_list(call: Call) -> int:
    """Print a row for each base and override; values only with scope `user` and --show-values."""
    arguments, context = read_call(call, make_parser())
    now = time.time()
    if arguments.stale:
        return _list_stale(arguments, context, now, max(0.0, now - parse_duration(arguments.stale)))
    if arguments.owner is None:
        raise UsageError("no owner named", hint="ic-secrets list OWNER[.ENV]; only --stale looks at all owners")
    owner, environment = parse_owner(arguments.owner)
    with context.open_store(read_only=True) as store, _observed(store, arguments, context) as record:
        definitions = _find(store, owner, environment, values=arguments.show_values)
        if record:
            record.names = tuple(dict.fromkeys(each.name for each in definitions if _is_shown(each)))
    if arguments.json:
        rows = [_describe(d, owner, show=arguments.show_values) for d in definitions]
        print_json("list", {"owner": str(owner), "environment": environment, "secrets": rows})
    elif definitions:
        _print_definitions(definitions, now, show=arguments.show_values)
    else:
        print_message("", f"{arguments.owner} holds nothing")
    return 0


def make_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser(
        "list",
        "What the owner holds, with its overrides; for a site also what it inherits from its organization. With\n"
        "--stale, what of that nobody has changed for so long, oldest first; without an owner, of all owners.",
        "ic-secrets list my-site.dev\n  ic-secrets list --stale 90d",
    )
    parser.add_argument("owner", metavar="OWNER[.ENV]", nargs="?", help="SITE, org:ORG, or one of their environments")
    parser.add_argument("--show-values", action="store_true", help="show the values that people may read (scope user)")
    parser.add_argument("--stale", metavar="DURATION", help="only what has not been changed for so long: 90d")
    add_store_options(parser)
    add_json(parser)
    return parser


def _observed(store: Store, arguments: argparse.Namespace, context: Context) -> AbstractContextManager[Record | None]:
    """Log the block if it shows values; a list of names reveals nothing."""
    if not arguments.show_values:
        return nullcontext()
    return context.observed(store, command="list", owner=arguments.owner)


def _find(store: Store, owner: Owner, environment: str | None, *, values: bool = False) -> list[Definition]:
    """Return what the owner holds and inherits, by name; for an environment only what can matter there."""
    chain = store.read_chain(owner, environment=environment, scope=Scope.USER, values=values)
    return list(_choose(trace(environment, Scope.USER, chain), environment))


def _choose(traced: dict[str, tuple[Definition, ...]], environment: str | None) -> Iterator[Definition]:
    """Yield all overrides without an environment, else only its own; the strongest definition first."""
    for definitions in traced.values():
        for definition in reversed(definitions):
            if environment is None or definition.environment in {None, environment}:
                yield definition


def _print_definitions(definitions: Sequence[Definition], now: float, *, show: bool) -> None:
    columns = ["NAME", "TYPE", "SCOPES", "FROM", "VALUE", "CHANGED"]
    rows = [[*_row(d), _shown(d, show=show), format_date(d.changed)] for d in definitions]
    print_table(*_with_hosts(*_with_expiry(columns, rows, definitions, now), definitions))


def _with_expiry(
    columns: list[str], rows: list[list[str]], definitions: Sequence[Definition], now: float
) -> tuple[list[str], list[list[str]]]:
    """Return the table with a column of expiry dates, if anything expires."""
    if all(definition.expires is None for definition in definitions):
        return columns, rows
    shown = [_show_expiry(definition.expires, now) for definition in definitions]
    return [*columns, "EXPIRES"], [[*row, cell] for row, cell in zip(rows, shown, strict=True)]


def _with_hosts(
    columns: list[str], rows: list[list[str]], definitions: Sequence[Definition]
) -> tuple[list[str], list[list[str]]]:
    """Return the table with a column of hosts, if anything is bound to some."""
    if not any(definition.hosts for definition in definitions):
        return columns, rows
    return [*columns, "HOSTS"], [[*row, ", ".join(d.hosts) or "-"] for row, d in zip(rows, definitions, strict=True)]


def _show_expiry(expires: int | None, now: float) -> str:
    if expires is None:
        return "-"
    return format_date(expires) + (" (expired)" if expires < now else "")


def _shown(definition: Definition, *, show: bool) -> str:
    if show and definition.value is not None and _is_shown(definition):
        return definition.value.reveal()
    return REDACTED_VALUE


def _is_shown(definition: Definition) -> bool:
    return Scope.USER in definition.scopes and definition.value is not None


def _describe(definition: Definition, owner: Owner, *, show: bool = False) -> dict[str, object]:
    return {
        "name": definition.name,
        "type": definition.type.value,
        "scopes": format_scopes(definition.scopes).split(","),
        "hosts": list(definition.hosts),
        "owner": str(definition.owner),
        "environment": definition.environment,
        "inherited": definition.owner != owner,
        "inert": definition.verdict is Verdict.INERT,
        "value": _shown(definition, show=show),
        "version": definition.version,
        "created": format_time(definition.created),
        "changed": format_time(definition.changed),
        "expires": None if definition.expires is None else format_time(definition.expires),
    }


def _row(definition: Definition) -> list[str]:
    source = definition.source + (" (inert)" if definition.verdict is Verdict.INERT else "")
    return [definition.name, definition.type.value, format_scopes(definition.scopes), source]


# --- what nobody changed for long -------------------------------------------------------------------


def _list_stale(arguments: argparse.Namespace, context: Context, now: float, before: float) -> int:
    """Print what was last changed before that time, oldest first. No value is opened."""
    if arguments.show_values:
        raise UsageError("--stale does not show values", hint="leave --show-values out")
    owner, environment = parse_owner(arguments.owner) if arguments.owner else (None, None)
    with context.open_store(read_only=True) as store:
        found = _find(store, owner, environment) if owner else _find_everywhere(store, before)
        stale = sorted((d for d in found if d.changed < before), key=lambda d: (d.changed, d.owner, d.name, d.source))
    if arguments.json:
        content: dict[str, Any] = {"owner": str(owner) if owner else None, "environment": environment}
        content["unchanged_since"] = format_time(int(before))
        print_json("list", content | {"secrets": [_describe(d, owner or d.owner) for d in stale]})
    elif stale:
        rows = [[*_row(d), format_date(d.changed), f"{int((now - d.changed) // 86_400):,} days"] for d in stale]
        print_table(*_with_expiry(["NAME", "TYPE", "SCOPES", "FROM", "CHANGED", "AGE"], rows, stale, now))
    else:
        print_message("", f"nothing was last changed before {format_time(int(before))}")
    return 0


def _find_everywhere(store: Store, before: float) -> Iterator[Definition]:
    """Yield what was last changed before that time, of all owners, where it is held and not where it is inherited."""
    owners = store.owners()
    while batch := list(islice(owners, _BATCH)):
        with store.snapshot():
            found = [_find_own(store, owner, before) for owner in batch]
        for definitions in found:
            yield from definitions


def _find_own(store: Store, owner: Owner, before: float) -> list[Definition]:
    held = store.read(owner, values=False)
    items: tuple[Secret | Override, ...] = (*held.secrets, *held.overrides)
    if all(item.changed >= before for item in items):
        return []
    own = {secret.id for secret in held.secrets}
    is_whole = all(override.base in own for override in held.overrides)
    chain = (held,) if is_whole else store.read_chain(owner)  # a base may be the organization's
    traced = trace(None, Scope.USER, chain)
    return [d for definitions in traced.values() for d in definitions if d.owner == owner and d.changed < before]
