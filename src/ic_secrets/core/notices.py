"""Notices for a person while a build is prepared, runs, or has ended."""

from collections.abc import Callable

from .records import NamedTuple


class Notice(NamedTuple):
    """Something that the person should know; the build goes on. `level` is `warning` or `error`."""

    text: str
    hint: str = ""
    level: str = "warning"


Notify = Callable[[Notice], None]
