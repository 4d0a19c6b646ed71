"""The names that a store shows without its key: owners, environments, secrets. Nothing of it is verified.

For completion in a shell alone. What an enemy may have written there goes onto a command line, so only what could be a
name comes out.
"""

import contextlib
import re

from ..core.records import NamedTuple
from .registry import find_scheme, split_url

# Every grammar of a name fits in here; nothing of it means anything to a shell.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:-]{0,400}")
_LARGEST = 64 << 20
# Somebody waits for their prompt: a store that is being written to is passed over, in ms.
_PATIENCE = 50


class Names(NamedTuple):
    """What an owner holds, as pairs of a secret's name and an environment ("" for a base), by kind and name.

    `organizations` are the primary ones, by site.
    """

    held: dict[tuple[str, str], list[tuple[str, str]]]
    organizations: dict[str, str]


def read_names(url: str) -> Names:
    """Return the names of a store that shows them; empty for any other. StoreError, OSError."""
    scheme = find_scheme(url)
    return scheme.read_names(split_url(url)[1]) if scheme and scheme.read_names else Names({}, {})


def read_embedded(path: str) -> Names:
    """Return the names in an embedded store."""
    from .embedded.database import Database

    names = Names({}, {})
    with contextlib.closing(Database(path, read_only=True, busy_timeout=_PATIENCE)) as database:
        for owner in database.query("SELECT kind, name, organization FROM owners"):
            _add_owner(names, *owner)
        for row in database.query("SELECT kind, owner, name, environment FROM secrets"):
            _add_secret(names, *row)
    return names


def read_sealed(path: str) -> Names:
    """Return the names in a sealed file."""
    from ..core.files import read_regular

    names = Names({}, {})
    data = read_regular(path, _LARGEST) or b""
    for line in data.decode(errors="replace").splitlines():
        fields = line.split(" ")
        if fields[0] == "site" and len(fields) > 3:
            _add_owner(names, "site", fields[1], None if fields[2] == "-" else fields[2])
        elif fields[0] == "secret" and len(fields) > 4:
            kind = "organization" if fields[1].startswith("org:") else "site"
            environment = "" if fields[2] == "*" else fields[2]
            _add_secret(names, kind, fields[1].removeprefix("org:"), fields[3], environment)
    return names


def _add_owner(names: Names, kind: object, name: object, organization: object) -> None:
    if kind == "site" and _is_name(name):
        names.held.setdefault(("site", str(name)), [])
        if _is_name(organization):
            names.organizations[str(name)] = str(organization)
            names.held.setdefault(("organization", str(organization)), [])


def _add_secret(names: Names, kind: object, owner: object, name: object, environment: object) -> None:
    if _is_name(owner) and _is_name(name) and (environment == "" or _is_name(environment)):
        names.held.setdefault((str(kind), str(owner)), []).append((str(name), str(environment)))


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None
