"""A survey as one HTML page: no network, no script needed to read it, no value in it. Pure.

The filters are CSS (`:has()`); `page.js` adds a search, which the page does without where scripts are off. Whatever
comes from a store goes through `_text`: another store than ours may hold any characters.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from html import escape
from importlib import resources
from typing import NamedTuple

from ...model.environments import NEVER_BUILT, Cell, Row, Source
from ...model.resolve import Verdict
from ...model.secret import SecretType, format_scopes
from ..survey import Finding, Flag, Line, Survey, Terms, count_flags

# What a page of ours begins with: only such a file is replaced by a newer one.
START = '<!DOCTYPE html>\n<html lang="en" data-ic-secrets="report/1">'
_DAY = 86_400

_SOURCES = {
    Source.ORGANIZATION: "<td class=o>org",
    Source.ORGANIZATION_OVERRIDE: "<td class=o><b>org override</b>",
    Source.SITE: "<td class=s>site",
    Source.SITE_OVERRIDE: "<td class=s><b>site override</b>",
}
_REASONS = {Verdict.OUT_OF_SCOPE: "<td class=n>out of scope", Verdict.INERT: "<td class=n>inert"}
_LABELS = {
    Flag.EXPIRED: "expired",
    Flag.SOON: "expires soon",
    Flag.STALE: "stale",
    Flag.UNUSED: "no build uses it",
    Flag.SHADOWED: "shadowed",
    Flag.INERT: "inert",
}


class Totals(NamedTuple):
    """What the page says of all its owners together: how many there are, and names by flag, by type, and in all."""

    sites: int
    organizations: int
    secrets: int
    overrides: int
    flags: Counter[Flag]
    types: Counter[SecretType]

    @classmethod
    def none(cls) -> Totals:
        """Those of no owner, to add to."""
        return cls(0, 0, 0, 0, Counter(), Counter())

    def plus(self, survey: Survey) -> Totals:
        """These and one owner more."""
        return Totals(
            self.sites + survey.owner.is_site,
            self.organizations + (not survey.owner.is_site),
            self.secrets + survey.secrets,
            self.overrides + survey.overrides,
            self.flags + count_flags(survey.lines),
            self.types + Counter(line.row.type for line in survey.lines),
        )


def render_start(totals: Totals, terms: Terms, store: str) -> str:
    """The page up to its first owner. `store` says which store it is about, in a few words."""
    style, script = _load("page.css"), _load("page.js")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    made = time.strftime("%Y-%m-%d %H:%M", time.gmtime(terms.now))
    about = f"Made {made} UTC" + (f" · {_text(store)}" if store else "") + " · no values"
    counts = [
        (totals.sites, "site", "sites"),
        (totals.organizations, "organization", "organizations"),
        (totals.secrets, "secret", "secrets"),
        (totals.overrides, "override", "overrides"),
    ]
    shown = "".join(f"<div><dt>{one if n == 1 else many}<dd>{n:,}</div>" for n, one, many in counts)
    return f"""{START}
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<meta name="robots" content="noindex">
<title>Secrets: where each value comes from</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#owners">Skip to the secrets</a>
<header>
<h1>Secrets, and where each value comes from</h1>
<p>{about}</p>
<dl>{shown}</dl>
</header>
<main>
{_render_filters(totals, terms)}
{_LEGEND}
<div id="owners" tabindex="-1">
"""


def render_heading(text: str) -> str:
    """What stands above the organizations, and above the sites."""
    return f"<h2 class=part>{_text(text)}</h2>\n"


def render_end() -> str:
    """What follows the last owner."""
    return f"</div>\n</main>\n<script>{_load('page.js')}</script>\n</body>\n</html>\n"


def render_owner(survey: Survey, number: int, terms: Terms, *, is_open: bool) -> str:
    """The section of one owner, the `number`th of the page."""
    name, identity = _text(str(survey.owner)), f"o{number}"
    flags = count_flags(survey.lines)
    tokens = {token for line in survey.lines for token in _list_tokens(line)}
    notes = "".join(f"<span class={flag.value}>{flags[flag]:,} {_LABELS[flag]}</span>" for flag in Flag if flags[flag])
    start = (
        f'<details class=owner data-f="{" ".join(sorted(tokens))}"{" open" if is_open else ""}>'
        f"<summary><h3 id={identity}>{name}</h3> <span class=about>{_describe_owner(survey)}</span>"
        f"<span class=tags>{notes}</span></summary>\n"
    )
    if not survey.lines:
        return f"{start}<p class=empty>Holds nothing.</p></details>\n"
    return f"{start}{_render_table(survey, identity, terms)}</details>\n"


def _describe_owner(survey: Survey) -> str:
    names = f"{len(survey.lines):,} name{'' if len(survey.lines) == 1 else 's'}"
    if survey.site is None:
        return f"organization of {survey.sites:,} site{'' if survey.sites == 1 else 's'} · {names}"
    organization = f"of {_text(survey.site.organization)}" if survey.site.organization else "of no organization"
    also = f", supported by {_text(', '.join(survey.site.supporting))}" if survey.site.supporting else ""
    return f"{organization}{also} · {names}"


def _render_table(survey: Survey, identity: str, terms: Terms) -> str:
    environments = "".join(
        f"<th scope=col{' class=unbuilt' if each in NEVER_BUILT else ''}>{_text(each)}"
        for each in survey.matrix.environments
    )
    sites = "" if survey.sites is None else "<th scope=col class=num>Used by"
    rows = "".join(_render_line(line, survey, terms) for line in survey.lines)
    caption = f"Secrets of {_text(str(survey.owner))}, and where each environment's value comes from"
    return (
        f"<div class=scroll tabindex=0 role=region aria-labelledby={identity}><table><caption>{caption}</caption>\n"
        f"<thead><tr><th scope=col>Name<th scope=col>Type{environments}{sites}<th scope=col>Set"
        f"<tbody>\n{rows}</table></div>"
    )


def _render_line(line: Line, survey: Survey, terms: Terms) -> str:
    row = line.row
    cells = "".join(map(_render_cell, row.cells))
    sites = ""
    if survey.sites is not None:
        counted = row.is_resolved and row.type is not SecretType.RUNTIME
        sites = f"<td class=num>{line.sites:,} of {survey.sites:,}" if counted else "<td class=num>"
    shown = row.shown
    expires = ""
    if shown.expires is not None:
        word = "<small class=past>expired" if shown.expires < terms.now else "<small>until"
        expires = f"<br>{word} {_day(shown.expires)}</small>"
    found = "".join(_render_finding(finding, survey) for finding in line.findings)
    findings = f"<ul>{found}</ul>" if found else ""
    return (
        f'<tr data-f="{" ".join(sorted(_list_tokens(line)))}"><th scope=row>{_render_name(row)}{findings}'
        f"<td class=t>{row.type.value} <small>{format_scopes(row.scopes)}</small>{cells}{sites}"
        f"<td class=d>{_day(shown.changed)}{expires}\n"
    )


def _render_name(row: Row) -> str:
    """The name; a credential's is broken between method and host before it is anywhere else."""
    method, dot, host = row.name.partition(".")
    if row.type is not SecretType.COMPOSER:
        return _text(row.name)
    return f"<span>{_text(method + dot)}</span><wbr><span>{_text(host)}</span>"


def _render_cell(cell: Cell) -> str:
    if cell.source:
        return _SOURCES[cell.source]
    return _REASONS.get(cell.reason or Verdict.INERT, "<td class=n>nothing")


def _render_finding(finding: Finding, survey: Survey) -> str:
    """The finding, and of which definition it speaks where that is not the owner's plain value."""
    is_clear = finding.source == str(survey.owner) or finding.flag is Flag.SHADOWED
    where = "" if is_clear else f" <small>{_text(finding.source)}</small>"
    return f"<li class=is-{finding.flag.value}>{_text(finding.text)}{where}"


def _list_tokens(line: Line) -> Iterator[str]:
    """What the filters of `page.css` look for: each flag, the type, and each flag with the type."""
    yield line.row.type.value
    for flag in line.flags:
        yield flag.value
        yield f"{flag.value}-{line.row.type.value}"


# --- filters and legend -----------------------------------------------------------------------------


def _render_filters(totals: Totals, terms: Terms) -> str:
    hints = {
        Flag.SOON: f"within {_days(terms.soon)}",
        Flag.STALE: f"unchanged for {_days(terms.stale)}",
    }
    boxes = "".join(
        _render_chip(
            f"type=checkbox id=f-{flag.value}{'' if totals.flags[flag] else ' disabled'}",
            f"{_LABELS[flag]} <i>{hints.get(flag, '')}</i><b class={flag.value}>{totals.flags[flag]:,}</b>",
        )
        for flag in Flag
    )
    types = _render_chip("type=radio name=t id=t-any checked", f"any <b>{totals.types.total():,}</b>")
    for kind in (SecretType.COMPOSER, SecretType.ENV, SecretType.RUNTIME):
        types += _render_chip(f"type=radio name=t id=t-{kind.value}", f"{kind.value} <b>{totals.types[kind]:,}</b>")
    return f"""<form id="filters" aria-label="Filters" autocomplete="off">
<fieldset><legend>Only what is</legend><div>{boxes}</div></fieldset>
<fieldset><legend>Of the type</legend><div>{types}</div></fieldset>
<p class="more">
<label class="js">Search <input type="search" id="q" placeholder="site or name" spellcheck="false"></label>
<button type="reset">Show all</button>
<button type="button" class="js" id="open">Open every site</button>
<button type="button" class="js" id="close">Close every site</button>
<output class="js" id="shown"></output></p>
</form>"""


def _render_chip(control: str, label: str) -> str:
    return f"<label class=chip><input {control}><span>{label}</span></label>"


_LEGEND = """<details class="legend"><summary><h2>What the words mean</h2></summary>
<dl>
<dt><span class=o>org</span><dd>The value of the site's primary organization.
<dt><span class=o><b>org override</b></span><dd>The organization's other value for that environment.
<dt><span class=s>site</span><dd>The site's own value, which beats its organization's.
<dt><span class=s><b>site override</b></span><dd>The site's other value for that environment.
<dt><span class=n>out of scope</span><dd>There is a value, but not of the scope ic: no build may read it.
<dt><span class=inert>inert</span><dd>An override whose secret was deleted. A new one of that name does not revive it.
<dt><span class=shadowed>shadowed</span><dd>The site has a value of its own; the organization's never reaches it.
<dt><span class=unused>no build uses it</span><dd>Its type or scope keeps it from builds, or another value always wins.
<dt><span class=stale>stale</span><dd>Nobody has changed it for as long as the filter above says.
</dl>
<p>Builds are made for dev and multidevs; test and live get what was built. An environment that has no column gets the
values without override. What is found of an organization's secret stands with the organization alone.</p>
</details>"""


# --- text -------------------------------------------------------------------------------------------


def _text(text: str) -> str:
    """The text as HTML that shows it and does nothing: no tag, no control character, no turn of direction."""
    shown = "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)
    return escape(shown.encode(errors="backslashreplace").decode())


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _days(seconds: float) -> str:
    days = int(seconds // _DAY)
    return f"{days:,} day{'' if days == 1 else 's'}"


@cache
def _load(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8").replace("@FLAGS@", _render_rules())


def _render_rules() -> str:
    """The rules by which a chosen flag shows its rows, and its owners: with a chosen type, those that have both."""
    rules = []
    for flag in (each.value for each in Flag):
        on = f"body:has(#f-{flag}:checked)"
        rules.append(f"{on} tr[data-f~={flag}] {{ display: table-row; }}")
        owners = [f"{on}:has(#t-any:checked) .owner[data-f~={flag}]"]
        owners += [f"{on}:has(#t-{kind.value}:checked) .owner[data-f~={flag}-{kind.value}]" for kind in SecretType]
        rules.append(f"{', '.join(owners)} {{ display: block; }}")
    return "\n".join(rules)


def _hash(content: str) -> str:
    """What allows that inline content, and no other, in a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
