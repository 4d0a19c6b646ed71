"""The registry of checks, in the order in which they are shown. A new one is a record here."""

from __future__ import annotations

from collections.abc import Iterator

from ..core.records import NamedTuple
from ..errors import IcSecretsError
from . import keeping, machine, modes, programs
from .finding import FAIL, Check, Finding, Place

CHECKS = (
    Check("system", "system", machine.look_at_system),
    Check("settings", "settings", keeping.look_at_settings),
    Check("plugins", "plugins", keeping.look_at_plugins),
    Check("private-directory", "private files", machine.look_at_memory),
    Check("proc", "/proc", machine.look_at_proc),
    Check("core-dumps", "core dumps", machine.look_at_core_dumps),
    Check("clock", "clocks", machine.look_at_clocks),
    Check("git", "git", programs.look_at_git),
    Check("php", "PHP", programs.look_at_php),
    Check("composer", "Composer", programs.look_at_composer),
    Check("key", "key", keeping.look_at_key),
    Check("store", "store", keeping.look_at_store),
    Check("audit", "audit log", keeping.look_at_log),
    Check("broker", "--broker", modes.look_at_broker),
    Check("bubblewrap", "bubblewrap", modes.look_at_bubblewrap),
    Check("landlock", "Landlock", modes.look_at_landlock),
    Check("isolate", "--isolate", modes.look_at_isolation),
)


class Result(NamedTuple):
    """A check, and what it found."""

    check: Check
    finding: Finding


def examine(place: Place) -> Iterator[Result]:
    """Run every check in turn; report an error only once, even if several checks meet it."""
    told: dict[str, str] = {}
    for check in CHECKS:
        try:
            finding = check.look(place)
        except IcSecretsError as error:
            text = str(error)
            finding = Finding(FAIL, f"see {told[text]}" if text in told else text, "" if text in told else error.hint)
            told.setdefault(text, check.subject)
        yield Result(check, finding)
