"""`ic-secrets check-store`: whether the embedded store is whole, and a new one of what is left if it is not."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from ..assembly import Context
from ..assembly.stores import make_age_check
from ..config import Settings
from ..core.console import printable, progress
from ..errors import ConfigError, StoreExistsError, StoreMissingError, StoreRolledBackError, UsageError
from ..keys import MasterKey
from ..stores import Identity
from ..stores.embedded.repair import Report, Salvage, check, repair
from ..stores.registry import EMBEDDED, split_url
from . import Call
from .call import read_call
from .output import print_json, print_message
from .parser import BARE, Parser, add_json, add_store_options

# Names of each kind that people are shown; `--json` has them all.
_MOST_NAMES = 50
# What SQLite and the audit log have beside a store; SQLite removes what is not a journal.
_BESIDE = ("", "-journal", "-wal", "-shm", ".audit")


def run_check_store(call: Call) -> int:
    """Check all of the store; 0 where it is whole, 1 where it is not, also if it could be repaired."""
    arguments, context = read_call(call, make_parser())
    if arguments.unverified and not arguments.repair:
        raise UsageError("--unverified goes with --repair", hint="without it nothing is saved at all")
    settings = context.settings
    scheme, path = split_url(settings.store.value)
    if scheme != EMBEDDED:
        raise ConfigError(f"only an embedded store can be checked, not {scheme}:", hint="name its path with --store")
    if not os.path.lexists(path):
        raise StoreMissingError(f"there is no store at {path}")
    keys = settings.load_keys()
    age = _AgeCheck(settings)
    salvage = None
    if arguments.repair:
        report, salvage = _repair(path, keys, arguments, context, age)
    else:
        with progress("checking") as advance:
            report = check(path, keys, advance, backup=arguments.backup)
    if not report.fault:
        with context.open_store(read_only=True):  # is it also no older copy of itself?
            pass
    elif not salvage:
        age.warn(report)
    if arguments.json:
        print_json("check-store", _describe(report, salvage))
    else:
        _print_report(report, salvage, arguments)
    return 1 if report.fault else 0


class _AgeCheck:
    """Whether a damaged store is also an older copy of itself, which its own manifest would vouch for.

    A generation that is lost counts as 0.
    """

    def __init__(self, settings: Settings) -> None:
        self._check = make_age_check(settings)

    def refuse(self, report: Report) -> None:
        """Raise StoreRolledBackError for an older copy; what else `make_age_check` raises."""
        if self._check:
            self._check(f"sqlite:{report.path}", lambda: Identity(report.store_id, report.generation or 0))

    def warn(self, report: Report) -> None:
        """Warn about an older copy."""
        try:
            self.refuse(report)
        except StoreRolledBackError as error:
            print_message("warning", f"{error}; what can be read may be older than what there was")


def _repair(
    path: str, keys: Sequence[MasterKey], arguments: argparse.Namespace, context: Context, age: _AgeCheck
) -> tuple[Report, Salvage | None]:
    target = f"{path}.repaired" if arguments.repair == BARE else arguments.repair
    if any(os.path.realpath(target) == os.path.realpath(path + end) for end in _BESIDE):
        raise UsageError(f"{target} belongs to the damaged store", hint="name another file: --repair=PATH")
    with context.observed(None, command="check-store") as record, progress("checking") as advance:
        record.write("ok")
        vet = age.warn if arguments.unverified else age.refuse
        try:
            return repair(path, target, keys, advance, backup=arguments.backup, doubtful=arguments.unverified, vet=vet)
        except StoreExistsError as error:
            raise StoreExistsError(str(error), hint="it was left as it is; name another file: --repair=PATH") from None
        except StoreRolledBackError as error:
            hint = "save from the newest copy; --unverified saves from this one all the same"
            raise StoreRolledBackError(str(error), hint=hint) from None


def make_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser(
        "check-store",
        "Verify every record, row and seal of the embedded store. Where it is damaged, say what can still be read\n"
        "and what a backup would bring. With --repair, save what can be read into a new store under the same key;\n"
        "the damaged file is not touched.",
        "ic-secrets check-store --repair=/srv/secrets/repaired.db",
    )
    parser.add_optional("repair", "PATH", "save into a new store, STORE.repaired by default")
    parser.add_argument(
        "--unverified",
        action="store_true",
        help="save also values whose seal is genuine but for which the manifest does not vouch: "
        "somebody may have put older ones back",
    )
    parser.add_argument(
        "--backup",
        metavar="FILE",
        help="an older copy: say what it would bring, and take from it the store's identity and data keys if they are "
        "lost, but no value",
    )
    add_store_options(parser)
    add_json(parser)
    return parser


def _describe(report: Report, salvage: Salvage | None) -> dict[str, Any]:
    backup = report.backup
    return {
        "store": f"sqlite:{report.path}",
        "whole": not report.fault,
        "fault": report.fault or None,
        "store_id": report.store_id,
        "key_id": report.key_id,
        "generation": report.generation,
        "sites": report.sites,
        "organizations": report.organizations,
        "secrets": report.secrets,
        "overrides": report.overrides,
        "readable": [_name(*entry) for entry in report.readable],
        "unverified": [{**_name(*entry), "reason": report.doubts[entry[0]]} for entry in report.doubtful],
        "unverified_owners": report.doubts,
        "damaged": report.damaged,
        "lost_records": report.lost_records,
        "backup": backup and {"generation": backup.generation, "values": [_name(*entry) for entry in backup.values]},
        "repaired": {"store": f"sqlite:{salvage.path}", "values": salvage.values} if salvage else None,
    }


def _name(owner: str, environment: str, name: str) -> dict[str, Any]:
    return {"owner": owner, "environment": environment or None, "name": name}


def _print_report(report: Report, salvage: Salvage | None, arguments: argparse.Namespace) -> None:
    numbers = {
        "site": report.sites,
        "organization": report.organizations,
        "secret": report.secrets,
        "override": report.overrides,
    }
    counts = ", ".join(f"{number:,} {noun}{'s' * (number != 1)}" for noun, number in numbers.items())
    generation = "unknown" if report.generation is None else report.generation
    if not report.fault:
        print(f"the store {printable(report.path)} is whole: {counts}")
        print(f"id {report.store_id}, generation {generation}, sealed with the key {report.key_id}")
        return
    print_message("error", report.fault)
    print(f"id {report.store_id}, generation {generation}, sealed with the key {report.key_id}")
    print(f"what can be read: {counts}")
    _print_names("damaged", report.damaged)
    if report.lost_records:
        print(f"lost: the records of {report.lost_records:,} owners or more")
    _print_names("not vouched for, perhaps older than what was there", list(_list_doubts(report)))
    if report.backup:
        shown = [_show(*entry) for entry in report.backup.values]
        print(f"the backup has the generation {report.backup.generation}")
        _print_names("it would bring", shown or ["nothing"])
    sys.stdout.flush()
    if salvage:
        print_message(
            "",
            f"made the store {salvage.path}, which holds {salvage.values:,} of the values; {report.path} is as it was",
        )
    hint = report.hint or _advise(report, salvage, arguments)
    if hint:
        print_message("hint", hint)


def _advise(report: Report, salvage: Salvage | None, arguments: argparse.Namespace) -> str:
    """Return what to do next, "" where there is nothing."""
    look = "" if report.backup else " (`--backup FILE` shows what it would bring)"
    if report.doubtful and not (salvage and arguments.unverified):
        return f"compare those with a backup{look}; `check-store --repair --unverified` saves them too"
    if not salvage:
        return f"restore a backup{look}, or save what can be read into a new store: `check-store --repair`"
    return ""


def _show(owner: str, environment: str, name: str) -> str:
    return f"{owner}.{environment} {name}" if environment else f"{owner} {name}"


def _list_doubts(report: Report) -> Iterator[str]:
    """List each owner and why, then its values."""
    for owner, reason in report.doubts.items():
        yield f"{owner}: {reason}"
        yield from (f"  {_show(*entry)}" for entry in report.doubtful if entry[0] == owner)


def _print_names(title: str, names: Sequence[str]) -> None:
    if names:
        print(f"{title}:")
        for name in names[:_MOST_NAMES]:
            print(f"  {printable(name)}")
        if len(names) > _MOST_NAMES:
            print(f"  and {len(names) - _MOST_NAMES:,} more lines: --json has all")
