"""`ic-secrets list`: what an owner holds and inherits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..resolve import Definition, Verdict, trace
from ..secret import Scope, format_scopes, parse_owner
from ..stores import read_chain
from .opening import opened_store
from .output import REDACTED_VALUE, format_time, print_json, print_message, print_table
from .parsing import Parser, add_json, add_store_options


def run_list(words: Sequence[str]) -> int:
    """Print a row for each base and override; values only with scope `user` and --show-values."""
    parser = Parser(
        "list",
        "What the owner holds, with its overrides; for a site also what it inherits from its organization.",
        "ic-secrets list my-site.dev",
    )
    parser.add_argument("owner", metavar="OWNER[.ENV]", help="SITE, org:ORG, or one of their environments")
    parser.add_argument("--show-values", action="store_true", help="show the values that people may read (scope user)")
    add_store_options(parser)
    add_json(parser)
    arguments = parser.read(words)
    owner, environment = parse_owner(arguments.owner)
    with opened_store(arguments, read_only=True) as store:
        chain = read_chain(store, owner, environment=environment, scope=Scope.USER, values=bool(arguments.show_values))
    definitions = list(_choose(trace(environment, Scope.USER, chain), environment))
    if arguments.json:
        rows = [_describe(d, str(owner), show=arguments.show_values) for d in definitions]
        print_json("list", {"owner": str(owner), "environment": environment, "secrets": rows})
    elif definitions:
        print_table(
            ["NAME", "TYPE", "SCOPES", "FROM", "VALUE", "CHANGED"],
            [_row(definition, show=arguments.show_values) for definition in definitions],
        )
    else:
        print_message("", f"{arguments.owner} holds nothing")
    return 0


def _choose(traced: dict[str, tuple[Definition, ...]], environment: str | None) -> Iterator[Definition]:
    """All overrides without an environment, else only those for it; the strongest definition first."""
    for definitions in traced.values():
        for definition in reversed(definitions):
            if environment is None or definition.environment in {None, environment}:
                yield definition


def _shown(definition: Definition, *, show: bool) -> str:
    if show and Scope.USER in definition.scopes and definition.value is not None:
        return definition.value.reveal()
    return REDACTED_VALUE


def _describe(definition: Definition, owner: str, *, show: bool) -> dict[str, object]:
    return {
        "name": definition.name,
        "type": definition.type.value,
        "scopes": format_scopes(definition.scopes).split(","),
        "owner": str(definition.owner),
        "environment": definition.environment,
        "inherited": str(definition.owner) != owner,
        "inert": definition.verdict is Verdict.INERT,
        "value": _shown(definition, show=show),
        "version": definition.version,
        "created": format_time(definition.created),
        "changed": format_time(definition.changed),
    }


def _row(definition: Definition, *, show: bool) -> list[str]:
    source = definition.source + (" (inert)" if definition.verdict is Verdict.INERT else "")
    return [
        definition.name,
        definition.type.value,
        format_scopes(definition.scopes),
        source,
        _shown(definition, show=show),
        format_time(definition.changed),
    ]
