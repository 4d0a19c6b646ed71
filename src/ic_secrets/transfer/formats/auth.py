"""Composer's auth.json, also the content of COMPOSER_AUTH: `composer` secrets, one for each method and host."""

from __future__ import annotations

import json

from ...composer.auth_json import merge_auth
from ...composer.credential import parse_credential
from ...composer.methods import METHODS
from ...errors import ImportFileError
from ...model.names import is_possible_name
from ...model.secret import Owner, SecretType, SecretValue
from ...stores.pantheon.secrets_json import show_word
from ..merge import SecretSet
from .base import Builder, Format, Omission, ParsedFile, ReadOptions, list_own, parse_object, require_scopes, reveal


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
            raise ImportFileError(f"{method} does not map hosts to credentials")
        for number, (host, content) in enumerate(sorted(section.items()), 1):
            if not is_possible_name(f"{method}.{host}"):
                raise ImportFileError(f"host {number} of {method} is not valid", hint="HOST or HOST:PORT, not a URL")
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
