"""The differences between two stores, without values.

A difference holds neither a value nor a hash or length of one. Versions, and when something was set, make no
difference: they are each store's own.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

from ..core.records import NamedTuple
from ..errors import UnknownSiteError
from ..model import Holdings
from ..model.secret import Override, Owner, Secret, Site, format_scopes
from ..stores import Store
from .merge import Action, SecretSet, add_organizations, count_actions, plan_changes, read_secrets

Key = tuple[str, str | None]
Fact = str | int | None


class Drift(enum.Enum):
    """How a definition or a site differs between two stores, A and B."""

    ONLY_IN_A = "only in A"
    ONLY_IN_B = "only in B"
    DIFFERING = "differing"
    UNKNOWN = "unknown"  # a store gives no value back, and nothing else differs
    SAME = "same"


class Aspect(NamedTuple):
    """One thing in which a definition differs, as it is in A and in B; never the value itself.

    `is_known` is False for a value that a store does not give back.
    """

    what: str
    a: Fact = None
    b: Fact = None
    is_known: bool = True


class Difference(NamedTuple):
    """A site (no name), base (no environment) or override, and how it differs.

    `is_inert` says of an override that only one store has that its base is gone there.
    """

    owner: Owner
    environment: str | None
    name: str | None
    drift: Drift
    aspects: tuple[Aspect, ...] = ()
    is_inert: bool = False


class CopyForecast(NamedTuple):
    """How many definitions copying would make, change and refuse."""

    made: int = 0
    changed: int = 0
    refused: int = 0


def read_owner(store: Store, owner: Owner) -> SecretSet:
    """Read what the store holds of the owner; nothing where it does not know the owner."""
    try:
        return read_secrets(store, [owner])
    except UnknownSiteError:
        return SecretSet((), (Holdings(owner),))


def compare(owner: Owner, a: SecretSet, b: SecretSet, *, know_organizations: bool = True) -> tuple[Difference, ...]:
    """Compare each thing of the owner: the site first, then by name, the base before its overrides.

    Unless both stores `know_organizations`, neither those nor the owners of bases are compared.
    """
    site = (
        [_compare_sites(owner, a.sites, b.sites)]
        if know_organizations and owner.is_site and (a.sites or b.sites)
        else []
    )
    mine, others = _index(a), _index(b)
    keys = sorted({*mine, *others}, key=lambda key: (key[0], key[1] or ""))
    return (*site, *(_compare_items(owner, key, mine.get(key), others.get(key), know_organizations) for key in keys))


def forecast_copy(a: Store, b: Store, owner: Owner) -> CopyForecast:
    """Count what copying the owner from A to B would do, after its organization was copied. Writes nothing."""
    try:
        secret_set = read_secrets(a, [owner])
        if secret_set.inherited:
            secret_set = read_secrets(a, add_organizations(a, [owner]))
    except UnknownSiteError:
        return CopyForecast()
    counts = count_actions(change for change in plan_changes(b, secret_set) if change.owner == owner)
    return CopyForecast(*(counts[action.value] for action in (Action.MADE, Action.CHANGED, Action.REFUSED)))


class _Item(NamedTuple):
    """A definition, and the owner of its base: None where that is gone."""

    item: Secret | Override
    base: str | None

    @property
    def is_inert(self) -> bool:
        return self.base is None


def _index(secret_set: SecretSet) -> dict[Key, _Item]:
    """Return the definitions of the only owner in the set, by name and environment."""
    (held,) = secret_set.holdings
    linked = next((site.organization for site in secret_set.sites), None)
    organizations = [each for each in secret_set.inherited if each.owner.name == linked]
    bases = {secret.id: str(each.owner) for each in (*organizations, held) for secret in each.secrets}
    found: dict[Key, _Item] = {(each.name, None): _Item(each, str(held.owner)) for each in held.secrets}
    for override in held.overrides:
        found[override.name, override.environment] = _Item(override, bases.get(override.base))
    return found


def _compare_sites(owner: Owner, a: Iterable[Site], b: Iterable[Site]) -> Difference:
    one, other = next(iter(a), None), next(iter(b), None)
    if one is None or other is None:
        return Difference(owner, None, None, Drift.ONLY_IN_B if one is None else Drift.ONLY_IN_A)
    facts = (
        ("organization", one.organization, other.organization),
        ("supporting", ",".join(sorted(one.supporting)) or None, ",".join(sorted(other.supporting)) or None),
    )
    aspects = tuple(Aspect(*fact) for fact in facts if fact[1] != fact[2])
    return Difference(owner, None, None, Drift.DIFFERING if aspects else Drift.SAME, aspects)


def _compare_items(owner: Owner, key: Key, a: _Item | None, b: _Item | None, know_organizations: bool) -> Difference:
    name, environment = key
    if a is None or b is None:
        only = a or b
        drift = Drift.ONLY_IN_B if a is None else Drift.ONLY_IN_A
        return Difference(owner, environment, name, drift, is_inert=bool(know_organizations and only and only.is_inert))
    aspects = tuple(each for each in _find_aspects(a, b) if know_organizations or each.what != "base")
    drift = Drift.DIFFERING if any(each.is_known for each in aspects) else Drift.UNKNOWN if aspects else Drift.SAME
    return Difference(owner, environment, name, drift, aspects)


def _find_aspects(a: _Item, b: _Item) -> Iterable[Aspect]:
    one, other = a.item, b.item
    if one.value is None or other.value is None:
        yield Aspect("value", is_known=False)
    elif one.value != other.value:
        yield Aspect("value")
    facts: tuple[tuple[str, Fact, Fact], ...] = (
        ("type", one.type.value, other.type.value),
        ("scopes", format_scopes(one.scopes), format_scopes(other.scopes)),
        ("hosts", _format_hosts(one), _format_hosts(other)),
        ("expires", one.expires, other.expires),
        ("base", a.base, b.base),
    )
    yield from (Aspect(*fact) for fact in facts if fact[1] != fact[2])


def _format_hosts(item: Secret | Override) -> str | None:
    return ",".join(item.hosts) or None if isinstance(item, Secret) else None
