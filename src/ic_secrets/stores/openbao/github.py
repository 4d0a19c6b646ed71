"""The identity token of a job on GitHub, asked for where the job may have one (`permissions: id-token: write`).

https://docs.github.com/en/actions/security-for-github-actions/security-hardening-your-deployments
"""

import json
from collections.abc import Callable, Mapping
from urllib.parse import quote, urlsplit

from ...client.addresses import LOOPBACK
from ...errors import ConfigError

_AUDIENCE = "ic-secrets"
# In seconds, and bytes.
_PATIENCE = 10.0
_LARGEST = 64 << 10


def find_github_token(ask: Callable[[str], str | None], environment: Mapping[str, str]) -> str | None:
    """The token for the audience `bao-audience`; None in no such job, ConfigError where GitHub gives none."""
    url, bearer = (environment.get(f"ACTIONS_ID_TOKEN_REQUEST_{name}") for name in ("URL", "TOKEN"))
    if not url or not bearer:
        return None
    parts = urlsplit(url)
    if parts.scheme != "https" and (parts.scheme != "http" or parts.hostname not in LOOPBACK):
        raise ConfigError("ACTIONS_ID_TOKEN_REQUEST_URL is no https URL, so it is not asked")
    token = _fetch(f"{url}{'&' if parts.query else '?'}audience={quote(ask('bao-audience') or _AUDIENCE)}", bearer)
    if not token or not token.isascii() or not token.isprintable():
        raise ConfigError(
            "GitHub gives this job no identity token", hint="the job needs `permissions: id-token: write`"
        )
    return token


def _fetch(url: str, bearer: str) -> str | None:
    import urllib.error
    import urllib.request

    class _Stay(urllib.request.HTTPRedirectHandler):
        """Whoever is redirected takes the bearer token along."""

        def redirect_request(self, *_: object) -> None:
            return None

    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {bearer}"})  # noqa: S310
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=_PATIENCE) as response:
            found = json.loads(response.read(_LARGEST))
    except urllib.error.HTTPError as error:
        error.close()
        return None
    except (OSError, ValueError):
        return None
    value = found.get("value") if isinstance(found, dict) else None
    return value if isinstance(value, str) else None
