"""The platform's own store, Pantheon Secrets, over its API: `pantheon:`, or `pantheon:SITE` for that site alone.

    GET    …/customer-secrets/v1/sites/ID/secrets/showall    what a site holds and inherits, as a secrets.json
    POST   …/customer-secrets/v1/sites/ID/secrets            {name, value, type, scopes}; 400 naming PATCH: it exists
    PATCH  …/customer-secrets/v1/sites/ID/secrets/NAME       {value}, or {env, value}: null deletes that override
    DELETE …/customer-secrets/v1/sites/ID/secrets/NAME

A value without the scope `user` comes back as null, so a build that needs one fails and names it: only the platform's
own builds see such values.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from ...client import parse_timeout
from ...errors import (
    ConfigError,
    IcSecretsError,
    ImmutableError,
    NoPlaceError,
    StoreFormatError,
    StoreWriteError,
    UnknownSiteError,
)
from ...model.names import check_site_name
from ...model.secret import Override, Secret, format_scopes
from ..registry import StoreRequest
from .base import SecretsJsonStore, Step
from .client import HOME, Ask, PantheonClient, Reply, find_token, parse_home
from .secrets_json import find_secrets, read_entries

_SECRETS = "/customer-secrets/v1/sites/{}/secrets"


def open_store(url: str, ask: Ask, environment: Mapping[str, str]) -> "PantheonStore":
    """Open the store of the URL; ConfigError. Nothing is sent yet.

    `ask` gives the settings by their names in the catalogue; `environment` may hold the machine token.
    """
    site = url.partition(":")[2]
    if site:
        check_site_name(site)
    home = parse_home(ask("pantheon-url") or HOME)
    token = find_token(ask, environment)
    client = PantheonClient(home, token, timeout=parse_timeout("pantheon-timeout", ask("pantheon-timeout")))
    return PantheonStore(url, client, site or None)


def open_request(request: StoreRequest) -> "PantheonStore":
    """Open the store of the URL; ConfigError."""
    return open_store(request.url, request.ask, request.environment)


def create_request(request: StoreRequest) -> "PantheonStore":
    """Open the store of the URL to copy to it; ConfigError where it names no site."""
    if not request.path:
        raise ConfigError("`copy` writes to one site of the platform", hint="name it: pantheon:SITE")
    return open_request(request)


class PantheonStore(SecretsJsonStore):
    """Pantheon Secrets, as the owner of a machine token sees them."""

    _naming_hint = "name it: pantheon:SITE"

    def __init__(self, url: str, client: PantheonClient, site: str | None) -> None:
        """`open_store` is the way here."""
        super().__init__(url, site, is_withheld=True)
        self._client = client
        self._ids: dict[str, str] = {}

    def close(self) -> None:
        """Close the connection and the session."""
        self._client.close()

    # --- reading ----------------------------------------------------------------------------------------

    def _load(self, site: str) -> dict[str, Any]:
        if self.only_site not in {None, site}:
            raise UnknownSiteError(
                f"{self.url} belongs to {self.only_site}, not to {site}", hint="pantheon: is for all sites"
            )
        path = _SECRETS.format(self._find_id(site)) + "/showall"
        reply = self._client.ask("GET", path, f"read the secrets of {site}")
        if reply.status != 200:
            raise StoreFormatError(f"{self._client} has no secrets for the site {site}: status {reply.status}")
        document = dict(reply.body)
        find_secrets(document)
        return document

    def _find_id(self, site: str) -> str:
        found = self._ids.get(site) or self._client.find_site(site)
        if found is None:
            raise UnknownSiteError(
                f"Pantheon does not know the site {site}", hint="`terminus site:list` shows those that it knows"
            )
        self._ids[site] = found
        return found

    # --- writing ----------------------------------------------------------------------------------------

    def _begin(self) -> contextlib.AbstractContextManager[None]:
        """Do nothing: the platform has no transactions, so others may write meanwhile."""
        return contextlib.nullcontext()

    def _save(self, steps: Sequence[Step]) -> None:
        """Do one after the other. Where one fails, those before it stay, since old values cannot be read back."""
        for done, step in enumerate(steps):
            try:
                self._do(step)
            except IcSecretsError as error:
                if not done:
                    raise
                raise StoreWriteError(
                    f"{error}; {done} of {len(steps)} changes were made before it, and stay",
                    hint="correct that, and repeat the command",
                ) from None

    def _do(self, step: Step) -> None:
        secrets = _SECRETS.format(self._find_id(step.site))
        name = step.secret.name
        if name in {".", ".."}:  # in a path it would be another place, and all that is below it
            raise NoPlaceError(f"Pantheon cannot be asked for a secret named {name}")
        path = f"{secrets}/{quote(name, safe='')}"
        doing = f"{'write' if step.value else 'delete'} {_label(step)}"
        if step.environment is not None:
            value = step.value.reveal() if step.value else None
            self._need(self._client.ask("PATCH", path, doing, {"env": step.environment, "value": value}), doing)
        elif step.value is None:
            reply = self._client.ask("DELETE", path, doing)
            if reply.status != 404:  # gone already, by another hand or by a try whose answer was lost
                self._need(reply, doing)
        else:
            self._write_base(step, secrets, path, doing)

    def _write_base(self, step: Step, secrets: str, path: str, doing: str) -> None:
        """Change a base, or create it if it does not exist, whatever the document showed."""
        assert step.value is not None
        text = step.value.reveal()
        if not step.is_new:
            reply = self._client.ask("PATCH", path, doing, {"value": text})
            if reply.status != 404:
                self._need(reply, doing)
                return
        secret = step.secret
        body = {"name": secret.name, "value": text, "type": secret.type.value}
        scopes = format_scopes(secret.scopes).split(",")
        reply = self._client.ask("POST", secrets, doing, {**body, "scopes": scopes})
        if reply.status == 400 and reply.names_patch:  # it exists: made meanwhile, or by a try whose answer was lost
            self._check_same(step.site, secret)
            reply = self._client.ask("PATCH", path, doing, {"value": text})
        self._need(reply, doing)

    def _check_same(self, site: str, secret: Secret | Override) -> None:
        """Raise ImmutableError where somebody else has created it since, with other properties (rule 3)."""
        entries, _ = read_entries(self._load(site))
        for entry in entries:
            if entry.name == secret.name and (entry.type, entry.scopes) == (secret.type, secret.scopes):
                return
        raise ImmutableError(f"{site} {secret.name} exists on the platform, with another type or other scopes")

    def _need(self, reply: Reply, doing: str) -> None:
        if reply.status >= 300:
            raise StoreWriteError(f"{self._client} refuses to {doing}: status {reply.status}")


def _label(step: Step) -> str:
    where = f"{step.site}.{step.environment}" if step.environment else step.site
    return f"{where} {step.secret.name}"
