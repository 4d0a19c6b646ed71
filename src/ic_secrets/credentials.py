"""The `composer` secrets of a build, and what stands beside them: the user's own credentials, and the project's.

Secrets go into an auth.json of a private Composer home. What Composer would prefer to them is left out where it is the
user's, and named where it is the project's, whose files stay as they are.
"""

import contextlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from . import composer
from .errors import BuildError, MalformedAuthError
from .files import read_regular
from .needs import read_needs
from .notices import Notice, Notify
from .overlay import AUTH_FILE, CONFIG_FILE, ComposerHome
from .questions import ask_composer_version
from .rendering import COMPOSER, RenderContext, Rendering, given_value
from .resolve import Definition
from .secret import SecretType

# A lock file of a very large project has a few megabytes.
_LARGEST = 64 << 20
# Since then Composer has known all the methods but the newest.
_OLDEST = (2, 0)


def parse_credentials(secrets: Sequence[Definition], notify: Notify) -> tuple[composer.Credential, ...]:
    """The `composer` secrets as Composer takes them."""
    credentials = tuple(
        composer.parse_credential(secret.name, given_value(secret))
        for secret in secrets
        if secret.type is SecretType.COMPOSER
    )
    for host, used, unused in composer.find_rivals(credentials):
        notify(Notice(f"{used} and {unused} are for one host, {host}: Composer uses {used} alone"))
    return credentials


def warn_of_methods(
    credentials: Sequence[composer.Credential], environment: Mapping[str, str], directory: str, notify: Notify
) -> None:
    """Name the credentials that the installed Composer does not know; asks for its version where some could be."""
    if not composer.find_too_new(credentials, _OLDEST):
        return
    version = ask_composer_version(environment, directory)
    known = tuple(int(number) for number in (version or "").split(".")[:2] if number.isdigit())
    for credential in composer.find_too_new(credentials, known) if len(known) == 2 else ():
        since = ".".join(map(str, composer.METHODS[credential.method].since))
        notify(
            Notice(f"{credential.name}: Composer {version} ignores {credential.method}, which is known since {since}")
        )


def render_home(
    context: RenderContext,
    *,
    home: ComposerHome,
    credentials: Sequence[composer.Credential],
    left_out: Collection[str],
    notify: Notify,
) -> Rendering:
    """The private Composer home; an inherited COMPOSER_AUTH loses what secrets set.

    The credentials of hosts that are `left_out` are not in them, nor the user's own. MalformedAuthError
    names the user's file that Composer would stumble over.
    """
    hosts = {credential.host for credential in credentials}
    auth = _read_auth(os.path.join(home.path, AUTH_FILE))
    auth, _ = composer.drop_hosts(auth, set(left_out))
    merged = composer.merge_auth(auth, [c for c in credentials if c.host not in left_out])
    variables = {}
    inherited = context.environment.get("COMPOSER_AUTH")
    if inherited:
        document = composer.parse_document(inherited, "COMPOSER_AUTH")
        composer.check_sections(document, "COMPOSER_AUTH")
        document, dropped = composer.drop_hosts(document, hosts)
        composer.move_headers(document, merged, hosts)
        for host in dropped:
            notify(Notice(f"COMPOSER_AUTH also had a credential for {host}; the secret is used instead"))
        variables["COMPOSER_AUTH"] = json.dumps(document)
    files = {f"{COMPOSER}/{AUTH_FILE}": json.dumps(merged, indent=4).encode()}
    config = _read_auth(os.path.join(home.path, CONFIG_FILE))
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

    `auth_file` and `manifest_file` are the paths of its auth.json and composer.json.
    """

    directory: str
    auth_file: str
    manifest_file: str
    config: composer.Document
    git_alone: frozenset[str]
    caches: tuple[str, ...]


def read_project(command: Sequence[str], directory: str, environment: Mapping[str, str]) -> Project:
    """The project in which the command works when it is started in the directory.

    A malformed composer.json is Composer's to explain: its own message says where.
    """
    directory = composer.find_project(command, directory, os.path.join)
    manifest_file = os.path.join(directory, environment.get("COMPOSER") or "composer.json")
    auth_file = os.path.join(os.path.dirname(os.path.realpath(manifest_file)), AUTH_FILE)
    manifest = _read_leniently(manifest_file)
    config = manifest.get("config")
    config = config if isinstance(config, dict) else {}
    lock_file = f"{manifest_file.removesuffix('.json')}.lock"
    lock = _read_leniently(lock_file) if os.path.exists(lock_file) else None
    caches = [config[name] for name in ("cache-dir", "cache-vcs-dir") if isinstance(config.get(name), str)]
    return Project(
        directory=directory,
        auth_file=auth_file,
        manifest_file=manifest_file,
        config=config,
        # Another program may start Composer elsewhere, for another project: then nothing is known.
        git_alone=read_needs(manifest, lock).git_alone if composer.is_composer(command) else frozenset(),
        caches=tuple(os.path.join(directory, os.path.expanduser(path)) for path in caches),
    )


def warn_of_collisions(project: Project, credentials: Sequence[composer.Credential], notify: Notify) -> None:
    """Name the project's own credentials that Composer prefers to the secrets'; its files stay as they are.

    MalformedAuthError when its auth.json is not what Composer expects.
    """
    found = [
        *composer.find_collisions(_read_auth(project.auth_file), project.auth_file, credentials),
        *composer.find_collisions(project.config, project.manifest_file, credentials),
    ]
    for collision in found:
        notify(
            Notice(
                f"{collision.file} has its own {collision.method} for {collision.host}, which Composer prefers "
                "to the secret",
                "remove it there, if the secret is to be used",
            )
        )


def _read_leniently(path: str) -> composer.Document:
    with contextlib.suppress(BuildError):
        return composer.parse_document(_read_text(path) or "{}", path)
    return {}


def _read_auth(path: str) -> composer.Document:
    """The document, empty where there is no file; MalformedAuthError, BuildError."""
    text = _read_text(path)
    if text is None:
        return {}
    document = composer.parse_document(text, path)
    composer.check_sections(document, path)
    return document


def _read_text(path: str) -> str | None:
    """The text of the file, None where Composer would see none; BuildError when it cannot be read."""
    try:
        data = read_regular(path, _LARGEST)
        return None if data is None else data.decode()
    except UnicodeDecodeError:
        raise MalformedAuthError(f"{path} is not UTF-8") from None
    except OSError as error:
        raise BuildError(f"{path} cannot be read: {error.strerror}") from None
