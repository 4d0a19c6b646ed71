"""Ask a person at a terminal. Without a terminal nothing is asked: a script does what it says."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from ..composer.methods import check_name
from ..errors import IcSecretsError, InvalidNameError, UndefinedSecretError
from ..model.secret import Scopes, SecretType, parse_scopes, parse_type
from .output import print_error, print_message

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


def ask_for_definition(
    error: UndefinedSecretError, name: str, kind: SecretType | None, scopes: Scopes | None
) -> tuple[SecretType, Scopes]:
    """Ask a person for the type and scopes of a new secret; without a terminal, raise the error."""

    def parse(text: str) -> SecretType:
        parsed = parse_type(text)
        check_name(parsed, name)
        return parsed

    if not is_at_terminal():
        raise error
    print_message("", f"{error}; they can never be changed")
    try:
        if kind is None and _is_composer_key(name):
            print_message("", "type: composer, since the name is a Composer auth key")
            kind = SecretType.COMPOSER
        kind = kind or ask("type (runtime, env, composer):", parse)
        return kind, scopes or ask("scopes (ic: builds, web: the application, user: people may read it):", parse_scopes)
    except EOFError:
        raise error from None


def _is_composer_key(name: str) -> bool:
    try:
        check_name(SecretType.COMPOSER, name)
    except InvalidNameError:
        return False
    return True
