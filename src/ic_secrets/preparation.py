"""What a build will be, decided and checked while nothing is exposed: load, select, resolve, render.

Every refusal of a build is in here, so that a build that starts has nothing left to fail on but itself.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from . import composer
from .environment import Preserve, check_size, choose_variables, inherit
from .errors import BuildError, MalformedAuthError, UnknownSecretError
from .files import read_regular
from .git import Login, find_logins, find_minting_hosts
from .needles import SHORTEST, Exposed, too_common, too_short
from .needs import read_needs
from .overlay import AUTH_FILE, CONFIG_FILE, ComposerHome
from .process import find_program
from .questions import ask_composer_version
from .rendering import RenderContext, Renderer, Rendering, render_more
from .resolve import Definition, inert_overrides, resolve
from .secret import Owner, Scope, SecretType, SecretValue, Target
from .stores import Identity, Store, identify, read_chain

# The directory, in the private one, that is the build's Composer home.
COMPOSER = "composer"
# Environments that no build runs for on the platform (rule 12).
_NEVER_BUILT = frozenset({"test", "live"})
# A lock file of a very large project has a few megabytes.
_LARGEST = 64 << 20
# What the private directory's paths add to the environment, at the most, in bytes.
_ADDED = 16_384
# Since then Composer has known all the methods but the newest.
_OLDEST = (2, 0)
# How long before its end a secret is warned of, in seconds.
EXPIRY_WARNING = 14 * 86_400.0


class Notice(NamedTuple):
    """Something that the person should know; the build goes on. `level` is `warning` or `error`."""

    text: str
    hint: str = ""
    level: str = "warning"


Notify = Callable[[Notice], None]


class BuildRequest(NamedTuple):
    """What is to be built, and how. `grace` and `expiry_warning` are in seconds; `leaks` is `fail`, `warn` or `off`.

    The command is empty where somebody else runs the build, in the directory.
    """

    target: Target
    command: tuple[str, ...]
    directory: str
    environment: Mapping[str, str]
    only: frozenset[str] | None = None
    excluded: frozenset[str] = frozenset()
    preserve: Preserve = Preserve()
    pristine: bool = False
    mask: bool = True
    run_dir: str | None = None
    grace: float = 10.0
    allow_background: bool = False
    leaks: str = "fail"
    leaks_allowed: tuple[str, ...] = ()
    receipt: str | None = None
    expiry_warning: float = EXPIRY_WARNING


class Preparation(NamedTuple):
    """All that a build needs, decided and checked, while nothing is exposed yet.

    `files` and `paths` are as in `rendering.Rendering`; `git_alone` are hosts whose login is not among them,
    since only git needs it. `caches` are the directories that Composer may use as its cache. `store` is
    the store at the moment at which the secrets were read.
    """

    request: BuildRequest
    program: str
    project: str
    secrets: tuple[Definition, ...]
    logins: tuple[Login, ...]
    minting_hosts: tuple[str, ...]
    git: str | None
    git_alone: frozenset[str]
    environment: Mapping[str, str]
    home: ComposerHome
    caches: tuple[str, ...]
    files: Mapping[str, bytes]
    paths: Mapping[str, str]
    store: Identity | None

    def __repr__(self) -> str:
        return f"Preparation({self.request.target})"


class Extensions(Protocol):
    """What others may add to a build, or say against it (`plugins`)."""

    def list_renderers(self) -> Sequence[tuple[str, Renderer]]:
        """Renderers beside ours, each with the name that it is blamed by."""

    def check_build(self, preparation: "Preparation") -> None:
        """Look at a build before anything is exposed; VetoError and other BuildErrors stop it."""

    def tell_receipt(self, receipt: Mapping[str, Any]) -> None:
        """Take the receipt of a build that is over."""


class NoExtensions:
    """Nobody adds anything."""

    def list_renderers(self) -> Sequence[tuple[str, Renderer]]:
        """None."""
        return ()

    def check_build(self, preparation: "Preparation") -> None:
        """Nobody says anything."""

    def tell_receipt(self, receipt: Mapping[str, Any]) -> None:
        """Nobody listens."""


def prepare(store: Store, request: BuildRequest, notify: Notify, extensions: Extensions | None = None) -> Preparation:
    """Load, select, resolve and render, and refuse what cannot become a build."""
    extensions = extensions or NoExtensions()
    if request.target.environment in _NEVER_BUILT:
        notify(
            Notice(
                f"{request.target.environment} is never built on the platform",
                "builds run for dev and multidevs; their code is deployed to test and live",
            )
        )
    program = find_program(request.command[0], request.environment) if request.command else ""
    identity, definitions = load_at_once(store, request.target, notify)
    secrets = select(definitions, request, notify)
    warn_of_expiry(secrets, request.expiry_warning, time.time(), notify)
    warn_of_values(secrets, notify)
    credentials = render_credentials(secrets, notify)
    warn_of_methods(credentials, request, notify)
    inherited = inherit(request.environment, pristine=request.pristine)
    home = ComposerHome.find(inherited)
    project = read_project(request)
    warn_of_collisions(project, credentials, notify)
    alone = project.git_alone & {c.host for c in credentials if c.method == "http-basic"}
    context = RenderContext(request.target, project.directory, secrets, inherited)
    variables = render_environment(context, request.preserve, notify).variables
    context = context._replace(environment={**inherited, **variables})
    rendering = render_home(context, home, credentials, alone, notify)
    more = render_more(context, extensions.list_renderers())
    environment = {**context.environment, **rendering.variables, **more.variables}
    check_size(environment, request.command, os.sysconf("SC_ARG_MAX") - _ADDED)
    return Preparation(
        request=request,
        program=program,
        project=project.directory,
        secrets=secrets,
        logins=find_logins(credentials),
        minting_hosts=find_minting_hosts(credentials),
        git=_find_git(environment),
        git_alone=alone,
        environment=environment,
        home=home,
        caches=tuple(dict.fromkeys([home.cache, *project.caches])),
        files={**rendering.files, **more.files},
        paths={**rendering.paths, **more.paths},
        store=identity,
    )


def load_at_once(store: Store, target: Target, notify: Notify) -> tuple[Identity | None, tuple[Definition, ...]]:
    """What `load` gives, and which store it was at that very moment."""
    later: list[Notice] = []  # nobody waits to write to the store until these are printed
    with store.snapshot():
        identity = identify(store)
        definitions = load(store, target, later.append)
    for notice in later:
        notify(notice)
    return identity, definitions


def load(store: Store, target: Target, notify: Notify) -> tuple[Definition, ...]:
    """The definitions that the target's build gets (scope `ic`), of any type, in the order of names."""
    owner = Owner.site(target.site)
    chain = read_chain(store, owner, environment=target.environment, scope=Scope.IC, values=True)
    for override in inert_overrides(chain):
        notify(
            Notice(
                f"the override {override.owner}.{override.environment} {override.name} is not used: "
                "the secret that it belonged to is gone",
                f"set it again, or `ic-secrets delete {override.owner}.{override.environment} {override.name}`",
            )
        )
    return resolve(target.environment, Scope.IC, chain)


def select(definitions: Sequence[Definition], request: BuildRequest, notify: Notify) -> tuple[Definition, ...]:
    """What is exposed of them: `env` and `composer` secrets (rule 8), narrowed by --only and --except."""
    exposed = [secret for secret in definitions if secret.type is not SecretType.RUNTIME]
    names = {secret.name for secret in exposed}
    for name in sorted((request.only or frozenset()) - names):
        raise UnknownSecretError(
            f"{request.target} has no secret {name} that a build gets",
            hint=f"`ic-secrets explain {request.target} {name}` shows why",
        )
    for name in sorted(request.excluded - names):
        notify(Notice(f"{request.target} has no secret {name} that could be left out"))
    return tuple(
        secret
        for secret in exposed
        if secret.name not in request.excluded and (request.only is None or secret.name in request.only)
    )


def given_value(secret: Definition) -> SecretValue:
    """The value; BuildError where the store does not give it."""
    if secret.value is None:
        raise BuildError(f"the store does not give the value of {secret.name} ({secret.source})")
    return secret.value


def list_exposed(secrets: Sequence[Definition]) -> tuple[Exposed, ...]:
    """The secrets as the masker and the search take them."""
    return tuple(Exposed(secret.name, secret.type, given_value(secret)) for secret in secrets)


def warn_of_expiry(secrets: Sequence[Definition], ahead: float, now: float, notify: Notify) -> None:
    """Name what has expired at the time `now`, or will within the next `ahead` seconds; both in the order of names."""
    for secret in secrets:
        if secret.expires is None or secret.expires - now > ahead:
            continue
        left = secret.expires - now
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(secret.expires))
        if left < 0:
            text = f"expired {_count_time(-left)} ago, at {moment}"
        else:
            text = f"expires in {_count_time(left)}, at {moment}"
        notify(
            Notice(
                f"{secret.name} of {secret.source} {text}",
                f"`ic-secrets set {secret.source} {secret.name} --expires DATE` sets a new value",
            )
        )


def _count_time(seconds: float) -> str:
    """The time in the largest unit of which it has two or more, rounded down: `36 hours`, `2 days`."""
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size):,} {unit}"
    return f"{int(seconds)} {'second' if int(seconds) == 1 else 'seconds'}"


def warn_of_values(secrets: Sequence[Definition], notify: Notify) -> None:
    """Name the values that cannot be hidden, or not be searched for."""
    exposed = list_exposed(secrets)
    for name in too_short(exposed):
        notify(Notice(f"{name} has a value, or a part, of less than {SHORTEST} bytes, which is not masked"))
    for name in too_common(exposed):
        notify(Notice(f"{name} is a common word: it is masked wherever it stands, and not searched for"))


def render_credentials(secrets: Sequence[Definition], notify: Notify) -> tuple[composer.Credential, ...]:
    """The `composer` secrets as Composer takes them."""
    credentials = tuple(
        composer.parse_credential(secret.name, given_value(secret))
        for secret in secrets
        if secret.type is SecretType.COMPOSER
    )
    for host, used, unused in composer.find_rivals(credentials):
        notify(Notice(f"{used} and {unused} are for one host, {host}: Composer uses {used} alone"))
    return credentials


def warn_of_methods(credentials: Sequence[composer.Credential], request: BuildRequest, notify: Notify) -> None:
    """Name the credentials that the installed Composer does not know; asks for its version where some could be."""
    if not composer.find_too_new(credentials, _OLDEST):
        return
    version = ask_composer_version(request.environment, request.directory)
    known = tuple(int(number) for number in (version or "").split(".")[:2] if number.isdigit())
    for credential in composer.find_too_new(credentials, known) if len(known) == 2 else ():
        since = ".".join(map(str, composer.METHODS[credential.method].since))
        notify(
            Notice(f"{credential.name}: Composer {version} ignores {credential.method}, which is known since {since}")
        )


def render_environment(context: RenderContext, preserve: Preserve, notify: Notify) -> Rendering:
    """The `env` secrets as variables."""
    secrets = [(secret.name, given_value(secret)) for secret in context.secrets if secret.type is SecretType.ENV]
    variables, kept = choose_variables(context.environment, secrets, preserve)
    for name in kept:
        notify(Notice(f"{name} was set already and is preserved; the secret of that name is not used"))
    return Rendering(variables=variables)


def render_home(
    context: RenderContext,
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
    auth: composer.Document
    manifest_file: str
    config: composer.Document
    git_alone: frozenset[str]
    caches: tuple[str, ...]


def read_project(request: BuildRequest) -> Project:
    """The project in which the command works; MalformedAuthError when its auth.json is not what Composer expects.

    A malformed composer.json is Composer's to explain: its own message says where.
    """
    directory = composer.find_project(request.command, request.directory, os.path.join)
    manifest_file = os.path.join(directory, request.environment.get("COMPOSER") or "composer.json")
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
        auth=_read_auth(auth_file),
        manifest_file=manifest_file,
        config=config,
        # Another program may start Composer elsewhere, for another project: then nothing is known.
        git_alone=read_needs(manifest, lock).git_alone if composer.is_composer(request.command) else frozenset(),
        caches=tuple(os.path.join(directory, os.path.expanduser(path)) for path in caches),
    )


def warn_of_collisions(project: Project, credentials: Sequence[composer.Credential], notify: Notify) -> None:
    """Name the project's own credentials that Composer prefers to the secrets'; its files stay as they are."""
    found = [
        *composer.find_collisions(project.auth, project.auth_file, credentials),
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


def _find_git(environment: Mapping[str, str]) -> str | None:
    try:
        return os.path.abspath(find_program("git", environment))
    except BuildError:
        return None


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
