"""Read untrusted TOML: the parser's time and memory grow with the square of a key's parts, so their number is ours."""

from __future__ import annotations

import re
import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MOST_DOTS = 40
# What is not closed ends with the text: so nothing is looked at twice.
_STRING = r'"""(?:\\.|[^\\])*?(?:"{3,5}|\Z)|\'\'\'.*?(?:\'{3,5}|\Z)|"(?:\\[^\n]|[^"\\\n])*"?|\'[^\'\n]*\'?'
_TOKEN = re.compile(rf"(?s)(?P<string>{_STRING})|(?P<comment>\#[^\n]*)|[\[{{\]}}\n]")
_OPENING, _CLOSING = frozenset("[{"), frozenset("]}")
# A line end inside a string or a list. No valid TOML has this character.
_INNER_END = "\v"


class TomlError(Exception):
    """The text is not valid TOML, or a key has too many parts.

    The message is in words, without content; `line` and `column` count from 1, or are None where they are not known.
    """

    def __init__(self, problem: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(problem)
        self.line = line
        self.column = column


def parse(text: str) -> dict[str, Any]:
    """Return what the text says; TomlError."""
    for number, line in enumerate(_blank(text).split("\n"), 1):
        if line.count(".") > _MOST_DOTS:
            raise TomlError(f"more than {_MOST_DOTS} dots outside strings in a line", number)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Only numbers are taken from the message, which may show the text.
        found = re.search(r"\(at line (\d+), column (\d+)\)$", str(error))
        if found:
            raise TomlError("not valid TOML", int(found[1]), int(found[2])) from None
        is_at_end = str(error).endswith("(at end of document)")
        raise TomlError("not valid TOML", text.count("\n") + 1 if is_at_end else None) from None
    except (ValueError, RecursionError):  # a number with too many digits, an impossible date
        raise TomlError("not valid TOML") from None


def find_line(name: str, text: str) -> int:
    """Return the line of a key at the top of the valid text, or of its table; 0 where it is not written plainly."""
    joined = _join_lines(text)
    key = re.search(rf"(?m)^[ \t]*(?:\[+[ \t]*)?([\"']?){re.escape(name)}\1[ \t]*[.=\]]", joined)
    return 1 + sum(joined.count(end, 0, key.start()) for end in ("\n", _INNER_END)) if key else 0


def _blank(text: str) -> str:
    """Return the text without its strings and comments, in the same lines."""
    return _TOKEN.sub(lambda token: "\n" * token[0].count("\n") if token.lastgroup else token[0], text)


def _join_lines(text: str) -> str:
    """Return the text with other line ends inside strings and lists: what begins a line is then a key or a table."""
    depth = 0

    def join(token: re.Match[str]) -> str:
        nonlocal depth
        depth += (token[0] in _OPENING) - (token[0] in _CLOSING)
        return token[0].replace("\n", _INNER_END) if depth > 0 or token["string"] else token[0]

    return _TOKEN.sub(join, text)
