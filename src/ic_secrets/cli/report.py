"""`ic-secrets report`: a page of all sites, where each environment's values come from, and what needs attention."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from ..core import parse_duration
from ..core.files import read_start, replacing
from ..core.moments import format_time
from ..core.records import NamedTuple
from ..errors import IcSecretsError, UnknownSecretError, UsageError
from ..model import Holdings
from ..model.secret import Owner, Site, format_scopes
from ..report import Entry, Limits, OwnerReport, Totals, Usage, report_organization, report_site
from ..report.page import START, render_owner, render_page
from ..stores import Store
from . import Call
from .call import read_call
from .explain import describe_cell
from .output import print_json, print_message
from .parser import Parser, add_json, add_store_options
from .transfer import parse_whole_owner

# So many sites are read at one moment: a writer waits no longer than that takes.
_BATCH = 100
# A page of so many sites shows them open.
_FEW = 8


class _Selection(NamedTuple):
    """The sites by name, and the organizations with all their sites, to report; everything where neither is named."""

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
    limits = Limits(time.time(), parse_duration(arguments.stale), context.settings.get_duration("expiry-warning"))
    selection = _select(arguments.owners)
    path = os.path.realpath(arguments.html) if arguments.html else None
    if path:
        _check_replaceable(path)
    with context.open_store(read_only=True) as store:
        content = _write(store, selection, limits, path, arguments)
    if arguments.json:
        print_json("report", content)
    if path:
        print_message("", f"wrote {arguments.html}")
    return 0


def make_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser(
        "report",
        "Write one page that needs no network: each site's names and environments, where every value comes from, and\n"
        "what is expired, stale, shadowed, inert or useless to builds. No value is opened. Without OWNER: everything.",
        "ic-secrets report --html secrets.html\n  ic-secrets report --html agency.html org:agency --stale 180d",
    )
    parser.add_argument("owners", metavar="OWNER", nargs="*", help="SITE, or org:ORG with all its sites")
    parser.add_argument("--html", metavar="FILE", help="the page; an older one that is there is replaced")
    parser.add_argument(
        "--stale",
        metavar="DURATION",
        default="90d",
        help="unchanged for how long is stale (90d by default)",
    )
    add_store_options(parser)
    add_json(parser)
    return parser


def _select(words: Sequence[str]) -> _Selection:
    owners = [parse_whole_owner(word) for word in words]
    sites = frozenset(owner.name for owner in owners if owner.is_site)
    return _Selection(sites, frozenset(owner.name for owner in owners if not owner.is_site))


def _check_replaceable(path: str) -> None:
    """Raise IcSecretsError where something else than a report would be replaced: a store, a key, a site."""
    try:
        if not os.path.lexists(path):
            return
        before = read_start(path, len(START))
    except OSError as error:
        raise IcSecretsError(f"{path} cannot be written: {error.strerror}") from None
    if before is None:
        raise IcSecretsError(f"{path} is not a regular file", hint="name another file")
    if before and before != START.encode():
        raise IcSecretsError(f"{path} exists and is not a report", hint="remove it first, or name another file")


def _write(
    store: Store, selection: _Selection, limits: Limits, path: str | None, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Report owner by owner, write the page at the end, and return what --json prints."""
    identity = store.identify()
    totals, owners = Totals(), []
    sites = _list_sites(store, selection)
    is_open = sum(map(selection.has, sites)) <= _FEW
    organizations: list[str] = []
    with tempfile.TemporaryFile() as spool:  # of names alone: what stands above the sites is known after them
        for number, report in enumerate(_report_owners(store, selection, sites, limits), 1):
            totals = totals.add(report)
            if arguments.json:
                owners.append(_describe(report))
            if path is None:
                continue
            section = render_owner(report, number, limits, is_open=is_open)
            if report.site:
                spool.write(section.encode())
            else:
                organizations.append(section)
        if path:
            about = f"store {identity.id[:8]}, generation {identity.generation}" if identity else ""
            spool.seek(0)
            _write_page(path, render_page(totals, limits, about, organizations, (line.decode() for line in spool)))
    return {
        "made": format_time(int(limits.now)),
        "unchanged_since": format_time(int(limits.now - limits.stale)),
        "expires_until": format_time(int(limits.now + limits.soon)),
        "store": identity._asdict() if identity else None,
        "counts": _describe_totals(totals),
        "owners": owners,
    }


def _write_page(path: str, parts: Iterable[str]) -> None:
    """Write the page at once, for its owner alone unless the file that it replaces was for others too."""
    try:
        with replacing(path, 0o600) as file:
            for part in parts:
                file.write(part.encode())
    except OSError as error:
        raise IcSecretsError(f"{path} cannot be written: {error.strerror}") from None


# --- reading ----------------------------------------------------------------------------------------


def _list_sites(store: Store, selection: _Selection) -> list[Site]:
    """List the sites to report, and those that show whether their organizations' secrets are used at all.

    UnknownSiteError, UnknownSecretError for an owner of whom the store holds nothing.
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


def _report_owners(store: Store, selection: _Selection, sites: Sequence[Site], limits: Limits) -> Iterator[OwnerReport]:
    """Report the sites, then their organizations; with everything, also all other organizations that hold something."""
    usage = Usage()
    rest = iter(sites)
    while batch := list(islice(rest, _BATCH)):
        with store.snapshot():
            chains = _read_chains(store, batch)
        for site, chain in zip(batch, chains, strict=True):
            report = report_site(site, chain, limits)
            usage.add(report)
            if selection.has(site):
                yield report
    names = {site.organization for site in sites if site.organization} | selection.organizations
    if selection.is_everything:
        names |= {owner.name for owner in store.owners() if not owner.is_site}
    for name in sorted(names):
        yield report_organization(store.read(Owner.organization(name), values=False), usage, limits)


def _read_chains(store: Store, sites: Sequence[Site]) -> list[tuple[Holdings, ...]]:
    """Read the chains as `read_chain` does, but each organization once."""
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


def _describe(report: OwnerReport) -> dict[str, Any]:
    site = report.site
    return {
        "owner": str(report.owner),
        "organization": site.organization if site else None,
        "supporting": list(site.supporting) if site else [],
        "sites": report.sites,
        "environments": list(report.environments),
        "names": [_describe_entry(entry) for entry in report.entries],
    }


def _describe_entry(entry: Entry) -> dict[str, Any]:
    row, shown = entry.row, entry.row.shown
    return {
        "name": row.name,
        "type": row.type.value,
        "scopes": format_scopes(row.scopes).split(","),
        "hosts": list(shown.hosts),
        "changed": format_time(shown.changed),
        "expires": None if shown.expires is None else format_time(shown.expires),
        "used_by_sites": entry.sites,
        "cells": {str(cell.environment): describe_cell(cell) for cell in row.cells},
        "findings": [{"flag": each.flag.value, "source": each.source, "text": each.text} for each in entry.findings],
    }


def _describe_totals(totals: Totals) -> dict[str, Any]:
    return {
        "sites": totals.sites,
        "organizations": totals.organizations,
        "secrets": totals.secrets,
        "overrides": totals.overrides,
        "findings": {flag.value: count for flag, count in sorted(totals.flags.items(), key=lambda item: item[0].value)},
    }
