"""What the stores in the form of Pantheon's secrets.json have in common: what a site holds, and what it inherits.

A secrets.json does not name the site's organization. Unless the store's URL does, the organization has the name of the
site, `org:my-site`, and is not copied to other stores.
"""

import contextlib
import copy
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...composer.methods import check_name
from ...core.records import NamedTuple
from ...errors import NoPlaceError, UnknownSecretError, UnknownSiteError
from ...model.names import check_environment, check_site_name
from ...model.resolve import Holdings, check_base, choose_hosts, find_base
from ...model.secret import Override, Owner, Scope, Secret, SecretValue, Site
from ..base import Place, Store, Write
from .secrets_json import Entry, find_secrets, make_holdings, narrow, read_entries, render_entry

_Chain = tuple[Holdings, Holdings]


class Step(NamedTuple):
    """A base (`environment` None) or an override that gets a value, or, without one, is deleted.

    `is_new` says whether there was none before, as far as the document shows.
    """

    site: str
    environment: str | None
    secret: Secret | Override
    value: SecretValue | None
    is_new: bool = False


class SecretsJsonStore(Store):
    """A store with one secrets.json for each site, whether in a file or on the platform."""

    def __init__(self, url: str, site: str | None, *, organization: str | None = None, is_withheld: bool) -> None:
        self.url = url
        self.only_site = site
        self.has_organizations = organization is not None
        self._notices: list[str] = []
        self._noticed: set[str] = set()
        self._organization = organization
        self._is_withheld = is_withheld
        self._kept: dict[str, _Chain] = {}
        self._documents: dict[str, dict[str, Any]] = {}
        self._steps: list[Step] = []
        # What each change of a document replaced: its site, name, and the entry, None where there was none.
        self._replaced: list[tuple[str, str, dict[str, Any] | None]] = []
        self._depth = 0
        self._level = 0

    # --- what each kind of store does -------------------------------------------------------------------

    @abstractmethod
    def _load(self, site: str) -> dict[str, Any]:
        """Return the site's document, raw; UnknownSiteError."""

    @abstractmethod
    def _begin(self) -> contextlib.AbstractContextManager[None]:
        """Return the context of a transaction, `_save` included."""

    @abstractmethod
    def _save(self, steps: Sequence[Step]) -> None:
        """Write the steps of a transaction, which the kept documents show already."""

    # --- sites ------------------------------------------------------------------------------------------

    def site(self, name: str) -> Site:
        check_site_name(name)
        _, lent = self._chain(name)
        named = self._organization if self.has_organizations else None
        return Site(name, named or (name if lent.secrets else None))

    def sites(self) -> Iterator[Site]:
        only = self.only_site
        if only is None:
            raise UnknownSiteError(f"{self.url} does not name a site", hint=self._naming_hint)
        return iter([self.site(only)])

    def owners(self) -> Iterator[Owner]:
        for site in self.sites():
            yield Owner("site", site.name)
            if self.has_organizations and self._chain(site.name)[1].secrets:
                yield Owner("organization", str(self._organization))

    def set_site(self, site: Site) -> None:
        check_site_name(site.name)
        known = self.site(site.name)
        organization = site.organization if self.has_organizations else known.organization
        if (known.organization, ()) != (organization, site.supporting):
            raise NoPlaceError(f"{self.url} cannot store the organizations of a site", hint="set them on the platform")

    def delete_site(self, name: str) -> int:
        self.site(name)
        raise NoPlaceError(f"{self.url} cannot exist without its site", hint="delete its secrets one by one")

    # --- secrets ----------------------------------------------------------------------------------------

    def read(
        self, owner: Owner, *, environment: str | None = None, scope: Scope | None = None, values: bool = True
    ) -> Holdings:
        try:
            if owner.is_site:
                found = self._chain(owner.name)[0]
            else:
                found = self._read_lent(owner.name)
        except UnknownSiteError:
            return Holdings(owner)
        return narrow(found, environment, scope, values=values)

    def read_chain(
        self, owner: Owner, *, environment: str | None = None, scope: Scope | None = None, values: bool = False
    ) -> tuple[Holdings, ...]:
        """Do as every store, from one document."""
        if not owner.is_site:
            return (self.read(owner, environment=environment, scope=scope, values=values),)
        check_site_name(owner.name)
        own, lent = self._chain(owner.name)
        chain = (own, lent) if lent.secrets or self.has_organizations else (own,)
        return tuple(narrow(held, environment, scope, values=values) for held in chain)

    def put(self, place: Place, write: Write) -> bool:
        owner, environment, name = place
        self._check_owner(owner)
        if environment is not None:
            check_environment(environment)
        with self.transaction():
            chain = self._named_chain(owner.name, name)
            item: Secret | Override
            if environment is None:
                kind, scopes = check_base(name, chain, write.type, write.scopes)
                check_name(kind, name)
                hosts = choose_hosts(kind, write.hosts, None)
                item = Secret(
                    f"{owner} {name}", owner, name, kind, scopes, write.value, expires=write.expires, hosts=hosts
                )
            else:
                base = find_base(environment, name, chain, write.type, write.scopes, write.hosts)
                item = Override(
                    base.id, owner, environment, name, base.type, base.scopes, write.value, expires=write.expires
                )
            self.check_supported(item)
            is_new = self._write(item)
            self._steps.append(Step(owner.name, environment, item, write.value, is_new))
            self._kept.pop(owner.name, None)
        return is_new

    def delete(self, place: Place) -> int:
        owner, environment, name = place
        with self.transaction():
            found = self.read(owner, values=False)
            bases = [one for one in found.secrets if one.name == name and environment is None]
            overrides = [o for o in found.overrides if o.name == name and environment in {None, o.environment}]
            if not bases and not overrides:
                raise UnknownSecretError(f"there is no secret {place}")
            self._check_owner(owner)
            for one in overrides:
                self._remove_override(one)
                if not bases:
                    self._steps.append(Step(owner.name, one.environment, one, None))
            for base in bases:
                self._remove_base(base)
                self._steps.append(Step(owner.name, None, base, None))
            self._kept.pop(owner.name, None)
        return len(overrides) + len(bases)

    def check_supported(self, item: Secret | Override) -> None:
        """Raise NoPlaceError for what a secrets.json cannot say: another owner, hosts, an expiry, two types."""
        self._check_owner(item.owner)
        super().check_supported(item)
        site, name = item.owner.name, item.name
        if item.expires is not None:
            raise NoPlaceError(f"{self.url} cannot store when {site} {name} expires", hint="set it without --expires")
        entry = self._find_entry(site, name)
        if entry is None and name in find_secrets(self._document(site)):
            raise NoPlaceError(f"{self.url} has a {name} already, of a kind that is left out here")
        if entry and (entry.type, entry.scopes) != (item.type, item.scopes):
            raise NoPlaceError(
                f"{self.url} can give {name} of the site no other type or scopes than the organization's",
                hint="use those, or another name",
            )
        is_empty = item.value is not None and not item.value.reveal()
        if isinstance(item, Secret) and is_empty and entry and entry.org_values:
            raise NoPlaceError(f"{self.url} cannot store an empty {name}: the organization's would count in its place")

    # --- transactions -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Do as every store; what is done is written at the end."""
        with contextlib.ExitStack() as stack:
            if not self._level:
                stack.enter_context(self._begin())
                self._forget()
            stack.enter_context(self.snapshot())
            size, replaced = len(self._steps), len(self._replaced)
            self._level += 1
            try:
                yield
            except BaseException:
                self._put_back(replaced)
                self._kept.clear()
                del self._steps[size:]
                raise
            finally:
                self._level -= 1
                if not self._level:
                    self._replaced.clear()
            if not self._level and self._steps:
                steps, self._steps = self._steps, []
                self._save(steps)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Do as every store; each site is read once."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                self._forget()

    def take_notices(self) -> tuple[str, ...]:
        taken, self._notices = tuple(self._notices), []
        return taken

    def close(self) -> None:
        """Do nothing: nothing is open."""

    # --- the document -----------------------------------------------------------------------------------

    _naming_hint = ""

    def _chain(self, site: str) -> _Chain:
        """Return what the site holds and inherits, with all values that the document gives."""
        found = self._kept.get(site)
        if found is None:
            entries = self._read_entries(site)
            lender = Owner("organization", self._organization or site)
            found = make_holdings(entries, Owner("site", site), lender, is_withheld=self._is_withheld)
            if self._depth:
                self._kept[site] = found
        return found

    def _named_chain(self, site: str, name: str) -> _Chain:
        """Return what the site holds and inherits under that name, as `_chain` does; it reads nothing else."""
        entry = self._find_entry(site, name)
        lender = Owner("organization", self._organization or site)
        return make_holdings([entry] if entry else [], Owner("site", site), lender, is_withheld=self._is_withheld)

    def _document(self, site: str) -> dict[str, Any]:
        """Return the raw document as it is, or within a transaction as it will be."""
        found = self._documents.get(site)
        if found is None:
            found = self._load(site)
            if self._depth:
                self._documents[site] = found
        return found

    def _forget(self) -> None:
        self._kept.clear()
        self._documents.clear()

    def _read_entries(self, site: str) -> tuple[Entry, ...]:
        return self._read_noticing(self._document(site))

    def _find_entry(self, site: str, name: str) -> Entry | None:
        secrets = find_secrets(self._document(site))
        found = self._read_noticing({"Secrets": {name: secrets[name]}}) if name in secrets else ()
        return found[0] if found else None

    def _read_noticing(self, document: Mapping[str, Any]) -> tuple[Entry, ...]:
        entries, omissions = read_entries(document)
        for what, reason in omissions:
            text = f"{what} is left out: {reason}"
            if text not in self._noticed:
                self._noticed.add(text)
                self._notices.append(text)
        return entries

    def _read_lent(self, organization: str) -> Holdings:
        if self.has_organizations:
            only = self.only_site if organization == self._organization else None
            return self._chain(only)[1] if only else Holdings(Owner("organization", organization))
        return self._chain(organization)[1]

    def _check_owner(self, owner: Owner) -> None:
        if not owner.is_site:
            raise NoPlaceError(
                f"{self.url} cannot change the secrets of {owner}", hint="it only shows what the site inherits"
            )
        only = self.only_site
        if only is not None and owner.name != only:
            raise NoPlaceError(f"{self.url} belongs to the site {only}, not to {owner.name}")

    # --- changes of it ----------------------------------------------------------------------------------

    def _find_raw(self, item: Secret | Override) -> dict[str, Any]:
        document = self._document(item.owner.name)
        secrets = document["Secrets"] = find_secrets(document)
        self._replaced.append((item.owner.name, item.name, copy.deepcopy(secrets.get(item.name))))
        raw: dict[str, Any] = secrets.setdefault(item.name, render_entry(item.type, item.scopes, None))
        return raw

    def _write(self, item: Secret | Override) -> bool:
        """Write the value into the document, and return whether it is new there."""
        assert item.value is not None
        own, _ = self._named_chain(item.owner.name, item.name)
        raw = self._find_raw(item)
        if isinstance(item, Override):
            values = raw["EnvValues"] = raw.get("EnvValues") or {}
            is_new = item.environment not in values
            values[item.environment] = item.value.reveal()
            return is_new
        raw["Value"] = item.value.reveal()
        return all(secret.name != item.name for secret in own.secrets)

    def _put_back(self, size: int) -> None:
        """Undo the changes of documents after the first `size`."""
        while len(self._replaced) > size:
            site, name, entry = self._replaced.pop()
            secrets = find_secrets(self._document(site))
            secrets.pop(name, None)
            if entry is not None:
                secrets[name] = entry

    def _remove_override(self, item: Override) -> None:
        del self._find_raw(item)["EnvValues"][item.environment]

    def _remove_base(self, item: Secret) -> None:
        raw = self._find_raw(item)
        if raw.get("OrgValues"):
            raw["Value"] = None
        else:
            del self._document(item.owner.name)["Secrets"][item.name]
