"""Which paths below the mount of a KV version 2 engine hold what, and in which form. Pure.

    sites/SITE/record                     its organizations
    sites/SITE/ic/base/NAME               a base that builds may read (its scopes include `ic`)
    sites/SITE/ic/env/ENV/NAME            its override for an environment
    sites/SITE/other/base/NAME            a base that no build may read
    sites/SITE/other/env/ENV/NAME
    orgs/ORG/ic/...  orgs/ORG/other/...   as for a site

NAME begins with `user:` where the scopes include `user`. So a policy of paths alone can keep a build to what it may
see, and a person to the values that may be read back.

The data are `{"value", "changed", "expires", "id", "type", "scopes", "created", "write"}`: a secret in one piece, which
the server takes whole or not at all. `id` to `created` are custom metadata too, for who may not read the data, and
since a policy can make those immutable. Custom metadata with another id than the data are those of a writer who came
second, and count for nothing. `write` tells who wrote a version from who wrote the same. A base also has `hosts`, with
commas: those in the data count, and where there are none, since an earlier ic-secrets wrote the value, those in the
custom metadata, which have them before the data where a secret is bound, and lose them after the data.

A new base is claimed before it is written: `{"removed": true, "write"}` is nothing yet, for every reader. A secret has
as many places as there are kinds of scopes, and a build may see some of them only, so that no reader could tell which
of two values in two places came first: a writer who holds a claim, and finds another's claim or value in any other
place, withdraws.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...composer.methods import check_name
from ...core.records import NamedTuple
from ...errors import IcSecretsError, StoreFormatError
from ...model.names import check_site_name, is_possible_name
from ...model.resolve import Holdings
from ...model.secret import (
    MAX_TIME,
    Hosts,
    Override,
    Owner,
    Scope,
    Scopes,
    Secret,
    SecretType,
    SecretValue,
    Site,
    format_scopes,
    parse_scopes,
    parse_type,
)
from ..base import Write

BUILD = "ic"
CLASSES = (BUILD, "other")
SITES = "sites/"
ORGANIZATIONS = "orgs/"
# The last part of a path begins with it where a person may read the value back. No name of any type begins so.
USER = "user:"
# A path has no part such as `..`, and no brackets; no name contains `=`.
_UNSAFE = re.compile(r"[^A-Za-z0-9_.:-]|(?:^|(?<=\.))\.")
_ESCAPED = re.compile(r"=([0-9a-f]{2})")
# The keys of the data of a node whose value may not be read.
UNREADABLE = frozenset({"changed"})
# The custom metadata. Data without them were written by an earlier ic-secrets.
_META = ("id", "type", "scopes", "created")
# The data of what its writer takes back: nothing, and soon gone. With a `write` they are a claim, and with `gone` they
# stay: whoever claimed this did not write in time, and may not any more.
REMOVED = {"removed": True}
GONE = {**REMOVED, "gone": True}
# Which version is the claim, in the data and the custom metadata: those after it are the secret's own.
CLAIM = "claim"
# The hosts that a base is bound to; in the custom metadata only where there are some.
HOSTS = "hosts"


class Node(NamedTuple):
    """A secret or record at a path: its custom metadata, its data, and the number of its version.

    Where the data may not be read, they are only `{"changed"}`, the time of the last change.
    """

    meta: Mapping[str, str]
    data: Mapping[str, Any]
    version: int

    def __repr__(self) -> str:
        return f"Node(version {self.version})"


def get_owner_folder(owner: Owner) -> str:
    """Return the folder of all that an owner holds, with its slash."""
    return f"{SITES if owner.is_site else ORGANIZATIONS}{owner.name}/"


def get_record_path(site: str) -> str:
    """Return the path of a site's organizations."""
    return f"{SITES}{site}/record"


def get_folder(owner: Owner, kind: str, environment: str | None) -> str:
    """Return the folder of an owner's bases or overrides of one class, with its slash."""
    return f"{get_owner_folder(owner)}{kind}/{f'env/{environment}' if environment else 'base'}/"


def get_environments_folder(owner: Owner, kind: str) -> str:
    """Return the folder with a folder for each environment that has overrides."""
    return f"{get_owner_folder(owner)}{kind}/env/"


def classify(scopes: Scopes) -> str:
    """Return the class of a secret with these scopes."""
    return BUILD if Scope.IC in scopes else "other"


def locate(owner: Owner, environment: str | None, name: str, scopes: Scopes) -> str:
    """Return the path of a base or an override."""
    return get_folder(owner, classify(scopes), environment) + (USER if Scope.USER in scopes else "") + _escape(name)


def list_paths(owner: Owner, environment: str | None, name: str) -> list[str]:
    """Return every path that base or override could have, whatever its scopes."""
    return [get_folder(owner, kind, environment) + mark + _escape(name) for kind in CLASSES for mark in ("", USER)]


def _escape(name: str) -> str:
    return _UNSAFE.sub(lambda found: f"={ord(found[0]):02x}", name)


def list_twins(path: str) -> list[str]:
    """Return the other paths that the same place could have, with other scopes; none for a record."""
    parts = path.split("/")
    if len(parts) < 5:
        return []
    name = parts[-1].removeprefix(USER)
    return [
        other
        for kind in CLASSES
        for mark in ("", USER)
        if (other := "/".join([*parts[:2], kind, *parts[3:-1], mark + name])) != path
    ]


def is_record(path: str) -> bool:
    """Return whether a site's record is there."""
    return path.startswith(SITES) and path.endswith("/record") and path.count("/") == 2


def _find_name(path: str) -> str:
    """Return the name of the secret at that path."""
    part = path.rpartition("/")[2].removeprefix(USER)
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), part)


def make_site(name: str, node: Node) -> Site:
    """Return the site of that record; StoreFormatError."""
    organization, supporting = node.data.get("organization"), node.data.get("supporting")
    try:
        check_site_name(name)
        if organization is not None:
            check_site_name(organization, "organization")
        if not isinstance(supporting, list):
            raise ValueError
        return Site(name, organization, tuple(check_site_name(one, "organization") for one in supporting))
    except (IcSecretsError, ValueError, TypeError):
        raise StoreFormatError(f"{get_record_path(name)} was not written by ic-secrets") from None


def render_site(site: Site) -> dict[str, Any]:
    """Return the data of a site's record."""
    return {"organization": site.organization, "supporting": list(site.supporting)}


def make_data(identity: str, write: Write, created: int, changed: int) -> dict[str, Any]:
    """Return the data of a base or an override, whose type, scopes and hosts are known; `identity` is the base's."""
    assert write.type is not None
    assert write.scopes is not None
    hosts = {} if write.hosts is None else {HOSTS: ",".join(write.hosts)}
    return {
        **hosts,
        "value": write.value.reveal(),
        "id": identity,
        "type": write.type.value,
        "scopes": format_scopes(write.scopes),
        "created": created,
        "changed": changed,
        "expires": write.expires,
    }


def make_claim(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the claim on the place where these data are to be."""
    return {**REMOVED, "write": data["write"]}


def is_claim(data: Mapping[str, Any]) -> bool:
    """Return whether these data are a claim, or what somebody is about to take back."""
    return REMOVED.items() <= data.items() and data != GONE


def is_base(path: str) -> bool:
    """Return whether a base is there, rather than an override or a record."""
    parts = path.split("/")
    return len(parts) == 5 and parts[3] == "base"


def get_meta(data: Mapping[str, Any]) -> dict[str, str]:
    """Return the custom metadata that go with the data; none for a record, and for data that do not have them."""
    if not data.keys() >= {*_META}:
        return {}
    hosts = {HOSTS: str(data[HOSTS])} if data.get(HOSTS) else {}
    return {key: str(data[key]) for key in (*_META, CLAIM) if key in data} | hosts


def make_entry(path: str, owner: Owner, environment: str | None, node: Node, *, opened: bool) -> Secret | Override:
    """Return the base or override at the path, its value None unless `opened`; StoreFormatError."""
    try:
        return _parse(path, owner, environment, node, opened=opened)
    except (IcSecretsError, ValueError, TypeError, KeyError, AttributeError):
        way = "`ic-secrets delete`" if is_possible_name(_find_name(path)) else "`bao kv metadata delete`"
        raise StoreFormatError(
            f"{path} is not a secret that ic-secrets wrote", hint=f"another tool wrote or changed it; {way} removes it"
        ) from None


def _parse(path: str, owner: Owner, environment: str | None, node: Node, *, opened: bool) -> Secret | Override:
    meta, data = node.meta, node.data
    own = get_meta(data)
    if own and own["id"] != meta.get("id"):
        meta = own
    elif own and any(own[key] != meta.get(key) for key in ("type", "scopes")):
        raise ValueError
    kind, scopes, identity = parse_type(meta["type"]), parse_scopes(meta["scopes"]), meta["id"]
    name = check_name(kind, _find_name(path))
    created, changed, expires = int(meta["created"]), data["changed"], data.get("expires")
    if path != locate(owner, environment, name, scopes):
        raise ValueError
    if not all(isinstance(time, int) and 0 <= time < MAX_TIME for time in (created, changed, expires or 0)):
        raise ValueError
    value = None
    version = node.version - int((meta if data.keys() == UNREADABLE else data).get(CLAIM, 0))
    if data.keys() != UNREADABLE:
        if data["id"] != identity:
            raise ValueError
        value = SecretValue(data["value"])
    rest = (name, kind, scopes, value if opened else None, version, created, changed, expires)
    if environment:
        return Override(identity, owner, environment, *rest)
    return Secret(identity, owner, *rest, _parse_hosts(kind, data[HOSTS] if HOSTS in data else meta.get(HOSTS)))


def _parse_hosts(kind: SecretType, text: str | None) -> Hosts:
    if not text:
        return ()
    from ...model.hosts import check_hosts, parse_hosts

    return check_hosts(kind, parse_hosts(text))


def gather(owner: Owner, items: Iterable[Secret | Override]) -> Holdings:
    """Return the entries in the order of names."""
    bases = sorted((item for item in items if isinstance(item, Secret)), key=lambda item: item.name)
    overrides = sorted(
        (item for item in items if isinstance(item, Override)), key=lambda item: (item.name, item.environment)
    )
    return Holdings(owner, tuple(bases), tuple(overrides))
