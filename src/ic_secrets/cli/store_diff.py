"""`ic-secrets diff`: the differences between two stores, without values."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from shlex import quote
from typing import TYPE_CHECKING

from ..assembly import Context
from ..core.console import print_table, progress
from ..core.moments import format_date, format_time
from ..core.records import NamedTuple
from ..errors import UnknownSecretError
from ..model import Owner
from ..stores import Store, find_scheme
from . import Call
from .call import read_call
from .output import print_json, print_message
from .parser import Parser, add_json
from .transfer import key_loader, parse_whole_owner

if TYPE_CHECKING:
    import argparse

    from ..transfer.drift import Aspect, Difference, Drift

# The exit status where nothing differs, but not everything could be compared.
_UNKNOWN = 2
_STYLES = {"only in A": "red", "only in B": "green"}


class Result(NamedTuple):
    """All differences, how many definitions have which, and what `copy A B` would make, change and refuse."""

    differences: Sequence[Difference]
    counts: Counter[Drift]
    copied: tuple[int, int, int] | None


def run_diff(call: Call) -> int:
    """Compare owner by owner; 0 the same, 1 they differ, 2 where that cannot be said."""
    arguments, context = read_call(call, make_parser())
    chosen = [parse_whole_owner(text) for text in arguments.owners]
    context.load_plugins_for(arguments.a, arguments.b)
    with _opened(arguments, context) as (a, b):
        owners = _choose_owners(a, b, chosen)
        scheme = find_scheme(arguments.b)
        result = _compare(a, b, owners, forecasts=bool(scheme and scheme.create))
        urls = (a.url, b.url)
    if arguments.json:
        _print_object(result, urls, owners)
    else:
        _print_text(result, arguments, len(owners))
    from ..transfer.drift import Drift

    found = {each.drift for each in result.differences}
    return 1 if found - {Drift.UNKNOWN} else _UNKNOWN if found else 0


def make_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser(
        "diff",
        "Show the differences between two stores, without values: what only A or only B has, and where a value, type,\n"
        "scopes, hosts, expiry, an override's base or a site's organizations differ. Versions and times of changes do\n"
        "not count. Nothing is written. Exit status: 0 the same; 1 they differ; 2 trouble, also where nothing differs\n"
        "but a store does not give a value back, so that it could not be compared.",
        "ic-secrets diff store.db bao+https://bao.example.org:8200/ic\n"
        "  ic-secrets diff old.db new.db my-site org:agency",
    )
    parser.add_argument("a", metavar="SRC", help="A, a path or a URL")
    parser.add_argument("b", metavar="DST", help="B, a path or a URL")
    parser.add_argument("owners", metavar="OWNER", nargs="*", help="SITE or org:ORG; else every owner of both")
    parser.add_argument("--from-key-file", metavar="F", help="the file that holds A's key (IC_SECRETS_KEY_FILE)")
    parser.add_argument("--to-key-file", metavar="F", help="the file that holds B's key (IC_SECRETS_KEY_FILE)")
    add_json(parser)
    return parser


@contextlib.contextmanager
def _opened(arguments: argparse.Namespace, context: Context) -> Iterator[tuple[Store, Store]]:
    """Open both stores for reading, with the keys that `copy` would find. The least generation is that of A."""
    settings = context.settings
    from_keys = key_loader(settings, "from-key-file", arguments.from_key_file)
    to_keys = key_loader(settings, "to-key-file", arguments.to_key_file)
    with (
        context.guard(lambda: context.open_url(arguments.a, from_keys, read_only=True), read_only=True) as a,
        context.guard(
            lambda: context.open_url(arguments.b, to_keys, read_only=True), read_only=True, is_configured=False
        ) as b,
    ):
        yield a, b


def _choose_owners(a: Store, b: Store, chosen: Sequence[Owner]) -> Sequence[Owner]:
    """Return those of both stores, organizations first, or the only site of a store.

    UnknownSecretError for an owner that neither knows: it may be mistyped.
    """
    only = a.only_site or b.only_site
    known = {Owner.site(only)} if only else {*a.owners(), *b.owners()}
    for owner in chosen:
        if owner not in known:
            raise UnknownSecretError(f"neither store knows {owner}", hint="without an OWNER all of them are compared")
    return sorted(set(chosen) or known, key=lambda owner: (owner.is_site, owner.name))


def _compare(a: Store, b: Store, owners: Sequence[Owner], *, forecasts: bool) -> Result:
    """Compare owner by owner: only one owner's values are held at a time."""
    from ..transfer.drift import Drift, compare, forecast_copy, read_owner

    know_organizations = a.has_organizations and b.has_organizations
    counts: Counter[Drift] = Counter()
    copied: Counter[str] = Counter()
    differences: list[Difference] = []
    with progress("comparing owners", len(owners)) as advance:
        for done, owner in enumerate(owners, 1):
            found = compare(owner, read_owner(a, owner), read_owner(b, owner), know_organizations=know_organizations)
            counts.update(each.drift for each in found)
            fresh = [each for each in found if each.drift is not Drift.SAME]
            differences += fresh
            if forecasts and fresh:
                copied.update(forecast_copy(a, b, owner)._asdict())
            advance(done, len(owners))
    return Result(differences, counts, (copied["made"], copied["changed"], copied["refused"]) if forecasts else None)


def _print_text(result: Result, arguments: argparse.Namespace, many: int) -> None:
    rows = [[_place(each), each.name or "(the site)", _format(each)] for each in result.differences]
    if rows:
        print_table(["OWNER", "NAME", "DIFFERENCE"], rows, _STYLES)
    from ..transfer.drift import Drift

    counts = ", ".join(f"{result.counts[drift]:,} {drift.value}" for drift in Drift)
    print_message("", f"compared {many:,} {'owner' if many == 1 else 'owners'}: {counts}")
    if result.counts[Drift.UNKNOWN]:
        print_message("warning", "unknown: a store does not give the value, so it could not be compared")
    made, changed, refused = result.copied or (0, 0, 0)
    if made or changed:
        more = f", and could not carry {refused:,}" if refused else ""
        print_message(
            "hint",
            f"`ic-secrets copy {quote(arguments.a)} {quote(arguments.b)}` would make {made:,} and change "
            f"{changed:,}{more}; it deletes nothing",
        )


def _print_object(result: Result, urls: tuple[str, str], owners: Sequence[Owner]) -> None:
    """Print the document that docs/diff.schema.json describes."""
    from ..transfer.drift import Drift

    content = {
        "a": urls[0],
        "b": urls[1],
        "owners": len(owners),
        "same": not result.differences,
        "counts": {drift.name.lower(): result.counts[drift] for drift in Drift},
        "differences": [_describe(each) for each in result.differences],
        "copy": result.copied and dict(zip(("made", "changed", "refused"), result.copied, strict=True)),
    }
    print_json("diff", content)


def _describe(difference: Difference) -> dict[str, object]:
    return {
        "owner": str(difference.owner),
        "environment": difference.environment,
        "name": difference.name,
        "drift": difference.drift.name.lower(),
        "inert": difference.is_inert,
        "aspects": [
            {"aspect": aspect, "known": is_known, "a": _plain(aspect, a), "b": _plain(aspect, b)}
            for aspect, a, b, is_known in difference.aspects
        ],
    }


def _place(difference: Difference) -> str:
    return f"{difference.owner}.{difference.environment}" if difference.environment else str(difference.owner)


def _format(difference: Difference) -> str:
    if not difference.aspects:
        return difference.drift.value + (" (inert)" if difference.is_inert else "")
    return ", ".join(_format_aspect(aspect) for aspect in difference.aspects)


def _format_aspect(aspect: Aspect) -> str:
    if aspect.what == "value":
        return "value" if aspect.is_known else "value unknown"
    one, other = (_show(aspect.what, fact) for fact in (aspect.a, aspect.b))
    if aspect.what == "expires" and one == other:  # within a day
        one, other = (str(_plain(aspect.what, fact)) for fact in (aspect.a, aspect.b))
    return f"{aspect.what}: {one} → {other}"


def _show(what: str, fact: str | int | None) -> str:
    if fact is None:
        return "gone (inert)" if what == "base" else "none"
    return format_date(fact) if isinstance(fact, int) else fact


def _plain(what: str, fact: str | int | None) -> str | list[str] | None:
    if isinstance(fact, int):
        return format_time(fact)
    if what in {"scopes", "hosts", "supporting"}:
        return fact.split(",") if fact else []
    return fact
