"""What `import` and `export` do for formats of text: read, write, have places filled, tell what is left out."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import NamedTuple

from ..assembly.context import Context
from ..core.files import read_regular
from ..errors import ImportFileError, InvalidValueError, UnknownSiteError, UsageError
from ..model.resolve import Holdings
from ..model.secret import Override, Owner, Secret, SecretType, SecretValue, parse_scopes, parse_type
from ..stores.base import Store
from ..transfer.formats.base import Content, LeftOut, Terms
from ..transfer.merge import Bundle, check_value
from .output import print_message
from .parsing import Parser

Answers = Mapping[tuple[Owner, str | None, str], SecretValue]

# Some thousands of the longest values.
_LARGEST = 64 << 20


class TextFormat(NamedTuple):
    """A module of `formats`, its two functions, the names of files that it is guessed by, and how its files begin."""

    module: str
    read: str
    write: str
    endings: tuple[str, ...]
    beginnings: tuple[bytes, ...]


TEXT_FORMATS = {
    "pantheon": TextFormat("pantheon", "read", "write", ("secrets.json",), (b'{\n    "SiteID"',)),
    "auth": TextFormat("auth", "read", "write", ("auth.json",), ()),
    "env": TextFormat("dotenv", "read", "write", (".env",), ()),
    "yaml": TextFormat("definitions", "read_yaml", "write_yaml", (".yaml", ".yml"), (b"secrets:",)),
    "toml": TextFormat("definitions", "read_toml", "write_toml", (".toml",), (b"[secrets.",)),
}


def guess_format(path: str) -> str:
    """The format that the file's name tells; UsageError where it tells none."""
    name = os.path.basename(path)
    if name.endswith(".sealed"):
        return "sealed"
    for form, known in TEXT_FORMATS.items():
        if name.endswith(known.endings) or (form == "env" and name.startswith(".env.")):
            return form
    raise UsageError("the name of the file tells no format", hint=f"--format names one: {', '.join(list_formats())}")


def list_formats() -> list[str]:
    """Their names."""
    return ["sealed", *TEXT_FORMATS]


def add_reading_options(parser: Parser) -> None:
    """What formats need that do not tell all of a secret."""
    parser.add_argument("--type", metavar="T", help="what the variables of a .env file become: env or runtime")
    parser.add_argument("--scope", metavar="S[,S...]", help="the scopes of what an auth.json or .env file brings")
    parser.add_argument("--allow-empty", action="store_true", help="accept empty values")


def read_content(
    arguments: argparse.Namespace, context: Context, form: str, owner: Owner | None, store: Store
) -> Bundle:
    """What the file, stdin or the variable says, its empty places filled; what is left out is told."""
    if owner is None:
        raise UsageError(f"a file of the format {form} is of one owner", hint="name it: SITE or org:ORG")
    terms = Terms(
        owner,
        parse_type(arguments.type) if arguments.type else None,
        parse_scopes(arguments.scope) if arguments.scope else None,
        _find_organization(store, owner),
        arguments.with_org,
        int(time.time()),
        arguments.allow_empty,
    )
    known = TEXT_FORMATS[form]
    read: Callable[[str, Terms], Content] = getattr(
        import_module(f"ic_secrets.transfer.formats.{known.module}"), known.read
    )
    content = read(_read_text(arguments, context.settings.environment), terms)
    tell_left_out(content.left_out)
    return _fill(_take_known(content, store))


def write_content(form: str, bundle: Bundle, owner: Owner | None, *, values: bool) -> bytes:
    """The bundle as the format has it; what is left out is told."""
    if owner is None:
        raise UsageError(f"a file of the format {form} is of one owner", hint="name it: SITE or org:ORG")
    known = TEXT_FORMATS[form]
    write = getattr(import_module(f"ic_secrets.transfer.formats.{known.module}"), known.write)
    text, left_out = write(bundle, owner) if values else write(bundle, owner, values=False)
    tell_left_out(left_out)
    data: bytes = text.encode()
    return data


def is_one_of(form: str, data: bytes) -> bool:
    """Whether the content of a file is an export of this format, and may be replaced by another.

    What people keep in a .env file or an auth.json is theirs: neither is ever replaced.
    """
    return data.startswith(TEXT_FORMATS[form].beginnings)


def make_check(*, allow_empty: bool) -> Callable[[SecretType, str, SecretValue], None]:
    """What every value is checked by, as `set` does."""

    def check(kind: SecretType, name: str, value: SecretValue) -> None:
        if not value.reveal() and not allow_empty:
            raise InvalidValueError("the value is empty: --allow-empty accepts that")
        check_value(kind, name, value)

    return check


def tell_left_out(left_out: Iterable[LeftOut]) -> None:
    """Name what was not brought along."""
    for one in left_out:
        print_message("warning", f"{one.what} is left out: {one.reason}")


def _find_organization(store: Store, owner: Owner) -> str | None:
    if not owner.is_site:
        return None
    try:
        return store.site(owner.name).organization
    except UnknownSiteError:
        return None


def _read_text(arguments: argparse.Namespace, environment: Mapping[str, str]) -> str:
    if (arguments.file is None) == (arguments.from_env is None):
        raise UsageError("name one FILE, - for stdin, or --from-env VAR")
    if arguments.from_env is not None:
        value = environment.get(arguments.from_env)
        if value is None:
            raise UsageError("the variable that --from-env names is not set", hint="it takes a variable's name")
        data = os.fsencode(value)
    elif arguments.file == "-":
        data = sys.stdin.buffer.read(_LARGEST)
    else:
        try:
            found = read_regular(arguments.file, _LARGEST)
        except OSError as error:
            raise ImportFileError(f"{arguments.file} cannot be read: {error.strerror}") from None
        if found is None:
            shown = arguments.file if arguments.file[:1] not in {"{", "["} else "of that name; is it what one holds?"
            raise ImportFileError(f"there is no file {shown}")
        data = found
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise ImportFileError("the file is not UTF-8") from None


def _take_known(content: Content, store: Store) -> Content:
    """The content with the store's own values in the places that are to be filled: those stay as they are."""
    known: dict[tuple[Owner, str | None, str], SecretValue] = {}
    for owner in {place[0] for place in content.empty}:
        held = store.read(owner)
        for secret in held.secrets:
            if secret.value is not None:
                known[owner, None, secret.name] = secret.value
        for one in held.overrides:
            if one.value is not None:
                known[owner, one.environment, one.name] = one.value
    left = tuple(place for place in content.empty if place not in known)
    return content._replace(bundle=_answer_all(content.bundle, known), empty=left)


def _fill(content: Content) -> Bundle:
    """Ask a person for the values that the file leaves open; ImportFileError where there is none to ask."""
    if not content.empty:
        return content.bundle
    places = [
        f"{owner}.{environment} {name}" if environment else f"{owner} {name}"
        for owner, environment, name in content.empty
    ]
    if not sys.stdin.isatty():
        raise ImportFileError(
            f"no value for {', '.join(places)}", hint="fill it in, or import at a terminal, which asks"
        )
    from getpass import getpass

    answers = {}
    for place, shown in zip(content.empty, places, strict=True):
        answers[place] = SecretValue(getpass(f"value of {shown}: "))
    return _answer_all(content.bundle, answers)


def _answer_all(bundle: Bundle, answers: Answers) -> Bundle:
    holdings = tuple(
        Holdings(
            held.owner,
            tuple(_answer(secret, answers) for secret in held.secrets),
            tuple(_answer_override(one, answers) for one in held.overrides),
        )
        for held in bundle.holdings
    )
    return bundle._replace(holdings=holdings)


def _answer(secret: Secret, answers: Answers) -> Secret:
    return secret._replace(value=secret.value or answers.get((secret.owner, None, secret.name)))


def _answer_override(one: Override, answers: Answers) -> Override:
    return one._replace(value=one.value or answers.get((one.owner, one.environment, one.name)))
