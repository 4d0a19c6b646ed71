"""The order that the broker receives once, over a socket. It is never written to a file. Pure."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..composer.credential import Credential
from ..core.records import NamedTuple

if TYPE_CHECKING:
    from .reach import Reach


class Bound(NamedTuple):
    """An `env` secret for these hosts alone (`host` or `host:port`); the build sees its placeholder."""

    name: str
    placeholder: str
    value: str
    hosts: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Bound({self.name})"


class Place(NamedTuple):
    """A repository, archive or source that composer.json or the lock names: a `composer.repositories.Repository`.

    `has_login` means that its URL, which stands here without it, has a login of its own.
    """

    kind: str
    url: str
    transport: str
    has_login: bool = False


class Order(NamedTuple):
    """All that the broker knows about a build.

    `forges` are the hosts with an API, each with its method (`methods.map_hosts`). `writable` are the hosts (`host` or
    `host:port`) of which anything may be asked, `insecure` the URLs of repositories that the project allows on plain
    HTTP. `environment` has the person's proxy, which the broker uses itself. `authorities` are the certificates (PEM)
    that it trusts: read before the build starts, since that may write to the files where they are. `password` is the
    one that the broker wants of its clients. An isolated build has a `reach`; any other reaches every server.
    """

    credentials: tuple[Credential, ...] = ()
    bound: tuple[Bound, ...] = ()
    places: tuple[Place, ...] = ()
    forges: Mapping[str, str] = {}
    writable: frozenset[str] = frozenset()
    insecure: frozenset[str] = frozenset()
    environment: Mapping[str, str] = {}
    authorities: str = ""
    password: str = ""
    reach: "Reach | None" = None

    def __repr__(self) -> str:
        names = [each.name for each in self.credentials] + [each.name for each in self.bound]
        return f"Order({', '.join(names)})"

    def to_json(self) -> str:
        """Return the order as one line of ASCII."""
        return json.dumps(self._asdict(), default=sorted)  # of the sets

    @classmethod
    def from_json(cls, text: str) -> "Order":
        """Return the order that `to_json` wrote."""
        fields: dict[str, Any] = json.loads(text)
        return cls(
            credentials=tuple(Credential(*each) for each in fields["credentials"]),
            bound=tuple(Bound(name, holder, value, tuple(hosts)) for name, holder, value, hosts in fields["bound"]),
            places=tuple(Place(*each) for each in fields["places"]),
            forges=fields["forges"],
            writable=frozenset(fields["writable"]),
            insecure=frozenset(fields["insecure"]),
            environment=fields["environment"],
            authorities=fields["authorities"],
            password=fields["password"],
            reach=_read_reach(fields["reach"]),
        )


def _read_reach(fields: Any) -> "Reach | None":
    if fields is None:
        return None
    from .reach import Reach

    hosts, named, carried = fields
    return Reach(frozenset(hosts), frozenset(named), tuple((host, port) for host, port in carried))
