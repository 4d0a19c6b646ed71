"""The report as one HTML page: no network, no script needed to read it, no value in it.

The filters are CSS (`:has()`); `page.js` adds a search. Whatever comes from a store is escaped by the templates, and
what is not printable is written out: another store than ours may hold any characters.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from ..model.environments import Cell, Source
from ..model.names import NEVER_BUILT
from ..model.resolve import Verdict
from ..model.secret import SecretType, format_scopes
from .owners import Entry, Flag, Limits, OwnerReport, Totals

if TYPE_CHECKING:
    from jinja2 import Environment

# What a page of ours begins with: only such a file is replaced by a newer one.
START = '<!DOCTYPE html>\n<html lang="en" data-ic-secrets="report/1">'
_DAY = 86_400
_LABELS = {
    Flag.EXPIRED: "expired",
    Flag.SOON: "expires soon",
    Flag.STALE: "stale",
    Flag.UNUSED: "no build uses it",
    Flag.SHADOWED: "shadowed",
    Flag.INERT: "inert",
}
_TYPES = (SecretType.COMPOSER, SecretType.ENV, SecretType.RUNTIME)
# The class of a cell, its word, and whether that is strong.
_CELLS = {
    Source.ORGANIZATION: ("o", "org", False),
    Source.ORGANIZATION_OVERRIDE: ("o", "org override", True),
    Source.SITE: ("s", "site", False),
    Source.SITE_OVERRIDE: ("s", "site override", True),
}
_REASONS = {Verdict.OUT_OF_SCOPE: "out of scope", Verdict.INERT: "inert"}


def render_owner(report: OwnerReport, number: int, limits: Limits, *, is_open: bool) -> str:
    """Render the section of one owner, the `number`th of the page."""
    template = _load_templates().get_template("owner.html")
    return template.render(report=report, number=number, limits=limits, is_open=is_open)


def render_page(
    totals: Totals, limits: Limits, store: str, organizations: Sequence[str], sites: Iterable[str]
) -> Iterator[str]:
    """Render the page around the sections of its owners, part by part. `store` describes the store in a few words."""
    from markupsafe import Markup

    style, script = _read("page.css").replace("@FLAGS@", _render_rules()), _read("page.js")
    return (
        _load_templates()
        .get_template("page.html")
        .generate(
            totals=totals,
            limits=limits,
            store=store,
            organizations=[Markup(section) for section in organizations],  # noqa: S704
            sites=(Markup(section) for section in sites),  # noqa: S704
            style=Markup(style),  # noqa: S704
            script=Markup(script),  # noqa: S704
        )
    )


@cache
def _load_templates() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    templates = Environment(
        autoescape=True,
        loader=FunctionLoader(_read),
        undefined=StrictUndefined,
        finalize=_show,
        keep_trailing_newline=True,
    )
    templates.globals |= {"labels": _LABELS, "types": _TYPES, "never_built": NEVER_BUILT}
    templates.filters |= {
        "number": "{:,}".format,
        "day": lambda seconds: time.strftime("%Y-%m-%d", time.gmtime(seconds)),
        "minute": lambda seconds: time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds)),
        "days": _count_days,
        "hash": _hash,
        "scopes": format_scopes,
        "tokens": _join_tokens,
        "described": _describe_cell,
    }
    return templates


def _show(value: object) -> object:
    """Write out what is not printable in a text: no control character, no turn of direction, no half of a pair."""
    if hasattr(value, "__html__") or str(value).isprintable():
        return value
    shown = "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in str(value))
    return shown.encode(errors="backslashreplace").decode()


def _describe_cell(cell: Cell) -> tuple[str, str, bool]:
    source = cell.source
    return _CELLS[source] if source else ("n", _REASONS.get(cell.reason or Verdict.INERT, "nothing"), False)


def _join_tokens(entries: Iterable[Entry]) -> str:
    """Join what the filters of `page.css` look for: each flag, the type, and each flag with the type."""
    tokens = set()
    for entry in entries:
        kind = entry.row.type.value
        tokens |= {kind, *(flag.value for flag in entry.flags), *(f"{flag.value}-{kind}" for flag in entry.flags)}
    return " ".join(sorted(tokens))


def _count_days(seconds: float) -> str:
    days = int(seconds // _DAY)
    return f"{days:,} day{'' if days == 1 else 's'}"


@cache
def _read(name: str) -> str:
    return resources.files(__package__).joinpath("templates").joinpath(name).read_text("utf-8")


def _render_rules() -> str:
    """Render the rules by which a chosen flag shows its rows, and its owners: with a chosen type, those of both."""
    rules = []
    for flag in (each.value for each in Flag):
        on = f"body:has(#f-{flag}:checked)"
        rules.append(f"{on} tr[data-f~={flag}] {{ display: table-row; }}")
        owners = [f"{on}:has(#t-any:checked) .owner[data-f~={flag}]"]
        owners += [f"{on}:has(#t-{kind.value}:checked) .owner[data-f~={flag}-{kind.value}]" for kind in SecretType]
        rules.append(f"{', '.join(owners)} {{ display: block; }}")
    return "\n".join(rules)


def _hash(content: str) -> str:
    """Return what allows that inline content, and no other, in a Content-Security-Policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
