"""What each environment of a site gets under each name, and where from. Pure.

Each cell is what `resolve.trace` decides for its environment, so it is what a build there gets.
"""

import enum
from collections.abc import Collection, Sequence

from ..core.records import NamedTuple
from .names import PERMANENT
from .resolve import Definition, Holdings, Verdict, trace
from .secret import Scope, Scopes, SecretType


class Source(enum.Enum):
    """Where the value in a cell comes from."""

    ORGANIZATION = "organization"
    ORGANIZATION_OVERRIDE = "organization override"
    SITE = "site"
    SITE_OVERRIDE = "site override"


class Cell(NamedTuple):
    """What a name resolves to in one environment, or, with None, in those that no override names.

    `definitions` are those of the whole chain, weakest first, each with its verdict for the environment.
    """

    environment: str | None
    definitions: tuple[Definition, ...]

    @property
    def winner(self) -> Definition | None:
        """The definition that won, if one did."""
        return next((d for d in reversed(self.definitions) if d.verdict is Verdict.WON), None)

    @property
    def source(self) -> Source | None:
        """Where the winner is defined."""
        return find_source(self.winner) if self.winner else None

    @property
    def reason(self) -> Verdict | None:
        """Why nothing won: OUT_OF_SCOPE, else INERT, else OTHER_ENVIRONMENT; None if something won."""
        verdicts = {definition.verdict for definition in self.definitions}
        order = (Verdict.WON, Verdict.OUT_OF_SCOPE, Verdict.INERT, Verdict.OTHER_ENVIRONMENT)
        first = next((verdict for verdict in order if verdict in verdicts), None)
        return None if first is Verdict.WON else first


class Row(NamedTuple):
    """A name and its cells: one for each environment of the table, and `elsewhere` for all others."""

    name: str
    cells: tuple[Cell, ...]
    elsewhere: Cell

    @property
    def shown(self) -> Definition:
        """The definition that wins without an override, else one that wins anywhere, else the strongest.

        All winners of a row have the same type and scopes, since an override has those of its base (rule 6).
        """
        winners = (cell.winner for cell in (self.elsewhere, *self.cells))
        return next(filter(None, winners), self.elsewhere.definitions[-1])

    @property
    def is_resolved(self) -> bool:
        """Whether anything wins anywhere."""
        return any(cell.winner for cell in (*self.cells, self.elsewhere))

    @property
    def type(self) -> SecretType:
        """The type of that definition."""
        return self.shown.type

    @property
    def scopes(self) -> Scopes:
        """Its scopes."""
        return self.shown.scopes


class EnvironmentTable(NamedTuple):
    """What a site gets for one scope: its rows in the order of their names."""

    environments: tuple[str, ...]
    scope: Scope
    rows: tuple[Row, ...]


def make_table(chain: Sequence[Holdings], scope: Scope, also: Collection[str] = ()) -> EnvironmentTable:
    """Make the table of the site that holds `chain[0]`, with a column for each environment in `also` as well."""
    environments = list_environments(chain, also)
    traced = [trace(environment, scope, chain) for environment in environments]
    elsewhere = trace(None, scope, chain)
    rows = [
        Row(
            name,
            tuple(Cell(each, found[name]) for each, found in zip(environments, traced, strict=True)),
            Cell(None, elsewhere[name]),
        )
        for name in elsewhere
    ]
    return EnvironmentTable(environments, scope, tuple(rows))


def list_environments(chain: Sequence[Holdings], also: Collection[str] = ()) -> tuple[str, ...]:
    """Return dev, test and live, then, in order, all others that an override in the chain or `also` names."""
    named = {override.environment for holdings in chain for override in holdings.overrides} | {*also}
    return (*PERMANENT, *sorted(named.difference(PERMANENT)))


def find_source(definition: Definition) -> Source:
    """Return where the definition belongs."""
    if definition.owner.is_site:
        return Source.SITE_OVERRIDE if definition.environment else Source.SITE
    return Source.ORGANIZATION_OVERRIDE if definition.environment else Source.ORGANIZATION
