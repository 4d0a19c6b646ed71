"""What of an owner's secrets asks for a look: expired, stale, of no use to a build, shadowed, inert. Pure.

A finding stands where it is to be mended: with the owner of the definition, not with each site that inherits it.
"""

import enum
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..model.environments import NEVER_BUILT, Cell, Matrix, Row, make_matrix
from ..model.resolve import Definition, Holdings, Verdict
from ..model.secret import Owner, Scope, SecretType, Site, format_scopes

_DAY = 86_400
# A definition of an organization, as `Usage` counts it.
_Place = tuple[str, str | None]


class Flag(enum.Enum):
    """Why something asks for a look."""

    EXPIRED = "expired"
    SOON = "soon"
    STALE = "stale"
    UNUSED = "unused"
    SHADOWED = "shadowed"
    INERT = "inert"


class Terms(NamedTuple):
    """The moment of the survey, in Unix time; for how many seconds unchanged is stale, and how many ahead is soon."""

    now: float
    stale: float
    soon: float


class Finding(NamedTuple):
    """A reason to look at a definition; `source` is that of the definition, `text` says it in a few words."""

    flag: Flag
    source: str
    text: str


class Line(NamedTuple):
    """A name of an owner: its row of the matrix, what was found, and the sites that use it (an organization's)."""

    row: Row
    findings: tuple[Finding, ...]
    sites: int | None = None

    @property
    def flags(self) -> frozenset[Flag]:
        """The flags of all its findings."""
        return frozenset(finding.flag for finding in self.findings)


class Survey(NamedTuple):
    """One owner. `sites` are how many belong to it, None for a site; `secrets` and `overrides`, what is its own."""

    owner: Owner
    site: Site | None
    sites: int | None
    matrix: Matrix
    lines: tuple[Line, ...]
    secrets: int
    overrides: int


class Usage:
    """How many sites there are of each organization, and how many of them use which of its definitions in a build."""

    def __init__(self) -> None:
        self.sites: Counter[str] = Counter()
        self._used: Counter[tuple[str, _Place]] = Counter()
        self._names: Counter[tuple[str, str]] = Counter()

    def add(self, site: Site, matrix: Matrix) -> None:
        """Count that site in."""
        if site.organization is None:
            return
        self.sites[site.organization] += 1
        for row in matrix.rows:
            used = {_place(cell.winner) for cell in _built(row) if cell.winner and not cell.winner.owner.is_site}
            self._used.update((site.organization, place) for place in used)
            self._names.update([(site.organization, row.name)] if used else ())

    def count(self, organization: str, place: _Place) -> int:
        """How many sites use that definition."""
        return self._used[organization, place]

    def count_name(self, organization: str, name: str) -> int:
        """How many sites use any definition of that name."""
        return self._names[organization, name]


def survey_site(site: Site, chain: Sequence[Holdings], terms: Terms) -> Survey:
    """What the site has and inherits, and what of its own asks for a look."""
    matrix = make_matrix(chain, Scope.IC)
    lines = []
    for row in matrix.rows:
        own = [d for d in _list_definitions(row) if d.owner == chain[0].owner]
        findings = [finding for each in own for finding in _inspect(each, row, terms)]
        lost = [d for d in row.elsewhere.definitions if d.verdict is Verdict.SHADOWED]
        findings += [Finding(Flag.SHADOWED, d.source, f"{d.source} loses to the site's own") for d in lost[:1]]
        lines.append(Line(row, tuple(findings)))
    return Survey(chain[0].owner, site, None, matrix, tuple(lines), len(chain[0].secrets), len(chain[0].overrides))


def survey_organization(held: Holdings, usage: Usage, terms: Terms) -> Survey:
    """What the organization has, which of it no site uses, and what else of it asks for a look."""
    matrix = make_matrix((held,), Scope.IC)
    name, lines = held.owner.name, []
    for row in matrix.rows:
        findings = []
        for each in _list_definitions(row):
            found = list(_inspect(each, row, terms))
            if not any(finding.flag in {Flag.UNUSED, Flag.INERT} for finding in found):
                if not usage.sites[name]:
                    found.append(Finding(Flag.UNUSED, each.source, "no site belongs to the organization"))
                elif not usage.count(name, _place(each)):
                    found.append(Finding(Flag.UNUSED, each.source, "loses to each site's own"))
            findings += found
        lines.append(Line(row, tuple(findings), usage.count_name(name, row.name)))
    sites = usage.sites[name]
    return Survey(held.owner, None, sites, matrix, tuple(lines), len(held.secrets), len(held.overrides))


def count_flags(lines: Sequence[Line]) -> Counter[Flag]:
    """How many of the lines have each flag."""
    return Counter(flag for line in lines for flag in line.flags)


def _inspect(definition: Definition, row: Row, terms: Terms) -> Iterator[Finding]:
    source = definition.source
    if definition.verdict is Verdict.INERT:
        yield Finding(Flag.INERT, source, "overrides a secret that is gone")
        return
    expires = definition.expires
    if expires is not None and expires < terms.now:
        yield Finding(Flag.EXPIRED, source, f"expired {_day(expires)}")
    elif expires is not None and expires < terms.now + terms.soon:
        yield Finding(Flag.SOON, source, f"expires {_day(expires)}")
    if definition.changed < terms.now - terms.stale:
        days = int((terms.now - definition.changed) // _DAY)
        yield Finding(Flag.STALE, source, f"unchanged for {days:,} days")
    reason = _tell_unused(definition, row)
    if reason:
        yield Finding(Flag.UNUSED, source, reason)


def _tell_unused(definition: Definition, row: Row) -> str:
    """Why no build gets that definition, empty where one may."""
    if Scope.IC not in definition.scopes:
        return f"no build may read it: scope {format_scopes(definition.scopes)}"
    if definition.type is SecretType.RUNTIME:
        return "no build gets the type runtime"
    if definition.environment in NEVER_BUILT:
        return f"no build is made for {definition.environment}"
    won = {_place(cell.winner) for cell in _built(row) if cell.winner and cell.winner.owner == definition.owner}
    return "" if _place(definition) in won else "wins in no environment"


def _built(row: Row) -> Iterator[Cell]:
    """The cells of environments that builds are made for; all that no override names count as one."""
    yield from (cell for cell in row.cells if cell.environment not in NEVER_BUILT)
    yield row.elsewhere


def _list_definitions(row: Row) -> Sequence[Definition]:
    """All definitions of a row, the bases first, then by environment; their verdicts are those of no environment."""
    return sorted(row.elsewhere.definitions, key=lambda d: (d.owner.is_site, d.environment or ""))


def _place(definition: Definition) -> _Place:
    return definition.name, definition.environment


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
