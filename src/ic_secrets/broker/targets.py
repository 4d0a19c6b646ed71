"""Who is asked, in one spelling: hosts, ports and paths, so that no other spelling cheats the rules. Pure."""

import ipaddress
import re

from ..core.records import NamedTuple

_PORTS = {"http": 80, "https": 443}
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
# A last label like this makes a name a number to `inet_aton`, and thus to curl and libc.
_NUMBER = r"0x[0-9a-f]*|[0-9]+"
# Segments that a server, or something before it, may resolve to another path than the one that was judged.
_ODD = r"\\|%5c|%00|%[01][0-9a-f]|%7f|[\x00-\x20\x7f#]|%(?![0-9a-f]{2})|(?:/|%2f)(?:\.|%2e){1,2}(?=/|;|%3b|%2f|$)"
# A dot, slash or backslash for whoever decodes twice.
_TWICE = r"%25(?:25)*(?:2e|2f|5c)"


class RequestError(Exception):
    """The client may not ask this; `status` and `words` are the answer."""

    def __init__(self, status: int, words: str) -> None:
        """Take the status of the answer and words that hold nothing of the request but its host."""
        super().__init__(words)
        self.status = status
        self.words = words


class Endpoint(NamedTuple):
    """A scheme, a host in its canonical spelling (an IPv6 address without brackets) and a port."""

    scheme: str
    host: str
    port: int

    @property
    def key(self) -> str:
        """The host as Composer names it: with the port where that is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def is_private(self) -> bool:
        """Whether nobody on the way reads, or writes, what goes there and comes back."""
        return self.scheme == "https" or self.is_loopback

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine by its name alone."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class Url(NamedTuple):
    """A URL taken apart; path and query as they were written."""

    endpoint: Endpoint
    path: str
    query: str


def parse_connect(text: str) -> Endpoint:
    """Return the endpoint of `CONNECT host:port`; a tunnel is taken to be for TLS."""
    return _parse_authority("https", text, needs_port=True)


def parse_absolute(text: str) -> Url:
    """Return the parts of the URL of a request for a proxy; it is on plain HTTP, since TLS comes by CONNECT."""
    match = re.fullmatch(r"(?i)(https?)://([^/?#]*)([^?#]*)(?:\?([^#]*))?", text)
    if not match:
        raise RequestError(400, "the address of the request is not one that a proxy takes")
    scheme, authority, path, query = match.groups()
    return Url(_parse_authority(scheme.lower(), authority), path or "/", query or "")


def parse_host(text: str, scheme: str) -> Endpoint:
    """Return the endpoint of a `Host` header or of a secret's `host[:port]`."""
    return _parse_authority(scheme, text)


def split_path(raw: str) -> tuple[str, str, bool]:
    """Return the path and query of a request in origin form, and whether every server reads that path alike."""
    path, _, query = raw.partition("?")
    return path, query, is_plain(path)


def is_plain(path: str) -> bool:
    """Return whether the path has no segment that a server could resolve to another one, and nothing to confuse it."""
    is_simple = path.startswith("/") and path.isascii() and "//" not in path and not has_tricks(path)
    return is_simple and not re.search(_TWICE, path, re.IGNORECASE)


def has_tricks(path: str) -> bool:
    """Return whether the path climbs, or has what cannot be meant: control characters, backslashes, broken escapes."""
    return bool(re.search(_ODD, path, re.IGNORECASE))


def _parse_authority(scheme: str, text: str, *, needs_port: bool = False) -> Endpoint:
    match = re.fullmatch(r"(\[[^\]@]*\]|[^:@\[\]/\\?#\s]*)(?::([0-9]{1,5}))?", text)
    if not match or (needs_port and not match[2]):
        raise RequestError(400, "the host of the request is not written as host:port")
    port = int(match[2]) if match[2] else _PORTS[scheme]
    if not 0 < port < 65536:
        raise RequestError(400, "the port of the request is not one")
    return Endpoint(scheme, _normalize(match[1]), port)


def _normalize(host: str) -> str:
    if host.startswith("["):
        try:
            address = ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            raise RequestError(400, "the address of the request is not an IPv6 address") from None
        if address.scope_id:
            raise RequestError(400, "an IPv6 address with a zone is not asked through the broker")
        return str(address.ipv4_mapped or address)
    name = host.lower().removesuffix(".")
    if not name.isascii():
        try:
            name = name.encode("idna").decode()
        except UnicodeError:
            raise RequestError(400, "the host of the request is not a name") from None
    labels = name.split(".")
    if re.fullmatch(_NUMBER, labels[-1]):
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            raise RequestError(400, "an IPv4 address is asked as four decimal numbers") from None
    if len(name) > 253 or not all(re.fullmatch(_LABEL, label) for label in labels):
        raise RequestError(400, "the host of the request is not a name")
    return name
