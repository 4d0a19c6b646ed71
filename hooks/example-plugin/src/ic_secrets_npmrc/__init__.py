"""Render an `.npmrc` and a `.netrc` for the build from the secrets that it gets anyway."""

import os

from ic_secrets import hookimpl
from ic_secrets.hookspecs import Credential, RenderContext, Rendered

NPM = "registry.npmjs.org"
# No program that reads a netrc has a way to write these.
UNWRITABLE = frozenset(" \t\r\n\"'\\")


@hookimpl
def ic_secrets_render_secrets(context: RenderContext) -> Rendered | None:
    """Return both files, each only where it has content."""
    credentials = context.secrets.credentials
    tokens = {each.host: each.content for each in credentials if each.method == "bearer"}
    for secret in context.secrets:
        if secret.name == "NPM_TOKEN":
            tokens[NPM] = secret.value.reveal()
    logins = [each for each in credentials if each.method == "http-basic" and _is_writable(each)]
    files, paths = {}, {}
    if tokens:
        lines = [f"//{host}/:_authToken={token}" for host, token in sorted(tokens.items())]
        # Of two lines for one key npm takes the last.
        files["npm/npmrc"] = _join(_read_own(context, "NPM_CONFIG_USERCONFIG", ".npmrc"), *lines)
        paths["NPM_CONFIG_USERCONFIG"] = "npm/npmrc"
    if logins:
        # Of two entries for one machine the first counts. A netrc knows no ports.
        entries = [(each.host.partition(":")[0], each.content["username"], each.content["password"]) for each in logins]
        lines = [f"machine {host} login {user} password {password}" for host, user, password in entries]
        files["netrc/netrc"] = _join(*lines, _read_own(context, "NETRC", ".netrc"))
        paths["NETRC"] = "netrc/netrc"
    return Rendered(files, paths=paths) if files else None


def _is_writable(credential: Credential) -> bool:
    return not UNWRITABLE & set("".join(credential.content.values()))


def _read_own(context: RenderContext, variable: str, name: str) -> str:
    """Return the person's own file, or "" where there is none."""
    path = context.environment.get(variable) or os.path.join(context.environment.get("HOME", "/"), name)
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""


def _join(*parts: str) -> bytes:
    return "".join(f"{part}\n" for part in parts if part).encode()
