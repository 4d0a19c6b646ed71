"""`.env` files: NAME=VALUE, a line each, with comments, `export` and quotes as shells and most libraries take them.

Single quotes keep what is in them; double quotes know \\n \\r \\t \\" \\\\ \\$ and may span lines. Nothing is put in
for `$NAME`: what it would be depends on where the file is read, so it is an error.
"""

from __future__ import annotations

import re
from typing import NoReturn

from ...errors import ImportFileError
from ...model.secret import Owner, SecretType
from ..merge import Bundle
from .base import Content, Draft, LeftOut, Terms, list_own, need_scopes, reveal

_LINE = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*")
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE = re.compile(r"[^\n]*")
_REST = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\r?\n|\Z)")
_SKIPPED = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\r?\n|\Z)")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$", "`": "`"}


def read(text: str, terms: Terms) -> Content:
    """A secret for each variable, of the type and scopes of the terms; ImportFileError with the line."""
    scopes = need_scopes(terms, "a .env file")
    kind = terms.kind
    if kind not in {SecretType.ENV, SecretType.RUNTIME}:
        raise ImportFileError("a .env file tells no type", hint="name it: --type env, or --type runtime")
    draft = Draft(terms)
    seen: set[str] = set()
    at = 0
    while at < len(text):
        skipped = _SKIPPED.match(text, at)
        if skipped and skipped.end() > at:
            at = skipped.end()
            continue
        found = _LINE.match(text, at)
        if not found:
            _refuse(text, at, "this is no NAME=VALUE")
        name = found[1]
        if name in seen:
            _refuse(text, at, f"{name} stands there twice")
        seen.add(name)
        value, at = _read_value(text, found.end())
        draft.add(terms.owner, name, kind or SecretType.ENV, scopes, value)
    return draft.finish()


def write(bundle: Bundle, owner: Owner) -> tuple[str, tuple[LeftOut, ...]]:
    """The file of the owner's `env` and `runtime` bases."""
    left_out: list[LeftOut] = []
    lines = []
    for secret in list_own(bundle, owner, left_out):
        if secret.type is SecretType.COMPOSER or not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", secret.name):
            left_out.append(LeftOut(f"{secret.owner} {secret.name}", "its name is none of a variable"))
        else:
            lines.append(f"{secret.name}={_quote(reveal(secret))}\n")
    return "".join(lines), tuple(left_out)


def _read_value(text: str, at: int) -> tuple[str, int]:
    """The value that begins there, and where the next line does."""
    single, double = _SINGLE.match(text, at), _DOUBLE.match(text, at)
    found = single or double
    if found:
        rest = _REST.match(text, found.end())
        if not rest:
            _refuse(text, found.end(), "something stands behind the quotes")
        value = found[1] if single else _unescape(text, at, found[1])
        return value, rest.end()
    bare = _BARE.match(text, at)
    assert bare
    value = re.split(r"(?:^|[ \t])#", bare[0], maxsplit=1)[0].strip()
    if value[:1] in {"'", '"'}:
        _refuse(text, at, "the quote has no end")
    if "$" in value or "\\" in value or "`" in value:
        _refuse(text, at, "a value with $, ` or \\ needs single quotes")
    return value, min(bare.end() + 1, len(text))


def _unescape(text: str, at: int, quoted: str) -> str:
    if re.search(r"(?<!\\)(?:\\\\)*[$`]", quoted):
        _refuse(text, at, "$ and ` in double quotes would be replaced; write \\$, or use single quotes")
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), quoted, flags=re.DOTALL)


def _quote(value: str) -> str:
    if "'" not in value and "\n" not in value and "\r" not in value:
        return f"'{value}'"
    escaped = re.sub(r'([\\"$`])', r"\\\1", value).replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def _refuse(text: str, at: int, reason: str) -> NoReturn:
    line = text.count("\n", 0, at) + 1
    raise ImportFileError(f"line {line}: {reason}", hint="the line is not shown, since it may hold a value")
