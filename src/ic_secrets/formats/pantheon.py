"""Pantheon's secrets.json: what `terminus secret:site:local-generate` writes, and its PHP SDK reads without a platform.

    {"SiteID": UUID, "Secrets": {NAME: {"Type", "Value", "Scopes": […], "EnvValues": {ENV: VALUE},
     "OrgValues": {"default": VALUE, ENV: VALUE}}}, "Count": N, "Version": "", "Scopes": […]}

A `Value` is null where only the organization has one, or where the platform does not give it (a secret without the
scope `user`). The SDK takes `OrgValues.default` where `Value` is empty.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import IcSecretsError, ImportFileError
from ..resolve import Holdings
from ..secret import Override, Owner, Scope, Scopes, Secret, SecretType, check_environment, format_scopes
from ..transfer import Bundle
from . import Content, Draft, LeftOut, Terms, parse_object, reveal, show_word

_DEFAULT = "default"
_NOT_GIVEN = "its value is null: the platform gives none without the scope user"
# Site ids are derived in here: the platform's own is not known.
_SITES = uuid.uuid5(uuid.NAMESPACE_URL, "https://ic-secrets.invalid/sites")


def read(text: str, terms: Terms) -> Content:
    """What the file says of a site, or of an organization; ImportFileError where it is no such file."""
    secrets = parse_object(text, "the file").get("Secrets")
    if secrets == []:  # how PHP writes an empty object
        secrets = {}
    if not isinstance(secrets, dict):
        raise ImportFileError("the file has no Secrets, as Pantheon's secrets.json has")
    draft = Draft(terms)
    for name, entry in sorted(secrets.items()):
        if not isinstance(entry, dict):
            raise ImportFileError("the file has a secret that is no JSON object")
        found = _read_type(draft, name, entry)
        if found:
            _read_values(draft, terms, name, found, entry)
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


def render(site: str, entries: Mapping[str, Mapping[str, Any]], scopes: Sequence[str]) -> str:
    """The file of those entries, of these scopes. The SiteID is made of the site's name, and always the same."""
    document = {
        "SiteID": str(uuid.uuid5(_SITES, site)),
        "Secrets": dict(sorted(entries.items())),
        "Count": len(entries),
        "Version": "",
        "Scopes": list(scopes),
    }
    return json.dumps(document, indent=4, ensure_ascii=False)


def render_entry(
    kind: SecretType,
    scopes: Scopes,
    value: str | None,
    env_values: Mapping[str, str] | None = None,
    org_values: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A secret of the file."""
    return {
        "Type": kind.value,
        "Value": value,
        "Scopes": format_scopes(scopes).split(","),
        "EnvValues": dict(env_values or {}),
        "OrgValues": dict(org_values or {}),
    }


def _read_type(draft: Draft, name: str, entry: Mapping[str, Any]) -> tuple[SecretType, Scopes] | None:
    kind, scopes = entry.get("Type"), entry.get("Scopes")
    kinds = {one.value: one for one in SecretType}
    known = {one.value: one for one in Scope}
    if not isinstance(kind, str) or kind not in kinds:
        draft.leave_out(name, f"its type is {show_word(kind)}, which is none of {', '.join(kinds)}")
        return None
    given = scopes if isinstance(scopes, list) else []
    unknown = [show_word(scope) for scope in given if not (isinstance(scope, str) and scope in known)]
    kept = frozenset(known[scope] for scope in given if isinstance(scope, str) and scope in known)
    if not kept:
        draft.leave_out(name, f"its scopes are {', '.join(unknown) or 'none'}, and none of them is {', '.join(known)}")
        return None
    if unknown:
        draft.leave_out(f"the scope {', '.join(unknown)} of {name}", "there is no such scope here")
    return kinds[kind], kept


def _read_values(
    draft: Draft, terms: Terms, name: str, found: tuple[SecretType, Scopes], entry: Mapping[str, Any]
) -> None:
    kind, scopes = found
    value, inherited = _read_text(name, entry.get("Value")), _read_map(name, entry.get("OrgValues"))
    if terms.owner.is_site and inherited:
        _read_organization(draft, terms, name, found, inherited)
    if value or (value is not None and not inherited):
        draft.add(terms.owner, name, kind, scopes, value)
    elif not inherited:
        draft.leave_out(f"{terms.owner} {name}", _NOT_GIVEN)
    for environment, text in _read_map(name, entry.get("EnvValues")).items():
        if text is None:
            draft.leave_out(f"{terms.owner}.{environment} {name}", _NOT_GIVEN)
        else:
            draft.override(terms.owner, environment, name, text)


def _read_organization(
    draft: Draft,
    terms: Terms,
    name: str,
    found: tuple[SecretType, Scopes],
    values: Mapping[str, str | None],
) -> None:
    if terms.organization is None:
        reason = "the site has no organization in the store: `ic-secrets site set SITE --org ORG`"
        draft.leave_out(f"the organization's {name}", reason)
        return
    organization = Owner.organization(terms.organization)
    base = values.get(_DEFAULT)
    if not terms.with_org or base is None:
        draft.lend(organization, name, *found)
        reason = _NOT_GIVEN if terms.with_org else "a site's file changes no organization without --with-org"
        for environment in values:
            place = "" if environment == _DEFAULT else f".{environment}"
            draft.leave_out(f"{organization}{place} {name}", reason)
        return
    draft.add(organization, name, *found, base)
    for environment, text in values.items():
        if environment == _DEFAULT:
            continue
        if text is None:
            draft.leave_out(f"{organization}.{environment} {name}", _NOT_GIVEN)
        else:
            draft.override(organization, environment, name, text)


def _read_map(name: str, values: object) -> dict[str, str | None]:
    if values in (None, []):
        return {}
    if not isinstance(values, dict):
        raise ImportFileError(f"{name}: its values by environment are no JSON object")
    for environment in values:
        if environment != _DEFAULT:
            try:
                check_environment(environment)
            except IcSecretsError as error:
                raise ImportFileError(f"{name}: {error}") from None
    return {environment: _read_text(name, value) for environment, value in values.items()}


def _read_text(name: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ImportFileError(f"{name}: a value is no text")
    return value


def _make_entry(secret: Secret, own: Holdings, lent: Holdings | None, left_out: list[LeftOut]) -> dict[str, Any]:
    theirs = next((one for one in lent.secrets if one.name == secret.name), None) if lent else None
    org_values: dict[str, str] = {}
    if lent and theirs and secret is not theirs and (theirs.type, theirs.scopes) != (secret.type, secret.scopes):
        left_out.append(LeftOut(f"{theirs.owner} {theirs.name}", "the site's has another type or other scopes"))
    elif lent and theirs:
        org_values = {_DEFAULT: reveal(theirs), **_list_overrides(lent, [theirs])}
    value = reveal(secret) if secret.owner == own.owner else None
    bases = [secret, theirs] if theirs and org_values else [secret]
    return render_entry(secret.type, secret.scopes, value, _list_overrides(own, bases), org_values)


def _list_overrides(held: Holdings, bases: Sequence[Secret]) -> dict[str, str]:
    ids = {base.id for base in bases}
    return {one.environment: reveal(one) for one in held.overrides if one.base in ids}
