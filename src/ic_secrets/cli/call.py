"""How every command begins: its words become arguments, and with the environment its one context."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..assembly import Context
from ..config import Settings
from ..core import Notice
from ..errors import UsageError
from . import COMMANDS, Call
from .output import print_message
from .parser import BARE, Parser

if TYPE_CHECKING:
    from ..build import BuildRequest

# Flags of settings, and where argparse puts them. A list of --leaks-allow is taken as it is: a path may hold a comma.
_FLAGS = {
    "store": "store",
    "key-file": "key_file",
    "min-generation": "min_generation",
    "run-dir": "run_dir",
    "only": "only",
    "except": "excluded",
    "preserve-env": "preserve_env",
    "pristine": "pristine",
    "no-mask": "no_mask",
    "grace": "grace",
    "allow-background": "allow_background",
    "leaks": "leaks",
    "broker": "broker",
    "allow-write": "allow_write",
    "isolate": "isolate",
    "allow-host": "allow_host",
    "allow-path": "allow_path",
    "receipt": "receipt",
    "audit-file": "audit_file",
}
# What an option without its optional value means, where that is not `*`, everything.
_BARE = {"isolate": "best"}

# These are set where builds run, and to look them up among all would cost each of them time.
_COMMON = frozenset(f"IC_SECRETS_{name}" for name in ("STORE", "KEY", "KEY_FILE", "SITE", "ENV", "CONFIG", "DEBUG"))


def read_call(call: Call, parser: Parser) -> tuple[argparse.Namespace, Context]:
    """Return the arguments of the call, and what the command works with; UsageError."""
    arguments = parser.read(call.words)
    _warn_of_variables(call.environment)
    return arguments, make_context(call, read_settings(call, arguments))


def _warn_of_variables(environment: Mapping[str, str]) -> None:
    """Name the variables that look like ours and mean nothing: a mistyped one would leave a default in force."""
    named = [name for name in environment if name.startswith("IC_SECRETS_") and name not in _COMMON]
    if named:
        from ..config.catalogue import find_unknown

        for name, near in find_unknown(named):
            hint = f"did you mean {near}?" if near else "`ic-secrets config` lists the settings"
            print_message("warning", f"{name} is not a variable of ic-secrets", hint)


def read_settings(call: Call, arguments: argparse.Namespace) -> Settings:
    """Return the settings, with those flags on top that the command has, as a file or a variable would say them."""
    flags: dict[str, str | None] = {"no-plugins": None if call.has_plugins else "true"}
    for name, destination in _FLAGS.items():
        value = getattr(arguments, destination, None)
        value = ",".join(value) if isinstance(value, list) else value
        flags[name] = _BARE.get(name, "*") if value == BARE else "true" if value is True else value or None
    return Settings(call.environment, flags)


def find_run_dir(arguments: argparse.Namespace, context: Context) -> str | None:
    """Return where private directories are looked for beside the usual places, whatever the files of settings say."""
    named = context.settings.find_variable("run-dir")
    return arguments.run_dir or (named.value if named else None)


def make_context(call: Call, settings: Settings) -> Context:
    """Return what a command with these settings works with."""
    return Context(settings, print_notice, reserved=tuple(COMMANDS))


def print_notice(notice: Notice) -> None:
    """Print it on stderr."""
    print_message(notice.level, notice.text, notice.hint)


def split_command(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words that are ours, and the command behind the first `--`."""
    own = list(words)
    if "--" not in own:
        return own, []
    at = own.index("--")
    return own[:at], own[at + 1 :]


def choose_action(call: Call, command: str, actions: Mapping[str, str], example: str) -> tuple[str, Call] | None:
    """Return the action that the first word names, and the call without it; None after its help. UsageError."""
    action = call.words[0] if call.words else ""
    if action in {"-h", "--help"}:
        print(f"usage: ic-secrets {command} ACTION ...\n")
        print("\n".join(f"  {name:<7} {summary}" for name, summary in actions.items()))
        print(f"\nexample:\n  {example}")
        return None
    if action not in actions:
        problem = f"{action!r} is not an action" if action else "no action named"
        raise UsageError(problem, hint=f"ic-secrets {command} {'|'.join(actions)}")
    return action, call._replace(words=call.words[1:])


def make_run_request(arguments: argparse.Namespace, context: Context, command: Sequence[str]) -> BuildRequest:
    """Return the build that `run` would start with these arguments; UsageError, ConfigError."""
    from ..assembly import make_request
    from ..model import Scope

    scope, known = Scope(arguments.scope), arguments.leaks_allow
    return make_request(context, arguments.target, command, scope=scope, leaks_allowed=known, is_run=True)
