"""The names that a store shows without its key: owners, environments, secrets. Nothing of it is verified.

For completion in a shell alone. What an enemy may have written there goes onto a command line, so only what could be a
name comes out.
"""

import re
from typing import NamedTuple

from .base import split_url

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
    """Those of an embedded store or a sealed file; empty for any other. StoreError, OSError."""
    scheme, path = split_url(url)
    names = Names({}, {})
    if scheme == "sqlite":
        _read_database(path, names)
    elif scheme == "sealed":
        _read_sealed(path, names)
    return names


def _read_database(path: str, names: Names) -> None:
    from .embedded.database import Database

    database = Database(path, read_only=True, busy_timeout=_PATIENCE)
    try:
        owners = database.query("SELECT kind, name, organization FROM owners")
        rows = database.query("SELECT kind, owner, name, environment FROM secrets")
    finally:
        database.close()
    for kind, name, organization in owners:
        _add_owner(names, kind, name, organization)
    for row in rows:
        _add_secret(names, *row)


def _read_sealed(path: str, names: Names) -> None:
    from ..core.files import read_regular

    data = read_regular(path, _LARGEST) or b""
    for line in data.decode(errors="replace").splitlines():
        fields = line.split(" ")
        if fields[0] == "site" and len(fields) > 3:
            _add_owner(names, "site", fields[1], None if fields[2] == "-" else fields[2])
        elif fields[0] == "secret" and len(fields) > 4:
            kind = "organization" if fields[1].startswith("org:") else "site"
            environment = "" if fields[2] == "*" else fields[2]
            _add_secret(names, kind, fields[1].removeprefix("org:"), fields[3], environment)


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
