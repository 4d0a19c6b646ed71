"""The parsers of all commands, and one of the whole program: for completion, the manual page and the reference."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from . import COMMANDS
from .parser import Parser

_DESCRIPTION = """\
Runs a build with the secrets that it may see, its output masked, and leaves none of them behind. The rules are those
of Pantheon's Integrated Composer and Pantheon Secrets, for everywhere else: a pipeline, a pre-build hook, a laptop.

A target is a site and an environment, SITE.ENV; without one, dev. An owner of secrets is a SITE or an organization,
org:ORG. No command takes a value as an argument. Every command takes --help and --no-plugins."""


def list_parsers() -> Iterator[Parser]:
    """Yield the parser of every command, and of each action of those that have some."""
    for name in COMMANDS:
        for make in list_makers(name).values():
            yield make()


def list_makers(command: str) -> dict[str, Callable[[], Parser]]:
    """Return what makes the parser of each action of the command; one without actions has one, called ""."""
    entry = COMMANDS[command]
    module = import_module(f".{entry.module}", __package__)
    make: Callable[..., Parser] = getattr(module, entry.parser)
    if not entry.has_actions:
        return {"": make}
    return {action: functools.partial(make, action) for action in module.ACTIONS}


def make_program_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """Return a parser of the whole program; the arguments of other commands are left out where one is `chosen`."""
    program = argparse.ArgumentParser("ic-secrets", description=_DESCRIPTION)
    program.add_argument("--version", action="store_true", help="print the version")
    program.add_argument("--no-plugins", action="store_true", help="load no plugin; every command takes this")
    commands = _add_subparsers(program, "command")
    for name, entry in COMMANDS.items():
        if chosen not in {None, name}:
            commands.add_parser(name, help=entry.summary, make=argparse.ArgumentParser)
        elif entry.has_actions:
            holder = argparse.ArgumentParser(f"ic-secrets {name}", description=f"{entry.summary.capitalize()}.")
            commands.add_parser(name, help=entry.summary, make=lambda holder=holder: holder)
            actions, summaries = _add_subparsers(holder, "action"), import_module(f".{entry.module}", __package__)
            for action, make in list_makers(name).items():
                actions.add_parser(action, help=summaries.ACTIONS[action], make=make)
        else:
            commands.add_parser(name, help=entry.summary, make=list_makers(name)[""])
    return program


def make_manual_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole program as argparse-manpage is to show it, with short usages and the examples."""
    program = make_program_parser()
    program.usage = "ic-secrets COMMAND [ARGUMENTS]"
    for parser in list_nested(program):
        if isinstance(parser, Parser):
            parser.usage = parser.usage or _write_usage(parser)
            parser.description = f"{parser.description}\n\n{parser.epilog}"
    return program


def list_nested(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the parser, and those of its commands and their actions."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from list_nested(each)


def _write_usage(parser: Parser) -> str:
    words = [parser.prog, "[OPTIONS]"]
    for action in parser._actions:
        if not action.option_strings:
            word = str(action.metavar or action.dest)
            words.append(f"[{word}]" if action.nargs == "?" else word)
    return " ".join(words)


def _add_subparsers(parser: argparse.ArgumentParser, what: str) -> Any:
    """Let the parser have commands, each of which brings what makes its parser (`make`)."""

    def make_parser(make: Callable[[], argparse.ArgumentParser], **_: object) -> argparse.ArgumentParser:
        return make()

    return parser.add_subparsers(metavar=what.upper(), parser_class=make_parser)  # type: ignore[call-overload]
