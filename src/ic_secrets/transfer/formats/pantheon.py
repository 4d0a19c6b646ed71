"""Pantheon's secrets.json, as `terminus secret:site:local-generate` writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import ImportFileError, StoreFormatError
from ...model import Holdings
from ...model.secret import Override, Owner, Secret
from ...stores.pantheon.secrets_json import DEFAULT, Entry, read_entries, render, render_entry
from ..merge import SecretSet
from .base import Builder, Format, Omission, ParsedFile, ReadOptions, omit_hosts, parse_object, reveal

_NOT_GIVEN = "its value is null: the platform gives values with the scope user only"


def read(text: str, options: ReadOptions) -> ParsedFile:
    """Read the file of a site, or of an organization; ImportFileError."""
    try:
        entries, omissions = read_entries(parse_object(text, "the file"))
    except StoreFormatError as error:
        raise ImportFileError(str(error)) from None
    builder = Builder(options)
    for what, reason in omissions:
        builder.omit(what, reason)
    for entry in entries:
        _read_values(builder, options, entry)
    return builder.finish()


def write(secret_set: SecretSet, owner: Owner, *, values: bool = True) -> tuple[str, tuple[Omission, ...]]:
    """Write the file of a site, with what it inherits, or of an organization alone."""
    omissions: list[Omission] = []
    own = next((held for held in secret_set.holdings if held.owner == owner), Holdings(owner))
    inherited = next((held for held in secret_set.holdings if held.owner != owner), None)
    entries = {secret.name: _make_entry(secret, own, inherited, omissions) for secret in own.secrets}
    for secret in inherited.secrets if inherited else ():
        if secret.name not in entries:
            entries[secret.name] = _make_entry(secret, own, inherited, omissions)
    for one in own.overrides:
        if one.name not in entries or one.environment not in entries[one.name]["EnvValues"]:
            omissions.append(Omission(f"{owner}.{one.environment} {one.name}", "the secret it overrode is gone"))
    items: list[Secret | Override] = [*own.secrets, *own.overrides]
    expiring = sorted({item.name for item in items if item.expires is not None})
    omissions += [Omission(f"when {owner} {name} expires", "the format cannot say it") for name in expiring]
    omissions += omit_hosts([*own.secrets, *(inherited.secrets if inherited else ())])
    scopes = sorted({scope for entry in entries.values() for scope in entry["Scopes"]})
    return render(owner.name, entries, scopes) + "\n", tuple(omissions)


def _read_values(builder: Builder, options: ReadOptions, entry: Entry) -> None:
    if options.owner.is_site and entry.org_values:
        _read_org_values(builder, options, entry)
    if not entry.is_inherited_alone and entry.value is not None:
        builder.add(options.owner, entry.name, entry.type, entry.scopes, entry.value)
    elif not entry.org_values:
        builder.omit(f"{options.owner} {entry.name}", _NOT_GIVEN)
    for environment, text in entry.env_values.items():
        if text is None:
            builder.omit(f"{options.owner}.{environment} {entry.name}", _NOT_GIVEN)
        else:
            builder.override(options.owner, environment, entry.name, text)


def _read_org_values(builder: Builder, options: ReadOptions, entry: Entry) -> None:
    name, found, values = entry.name, (entry.type, entry.scopes), entry.org_values
    if options.organization is None:
        reason = "the site has no organization in the store: `ic-secrets site set SITE --org ORG`"
        builder.omit(f"the organization's {name}", reason)
        return
    organization = Owner.organization(options.organization)
    base = values.get(DEFAULT)
    if not options.with_org or base is None:
        builder.add_inherited(organization, name, *found)
        reason = _NOT_GIVEN if options.with_org else "a site's file changes no organization without --with-org"
        for environment in values:
            place = "" if environment == DEFAULT else f".{environment}"
            builder.omit(f"{organization}{place} {name}", reason)
        return
    builder.add(organization, name, *found, base)
    for environment, text in values.items():
        if environment == DEFAULT:
            continue
        if text is None:
            builder.omit(f"{organization}.{environment} {name}", _NOT_GIVEN)
        else:
            builder.override(organization, environment, name, text)


def _make_entry(secret: Secret, own: Holdings, inherited: Holdings | None, omissions: list[Omission]) -> dict[str, Any]:
    theirs = next((one for one in inherited.secrets if one.name == secret.name), None) if inherited else None
    org_values: dict[str, str] = {}
    if inherited and theirs and secret is not theirs and (theirs.type, theirs.scopes) != (secret.type, secret.scopes):
        omissions.append(Omission(f"{theirs.owner} {theirs.name}", "the site's has another type or other scopes"))
    elif inherited and theirs:
        org_values = {DEFAULT: reveal(theirs), **_list_overrides(inherited, [theirs])}
    value = reveal(secret) if secret.owner == own.owner else None
    bases = [secret, theirs] if theirs and org_values else [secret]
    return render_entry(secret.type, secret.scopes, value, _list_overrides(own, bases), org_values)


def _list_overrides(held: Holdings, bases: Sequence[Secret]) -> dict[str, str]:
    ids = {base.id for base in bases}
    return {one.environment: reveal(one) for one in held.overrides if one.base in ids}


FORMAT = Format("pantheon", read, write, endings=("secrets.json",), beginnings=(b'{\n    "SiteID"',))
