"""What a format of files is, and what its reader and writer share. All of it is pure.

What a format cannot express, and what has no place in a store, is left out and named, never lost without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from ...core.records import NamedTuple
from ...errors import ImportFileError, InvalidValueError, StoreFormatError
from ...model import Holdings
from ...model.secret import Hosts, Override, Owner, Scopes, Secret, SecretType, SecretValue, Site
from ...stores.base import Place as Place
from ...stores.pantheon import secrets_json
from ...stores.pantheon.secrets_json import Omission as Omission
from ..merge import SecretSet


class ReadOptions(NamedTuple):
    """What the person and the store say beyond the file: whose it is, and what its secrets become.

    `kind` and `scopes` are for formats that lack them; `organization` is the site's in the store; `now` is Unix time.
    With `expand`, variables in a .env file are replaced by what the file says of them.
    """

    owner: Owner
    kind: SecretType | None = None
    scopes: Scopes | None = None
    organization: str | None = None
    with_org: bool = False
    now: int = 0
    allow_empty: bool = False
    expand: bool = False


class Refusal(NamedTuple):
    """What cannot be brought along, the name of its secret, where it has one, and the reason."""

    what: str
    name: str
    reason: str


class ParsedFile(NamedTuple):
    """What a file holds. `empty` are the places whose values are still to be filled in.

    `refused` should have been brought along, and cannot: its name, or what is known of it, and why.
    """

    secret_set: SecretSet
    omissions: tuple[Omission, ...] = ()
    empty: tuple[Place, ...] = ()
    refused: tuple[Refusal, ...] = ()

    def fill(self, values: Mapping[Place, SecretValue]) -> ParsedFile:
        """Return it with those of the values for which it has an empty place."""
        holdings = []
        for owner, secrets, overrides in self.secret_set.holdings:
            filled = [one._replace(value=one.value or values.get(Place(owner, None, one.name))) for one in secrets]
            places = [Place(owner, one.environment, one.name) for one in overrides]
            also = [o._replace(value=o.value or values.get(p)) for o, p in zip(overrides, places, strict=True)]
            holdings.append(Holdings(owner, tuple(filled), tuple(also)))
        left = tuple(place for place in self.empty if place not in values)
        return self._replace(secret_set=self.secret_set._replace(holdings=tuple(holdings)), empty=left)

    def select(self, names: frozenset[str]) -> ParsedFile:
        """Return it with the secrets of these names alone; ImportFileError where it has none of a name."""
        missing = sorted(names - {*self.secret_set.names, *(one.name for one in self.refused)})
        if missing:
            raise ImportFileError(f"the file has no {', '.join(missing)}", hint="--only takes names of secrets in it")
        return self._replace(
            secret_set=self.secret_set.select(names),
            empty=tuple(place for place in self.empty if place.name in names),
            refused=tuple(one for one in self.refused if one.name in names),
        )


class Reader(Protocol):
    """Reads the text of a file; ImportFileError never shows any of it."""

    def __call__(self, text: str, options: ReadOptions, /) -> ParsedFile: ...


class Writer(Protocol):
    """Writes what the owner has in the set, and names what is left out; without values only where a format can."""

    def __call__(
        self, secret_set: SecretSet, owner: Owner, /, *, values: bool = True
    ) -> tuple[str, tuple[Omission, ...]]: ...


class Format(NamedTuple):
    """A format of files in plain text, for the files whose names end so.

    An export may replace a file that begins with one of the `beginnings`: what people keep in a .env file or an
    auth.json is theirs, so those formats have none. With `has_places` it can be written without values.
    """

    name: str
    read: Reader
    write: Writer
    endings: tuple[str, ...]
    beginnings: tuple[bytes, ...] = ()
    has_places: bool = False


class Builder:
    """Builds the set while a file is read: bases first, then what overrides them."""

    def __init__(self, options: ReadOptions) -> None:
        self._options = options
        self._bases: dict[Owner, dict[str, Secret]] = {options.owner: {}}
        self._overrides: dict[Owner, list[Override]] = {options.owner: []}
        self._inherited: dict[Owner, dict[str, Secret]] = {}
        self._omissions: list[Omission] = []
        self._empty: list[Place] = []
        self._refused: list[Refusal] = []

    def add(
        self,
        owner: Owner,
        name: str,
        kind: SecretType,
        scopes: Scopes,
        text: str | None,
        expires: int | None = None,
        hosts: Hosts = (),
    ) -> None:
        """Add a base; without a text it is a place to be filled in."""
        value, now = self._make_value(owner, None, name, text), self._options.now
        base = Secret(f"{owner} {name}", owner, name, kind, scopes, value, 1, now, now, expires, hosts)
        self._bases.setdefault(owner, {})[name] = base

    def add_inherited(self, owner: Owner, name: str, kind: SecretType, scopes: Scopes) -> None:
        """Add a base of an organization that is not brought along, but which a site's overrides may belong to."""
        self._inherited.setdefault(owner, {})[name] = Secret(f"{owner} {name}", owner, name, kind, scopes, None)

    def override(self, owner: Owner, environment: str, name: str, text: str | None, expires: int | None = None) -> None:
        """Add an override of the owner's base of that name, or of what it inherits; without a base omit it."""
        base = next((held[name] for held in self._list_bases(owner) if name in held), None)
        if base is None:
            self.omit(f"{owner}.{environment} {name}", "there is no secret that it could override")
            return
        value, now = self._make_value(owner, environment, name, text), self._options.now
        self._overrides.setdefault(owner, []).append(
            Override(base.id, owner, environment, name, base.type, base.scopes, value, 1, now, now, expires)
        )

    def omit(self, what: str, reason: str) -> None:
        """Name what is not brought along."""
        self._omissions.append(Omission(what, reason))

    def refuse(self, what: str, reason: str, name: str = "") -> None:
        """Name what should be brought along, and cannot."""
        self._refused.append(Refusal(what, name, reason))

    def finish(self) -> ParsedFile:
        """Return the set, and what is not in it."""
        owner, organization = self._options.owner, self._options.organization
        sites = (Site(owner.name, organization),) if owner.is_site and organization else ()
        holdings = [
            Holdings(
                each,
                tuple(sorted(bases.values(), key=lambda secret: secret.name)),
                tuple(sorted(self._overrides.get(each, ()), key=lambda one: (one.name, one.environment))),
            )
            for each, bases in self._bases.items()
        ]
        inherited = [Holdings(each, tuple(bases.values())) for each, bases in self._inherited.items()]
        secret_set = SecretSet(sites, tuple(holdings), tuple(inherited), is_partial=True)
        return ParsedFile(secret_set, tuple(self._omissions), tuple(self._empty), tuple(self._refused))

    def _list_bases(self, owner: Owner) -> Iterator[Mapping[str, Secret]]:
        yield self._bases.get(owner, {})
        if owner == self._options.owner:
            for organization in (*self._bases, *self._inherited):
                if not organization.is_site:
                    yield self._bases.get(organization, {})
                    yield self._inherited.get(organization, {})

    def _make_value(self, owner: Owner, environment: str | None, name: str, text: str | None) -> SecretValue | None:
        if text is None:
            self._empty.append(Place(owner, environment, name))
            return None
        try:
            return SecretValue(text)
        except InvalidValueError as error:
            raise InvalidValueError(f"{owner} {name}: {error}", hint=error.hint) from None


def list_own(secret_set: SecretSet, owner: Owner, omissions: list[Omission]) -> Iterator[Secret]:
    """Yield the owner's bases, for formats that have neither overrides nor a second owner: those are named."""
    for held in secret_set.holdings:
        for one in held.overrides:
            omissions.append(Omission(f"{one.owner}.{one.environment} {one.name}", "the format has no overrides"))
        for secret in held.secrets:
            if held.owner == owner:
                yield secret
            else:
                omissions.append(Omission(f"{held.owner} {secret.name}", "the file has one owner"))


def omit_hosts(secrets: Iterable[Secret]) -> Iterator[Omission]:
    """Name the secrets whose hosts are lost, for formats that have none."""
    for secret in secrets:
        if secret.hosts:
            yield Omission(f"the binding of {secret.owner} {secret.name} to its hosts", "the format cannot say it")


def reveal(item: Secret | Override) -> str:
    """Return the plain text; InvalidValueError where the store does not give it."""
    if item.value is None:
        raise InvalidValueError(f"the store does not give the value of {item.owner} {item.name}")
    return item.value.reveal()


def require_scopes(options: ReadOptions, what: str) -> Scopes:
    """Return the scopes that the person named; ImportFileError without any, since they can never be changed."""
    if options.scopes is None:
        raise ImportFileError(f"{what} has no scopes", hint="name them: --scope ic, or --scope ic,user")
    return options.scopes


def parse_object(text: str, what: str) -> dict[str, Any]:
    """Return the JSON object; ImportFileError shows nothing of the text."""
    try:
        return secrets_json.parse_object(text, what)
    except StoreFormatError as error:
        raise ImportFileError(str(error)) from None
