"""The person's own proxy on the way to a server. Pure."""

import base64
import contextlib
import ipaddress
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from ..core.records import NamedTuple
from .targets import Endpoint


class UnreachableError(Exception):
    """The server cannot be asked; the text says why, after the server's name."""


class UpstreamProxy(NamedTuple):
    """The person's proxy, and what it wants to know."""

    host: str
    port: int
    authorization: str = ""

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """The headers that it wants."""
        return (("proxy-authorization", self.authorization),) if self.authorization else ()

    def __repr__(self) -> str:
        return f"UpstreamProxy({self.host}:{self.port})"


def find_proxy(environment: Mapping[str, str], endpoint: Endpoint) -> UpstreamProxy | None:
    """Return the proxy that the environment names for the server, as curl reads it; None for none.

    UnreachableError for one that is not an HTTP proxy.
    """
    names = ("https_proxy", "HTTPS_PROXY") if endpoint.scheme == "https" else ("http_proxy", "HTTP_PROXY")
    url = next((environment[name] for name in (*names, "all_proxy", "ALL_PROXY") if environment.get(name)), "")
    if not url or _is_exempt(environment.get("no_proxy") or environment.get("NO_PROXY") or "", endpoint):
        return None
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme != "http":
        raise UnreachableError("the proxy that the environment names is not an http:// one")
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
    return UpstreamProxy(host, port or 80, f"Basic {base64.b64encode(login.encode()).decode()}" if login else "")


def _is_exempt(words: str, endpoint: Endpoint) -> bool:
    """Return whether `no_proxy` names the server: a suffix of its name, a network, with a port or not, or all."""
    try:
        address: ipaddress.IPv4Address | ipaddress.IPv6Address | None = ipaddress.ip_address(endpoint.host)
    except ValueError:
        address = None
    for word in words.replace(",", " ").lower().split():
        if word == "*":
            return True
        name, separator, port = word.rpartition(":")
        if not (separator and port.isdigit() and (name.endswith("]") or ":" not in name)):
            name, port = word, ""
        if port and int(port) != endpoint.port:
            continue
        name = name.strip("[]").removeprefix("*").strip(".")
        if address:
            with contextlib.suppress(ValueError):
                if address in ipaddress.ip_network(name, strict=False):
                    return True
        elif name and f".{endpoint.host}".endswith(f".{name}"):
            return True
    return False
