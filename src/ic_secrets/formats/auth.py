"""Composer's auth.json, which is what COMPOSER_AUTH holds too: `composer` secrets, one a method and host."""

from __future__ import annotations

import json

from ..composer import merge_auth, parse_credential
from ..secret import COMPOSER_METHODS, Owner, SecretType, SecretValue
from ..transfer import Bundle
from . import Content, Draft, LeftOut, Terms, list_own, need_scopes, parse_object, reveal


def read(text: str, terms: Terms) -> Content:
    """A `composer` secret for each credential, with the scopes of the terms; ImportFileError."""
    document = parse_object(text, "the file")
    scopes = need_scopes(terms, "an auth.json")
    draft = Draft(terms)
    for method, section in sorted(document.items()):
        if method not in COMPOSER_METHODS:
            draft.leave_out(method, "it is no credential of Composer's")
            continue
        for host, content in sorted(section.items()) if isinstance(section, dict) else ():
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
