"""The table: each cell is what a build, an application or a person of that environment gets, and says whence."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from ic_secrets.model.environments import Source, make_table
from ic_secrets.model.resolve import Holdings, Verdict, resolve
from ic_secrets.model.secret import Override, Owner, Scope, Scopes, Secret, SecretType

SITE = Owner("site", "my-site")
ORG = Owner("organization", "agency")
IC: Scopes = frozenset({Scope.IC})
USER: Scopes = frozenset({Scope.USER})


def base(owner: Owner, scopes: Scopes = IC, name: str = "KEY", kind: SecretType = SecretType.ENV) -> Secret:
    return Secret(f"{owner}/{name}", owner, name, kind, scopes, None)


def override(owner: Owner, environment: str, over: Secret | None = None, name: str = "KEY") -> Override:
    """An override of that owner; without a base that is there, an inert one."""
    kind, scopes = (over.type, over.scopes) if over else (SecretType.ENV, IC)
    return Override(over.id if over else "gone", owner, environment, name, kind, scopes, None)


def chain(
    site: tuple[Secret | Override, ...] = (), org: tuple[Secret | Override, ...] | None = None
) -> tuple[Holdings, ...]:
    def hold(owner: Owner, items: tuple[Secret | Override, ...]) -> Holdings:
        return Holdings(
            owner,
            tuple(item for item in items if isinstance(item, Secret)),
            tuple(item for item in items if isinstance(item, Override)),
        )

    return (hold(SITE, site), *([] if org is None else [hold(ORG, org)]))


ORG_BASE, SITE_BASE = base(ORG), base(SITE)
CASES = {
    "the organization's value": (chain((), (ORG_BASE,)), "dev", Source.ORGANIZATION),
    "its override": (chain((), (ORG_BASE, override(ORG, "dev", ORG_BASE))), "dev", Source.ORGANIZATION_OVERRIDE),
    "its override for another": (chain((), (ORG_BASE, override(ORG, "dev", ORG_BASE))), "test", Source.ORGANIZATION),
    "the site's value": (chain((SITE_BASE,), (ORG_BASE, override(ORG, "dev", ORG_BASE))), "dev", Source.SITE),
    "the site's override": (chain((SITE_BASE, override(SITE, "live", SITE_BASE))), "live", Source.SITE_OVERRIDE),
    "a site's over its organization's": (
        chain((override(SITE, "live", ORG_BASE),), (ORG_BASE,)),
        "live",
        Source.SITE_OVERRIDE,
    ),
    "a site's that the scope leaves out": (chain((base(SITE, USER),), (ORG_BASE,)), "dev", Source.ORGANIZATION),
    "nothing of that scope": (chain((base(SITE, USER),)), "dev", Verdict.OUT_OF_SCOPE),
    "an override whose secret is gone": (chain((override(SITE, "dev"),)), "dev", Verdict.INERT),
    "one for another environment, too": (chain((override(SITE, "dev"),)), "test", Verdict.INERT),
    "a site's of no scope beside a gone one": (
        chain((base(SITE, USER), override(SITE, "dev"))),
        "dev",
        Verdict.OUT_OF_SCOPE,
    ),
}


@pytest.mark.parametrize(("held", "environment", "expected"), CASES.values(), ids=CASES)
def test_a_cell_says_where_its_value_comes_from_or_why_there_is_none(
    held: tuple[Holdings, ...], environment: str, expected: Source | Verdict
) -> None:
    table = make_table(held, Scope.IC)
    cell = table.rows[0].cells[table.environments.index(environment)]
    assert (cell.source or cell.reason) is expected
    assert (cell.source is None) is (cell.winner is None)


def test_the_columns_are_the_platforms_environments_then_those_that_anything_names() -> None:
    held = chain((override(SITE, "pr-2"),), (ORG_BASE, override(ORG, "live", ORG_BASE), override(ORG, "a", ORG_BASE)))
    assert make_table(held, Scope.IC, ["pr-1", "dev"]).environments == (
        "dev",
        "test",
        "live",
        "a",
        "pr-1",
        "pr-2",
    )


def test_a_site_that_has_nothing_has_no_rows() -> None:
    assert make_table(chain(), Scope.IC).rows == ()


def test_a_row_shows_the_type_of_what_wins() -> None:
    held = chain((base(SITE, USER, kind=SecretType.RUNTIME),), (ORG_BASE,))
    row = make_table(held, Scope.IC).rows[0]
    assert (row.type, row.scopes) == (SecretType.ENV, IC)
    row = make_table(held, Scope.USER).rows[0]
    assert (row.type, row.scopes) == (SecretType.RUNTIME, USER)
    row = make_table(held, Scope.WEB).rows[0]
    assert (row.is_resolved, row.type) == (False, SecretType.RUNTIME)


@st.composite
def chains(draw: st.DrawFn) -> tuple[Holdings, ...]:
    """Any holdings of two owners, consistent or not: bases of any scope, overrides of bases that are there or gone."""
    scopes = st.frozensets(st.sampled_from(Scope), min_size=1)
    names, environments = st.sampled_from(["A", "B"]), st.sampled_from(["dev", "live", "pr-1"])
    held = []
    for owner in (SITE, ORG):
        secrets = {name: base(owner, draw(scopes), name) for name in draw(st.sets(names))}
        places = draw(st.sets(st.tuples(names, environments)))
        gone = Secret("gone", owner, "", SecretType.ENV, IC, None)
        overrides = tuple(
            override(owner, environment, draw(st.sampled_from([gone, *secrets.values()])), name)
            for name, environment in sorted(places)
        )
        held.append(Holdings(owner, tuple(secrets.values()), overrides))
    return tuple(held)


@hypothesis.given(held=chains(), scope=st.sampled_from(Scope))
def test_every_cell_agrees_with_what_a_build_there_would_resolve(held: tuple[Holdings, ...], scope: Scope) -> None:
    table = make_table(held, scope)
    for position, environment in enumerate(table.environments):
        winners = [row.cells[position].winner for row in table.rows]
        assert tuple(winner for winner in winners if winner) == resolve(environment, scope, held)
        assert all(
            (row.cells[position].reason is None) is (row.cells[position].winner is not None) for row in table.rows
        )
