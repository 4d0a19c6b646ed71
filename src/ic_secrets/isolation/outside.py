"""Which programs may be run outside, beside an isolated build: none that its checkout brings.

We ask Composer and git for a few things, and bubblewrap is what isolates. `PATH` often has the project's own
`vendor/bin`, where a hostile checkout could keep a program of any of these names.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from .outline import is_within

_GIT = ".git"


def leave_out_checkouts(environment: Mapping[str, str], directories: Iterable[str]) -> dict[str, str]:
    """Return the environment with a PATH that leads into none of the checkouts in which the directories are.

    A relative entry leads into the working directory, and so is left out as well.
    """
    home = os.path.realpath(environment.get("HOME") or "/")
    checkouts = [_find_checkout(os.path.realpath(directory), home) for directory in directories]
    entries = (environment.get("PATH") or os.defpath).split(os.pathsep)
    kept = [
        entry
        for entry in entries
        if os.path.isabs(entry) and not any(is_within(os.path.realpath(entry), each) for each in checkouts)
    ]
    return {**environment, "PATH": os.pathsep.join(kept) or os.defpath}


def _find_checkout(directory: str, home: str) -> str:
    """Return the top of the checkout that the directory is in, or the directory; a home is not taken for a checkout."""
    place = directory
    while place != "/" and not is_within(home, place):
        if os.path.lexists(os.path.join(place, _GIT)):
            return place
        place = os.path.dirname(place)
    return directory
