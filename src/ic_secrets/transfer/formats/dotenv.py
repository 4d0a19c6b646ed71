"""`.env` files, as python-dotenv parses them: NAME=VALUE, with comments, `export` and quotes.

What other readers of such files (shells above all) would take for something else is refused: a `$` or backtick that
may be replaced, and a backslash without double quotes. On demand a variable is replaced by what the file says of it in
an earlier line, where all readers agree on it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import NoReturn

from ...errors import ImportFileError
from ...model import Owner, SecretType
from ..merge import SecretSet
from .base import Builder, Format, Omission, ParsedFile, ReadOptions, list_own, omit_hosts, require_scopes, reveal

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# An assignment up to its value, and a value in quotes.
_ASSIGNMENT = re.compile(rf"\s*(?:export\s+)?{_NAME.pattern}\s*=[^\S\r\n]*")
_QUOTED = re.compile(r"(['\"])((?:\\.|(?!\1)[^\\])*)\1", re.DOTALL)
# What a value consists of: escapes, references to a variable, characters that may mean something else, and text.
_PARTS = re.compile(rf"\\.|\$(?:\{{({_NAME.pattern})\}}|({_NAME.pattern}))|[$`]|[^\\$`]+", re.DOTALL | re.ASCII)
_DOUBLE_QUOTED = "$ and ` in double quotes would be replaced; write \\$, or use single quotes"
_UNQUOTED = "a value with $, ` or \\, or with # at its start, needs single quotes"


def read(text: str, options: ReadOptions) -> ParsedFile:
    """Read a secret for each variable, of the type and scopes of the options; ImportFileError with the line."""
    from dotenv.parser import parse_stream

    scopes = require_scopes(options, "a .env file")
    kind = options.kind
    if kind not in {SecretType.ENV, SecretType.RUNTIME}:
        raise ImportFileError("a .env file has no type", hint="name it: --type env, or --type runtime")
    builder = Builder(options)
    seen: set[str] = set()
    known: dict[str, str] = {}
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
        try:
            value = _read_value(raw[start.end() :], binding.value, known, expand=options.expand)
        except _UnclearError as error:
            builder.refuse(f"{options.owner} {binding.key}", f"{error} (line {line})", binding.key)
            continue
        known[binding.key] = value
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
            omissions += omit_hosts([secret])
    return "".join(lines), tuple(omissions)


FORMAT = Format("env", read, write, endings=(".env",))


class _UnclearError(Exception):
    """Readers differ on what the value is; the text says why, and shows nothing of it."""


def _read_value(raw: str, value: str, known: Mapping[str, str], *, expand: bool) -> str:
    """Return the value, which all readers agree on; _UnclearError where they do not."""
    quoted = _QUOTED.match(raw)
    if quoted and quoted[1] == "'":
        if re.search(r"\\[\\']", quoted[2]):
            raise _UnclearError("readers differ on \\\\ and \\' in single quotes; use double quotes")
        return value
    if quoted:
        return _replace(quoted[2], _unescape, known if expand else None, _DOUBLE_QUOTED)
    if "\\" in value or value.startswith("#"):
        raise _UnclearError(_UNQUOTED)
    return _replace(value, str, known if expand else None, _UNQUOTED)


def _replace(text: str, decode: Callable[[str], str], known: Mapping[str, str] | None, problem: str) -> str:
    """Return the text, decoded, with the known variables put in; _UnclearError for others, or without any (None)."""
    done, piece = "", ""
    for part in _PARTS.finditer(text):
        name = part[1] or part[2]
        if name is None and part[0] not in {"$", "`"}:
            piece += part[0]
            continue
        if name is None or (known is None and not part[1]):
            raise _UnclearError(problem)
        if known is None:  # what looks like a name may be a part of a password, and is not shown
            raise _UnclearError("it refers to another variable; --expand puts in what the file says of that")
        if name not in known:
            raise _UnclearError("it refers to a variable that no earlier line of the file sets")
        done, piece = done + decode(piece) + known[name], ""
    return done + decode(piece)


def _unescape(text: str) -> str:
    """Return what the text in double quotes means."""
    from dotenv.parser import parse_stream

    binding = next(parse_stream(io.StringIO(f'A="{text}"', newline="")))
    return (binding.value or "").replace("\\$", "$").replace("\\`", "`")


def _quote(value: str) -> str:
    if not re.search(r"['\\\n\r]", value):
        return f"'{value}'"
    escaped = re.sub(r'([\\"$`])', r"\\\1", value).replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def _refuse(line: int, reason: str) -> NoReturn:
    raise ImportFileError(f"line {line}: {reason}", hint="the line is not shown, since it may hold a value")
