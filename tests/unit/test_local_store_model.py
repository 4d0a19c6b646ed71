"""The embedded store against a plain dict: whatever is done, in whatever order, both say the same."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ic_secrets.errors import (
    BaseMissingError,
    IcSecretsError,
    ImmutableError,
    InvalidHostError,
    UndefinedSecretError,
    UnknownSecretError,
    UnknownSiteError,
)
from ic_secrets.model.secret import MAX_TIME, Hosts, Override, Owner, Scope, Scopes, SecretType, SecretValue, Site
from ic_secrets.stores.base import Place, Write
from ic_secrets.stores.embedded import session, store as local
from ic_secrets.stores.embedded.repair import check
from local_stores import KEY, memory_directory

SITES = ("a", "b")
ORGANIZATIONS = ("a", "o")
OWNERS = [Owner("site", name) for name in SITES] + [Owner("organization", name) for name in ORGANIZATIONS]
NAMES = ("K", "L")
ENVIRONMENTS = ("dev", "live")
KINDS = (SecretType.ENV, SecretType.RUNTIME)
SCOPES = (frozenset({Scope.IC}), frozenset({Scope.IC, Scope.USER}))


@dataclass
class Entry:
    """One value of the model; `base` is the number of the base that it is, or belongs to."""

    base: int
    kind: SecretType
    scopes: Scopes
    text: str
    version: int = 1
    expires: int | None = None
    hosts: Hosts = ()


@dataclass
class Model:
    """The rules once more, as plainly as they can be said."""

    sites: dict[str, Site] = field(default_factory=dict)
    entries: dict[tuple[Owner, str | None, str], Entry] = field(default_factory=dict)

    def copy(self) -> Model:
        return Model(dict(self.sites), {key: Entry(**vars(entry)) for key, entry in self.entries.items()})

    def inherited(self, owner: Owner, name: str) -> Entry | None:
        site = self.sites.get(owner.name) if owner.is_site else None
        if site is None or site.organization is None:
            return None
        return self.entries.get((Owner("organization", site.organization), None, name))

    def put_base(self, owner: Owner, name: str, new: Entry, kind: SecretType | None, scopes: Scopes | None) -> bool:
        old = self.entries.get((owner, None, name))
        if old is None:
            if kind is None or scopes is None:
                raise UndefinedSecretError("")
            inherited = self.inherited(owner, name)
            beside = [e for (o, _, n), e in self.entries.items() if (o, n) == (owner, name)]
            live = [entry for entry in beside if inherited is not None and entry.base == inherited.base]
            if any((entry.kind, entry.scopes) != (kind, scopes) for entry in live):
                raise ImmutableError("")
            new.kind, new.scopes = kind, scopes
        else:
            self.check_same(old, kind, scopes)
            new.base, new.kind, new.scopes, new.version = old.base, old.kind, old.scopes, old.version + 1
            new.hosts = old.hosts
        self.entries[owner, None, name] = new
        if owner.is_site:
            self.sites.setdefault(owner.name, Site(owner.name))
        return old is None

    def put_override(
        self, owner: Owner, environment: str, name: str, new: Entry, kind: SecretType | None, scopes: Scopes | None
    ) -> bool:
        bases = [self.entries.get((owner, None, name)), self.inherited(owner, name)]
        old = self.entries.get((owner, environment, name))
        base = next((one for one in bases if one and old and one.base == old.base), bases[0] or bases[1])
        if base is None:
            raise BaseMissingError("")
        self.check_same(base, kind, scopes)
        new.base, new.kind, new.scopes = base.base, base.kind, base.scopes
        new.version = old.version + 1 if old else 1
        self.entries[owner, environment, name] = new
        return old is None

    def bind(self, owner: Owner, name: str, hosts: Hosts) -> None:
        base = self.entries.get((owner, None, name))
        if base is None:
            raise UnknownSecretError("")
        if hosts and base.kind is not SecretType.ENV:
            raise InvalidHostError("")
        base.hosts = hosts

    def delete(self, owner: Owner, environment: str | None, name: str) -> int:
        base = self.entries.get((owner, None, name))
        gone = [k for k in self.entries if k[0] == owner and k[2] == name and environment in (None, k[1])]
        if base and environment is None:
            gone = [key for key in gone if self.entries[key].base == base.base]
        if not gone:
            raise UnknownSecretError("")
        for key in gone:
            del self.entries[key]
        return len(gone)

    def delete_site(self, name: str) -> int:
        if name not in self.sites:
            raise UnknownSiteError("")
        del self.sites[name]
        gone = [key for key in self.entries if key[0] == Owner("site", name)]
        for key in gone:
            del self.entries[key]
        return len(gone)

    @staticmethod
    def check_same(entry: Entry, kind: SecretType | None, scopes: Scopes | None) -> None:
        if kind not in (None, entry.kind) or scopes not in (None, entry.scopes):
            raise ImmutableError("")


class LocalStoreMachine(RuleBasedStateMachine):
    """Drives both; after each step they hold the same, and every refusal is the same."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.model = Model()
        self.numbers = itertools.count()
        self.bases: dict[str, int] = {}  # the store's random ids of bases, and the model's
        self.saved: Model | None = None  # the model before the running transaction
        self.generation = 1

    @initialize(max_rows=st.sampled_from([1, 3, session._MAX_ROWS]))
    def make(self, max_rows: int) -> None:
        """With a bulk so small that what was read for it is forgotten and read again, too."""
        patch = self.stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(session, "_MAX_ROWS", max_rows)
        directory = self.stack.enter_context(memory_directory())
        self.path = str(directory / "store.db")
        self.store = local.create(self.path, KEY)

    def teardown(self) -> None:
        with contextlib.suppress(IcSecretsError, AttributeError):
            self.store.close()
        self.stack.close()

    owners = st.sampled_from(OWNERS)
    names = st.sampled_from(NAMES)
    environments = st.sampled_from(ENVIRONMENTS)
    kinds = st.none() | st.sampled_from(KINDS)
    scopes = st.none() | st.sampled_from(SCOPES)
    texts = st.text(max_size=8)
    expiries = st.none() | st.integers(0, MAX_TIME - 1)
    organizations = st.none() | st.sampled_from(ORGANIZATIONS)

    @rule(name=st.sampled_from(SITES), organization=organizations, supporting=st.sampled_from([(), ("o",), ("o", "a")]))
    def set_site(self, name: str, organization: str | None, supporting: tuple[str, ...]) -> None:
        self.store.set_site(Site(name, organization, supporting))
        self.model.sites[name] = Site(name, organization, supporting)
        self.count_write()

    @rule(name=st.sampled_from(SITES))
    def delete_site(self, name: str) -> None:
        self.same(lambda: self.store.delete_site(name), lambda: self.model.delete_site(name))

    @rule(owner=owners, name=names, kind=st.sampled_from(KINDS), scopes=st.sampled_from(SCOPES), text=texts)
    def put_new_base(self, owner: Owner, name: str, kind: SecretType, scopes: Scopes, text: str) -> None:
        self.put(owner, None, name, text, kind, scopes, None)

    @rule(owner=owners, name=names, kind=kinds, scopes=scopes, text=texts, expires=expiries)
    def put_base(
        self, owner: Owner, name: str, kind: SecretType | None, scopes: Scopes | None, text: str, expires: int | None
    ) -> None:
        self.put(owner, None, name, text, kind, scopes, expires)

    @rule(owner=owners, environment=environments, name=names, text=texts, expires=expiries)
    def put_override(self, owner: Owner, environment: str, name: str, text: str, expires: int | None) -> None:
        self.put(owner, environment, name, text, None, None, expires)

    @rule(owner=owners, environment=environments, name=names, kind=kinds, scopes=scopes)
    def put_named_override(
        self, owner: Owner, environment: str, name: str, kind: SecretType | None, scopes: Scopes | None
    ) -> None:
        self.put(owner, environment, name, "", kind, scopes, None)

    @rule(owner=owners, name=names, hosts=st.sampled_from([(), ("a.org",), ("a.org", "b.org:8443")]))
    def bind(self, owner: Owner, name: str, hosts: Hosts) -> None:
        self.same(lambda: self.store.bind(owner, name, hosts), lambda: self.model.bind(owner, name, hosts))

    @rule(owner=owners, environment=st.none() | environments, name=names)
    def delete(self, owner: Owner, environment: str | None, name: str) -> None:
        self.same(
            lambda: self.store.delete(Place(owner, environment, name)),
            lambda: self.model.delete(owner, environment, name),
        )

    @precondition(lambda self: self.saved is None)
    @rule(read_only=st.booleans())
    def reopen(self, read_only: bool) -> None:
        self.store.close()
        if read_only:
            with local.open_store(self.path, [KEY], read_only=True) as store:
                self.compare(store)
        self.store = local.open_store(self.path, [KEY])

    @precondition(lambda self: self.saved is None)
    @rule()
    def check(self) -> None:
        """All of it is verified, and there is as much as the model has."""
        report = check(self.path, [KEY], lambda done, total: None)
        overrides = sum(environment is not None for _, environment, _ in self.model.entries)
        assert report.fault == ""
        assert (report.sites, report.overrides) == (len(self.model.sites), overrides)
        assert report.secrets == len(self.model.entries) - overrides
        assert report.generation == self.generation

    @precondition(lambda self: self.saved is None)
    @rule()
    def begin(self) -> None:
        self.saved = self.model.copy()
        self.changed = False
        self.transaction = self.store.transaction()
        self.transaction.__enter__()

    @precondition(lambda self: self.saved is not None)
    @rule(fail=st.booleans())
    def end(self, fail: bool) -> None:
        if fail:
            self.transaction.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
            assert self.saved is not None
            self.model = self.saved
        else:
            self.transaction.__exit__(None, None, None)
            self.generation += self.changed
        self.saved = None

    @invariant()
    def say_the_same(self) -> None:
        if hasattr(self, "store"):
            self.compare(self.store)

    def put(
        self,
        owner: Owner,
        environment: str | None,
        name: str,
        text: str,
        kind: SecretType | None,
        scopes: Scopes | None,
        expires: int | None,
    ) -> None:
        new = Entry(next(self.numbers), SecretType.ENV, frozenset(), text, expires=expires)

        def put() -> bool:
            value = SecretValue(text)
            return self.store.put(Place(owner, environment, name), Write(value, kind, scopes, expires))

        def put_in_model() -> bool:
            if environment is None:
                return self.model.put_base(owner, name, new, kind, scopes)
            return self.model.put_override(owner, environment, name, new, kind, scopes)

        self.same(put, put_in_model)

    def same(self, act: object, expect: object) -> None:
        """Both give the same, or refuse with the same error."""
        outcomes = []
        for each in (act, expect):
            try:
                outcomes.append(each())  # type: ignore[operator]
            except IcSecretsError as error:
                outcomes.append(type(error))
        assert outcomes[0] == outcomes[1]
        if not isinstance(outcomes[0], type):
            self.count_write()

    def count_write(self) -> None:
        if self.saved is None:
            self.generation += 1
        else:
            self.changed = True

    def compare(self, store: local.LocalStore) -> None:
        with store.snapshot():
            self.compare_snapshot(store)

    def compare_snapshot(self, store: local.LocalStore) -> None:
        assert list(store.sites()) == [self.model.sites[name] for name in sorted(self.model.sites)]
        if self.saved is None:
            assert store.generation == self.generation
        for owner in OWNERS:
            holdings = store.read(owner)
            found = {(None, s.name): (s.id, s) for s in holdings.secrets}
            found |= {(o.environment, o.name): (o.base, o) for o in holdings.overrides}
            expected = {key[1:]: entry for key, entry in self.model.entries.items() if key[0] == owner}
            assert found.keys() == expected.keys()
            for key, (base, item) in found.items():
                entry = expected[key]
                assert (item.type, item.scopes, item.version) == (entry.kind, entry.scopes, entry.version)
                assert (item.value, item.expires) == (SecretValue(entry.text), entry.expires)
                assert isinstance(item, Override) or item.hosts == entry.hosts
                assert self.bases.setdefault(base, entry.base) == entry.base


LocalStoreMachine.TestCase.settings = settings(
    max_examples=settings.default.max_examples // 4,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLocalStoreAgainstADict = LocalStoreMachine.TestCase
