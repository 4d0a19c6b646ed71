"""What could stand at the end of a command line that somebody is typing.

Commands and options come from the parsers, sites, environments and names from what the store shows without its key. No
key is asked for, no value opened, no plugin loaded.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from typing import NamedTuple

from ..config.settings import Settings
from ..errors import IcSecretsError
from ..model.secret import Scope, SecretType
from . import COMMANDS
from .parsing import Parser, takes_next

# The platform's own environments; the others are those that the store has overrides for.
_ENVIRONMENTS = ("dev", "test", "live")
_FILES = frozenset({"FILE", "F", "DIR", "PATH", "SRC", "DST", "URL"})


class Answer(NamedTuple):
    """Words, each with what it means ("" where that is plain); or that the shell's own files or commands are wanted."""

    words: Sequence[tuple[str, str]] = ()
    files: bool = False
    programs: bool = False


class Known:
    """The names of the store that the command line or the settings name, read when they are asked for."""

    def __init__(self, url: str | None) -> None:
        self._url = url

    @cached_property
    def _names(self) -> tuple[Mapping[tuple[str, str], Sequence[tuple[str, str]]], Mapping[str, str]]:
        from ..stores.names import read_names

        try:
            return read_names(self._url or Settings(dict(os.environ)).store.value)
        except (IcSecretsError, OSError):
            return {}, {}

    def list_owners(self, kind: str) -> list[str]:
        """The sites, or the organizations."""
        return sorted(name for owner_kind, name in self._names[0] if owner_kind == kind)

    def list_environments(self, owner: str) -> list[str]:
        """The platform's, and those of the owner's and its organization's overrides."""
        found = {environment for _, environment in self._list_held(owner, inherited=True)}
        return [*_ENVIRONMENTS, *sorted(found - {"", *_ENVIRONMENTS})]

    def list_names(self, owner: str, *, inherited: bool) -> list[str]:
        """The names of the owner's secrets, those that it inherits too where they are wanted."""
        return sorted({name for name, _ in self._list_held(owner.partition(".")[0], inherited=inherited)})

    def list_all_names(self) -> list[str]:
        """The names of everybody's secrets."""
        return sorted({name for held in self._names[0].values() for name, _ in held})

    def _list_held(self, owner: str, *, inherited: bool) -> list[tuple[str, str]]:
        held, organizations = self._names
        if owner.startswith("org:"):
            return list(held.get(("organization", owner.removeprefix("org:")), ()))
        found = list(held.get(("site", owner), ()))
        if inherited and owner in organizations:
            found += held.get(("organization", organizations[owner]), ())
        return found


def find_candidates(words: Sequence[str]) -> Answer:
    """What could be the last of the words, which follow `ic-secrets`; it may be empty, or begun."""
    *before, current = words or [""]
    before = [word for word in before if word != "--no-plugins"]
    if not before:
        commands = {name: entry.summary for name, entry in COMMANDS.items() if entry.summary}
        return _answer(current, {**commands, "--help": "", "--version": ""} if current[:1] == "-" else commands)
    command, *rest = before
    if command not in COMMANDS:
        return Answer()
    entry = COMMANDS[command]
    module = import_module(f".{entry.module}", __package__)
    make_parser: Callable[..., Parser] = getattr(module, entry.parser)
    if not entry.has_actions:
        return _find_argument(make_parser(), rest, current)
    if not rest:
        return _answer(current, module.ACTIONS)
    return _find_argument(make_parser(rest[0]), rest[1:], current) if rest[0] in module.ACTIONS else Answer()


def _find_argument(parser: Parser, before: Sequence[str], current: str) -> Answer:
    is_run = "-- COMMAND" in (parser.usage or "")
    if "--" in before:
        return Answer(programs=True) if is_run and before[-1] == "--" else Answer(files=True)
    options = {name: action for action in parser._actions for name in action.option_strings}
    given, positionals = _read(parser, options, before)
    known = Known(next((value for name, value in given if name == "--store"), None))
    last = given[-1] if given else ("", None)
    if last[1] is None and last[0] in options and takes_next(parser, options[last[0]]) and before[-1] == last[0]:
        return _find_value(parser, options[last[0]], positionals, known, "", current)
    name, equals, begun = current.partition("=")
    if equals and name in options:
        return _find_value(parser, options[name], positionals, known, f"{name}=", begun)
    if current.startswith("-"):
        used = {option for option, _ in given if options.get(option) and not _repeats(options[option])}
        long = {each: action.help or "" for each, action in options.items() if each[:2] == "--" and each not in used}
        return _answer(current, {**long, "--": "the command"} if is_run and positionals else long)
    places = [action for action in parser._actions if not action.option_strings]
    at = len(positionals)
    if places and (at < len(places) or places[-1].nargs == "*"):
        return _find_value(parser, places[min(at, len(places) - 1)], positionals, known, "", current)
    return _answer(current, {"--": "the command"}) if is_run else Answer()


def _read(
    parser: Parser, options: Mapping[str, argparse.Action], words: Sequence[str]
) -> tuple[list[tuple[str, str | None]], list[str]]:
    """The options that were given, with their values, and the positionals."""
    given: list[tuple[str, str | None]] = []
    positionals: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            positionals.append(word)
        elif equals:
            given.append((name, value))
        else:
            is_taking = word in options and takes_next(parser, options[word])
            given.append((word, next(rest, None) if is_taking else None))
    return given, positionals


def _repeats(action: argparse.Action) -> bool:
    return type(action).__name__ == "_AppendAction"


def _find_value(
    parser: Parser, action: argparse.Action, positionals: Sequence[str], known: Known, prefix: str, begun: str
) -> Answer:
    """What the argument could be, of which `begun` is there, behind the prefix that belongs to the same word."""
    if action.choices:
        return _answer(begun, dict.fromkeys(map(str, action.choices), ""), prefix)
    metavar = str(action.metavar or "")
    owner = positionals[0] if positionals else ""
    if metavar in {"SITE", "SITE[.ENV]", "OWNER", "OWNER[.ENV]"}:
        return _find_owner(known, begun, prefix, metavar)
    if action.dest == "words" and not positionals:  # a target, or a path already
        answer = _find_owner(known, begun, prefix, "SITE[.ENV]")
        return answer if answer.words else Answer(files=True)
    if metavar in _FILES:
        return Answer(files=True)
    found: Iterable[str] = ()
    if metavar == "ORG":
        found = known.list_owners("organization")
    elif metavar in {"NAME", "N,..", "NAME|GLOB"}:
        found = known.list_names(owner, inherited=not parser.prog.endswith(" delete"))
    elif action.dest in {"name", "names"}:
        found = known.list_all_names()
    elif action.dest == "type":
        found = [kind.value for kind in SecretType]
    elif action.dest == "scope":
        found = [scope.value for scope in Scope]
    elif action.dest == "command":
        found = COMMANDS
    if metavar.endswith((",..", ",S...]")):  # a list: what is to be completed is its last element
        done, comma, begun = begun.rpartition(",")
        prefix += done + comma
        found = [word for word in found if word not in done.split(",")]
    return _answer(begun, dict.fromkeys(found, ""), prefix)


def _find_owner(known: Known, begun: str, prefix: str, metavar: str) -> Answer:
    """Owners as the metavar says; their environments once the owner is whole."""
    owners = known.list_owners("site")
    if metavar.startswith("OWNER"):
        owners += [f"org:{name}" for name in known.list_owners("organization")]
    found = owners
    owner, dot, _ = begun.partition(".")
    if metavar.endswith("[.ENV]") and owner in owners:
        targets = [f"{owner}.{environment}" for environment in known.list_environments(owner)]
        found = targets if dot else [*owners, *targets]
    return _answer(begun, dict.fromkeys(found, ""), prefix)


def _answer(begun: str, words: Mapping[str, str], prefix: str = "") -> Answer:
    return Answer([(prefix + word, meaning) for word, meaning in words.items() if word.startswith(begun)])
