"""Ask a person at a terminal. Without a terminal nothing is asked: a script does what it says."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from ..errors import IcSecretsError
from .output import print_error

_Answer = TypeVar("_Answer")


def is_at_terminal() -> bool:
    """Return whether a person reads what we ask, and can type."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str, parse: Callable[[str], _Answer]) -> _Answer:
    """Return what `parse` makes of the answer; ask again where that is an error. EOFError at the end of input."""
    while True:
        print(question, end=" ", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        try:
            return parse(line.strip())
        except IcSecretsError as error:
            print_error(error)


def confirm(question: str) -> None:
    """Ask whether to delete it; IcSecretsError for any answer but yes."""
    try:
        answer = ask(f"{question} [y/N]", str.lower)
    except EOFError:
        answer = ""
    if answer not in {"y", "yes"}:
        raise IcSecretsError("nothing was deleted", hint="--yes deletes without a question")


def list_some(names: Sequence[str], most: int = 10) -> str:
    """Return the names in one line, the first of many."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
