"""`ic-secrets plan`, which is also `run --dry-run`: what a run would do, and what would fail."""

from __future__ import annotations

import argparse
import shlex
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from ..assembly import Context, find_built
from ..build.receipt import describe_cached
from ..composer.repositories import Repository
from ..core.console import print_table, printable
from ..core.linux import harden
from ..core.moments import format_time
from ..errors import AuditError
from ..plan import LEVELS, DryRun, Plan, Problem, Row, list_questions, make_plan, try_run
from ..plan.facts import Access, Answer
from ..plan.isolation import PlannedIsolation
from ..stores.base import ReadOnlyStore
from . import Call
from .call import make_run_request, read_call, split_command
from .output import print_json, print_message
from .parser import Parser, add_exposure_options, add_isolation, add_json, add_store_options

_STATES = {"used": "green", "unused": "yellow", "dropped": "dim", "refused": "red"}
_STATUSES = {
    "covered": "green",
    "own": "green",
    "missing": "red",
    "ssh": "yellow",
    "not known": "yellow",
    "public": "dim",
    "local": "dim",
}
_ANSWERS = {"ok": "green", "expired": "red", "refused": "red", "not found": "red", "unreachable": "red"}


def run_plan(call: Call) -> int:
    """Print the plan; 1 where the run would fail."""
    own, command = split_command(call.words)
    arguments, context = read_call(call._replace(words=own), make_parser())
    return show_plan(arguments, context, command)


def show_plan(arguments: argparse.Namespace, context: Context, command: Sequence[str]) -> int:
    """Print what a run with those arguments and that command would do; 1 where it would fail, else 0."""
    harden()
    request = make_run_request(arguments, context, command)
    plugins = context.load_plugins()
    is_online = getattr(arguments, "online", False)
    with context.open_store(read_only=True, build=find_built(request)) as store:
        dry_run = try_run(store, request, plugins)
        read_only = store if isinstance(store, ReadOnlyStore) else None
        if is_online:
            names = [secret.name for secret in dry_run.prepared.secrets]
            with context.observed(store, command="plan", owner=str(request.target), names=names):
                pass  # the repositories are shown credentials next
    plan = make_plan(_check_log(dry_run, context), _ask(dry_run, context) if is_online else None)
    if read_only:
        plan = _fit_remedies(plan, read_only)
    if getattr(arguments, "json", False):
        print_json("plan", _describe(plan))
    else:
        _print_plan(plan)
    return 1 if plan.would_fail else 0


def _fit_remedies(plan: Plan, store: ReadOnlyStore) -> Plan:
    """Return the plan whose remedies say that the store is written elsewhere."""

    def fit(problem: Problem) -> Problem:
        is_write = any(f"`ic-secrets {command} " in problem.remedy for command in ("set", "delete", "site set"))
        where = f"; {store.url} is only read: {store.write_hint}"
        return problem._replace(remedy=problem.remedy + where) if is_write else problem

    return plan._replace(problems=tuple(map(fit, plan.problems)))


def _check_log(dry_run: DryRun, context: Context) -> DryRun:
    """Add the problem that a run would have with its entry in the audit log."""
    from ..audit.recording import check_log

    try:
        check_log(context.settings)
    except AuditError as error:
        return dry_run._replace(problems=(*dry_run.problems, Problem.from_error(error)))
    return dry_run


def _ask(dry_run: DryRun, context: Context) -> dict[Repository, Answer]:
    """Ask the repositories, with a line on the terminal meanwhile."""
    from ..plan.online import ask_all

    questions = list_questions(dry_run)
    is_shown = sys.stderr.isatty() and bool(questions)

    def show(done: int) -> None:
        if is_shown:
            print(f"\r\x1b[Kasked {done} of {len(questions)} repositories", end="", file=sys.stderr, flush=True)

    show(0)
    try:
        return ask_all(questions, context.settings.environment, show)
    finally:
        if is_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def make_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser(
        "plan",
        "Show what `run` would do: which secrets the build would get and where, which credential each repository\n"
        "would get, and everything that would fail. Nothing is exposed, run or written, and no value is shown.\n"
        "The exit status is 1 where the run would fail.",
        "ic-secrets plan my-site.dev -- composer install",
    )
    parser.usage = "ic-secrets plan [OPTIONS] [SITE[.ENV]] [OPTIONS] [-- COMMAND...]"
    parser.add_argument("target", metavar="SITE[.ENV]", nargs="?", help="the target (else that of `ic-secrets config`)")
    parser.add_argument("--scope", choices=["ic", "web"], default="ic", help="a build's secrets, or an application's")
    parser.add_argument(
        "--online",
        action="store_true",
        help="ask each repository if it accepts its credential, 10 seconds at most",
    )
    add_exposure_options(parser)
    add_isolation(parser)
    add_store_options(parser)
    add_json(parser)
    return parser


# --- for people -------------------------------------------------------------------------------------


def _print_plan(plan: Plan) -> None:
    version = f", with Composer {plan.composer}" if plan.composer else ""
    assumed = " (no command was named)" if plan.is_assumed else ""
    print(printable(f"{plan.target} would run `{shlex.join(plan.command)}`{assumed} in {plan.project}{version}"))
    if plan.rows:
        print()
        rows = [[row.name, row.source, row.state, _format_row(row)] for row in plan.rows]
        print_table(["SECRET", "FROM", "STATE", "WHERE, OR WHY NOT"], rows, _STATES)
    if plan.accesses:
        print()
        columns = ["REPOSITORY", "STATUS", "CREDENTIAL"]
        rows = [[access.repository.url, _name_status(access), access.by or "-"] for access in plan.accesses]
        if any(access.answer for access in plan.accesses):
            columns.append("ANSWER")
            for row, access in zip(rows, plan.accesses, strict=True):
                row.append(access.answer.outcome if access.answer else "-")
        print_table(columns, rows, {**_STATUSES, **_ANSWERS})
    if plan.isolation:
        print(f"\n{_format_isolation(plan.isolation)}")
    print()
    sys.stdout.flush()
    for problem in plan.problems:
        print_message(problem.level, problem.text, problem.remedy)
    counts = {level: sum(problem.level == level for problem in plan.problems) for level in LEVELS}
    found = ", ".join(f"{n} {level}{'' if n == 1 else 's'}" for level, n in counts.items() if n)
    used = sum(row.state == "used" for row in plan.rows)
    secrets = f"{used} secret{'' if used == 1 else 's'}"
    print(f"the run would {'fail' if plan.would_fail else f'start, with {secrets}'}{f': {found}' if found else ''}")


def _format_isolation(isolation: PlannedIsolation) -> str:
    name = {"landlock": "Landlock"}.get(isolation.mode, isolation.mode)
    count = len(isolation.hosts)
    reach = "no server" if not count else "1 server:" if count == 1 else f"{count} servers:"
    text = ", ".join(isolation.hosts)
    lines = textwrap.wrap(text, 100, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join([f"isolated by {name} {isolation.version}, it would reach {reach}", *map(printable, lines)])


def _format_row(row: Row) -> str:
    where = _format_destination(row)
    return f"{where}; {row.reason}" if where and row.reason else where or row.reason


def _format_destination(row: Row) -> str:
    destination = row.destination
    if destination is None:
        return ""
    if "broker" in destination:
        if "variable" not in destination:
            return "broker"
        hosts = destination["hosts"]
        return f"${destination['variable']}, a placeholder for {' and '.join(hosts) if isinstance(hosts, list) else ''}"
    if "variable" in destination:
        return f"${destination['variable']}"
    if "file" in destination:
        return f"the file that ${destination['named_by']} names"
    places = [name for key, name in (("auth_json", "auth.json"), ("git_helper", "git")) if destination[key]]
    return " and ".join(places)


def _name_status(access: Access) -> str:
    return {"unknown": "not known"}.get(access.status, access.status)


# --- for programs -----------------------------------------------------------------------------------


def _describe(plan: Plan) -> dict[str, Any]:
    """Return the document that docs/plan.schema.json describes."""
    return {
        "target": {"site": plan.target.site, "environment": plan.target.environment},
        "scope": plan.scope.value,
        "would_fail": plan.would_fail,
        "project": plan.project,
        "command": list(plan.command),
        "assumed": plan.is_assumed,
        "composer": plan.composer,
        "store": plan.store._asdict() if plan.store else None,
        "cached": describe_cached(plan.cached),
        "secrets": [_describe_row(row) for row in plan.rows],
        "hosts": [winner._asdict() for winner in plan.winners],
        "repositories": [_describe_access(access) for access in plan.accesses],
        "files": list(plan.files),
        "variables": list(plan.variables),
        "isolation": plan.isolation._asdict() if plan.isolation else None,
        "problems": [problem._asdict() for problem in plan.problems],
    }


def _describe_row(row: Row) -> dict[str, Any]:
    expires = None if row.expires is None else format_time(row.expires)
    return {**row._asdict(), "scopes": list(row.scopes), "expires": expires, "reason": row.reason or None}


def _describe_access(access: Access) -> dict[str, Any]:
    repository = access.repository
    return {
        "type": repository.kind,
        "url": repository.url,
        "host": repository.host or None,
        "transport": repository.transport,
        "status": access.status,
        "by": access.by or None,
        "remedy": access.remedy or None,
        "answer": access.answer._asdict() if access.answer else None,
    }
