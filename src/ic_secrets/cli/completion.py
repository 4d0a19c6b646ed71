"""`ic-secrets completion SHELL`, and what is offered to somebody who types: by argcomplete, from our parsers.

Sites, environments and names come from what the store shows without its key. No value is opened, no plugin loaded.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NoReturn

from ..config import Settings
from ..errors import IcSecretsError
from ..model import Scope, SecretType
from ..model.names import PERMANENT
from . import COMMANDS, Call
from .parser import Parser
from .program import list_nested, make_program_parser

_SHELLS = ("bash", "zsh", "fish")
# The platform's own environments; the others are those that the store has overrides for.
_FILES = frozenset({"FILE", "F", "DIR", "PATH", "SRC", "DST", "URL"})


def run_completion(call: Call) -> int:
    """Print the script that makes the shell complete."""
    from argcomplete.shell_integration import shellcode

    arguments = make_parser().read(call.words)
    # By its name, so that no `./ic-secrets` of a checkout answers.
    print(shellcode(["ic-secrets"], shell=arguments.shell, argcomplete_script="ic-secrets"), end="")
    return 0


def make_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser(
        "completion",
        "Print the script that makes the shell complete commands, options, sites, environments and names. Those come\n"
        "from what the store shows without its key; no value is opened.\n\n"
        "fish: ic-secrets completion fish > ~/.config/fish/completions/ic-secrets.fish\n\n"
        "zsh: as a file _ic-secrets in a directory of $fpath, or in .zshrc after compinit, as in bash",
        'eval "$(ic-secrets completion bash)"    # in ~/.bashrc',
    )
    parser.add_argument("shell", metavar="SHELL", choices=_SHELLS, help="bash, zsh or fish")
    return parser


def complete(environment: Mapping[str, str]) -> NoReturn:
    """Answer the shell's script, which asks by variables, and exit."""
    from argcomplete.completers import SuppressCompleter
    from argcomplete.finders import CompletionFinder

    line = environment.get("COMP_LINE", "")[: int(environment.get("COMP_POINT", 0))]
    words = line.split()[1 : None if line[-1:].isspace() else -1]
    chosen = next((word for word in words if word[:1] != "-"), "")
    if chosen and chosen not in COMMANDS:
        raise SystemExit(0)
    parser = make_program_parser(chosen)
    names = _Names(environment)
    for each in list_nested(parser):
        if isinstance(each, Parser):
            _complete_by(each, names, words)
    CompletionFinder()(parser, always_complete_options=False, default_completer=SuppressCompleter())
    raise SystemExit(1)


class _Names:
    """The names of the store that the settings name, or the command line; read when they are asked for."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.url: str | None = None

    @cached_property
    def _read(self) -> tuple[Mapping[tuple[str, str], Sequence[tuple[str, str]]], Mapping[str, str]]:
        from ..stores.names import read_names

        try:
            return read_names(self.url or Settings(self._environment).store.value)
        except (IcSecretsError, OSError):
            return {}, {}

    def list_owners(self, kind: str) -> list[str]:
        """Return the sites, or the organizations."""
        return sorted(name for owner_kind, name in self._read[0] if owner_kind == kind)

    def list_environments(self, owner: str) -> list[str]:
        """Return the platform's environments, and those of the owner's and its organization's overrides."""
        found = {environment for _, environment in self._list_held(owner, inherited=True)}
        return [*PERMANENT, *sorted(found - {"", *PERMANENT})]

    def list_names(self, owner: str, *, inherited: bool) -> list[str]:
        """Return the names of the owner's secrets, and if wanted of those that it inherits."""
        return sorted({name for name, _ in self._list_held(owner.partition(".")[0], inherited=inherited)})

    def list_all_names(self) -> list[str]:
        """Return the names of everybody's secrets."""
        return sorted({name for held in self._read[0].values() for name, _ in held})

    def _list_held(self, owner: str, *, inherited: bool) -> list[tuple[str, str]]:
        held, organizations = self._read
        if owner.startswith("org:"):
            return list(held.get(("organization", owner.removeprefix("org:")), ()))
        found = list(held.get(("site", owner), ()))
        if inherited and owner in organizations:
            found += held.get(("organization", organizations[owner]), ())
        return found


# --- completers of arguments ------------------------------------------------------------------------


def _complete_by(parser: Parser, names: _Names, words: Sequence[str]) -> None:
    """Tell argcomplete what could stand for each argument of the parser."""
    parser.add_argument("--no-plugins", action="store_true", help="load no plugin")
    if parser.takes_command:
        parser.add_argument("build", metavar="COMMAND", nargs="*")
    for action in parser._actions:
        if not action.choices:
            action.completer = _make_completer(parser, names, words)  # type: ignore[attr-defined]


def _make_completer(parser: Parser, names: _Names, words: Sequence[str]) -> Any:
    def find(*, prefix: str, action: argparse.Action, parsed_args: argparse.Namespace, **_: object) -> Iterable[str]:
        names.url = getattr(parsed_args, "store", None)
        metavar = str(action.metavar or "")
        owner = str(getattr(parsed_args, "owner", None) or getattr(parsed_args, "target", None) or "")
        if action.dest == "build":
            return _find_command(prefix, words, parsed_args.target)
        if "--" in words and metavar != "PATH":
            return ()
        if metavar in {"SITE", "SITE[.ENV]", "OWNER", "OWNER[.ENV]"}:
            return _find_owner(names, prefix, metavar)
        if action.dest == "words" and not parsed_args.words:  # a target, or a path already
            targets = [each for each in _find_owner(names, prefix, "SITE[.ENV]") if each.startswith(prefix)]
            return targets or _find_files(prefix)
        if metavar in _FILES:
            return _find_files(prefix)
        found = _find_words(parser, names, action, owner)
        if not metavar.endswith((",..", ",S...]")):
            return found
        done, comma, last = prefix.rpartition(",")  # what is completed of a list is its last element
        return [done + comma + word for word in found if word.startswith(last) and word not in done.split(",")]

    return find


def _find_words(parser: Parser, names: _Names, action: argparse.Action, owner: str) -> Iterable[str]:
    metavar = str(action.metavar or "")
    if metavar == "ORG":
        return names.list_owners("organization")
    if metavar in {"NAME", "N,..", "NAME|GLOB"}:
        return names.list_names(owner, inherited=not parser.prog.endswith(" delete"))
    if action.dest in {"name", "names"}:
        return names.list_all_names()
    known: dict[str, Iterable[str]] = {
        "type": [kind.value for kind in SecretType],
        "scope": [scope.value for scope in Scope],
        "command": COMMANDS,
    }
    return known.get(action.dest, ())


def _find_owner(names: _Names, prefix: str, metavar: str) -> Iterable[str]:
    """Return owners as the metavar says, and their environments once the owner is whole."""
    owners = names.list_owners("site")
    if metavar.startswith("OWNER"):
        owners += [f"org:{name}" for name in names.list_owners("organization")]
    owner, dot, _ = prefix.partition(".")
    if not metavar.endswith("[.ENV]") or owner not in owners:
        return owners
    targets = [f"{owner}.{environment}" for environment in names.list_environments(owner)]
    return targets if dot else [*owners, *targets]


def _find_command(prefix: str, words: Sequence[str], target: str | None) -> Iterable[str]:
    """Return `--` behind the target, then programs, then files."""
    if "--" not in words:
        return ["--"] if target else ()
    if words[-1] != "--" or "/" in prefix:
        return _find_files(prefix)
    found: set[str] = set()
    for directory in os.get_exec_path():
        try:
            found.update(name for name in os.listdir(directory) if name.startswith(prefix))
        except OSError:
            continue
    return sorted(found)


def _find_files(prefix: str) -> Iterable[str]:
    from argcomplete.completers import FilesCompleter

    found: Iterable[str] = FilesCompleter()(prefix)
    return found
