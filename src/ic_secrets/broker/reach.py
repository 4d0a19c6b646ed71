"""Which servers an isolated build reaches, and what listens for its programs inside. Pure, but for the machine's name.

A host that is reached can be sent anything: what the reach keeps away is everybody else, this machine first of all.
"""

import ipaddress
import os
from collections.abc import Collection, Iterable, Iterator
from typing import Literal

from ..composer.repositories import ALIASES, PackageSources, Repository
from ..core.records import NamedTuple
from .order import Order
from .targets import Endpoint, RequestError, parse_host

# Packagist's advisories and counts of downloads; the archives and sources of nearly all its packages.
_OF_PACKAGIST = ("packagist.org", "github.com", "gitlab.com", "bitbucket.org", "codeberg.org")
# Hosts that a build needs because it asks another one.
_IMPLIED = {
    # Where a release's file, another file, a single file of a repository and a file of git-lfs are sent from.
    "github.com": (
        "objects.githubusercontent.com",
        "release-assets.githubusercontent.com",
        "raw.githubusercontent.com",
        "github-cloud.githubusercontent.com",
    ),
    # Where a file of a repository's downloads is sent from.
    "bitbucket.org": ("bbuseruploads.s3.amazonaws.com",),
    # Repositories of others' archives: without a lock nothing else says where those are.
    "wpackagist.org": ("downloads.wordpress.org",),
    "repo.wp-packages.org": ("downloads.wordpress.org",),
    "packages.drupal.org": ("ftp.drupal.org", "git.drupalcode.org"),
}
_USUAL = (80, 443)
_LOCAL = "127.0.0.1"
# Where names lead: all of them to one address, but for those with a port that is joined at once, which tells no names.
# The ports of 127.0.0.1 stay the build's own.
_WEB = "127.0.1.1"
_FIRST_OF_OWN = int(ipaddress.IPv4Address("127.0.2.1"))
_PROXY_PORT = 3128
# A lock file may name any number of ports; those beyond so many are reached through the proxy alone.
_MOST_LISTENERS = 400


class Reach(NamedTuple):
    """The hosts that a build reaches: `host`, which is its ports 80 and 443, or `host:port`.

    Of the `named` ones, which composer.json, a secret or the person names, the address may be one of this machine, or
    link-local. The `carried` hosts and ports are joined without a word of HTTP or TLS: those of a database.
    """

    hosts: frozenset[str] = frozenset()
    named: frozenset[str] = frozenset()
    carried: tuple[tuple[str, int], ...] = ()

    def covers(self, endpoint: Endpoint) -> bool:
        """Return whether the endpoint is within reach."""
        return _has(self.hosts, endpoint)

    def names(self, endpoint: Endpoint) -> bool:
        """Return whether the endpoint is named, so that it may be on this machine."""
        return _has(self.named, endpoint)


class Listener(NamedTuple):
    """What listens inside, at an address of the loopback interface there, IPv4 or IPv6.

    `proxy` takes the build's requests; `web` takes connections that are meant for a server, which their first bytes
    name; `raw` is joined to the `host` (`host:port`) at once. That of `web` is meant where no name is said.
    """

    kind: Literal["proxy", "web", "raw"]
    address: str
    port: int
    host: str = ""


def find_reach(sources: PackageSources, order: Order, allowed: Iterable[str]) -> Reach:
    """Return the reach of a build; `allowed` are the hosts (`host` or `host:port`) that the person adds."""
    secret = _spell(host for each in order.bound for host in each.hosts) | _spell(
        each.host for each in order.credentials
    )
    person = _spell(allowed)
    inline = [place for package in sources.inline for place in (package.archive, package.source)]
    written = _spell(_list_hosts([*sources.repositories, *inline])) | secret
    locked = [place for package in sources.locked or () for place in (package.archive, package.source)]
    mirrors = [host for package in sources.locked or () for host in package.mirrors]
    named = _add_implied(written | person | _spell(order.writable))
    hosts = _add_implied(named | _spell([*_list_hosts([*locked, *sources.patches]), *mirrors]))
    carried = [_split(text) for text in sorted(person - written)]
    return Reach(hosts, named, tuple((host, port) for host, port in carried if port and _is_raw(host, port)))


def plan_listeners(reach: Reach) -> tuple[Listener, ...]:
    """Return what is to listen inside, the proxy first.

    An address that is not of the loopback interface cannot be listened at: such a host is reached through the proxy.
    """
    found: dict[tuple[str, int], Listener] = {}
    addresses = _place_names(reach)
    for host, port in reach.carried:
        if address := _find_address(host, addresses):
            found.setdefault((address, port), Listener("raw", address, port, f"{_show(host)}:{port}"))
    for text in sorted(reach.hosts):
        host, port = _split(text)
        address = _find_address(host, addresses)
        for each in ((port,) if port else _USUAL) if address else ():
            said = f"{_show(host)}:{each}" if host not in addresses else ""
            found.setdefault((address, each), Listener("web", address, each, said))
    taken = {port for address, port in found if address == _LOCAL}
    port = next(number for number in range(_PROXY_PORT, 65536) if number not in taken)
    return (Listener("proxy", _LOCAL, port), *list(found.values())[:_MOST_LISTENERS])


def render_hosts(reach: Reach, base: bytes, machine: str | None = None) -> bytes:
    """Return /etc/hosts inside: this machine's own names, of which `base` has some, and where each host is led to.

    What else the base says is about a network that is not there. `machine` is its name, by default that of this one.
    """
    addresses = _place_names(reach)
    own = {"localhost": None, (os.uname().nodename if machine is None else machine): None}
    for line in base.decode("ascii", "replace").splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if _is_loopback(address):
            own |= dict.fromkeys(names)
    kept = [name for name in own if name and name.lower() not in addresses]
    lines = [f"{_LOCAL}\t{name}" for name in kept]
    lines += ["::1\tlocalhost ip6-localhost ip6-loopback"]
    lines += [f"{address}\t{name}" for name, address in addresses.items()]
    return "\n".join([*lines, ""]).encode()


def spell_endpoint(endpoint: Endpoint) -> str:
    """Return the endpoint as `host:port`."""
    return f"{_show(endpoint.host)}:{endpoint.port}"


def _has(hosts: Collection[str], endpoint: Endpoint) -> bool:
    return spell_endpoint(endpoint) in hosts or (endpoint.port in _USUAL and _show(endpoint.host) in hosts)


def _spell(texts: Iterable[str]) -> frozenset[str]:
    """Return the hosts in the spelling of endpoints, without those that nobody could ask."""
    found = set()
    for text in texts:
        host = text.partition("/")[0]
        try:
            endpoint = parse_host(host, "https")
        except RequestError:
            continue
        has_port = host.rpartition("]")[2].rpartition(":")[1]
        found.add(spell_endpoint(endpoint) if has_port else _show(endpoint.host))
    return frozenset(found)


def _list_hosts(places: Iterable[Repository | None]) -> Iterator[str]:
    yield from (place.host for place in places if place and place.host)


def _add_implied(hosts: frozenset[str]) -> frozenset[str]:
    """Add what the hosts imply."""
    from ..composer.products import PACKAGIST

    found = hosts.union(_OF_PACKAGIST if hosts & PACKAGIST else ())
    found |= {each for host in found & _IMPLIED.keys() for each in _IMPLIED[host]}
    return frozenset(found | {alias for alias, origin in ALIASES.items() if origin in found})


def _split(text: str) -> tuple[str, int]:
    """Return the host, without brackets, and the port, 0 for none, of a host in the spelling of a reach."""
    host, _, port = text.rpartition(":") if not text.endswith("]") and ":" in text else (text, "", "")
    return host.strip("[]"), int(port or 0)


def _show(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_raw(host: str, port: int) -> bool:
    """Return whether a host and port that a person names are joined at once: on usual ports a name is always said."""
    return port not in _USUAL or host == "localhost" or _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def _place_names(reach: Reach) -> dict[str, str]:
    """Return the address inside to which each name leads."""
    names = {host for text in reach.hosts if (host := _split(text)[0]) != "localhost" and not _is_address(host)}
    own = sorted(names.intersection(host for host, _ in reach.carried))
    addresses = {name: str(ipaddress.IPv4Address(_FIRST_OF_OWN + number)) for number, name in enumerate(own)}
    return {name: addresses.get(name, _WEB) for name in sorted(names)}


def _find_address(host: str, addresses: dict[str, str]) -> str:
    """Return where a host is listened for; "" for an address that is not one of the loopback interface."""
    if host == "localhost":
        return _LOCAL
    return addresses.get(host) or (host if _is_loopback(host) else "")
