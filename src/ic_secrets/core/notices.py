"""Notices for a person while a build is prepared, runs, or has ended."""

from collections.abc import Callable

from .records import NamedTuple


class Notice(NamedTuple):
    """Something that the person should know; the build goes on.

    `level` is `warning`, `error`, or `note` for what was done as it should be.
    """

    text: str
    hint: str = ""
    level: str = "warning"


Notify = Callable[[Notice], None]
