"""The `composer` secrets of a build, and what stands beside them: the user's own credentials, and the project's.

Secrets go into an auth.json of a private Composer home. What Composer would prefer to them is left out where it is the
user's, and named where it is the project's, whose files stay as they are.
"""

import contextlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from ..composer import auth_json as composer
from ..composer.command import find_project, is_composer
from ..composer.credential import Credential, parse_credential
from ..composer.home import AUTH_FILE, CONFIG_FILE, ComposerHome
from ..composer.methods import METHODS
from ..composer.precedence import find_collisions, find_rivals
from ..composer.repositories import PackageSources, read_sources
from ..composer.version import ask_composer_version, parse_version
from ..core.files import read_regular
from ..core.notices import Notice, Notify
from ..core.refusals import Refuse, attempt, stop
from ..errors import BuildError, IcSecretsError, MalformedAuthError
from ..model.resolve import Definition
from ..model.secret import SecretType
from .render import COMPOSER, RenderContext, Rendering, given_value

# A lock file of a very large project has a few megabytes.
_LARGEST = 64 << 20
# Since then Composer has known all the methods but the newest.
_OLDEST = (2, 0)


class Installed:
    """The installed Composer, which is asked for its version only where that matters."""

    def __init__(self, environment: Mapping[str, str], directory: str) -> None:
        self._environment = environment
        self._directory = directory
        self._is_asked = False
        self._version: str | None = None

    @property
    def version(self) -> str | None:
        """Its version, None where it does not say."""
        if not self._is_asked:
            self._is_asked = True
            self._version = ask_composer_version(self._environment, self._directory)
        return self._version

    def merges(self, method: str) -> bool:
        """Return whether it merges several sources of the method host by host."""
        known = METHODS[method]
        return known.merged_since <= _OLDEST or known.merges_hosts(parse_version(self.version))

    def knows(self, method: str) -> bool:
        """Whether it does more than ignore such credentials."""
        known = METHODS[method]
        return known.since <= _OLDEST or known.is_known(parse_version(self.version))


def parse_credentials(
    secrets: Sequence[Definition], installed: Installed, notify: Notify, refuse: Refuse = stop
) -> tuple[Credential, ...]:
    """The `composer` secrets as Composer takes them."""
    credentials = []
    for secret in secrets:
        if secret.type is SecretType.COMPOSER:
            try:
                credentials.append(parse_credential(secret.name, given_value(secret)))
            except IcSecretsError as error:
                refuse(error)
    for host, used, unused in find_rivals([c for c in credentials if installed.knows(c.method)]):
        notify(Notice(f"{used} and {unused} are for one host, {host}: Composer uses {used} alone"))
    return tuple(credentials)


def warn_of_methods(credentials: Sequence[Credential], installed: Installed, notify: Notify) -> None:
    """Name the credentials that the installed Composer does not know."""
    for credential in credentials:
        if not installed.knows(credential.method):
            since = ".".join(map(str, METHODS[credential.method].since))
            method, version = credential.method, installed.version
            notify(Notice(f"{credential.name}: Composer {version} ignores {method}, which is known since {since}"))


def render_home(
    context: RenderContext,
    *,
    home: ComposerHome,
    credentials: Sequence[Credential],
    left_out: Collection[str],
    installed: Installed,
    notify: Notify,
    refuse: Refuse = stop,
) -> Rendering:
    """The private Composer home; an inherited COMPOSER_AUTH loses what secrets set.

    The credentials of hosts that are `left_out` are not in them, nor the user's own. MalformedAuthError
    names the user's file that Composer would stumble over.
    """
    hosts = {credential.host for credential in credentials}
    nothing: composer.Document = {}
    auth = attempt(refuse, lambda: read_auth(os.path.join(home.path, AUTH_FILE)), nothing)
    auth, _ = composer.drop_hosts(auth, set(left_out))
    merged = composer.merge_auth(auth, [c for c in credentials if c.host not in left_out])
    variables = {}
    inherited = context.environment.get("COMPOSER_AUTH")
    if inherited:
        document = attempt(refuse, lambda: composer.parse_auth(inherited, "COMPOSER_AUTH"), nothing)
        document, dropped = composer.drop_hosts(document, hosts)
        for method in document.keys() & merged.keys() & METHODS.keys():
            if not installed.merges(method):
                composer.move_section(document, merged, method, hosts)
        for host in dropped:
            notify(Notice(f"COMPOSER_AUTH also had a credential for {host}; the secret is used instead"))
        variables["COMPOSER_AUTH"] = json.dumps(document)
    files = {f"{COMPOSER}/{AUTH_FILE}": json.dumps(merged, indent=4).encode()}
    config = attempt(refuse, lambda: read_auth(os.path.join(home.path, CONFIG_FILE)), nothing)
    section = config.get("config")
    if isinstance(section, dict):
        config["config"], dropped = composer.drop_hosts(section, hosts)
        if dropped:
            files[f"{COMPOSER}/{CONFIG_FILE}"] = json.dumps(config, indent=4).encode()
            place = os.path.join(home.path, CONFIG_FILE)
            notify(
                Notice(
                    f"{place} also has a credential for {', '.join(dropped)}; the secret is used instead",
                    "the build sees a copy of that file, and what it writes there is not kept",
                )
            )
    return Rendering(files, variables, {"COMPOSER_HOME": COMPOSER})


class Project(NamedTuple):
    """The project that is built: its files, as far as they are there and can be read.

    `auth_file` and `manifest_file` are the paths of its auth.json and composer.json; `config` is the latter's section,
    `sources` what it and the lock file say of packages.
    """

    directory: str
    auth_file: str
    manifest_file: str
    has_manifest: bool
    is_manifest_valid: bool
    sources: PackageSources
    config: composer.Document
    git_alone: frozenset[str]
    caches: tuple[str, ...]


def read_project(command: Sequence[str], directory: str, environment: Mapping[str, str]) -> Project:
    """The project in which the command works when it is started in the directory.

    A malformed composer.json is Composer's to explain: its own message says where.
    """
    directory = find_project(command, directory)
    manifest_file = os.path.join(directory, environment.get("COMPOSER") or "composer.json")
    auth_file = os.path.join(os.path.dirname(os.path.realpath(manifest_file)), AUTH_FILE)
    has_manifest = os.path.exists(manifest_file)
    manifest = _read_leniently(manifest_file)
    config = (manifest or {}).get("config")
    config = config if isinstance(config, dict) else {}
    lock_file = f"{manifest_file.removesuffix('.json')}.lock"
    lock = _read_leniently(lock_file) or {} if os.path.exists(lock_file) else None
    sources = read_sources(manifest or {}, lock)
    caches = [config[name] for name in ("cache-dir", "cache-vcs-dir") if isinstance(config.get(name), str)]
    return Project(
        directory=directory,
        auth_file=auth_file,
        manifest_file=manifest_file,
        has_manifest=has_manifest,
        is_manifest_valid=has_manifest and manifest is not None,
        sources=sources,
        config=config,
        # Another program may start Composer elsewhere, for another project: then nothing is known.
        git_alone=sources.git_alone if is_composer(command) else frozenset(),
        caches=tuple(os.path.join(directory, os.path.expanduser(path)) for path in caches),
    )


def warn_of_collisions(
    project: Project,
    credentials: Sequence[Credential],
    installed: Installed,
    notify: Notify,
    refuse: Refuse = stop,
) -> None:
    """Name the project's own credentials that Composer prefers to the secrets'; its files stay as they are.

    An auth.json that is not what Composer expects is refused.
    """
    nothing: composer.Document = {}
    auth = attempt(refuse, lambda: read_auth(project.auth_file), nothing)
    replaced = [each.method for each in credentials if not installed.merges(each.method)]
    found = [
        *find_collisions(auth, project.auth_file, credentials, replaced),
        *find_collisions(project.config, project.manifest_file, credentials, replaced),
    ]
    for collision in found:
        if installed.knows(collision.method):
            notify(
                Notice(
                    f"{collision.file} has its own {collision.method} for {collision.host}, which Composer prefers "
                    "to the secret",
                    "remove it there, if the secret is to be used",
                )
            )


def _read_leniently(path: str) -> composer.Document | None:
    with contextlib.suppress(BuildError):
        return composer.parse_document(_read_text(path) or "{}", path)
    return None


def read_auth(path: str) -> composer.Document:
    """The document, empty where there is no file; MalformedAuthError, BuildError."""
    text = _read_text(path)
    if text is None:
        return {}
    return composer.parse_auth(text, path)


def _read_text(path: str) -> str | None:
    """The text of the file, None where Composer would see none; BuildError when it cannot be read."""
    try:
        data = read_regular(path, _LARGEST)
        return None if data is None else data.decode()
    except UnicodeDecodeError:
        raise MalformedAuthError(f"{path} is not UTF-8") from None
    except OSError as error:
        raise BuildError(f"{path} cannot be read: {error.strerror}") from None
