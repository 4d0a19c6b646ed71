"""Formats of files that people have already: what one says as a bundle, and a bundle as one. All of it is pure.

A format is a module with a `read` and a `write`. What it cannot express, and what has no place in a store, is left out
and named, never lost without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ...errors import ImportFileError, InvalidValueError, StoreFormatError
from ...model.resolve import Holdings
from ...model.secret import Override, Owner, Scopes, Secret, SecretType, SecretValue, Site
from ...stores.pantheon import secrets_json as secretsjson
from ..merge import Bundle


class Terms(NamedTuple):
    """What is known beside the file: whose it is, and what is to become of what it says.

    `kind` and `scopes` are for formats that tell none; `organization` is the site's in the store; `now` is Unix time.
    """

    owner: Owner
    kind: SecretType | None = None
    scopes: Scopes | None = None
    organization: str | None = None
    with_org: bool = False
    now: int = 0
    allow_empty: bool = False


class LeftOut(NamedTuple):
    """Something that is not brought along, as `OWNER[.ENV] NAME` or as the file calls it, and why."""

    what: str
    reason: str


class Content(NamedTuple):
    """What a file says. `empty` are places for values that are to be filled: owner, environment (or None), name."""

    bundle: Bundle
    left_out: tuple[LeftOut, ...] = ()
    empty: tuple[tuple[Owner, str | None, str], ...] = ()


class Draft:
    """A bundle while a file is read: bases first, then what overrides them."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._bases: dict[Owner, dict[str, Secret]] = {terms.owner: {}}
        self._overrides: dict[Owner, list[Override]] = {terms.owner: []}
        self._lent: dict[Owner, dict[str, Secret]] = {}
        self.left_out: list[LeftOut] = []
        self.empty: list[tuple[Owner, str | None, str]] = []

    def add(
        self,
        owner: Owner,
        name: str,
        kind: SecretType,
        scopes: Scopes,
        text: str | None,
        expires: int | None = None,
    ) -> None:
        """A base; without a text it is a place to be filled."""
        value = self._make_value(owner, None, name, text)
        base = Secret(f"{owner} {name}", owner, name, kind, scopes, value, 1, self._terms.now, self._terms.now, expires)
        self._bases.setdefault(owner, {})[name] = base

    def lend(self, owner: Owner, name: str, kind: SecretType, scopes: Scopes) -> None:
        """A base of an organization that is not brought along, and that a site's overrides may belong to."""
        self._lent.setdefault(owner, {})[name] = Secret(f"{owner} {name}", owner, name, kind, scopes, None)

    def override(self, owner: Owner, environment: str, name: str, text: str | None, expires: int | None = None) -> None:
        """An override of the owner's base of that name, or of what it inherits; one without a base is left out."""
        base = next((held[name] for held in self._list_bases(owner) if name in held), None)
        if base is None:
            self.leave_out(f"{owner}.{environment} {name}", "there is no secret that it could override")
            return
        value = self._make_value(owner, environment, name, text)
        now = self._terms.now
        self._overrides.setdefault(owner, []).append(
            Override(base.id, owner, environment, name, base.type, base.scopes, value, 1, now, now, expires)
        )

    def leave_out(self, what: str, reason: str) -> None:
        """Name what is not brought along."""
        self.left_out.append(LeftOut(what, reason))

    def finish(self) -> Content:
        """The bundle, and what is not in it."""
        terms = self._terms
        sites = (Site(terms.owner.name, terms.organization),) if terms.owner.is_site and terms.organization else ()
        holdings = [
            Holdings(
                owner,
                tuple(sorted(bases.values(), key=lambda secret: secret.name)),
                tuple(sorted(self._overrides.get(owner, ()), key=lambda one: (one.name, one.environment))),
            )
            for owner, bases in self._bases.items()
        ]
        inherited = [Holdings(owner, tuple(bases.values())) for owner, bases in self._lent.items()]
        bundle = Bundle(sites, tuple(holdings), tuple(inherited), is_partial=True)
        return Content(bundle, tuple(self.left_out), tuple(self.empty))

    def _list_bases(self, owner: Owner) -> Iterator[Mapping[str, Secret]]:
        yield self._bases.get(owner, {})
        if owner == self._terms.owner:
            for organization in (*self._bases, *self._lent):
                if not organization.is_site:
                    yield self._bases.get(organization, {})
                    yield self._lent.get(organization, {})

    def _make_value(self, owner: Owner, environment: str | None, name: str, text: str | None) -> SecretValue | None:
        if text is None:
            self.empty.append((owner, environment, name))
            return None
        try:
            return SecretValue(text)
        except InvalidValueError as error:
            raise InvalidValueError(f"{owner} {name}: {error}", hint=error.hint) from None


def list_own(bundle: Bundle, owner: Owner, left_out: list[LeftOut]) -> Iterator[Secret]:
    """The owner's bases, for formats that know neither overrides nor a second owner: those are left out by name."""
    for held in bundle.holdings:
        for one in held.overrides:
            left_out.append(LeftOut(f"{one.owner}.{one.environment} {one.name}", "the format has no overrides"))
        for secret in held.secrets:
            if held.owner == owner:
                yield secret
            else:
                left_out.append(LeftOut(f"{held.owner} {secret.name}", "the file is of one owner"))


def reveal(item: Secret | Override) -> str:
    """The plain text; InvalidValueError where the store does not give it."""
    if item.value is None:
        raise InvalidValueError(f"the store does not give the value of {item.owner} {item.name}")
    return item.value.reveal()


def need_scopes(terms: Terms, what: str) -> Scopes:
    """The scopes that the person named; ImportFileError where none was, since they can never be changed."""
    if terms.scopes is None:
        raise ImportFileError(f"{what} tells no scopes", hint="name them: --scope ic, or --scope ic,user")
    return terms.scopes


def parse_object(text: str, what: str) -> dict[str, Any]:
    """The JSON object; ImportFileError says nothing of what the text holds."""
    try:
        return secretsjson.parse_object(text, what)
    except StoreFormatError as error:
        raise ImportFileError(str(error)) from None
