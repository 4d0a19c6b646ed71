"""Pantheon's secrets.json, as `stores.secretsjson` reads it: what `terminus secret:site:local-generate` writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import ImportFileError, StoreFormatError
from ...model.resolve import Holdings
from ...model.secret import Override, Owner, Secret
from ...stores.pantheon.secrets_json import DEFAULT, Entry, read_entries, render, render_entry
from ..merge import Bundle
from .base import Content, Draft, LeftOut, Terms, parse_object, reveal

_NOT_GIVEN = "its value is null: the platform gives none without the scope user"


def read(text: str, terms: Terms) -> Content:
    """What the file says of a site, or of an organization; ImportFileError where it is no such file."""
    try:
        entries, omissions = read_entries(parse_object(text, "the file"))
    except StoreFormatError as error:
        raise ImportFileError(str(error)) from None
    draft = Draft(terms)
    for what, reason in omissions:
        draft.leave_out(what, reason)
    for entry in entries:
        _read_values(draft, terms, entry)
    return draft.finish()


def write(bundle: Bundle, owner: Owner) -> tuple[str, tuple[LeftOut, ...]]:
    """The file for a site, with what its organization lends it, or for an organization alone."""
    left_out: list[LeftOut] = []
    own = next((held for held in bundle.holdings if held.owner == owner), Holdings(owner))
    lent = next((held for held in bundle.holdings if held.owner != owner), None)
    entries = {secret.name: _make_entry(secret, own, lent, left_out) for secret in own.secrets}
    for secret in lent.secrets if lent else ():
        if secret.name not in entries:
            entries[secret.name] = _make_entry(secret, own, lent, left_out)
    for one in own.overrides:
        if one.name not in entries or one.environment not in entries[one.name]["EnvValues"]:
            left_out.append(LeftOut(f"{owner}.{one.environment} {one.name}", "the secret that it was set over is gone"))
    items: list[Secret | Override] = [*own.secrets, *own.overrides]
    expiring = sorted({item.name for item in items if item.expires is not None})
    left_out += [LeftOut(f"when {owner} {name} expires", "the format has no place for that") for name in expiring]
    scopes = sorted({scope for entry in entries.values() for scope in entry["Scopes"]})
    return render(owner.name, entries, scopes) + "\n", tuple(left_out)


def _read_values(draft: Draft, terms: Terms, entry: Entry) -> None:
    if terms.owner.is_site and entry.org_values:
        _read_organization(draft, terms, entry)
    if not entry.is_inherited_alone and entry.value is not None:
        draft.add(terms.owner, entry.name, entry.type, entry.scopes, entry.value)
    elif not entry.org_values:
        draft.leave_out(f"{terms.owner} {entry.name}", _NOT_GIVEN)
    for environment, text in entry.env_values.items():
        if text is None:
            draft.leave_out(f"{terms.owner}.{environment} {entry.name}", _NOT_GIVEN)
        else:
            draft.override(terms.owner, environment, entry.name, text)


def _read_organization(draft: Draft, terms: Terms, entry: Entry) -> None:
    name, found, values = entry.name, (entry.type, entry.scopes), entry.org_values
    if terms.organization is None:
        reason = "the site has no organization in the store: `ic-secrets site set SITE --org ORG`"
        draft.leave_out(f"the organization's {name}", reason)
        return
    organization = Owner.organization(terms.organization)
    base = values.get(DEFAULT)
    if not terms.with_org or base is None:
        draft.lend(organization, name, *found)
        reason = _NOT_GIVEN if terms.with_org else "a site's file changes no organization without --with-org"
        for environment in values:
            place = "" if environment == DEFAULT else f".{environment}"
            draft.leave_out(f"{organization}{place} {name}", reason)
        return
    draft.add(organization, name, *found, base)
    for environment, text in values.items():
        if environment == DEFAULT:
            continue
        if text is None:
            draft.leave_out(f"{organization}.{environment} {name}", _NOT_GIVEN)
        else:
            draft.override(organization, environment, name, text)


def _make_entry(secret: Secret, own: Holdings, lent: Holdings | None, left_out: list[LeftOut]) -> dict[str, Any]:
    theirs = next((one for one in lent.secrets if one.name == secret.name), None) if lent else None
    org_values: dict[str, str] = {}
    if lent and theirs and secret is not theirs and (theirs.type, theirs.scopes) != (secret.type, secret.scopes):
        left_out.append(LeftOut(f"{theirs.owner} {theirs.name}", "the site's has another type or other scopes"))
    elif lent and theirs:
        org_values = {DEFAULT: reveal(theirs), **_list_overrides(lent, [theirs])}
    value = reveal(secret) if secret.owner == own.owner else None
    bases = [secret, theirs] if theirs and org_values else [secret]
    return render_entry(secret.type, secret.scopes, value, _list_overrides(own, bases), org_values)


def _list_overrides(held: Holdings, bases: Sequence[Secret]) -> dict[str, str]:
    ids = {base.id for base in bases}
    return {one.environment: reveal(one) for one in held.overrides if one.base in ids}
