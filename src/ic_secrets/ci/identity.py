"""The identity token of the CI job that runs: a JWT, signed by the platform, for one audience."""

from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from ..client.addresses import parse_address
from ..client.errors import HttpError
from ..client.http import Client, TimeBudget, fetch
from ..errors import ConfigError
from . import platforms

# In seconds.
_BUDGET = 10.0
_LARGEST = 64 << 10


def request_token(environment: Mapping[str, str], audience: str) -> str | None:
    """Return the job's token for that audience; None where no known platform offers one to this job.

    ConfigError where the platform offers one, and does not give it.
    """
    for platform in platforms.PLATFORMS:
        way = platform.identity
        if way and environment.get(way.url) and environment.get(way.bearer):
            token = _fetch(way, environment[way.url], environment[way.bearer], audience)
            if not token or not token.isascii() or not token.isprintable():
                raise ConfigError(f"{platform.name} does not give this job an identity token", hint=way.hint)
            return token
    return None


def _fetch(way: platforms.IdentityRequest, url: str, bearer: str, audience: str) -> str | None:
    from ..client.connection import Connection, Reply, Request
    from ..client.proxies import find_proxy

    address = parse_address(url, name=way.url, hint="the platform sets it")
    parts = urlsplit(url)
    query = f"{parts.query}&audience={quote(audience)}" if parts.query else f"audience={quote(audience)}"
    request = Request("GET", f"{parts.path or '/'}?{query}", headers={"Authorization": f"Bearer {bearer}"})
    client = Client([address], TimeBudget(_BUDGET), find_proxy=find_proxy)

    def attempt(connection: Connection) -> Reply:
        return connection.exchange(request, _BUDGET / 2)

    try:
        reply = fetch(client, attempt)
    except HttpError:
        return None
    finally:
        client.close()
    found = reply.parse_object() if reply.status == 200 and len(reply.content) <= _LARGEST else None
    value = found.get(way.field) if found else None
    return value if isinstance(value, str) else None
