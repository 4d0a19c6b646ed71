"""Definitions of secrets in YAML or TOML: type, scopes, hosts, expiry and overrides, with values or places for them.

    secrets:
      LICENSE_KEY:
        type: env
        scopes: [ic, user]
        hosts: [connect.example.com]
        value: "…"              # without one, the import asks for it
        expires: 2027-01-31
        overrides: {pr-17: "…"}

TOML says the same: `[secrets.LICENSE_KEY]`, `type = "env"`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ...errors import IcSecretsError, ImportFileError
from ...model.names import check_environment
from ...model.secret import (
    MAX_TIME,
    Hosts,
    Override,
    Owner,
    Secret,
    SecretType,
    format_scopes,
    parse_scopes,
    parse_type,
)
from ..merge import SecretSet
from .base import Builder, Format, Omission, ParsedFile, ReadOptions, reveal

if TYPE_CHECKING:
    import yaml

_REQUIRED = frozenset({"type", "scopes"})
_KEYS = frozenset({"type", "scopes", "hosts", "value", "expires", "overrides"})
_DEEPEST = 20


def read_yaml(text: str, options: ReadOptions) -> ParsedFile:
    """Read definitions in YAML: no alias, no tag, no key twice; ImportFileError with the line."""
    from ...core.yaml_graph import HAS_ALIAS, HAS_TAG, NOT_VALID, YamlGraphError, compose

    try:
        node = compose(text, deepest=_DEEPEST, aliases=False, tags=False)
    except YamlGraphError as error:
        place = f"line {error.line}" if error.line else "the file"
        what = {HAS_ALIAS: HAS_ALIAS, HAS_TAG: HAS_TAG, NOT_VALID: ""}.get(error.problem, "something nested too deeply")
        raise ImportFileError(f"{place}: {f'{what}, which no definition needs' if what else NOT_VALID}") from None
    return _read(_to_data(node), options)


def read_toml(text: str, options: ReadOptions) -> ParsedFile:
    """Read definitions in TOML; ImportFileError."""
    from ...core import toml_text

    try:
        return _read(toml_text.parse(text), options)
    except toml_text.TomlError as error:
        raise ImportFileError(f"line {error.line}: {error}" if error.line else str(error)) from None


def write_yaml(secret_set: SecretSet, owner: Owner, *, values: bool = True) -> tuple[str, tuple[Omission, ...]]:
    """Write the owner's definitions in YAML; without values, places for them."""
    import yaml

    omissions: list[Omission] = []
    content = {"secrets": _describe(secret_set, owner, omissions, values=values)}

    class Dumper(yaml.SafeDumper):
        """Escapes texts with what a YAML reader takes for the end of a line."""

    def represent(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
        style = None if text.isprintable() else '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, represent)
    dumped: str = yaml.dump(content, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return dumped, tuple(omissions)


def write_toml(secret_set: SecretSet, owner: Owner, *, values: bool = True) -> tuple[str, tuple[Omission, ...]]:
    """Write the owner's definitions in TOML; without values, places for them."""
    omissions: list[Omission] = []
    lines = []
    for name, entry in _describe(secret_set, owner, omissions, values=values).items():
        lines.append(f"[secrets.{_to_toml(name)}]")
        lines += [f"{key} = {_to_toml(value)}" for key, value in entry.items() if key != "overrides"]
        if "overrides" in entry:
            lines.append(f"[secrets.{_to_toml(name)}.overrides]")
            lines += [f"{_to_toml(place)} = {_to_toml(value)}" for place, value in entry["overrides"].items()]
        lines.append("")
    return "\n".join(lines), tuple(omissions)


def _read(content: object, options: ReadOptions) -> ParsedFile:
    if content in (None, {}):
        return Builder(options).finish()
    secrets = content.get("secrets") if isinstance(content, dict) and len(content) == 1 else None
    if not isinstance(secrets, dict):
        raise ImportFileError(
            "the file must hold `secrets` and nothing else", hint="secrets: {NAME: {type, scopes, value}}"
        )
    builder = Builder(options)
    for name, entry in secrets.items():
        if not isinstance(name, str) or not isinstance(entry, dict) or not _REQUIRED <= set(entry) <= _KEYS:
            raise ImportFileError(
                f"{name!a} is not a definition",
                hint=f"it needs type and scopes, and may have {', '.join(sorted(_KEYS - _REQUIRED))}",
            )
        _read_entry(builder, options, name, entry)
    return builder.finish()


def _read_entry(builder: Builder, options: ReadOptions, name: str, entry: Mapping[str, object]) -> None:
    scopes = entry["scopes"]
    try:
        kind = parse_type(str(entry["type"]))
        found = parse_scopes(",".join(map(str, scopes)) if isinstance(scopes, list) else str(scopes))
        expires = _read_date(entry.get("expires"))
        overrides = entry.get("overrides") or {}
        if not isinstance(overrides, dict):
            raise ImportFileError("its overrides do not map environments to values")
        text = _read_text(entry.get("value"), allow_empty=options.allow_empty)
        builder.add(options.owner, name, kind, found, text, expires, _read_hosts(kind, entry.get("hosts")))
        for environment, value in overrides.items():
            text = _read_text(value, allow_empty=options.allow_empty)
            builder.override(options.owner, check_environment(str(environment)), name, text)
    except IcSecretsError as error:
        raise ImportFileError(f"{name}: {error}", hint=error.hint) from None


def _read_text(value: object, *, allow_empty: bool) -> str | None:
    """Return the value; an empty one is a place for it, unless allowed. A number would lose how it was written."""
    if value is None or (value == "" and not allow_empty):
        return None
    if not isinstance(value, str):
        raise ImportFileError("a value is not text", hint="put it in quotes")
    return value


def _read_hosts(kind: SecretType, value: object) -> Hosts:
    """Return the hosts that a list, or a text with commas, names; ImportFileError, InvalidHostError."""
    if value is None:
        return ()
    from ...model.hosts import check_hosts, parse_hosts

    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return check_hosts(kind, value)
    if not isinstance(value, str):
        raise ImportFileError("its hosts are not a list of texts", hint="hosts: [connect.example.com]")
    return check_hosts(kind, parse_hosts(value))


def _read_date(value: object) -> int | None:
    """Return the moment, or the last second of the day, in Unix time."""
    if value is None:
        return None
    from datetime import datetime, timezone

    text = str(value)
    try:
        moment = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
        moment = moment.replace(tzinfo=moment.tzinfo or timezone.utc)
        seconds = int(moment.timestamp()) + (86_399 if len(text) == len("2027-01-31") else 0)
    except (ValueError, OverflowError):
        seconds = -1
    if not 0 <= seconds < MAX_TIME:
        raise ImportFileError("its expiry is not a date", hint="2027-01-31, or 2027-01-31T18:00:00Z")
    return seconds


def _describe(
    secret_set: SecretSet, owner: Owner, omissions: list[Omission], *, values: bool
) -> dict[str, dict[str, Any]]:
    from time import gmtime, strftime

    show: Callable[[Secret | Override], str] = reveal if values else lambda item: ""
    described: dict[str, dict[str, Any]] = {}
    for held in secret_set.holdings:
        if held.owner != owner:
            omissions += [Omission(f"{held.owner} {one.name}", "the file has one owner") for one in held.secrets]
            continue
        for secret in held.secrets:
            entry: dict[str, Any] = {"type": secret.type.value, "scopes": format_scopes(secret.scopes).split(",")}
            if secret.hosts:
                entry["hosts"] = list(secret.hosts)
            entry["value"] = show(secret)
            if secret.expires is not None:
                entry["expires"] = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(secret.expires))
            overrides = {one.environment: show(one) for one in held.overrides if one.base == secret.id}
            described[secret.name] = {**entry, "overrides": overrides} if overrides else entry
        bases = {secret.id for secret in held.secrets}
        for one in held.overrides:
            if one.base not in bases:
                omissions.append(
                    Omission(f"{owner}.{one.environment} {one.name}", "what it overrides is not the owner's")
                )
            elif one.expires is not None:
                omissions.append(
                    Omission(f"the expiry of {owner}.{one.environment} {one.name}", "only a base can have one")
                )
    return described


def _to_toml(value: str | list[str]) -> str:
    """Return it as JSON, whose texts and lists are TOML's, but for DEL, which TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _to_data(node: yaml.Node | None) -> object:
    """Return the node as maps, lists and texts: a scalar that looks like a number stays as it is written."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        content: dict[str, object] = {}
        for key, value in node.value:
            name = _to_data(key)
            if not isinstance(name, str) or name in content:
                raise ImportFileError(f"line {key.start_mark.line + 1}: a key is not text, or is there twice")
            content[name] = _to_data(value)
        return content
    if isinstance(node, yaml.SequenceNode):
        return [_to_data(one) for one in node.value]
    if node is None or node.tag == "tag:yaml.org,2002:null":
        return None
    return node.value


YAML = Format("yaml", read_yaml, write_yaml, (".yaml", ".yml"), beginnings=(b"secrets:",), has_places=True)
TOML = Format("toml", read_toml, write_toml, (".toml",), beginnings=(b"[secrets.",), has_places=True)
