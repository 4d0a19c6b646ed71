"""`ic-secrets scan`: a target's values in files."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from ..assembly import read_exposed
from ..config import Settings
from ..core import replace_file
from ..core.console import printable
from ..core.linux import harden
from ..core.shares import count_shares
from ..errors import IcSecretsError, UsageError
from ..leaks import Place, SearchResult
from ..leaks.reader import Inside
from ..leaks.search import search
from ..masking import Matcher
from ..masking.needles import Exposed, derive_all, for_search
from ..masking.parts import is_common
from ..model import Target
from . import Call
from .call import read_call
from .output import print_json, print_message
from .parser import Parser, add_json, add_store_options

# So many paths are named for each reason why they were not searched; --json names all.
_MOST_NAMED = 20

_DESCRIPTION = """\
Search the files below each PATH for the values that a build of the target would see (scope ic), in all their
encodings: vendor/ and hidden files too, links not followed. Exit status: 0 nothing was found, 1 something was,
or could not be read, 2 the command was wrong.

The first word is the target if it can be one: without a slash, lower case letters, digits and hyphens, perhaps
a dot and an environment. Anything else is a path already, and the target is that of `ic-secrets config`; where
there is one, the name of something that exists is a path too. A path that looks like a target is written ./PATH,
or stands behind --, which has the target before it and paths alone behind it."""


def run_scan(call: Call) -> int:
    """Search and report; 1 when something was found or could not be read."""
    before, paths = _split(list(call.words))
    arguments, context = read_call(call._replace(words=before), make_parser())
    harden()
    settings = context.settings
    name, paths = _choose_target(arguments.words, paths, settings)
    target = settings.target(name)
    exposed = read_exposed(context, target, "scan")
    known = tuple(arguments.leaks_allow) or settings.leaks_allowed
    result = _search(exposed, paths, deep=arguments.deep).without(known, os.getcwd())
    if arguments.json:
        print_json("scan", {"target": {"site": target.site, "environment": target.environment}, **_describe(result)})
    else:
        _print_result(result)
    if arguments.sarif:
        _write_sarif(arguments.sarif, result)
    return 1 if result.findings or result.failures else 0


def _split(words: list[str]) -> tuple[list[str], list[str] | None]:
    """Return what precedes `--`, and the paths after it; None where there is no `--`."""
    if "--" in words:
        at = words.index("--")
        return words[:at], words[at + 1 :]
    return words, None


def make_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser("scan", _DESCRIPTION, "ic-secrets scan my-site.dev vendor composer.lock")
    parser.usage = "ic-secrets scan [OPTIONS] [SITE[.ENV]] [--] PATH..."
    parser.add_argument("words", metavar="PATH", nargs="*", help="the target, and files or directories")
    parser.add_argument("--deep", action="store_true", help="look into archives: zip, tar, gzip, bzip2, xz, phar, git")
    parser.add_argument("--sarif", metavar="FILE", help="also write the findings there, for code scanning")
    parser.add_argument("--leaks-allow", metavar="NAME|GLOB", action="append", default=[], help="a known leak")
    add_json(parser)
    add_store_options(parser)
    return parser


def _choose_target(words: list[str], paths: list[str] | None, settings: Settings) -> tuple[str | None, list[str]]:
    """Return the target's name, None for that of the settings, and the paths; UsageError. See `--help`."""
    if paths is not None:
        if len(words) > 1:
            raise UsageError("only the target may precede --", hint="ic-secrets scan SITE.ENV -- PATH...")
        name = words[0] if words else None
    elif words and _can_be_target(words[0]) and not (os.path.lexists(words[0]) and settings.site):
        name, paths = words[0], words[1:]
    else:
        name, paths = None, words
    if not paths:
        hint = f"a path that looks like a target is written ./{name}" if name else "ic-secrets scan SITE.ENV PATH..."
        raise UsageError("no path to search", hint=hint)
    return name, paths


def _can_be_target(word: str) -> bool:
    try:
        Target.parse(word)
    except IcSecretsError:
        return False
    return True


def _search(exposed: Sequence[Exposed], paths: Sequence[str], *, deep: bool) -> SearchResult:
    needles = derive_all(exposed)
    searched = for_search(needles)
    plain = {needle.name for needle in searched if needle.encoding == "raw"}
    for one in exposed:
        if one.name not in plain:
            print_message("warning", f"{one.name} has a value too short or too common to be searched for as it is")
    # A path can show values that are too short to be searched for.
    telling = [needle for needle in needles if not is_common(needle.data.decode(errors="replace"))]
    return search(
        [Place(path, required=True) for path in paths],
        Matcher(searched),
        inside=Inside() if deep else None,
        hidden=telling,
        processes=count_shares(),
    )


# --- for people -----------------------------------------------------------------------------------


def _print_result(result: SearchResult) -> None:
    for finding in result.findings:
        print(printable(f"{finding.place}: {finding.name} ({finding.encoding})"))
    sys.stdout.flush()  # in a log of both streams, what is said of the findings comes after them
    reasons: dict[str, list[str]] = {}
    for path, reason in result.unsearched:
        reasons.setdefault(reason, []).append(path)
    for reason, paths in reasons.items():
        named = ", ".join(paths[:_MOST_NAMED])
        more = f" and {len(paths) - _MOST_NAMED:,} more" if len(paths) > _MOST_NAMED else ""
        print_message("warning", f"not searched: {named}{more} ({reason})")
    size = f"{result.files:,} {'file' if result.files == 1 else 'files'}, {result.size / 1e6:,.1f} MB"
    count = len(result.findings)
    found = f"{count:,} {'finding' if count == 1 else 'findings'}" if count else "nothing found"
    missed = f"; {result.failures:,} could not be read" if result.failures else ""
    print_message("", f"{found} in {size}{missed}")


# --- for programs ---------------------------------------------------------------------------------


def _describe(result: SearchResult) -> dict[str, Any]:
    return {
        "findings": [
            {
                "path": _encodable(finding.path),
                "member": finding.member and _encodable(finding.member),
                "line": finding.line,
                "offset": finding.offset,
                "where": finding.where,
                "secret": finding.name,
                "encoding": finding.encoding,
            }
            for finding in result.findings
        ],
        "unsearched": [{"path": _encodable(path), "reason": reason} for path, reason in result.unsearched],
        "searched_files": result.files,
        "searched_bytes": result.size,
        "failures": result.failures,
    }


def _encodable(text: str) -> str:
    r"""Return the text with `\udcXX` for each byte that is not UTF-8: many JSON parsers refuse half a character."""
    return text.encode(errors="backslashreplace").decode()


def _write_sarif(path: str, result: SearchResult) -> None:
    """Write the findings as SARIF 2.1.0; IcSecretsError when that cannot be done."""
    import json

    from .sarif import render

    try:
        replace_file(path, (json.dumps(render(result.findings, os.getcwd()), indent=2) + "\n").encode())
    except OSError as error:
        raise IcSecretsError(f"{path} cannot be written: {error.strerror}") from None
