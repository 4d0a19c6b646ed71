"""`ic-secrets check-store`: whether the embedded store is whole, and a new one of what is left if it is not."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from ..assembly.context import Context
from ..assembly.stores import make_age_check
from ..config.settings import Settings
from ..core.console import printable, progress
from ..errors import ConfigError, StoreExistsError, StoreMissingError, StoreRolledBackError, UsageError
from ..keys.sealing import MasterKey
from ..stores.base import Identity
from ..stores.embedded.repair import Report, Salvage, check, repair
from ..stores.registry import EMBEDDED, split_url
from . import Call
from .call import read_call
from .output import print_json, print_message
from .parser import BARE, Parser, add_json, add_store_options

# Names of each kind that people are shown; `--json` has them all.
_MOST_NAMES = 50
# What SQLite and the audit log have beside a store; SQLite removes a journal that is none.
_BESIDE = ("", "-journal", "-wal", "-shm", ".audit")


def run_check_store(call: Call) -> int:
    """Check all of the store; 0 where it is whole, 1 where it is not, also if it could be repaired."""
    arguments, context = read_call(call, make_parser())
    if arguments.unverified and not arguments.repair:
        raise UsageError("--unverified goes with --repair", hint="without it nothing is salvaged at all")
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
        _tell(report, salvage, arguments)
    return 1 if report.fault else 0


class _AgeCheck:
    """Whether a damaged store is also an older copy of itself, which its own manifest would vouch for.

    A generation that is lost counts as 0.
    """

    def __init__(self, settings: Settings) -> None:
        self._check = make_age_check(settings)

    def refuse(self, report: Report) -> None:
        """StoreRolledBackError for an older copy; what else `make_age_check` raises."""
        if self._check:
            self._check(f"sqlite:{report.path}", lambda: Identity(report.store_id, report.generation or 0))

    def warn(self, report: Report) -> None:
        """Tell of an older copy."""
        try:
            self.refuse(report)
        except StoreRolledBackError as error:
            print_message("warning", f"{error}; what can be read may be older than what there was")


def _repair(
    path: str, keys: Sequence[MasterKey], arguments: argparse.Namespace, context: Context, age: _AgeCheck
) -> tuple[Report, Salvage | None]:
    target = f"{path}.repaired" if arguments.repair == BARE else arguments.repair
    if any(os.path.realpath(target) == os.path.realpath(path + end) for end in _BESIDE):
        raise UsageError(f"{target} is a name that belongs to the damaged store", hint="--repair=PATH names another")
    with context.observed(None, command="check-store") as record, progress("checking") as advance:
        record.write("ok")
        vet = age.warn if arguments.unverified else age.refuse
        try:
            return repair(path, target, keys, advance, backup=arguments.backup, doubtful=arguments.unverified, vet=vet)
        except StoreExistsError as error:
            raise StoreExistsError(str(error), hint="it was left as it is; --repair=PATH names another") from None
        except StoreRolledBackError as error:
            hint = "salvage from the newest copy; --unverified salvages from this one all the same"
            raise StoreRolledBackError(str(error), hint=hint) from None


def make_parser() -> Parser:
    """Its arguments."""
    parser = Parser(
        "check-store",
        "Verify every record, row and seal of the embedded store. Where it is damaged, say what can still be read.\n"
        "With --repair, make a new store of that under the same key; the damaged file is not touched.",
        "ic-secrets check-store --repair=/srv/secrets/repaired.db",
    )
    parser.add_optional("repair", metavar="PATH", help="salvage into a new store, STORE.repaired by default")
    parser.add_argument(
        "--unverified",
        action="store_true",
        help="salvage also values whose seal is genuine but for which the manifest does not vouch: "
        "somebody may have put older ones back",
    )
    parser.add_argument(
        "--backup", metavar="FILE", help="an older copy, for the store's identity and data keys where they are lost"
    )
    add_store_options(parser)
    add_json(parser)
    return parser


def _describe(report: Report, salvage: Salvage | None) -> dict[str, Any]:
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
        "repaired": {"store": f"sqlite:{salvage.path}", "values": salvage.values} if salvage else None,
    }


def _name(owner: str, environment: str, name: str) -> dict[str, Any]:
    return {"owner": owner, "environment": environment or None, "name": name}


def _tell(report: Report, salvage: Salvage | None, arguments: argparse.Namespace) -> None:
    counts = ", ".join(
        f"{getattr(report, noun):,} {noun if getattr(report, noun) != 1 else noun[:-1]}"
        for noun in ("sites", "organizations", "secrets", "overrides")
    )
    generation = "unknown" if report.generation is None else report.generation
    if not report.fault:
        print(f"the store {printable(report.path)} is whole: {counts}")
        print(f"id {report.store_id}, generation {generation}, sealed with the key {report.key_id}")
        return
    print_message("error", report.fault)
    print(f"id {report.store_id}, generation {generation}, sealed with the key {report.key_id}")
    print(f"what can be read: {counts}")
    _list("damaged", report.damaged)
    if report.lost_records:
        print(f"lost: the records of {report.lost_records:,} owners or more")
    _list("not vouched for, perhaps older than what was there", list(_list_doubts(report)))
    sys.stdout.flush()
    if salvage:
        print_message(
            "",
            f"made the store {salvage.path}, which holds {salvage.values:,} of the values; {report.path} is as it was",
        )
    if report.hint:
        print_message("hint", report.hint)
    elif report.doubtful and not (salvage and arguments.unverified):
        print_message("hint", "compare those with a backup; `check-store --repair --unverified` salvages them too")
    elif not salvage:
        print_message("hint", "restore a backup, or make a new store of what can be read: `check-store --repair`")


def _list_doubts(report: Report) -> Iterator[str]:
    """An owner and why, then its values."""
    names: dict[str, list[str]] = {owner: [] for owner in report.doubts}
    for owner, environment, name in report.doubtful:
        names[owner].append(f"  {owner}.{environment} {name}" if environment else f"  {owner} {name}")
    for owner, lines in names.items():
        yield f"{owner}: {report.doubts[owner]}"
        yield from lines


def _list(title: str, names: Sequence[str]) -> None:
    if names:
        print(f"{title}:")
        for name in names[:_MOST_NAMES]:
            print(f"  {printable(name)}")
        if len(names) > _MOST_NAMES:
            print(f"  and {len(names) - _MOST_NAMES:,} more lines: --json has all")
