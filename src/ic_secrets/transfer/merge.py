"""Sets of secrets on their way between stores and files, and the changes that bring one into a store.

A format of files gives a `SecretSet`, and so does any store. `plan_changes` finds what it takes to have it in a
store, by the rules of the model; `import_secrets` does that in one transaction.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TypeVar

from ..composer import parse_credential
from ..composer.methods import check_name
from ..core.records import NamedTuple
from ..errors import IcSecretsError, UnknownSiteError
from ..model.names import check_site_name
from ..model.resolve import Holdings, check_base, choose_hosts, find_base
from ..model.secret import Hosts, Override, Owner, Secret, SecretType, SecretValue, Site
from ..model.variables import check_variable
from ..stores import Place, Store, Write

Item = TypeVar("Item", Secret, Override)
Check = Callable[[SecretType, str, SecretValue], None]


def accept_any(kind: SecretType, name: str, value: SecretValue) -> None:
    """Accept any value: it was checked when it was set."""


class SecretSet(NamedTuple):
    """What was read from a store or a file, and may be brought into a store.

    `sites` are those whose organizations are known. `holdings` have values; their ids say only which override belongs
    to which base. `inherited` are holdings of organizations, without values, that are not brought along but which
    overrides of the sites belong to. In a set that `is_partial` a value without an expiry keeps that of the store, and
    one without hosts keeps those; the latter also in one that comes from where no hosts are kept.
    """

    sites: tuple[Site, ...]
    holdings: tuple[Holdings, ...]
    inherited: tuple[Holdings, ...] = ()
    is_partial: bool = False
    has_hosts: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its secrets, each once, in order."""
        names = {secret.name for held in self.holdings for secret in held.secrets}
        names |= {override.name for held in self.holdings for override in held.overrides}
        return tuple(sorted(names))

    def select(self, names: frozenset[str]) -> SecretSet:
        """Return the set with the secrets of these names alone, and their overrides."""

        def choose(held: Holdings) -> Holdings:
            secrets = tuple(secret for secret in held.secrets if secret.name in names)
            return Holdings(held.owner, secrets, tuple(one for one in held.overrides if one.name in names))

        return self._replace(holdings=tuple(map(choose, self.holdings)))


class Action(enum.Enum):
    """What becomes of one definition in a store."""

    MADE = "made"
    CHANGED = "changed"
    SAME = "same"
    REFUSED = "refused"


class Change(NamedTuple):
    """A site, base or override of a set, and what becomes of it; the reason where it is refused.

    The `note` says what people must know: a site's old and new primary organization, a secret's hosts. It `is_blind`
    where the store does not give the value that it has, so that nobody knows whether it is another. Where it is the
    first of its owner, that `is_new_owner`.
    """

    action: Action
    item: Site | Secret | Override
    reason: str = ""
    note: str = ""
    is_blind: bool = False
    is_new_owner: bool = False

    @property
    def owner(self) -> Owner:
        """The site itself, or the owner of the secret."""
        return Owner("site", self.item.name) if isinstance(self.item, Site) else self.item.owner

    @property
    def environment(self) -> str | None:
        """The environment of an override."""
        return self.item.environment if isinstance(self.item, Override) else None

    @property
    def name(self) -> str | None:
        """The name of a secret."""
        return None if isinstance(self.item, Site) else self.item.name

    def __str__(self) -> str:
        if self.name is None:
            return f"the site {self.owner}"
        where = f"{self.owner}.{self.environment}" if self.environment else self.owner
        return f"{where} {self.name}"


def read_secrets(store: Store, owners: Iterable[Owner]) -> SecretSet:
    """Read what these owners hold, all at one moment; UnknownSiteError."""
    with store.snapshot():
        owners = tuple(owners)
        sites = tuple(store.site(owner.name) for owner in owners if owner.is_site)
        holdings = tuple(store.read(owner) for owner in owners)
        overriding = {held.owner.name for held in holdings if not _own_all(held)}
        wanted = [Owner("organization", s.organization) for s in sites if s.organization and s.name in overriding]
        inherited = [store.read(owner, values=False) for owner in dict.fromkeys(wanted) if owner not in owners]
    known = sites if store.has_organizations else ()
    return SecretSet(known, holdings, tuple(inherited), has_hosts=store.has_hosts)


def add_organizations(store: Store, owners: Sequence[Owner]) -> tuple[Owner, ...]:
    """Return the owners, then the primary organizations of the sites among them; UnknownSiteError."""
    primaries = [store.site(owner.name).organization for owner in owners if owner.is_site]
    return tuple(dict.fromkeys([*owners, *(Owner.organization(name) for name in primaries if name)]))


def check_value(kind: SecretType, name: str, value: SecretValue, allowed: Collection[str] = ()) -> None:
    """Refuse what no build could use: InvalidNameError, InvalidValueError (rules 10 and 11).

    `allowed` are reserved names that a person allows for `env` secrets.
    """
    check_name(kind, name)
    if kind is SecretType.COMPOSER:
        parse_credential(name, value)
    elif kind is SecretType.ENV:
        check_variable(name, value.reveal(), allowed)


def plan_changes(
    store: Store, secret_set: SecretSet, *, relink: bool = True, check: Check = accept_any
) -> tuple[Change, ...]:
    """Find what becomes of each definition of the set, in the order in which the changes can be made.

    Nothing is written. What the store holds beside the set stays, and is not named. Times alone make no difference.
    Without `relink` an existing site keeps its primary organization. What `check` raises for a value refuses it.
    """
    with store.snapshot():
        return tuple(_Merge(store, secret_set, relink=relink, check=check).changes())


def import_secrets(
    store: Store, secret_set: SecretSet, *, skip_refused: bool = False, relink: bool = True, check: Check = accept_any
) -> tuple[Change, ...]:
    """Bring the set in, in one transaction: all of it, or nothing where anything is refused.

    With `skip_refused` the rest is brought in. Returns the changes, as `plan_changes` does.
    """
    with store.transaction():
        changes = tuple(_Merge(store, secret_set, relink=relink, check=check).changes())
        if skip_refused or not is_refused(changes):
            for change in changes:
                if change.action in {Action.MADE, Action.CHANGED}:
                    _apply(store, change.item)
    return changes


def list_written(changes: Iterable[Change]) -> tuple[str, ...]:
    """List the names of the secrets that the changes write, each once, in order."""
    written = {Action.MADE, Action.CHANGED}
    return tuple(sorted({c.name for c in changes if c.name is not None and c.action in written}))


def list_made_owners(changes: Iterable[Change]) -> tuple[Owner, ...]:
    """List the sites and organizations that the changes make, in order."""
    return tuple(change.owner for change in changes if change.is_new_owner)


def is_refused(changes: Iterable[Change]) -> bool:
    """Return whether any of the changes cannot be made."""
    return any(change.action is Action.REFUSED for change in changes)


def count_actions(changes: Iterable[Change]) -> dict[str, int]:
    """Count how many of them are made, changed, same and refused."""
    counted = Counter(change.action for change in changes)
    return {action.value: counted[action] for action in Action}


def count_kinds(changes: Iterable[Change]) -> Counter[tuple[Action, bool]]:
    """Count them by what becomes of them, and whether they are sites rather than values."""
    return Counter((change.action, change.name is None) for change in changes)


class _Merge:
    """What the store would hold as the changes are made, one after the other."""

    def __init__(self, store: Store, secret_set: SecretSet, *, relink: bool, check: Check) -> None:
        self._store = store
        self._check = check
        self._secret_set = secret_set
        self._relink = relink
        self._sites: dict[str, Site] = {}
        self._held: dict[Owner, _Held] = {}
        self._inheritable = {  # by organization, the ids of what may be overridden
            held.owner.name: frozenset(secret.id for secret in held.secrets)
            for held in (*secret_set.inherited, *secret_set.holdings)
            if not held.owner.is_site
        }

    def changes(self) -> Iterator[Change]:
        """Organizations, then sites; of those first the overrides of what they inherit: a base would take them over."""
        linked = {site.name: site for site in self._secret_set.sites}
        for held in sorted(self._secret_set.holdings, key=lambda held: (held.owner.is_site, held.owner.name)):
            if held.owner.is_site:
                yield self._plan_site(linked.get(held.owner.name), held.owner.name)
            own = {secret.id for secret in held.secrets}
            site = linked.get(held.owner.name) if held.owner.is_site else None
            foreign = [override for override in held.overrides if override.base not in own]
            if foreign:
                inheritable = self._inheritable.get(site.organization or "", frozenset()) if site else frozenset()
                for override in foreign:
                    if site is None:
                        yield Change(
                            Action.REFUSED,
                            override,
                            "it overrides a secret of an unknown organization",
                        )
                    else:
                        yield self._plan_override(override, own=False, live=override.base in inheritable)
            for secret in held.secrets:
                yield self._plan_base(secret)
            for override in held.overrides:
                if override.base in own:
                    yield self._plan_override(override, own=True, live=True)

    def _plan_site(self, wanted: Site | None, name: str) -> Change:
        try:
            before = self._store.site(name)
        except UnknownSiteError:
            before = None
        if self._store.only_site or not self._store.has_organizations:
            known = before or Site(name)
            self._sites[name] = known
            return Change(Action.SAME, known) if before else Change(Action.REFUSED, known, "the store has no such site")
        self._sites[name] = after = wanted or before or Site(name)
        try:
            for organization in (after.organization, *after.supporting):
                if organization is not None:
                    check_site_name(organization, "organization")
        except IcSecretsError as error:
            return Change(Action.REFUSED, after, str(error))
        if before is None:
            return Change(Action.MADE, after, is_new_owner=True)
        if before.organization == after.organization:
            return Change(Action.SAME if before == after else Action.CHANGED, after)
        old, new = before.organization or "none", after.organization or "none"
        if not self._relink:
            self._sites[name] = before
            reason = f"it would change its primary organization from {old} to {new}"
            return Change(Action.REFUSED, after, reason)
        return Change(Action.CHANGED, after, note=f"primary organization: {old} → {new}")

    def _plan_base(self, secret: Secret) -> Change:
        held = self._holding(secret.owner)
        own = held.named(secret.name)
        old = held.secrets.get(secret.name)
        try:
            inherited = (
                self._inherited(secret.owner, secret.name) if own.overrides and not old else Holdings(secret.owner)
            )
            check_base(secret.name, (own, inherited), secret.type, secret.scopes)
            check_name(secret.type, secret.name)
            secret = secret._replace(hosts=choose_hosts(secret.type, secret.hosts, None))
            self._store.check_supported(secret)
            if secret.value is not None:
                self._check(secret.type, secret.name, secret.value)
        except IcSecretsError as error:
            return Change(Action.REFUSED, secret, str(error))
        if self._secret_set.is_partial:
            secret = _keep_expiry(secret, old)
        if old and not secret.hosts and (self._secret_set.is_partial or not self._secret_set.has_hosts):
            secret = secret._replace(hosts=old.hosts)
        change = _judge(secret, old)
        if change.action is not Action.REFUSED:
            change = change._replace(is_new_owner=not (secret.owner.is_site or held.secrets or held.overrides))
            held.secrets[secret.name] = secret._replace(id=old.id if old else f"new {secret.owner} {secret.name}")
        return change

    def _plan_override(self, override: Override, *, own: bool, live: bool) -> Change:
        if not live:
            return Change(Action.REFUSED, override, "the secret it overrode is gone")
        held = self._holding(override.owner)
        mine = held.named(override.name)
        chain = (mine,) if own else (mine._replace(secrets=()), self._inherited(override.owner, override.name))
        try:
            base = find_base(override.environment, override.name, chain, override.type, override.scopes)
            self._store.check_supported(override)
            if override.value is not None:
                self._check(override.type, override.name, override.value)
        except IcSecretsError as error:
            return Change(Action.REFUSED, override, str(error))
        old = held.overrides.get(override.name, {}).get(override.environment)
        if self._secret_set.is_partial:
            override = _keep_expiry(override, old)
        change = _judge(override, old)
        if old and old.base != base.id and change.action is Action.SAME:
            change = change._replace(action=Action.CHANGED)
        if change.action in {Action.MADE, Action.CHANGED}:
            is_kept = old is not None and old.base == base.id
            if mine.secrets and not own and not is_kept:  # a store would take it for an override of that one
                reason = f"it belongs to the secret of {base.owner}, but {override.owner} has one of that name already"
                return Change(Action.REFUSED, override, reason)
            theirs = self._inherited(override.owner, override.name) if old and own and not is_kept else None
            if old and theirs and old.base in {secret.id for secret in theirs.secrets}:  # a store would leave it there
                reason = f"the one that is there belongs to the secret of {theirs.owner}: delete it first"
                return Change(Action.REFUSED, override, reason)
            held.overrides.setdefault(override.name, {})[override.environment] = override._replace(base=base.id)
        return change

    def _holding(self, owner: Owner, *, values: bool = True) -> _Held:
        if owner not in self._held:
            self._held[owner] = _Held(self._store.read(owner, values=values))
        return self._held[owner]

    def _inherited(self, owner: Owner, name: str) -> Holdings:
        """Return what the primary organization that the owner has, or will have, holds under the name."""
        site = self._sites.get(owner.name) if owner.is_site else None
        if site is None or site.organization is None:
            return Holdings(owner)
        return self._holding(Owner("organization", site.organization), values=False).named(name)


class _Held:
    """What one owner holds, by name, and overrides then by environment."""

    def __init__(self, holdings: Holdings) -> None:
        self.owner = holdings.owner
        self.secrets = {secret.name: secret for secret in holdings.secrets}
        self.overrides: dict[str, dict[str, Override]] = {}
        for override in holdings.overrides:
            self.overrides.setdefault(override.name, {})[override.environment] = override

    def named(self, name: str) -> Holdings:
        """Return what has the name."""
        secret = self.secrets.get(name)
        return Holdings(self.owner, (secret,) if secret else (), tuple(self.overrides.get(name, {}).values()))


def _own_all(held: Holdings) -> bool:
    """Return whether each override belongs to a base of the same owner."""
    own = {secret.id for secret in held.secrets}
    return all(override.base in own for override in held.overrides)


def _keep_expiry(item: Item, old: Secret | Override | None) -> Item:
    """Return the item with the expiry of the old one, if that has the same value and the item has no expiry."""
    if old is None or item.expires is not None or item.value is None or item.value != old.value:
        return item
    return item._replace(expires=old.expires)


def _judge(item: Secret | Override, old: Secret | Override | None) -> Change:
    if item.value is None:
        return Change(Action.REFUSED, item, "it has no value")
    if old is None:
        return Change(Action.MADE, item)
    same = (old.value, old.expires, _get_hosts(old)) == (item.value, item.expires, _get_hosts(item))
    before, after = (", ".join(_get_hosts(each)) or "none" for each in (old, item))
    note = f"hosts: {before} → {after}" if before != after else ""
    return Change(Action.SAME if same else Action.CHANGED, item, note=note, is_blind=old.value is None)


def _get_hosts(item: Secret | Override) -> Hosts:
    """Return the hosts of a base; an override is bound as its base is."""
    return item.hosts if isinstance(item, Secret) else ()


def _apply(store: Store, item: Site | Secret | Override) -> None:
    if isinstance(item, Site):
        store.set_site(item)
        return
    assert item.value is not None
    times = (item.created, item.changed)
    write = Write(item.value, type=item.type, scopes=item.scopes, expires=item.expires, times=times)
    if isinstance(item, Secret):
        store.put(Place(item.owner, None, item.name), write._replace(hosts=item.hosts))
    else:
        store.put(Place(item.owner, item.environment, item.name), write)
