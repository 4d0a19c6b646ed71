"""What secrets become for a build: files of its private directory, and variables. Pure, but for the user's own files.

Nothing is written here; what is rendered is written when the build is exposed.
"""

import json
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence

from ..composer.auth_json import Document, drop_hosts, merge_auth, move_section, parse_auth
from ..composer.credential import AUTH_VARIABLE
from ..composer.home import AUTH_FILE, CONFIG_FILE, ComposerHome
from ..composer.methods import METHODS, imply_domains
from ..composer.project import read_auth
from ..composer.version import InstalledComposer
from ..core.collector import RAISED, Errors
from ..core.notices import Notice, Notify
from ..core.records import NamedTuple
from ..errors import BuildError
from ..model.secret import Scope, SecretType, SecretValue, Target
from ..model.variables import Preserve, choose_variables
from .secrets import BuildSecrets

# The directory, in the private one, that is the build's Composer home.
COMPOSER = "composer"
# An application's secrets.json in the private directory, and the variable that names it to Pantheon's PHP SDK.
APPLICATION = "application"
SECRETS_FILE = f"{APPLICATION}/secrets.json"
SECRETS_VARIABLE = "CUSTOMER_SECRETS_FAKE_FILE"
# Of a file's name, in bytes (NAME_MAX).
_LONGEST = 255
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
# Places of the private directory that are Composer's, git's, the application's, the build's and the broker's own.
_OURS = frozenset({COMPOSER, "git", APPLICATION, "build", "broker"})
# Variables that are Composer's, git's and the loader's own, or that keep values from the build.
_KEPT = frozenset({"PATH", "HOME", "COMPOSER_HOME", "COMPOSER_AUTH"})
_KEPT_PREFIXES = ("IC_SECRETS_", "LD_", "DYLD_", "GIT_CONFIG")


class RenderContext(NamedTuple):
    """What a renderer may look at: the target, the project's directory, the secrets, and what the build inherits.

    The `secrets` are those that are exposed, with their values: to a build (the scope `ic`) of the types `env` and
    `composer`, to an application (`web`) of the type `runtime`. A build with a broker holds no credential, so none is
    among them then, and a secret that is bound to hosts has its placeholder as the value. A renderer sees the
    environment as those before it have made it.
    """

    target: Target
    project: str
    secrets: BuildSecrets
    environment: Mapping[str, str]
    scope: Scope = Scope.IC


class Rendered(NamedTuple):
    """What one renderer adds to a build.

    `files` are contents by path below the private directory (`npm/npmrc`), each written 0600. `variables` go
    into the build's environment; `paths` are variables too, whose value is the whole path of one of the files
    or of a directory that holds some (`{"NPM_CONFIG_USERCONFIG": "npm/npmrc"}`).
    """

    files: Mapping[str, bytes] = {}
    variables: Mapping[str, str] = {}
    paths: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return f"Rendered({sorted(self.files)}, {sorted({*self.variables, *self.paths})})"

    def add(self, other: "Rendered") -> "Rendered":
        """Return both together."""
        return Rendered(
            {**self.files, **other.files}, {**self.variables, **other.variables}, {**self.paths, **other.paths}
        )


Renderer = Callable[[RenderContext], Rendered]


class RenderedHome(NamedTuple):
    """The files of the private Composer home, each a document until it is written, and COMPOSER_AUTH if it is set."""

    files: Mapping[str, Document]
    variables: Mapping[str, str]

    def __repr__(self) -> str:
        return f"RenderedHome({sorted(self.files)})"


def render_environment(
    secrets: BuildSecrets,
    environment: Mapping[str, str],
    preserve: Preserve,
    notify: Notify,
    placeholders: Mapping[str, str] = {},
) -> Rendered:
    """Render the `env` secrets as variables of a build that inherits the environment.

    `placeholders` are what stands for some of them, by name, where a broker knows the values.
    """
    values = [(name, SecretValue(placeholders[name]) if name in placeholders else v) for name, v in secrets.variables]
    variables, kept = choose_variables(environment, values, preserve)
    for name in kept:
        notify(Notice(f"{name} was set already and is preserved; the secret of that name is not used"))
    return Rendered(variables=variables)


def render_application(secrets: BuildSecrets, target: Target, scope: Scope) -> Rendered:
    """Render the `runtime` secrets as `terminus secret:site:local-generate` does, and the variable that names the file.

    Each Value is the one that the target resolves to, so Pantheon's PHP SDK, which does not know environments
    outside the platform, gets that.
    """
    from ..stores.pantheon import secrets_json

    entries = {
        secret.name: secrets_json.render_entry(secret.type, secret.scopes, secret.value.reveal()) for secret in secrets
    }
    text = secrets_json.render(target.site, entries, [scope.value])
    return Rendered({SECRETS_FILE: text.encode()}, {}, {SECRETS_VARIABLE: SECRETS_FILE})


def render_home(
    secrets: BuildSecrets,
    home: ComposerHome,
    environment: Mapping[str, str],
    composer: InstalledComposer,
    notify: Notify,
    errors: Errors = RAISED,
    *,
    is_brokered: bool = False,
) -> RenderedHome:
    """Render the private Composer home, and COMPOSER_AUTH where the build inherits one, less what secrets set.

    With a broker the secrets themselves are in neither: the home says only which hosts they make Composer take for a
    forge. MalformedAuthError names the user's file that Composer would stumble over.
    """
    auth: Document = {}
    with errors:
        auth = read_auth(os.path.join(home.path, AUTH_FILE))
    auth, _ = drop_hosts({**auth, **secrets.settings}, secrets.hosts)
    if not is_brokered:
        auth = merge_auth(auth, secrets.credentials)
    variables = {}
    inherited = environment.get("COMPOSER_AUTH")
    if inherited:
        document: Document = {}
        with errors:
            document = parse_auth(inherited, "COMPOSER_AUTH")
        document, dropped = drop_hosts(document, secrets.hosts)
        for method in document.keys() & auth.keys() & METHODS.keys():
            if not composer.merges(method):
                move_section(document, auth, method, secrets.hosts)
        for host in dropped:
            notify(Notice(f"COMPOSER_AUTH also had a credential for {host}; the secret is used instead"))
        variables["COMPOSER_AUTH"] = json.dumps(document)
    config = _render_config(secrets, home, notify, errors, is_brokered=is_brokered)
    return RenderedHome({AUTH_FILE: auth, **config}, variables)


def spread_credentials(
    secrets: BuildSecrets, home: RenderedHome, reasons: Sequence[str], composer: InstalledComposer, notify: Notify
) -> RenderedHome:
    """Put the secrets into COMPOSER_AUTH too, which Composer reads whatever its home is; the `reasons` give it another.

    Not those that Composer would exchange for a token: it stores both in the auth.json of that home, which stays.
    """
    who = ", ".join(reasons)
    auth, variables = home.files[AUTH_FILE], dict(home.variables)
    document = parse_auth(variables.get(AUTH_VARIABLE) or "{}", AUTH_VARIABLE)
    kept = [each for each in secrets.credentials if each.is_exchanged]
    for credential in secrets.credentials:
        if not credential.is_exchanged:
            merged = {credential.host: credential.content} if composer.merges(credential.method) else {}
            section = document.setdefault(credential.method, {})
            section.update(merged or auth[credential.method])
    if document:
        variables[AUTH_VARIABLE] = json.dumps(document)
        text = f"{who}: Composer gets a home of its own there, so the credentials are in {AUTH_VARIABLE} too"
        notify(Notice(text, "every script of the build can read them there, as it can read auth.json"))
    for credential in kept:
        text = f"{who}: Composer gets a home of its own there, and does not find {credential.name}"
        notify(Notice(text, "it would store the token that it is given in that home; use an access token instead"))
    return home._replace(variables=variables)


def _render_config(
    secrets: BuildSecrets, home: ComposerHome, notify: Notify, errors: Errors, *, is_brokered: bool
) -> dict[str, Document]:
    """Render a config.json without the credentials that secrets replace, where the user's own has such.

    With a broker it also has the domains of forges that Composer would add if it saw the credentials.
    """
    place = os.path.join(home.path, CONFIG_FILE)
    config: Document = {}
    with errors:
        config = read_auth(place)
    section = config.get("config")
    section, dropped = drop_hosts(section if isinstance(section, dict) else {}, secrets.hosts)
    domains = imply_domains(((each.method, each.host) for each in secrets.credentials), section) if is_brokered else {}
    if not dropped and not domains:
        return {}
    if dropped:
        notify(
            Notice(
                f"{place} also has a credential for {', '.join(dropped)}; the secret is used instead",
                "the build sees a copy of that file, and what it writes there is not kept",
            )
        )
    return {CONFIG_FILE: {**config, "config": {**section, **domains}}}


def render_others(context: RenderContext, ours: Rendered, others: Sequence[tuple[str, Renderer]]) -> Rendered:
    """Add to ours what others render; each comes with the name that an error puts the blame on.

    BuildError where one adds what it may not: a variable or file of a secret or of another renderer, a path that leads
    out of the private directory or into what is ours, a name that no variable or file can have.
    """
    whole = ours
    for name, render in others:
        context = context._replace(environment={**context.environment, **whole.variables})
        rendered = render(context)
        _check_rendered(name, rendered, whole, context.secrets)
        whole = whole.add(rendered)
    return whole


def _check_rendered(name: str, rendered: Rendered, before: Rendered, secrets: BuildSecrets) -> None:
    hide = secrets.hide_values  # a renderer has seen the values
    for path in rendered.files:
        if not _is_free(path, {*before.files, *(each for each in rendered.files if each != path)}):
            raise BuildError(f"{name} may not write the file {hide(path)!a}")
    names = {secret.name for secret in secrets if secret.type is SecretType.ENV}
    taken = {*before.variables, *before.paths, *names, *_KEPT}
    for variable, value in (*rendered.variables.items(), *rendered.paths.items()):
        is_taken = variable in taken or variable.startswith(_KEPT_PREFIXES)
        if is_taken or not re.fullmatch(_VARIABLE, variable) or "\0" in value or not _is_text(value):
            raise BuildError(f"{name} may not set the variable {hide(variable)!a}")
    for path in rendered.paths.values():
        if not any(each == path or each.startswith(f"{path}/") for each in rendered.files):
            raise BuildError(f"{name} names {hide(path)!a}, but writes no file there")


def _is_free(path: str, taken: Collection[str]) -> bool:
    """Whether a file can be there: below the directory, under a name that a file system takes, in nobody's place."""
    parts = path.split("/")
    is_name = _is_text(path) and "\0" not in path and all(0 < len(part.encode()) <= _LONGEST for part in parts)
    if not is_name or {".", ".."} & set(parts) or parts[0] in _OURS:
        return False
    return not any(path == other or path.startswith(f"{other}/") or other.startswith(f"{path}/") for other in taken)


def _is_text(text: str) -> bool:
    """Whether it can be written in UTF-8: half a character cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
