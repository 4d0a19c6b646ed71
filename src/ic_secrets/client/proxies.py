"""The proxy that the environment names for a server (http_proxy, https_proxy, no_proxy, as curl reads them)."""

from base64 import b64encode
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from .addresses import Address
from .connection import Proxy


def find_proxy(address: Address) -> Proxy | None:
    """Return the proxy that is to be used for the server; None for none, and for one that is not an HTTP proxy."""
    proxies = getproxies()
    url = proxies.get("https" if address.tls else "http") or proxies.get("all")
    if not url or proxy_bypass(address.authority):
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname:
        return None
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
    headers = {"Proxy-Authorization": f"Basic {b64encode(login.encode()).decode()}"} if login else {}
    return Proxy(Address(parts.hostname, parts.port or 80, False), headers)
