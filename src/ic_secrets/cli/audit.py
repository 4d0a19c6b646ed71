"""`ic-secrets audit`: the log of who did what, read, filtered and verified."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from ..audit.log import START, Line, read_log
from ..config import Settings
from ..core import parse_duration
from ..core.console import print_table
from ..core.records import NamedTuple
from ..errors import AuditError, UsageError
from . import Call
from .call import read_call
from .output import print_json, print_message
from .parser import Parser, add_json

# The table shows names up to this many characters; --json shows all.
_WIDTH = 16

_DESCRIPTION = """\
Show who read or changed which secrets, in the order of the log; the filters narrow it, and all of them must fit.
A time is a date, a date and a time (UTC unless it names a zone), or how long ago: 30m, 12h, 7d.

Each line holds the hash of the one before. The whole log is always verified, and the status is 1 where that chain
is broken. The last line's hash, which --verify prints, is worth keeping elsewhere: --expect says whether the log
still goes on from there, which a log rewritten or cut short does not. No key is needed."""


def run_audit(call: Call) -> int:
    """Print the entries, or a verdict on the whole log; 1 if the chain is broken or the expected hash is missing."""
    arguments, context = read_call(call, make_parser())
    if arguments.expect and not re.fullmatch("[0-9a-f]{64}", arguments.expect):
        raise UsageError("--expect takes a hash as --verify prints it: 64 digits, 0-9 and a-f")
    path = _find_log(context.settings)
    wanted = _Filter.make(arguments)
    survey = _Survey(arguments.expect)
    chosen: deque[Line] = deque(maxlen=arguments.last)
    for line in read_log(path):
        survey.add(line)
        if not arguments.is_check and line.entry is not None and wanted.fits(line.entry):
            chosen.append(line)
    if arguments.json:
        entries = {} if arguments.is_check else {"entries": [_describe(line) for line in chosen]}
        print_json("audit", {"log": path, **survey.describe(), **entries})
    elif not arguments.is_check:
        _print_entries(chosen)
    survey.report(in_full=arguments.is_check and not arguments.json)
    return 1 if survey.breaks or not survey.is_expected_found else 0


def make_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser("audit", _DESCRIPTION, "ic-secrets audit --since 7d --owner my-site --command get")
    parser.add_argument("--since", metavar="T", help="entries from then on")
    parser.add_argument("--until", metavar="T", help="entries before then")
    parser.add_argument("--user", metavar="U", help="those of this user: a name or a number")
    parser.add_argument("--command", metavar="C", help="those of this command: `run`, `set`, `site delete`, ...")
    parser.add_argument("--owner", metavar="OWNER[.ENV]", help="those about this owner, in all environments or one")
    parser.add_argument("--name", metavar="N", help="those about secrets of this name")
    parser.add_argument("--last", metavar="N", type=int, help="the last N of them")
    parser.add_argument("--verify", action="store_true", dest="is_check", help="show only whether the log is whole")
    parser.add_argument("--expect", metavar="HASH", help="also verify that this line is still in the log")
    parser.add_argument("--audit-file", metavar="FILE", help="the log (IC_SECRETS_AUDIT_FILE)")
    parser.add_argument("--store", metavar="URL", help="the store beside which it lies (IC_SECRETS_STORE)")
    add_json(parser)
    return parser


def _find_log(settings: Settings) -> str:
    path = settings.audit_file
    if path is None:
        raise AuditError("the store has no audit log", hint="IC_SECRETS_AUDIT_FILE names one")
    return path


class _Filter(NamedTuple):
    """The conditions that an entry must meet to be shown."""

    since: str | None
    until: str | None
    user: str | None
    command: str | None
    owner: str | None
    name: str | None

    @classmethod
    def make(cls, arguments: argparse.Namespace) -> _Filter:
        if arguments.last is not None and not 1 <= arguments.last <= sys.maxsize:
            raise UsageError("--last takes a number from 1 on")
        return cls(
            since=arguments.since and _parse_time(arguments.since),
            until=arguments.until and _parse_time(arguments.until),
            user=arguments.user,
            command=arguments.command,
            owner=arguments.owner,
            name=arguments.name,
        )

    def fits(self, entry: dict[str, Any]) -> bool:
        """Return whether the entry meets them all; a missing field meets none."""
        moment, owner, names = str(entry.get("time")), entry.get("owner"), entry.get("names")
        return (
            (self.since is None or moment >= self.since)
            and (self.until is None or moment < self.until)
            and self.user in (None, entry.get("user"), str(entry.get("uid")))
            and self.command in (None, entry.get("command"))
            and (self.owner is None or owner == self.owner or str(owner).startswith(f"{self.owner}."))
            and (self.name is None or (isinstance(names, list) and self.name in names))
        )


class _Survey:
    """The state of the whole log."""

    def __init__(self, expected: str | None) -> None:
        self.lines = 0
        self.head = START
        self.breaks: list[int] = []
        self.damaged: list[int] = []
        self._expected = expected
        self._expected_line = 0 if expected == START else None

    def add(self, line: Line) -> None:
        """Add the next line."""
        self.lines, self.head = line.number, line.digest
        if not line.follows:
            self.breaks.append(line.number)
        elif line.entry is None:
            self.damaged.append(line.number)
        if line.digest == self._expected:
            self._expected_line = line.number

    @property
    def is_expected_found(self) -> bool:
        """Whether the expected hash, if any, was found."""
        return self._expected is None or self._expected_line is not None

    def describe(self) -> dict[str, Any]:
        """Return it for JSON."""
        expected = {"expected": {"hash": self._expected, "line": self._expected_line}} if self._expected else {}
        return {
            "lines": self.lines,
            "head": self.head,
            "breaks": self.breaks,
            "damaged": self.damaged,
            **expected,
        }

    def report(self, *, in_full: bool) -> None:
        """Print it; unless in full, only what is wrong."""
        for number in self.damaged:
            print_message("warning", f"line {number} was cut off by the end of the process that wrote it")
        for number in self.breaks:
            what = f"does not follow on line {number - 1}" if number > 1 else "is not a valid first line"
            print_message("error", f"line {number} {what}: a line there was changed, removed, added or moved")
        if not self.is_expected_found:
            print_message(
                "error",
                f"no line has the hash {self._expected}",
                "since it was noted, the log was rewritten or cut short, or another one begun",
            )
        elif self._expected and in_full:
            print_message("", f"{self._expected} is line {self._expected_line}")
        if in_full:
            print_message("", f"{self.lines:,} lines, {'broken' if self.breaks else 'unbroken'}; the head is:")
            print(self.head)


def _describe(line: Line) -> dict[str, Any]:
    entry = dict(line.entry or {})
    entry.pop("previous", None)
    own = {"line": line.number, "hash": line.digest}
    return own | entry | own


def _print_entries(lines: Iterable[Line]) -> None:
    rows = [_row(line.entry) for line in lines if line.entry is not None]
    if rows:
        print_table(["TIME (UTC)", "USER", "COMMAND", "OWNER", "NAMES", "RESULT"], rows)
    else:
        print_message("", "no matching entries")


def _row(entry: dict[str, Any]) -> list[str]:
    names = entry.get("names")
    return [
        str(entry.get("time"))[:19].replace("T", " "),
        str(entry.get("user") or entry.get("uid")),
        str(entry.get("command")),
        str(entry.get("owner") or "-"),
        _shorten([str(name) for name in names] if isinstance(names, list) else []),
        _describe_result(entry),
    ]


def _shorten(names: Sequence[str]) -> str:
    shown = 0
    while shown < len(names) and (not shown or len(", ".join(names[: shown + 1])) <= _WIDTH):
        shown += 1
    more = f" +{len(names) - shown}" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more or "-"


def _describe_result(entry: dict[str, Any]) -> str:
    status, hosts = entry.get("status"), entry.get("hosts")
    if isinstance(hosts, list):
        return f"{entry.get('result')}, hosts: {', '.join(map(str, hosts)) or 'none'}"
    return str(entry.get("result")) if status is None else f"{entry.get('result')} {status}"


def _parse_time(text: str) -> str:
    """Return the moment as the log writes it; UsageError."""
    from datetime import datetime, timezone

    try:
        if re.fullmatch(r"[0-9.]+[smhd]", text):
            moment = datetime.fromtimestamp(time.time() - parse_duration(text), timezone.utc)
        else:
            moment = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
            moment = moment.replace(tzinfo=moment.tzinfo or timezone.utc).astimezone(timezone.utc)
    except (ValueError, OverflowError, OSError):  # not a time, or not in the calendar
        hint = "2026-03-01, 2026-03-01T12:30, or how long ago: 30m, 12h, 7d"
        raise UsageError(f"{text!r} is not a time", hint=hint) from None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"
