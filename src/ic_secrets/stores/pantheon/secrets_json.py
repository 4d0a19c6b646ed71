"""Pantheon's secrets.json, which its API answers with, too: its entries, and what a site holds and inherits by it.

    {"SiteID": UUID, "Secrets": {NAME: {"Type", "Value", "Scopes": […], "EnvValues": {ENV: VALUE},
     "OrgValues": {"default": VALUE, ENV: VALUE}}}, "Count": N, "Version": "", "Scopes": […]}

A `Value` is null where only the organization has one, or where the platform does not give it (a secret without the
scope `user`). The PHP SDK takes `OrgValues.default` where `Value` is empty. All of it is pure.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...core.records import NamedTuple
from ...errors import IcSecretsError, InvalidValueError, StoreFormatError
from ...model.names import check_environment
from ...model.resolve import Holdings
from ...model.secret import Override, Owner, Scope, Scopes, Secret, SecretType, SecretValue, format_scopes

DEFAULT = "default"
# Site ids are derived in here: the platform's own is not known.
_SITES = uuid.uuid5(uuid.NAMESPACE_URL, "https://ic-secrets.invalid/sites")
# Of a word that a file has in the place of one that is known.
_LONGEST_WORD = 24


class Entry(NamedTuple):
    """One name: type and scopes are the site's and the organization's alike. A value that is not given is None."""

    name: str
    type: SecretType
    scopes: Scopes
    value: str | None
    env_values: Mapping[str, str | None]
    org_values: Mapping[str, str | None]

    @property
    def is_inherited_alone(self) -> bool:
        """Return whether only the organization has it, as the SDK sees it."""
        return not self.value and bool(self.org_values)


class Omission(NamedTuple):
    """Something that is left out, by its name in the document, and why."""

    what: str
    reason: str


# --- reading --------------------------------------------------------------------------------------------


def parse_object(text: str, what: str) -> dict[str, Any]:
    """Return the JSON object; StoreFormatError, which shows nothing of the text."""
    try:
        content = json.loads(
            text, object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_number, parse_float=_parse_float
        )
    except (ValueError, RecursionError) as error:
        place = f":{error.lineno}:{error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        reason = "duplicate key" if isinstance(error, _DuplicateKeyError) else "not valid JSON"
        raise StoreFormatError(f"{what}{place}: {reason}") from None
    if not isinstance(content, dict):
        raise StoreFormatError(f"{what} does not contain a JSON object")
    return content


def read_entries(document: Mapping[str, Any]) -> tuple[tuple[Entry, ...], tuple[Omission, ...]]:
    """Return the entries in the order of names, and what is left out: unknown types and scopes.

    StoreFormatError for a document of another shape.
    """
    entries: list[Entry] = []
    omissions: list[Omission] = []
    for name, raw in sorted(find_secrets(document).items()):
        if not isinstance(raw, dict):
            raise StoreFormatError("a secret in the file is not a JSON object")
        found = _read_type(name, raw, omissions)
        if found:
            env_values, org_values = (_read_map(name, raw.get(key)) for key in ("EnvValues", "OrgValues"))
            entries.append(Entry(name, *found, _read_text(name, raw.get("Value")), env_values, org_values))
    return tuple(entries), tuple(omissions)


def find_secrets(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the raw entries by name, the very ones of the document unless it has none; StoreFormatError."""
    secrets = document.get("Secrets")
    if secrets == []:  # how PHP writes an empty object
        secrets = {}
    if not isinstance(secrets, dict):
        raise StoreFormatError("the file has no Secrets, as Pantheon's secrets.json has")
    return secrets


def show_word(text: object) -> str:
    """Return the word in quotes if it is plainly one, else "something else": it may be a value."""
    is_plain = (
        isinstance(text, str) and len(text) <= _LONGEST_WORD and text.replace("-", "").isalpha() and text.islower()
    )
    return f"{text!a}" if is_plain else "something else"


def _read_type(name: str, entry: Mapping[str, Any], omissions: list[Omission]) -> tuple[SecretType, Scopes] | None:
    kind, scopes = entry.get("Type"), entry.get("Scopes")
    kinds = {one.value: one for one in SecretType}
    known = {one.value: one for one in Scope}
    if not isinstance(kind, str) or kind not in kinds:
        omissions.append(Omission(name, f"its type is {show_word(kind)}, not one of {', '.join(kinds)}"))
        return None
    given = scopes if isinstance(scopes, list) else []
    unknown = [show_word(scope) for scope in given if not (isinstance(scope, str) and scope in known)]
    kept = frozenset(known[scope] for scope in given if isinstance(scope, str) and scope in known)
    if not kept:
        named = ", ".join(unknown) or "missing"
        omissions.append(Omission(name, f"its scopes are {named}, not any of {', '.join(known)}"))
        return None
    if unknown:
        omissions.append(Omission(f"the scope {', '.join(unknown)} of {name}", "that scope is unknown"))
    return kinds[kind], kept


def _read_map(name: str, values: object) -> dict[str, str | None]:
    if values in (None, []):
        return {}
    if not isinstance(values, dict):
        raise StoreFormatError(f"{name}: its values by environment are not a JSON object")
    for environment in values:
        if environment != DEFAULT:
            try:
                check_environment(environment)
            except IcSecretsError as error:
                raise StoreFormatError(f"{name}: {error}") from None
    return {environment: _read_text(name, value) for environment, value in values.items()}


def _read_text(name: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise StoreFormatError(f"{name}: a value is not a string")
    return value


class _DuplicateKeyError(ValueError):
    """An object has a key twice."""


def _refuse_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise _DuplicateKeyError
    return content


def _refuse_number(text: str) -> Any:
    raise ValueError(text[:0])


def _parse_float(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_number(text)


# --- what a site holds by it -----------------------------------------------------------------------------


def make_holdings(
    entries: Iterable[Entry], site: Owner, organization: Owner, *, is_withheld: bool
) -> tuple[Holdings, Holdings]:
    """Return what the site holds, and what it inherits from its organization, with all values that are given.

    `is_withheld` means that the document leaves out values without the scope `user`. Whether the site has a value of
    its own for such a secret cannot be known, so it counts as the site's, with an unknown value, and the
    organization's is never taken in its place. InvalidValueError names the secret whose value is not valid.
    """
    own: list[Secret] = []
    lent: list[Secret] = []
    own_overrides: list[Override] = []
    lent_overrides: list[Override] = []
    for entry in entries:
        hides = is_withheld and Scope.USER not in entry.scopes
        bases = {}
        if entry.org_values:
            bases[organization] = _make_base(entry, organization, entry.org_values.get(DEFAULT))
            lent.append(bases[organization])
        if not entry.is_inherited_alone or (hides and entry.value is None):
            bases[site] = _make_base(entry, site, entry.value)
            own.append(bases[site])
        base = bases.get(site) or bases[organization]
        own_overrides += _make_overrides(entry.env_values, base, site)
        if entry.org_values:
            values = {name: text for name, text in entry.org_values.items() if name != DEFAULT}
            lent_overrides += _make_overrides(values, bases[organization], organization)
    return (
        Holdings(site, tuple(own), tuple(own_overrides)),
        Holdings(organization, tuple(lent), tuple(lent_overrides)),
    )


def narrow(held: Holdings, environment: str | None, scope: Scope | None, *, values: bool) -> Holdings:
    """Return the same entries, with only those values that `Store.read` is to return."""

    def is_wanted(item: Secret | Override, where: str | None) -> bool:
        return values and environment in (None, where or environment) and (scope is None or scope in item.scopes)

    secrets = tuple(one if is_wanted(one, None) else one._replace(value=None) for one in held.secrets)
    overrides = tuple(one if is_wanted(one, one.environment) else one._replace(value=None) for one in held.overrides)
    return Holdings(held.owner, secrets, overrides)


def _make_base(entry: Entry, owner: Owner, text: str | None) -> Secret:
    value = _make_value(entry.name, text)
    return Secret(f"{owner} {entry.name}", owner, entry.name, entry.type, entry.scopes, value)


def _make_overrides(values: Mapping[str, str | None], base: Secret, owner: Owner) -> list[Override]:
    return [
        Override(
            base.id, owner, environment, base.name, base.type, base.scopes, _make_value(base.name, values[environment])
        )
        for environment in sorted(values)
    ]


def _make_value(name: str, text: str | None) -> SecretValue | None:
    try:
        return None if text is None else SecretValue(text)
    except InvalidValueError as error:
        raise InvalidValueError(f"{name}: {error}", hint=error.hint) from None


# --- writing --------------------------------------------------------------------------------------------


def derive_id(site: str) -> str:
    """Return the SiteID that we give a site of that name: always the same, and never one of the platform's."""
    return str(uuid.uuid5(_SITES, site))


def is_derived(site_id: object) -> bool:
    """Return whether a SiteID can come from `derive_id`. The platform's are random."""
    try:
        return uuid.UUID(str(site_id)).version == 5
    except ValueError:
        return False


def render(site: str, entries: Mapping[str, Mapping[str, Any]], scopes: Sequence[str]) -> str:
    """Return the document of those raw entries, with these scopes."""
    return render_document(
        {
            "SiteID": derive_id(site),
            "Secrets": dict(sorted(entries.items())),
            "Count": len(entries),
            "Version": "",
            "Scopes": list(scopes),
        }
    )


def render_document(document: Mapping[str, Any]) -> str:
    """Return the document as text."""
    return json.dumps(document, indent=4, ensure_ascii=False)


def render_entry(
    kind: SecretType,
    scopes: Scopes,
    value: str | None,
    env_values: Mapping[str, str] | None = None,
    org_values: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return a raw entry."""
    return {
        "Type": kind.value,
        "Value": value,
        "Scopes": format_scopes(scopes).split(","),
        "EnvValues": dict(env_values or {}),
        "OrgValues": dict(org_values or {}),
    }
