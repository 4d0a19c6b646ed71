"""Composer's auth.json, which is what COMPOSER_AUTH holds too: `composer` secrets, one a method and host."""

from __future__ import annotations

import json

from ...composer.auth_json import merge_auth
from ...composer.credential import parse_credential
from ...composer.methods import METHODS
from ...errors import ImportFileError
from ...model.names import is_possible_name
from ...model.secret import Owner, SecretType, SecretValue
from ...stores.pantheon.secrets_json import show_word
from ..merge import Bundle
from .base import Content, Draft, LeftOut, Terms, list_own, need_scopes, parse_object, reveal


def read(text: str, terms: Terms) -> Content:
    """A `composer` secret for each credential, with the scopes of the terms; ImportFileError."""
    document = parse_object(text, "the file")
    scopes = need_scopes(terms, "an auth.json")
    draft = Draft(terms)
    for method, section in sorted(document.items()):
        if method not in METHODS:
            draft.leave_out(show_word(method), "it is no credential of Composer's")
            continue
        if section == []:  # how PHP writes an empty object
            continue
        if not isinstance(section, dict):
            raise ImportFileError(f"{method} is no map of hosts to credentials")
        for number, (host, content) in enumerate(sorted(section.items()), 1):
            if not is_possible_name(f"{method}.{host}"):
                raise ImportFileError(f"the host {number} of {method} is none", hint="HOST or HOST:PORT, no URL")
            is_plain = (
                isinstance(content, str) and content.strip() == content and content[:1] not in {"{", "[", '"', ""}
            )
            draft.add(
                terms.owner,
                f"{method}.{host}",
                SecretType.COMPOSER,
                scopes,
                content if is_plain else json.dumps(content, ensure_ascii=False),
            )
    return draft.finish()


def write(bundle: Bundle, owner: Owner) -> tuple[str, tuple[LeftOut, ...]]:
    """The auth.json of the owner's `composer` bases."""
    left_out: list[LeftOut] = []
    credentials = []
    for secret in list_own(bundle, owner, left_out):
        if secret.type is SecretType.COMPOSER:
            credentials.append(parse_credential(secret.name, SecretValue(reveal(secret))))
        else:
            left_out.append(LeftOut(f"{secret.owner} {secret.name}", "it is no credential of Composer's"))
    return json.dumps(merge_auth({}, credentials), indent=4, ensure_ascii=False) + "\n", tuple(left_out)
