"""`.env` files, as python-dotenv parses them: NAME=VALUE, with comments, `export` and quotes.

What other readers of such files (shells above all) would take for something else is refused: a `$` or backtick that
may be replaced, and a backslash without double quotes.
"""

from __future__ import annotations

import io
import re
from typing import NoReturn

from ...errors import ImportFileError
from ...model.secret import Owner, SecretType
from ..merge import SecretSet
from .base import Builder, Format, Omission, ParsedFile, ReadOptions, list_own, require_scopes, reveal

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# An assignment up to its value, and a value in quotes.
_ASSIGNMENT = re.compile(rf"\s*(?:export\s+)?{_NAME.pattern}\s*=[^\S\r\n]*")
_QUOTED = re.compile(r"(['\"])((?:\\.|(?!\1)[^\\])*)\1", re.DOTALL)
# In double quotes: one that no backslash escapes.
_REPLACED = re.compile(r"(?<!\\)(?:\\\\)*[$`]")


def read(text: str, options: ReadOptions) -> ParsedFile:
    """Read a secret for each variable, of the type and scopes of the options; ImportFileError with the line."""
    from dotenv.parser import parse_stream

    scopes = require_scopes(options, "a .env file")
    kind = options.kind
    if kind not in {SecretType.ENV, SecretType.RUNTIME}:
        raise ImportFileError("a .env file has no type", hint="name it: --type env, or --type runtime")
    builder = Builder(options)
    seen: set[str] = set()
    for binding in parse_stream(io.StringIO(text, newline="")):
        raw = binding.original.string
        line = binding.original.line + len(re.findall(r"\r\n|\n|\r", raw[: len(raw) - len(raw.lstrip())]))
        if binding.error:
            _refuse(line, "this is not NAME=VALUE, or a quote does not end where the value does")
        if binding.key is None:
            continue
        start = _ASSIGNMENT.match(raw)
        if binding.value is None or not start:
            _refuse(line, "this is not NAME=VALUE")
        if binding.key in seen:
            _refuse(line, f"{binding.key} is set twice")
        seen.add(binding.key)
        value = _check(raw[start.end() :], binding.value, line)
        builder.add(options.owner, binding.key, kind or SecretType.ENV, scopes, value)
    return builder.finish()


def write(secret_set: SecretSet, owner: Owner, *, values: bool = True) -> tuple[str, tuple[Omission, ...]]:
    """Write the file of the owner's `env` and `runtime` bases."""
    omissions: list[Omission] = []
    lines = []
    for secret in list_own(secret_set, owner, omissions):
        if secret.type is SecretType.COMPOSER or not _NAME.fullmatch(secret.name):
            omissions.append(Omission(f"{secret.owner} {secret.name}", "its name is not that of a variable"))
        else:
            lines.append(f"{secret.name}={_quote(reveal(secret))}\n")
    return "".join(lines), tuple(omissions)


FORMAT = Format("env", read, write, endings=(".env",))


def _check(raw: str, value: str, line: int) -> str:
    """Return the value, which all readers agree on; ImportFileError where they do not."""
    quoted = _QUOTED.match(raw)
    if quoted and quoted[1] == '"':
        if _REPLACED.search(quoted[2]):
            _refuse(line, "$ and ` in double quotes would be replaced; write \\$, or use single quotes")
        return value.replace("\\$", "$").replace("\\`", "`")
    if quoted:
        if re.search(r"\\[\\']", quoted[2]):
            _refuse(line, "readers differ on \\\\ and \\' in single quotes; use double quotes")
    elif re.search(r"[$`\\]", value) or value.startswith("#"):
        _refuse(line, "a value with $, ` or \\, or with # at its start, needs single quotes")
    return value


def _quote(value: str) -> str:
    if not re.search(r"['\\\n\r]", value):
        return f"'{value}'"
    escaped = re.sub(r'([\\"$`])', r"\\\1", value).replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def _refuse(line: int, reason: str) -> NoReturn:
    raise ImportFileError(f"line {line}: {reason}", hint="the line is not shown, since it may hold a value")
