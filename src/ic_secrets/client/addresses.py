"""Where a server is, and the rule that only this machine is asked without TLS."""

from urllib.parse import urlsplit

from ..core.records import NamedTuple
from ..errors import ConfigError

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_PORTS = {"http": 80, "https": 443}


class Address(NamedTuple):
    """A host and port, and whether it speaks TLS."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}"

    @property
    def authority(self) -> str:
        """The host and port as the Host header has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(url: str, *, name: str, hint: str, port: int | None = None) -> Address:
    """Return the server of an `http` or `https` URL without a login; `port` is used where the URL has none.

    ConfigError, which calls the URL by its `name`, for any other URL, and for plain HTTP to another machine.
    """
    try:
        parts = urlsplit(url)
        host, found = parts.hostname or "", parts.port or port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        host, found = "", 0
    if not host or parts.username is not None or parts.scheme not in _PORTS:
        raise ConfigError(f"{name} does not name a server", hint=hint)
    if parts.scheme == "http" and host not in LOOPBACK:
        raise ConfigError(f"{name} uses plain HTTP, which is allowed to this machine only, not to {host}", hint=hint)
    return Address(host, found, parts.scheme == "https")
