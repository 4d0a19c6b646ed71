"""The one result of all checks."""

from __future__ import annotations

from ..core import Notice
from ..core.records import NamedTuple
from ..errors import IcSecretsError

LEVELS = ("error", "warning", "note")


class Problem(NamedTuple):
    """Something that a person should know. With an `error` the run would fail; else it is a `warning` or a `note`."""

    level: str
    text: str
    remedy: str = ""

    @classmethod
    def from_error(cls, error: IcSecretsError) -> Problem:
        """Make the problem of an error that would keep the run from starting."""
        return cls("error", str(error), error.hint)

    @classmethod
    def from_notice(cls, notice: Notice) -> Problem:
        """Make the problem of what the run would say."""
        return cls(notice.level, notice.text, notice.hint)
