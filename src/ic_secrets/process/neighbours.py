"""Tell builds that run side by side of each other, so that none takes another's files for a leak of its own.

Each leaves in its private directory where it works, and adds itself to the list of every build that runs already. So
each knows all that ran at some time beside it, those included that are over by then.
"""

import contextlib
import json
import os
from collections.abc import Mapping

from ..core.files import read_regular, write_private
from ..core.records import NamedTuple
from .directory import find_enclosing, list_directories

_PLACE = "place"
_OTHERS = "neighbours"
_LARGEST = 1 << 20


class Neighbour(NamedTuple):
    """A build that ran beside ours: its private directory, what it works in, and where others may write as well."""

    path: str
    projects: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()


def announce(own: Neighbour, environment: Mapping[str, str], run_dir: str | None) -> None:
    """Leave in our private directory where our build works, and tell those that run; OSError.

    A build that runs inside another is a part of that, and not beside it.
    """
    path = own.path
    write_private(os.path.join(path, _OTHERS), b"")
    write_private(os.path.join(path, _PLACE), _to_line(own))
    outer = find_enclosing(environment.get("COMPOSER_HOME", ""))
    for other in list_directories(environment, run_dir):
        if other in {path, outer}:
            continue
        place = _read(os.path.join(other, _PLACE))
        _append(os.path.join(path, _OTHERS), place or _to_line(Neighbour(other)))
        if place:
            _append(os.path.join(other, _OTHERS), _to_line(own))


def find_neighbours(path: str) -> tuple[Neighbour, ...]:
    """Return the builds that ran beside the one with the private directory `path`, which is not scrubbed yet."""
    found = []
    for line in _read(os.path.join(path, _OTHERS)).splitlines():
        with contextlib.suppress(ValueError, TypeError):  # the build could have written anything
            other, projects, shared = json.loads(line)
            found.append(Neighbour(os.fspath(other), tuple(map(os.fspath, projects)), tuple(map(os.fspath, shared))))
    return tuple(dict.fromkeys(found))


def _to_line(neighbour: Neighbour) -> bytes:
    return json.dumps(neighbour).encode() + b"\n"


def _read(path: str) -> bytes:
    with contextlib.suppress(OSError):
        return read_regular(path, _LARGEST) or b""
    return b""


def _append(path: str, line: bytes) -> None:
    """Add the line to a file that is there; one whose build is over meanwhile needs it no more."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "wb", buffering=0) as file:
            file.write(line)
