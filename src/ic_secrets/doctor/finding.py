"""What a check receives and returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..assembly import Context
from ..core.records import NamedTuple

# A plain `run` would fail with `fail` alone.
OK, WARN, FAIL = "ok", "warn", "fail"


class Finding(NamedTuple):
    """The level, a text in one line, what to do about it, and facts for programs, such as a `version`."""

    level: str
    text: str
    remedy: str = ""
    facts: Mapping[str, Any] = {}


class Place(NamedTuple):
    """Where a build would run: the command's context, and the working directory."""

    context: Context
    directory: str

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment that a build would inherit."""
        return self.context.settings.environment


class Check(NamedTuple):
    """A check: its name for programs, its subject for people, and the function. An IcSecretsError of it is a FAIL."""

    name: str
    subject: str
    look: Callable[[Place], Finding]
