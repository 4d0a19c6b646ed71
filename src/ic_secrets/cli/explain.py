"""`ic-secrets explain`: every definition of a name, which one won, and why. No value is opened."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

from ..assembly import is_brokered
from ..composer.credential import AUTH_VARIABLE
from ..core.console import find_width, print_table, printable
from ..core.moments import format_date, format_time
from ..errors import UnknownSecretError
from ..model.environments import Cell, EnvironmentTable, Source, make_table
from ..model.names import NEVER_BUILT, split_composer_name
from ..model.resolve import Definition, Holdings, Verdict, trace
from ..model.secret import Owner, Scope, SecretType, Target, format_scopes
from ..stores.base import Store, read_visible_chain
from . import Call
from .call import read_call
from .output import print_json, print_message
from .parser import Parser, add_broker, add_isolate, add_json, add_store_options

_MARKS = {
    Source.ORGANIZATION: "org",
    Source.ORGANIZATION_OVERRIDE: "org*",
    Source.SITE: "site",
    Source.SITE_OVERRIDE: "site*",
}
_STYLES = {"org": "cyan", "org*": "bold cyan", "site": "green", "site*": "bold green"}
_FAULTS = {Verdict.INERT, Verdict.OUT_OF_SCOPE}
_READERS = {Scope.IC: "a build", Scope.WEB: "the application", Scope.USER: "people"}


def run_explain(call: Call) -> int:
    """Print the chain of one name, or where each environment's value of every name comes from."""
    arguments, context = read_call(call, make_parser())
    target, scope = Target.parse(arguments.target), Scope(arguments.scope)
    broker = is_brokered(context.settings, scope)
    with context.open_store(read_only=True) as store:
        chain, is_whole = read_visible_chain(store, Owner.site(target.site), target.environment, scope)
        traced = trace(target.environment, scope, chain)
        if arguments.name is not None and arguments.name not in traced:
            raise _unknown(store, target, arguments.name, tuple(traced))
    if not is_whole:
        print_message("warning", f"the store shows us only what {_READERS[scope]} of {target} gets")
    if arguments.name is None:
        _explain_all(arguments, target, make_table(chain, scope, [target.environment]), broker)
        return 0
    cell = Cell(target.environment, _order(traced[arguments.name]))
    if arguments.json:
        print_json("explain", _describe_name(target, scope, cell, broker))
    else:
        _print_tree(target, scope, cell, chain, _format_destination(target, scope, cell, broker))
    return 0


def make_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser(
        "explain",
        "Show every definition of a name, weakest first: the organization's value, its override, the site's, its\n"
        "override; which of them were left out and why, and which one won. Without a name, a table of all names and\n"
        "where each environment's value comes from. No value is opened.",
        "ic-secrets explain my-site.dev ACF_PRO_KEY\n  ic-secrets explain my-site",
    )
    parser.add_argument("target", metavar="SITE[.ENV]", help="the site; the environment is dev unless it is named")
    parser.add_argument("name", metavar="NAME", nargs="?", help="the secret; all of them without it")
    parser.add_argument(
        "--scope", default="ic", choices=[scope.value for scope in Scope], help="for whom: builds (ic) by default"
    )
    add_broker(parser, "say what a build with the broker gets")
    add_isolate(parser, "say what an isolated build gets, which has the broker")
    add_store_options(parser)
    add_json(parser)
    return parser


def _order(definitions: tuple[Definition, ...]) -> tuple[Definition, ...]:
    """Sort them weakest first, and one owner's overrides by environment."""
    return tuple(sorted(definitions, key=lambda d: (d.owner.is_site, d.environment or "")))


def _unknown(store: Store, target: Target, name: str, known: Sequence[str]) -> UnknownSecretError:
    """Return the error for an undefined name; it hints at a supporting organization that has it, or a similar name."""
    from difflib import get_close_matches

    site = store.site(target.site)
    holders = f"neither {target.site} nor org:{site.organization}" if site.organization else f"{target.site} does not"
    message = f"{holders} {'has' if site.organization else 'have'} a secret {name}"
    for each in site.supporting:
        if any(secret.name == name for secret in store.read(Owner.organization(each), values=False).secrets):
            return UnknownSecretError(
                message, hint=f"org:{each} has, but it only supports the site, which gets nothing from it"
            )
    by_case = {each.lower(): each for each in known}
    close = get_close_matches(name.lower(), by_case, n=1, cutoff=0.5)
    if close:
        return UnknownSecretError(message, hint=f"did you mean {by_case[close[0]]}?")
    return UnknownSecretError(message, hint=f"`ic-secrets explain {target.site}` shows all that there is")


# --- one name ---------------------------------------------------------------------------------------


def _describe_name(target: Target, scope: Scope, cell: Cell, broker: bool) -> dict[str, Any]:
    winner = cell.winner
    return {
        "site": target.site,
        "environment": target.environment,
        "scope": scope.value,
        "name": cell.definitions[0].name,
        "winner": winner.source if winner else None,
        "destination": _describe_destination(winner, scope, broker) if winner else None,
        "definitions": [
            {
                "source": each.source,
                "owner": str(each.owner),
                "environment": each.environment,
                "type": each.type.value,
                "scopes": format_scopes(each.scopes).split(","),
                "hosts": list(each.hosts),
                "version": each.version,
                "created": format_time(each.created),
                "changed": format_time(each.changed),
                "expires": None if each.expires is None else format_time(each.expires),
                "verdict": each.verdict.value,
            }
            for each in cell.definitions
        ],
    }


def _describe_destination(winner: Definition, scope: Scope, broker: bool) -> dict[str, Any] | None:
    """Return where the value goes, as in a receipt; None where it goes nowhere."""
    place = "broker" if broker else "auth_json"
    if scope is Scope.IC and winner.type is SecretType.COMPOSER:
        method, host = split_composer_name(winner.name)
        return {place: True, "method": method, "host": host}
    if scope is Scope.IC and winner.type is SecretType.ENV and winner.name == AUTH_VARIABLE:
        return {place: True}
    if broker and winner.type is SecretType.ENV and winner.hosts:
        return {"broker": True, "variable": winner.name, "hosts": list(winner.hosts)}
    if scope is Scope.IC and winner.type is SecretType.ENV:
        return {"variable": winner.name}
    if scope is Scope.WEB and winner.type is SecretType.RUNTIME:
        return {"application": True}
    return {"command": "get"} if scope is Scope.USER else None


def _format_destination(target: Target, scope: Scope, cell: Cell, broker: bool) -> str:
    winner = cell.winner
    if winner is None:
        return f"{_READERS[scope]} of {target} gets nothing under this name"
    kind = winner.type.value
    match _describe_destination(winner, scope, broker):
        case {"method": method, "host": host}:
            where = f"to {'the broker' if broker else 'auth.json'}, {method} of {host}"
        case {"broker": _, "variable": name, "hosts": hosts}:
            where = f"to the broker, which sends it to {' and '.join(hosts)}; the build's {name} has a placeholder"
        case {"broker": _} | {"auth_json": _}:
            place = "the broker" if broker else "auth.json and to git"
            where = f"to {place}, as the credentials in it, rather than to a variable"
        case {"variable": name}:
            where = f"to the build's variable {name}"
        case {"application": True}:
            where = "to the application"
        case {"command": _}:
            where = f"to whoever may `ic-secrets get {target} {winner.name}`"
        case _:
            where = f"nowhere: {_READERS[scope]} never gets the type {kind}"
    note = f" ({target.environment} is never built)" if _is_unbuilt(target, scope) else ""
    return f"{winner.source} goes {where}{note}"


def _is_unbuilt(target: Target, scope: Scope) -> bool:
    return scope is Scope.IC and target.environment in NEVER_BUILT


def _format_verdict(definition: Definition, target: Target, scope: Scope, cell: Cell) -> str:
    match definition.verdict:
        case Verdict.OVERRIDDEN:
            return f"replaced by {definition.owner}.{target.environment}"
        case Verdict.SHADOWED:
            return (
                f"loses to {cell.winner.source if cell.winner else target.site}: a site's value beats an organization's"
            )
        case Verdict.OUT_OF_SCOPE:
            return f"left out: it lacks the scope {scope.value}"
        case Verdict.OTHER_ENVIRONMENT:
            return "for another environment"
        case Verdict.INERT:
            return "inert: the secret it overrode is gone"
    return "won"


def _format_facts(definition: Definition, now: float) -> str:
    facts = [
        definition.type.value,
        format_scopes(definition.scopes),
        f"version {definition.version}",
        f"set {format_date(definition.changed)}",
    ]
    if format_date(definition.created) != format_date(definition.changed):
        facts.append(f"created {format_date(definition.created)}")
    if definition.expires is not None:
        facts.append(f"{'expired' if definition.expires < now else 'expires'} {format_date(definition.expires)}")
    if definition.hosts:
        facts.append(f"bound to {' and '.join(definition.hosts)}")
    return ", ".join(facts)


def _print_tree(target: Target, scope: Scope, cell: Cell, chain: Sequence[Holdings], end: str) -> None:
    """Print a tree on a terminal; elsewhere the same lines, indented. `end` is the last of them."""
    now = time.time()
    title = f"{cell.definitions[0].name} for {_READERS[scope]} of {target} (scope {scope.value})"
    branches = []
    for holdings in reversed(chain):
        own = [definition for definition in cell.definitions if definition.owner == holdings.owner]
        leaves = [
            (f"{_label(each)}: {_format_verdict(each, target, scope, cell)}", _format_facts(each, now), each.verdict)
            for each in own
        ]
        branches.append((str(holdings.owner) if own else f"{holdings.owner}: nothing", leaves))
    if sys.stdout.isatty():
        _draw_tree(title, branches, end)
        return
    print(printable(title))
    for owner, leaves in branches:
        print(printable(owner))
        for verdict, facts, _ in leaves:
            print(f"  {printable(verdict)}\n    {printable(facts)}")
    print(printable(end))


def _draw_tree(title: str, branches: Sequence[tuple[str, Sequence[tuple[str, str, Verdict]]]], end: str) -> None:
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(printable(title), "bold"), guide_style="dim")
    for owner, leaves in branches:
        branch = tree.add(Text(printable(owner), "" if leaves else "dim"))
        for verdict, facts, kind in leaves:
            line = Text(
                printable(verdict), "bold green" if kind is Verdict.WON else "yellow" if kind in _FAULTS else ""
            )
            branch.add(line.append(f"\n{printable(facts)}", "not bold default dim"))
    console = Console(highlight=False, emoji=False)
    console.print(tree)
    console.print(Text(printable(end)))


def _label(definition: Definition) -> str:
    return f"override for {definition.environment}" if definition.environment else "value"


# --- all names --------------------------------------------------------------------------------------


def _explain_all(arguments: argparse.Namespace, target: Target, table: EnvironmentTable, broker: bool) -> None:
    if arguments.json:
        environment = target.environment if "." in arguments.target else None
        print_json("matrix", {"site": target.site, "environment": environment, **_describe_table(table, broker)})
    elif table.rows:
        _print_environments(table, target.site)
    else:
        print_message("", f"{target.site} holds and inherits nothing")


def _describe_table(table: EnvironmentTable, broker: bool) -> dict[str, Any]:
    return {
        "scope": table.scope.value,
        "environments": list(table.environments),
        "names": [
            {
                "name": row.name,
                "type": row.type.value,
                "scopes": format_scopes(row.scopes).split(","),
                "destination": _describe_destination(row.shown, table.scope, broker) if row.is_resolved else None,
                "cells": [{"environment": cell.environment, **describe_cell(cell)} for cell in row.cells],
            }
            for row in table.rows
        ],
    }


def describe_cell(cell: Cell) -> dict[str, str | None]:
    """Return what wins in the cell, where it comes from, and else why nothing does, as documents have it."""
    winner, source, reason = cell.winner, cell.source, cell.reason
    return {
        "winner": winner.source if winner else None,
        "source": source.value if source else None,
        "reason": reason.value if reason else None,
    }


def _mark(cell: Cell) -> str:
    """Return the cell in a word; without a value, why."""
    if cell.source:
        return _MARKS[cell.source]
    return "(inert)" if cell.reason is Verdict.INERT else "(scope)"


def _print_environments(table: EnvironmentTable, site: str) -> None:
    """Print as many tables as a terminal's width needs, elsewhere one; then what the words mean."""
    names = [[row.name, row.type.value] for row in table.rows]
    marks = [[_mark(cell) for cell in row.cells] for row in table.rows]
    for first, last in _split(table.environments, max(len(name) for name, _ in names)):
        columns = ["NAME", "TYPE", *table.environments[first:last]]
        print_table(columns, [[*a, *b[first:last]] for a, b in zip(names, marks, strict=True)], _STYLES)
    shown = {mark for row in marks for mark in row}
    legend = {
        "org": "the organization's value",
        "site": "the site's own",
        "*": "an override for that environment",
        "(scope)": f"there is a value, but it lacks the scope {table.scope.value}",
        "(inert)": "an override whose secret is gone",
    }
    lines = [f"{mark}: {text}" for mark, text in legend.items() if any(mark in each for each in shown)]
    _print_folded("; ".join(lines))
    if table.scope is Scope.IC and any(row.type is SecretType.RUNTIME and row.is_resolved for row in table.rows):
        _print_folded("type runtime: for the application; no build gets it")
    _print_folded(f"`ic-secrets explain {site}.ENV NAME` shows the whole chain of one")


def _split(environments: Sequence[str], name: int) -> list[tuple[int, int]]:
    """Choose the columns of each table. Names may take half of the terminal, and are folded where they need more."""
    if not sys.stdout.isatty():
        return [(0, len(environments))]
    left = find_width() - min(name + 2, find_width() // 2) - len("composer") - 4
    parts, first, used = [], 0, 0
    for position, environment in enumerate(environments):
        width = max(len(environment), len("(inert)")) + 2
        if used + width > left and position > first:
            parts.append((first, position))
            first, used = position, 0
        used += width
    return [*parts, (first, len(environments))]


def _print_folded(text: str) -> None:
    """Print the text on stderr, in lines of whole words that fit the terminal."""
    import textwrap

    width = find_width() if sys.stderr.isatty() else 10_000
    for line in textwrap.wrap(text, width):
        print_message("", line)
