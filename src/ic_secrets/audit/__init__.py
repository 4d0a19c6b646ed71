"""Keeps a log of who did what with which secrets.

- `log`: the file, a chain of lines
- `origin`: who runs a command, where, and in which job
- `recording`: the entries that a command leaves in it
"""

from typing import TYPE_CHECKING

from ..core.faces import make_face

if TYPE_CHECKING:
    from .recording import (
        BuildRecord as BuildRecord,
        Record as Record,
        ResumedRecord as ResumedRecord,
        observed as observed,
        recorded as recorded,
    )
else:
    __getattr__ = make_face(__name__, recording="BuildRecord Record ResumedRecord observed recorded")
