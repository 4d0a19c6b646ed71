"""What needs attention is reported once, where it can be mended."""

from __future__ import annotations

from typing import Any

import pytest

from ic_secrets.model.resolve import Holdings
from ic_secrets.model.secret import Override, Owner, Scope, Scopes, Secret, SecretType, Site
from ic_secrets.report.owners import Flag, Limits, OwnerReport, Usage, report_organization, report_site

DAY = 86_400
NOW = 1_800_000_000
LIMITS = Limits(NOW, 90 * DAY, 14 * DAY)
OWN = Owner("site", "my-site")
ORG = Owner("organization", "agency")
SITE = Site("my-site", "agency")
IC: Scopes = frozenset({Scope.IC})
WEB: Scopes = frozenset({Scope.WEB})


def base(owner: Owner = OWN, scopes: Scopes = IC, kind: SecretType = SecretType.ENV, **more: Any) -> Secret:
    return Secret(
        f"{owner}/KEY", owner, "KEY", kind, scopes, None, **{"created": NOW - DAY, "changed": NOW - DAY, **more}
    )


def override(over: Secret | None, owner: Owner = OWN, environment: str = "dev", **more: Any) -> Override:
    found = over or base(owner)
    times = {"created": NOW - DAY, "changed": NOW - DAY, **more}
    return Override(over.id if over else "gone", owner, environment, "KEY", found.type, found.scopes, None, **times)


def hold(owner: Owner, *items: Secret | Override) -> Holdings:
    secrets = tuple(item for item in items if isinstance(item, Secret))
    return Holdings(owner, secrets, tuple(item for item in items if isinstance(item, Override)))


def found(report: OwnerReport) -> list[tuple[Flag, str]]:
    return [(finding.flag, finding.source) for entry in report.entries for finding in entry.findings]


OLD = NOW - 91 * DAY
OF_A_SITE: dict[str, tuple[tuple[Secret | Override, ...], list[tuple[Flag, str]]]] = {
    "nothing of what is fresh and used": ((base(),), []),
    "an expired one": ((base(expires=NOW - 1),), [(Flag.EXPIRED, "my-site")]),
    "one that expires soon": ((base(expires=NOW + 14 * DAY - 1),), [(Flag.SOON, "my-site")]),
    "nothing of one that expires later": ((base(expires=NOW + 14 * DAY),), []),
    "a stale one": ((base(changed=OLD),), [(Flag.STALE, "my-site")]),
    "nothing of one that is not yet": ((base(changed=NOW - 90 * DAY),), []),
    "an override of its own age": ((base(), override(base(), changed=OLD)), [(Flag.STALE, "my-site.dev")]),
    "a type that no build gets": ((base(kind=SecretType.RUNTIME),), [(Flag.UNUSED, "my-site")]),
    "a scope that no build has": ((base(scopes=WEB),), [(Flag.UNUSED, "my-site")]),
    "an override where nothing is built": (
        (base(), override(base(), environment="live")),
        [(Flag.UNUSED, "my-site.live")],
    ),
    "an inert override, and nothing else of it": (
        (override(None, changed=OLD, expires=1),),
        [(Flag.INERT, "my-site.dev")],
    ),
    "two things of one": (
        (base(changed=OLD, expires=NOW - 1),),
        [(Flag.EXPIRED, "my-site"), (Flag.STALE, "my-site")],
    ),
}


@pytest.mark.parametrize(("items", "expected"), OF_A_SITE.values(), ids=OF_A_SITE)
def test_what_needs_attention_is_reported(
    items: tuple[Secret | Override, ...], expected: list[tuple[Flag, str]]
) -> None:
    assert found(report_site(SITE, (hold(OWN, *items), hold(ORG)), LIMITS)) == expected


def test_what_a_site_inherits_is_reported_with_the_organization_alone() -> None:
    held = hold(ORG, base(ORG, changed=OLD, expires=NOW - 1))
    report = report_site(SITE, (hold(OWN), held), LIMITS)
    assert [entry.row.name for entry in report.entries] == ["KEY"]
    assert found(report) == []
    usage = Usage()
    usage.add(report)
    assert found(report_organization(held, usage, LIMITS)) == [(Flag.EXPIRED, "org:agency"), (Flag.STALE, "org:agency")]


def test_a_site_shadows_with_a_value_of_its_own_and_not_with_an_override() -> None:
    org = base(ORG)
    shadowed = report_site(SITE, (hold(OWN, base()), hold(ORG, org, override(org, ORG))), LIMITS)
    assert found(shadowed) == [(Flag.SHADOWED, "org:agency")]
    assert found(report_site(SITE, (hold(OWN, override(org)), hold(ORG, org)), LIMITS)) == []
    assert found(report_site(SITE, (hold(OWN, base()), hold(ORG, base(ORG, WEB))), LIMITS)) == []


@pytest.mark.parametrize(
    ("sites", "expected", "used"),
    [
        ([], [(Flag.UNUSED, "org:agency"), (Flag.UNUSED, "org:agency.dev")], 0),
        ([hold(OWN)], [], 1),
        ([hold(OWN, base())], [(Flag.UNUSED, "org:agency"), (Flag.UNUSED, "org:agency.dev")], 0),
        ([hold(OWN, base()), hold(OWN)], [], 1),
        ([hold(OWN, override(base(ORG)))], [(Flag.UNUSED, "org:agency.dev")], 1),
    ],
    ids=["no site", "a site", "a site with its own", "one of two sites with its own", "a site with an override"],
)
def test_an_organizations_secret_is_unused_where_no_site_gets_it(
    sites: list[Holdings], expected: list[tuple[Flag, str]], used: int
) -> None:
    org = base(ORG)
    held = hold(ORG, org, override(org, ORG))
    usage = Usage()
    for site in sites:
        usage.add(report_site(SITE, (site, held), LIMITS))
    report = report_organization(held, usage, LIMITS)
    assert found(report) == expected
    assert (report.sites, [entry.sites for entry in report.entries]) == (len(sites), [used])
