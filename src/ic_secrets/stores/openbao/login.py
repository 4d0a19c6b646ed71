"""The credentials for an OpenBao server: a token that we are given, or one that we log in for and revoke at the end.

Credentials are taken from the first of these that is set: a token (BAO_TOKEN, VAULT_TOKEN, then the file
`bao-token-file`, which an agent keeps fresh), AppRole (`bao-role-id` with a secret id), the account of a Kubernetes pod
(`bao-kubernetes-role`), a CI job's identity token (`bao-jwt-file`, IC_SECRETS_BAO_JWT, or with `bao-role` one that the
platform gives), and last the file where `bao login` leaves a token. A person's token in that file never stands in for
credentials that a pipeline names but does not have: an empty variable, a role without its identity token.
"""

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from ...core.files import read_regular
from ...core.records import NamedTuple
from ...errors import ConfigError, IcSecretsError, StoreDeniedError
from ...model.names import name_variable
from .client import BaoClient, get_object

# The value of a setting by its name in the catalogue; None where it is not set.
Ask = Callable[[str], str | None]

_LARGEST_TOKEN = 64 << 10
_APPROLE_MOUNT = "approle"
_JWT_MOUNT = "jwt"
_AUDIENCE = "ic-secrets"
_KUBERNETES_MOUNT = "kubernetes"
# Where a pod finds the token of its account (https://kubernetes.io/docs/concepts/security/service-accounts/).
_POD_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"
# What could have given credentials, but is empty; and what is of use only with others, which then are not there.
_SOURCES = ("token-file", "role-id", "secret-id", "wrapped-secret-id", "kubernetes-role", "role", "jwt", "jwt-file")
_NEEDY = {
    **dict.fromkeys(("secret-id", "secret-id-file", "wrapped-secret-id", "wrapped-secret-id-file"), "ROLE_ID"),
    **dict.fromkeys(("role", "auth-mount"), "JWT"),
}
# How long we wait for the revocation of a token, which expires by itself soon, in seconds.
_FAREWELL = 1.0


class Session(NamedTuple):
    """A token, and whether it was made for us, so that we revoke it."""

    token: str
    ours: bool

    def __repr__(self) -> str:
        return f"Session(ours={self.ours})"


def log_in(client: BaoClient, ask: Ask, environment: Mapping[str, str]) -> Session:
    """Return the token to use; ConfigError where nothing is set, StoreDeniedError where the server refuses us."""
    given = environment.get("BAO_TOKEN") or environment.get("VAULT_TOKEN")
    if given:
        return Session(given.strip(), ours=False)
    file = ask("bao-token-file")
    if file:
        return Session(_read(file, "the token"), ours=False)
    role_id = ask("bao-role-id")
    if role_id:
        mount = _find_mount(ask, _APPROLE_MOUNT)
        secret_id = _find_secret_id(client, ask, environment, mount, role_id)
        return _log_in(client, mount, {"role_id": role_id, **secret_id}, "AppRole")
    account = ask("bao-kubernetes-role")
    if account:
        own = _read(ask("bao-jwt-file") or _POD_TOKEN, "the token of the pod's account")
        body = {"jwt": own, "role": account}
        return _log_in(client, _find_mount(ask, _KUBERNETES_MOUNT), body, "the account of this pod")
    role = ask("bao-role")
    jwt = _find("bao-jwt", ask, environment, "the identity token") or (role and _request_jwt(ask, environment))
    if jwt:
        body = {"jwt": jwt} | ({"role": role} if role else {})
        return _log_in(client, _find_mount(ask, _JWT_MOUNT), body, "the identity token")
    _refuse_half_a_login(ask, environment)
    usual = os.path.join(environment.get("HOME", ""), ".vault-token")
    if os.path.lexists(usual):
        return Session(_read(usual, "the token"), ours=False)
    raise ConfigError(
        "no OpenBao credentials configured",
        hint="set BAO_TOKEN, or IC_SECRETS_BAO_TOKEN_FILE, …_ROLE_ID, …_KUBERNETES_ROLE or …_JWT "
        "(docs/stores/openbao.md)",
    )


def _refuse_half_a_login(ask: Ask, environment: Mapping[str, str]) -> None:
    """Raise ConfigError where something is set for a login of its own, if only to nothing."""
    variables = ["BAO_TOKEN", "VAULT_TOKEN", *(name_variable(f"bao-{name}") for name in _SOURCES)]
    empty = next((variable for variable in variables if environment.get(variable) == ""), None)
    if empty:
        hint = "the job of a fork gets no secrets, and that of an unprotected branch no protected variables"
        raise ConfigError(f"{empty} is empty, so there are no credentials for the OpenBao server", hint=hint)
    for name, other in _NEEDY.items():
        variable = name_variable(f"bao-{name}")
        if environment.get(variable) or ask(f"bao-{name}"):
            hint = "docs/stores/openbao-login.md shows what each way to log in needs"
            raise ConfigError(f"{variable} is set without IC_SECRETS_BAO_{other}", hint=hint)


def _find_mount(ask: Ask, usual: str) -> str:
    """Return the mount of the login, which may have several parts."""
    return (ask("bao-auth-mount") or usual).strip("/").removeprefix("auth/")


def _request_jwt(ask: Ask, environment: Mapping[str, str]) -> str | None:
    """Return an identity token of the CI job that runs, if its platform gives one."""
    from ...ci import request_token

    return request_token(environment, ask("bao-audience") or _AUDIENCE)


def log_out(client: BaoClient, session: Session) -> None:
    """Revoke a token that was made for us. Where that fails, it ends with its time to live."""
    if session.ours and client.token:
        client.limit(_FAREWELL)
        try:
            client.ask("POST", "auth/token/revoke-self")
        except IcSecretsError:
            return
        finally:
            client.token = ""


def _find_secret_id(
    client: BaoClient, ask: Ask, environment: Mapping[str, str], mount: str, role_id: str
) -> dict[str, str]:
    """Return the secret id for the body of the login, unwrapped if it is wrapped; {} where none is set."""
    wrapped = _find("bao-wrapped-secret-id", ask, environment, "the wrapped secret id")
    if wrapped:
        return {"secret_id": _unwrap(client, wrapped, mount)}
    plain = _find("bao-secret-id", ask, environment, "the secret id")
    return {"secret_id": plain} if plain else {}


def _unwrap(client: BaoClient, wrapped: str, mount: str) -> str:
    """Return the secret id in the wrapping token, which is never unwrapped unless it was made at the role's path."""
    seen = client.ask("POST", "sys/wrapping/lookup", {"token": wrapped}, token="")
    made_at = str(get_object(seen.body, "data").get("creation_path") or "")
    if seen.status != 200:
        raise StoreDeniedError(
            f"{client} does not know the wrapped secret id: it was used already, or has expired",
            hint="if you did not use it, somebody else did: revoke the role's secret ids, and investigate",
        )
    if not re.fullmatch(rf"auth/{re.escape(mount)}/role/[^/]+/secret-id", made_at):
        raise StoreDeniedError(
            f"the wrapped secret id was not created at auth/{mount}/role/ROLE/secret-id, so it was not unwrapped",
            hint="somebody may have replaced it with their own; create a new one",
        )
    answer = client.ask("POST", "sys/wrapping/unwrap", token=wrapped, is_once=True)
    secret_id = get_object(answer.body, "data").get("secret_id")
    if not isinstance(secret_id, str):
        raise StoreDeniedError(f"{client} returns no secret id for the wrapping token", hint="create a new one")
    return secret_id


def _log_in(client: BaoClient, mount: str, body: Mapping[str, Any], how: str) -> Session:
    try:
        # A secret id may be good for one login: sent again, it is refused, and refusals lock the role out.
        answer = client.ask("POST", f"auth/{mount}/login", body, token="", is_once="secret_id" in body)
    except StoreDeniedError:
        answer = None
    token = (get_object(answer.body, "auth") if answer else {}).get("client_token")
    if not isinstance(token, str):
        said = answer.errors if answer else ""
        for name in {"jwt", "secret_id"} & {*body}:
            said = said.replace(body[name], "***")
        raise StoreDeniedError(
            f"{client} refuses the login with {how} at auth/{mount}/{said and f': {said}'}",
            hint="it expired, was used, belongs to another role, or IC_SECRETS_BAO_AUTH_MOUNT names the wrong mount",
        )
    return Session(token, ours=True)


def _find(name: str, ask: Ask, environment: Mapping[str, str], what: str) -> str | None:
    """Return what the variable holds, else the file of the setting `NAME-file`; configuration files hold no values."""
    value = environment.get(name_variable(name))
    if value:
        return value.strip()
    file = ask(f"{name}-file")
    return _read(file, what) if file else None


def _read(path: str, what: str) -> str:
    """Return the content of the file; ConfigError where it cannot be read, or is empty."""
    try:
        data = read_regular(path, _LARGEST_TOKEN)
        text = (data or b"").decode("ascii").strip()
    except (OSError, ValueError):
        raise ConfigError(f"{path}, the file with {what}, cannot be read") from None
    if not text or not text.isprintable():
        raise ConfigError(f"{path}, the file with {what}, is missing or empty")
    return text
