"""What a build will be, decided and checked while nothing is exposed: load, select, resolve, render.

Every refusal of a build is in here, so that a build that starts has nothing left to fail on but itself.
"""

import functools
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from ..composer.credential import Credential, split_secret
from ..composer.home import ComposerHome
from ..core.durations import format_duration
from ..core.notices import Notice, Notify
from ..core.refusals import Refuse, attempt, passes, stop
from ..errors import BuildError, UnknownSecretError
from ..git.helper import Login, find_logins, find_minting_hosts
from ..masking.needles import Exposed
from ..masking.parts import SHORTEST
from ..model.resolve import Definition, inert_overrides, resolve
from ..model.secret import Owner, Scope, SecretType, Target
from ..model.variables import Preserve, check_size, check_variable, choose_variables, inherit
from ..process.child import find_program
from ..stores.base import Cached, Identity, Store
from .credentials import Installed, parse_credentials, read_project, render_home, warn_of_collisions, warn_of_methods
from .render import RenderContext, Renderer, Rendering, given_value, render_all

# Environments that no build runs for on the platform (rule 12).
_NEVER_BUILT = frozenset({"test", "live"})
# What the private directory's paths add to the environment, at the most, in bytes.
_ADDED = 16_384
# How long before its end a secret is warned of, in seconds.
EXPIRY_WARNING = 14 * 86_400.0


class BuildRequest(NamedTuple):
    """What is to be built, and how. `grace` and `expiry_warning` are in seconds; `leaks` is `fail`, `warn` or `off`.

    The command is empty where somebody else runs the build, in the directory. The scope is `ic` for a build, `web` for
    an application that runs.
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
    scope: Scope = Scope.IC


class Preparation(NamedTuple):
    """All that a build needs, decided and checked, while nothing is exposed yet.

    `files` and `paths` are as in `rendering.Rendering`; `git_alone` are hosts whose login is not among them,
    since only git needs it. `caches` are the directories that Composer may use as its cache. `store` is
    the store at the moment at which the secrets were read; `cached` is where they are not the server's own words.
    `loaded` is all that was read, also what the build does not get.
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
    cached: Cached | None = None
    loaded: tuple[Definition, ...] = ()

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


def prepare(
    store: Store, request: BuildRequest, notify: Notify, extensions: Extensions | None = None, refuse: Refuse = stop
) -> Preparation:
    """Load, select, resolve and render, and refuse what cannot become a build.

    Where `refuse` only notes an error, what is wrong is left out and the rest goes on: so all that is wrong comes to
    light, and what is given is nothing to be built. A store that cannot be read is always raised.
    """
    extensions = extensions or NoExtensions()
    warn_of_environment(request, notify)
    program = attempt(refuse, lambda: _find_own(request), "")
    identity, definitions = load_at_once(store, request, notify)
    cached = store.cached
    warn_of_cache(cached, time.time(), notify)
    secrets = select(definitions, request, notify, refuse)
    secrets = tuple(secret for secret in secrets if passes(refuse, given_value, secret))
    warn_of_expiry(secrets, request.expiry_warning, time.time(), notify)
    warn_of_values(secrets, notify)
    installed = Installed(request.environment, request.directory)
    credentials = parse_credentials(secrets, installed, notify, refuse)
    inherited = inherit(request.environment, pristine=request.pristine)
    home = ComposerHome.find(inherited)
    project = read_project(request.command, request.directory, request.environment)
    alone = project.git_alone & {c.host for c in credentials if c.method == "http-basic"}
    secrets = _drop_refused(secrets, credentials, refuse)
    context = RenderContext(request.target, project.directory, secrets, inherited, request.scope)
    if request.scope is Scope.WEB:
        from .application import render_application

        ours: list[Renderer] = [render_application]
    else:
        warn_of_methods(credentials, installed, notify)
        warn_of_collisions(project, credentials, installed, notify, refuse)
        render_composer = functools.partial(
            render_home, home=home, credentials=credentials, left_out=alone, installed=installed
        )
        ours = [
            functools.partial(render_environment, preserve=request.preserve, notify=notify),
            functools.partial(render_composer, notify=notify, refuse=refuse),
        ]
    others = extensions.list_renderers()
    rendering = attempt(refuse, lambda: render_all(context, ours, others), None) or render_all(context, ours)
    environment = {**inherited, **rendering.variables}
    passes(refuse, check_size, environment, request.command, os.sysconf("SC_ARG_MAX") - _ADDED)
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
        files=rendering.files,
        paths=rendering.paths,
        store=identity,
        cached=cached if cached and cached.moment is not None else None,
        loaded=definitions,
    )


def warn_of_environment(request: BuildRequest, notify: Notify) -> None:
    """Say where the platform would build nothing (rule 12)."""
    if request.scope is Scope.IC and request.target.environment in _NEVER_BUILT:
        notify(
            Notice(
                f"{request.target.environment} is never built on the platform",
                "builds run for dev and multidevs; their code is deployed to test and live",
            )
        )


def _find_own(request: BuildRequest) -> str:
    return find_program(request.command[0], request.environment) if request.command else ""


def _drop_refused(
    secrets: Sequence[Definition], credentials: Sequence[Credential], refuse: Refuse
) -> tuple[Definition, ...]:
    """Those that become something: a credential, or a variable that may be set."""
    names = {credential.name for credential in credentials}
    kept = []
    for secret in secrets:
        is_fit = secret.type is not SecretType.COMPOSER or secret.name in names
        if secret.type is SecretType.ENV:
            is_fit = passes(refuse, check_variable, secret.name, given_value(secret))
        if is_fit:
            kept.append(secret)
    return tuple(kept)


def load_at_once(store: Store, request: BuildRequest, notify: Notify) -> tuple[Identity | None, tuple[Definition, ...]]:
    """What `load` gives, and which store it was at that very moment."""
    later: list[Notice] = []  # nobody waits to write to the store until these are printed
    with store.snapshot():
        identity = store.identify()
        definitions = load(store, request.target, later.append, request.scope)
    for notice in later:
        notify(notice)
    return identity, definitions


def load(store: Store, target: Target, notify: Notify, scope: Scope = Scope.IC) -> tuple[Definition, ...]:
    """The definitions of that scope that the target has, of any type, in the order of names."""
    owner = Owner.site(target.site)
    chain = store.read_chain(owner, environment=target.environment, scope=scope, values=True)
    for text in store.take_notices():
        notify(Notice(text))
    for override in inert_overrides(chain):
        notify(
            Notice(
                f"the override {override.owner}.{override.environment} {override.name} is not used: "
                "the secret that it belonged to is gone",
                f"set it again, or `ic-secrets delete {override.owner}.{override.environment} {override.name}`",
            )
        )
    return resolve(target.environment, scope, chain)


def select(
    definitions: Sequence[Definition], request: BuildRequest, notify: Notify, refuse: Refuse = stop
) -> tuple[Definition, ...]:
    """What is exposed of them, narrowed by --only and --except.

    A build gets `env` and `composer` secrets (rule 8), an application `runtime` ones, as on the platform.
    """
    is_web = request.scope is Scope.WEB
    exposed = [secret for secret in definitions if (secret.type is SecretType.RUNTIME) is is_web]
    names = {secret.name for secret in exposed}
    for name in sorted((request.only or frozenset()) - names):
        refuse(
            UnknownSecretError(
                f"{request.target} has no secret {name} that {'an application' if is_web else 'a build'} gets",
                hint=f"`ic-secrets explain {request.target} {name}` shows why",
            )
        )
    for name in sorted(request.excluded - names):
        notify(Notice(f"{request.target} has no secret {name} that could be left out"))
    return tuple(
        secret
        for secret in exposed
        if secret.name not in request.excluded and (request.only is None or secret.name in request.only)
    )


def list_exposed(secrets: Sequence[Definition]) -> tuple[Exposed, ...]:
    """The secrets as the masker and the search take them."""
    return tuple(
        Exposed(secret.name, split_secret(secret.type, secret.name, given_value(secret).reveal())) for secret in secrets
    )


def warn_of_expiry(secrets: Sequence[Definition], ahead: float, now: float, notify: Notify) -> None:
    """Name what has expired at the time `now`, or will within the next `ahead` seconds; both in the order of names."""
    for secret in secrets:
        if secret.expires is None or secret.expires - now > ahead:
            continue
        left = secret.expires - now
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(secret.expires))
        if left < 0:
            text = f"expired {format_duration(-left)} ago, at {moment}"
        else:
            text = f"expires in {format_duration(left)}, at {moment}"
        notify(
            Notice(
                f"{secret.name} of {secret.source} {text}",
                f"`ic-secrets set {secret.source} {secret.name} --expires DATE` sets a new value",
            )
        )


def warn_of_cache(cached: Cached | None, now: float, notify: Notify) -> None:
    """Say that the secrets are from the cache, and of when, or that they could not be kept in it."""
    if cached is None:
        return
    if cached.moment is None:
        notify(Notice(f"the secrets are not kept for when the server cannot be reached: {cached.reason}"))
        return
    age = format_duration(max(now - cached.moment, 0))
    notify(
        Notice(
            f"{cached.reason}; the secrets are those of {age} ago, from the cache",
            "what was changed on the server since then is not known here",
        )
    )


def warn_of_values(secrets: Sequence[Definition], notify: Notify) -> None:
    """Name the values that cannot be hidden, or not be searched for."""
    exposed = list_exposed(secrets)
    for name in [one.name for one in exposed if one.parts.are_short]:
        notify(Notice(f"{name} has a value, or a part, of less than {SHORTEST} bytes, which is not masked"))
    for name in [one.name for one in exposed if one.parts.are_common]:
        notify(Notice(f"{name} is a common word: it is masked wherever it stands, and not searched for"))


def render_environment(context: RenderContext, *, preserve: Preserve, notify: Notify) -> Rendering:
    """The `env` secrets as variables."""
    secrets = [(secret.name, given_value(secret)) for secret in context.secrets if secret.type is SecretType.ENV]
    variables, kept = choose_variables(context.environment, secrets, preserve)
    for name in kept:
        notify(Notice(f"{name} was set already and is preserved; the secret of that name is not used"))
    return Rendering(variables=variables)


def _find_git(environment: Mapping[str, str]) -> str | None:
    try:
        return os.path.abspath(find_program("git", environment))
    except BuildError:
        return None
