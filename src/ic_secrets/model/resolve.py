"""Which value a build gets, and why (rules 3, 5, 6, 7 and 8), the same for every store. Pure.

`trace` decides; `resolve` and all that explains a result only read its verdicts, so that they always agree.
"""

import enum
from collections.abc import Mapping, Sequence

from ..core.records import NamedTuple
from ..errors import BaseMissingError, ImmutableError, UndefinedSecretError
from .secret import Hosts, Override, Owner, Scope, Scopes, Secret, SecretType, SecretValue, format_scopes


class Holdings(NamedTuple):
    """What one owner holds, as its store has verified it."""

    owner: Owner
    secrets: tuple[Secret, ...] = ()
    overrides: tuple[Override, ...] = ()


class Verdict(enum.Enum):
    """The result for one definition of a name."""

    WON = "won"
    OVERRIDDEN = "overridden"  # by its own owner's override for the environment
    SHADOWED = "shadowed"  # an organization's, by the site's
    OUT_OF_SCOPE = "out of scope"
    OTHER_ENVIRONMENT = "other environment"
    INERT = "inert"  # an override whose base is gone


class Definition(NamedTuple):
    """One value that a name has somewhere in the chain; the `environment` of a base is None.

    The `hosts` of an override are those of its base; an inert one has none.
    """

    owner: Owner
    environment: str | None
    name: str
    type: SecretType
    scopes: Scopes
    value: SecretValue | None
    version: int
    created: int
    changed: int
    expires: int | None
    verdict: Verdict
    hosts: Hosts = ()

    @property
    def source(self) -> str:
        """Where it is defined, as on the command line: `org:agency`, `my-site.dev`."""
        return f"{self.owner}.{self.environment}" if self.environment else str(self.owner)


def trace(environment: str | None, scope: Scope, chain: Sequence[Holdings]) -> dict[str, tuple[Definition, ...]]:
    """Return every definition of every name in order, the weakest first, each with its verdict.

    `chain` is what the site holds, then what its primary organization holds, if it has one. Without an `environment`
    only bases count. For each owner the scope is applied first, then the override for the environment replaces the
    base; then the site beats the organization (rule 7).
    """
    live = {secret.id: secret for holdings in chain for secret in holdings.secrets}
    traced: dict[str, list[Definition]] = {}
    taken: set[str] = set()
    for holdings in chain:
        items: tuple[Secret | Override, ...] = (*holdings.overrides, *holdings.secrets)
        definitions = [_judge(item, environment, scope, live) for item in items]
        won_here: set[str] = set()
        for definition in definitions:
            if definition.verdict is Verdict.WON:
                if definition.name in won_here:
                    definition = definition._replace(verdict=Verdict.OVERRIDDEN)
                elif definition.name in taken:
                    won_here.add(definition.name)
                    definition = definition._replace(verdict=Verdict.SHADOWED)
                else:
                    won_here.add(definition.name)
            traced.setdefault(definition.name, []).append(definition)
        taken |= won_here
    return {name: tuple(reversed(traced[name])) for name in sorted(traced)}


def resolve(environment: str | None, scope: Scope, chain: Sequence[Holdings]) -> tuple[Definition, ...]:
    """Return the definition that wins for each name, in the order of the names."""
    traced = trace(environment, scope, chain)
    return tuple(d for definitions in traced.values() for d in definitions if d.verdict is Verdict.WON)


def inert_overrides(chain: Sequence[Holdings]) -> tuple[Override, ...]:
    """Return the first owner's overrides whose base is gone: they are reported, never applied (rule 6)."""
    live = {secret.id for holdings in chain for secret in holdings.secrets}
    return tuple(override for override in chain[0].overrides if override.base not in live)


def check_base(
    name: str,
    chain: Sequence[Holdings],
    kind: SecretType | None,
    scopes: Scopes | None,
) -> tuple[SecretType, Scopes]:
    """Return the type and scopes of a base that is about to be written on `chain[0].owner`.

    An existing secret keeps its own (rule 3); ImmutableError if others are named. A new one must have both, or
    UndefinedSecretError, and must agree with the live overrides of that name (rule 6).
    """
    owner = chain[0].owner
    existing = next((secret for secret in chain[0].secrets if secret.name == name), None)
    if existing is None:
        live = {secret.id for holdings in chain for secret in holdings.secrets}
        joined = [o for o in chain[0].overrides if o.name == name and o.base in live]
        if kind is None or scopes is None:
            raise UndefinedSecretError(f"{owner} has no secret {name} yet, so its type and scopes are unknown")
        for override in joined:
            _check_same(f"the override {owner}.{override.environment} {name}", override, kind, scopes)
        return kind, scopes
    _check_same(f"{owner} {name}", existing, kind, scopes)
    return existing.type, existing.scopes


def find_base(
    environment: str,
    name: str,
    chain: Sequence[Holdings],
    kind: SecretType | None,
    scopes: Scopes | None,
    hosts: Hosts | None = None,
) -> Secret:
    """Return the base that an override on `chain[0].owner` would belong to (rule 6).

    An override that is there already stays with its base, while that lives. Else it is the owner's own, else, for a
    site, that of its primary organization. BaseMissingError if there is none, ImmutableError if another type, other
    scopes or other hosts than those of the base are named.
    """
    bound = {
        override.base for override in chain[0].overrides if (override.environment, override.name) == (environment, name)
    }
    bases = [secret for holdings in chain for secret in holdings.secrets if secret.name == name]
    if not bases:
        raise BaseMissingError(f"there is no secret {name} that {chain[0].owner}.{environment} could override")
    base = next((secret for secret in bases if secret.id in bound), bases[0])
    _check_same(f"{base.owner} {name}", base, kind, scopes)
    if hosts is not None and hosts != base.hosts:
        from .hosts import format_hosts

        raise ImmutableError(
            f"{base.owner} {name} is bound to {format_hosts(base.hosts) or 'no host'}; its overrides follow it",
            hint=f"`ic-secrets set {base.owner} {name} --hosts H[,H...]` changes its hosts",
        )
    return base


def choose_hosts(kind: SecretType, hosts: Hosts | None, old: Secret | None) -> Hosts:
    """Return the hosts of a base that is about to be written: those that are named (None: none are), else its own.

    InvalidHostError where it cannot be bound to them.
    """
    if hosts is None:
        return old.hosts if old else ()
    from .hosts import check_hosts

    return check_hosts(kind, hosts)


def _judge(item: Secret | Override, environment: str | None, scope: Scope, live: Mapping[str, Secret]) -> Definition:
    """Return the definition with its verdict before it is compared with others: WON may still change."""
    verdict = Verdict.WON
    where = None
    base = item if isinstance(item, Secret) else live.get(item.base)
    if isinstance(item, Override):
        where = item.environment
        if base is None:
            verdict = Verdict.INERT
        elif where != environment:
            verdict = Verdict.OTHER_ENVIRONMENT
    if verdict is Verdict.WON and scope not in item.scopes:
        verdict = Verdict.OUT_OF_SCOPE
    return Definition(
        owner=item.owner,
        environment=where,
        name=item.name,
        type=item.type,
        scopes=item.scopes,
        value=item.value,
        version=item.version,
        created=item.created,
        changed=item.changed,
        expires=item.expires,
        verdict=verdict,
        hosts=base.hosts if base else (),
    )


def _check_same(what: str, item: Secret | Override, kind: SecretType | None, scopes: Scopes | None) -> None:
    if kind is not None and kind is not item.type:
        raise ImmutableError(f"{what} has the type {item.type.value}, not {kind.value}")
    if scopes is not None and scopes != item.scopes:
        raise ImmutableError(f"{what} has the scopes {format_scopes(item.scopes)}, not {format_scopes(scopes)}")
