"""`ic-secrets report`: a page of all sites, where each environment's values come from, and what asks for a look."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.durations import parse_duration
from ..core.files import read_regular, replacing
from ..errors import IcSecretsError, UnknownSecretError, UsageError
from ..model.resolve import Holdings
from ..model.secret import Owner, Site, format_scopes, parse_owner
from ..report.page import START, Totals, render_end, render_heading, render_owner, render_start
from ..report.survey import Line, Survey, Terms, Usage, survey_organization, survey_site
from ..stores.base import Store, identify
from . import Call
from .calls import read_call
from .output import format_time, print_json, print_message
from .parsing import Parser, add_json, add_store_options

if TYPE_CHECKING:
    from typing import BinaryIO

# So many sites are read at one moment: a writer waits no longer than that takes.
_BATCH = 100
# A page of so many sites shows them open.
_FEW = 8
_COPY_BYTES = 1 << 20


class _Selection(NamedTuple):
    """What is reported: sites by name, organizations with all their sites; everything where neither is named."""

    sites: frozenset[str]
    organizations: frozenset[str]

    @property
    def is_everything(self) -> bool:
        return not self.sites and not self.organizations

    def has(self, site: Site) -> bool:
        return self.is_everything or site.name in self.sites or site.organization in self.organizations


def run_report(call: Call) -> int:
    """Write the page, print the same as JSON, or both."""
    arguments, context = read_call(call, make_parser())
    if not arguments.html and not arguments.json:
        raise UsageError("there is nothing to write", hint="--html FILE writes a page, --json prints the same as data")
    terms = Terms(time.time(), parse_duration(arguments.stale), context.settings.get_duration("expiry-warning"))
    selection = _select(arguments.owners)
    path = os.path.realpath(arguments.html) if arguments.html else None
    if path:
        _check_replaceable(path)
    with context.open_store(read_only=True) as store:
        content = _write(store, selection, terms, path, arguments)
    if arguments.json:
        print_json("report", content)
    if path:
        print_message("", f"wrote {arguments.html}")
    return 0


def make_parser() -> Parser:
    """Its arguments."""
    parser = Parser(
        "report",
        "One page that needs no network: each site's names and environments, where every value comes from, and what\n"
        "is expired, stale, shadowed, inert or of no use to a build. No value is opened. Without an owner, all of it.",
        "ic-secrets report --html secrets.html\n  ic-secrets report --html agency.html org:agency --stale 180d",
    )
    parser.add_argument("owners", metavar="OWNER", nargs="*", help="SITE, or org:ORG with all its sites")
    parser.add_argument("--html", metavar="FILE", help="the page; an older one that is there is replaced")
    parser.add_argument(
        "--stale", metavar="DURATION", default="90d", help="for how long unchanged is stale (90d by default)"
    )
    add_store_options(parser)
    add_json(parser)
    return parser


def _select(owners: Sequence[str]) -> _Selection:
    parsed = [(word, *parse_owner(word)) for word in owners]
    for word, owner, environment in parsed:
        if environment is not None:
            raise UsageError(f"{word} names an environment", hint=f"name the whole owner: {owner}")
    sites = frozenset(owner.name for _, owner, _ in parsed if owner.is_site)
    return _Selection(sites, frozenset(owner.name for _, owner, _ in parsed if not owner.is_site))


def _check_replaceable(path: str) -> None:
    """IcSecretsError where something is there that is no page of ours: a store, a key or a site would be gone."""
    try:
        if not os.path.lexists(path):
            return
        before = read_regular(path, len(START))
    except OSError as error:
        raise IcSecretsError(f"{path} cannot be written: {error.strerror}") from None
    if before is None:
        raise IcSecretsError(f"{path} is no regular file", hint="name another file")
    if before and before != START.encode():
        raise IcSecretsError(f"{path} is there, and is no report", hint="remove it first, or name another file")


def _write(
    store: Store, selection: _Selection, terms: Terms, path: str | None, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Survey the store owner by owner, and write the page at the end; what --json prints, if it is to."""
    identity = identify(store)
    totals, owners = Totals.none(), []
    sites = _list_sites(store, selection)
    is_open = sum(map(selection.has, sites)) <= _FEW
    organizations: list[str] = []
    with tempfile.TemporaryFile() as spool:  # of names alone: what stands above the sites is known after them
        for number, survey in enumerate(_survey(store, selection, sites, terms), 1):
            totals = totals.plus(survey)
            if arguments.json:
                owners.append(_describe(survey))
            if path is None:
                continue
            section = render_owner(survey, number, terms, is_open=is_open)
            if survey.site:
                spool.write(section.encode())
            else:
                organizations.append(section)
        if path:
            about = f"store {identity.id[:8]}, generation {identity.generation}" if identity else ""
            top = [render_start(totals, terms, about)]
            top += [render_heading("Organizations"), *organizations] if organizations else []
            top += [render_heading("Sites")] if totals.sites else []
            _write_page(path, "".join(top), spool)
    return {
        "made": format_time(int(terms.now)),
        "unchanged_since": format_time(int(terms.now - terms.stale)),
        "expires_until": format_time(int(terms.now + terms.soon)),
        "store": identity._asdict() if identity else None,
        "counts": _describe_totals(totals),
        "owners": owners,
    }


def _write_page(path: str, start: str, body: BinaryIO) -> None:
    """The page at once, for its owner alone unless the file that it replaces was for others too."""
    try:
        with replacing(path, 0o600) as file:
            file.write(start.encode())
            body.seek(0)
            while piece := body.read(_COPY_BYTES):
                file.write(piece)
            file.write(render_end().encode())
    except OSError as error:
        raise IcSecretsError(f"{path} cannot be written: {error.strerror}") from None


# --- reading ----------------------------------------------------------------------------------------


def _list_sites(store: Store, selection: _Selection) -> list[Site]:
    """The sites that are reported, and those that tell whether their organizations' secrets are used at all.

    UnknownSiteError, UnknownSecretError for an owner that there is nothing of.
    """
    chosen = [store.site(name) for name in sorted(selection.sites)]
    organizations = {site.organization for site in chosen if site.organization} | selection.organizations
    sites = list(store.sites())
    for name in sorted(selection.organizations):
        owner = Owner.organization(name)
        if all(site.organization != name for site in sites) and owner not in store.owners():
            raise UnknownSecretError(f"the store holds nothing of {owner}, and no site belongs to it")
    if selection.is_everything:
        return sites
    return [site for site in sites if selection.has(site) or site.organization in organizations]


def _survey(store: Store, selection: _Selection, sites: Sequence[Site], terms: Terms) -> Iterator[Survey]:
    """The sites, then the organizations that they belong to; of everything, also those that hold something."""
    usage = Usage()
    rest = iter(sites)
    while batch := list(islice(rest, _BATCH)):
        with store.snapshot():
            chains = _read_chains(store, batch)
        for site, chain in zip(batch, chains, strict=True):
            survey = survey_site(site, chain, terms)
            usage.add(site, survey.matrix)
            if selection.has(site):
                yield survey
    names = {site.organization for site in sites if site.organization} | selection.organizations
    if selection.is_everything:
        names |= {owner.name for owner in store.owners() if not owner.is_site}
    for name in sorted(names):
        yield survey_organization(store.read(Owner.organization(name), values=False), usage, terms)


def _read_chains(store: Store, sites: Sequence[Site]) -> list[tuple[Holdings, ...]]:
    """As `read_chain` does, each organization once."""
    organizations: dict[str, Holdings] = {}
    chains: list[tuple[Holdings, ...]] = []
    for site in sites:
        held = store.read(Owner.site(site.name), values=False)
        name = site.organization
        if name is None:
            chains.append((held,))
            continue
        if name not in organizations:
            organizations[name] = store.read(Owner.organization(name), values=False)
        chains.append((held, organizations[name]))
    return chains


# --- as data ----------------------------------------------------------------------------------------


def _describe(survey: Survey) -> dict[str, Any]:
    site = survey.site
    return {
        "owner": str(survey.owner),
        "organization": site.organization if site else None,
        "supporting": list(site.supporting) if site else [],
        "sites": survey.sites,
        "environments": list(survey.matrix.environments),
        "names": [_describe_line(line) for line in survey.lines],
    }


def _describe_line(line: Line) -> dict[str, Any]:
    row, shown = line.row, line.row.shown
    cells = {}
    for cell in row.cells:
        winner, source, reason = cell.winner, cell.source, cell.reason
        cells[str(cell.environment)] = {
            "winner": winner.source if winner else None,
            "source": source.value if source else None,
            "reason": reason.value if reason else None,
        }
    return {
        "name": row.name,
        "type": row.type.value,
        "scopes": format_scopes(row.scopes).split(","),
        "changed": format_time(shown.changed),
        "expires": None if shown.expires is None else format_time(shown.expires),
        "used_by_sites": line.sites,
        "cells": cells,
        "findings": [{"flag": each.flag.value, "source": each.source, "text": each.text} for each in line.findings],
    }


def _describe_totals(totals: Totals) -> dict[str, Any]:
    return {
        "sites": totals.sites,
        "organizations": totals.organizations,
        "secrets": totals.secrets,
        "overrides": totals.overrides,
        "findings": {flag.value: count for flag, count in sorted(totals.flags.items(), key=lambda item: item[0].value)},
    }
