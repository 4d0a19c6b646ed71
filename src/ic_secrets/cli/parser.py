"""The parser that every command has, options that several share; a mistake is a UsageError."""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import os
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from ..errors import UsageError

# The value of an option that was given without one.
BARE = "\0"


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help as wide as the terminal."""

    def __init__(self, prog: str, **keywords: Any) -> None:
        super().__init__(prog, width=_find_width(), **keywords)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        return super()._format_action_invocation(action).replace(" [=", "[=")


def _expand_home(word: re.Match[str]) -> str:
    """Return a path with `~` as the home, which not every shell replaces after `=`."""
    return (word[1] or "") + os.path.expanduser(word[2])


@functools.cache
def _find_width() -> int:
    """Return the width of help; argparse asks for each argument, and would import much to find it."""
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdecimal() else 0
    if not width:
        with contextlib.suppress(OSError):
            width = os.get_terminal_size(1).columns
    return max((width or 80) - 2, 20)


class Parser(argparse.ArgumentParser):
    """argparse, with our errors, no abbreviations, and options before and after the positionals."""

    def __init__(self, command: str, description: str, example: str) -> None:
        super().__init__(
            prog=f"ic-secrets {command}",
            description=description,
            epilog=f"example:\n  {example}",
            formatter_class=_Formatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise UsageError, not print and exit. An unknown argument is not shown, since it may be a value."""
        hint = f"`{self.prog} --help` shows how it is used"
        if message.startswith("unrecognized arguments"):
            message = "unrecognized arguments"
            if self.takes_command:
                hint = f"`--` goes before the command: {self.prog} SITE.ENV -- COMMAND...; {hint}"
            else:
                hint += "; values are not arguments: use the prompt, stdin, --from-file or --from-env"
            if self._bare:
                hint = f"{self._bare} takes a value only after `=`; {hint}"
        raise UsageError(message, hint=hint)

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Return the arguments; an optional value comes after `=` only."""
        if "" in words:
            raise UsageError("an argument is empty", hint="is a variable of the pipeline unset?")
        for word in words:
            name, equals, value = word.partition("=")
            if name.startswith("--") and equals and not value:
                raise UsageError(f"{name} has an empty value", hint="leave the option out, or give it a value")
        pairs = itertools.pairwise(words)
        self._bare = next((a for a, b in pairs if a[2:] in self._optional and not b.startswith("-")), "")
        return self.parse_intermixed_args([re.sub(r"^(--[\w-]+=)?(~/.*)", _expand_home, word) for word in words])

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does, an option without its optional value having BARE for one."""
        bare = {f"--{name}": f"--{name}={BARE}" for name in self._optional}
        return super().parse_known_args([bare.get(word, word) for word in args or ()], namespace)

    def add_optional(self, name: str, metavar: str, words: str) -> None:
        """Add an option `--name[=VALUE]`: None if absent, BARE without a value. It never takes the next word."""
        self._optional = (*self._optional, name)
        self.add_argument(f"--{name}", metavar=f"[={metavar}]", help=words)

    _optional: tuple[str, ...] = ()
    _bare = ""  # an option without its optional value, which a word follows

    @property
    def takes_command(self) -> bool:
        """Whether a command of somebody else's follows, behind `--`."""
        return "-- COMMAND" in (self.usage or "")


def add_store_options(parser: Parser) -> None:
    """Add the options of every command that opens a store."""
    parser.add_argument("--store", metavar="URL", help="the store: a path or a URL (IC_SECRETS_STORE)")
    parser.add_argument("--key-file", metavar="FILE", help="the file that holds its key (IC_SECRETS_KEY_FILE)")


def add_exposure_options(parser: Parser) -> None:
    """Add the options of every command that exposes secrets to a build."""
    parser.add_argument("--only", metavar="N,..", help="expose only these secrets")
    parser.add_argument("--except", metavar="N,..", dest="excluded", help="expose all but these")
    parser.add_optional("preserve-env", "A,B", "variables that are already set win (all, or these)")
    parser.add_argument("--pristine", action="store_true", help="pass on only PATH, HOME, TERM and the like")
    parser.add_argument("--run-dir", metavar="DIR", help="make the private directory there")
    parser.add_argument("--leaks", choices=["fail", "warn", "off"], help="what happens when a leak is found (fail)")
    parser.add_argument("--leaks-allow", metavar="NAME|GLOB", action="append", default=[], help="a known leak")
    add_broker(parser, "keep credentials out of the build: a broker adds them to its requests")
    parser.add_argument(
        "--allow-write",
        metavar="HOST[:PORT]",
        action="append",
        help="a host at which the broker lets credentials do more than read",
    )
    parser.add_argument("--min-generation", metavar="N", help="refuse a copy of the store older than generation N")
    parser.add_argument("--receipt", metavar="FILE", help="write what was exposed, and proof that it is gone")


def add_isolation(parser: Parser) -> None:
    """Add the options of every command that isolates a build, or says what that would do."""
    add_isolate(parser, "keep the rest of the machine out of the build's reach (the best way there is); with --broker")
    parser.add_argument(
        "--allow-host",
        metavar="HOST[:PORT]",
        action="append",
        help="a further host that an isolated build may reach: by HTTP and HTTPS, or at that port",
    )
    parser.add_argument(
        "--allow-path",
        metavar="PATH[:rw]",
        action="append",
        type=_check_path,
        help="a further path that an isolated build sees, or may write to",
    )


def add_isolate(parser: Parser, words: str) -> None:
    """Add the option of every command that says what an isolated build gets."""
    parser.add_optional("isolate", "bubblewrap|landlock", words)


def _check_path(path: str) -> str:
    if "," in path:  # it separates them in a variable
        raise argparse.ArgumentTypeError("a path that holds a comma cannot be allowed")
    return path


def add_broker(parser: Parser, words: str) -> None:
    """Add the option of every command that exposes secrets to a build, or says what that would do."""
    parser.add_argument("--broker", action="store_true", help=words)


def add_yes(parser: Parser) -> None:
    """Add the option of every command that asks a person at a terminal before it deletes."""
    parser.add_argument("--yes", action="store_true", help="delete without a question, also at a terminal")


def add_json(parser: Parser) -> None:
    """Add the option of every command that reports."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
