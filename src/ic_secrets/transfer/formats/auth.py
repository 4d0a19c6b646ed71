"""Composer's auth.json, also the content of COMPOSER_AUTH: `composer` secrets, one for each method and host."""

from __future__ import annotations

import json
import re

from ...composer import METHODS, parse_credential
from ...composer.auth_json import merge_auth
from ...errors import InvalidNameError
from ...model import Owner, SecretType, SecretValue
from ...model.names import check_secret_name
from ...stores.pantheon.secrets_json import show_word
from ..merge import SecretSet
from .base import Builder, Format, Omission, ParsedFile, ReadOptions, list_own, parse_object, require_scopes, reveal

# The scheme and the host of a URL, without what may be secret in it.
_ADDRESS = re.compile(r"([a-z][a-z+]*://)?(?:.*@)?([A-Za-z0-9_.:-]+)(?=[/?#]|\Z)")


def read(text: str, options: ReadOptions) -> ParsedFile:
    """Read a `composer` secret for each credential, with the scopes of the options; ImportFileError."""
    document = parse_object(text, "the file")
    scopes = require_scopes(options, "an auth.json")
    builder = Builder(options)
    for method, section in sorted(document.items()):
        if method not in METHODS:
            builder.omit(show_word(method), "it is not a Composer credential")
            continue
        if section == []:  # how PHP writes an empty object
            continue
        if not isinstance(section, dict):
            builder.refuse(method, "it does not map hosts to credentials")
            continue
        for number, (host, content) in enumerate(sorted(section.items()), 1):
            if not _is_key(f"{method}.{host}"):
                builder.refuse(*_explain_host(method, host, number))
                continue
            is_plain = (
                isinstance(content, str) and content.strip() == content and content[:1] not in {"{", "[", '"', ""}
            )
            builder.add(
                options.owner,
                f"{method}.{host}",
                SecretType.COMPOSER,
                scopes,
                content if is_plain else json.dumps(content, ensure_ascii=False),
            )
    return builder.finish()


def _explain_host(method: str, host: str, number: int) -> tuple[str, str]:
    """Return what to call a host that Composer would never match, without login or path, and what to write instead."""
    found = _ADDRESS.match(host)
    if not found or not _is_key(f"{method}.{found[2].lower()}"):
        return f"host {number} of {method}", "it is not HOST or HOST:PORT"
    return f"{method} for {found[1] or ''}{found[2]}", f"it must be HOST or HOST:PORT: write {found[2].lower()}"


def _is_key(name: str) -> bool:
    try:
        check_secret_name(SecretType.COMPOSER, name)
    except InvalidNameError:
        return False
    return True


def write(secret_set: SecretSet, owner: Owner, *, values: bool = True) -> tuple[str, tuple[Omission, ...]]:
    """Write the auth.json of the owner's `composer` bases."""
    omissions: list[Omission] = []
    credentials = []
    for secret in list_own(secret_set, owner, omissions):
        if secret.type is SecretType.COMPOSER:
            credentials.append(parse_credential(secret.name, SecretValue(reveal(secret))))
        else:
            omissions.append(Omission(f"{secret.owner} {secret.name}", "it is not a Composer credential"))
    return json.dumps(merge_auth({}, credentials), indent=4, ensure_ascii=False) + "\n", tuple(omissions)


FORMAT = Format("auth", read, write, endings=("auth.json",))
