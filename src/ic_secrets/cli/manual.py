"""The manual page, made of what the parsers, the table of commands and the catalogue of settings say.

`make man` writes it: `python -m ic_secrets.cli.manual`.
"""

from __future__ import annotations

from argparse import Action
from collections.abc import Iterator
from importlib import import_module

from .. import __version__
from ..config.catalogue import SETTINGS
from . import COMMANDS
from .parsing import Parser, takes_next

_DESCRIPTION = """\
Runs a build with the secrets that it may see, its output masked, and leaves none of them behind. The rules are those of
Pantheon's Integrated Composer and Pantheon Secrets, for everywhere else: a pipeline, a pre-build hook, a laptop.

A target is a site and an environment, SITE.ENV; without one, dev. An owner of secrets is a SITE or an organization,
org:ORG. No command takes a value as an argument. Every command takes --help and --no-plugins.
"""
_STATUSES = (
    ("the build's own", "of run: unchanged; 128+n when a signal ended the build or ic-secrets"),
    ("127, 126", "of run: the command was not found; it is not executable"),
    ("125", "of run and pre-build: the build was not started, and nothing was exposed"),
    ("121", "of run and post-build: the build succeeded, but what comes after it is incomplete"),
    ("120", "of run and post-build: the build succeeded, but left a secret behind"),
    ("0, 1, 2", "of the other commands: done; an error; wrong usage"),
)
_VARIABLES = (
    ("IC_SECRETS_KEY", "the master key itself"),
    ("IC_SECRETS_PASSPHRASE, IC_SECRETS_PASSPHRASE_FILE", "the passphrase of a locked key, or the file that holds it"),
    ("IC_SECRETS_CONFIG", "your own file of settings"),
    ("IC_SECRETS_DEBUG", "1 shows the way to an unexpected error, values never"),
    ("NO_COLOR", "no colours, whatever the terminal"),
)
_FILES = (
    ("ic-secrets.toml", "a project's settings, found upward from the working directory"),
    ("~/.config/ic-secrets/config.toml", "your own settings"),
    ("~/.config/ic-secrets/key", "the master key, where nothing else is named"),
    ("~/.local/share/ic-secrets/store.db", "the embedded store, where nothing else is named"),
)


def render_manual() -> str:
    """The page, in the man macros."""
    lines = [
        f'.TH IC-SECRETS 1 "" "ic-secrets {__version__}" "User Commands"',
        *(".SH NAME", r"ic\-secrets \- run a Composer build with its secrets, and leave none of them behind"),
        *(".SH SYNOPSIS", r"\fBic\-secrets\fR \fICOMMAND\fR [\fIARGUMENTS\fR]"),
        *(".SH DESCRIPTION", *_paragraphs(_DESCRIPTION)),
        ".SH COMMANDS",
    ]
    for parser in list_parsers():
        lines += _render_command(parser)
    lines += [".SH EXIT STATUS", *_definitions(_STATUSES)]
    settings = [(f"IC_SECRETS_{name.upper().replace('-', '_')}", known.summary) for name, known in SETTINGS.items()]
    lines += [".SH ENVIRONMENT", *_definitions([*settings, *_VARIABLES])]
    lines += [".SH FILES", *_definitions(_FILES)]
    lines += [".SH SEE ALSO", r"\fBcomposer\fR(1), \fBgit\fR(1)"]
    return "\n".join(lines) + "\n"


def list_parsers() -> Iterator[Parser]:
    """That of every command that people use, and of each of its actions."""
    for entry in COMMANDS.values():
        if not entry.summary:
            continue
        module = import_module(f".{entry.module}", __package__)
        for action in module.ACTIONS if entry.has_actions else [None]:
            yield getattr(module, entry.parser)(*([action] if action else []))


def _render_command(parser: Parser) -> list[str]:
    lines = [f".SS {_escape(parser.prog)}", f"\\fB{_escape(_write_usage(parser))}\\fR"]
    lines += [".PP", *_paragraphs(parser.description or "")]
    shown = [action for action in parser._actions if action.help and action.dest != "help"]
    lines += _definitions([(_name(parser, action), action.help or "") for action in shown])
    example = (parser.epilog or "").partition("\n")[2]
    rows = [_escape(row.strip()) for row in example.splitlines()]
    return [*lines, ".PP", "Example:", ".PP", ".RS 4", ".nf", *rows, ".fi", ".RE"]


def _write_usage(parser: Parser) -> str:
    if parser.usage:
        return parser.usage
    words = [parser.prog, "[OPTIONS]"]
    for action in parser._actions:
        if not action.option_strings:
            word = str(action.metavar or action.dest)
            words.append(f"[{word}]" if action.nargs == "?" else word)
    return " ".join(words)


def _name(parser: Parser, action: Action) -> str:
    metavar = str(action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper())
    if not action.option_strings:
        return metavar
    names = ", ".join(action.option_strings)
    if action.nargs == 0:
        return names
    return f"{names} {metavar}" if takes_next(parser, action) else f"{names}[={metavar}]"


def _definitions(pairs: list[tuple[str, str]] | tuple[tuple[str, str], ...]) -> list[str]:
    return [line for name, text in pairs for line in (".TP", f"\\fB{_escape(name)}\\fR", _escape(text))]


def _paragraphs(text: str) -> list[str]:
    """Lines of text; what an empty one parts are paragraphs."""
    return [".PP" if not line else _escape(line) for line in text.strip().splitlines()]


def _escape(text: str) -> str:
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("~", r"\(ti").replace("^", r"\(ha")
    return f"\\&{text}" if text[:1] in {".", "'"} else text


if __name__ == "__main__":
    print(render_manual(), end="")
