"""`ic-secrets doctor`: what this machine can do for a build, and what to install or allow."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from typing import Any

from ..core.console import printable
from ..core.linux import harden
from ..doctor import FAIL, OK, WARN, Result, examine
from ..doctor.finding import Place
from . import Call
from .call import read_call
from .output import print_json
from .parser import Parser, add_json, add_store_options

_COLOURS = {OK: "32", WARN: "33", FAIL: "31"}
_SUBJECT = 15
_INDENT = " " * (6 + _SUBJECT)


def run_doctor(call: Call) -> int:
    """Print what is found; 1 where a plain run would fail."""
    arguments, context = read_call(call, make_parser())
    harden()
    place = Place(context, os.getcwd())
    results = []
    for result in examine(place):
        results.append(result)
        if not arguments.json:
            _print(result)
            sys.stdout.flush()
    would_fail = any(result.finding.level == FAIL for result in results)
    if arguments.json:
        print_json("doctor", {"would_fail": would_fail, "checks": [_describe(result) for result in results]})
    else:
        _print_sum(results)
    return 1 if would_fail else 0


def make_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser(
        "doctor",
        "Look at what builds need of this machine, and say what to install or allow: private files in memory, git,\n"
        "PHP and Composer, the store and its key, what of --broker and --isolate works. Nothing is changed, and no\n"
        "value is shown. The exit status is 1 where a plain `run` would fail.",
        "ic-secrets doctor",
    )
    add_json(parser)
    add_store_options(parser)
    return parser


def _print(result: Result) -> None:
    """Print a finding: its mark, its subject, its text, and below that what to do, as wide as the terminal."""
    check, finding = result.check, result.finding
    mark = f"{finding.level:<6}"
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        mark = f"\x1b[{_COLOURS[finding.level]}m{mark}\x1b[0m"
    first, *others = _wrap(finding.text)
    print(f"{mark}{check.subject:<{_SUBJECT}}{first}")
    for line in [*others, *(_wrap(f"hint: {finding.remedy}") if finding.remedy else [])]:
        print(f"{_INDENT}{line}")


def _wrap(text: str) -> list[str]:
    """Wrap the text to the width of the terminal; without a terminal, return it as one line."""
    text = printable(text)
    if not sys.stdout.isatty():
        return [text]
    width = max(shutil.get_terminal_size().columns - len(_INDENT), 20)
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]


def _print_sum(results: list[Result]) -> None:
    counts = {level: sum(result.finding.level == level for result in results) for level in (FAIL, WARN)}
    words = [
        f"{n} {what}{'' if n == 1 else 's'}" for n, what in ((counts[FAIL], "failure"), (counts[WARN], "warning")) if n
    ]
    found = f": {', '.join(words)}" if words else ""
    print(f"\na plain run would {'fail' if counts[FAIL] else 'start'} here{found}")


def _describe(result: Result) -> dict[str, Any]:
    """Return what docs/doctor.schema.json describes."""
    check, finding = result.check, result.finding
    return {
        "name": check.name,
        "level": finding.level,
        "text": finding.text,
        "remedy": finding.remedy or None,
        "facts": dict(finding.facts),
    }
