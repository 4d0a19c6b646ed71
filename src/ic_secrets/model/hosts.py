"""The hosts that an `env` secret may be bound to, spelled as Composer's keys: `host` or `host:port`. Pure."""

import re
from collections.abc import Iterable

from ..errors import InvalidHostError
from .names import HOST, PORT
from .secret import Hosts, SecretType

# What a server keeps of them beside a secret is at most so long (custom metadata of OpenBao).
MAX_LENGTH = 512
_MAX_HOST = 253
_MAX_LABEL = 63
_IPV4 = r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!\Z)|\Z)){4}"
# What programs take for an address: its last part is a number.
_LIKE_IPV4 = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_URL = re.compile(r"(?i)[a-z][a-z0-9+.-]*://(?:[^/?#]*@)?([^/?#]*)")
_EXAMPLE = "a host is HOST or HOST:PORT, such as connect.example.com"


def parse_hosts(text: str) -> Hosts:
    """Return the hosts that `H[,H...]` names, in order and each once; none for an empty text. InvalidHostError."""
    return sort_hosts(part.strip() for part in text.split(",")) if text.strip() else ()


def sort_hosts(hosts: Iterable[str]) -> Hosts:
    """Return the hosts in their one canonical order, each once; InvalidHostError."""
    found = tuple(sorted({_check_host(host) for host in hosts}))
    if len(format_hosts(found)) > MAX_LENGTH:
        raise InvalidHostError(
            f"the hosts are {len(format_hosts(found))} characters together; at most {MAX_LENGTH} are allowed"
        )
    return found


def format_hosts(hosts: Hosts) -> str:
    """Return the hosts as users type them: `a.example.com,b.example.com:8443`."""
    return ",".join(hosts)


def check_hosts(kind: SecretType, hosts: Iterable[str]) -> Hosts:
    """Return the hosts in their order; InvalidHostError where a secret of that type cannot be bound to them."""
    hosts = sort_hosts(hosts)
    if hosts and kind is not SecretType.ENV:
        hint = (
            "a composer secret goes to the host in its name alone"
            if kind is SecretType.COMPOSER
            else "no build gets a runtime secret"
        )
        raise InvalidHostError(f"a {kind.value} secret cannot be bound to hosts; only env secrets can", hint=hint)
    return hosts


def _check_host(host: str) -> str:
    """Return the host; the error names what is wrong, but nothing of what may be a login."""
    url = _URL.match(host)
    if url or "@" in host:
        name = (url[1] if url else host.rpartition("@")[2]).lower()
        raise InvalidHostError(
            "a host has no scheme and no login", hint=f"write {name}" if _is_host(name) else _EXAMPLE
        )
    if not _is_host(host):
        subject = repr(host) if host else "a host"
        raise InvalidHostError(f"{subject} {_find_fault(host)}", hint=_find_remedy(host))
    return host


def _is_host(text: str) -> bool:
    found = re.fullmatch(rf"({HOST})(?::{PORT})?", text)
    if not found or len(found[1]) > _MAX_HOST or text.endswith(":443"):
        return False
    if found[1].startswith("["):
        return _is_ipv6(found[1][1:-1])
    if any(len(label) > _MAX_LABEL for label in found[1].split(".")):
        return False
    return not _LIKE_IPV4.fullmatch(found[1]) or bool(re.fullmatch(_IPV4, found[1]))


def _is_ipv6(text: str) -> bool:
    from ipaddress import IPv6Address

    try:
        return str(IPv6Address(text)) == text
    except ValueError:
        return False


def _find_fault(host: str) -> str:
    """Return what is wrong with a text that is not a host, to stand after it."""
    faults = {
        "is empty": not host,
        "has a wildcard: each host is named": "*" in host,
        "has a path: a host has none": bool(re.search(r"[/?#]", host)),
        "is not ASCII: an international name is written as xn--": not host.isascii(),
        "is not lower case": host != host.lower(),
        "ends with a dot": bool(re.search(r"\.(?::[0-9]+)?\Z", host)),
        "names the port of https, which a host does not say": host.endswith(":443"),
        "has a port that is not a number from 1 to 65535": bool(re.fullmatch(rf"{HOST}:.*", host))
        and not re.fullmatch(rf"{HOST}:{PORT}", host),
        "is not an address as it is usually written": bool(_LIKE_IPV4.fullmatch(host)) or host.startswith("["),
    }
    return next((fault for fault, is_so in faults.items() if is_so), "is not a host")


def _find_remedy(host: str) -> str:
    """Return the hint for a text that is not a host: the host that is in it, where one is."""
    meant = re.split(r"[/?#]", host.lower())[0].removesuffix(":443").rstrip(".")
    return f"write {meant}" if _is_host(meant) else _EXAMPLE
