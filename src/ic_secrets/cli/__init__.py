"""The command line: a table of commands, each in a module that is imported when it is used.

- `call`, `parser`, `output`: how every command begins, reads its words, and reports
- `questions`: what a person at a terminal is asked
- `program`, `completion`: all parsers as one, for shells, the manual page and the reference
- every other module: a command, or a group of them, as COMMANDS lists them
"""

import contextlib
import gc
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

from .. import __version__
from ..core.records import NamedTuple
from ..errors import NOT_STARTED, IcSecretsError, UsageError

if TYPE_CHECKING:
    from ..hookspecs import Command


class Entry(NamedTuple):
    """A command: the module and function that do it, what it does in a line, and what makes its parser.

    One with actions has a parser for each, which `parser` makes from the action's name; the module's ACTIONS lists
    them. `failure` is the exit status for errors that have no special one.
    """

    module: str
    function: str
    summary: str
    parser: str = "make_parser"
    has_actions: bool = False
    failure: int = 1


class Call(NamedTuple):
    """A call of a command: the words that follow its name, and the environment, which is read nowhere else."""

    words: Sequence[str]
    environment: Mapping[str, str]
    has_plugins: bool = True


COMMANDS = {
    "init": Entry("init", "run_init", "make the embedded store and its key"),
    "site": Entry("sites", "run_site", "make, list, show or delete a site", has_actions=True),
    "set": Entry("secrets", "run_set", "set a secret, or its override for an environment", "make_set_parser"),
    "get": Entry("secrets", "run_get", "print the value of a secret that people may read", "make_get_parser"),
    "list": Entry("secret_list", "run_list", "what an owner holds and inherits, values redacted"),
    "explain": Entry("explain", "run_explain", "every value of a name, which one wins, and why"),
    "delete": Entry(
        "secrets", "run_delete", "delete a secret with its overrides, or one override", "make_delete_parser"
    ),
    "key": Entry("keys", "run_key", "make, show or rotate master keys", has_actions=True),
    "plan": Entry("plan", "run_plan", "what a run would do, and what would fail; nothing is exposed"),
    "run": Entry("run", "run_run", "run a build with a site's secrets, and leave none behind", failure=NOT_STARTED),
    "pre-build": Entry(
        "two_steps",
        "run_pre_build",
        "expose a site's secrets to what comes next, under a guard",
        "make_pre_parser",
        failure=NOT_STARTED,
    ),
    "post-build": Entry(
        "two_steps", "run_post_build", "end what pre-build began, and leave nothing behind", "make_post_parser"
    ),
    "scan": Entry("scan", "run_scan", "find a target's values in files"),
    "mask": Entry("mask", "run_mask", "hide a target's values in what passes"),
    "export": Entry("exporting", "run_export", "write secrets to a file"),
    "import": Entry("importing", "run_import", "bring the secrets of a file into the store"),
    "copy": Entry("store_copy", "run_copy", "copy everything from one store to another"),
    # As of diff(1), 1 says that they differ.
    "diff": Entry("store_diff", "run_diff", "what two stores hold differently, without values", failure=2),
    "bao": Entry("bao", "run_bao", "print policies for the server that is the store", has_actions=True),
    "audit": Entry("audit", "run_audit", "who did what with which secrets, and whether that log is whole"),
    "report": Entry(
        "report", "run_report", "a page of all sites: where values come from, what is stale, unused, expired"
    ),
    "check-store": Entry(
        "store_check", "run_check_store", "verify the whole store; say what is damaged, save the rest"
    ),
    "doctor": Entry("doctor", "run_doctor", "what this machine can do for a build, and what to install or allow"),
    "config": Entry("config", "run_config", "every setting, and where it came from"),
    "plugins": Entry("plugins", "run_plugins", "the plugins that are active, and those that are only installed"),
    "scrub": Entry("scrub", "run_scrub", "remove what a dead run left, mend git configurations"),
    "completion": Entry("completion", "run_completion", "the script that makes a shell complete"),
}

# Starting creates some ten thousand objects that all stay: collecting garbage again and again takes a tenth of it.
_COLLECT_AFTER = 20_000


def start() -> NoReturn:
    """Run `main`, and exit without the interpreter's cleanup, which takes longer than a short command."""
    gc.set_threshold(_COLLECT_AFTER)
    if "_ARGCOMPLETE" in os.environ:
        from .completion import complete

        complete(os.environ)
    status = main()
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name, and return its exit status. Print errors, never raise them."""
    _open_missing_streams()
    call = _make_call(list(sys.argv[1:] if arguments is None else arguments))
    entry = COMMANDS.get(call.words[0]) if call.words else None
    try:
        status = _run_command(entry, call) if entry else _run_other(call)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130  # 128+SIGINT
    except Exception as error:
        from .output import report

        with contextlib.suppress(OSError):
            sys.stdout.flush()  # what the command printed before it failed
        return report(error, entry.failure if entry else 1, is_debug=call.environment.get("IC_SECRETS_DEBUG") == "1")


def _run_command(entry: Entry, call: Call) -> int:
    function = getattr(import_module(f".{entry.module}", __name__), entry.function)
    try:
        status: int = function(call._replace(words=call.words[1:]))
    except SystemExit as ended:  # so argparse ends after --help
        return int(ended.code or 0)
    return status


def _run_other(call: Call) -> int:
    """Show help or the version, or run the command of a plugin; UsageError where no plugin has it."""
    name, *words = call.words or ["--help"]
    if name == "help" and words:
        return main([*words, "--help", *([] if call.has_plugins else ["--no-plugins"])])
    if name in {"-h", "--help", "help"}:
        print(_usage(_find_more(call)), end="")
        return 0
    if name in {"-V", "--version"}:
        print(f"ic-secrets {__version__}")
        return 0
    command = _load_commands(call).get(name)
    if command is None:
        raise UsageError(f"{name!r} is not a command", hint=_suggest(name))
    return command.run(words)


def _make_call(words: list[str]) -> Call:
    """Return the call, with the `--no-plugins` that every command takes before `--` taken out."""
    end = words.index("--") if "--" in words else len(words)
    own = [word for word in words[:end] if word != "--no-plugins"]
    return Call(own + words[end:], dict(os.environ), has_plugins=len(own) == end)


def _load_commands(call: Call) -> "dict[str, Command]":
    """Return the commands of active plugins, by name."""
    from ..config import Settings

    settings = Settings(call.environment, {"no-plugins": None if call.has_plugins else "true"})
    if settings.plugins is None:
        return {}
    from .call import make_context

    plugins = make_context(call, settings).load_plugins()
    return plugins.commands if plugins else {}


def _find_more(call: Call) -> dict[str, str]:
    """Return what the commands of active plugins do. A broken plugin is reported, but does not prevent the help."""
    try:
        return {name: command.summary for name, command in _load_commands(call).items()}
    except IcSecretsError as error:
        from .output import print_error

        print_error(error)
        return {}


def _usage(more: dict[str, str]) -> str:
    summaries = {name: entry.summary for name, entry in COMMANDS.items()} | more
    width = max(len(name) for name in summaries)
    lines = [f"  {name:<{width}}  {summary}" for name, summary in summaries.items()]
    return "\n".join(
        [
            "usage: ic-secrets COMMAND [ARGUMENTS]",
            "",
            "Runs a Composer build with its secrets, and leaves none of them behind.",
            "",
            *lines,
            "",
            "example: ic-secrets run my-site.dev -- composer install",
            "`ic-secrets help COMMAND` says more of each; every command takes --no-plugins.",
            "",
        ]
    )


def _suggest(word: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(word, COMMANDS, n=1)
    return f"did you mean `ic-secrets {close[0]}`?" if close else "`ic-secrets --help` lists the commands"


def _open_missing_streams() -> None:
    """Open /dev/null for standard streams that the caller closed, so that no file of ours takes their place."""
    for stream, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        with contextlib.suppress(OSError):
            os.fstat(stream)
            continue
        os.open(os.devnull, os.O_RDWR)
        os.set_inheritable(stream, True)
        setattr(sys, name, open(stream, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
