"""What one owner holds, and what of it needs attention: expired, stale, useless to builds, shadowed, inert. Pure.

A finding is reported where it can be mended: with the owner of the definition, not with each site that inherits it.
"""

import enum
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from ..core.records import NamedTuple
from ..model.environments import Cell, Row, make_table
from ..model.names import NEVER_BUILT
from ..model.resolve import Definition, Holdings, Verdict
from ..model.secret import Owner, Scope, SecretType, Site, format_scopes

_DAY = 86_400
# A definition of an organization, as `Usage` counts it.
_Place = tuple[str, str | None]


class Flag(enum.Enum):
    """Why something needs attention."""

    EXPIRED = "expired"
    SOON = "soon"
    STALE = "stale"
    UNUSED = "unused"
    SHADOWED = "shadowed"
    INERT = "inert"


class Limits(NamedTuple):
    """The moment of the report, in Unix time; how many seconds unchanged are stale, and how many ahead are soon."""

    now: float
    stale: float
    soon: float


class Finding(NamedTuple):
    """A reason to look at the definition at `source`, in a few words."""

    flag: Flag
    source: str
    text: str


class Entry(NamedTuple):
    """A name of an owner, what was found, and for an organization how many sites use it."""

    row: Row
    findings: tuple[Finding, ...]
    sites: int | None = None

    @property
    def flags(self) -> frozenset[Flag]:
        """The flags of all its findings."""
        return frozenset(finding.flag for finding in self.findings)


class OwnerReport(NamedTuple):
    """One owner. `sites` says how many belong to it, None for a site; `secrets` and `overrides` count its own."""

    owner: Owner
    site: Site | None
    sites: int | None
    environments: tuple[str, ...]
    entries: tuple[Entry, ...]
    secrets: int
    overrides: int

    @property
    def flags(self) -> Counter[Flag]:
        """How many of the names have each flag."""
        return Counter(flag for entry in self.entries for flag in entry.flags)


class Totals(NamedTuple):
    """All owners of a report together: how many there are, and how many names by flag and by type."""

    sites: int = 0
    organizations: int = 0
    secrets: int = 0
    overrides: int = 0
    flags: Mapping[Flag, int] = {}
    types: Mapping[SecretType, int] = {}

    def add(self, report: OwnerReport) -> "Totals":
        """Return these with one owner more."""
        return Totals(
            self.sites + report.owner.is_site,
            self.organizations + (not report.owner.is_site),
            self.secrets + report.secrets,
            self.overrides + report.overrides,
            Counter(self.flags) + report.flags,
            Counter(self.types) + Counter(entry.row.type for entry in report.entries),
        )


class Usage:
    """How many sites each organization has, and how many of them use which of its definitions in a build."""

    def __init__(self) -> None:
        self.sites: Counter[str] = Counter()
        self._used: Counter[tuple[str, _Place]] = Counter()
        self._names: Counter[tuple[str, str]] = Counter()

    def add(self, report: OwnerReport) -> None:
        """Count the site in."""
        site = report.site
        if site is None or site.organization is None:
            return
        self.sites[site.organization] += 1
        for row in (entry.row for entry in report.entries):
            used = {_place(cell.winner) for cell in _built(row) if cell.winner and not cell.winner.owner.is_site}
            self._used.update((site.organization, place) for place in used)
            self._names.update([(site.organization, row.name)] if used else ())

    def count(self, organization: str, place: _Place) -> int:
        """Return how many sites use that definition."""
        return self._used[organization, place]

    def count_name(self, organization: str, name: str) -> int:
        """Return how many sites use any definition of that name."""
        return self._names[organization, name]


def report_site(site: Site, chain: Sequence[Holdings], limits: Limits) -> OwnerReport:
    """Report what the site has and inherits, and what of its own needs attention."""
    table = make_table(chain, Scope.IC)
    entries = []
    for row in table.rows:
        own = [d for d in _list_definitions(row) if d.owner == chain[0].owner]
        findings = [finding for each in own for finding in _inspect(each, row, limits)]
        lost = [d for d in row.elsewhere.definitions if d.verdict is Verdict.SHADOWED]
        findings += [Finding(Flag.SHADOWED, d.source, f"{d.source} loses to the site's own") for d in lost[:1]]
        entries.append(Entry(row, tuple(findings)))
    return OwnerReport(
        owner=chain[0].owner,
        site=site,
        sites=None,
        environments=table.environments,
        entries=tuple(entries),
        secrets=len(chain[0].secrets),
        overrides=len(chain[0].overrides),
    )


def report_organization(held: Holdings, usage: Usage, limits: Limits) -> OwnerReport:
    """Report what the organization has, which of it no site uses, and what else needs attention."""
    table = make_table((held,), Scope.IC)
    name, entries = held.owner.name, []
    for row in table.rows:
        findings = []
        for each in _list_definitions(row):
            found = list(_inspect(each, row, limits))
            if not any(finding.flag in {Flag.UNUSED, Flag.INERT} for finding in found):
                if not usage.sites[name]:
                    found.append(Finding(Flag.UNUSED, each.source, "the organization has no site"))
                elif not usage.count(name, _place(each)):
                    found.append(Finding(Flag.UNUSED, each.source, "loses to each site's own"))
            findings += found
        entries.append(Entry(row, tuple(findings), usage.count_name(name, row.name)))
    return OwnerReport(
        owner=held.owner,
        site=None,
        sites=usage.sites[name],
        environments=table.environments,
        entries=tuple(entries),
        secrets=len(held.secrets),
        overrides=len(held.overrides),
    )


def _inspect(definition: Definition, row: Row, limits: Limits) -> Iterator[Finding]:
    source = definition.source
    if definition.verdict is Verdict.INERT:
        yield Finding(Flag.INERT, source, "overrides a secret that is gone")
        return
    expires = definition.expires
    if expires is not None and expires < limits.now:
        yield Finding(Flag.EXPIRED, source, f"expired {_day(expires)}")
    elif expires is not None and expires < limits.now + limits.soon:
        yield Finding(Flag.SOON, source, f"expires {_day(expires)}")
    if definition.changed < limits.now - limits.stale:
        days = int((limits.now - definition.changed) // _DAY)
        yield Finding(Flag.STALE, source, f"unchanged for {days:,} days")
    reason = _explain_unused(definition, row)
    if reason:
        yield Finding(Flag.UNUSED, source, reason)


def _explain_unused(definition: Definition, row: Row) -> str:
    """Say why no build gets that definition; return an empty text where one may."""
    if Scope.IC not in definition.scopes:
        return f"no build may read it: its scope is {format_scopes(definition.scopes)}"
    if definition.type is SecretType.RUNTIME:
        return "no build gets the type runtime"
    if definition.environment in NEVER_BUILT:
        return f"{definition.environment} is never built"
    won = {_place(cell.winner) for cell in _built(row) if cell.winner and cell.winner.owner == definition.owner}
    return "" if _place(definition) in won else "wins in no environment"


def _built(row: Row) -> Iterator[Cell]:
    """Yield the cells of environments that are built; all that no override names count as one."""
    yield from (cell for cell in row.cells if cell.environment not in NEVER_BUILT)
    yield row.elsewhere


def _list_definitions(row: Row) -> Sequence[Definition]:
    """List all definitions of a row, bases first, then by environment; their verdicts are those of no environment."""
    return sorted(row.elsewhere.definitions, key=lambda d: (d.owner.is_site, d.environment or ""))


def _place(definition: Definition) -> _Place:
    return definition.name, definition.environment


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
