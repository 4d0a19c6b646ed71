"""A build before anything is exposed: load, select, resolve, render.

Every refusal of a build is in here, so that a build that starts has nothing left to fail on but itself.
"""

import contextlib
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..composer.auth_json import Document, parse_document
from ..composer.credential import AUTH_VARIABLE, list_credentials
from ..composer.home import AUTH_FILE, CONFIG_FILE, ComposerHome
from ..composer.project import Project, read_auth, read_project
from ..composer.version import InstalledComposer, ask_git_configuration
from ..core.collector import RAISED, Errors
from ..core.durations import format_duration
from ..core.notices import Notice, Notify
from ..core.records import NamedTuple
from ..errors import BuildError, IcSecretsError, UnknownSecretError
from ..git import helper as git
from ..git.helper import Logins
from ..model.names import NEVER_BUILT
from ..model.resolve import Definition, inert_overrides, resolve
from ..model.secret import Owner, Scope, SecretType, Target
from ..model.variables import check_size, find_preserved, inherit
from ..process.child import find_program
from ..stores.base import Cached, Identity, Store
from .render import (
    COMPOSER,
    RenderContext,
    Rendered,
    RenderedHome,
    Renderer,
    render_application,
    render_environment,
    render_home,
    render_others,
    spread_credentials,
)
from .request import BuildRequest
from .secrets import BuildSecrets

if TYPE_CHECKING:
    from ..broker import Order
    from .isolating import Isolation

# What the private directory's paths add to the environment, at the most, in bytes.
_ADDED = 16_384
# A host as a URL names it; whoever wrote an auth.json may have put anything there.
_HOST = r"[A-Za-z0-9._:\[\]-]+"


class Loaded(NamedTuple):
    """The definitions that the target resolves to, of any type, in the order of names.

    `store` is the store at the moment at which they were read; `cached` is set where they come from the cache.
    """

    definitions: tuple[Definition, ...] = ()
    store: Identity | None = None
    cached: Cached | None = None


class PreparedBuild(NamedTuple):
    """All that a build needs, decided and checked, while nothing is exposed yet.

    `environment` is the build's, but for the `paths` and what git needs: variables that name files of the private
    directory. `home_files` are documents by name in the private Composer home, `files` further contents by path.
    `placeholders` are what the build has instead of `env` secrets whose values only the broker knows, and `order` is
    what the broker receives; `isolation` is what the build sees of the machine. `unseen` are secrets of which only the
    description is known here, since another process began the build with a broker.
    """

    request: BuildRequest
    project: Project
    home: ComposerHome
    secrets: BuildSecrets
    loaded: Loaded = Loaded()
    program: str = ""
    git: str | None = None
    logins: Logins = Logins()
    environment: Mapping[str, str] = {}
    home_files: Mapping[str, Document] = {}
    files: Mapping[str, bytes] = {}
    paths: Mapping[str, str] = {}
    placeholders: Mapping[str, str] = {}
    order: "Order | None" = None
    isolation: "Isolation | None" = None
    unseen: tuple[Mapping[str, Any], ...] = ()

    def __repr__(self) -> str:
        return f"PreparedBuild({self.request.target})"

    @property
    def preserved(self) -> tuple[str, ...]:
        """The `env` secrets that the build does not get, since the variable was set already and is preserved."""
        inherited = inherit(self.request.environment, pristine=self.request.pristine)
        return find_preserved(inherited, [name for name, _ in self.secrets.variables], self.request.preserve)

    @property
    def hidden(self) -> frozenset[str]:
        """The names of the secrets that the build uses and does not hold: only the broker has their values."""
        if not self.request.broker:
            return frozenset()
        return frozenset(
            secret.name
            for secret in self.secrets
            if secret.credential or secret.variable or secret.name in self.placeholders
        )

    @property
    def outside(self) -> Mapping[str, str]:
        """The environment of programs that are run beside the build: an isolated one's checkout brings none of them."""
        request = self.request
        if not request.isolate:
            return request.environment
        from ..isolation.outside import leave_out_checkouts

        return leave_out_checkouts(request.environment, [request.directory, self.project.directory])

    @property
    def caches(self) -> tuple[str, ...]:
        """The directories that Composer may use as its cache."""
        return tuple(dict.fromkeys([self.home.cache, *self.project.caches]))

    @property
    def auth(self) -> Document:
        """The auth.json of the private Composer home, empty where there is no such home."""
        return self.home_files.get(AUTH_FILE, {})

    @property
    def file_names(self) -> tuple[str, ...]:
        """The paths of all rendered files below the private directory."""
        return tuple(sorted({*(f"{COMPOSER}/{name}" for name in self.home_files), *self.files}))

    @property
    def added_variables(self) -> tuple[str, ...]:
        """The names of the variables that the build does not inherit as they are, in order."""
        before = self.request.environment
        changed = {name for name, value in self.environment.items() if before.get(name) != value}
        return tuple(sorted({*changed, *self.paths}))


class Extensions(Protocol):
    """What others may add to a build, or object to in it (`plugins`)."""

    def list_renderers(self) -> Sequence[tuple[str, Renderer]]:
        """Return renderers beside ours, each with the name that an error puts the blame on."""

    def check_build(self, prepared: PreparedBuild) -> None:
        """Look at a build before anything is exposed; VetoError and other BuildErrors stop it."""

    def show_receipt(self, receipt: Mapping[str, Any]) -> None:
        """Receive the receipt of a build that is over."""


class NoExtensions:
    """Nobody adds anything."""

    def list_renderers(self) -> Sequence[tuple[str, Renderer]]:
        """Return none."""
        return ()

    def check_build(self, prepared: PreparedBuild) -> None:
        """Accept the build."""

    def show_receipt(self, receipt: Mapping[str, Any]) -> None:
        """Ignore it."""


def prepare(
    store: Store,
    request: BuildRequest,
    notify: Notify,
    extensions: Extensions | None = None,
    errors: Errors = RAISED,
) -> PreparedBuild:
    """Load, select, resolve and render, and refuse what cannot become a build.

    Where `errors` are collected, what is wrong is left out and the rest goes on: so everything that is wrong comes to
    light, and what is returned must not be built. A store that cannot be read is always raised.
    """
    warn_of_environment(request, notify)
    program = ""
    with errors:
        program = find_program(request.command[0], request.environment) if request.command else ""
    loaded = load(store, request.target, notify, request.scope)
    secrets = BuildSecrets.parse(select(loaded.definitions, request, notify, errors), errors, request.allowed_names)
    inherited = inherit(request.environment, pristine=request.pristine)
    if AUTH_VARIABLE in inherited and request.preserve.keeps(AUTH_VARIABLE):
        secrets = secrets.without_variable()
    prepared = PreparedBuild(
        request=request,
        project=read_project(request.command, request.directory, request.environment),
        home=ComposerHome.find(inherited),
        secrets=secrets,
        loaded=loaded,
        program=program,
    )
    if request.broker:
        from .brokering import make_placeholders

        prepared = prepared._replace(placeholders=make_placeholders(secrets, loaded.store))
    composer = InstalledComposer(prepared.outside, request.directory)
    auth: Document = {}
    if request.scope is Scope.IC:
        with errors:
            auth = read_auth(prepared.project.auth_file)
    check(prepared, auth, composer, notify)
    rendered = render(prepared, composer, extensions or NoExtensions(), notify, errors)
    rendered = rendered._replace(logins=find_logins(rendered, auth) if request.scope is Scope.IC else Logins())
    return _guard(rendered, notify, errors) if request.broker else rendered


def _guard(rendered: PreparedBuild, notify: Notify, errors: Errors) -> PreparedBuild:
    """Arrange the broker of the build, and its isolation where that is asked for."""
    from .brokering import arrange_broker

    settings = ask_git_configuration(rendered.outside, rendered.project.directory)
    brokered = arrange_broker(rendered, settings, notify, errors)
    if not rendered.request.isolate:
        return brokered
    from .isolating import arrange_isolation

    return arrange_isolation(brokered, settings, notify, errors)


def warn_of_environment(request: BuildRequest, notify: Notify) -> None:
    """Warn of an environment for which the platform builds nothing (rule 12)."""
    if request.scope is Scope.IC and request.target.environment in NEVER_BUILT:
        notify(
            Notice(
                f"{request.target.environment} is never built on the platform",
                "builds run for dev and multidevs; their code is deployed to test and live",
            )
        )


def load(store: Store, target: Target, notify: Notify, scope: Scope = Scope.IC) -> Loaded:
    """Read what the target's owners hold of that scope, all at one moment, and resolve it (rule 7)."""
    with store.snapshot():  # nothing is printed inside: others may be waiting to write to the store
        identity = store.identify()
        chain = store.read_chain(Owner.site(target.site), environment=target.environment, scope=scope, values=True)
        notices = store.take_notices()
    for text in notices:
        notify(Notice(text))
    for override in inert_overrides(chain):
        place = f"{override.owner}.{override.environment} {override.name}"
        notify(
            Notice(
                f"the override {place} is not used: the secret that it belonged to is gone",
                f"set it again, or `ic-secrets delete {place}`",
            )
        )
    cached = store.cached
    warn_of_cache(cached, time.time(), notify)
    definitions = resolve(target.environment, scope, chain)
    return Loaded(definitions, identity, cached if cached and cached.moment is not None else None)


def select(
    definitions: Sequence[Definition], request: BuildRequest, notify: Notify, errors: Errors = RAISED
) -> tuple[Definition, ...]:
    """Select what is exposed of them, narrowed by --only and --except.

    A build gets `env` and `composer` secrets (rule 8), an application `runtime` ones, as on the platform.
    """
    is_web = request.scope is Scope.WEB
    exposed = [secret for secret in definitions if (secret.type is SecretType.RUNTIME) is is_web]
    names = {secret.name for secret in exposed}
    for name in sorted((request.only or frozenset()) - names):
        with errors:
            raise UnknownSecretError(
                f"{request.target} has no secret {name} that {'an application' if is_web else 'a build'} gets",
                hint=f"`ic-secrets explain {request.target} {name}` shows why",
            )
    for name in sorted(request.excluded - names):
        notify(Notice(f"{request.target} has no secret {name} that could be left out"))
    return tuple(
        secret
        for secret in exposed
        if secret.name not in request.excluded and (request.only is None or secret.name in request.only)
    )


def warn_of_cache(cached: Cached | None, now: float, notify: Notify) -> None:
    """Warn of secrets that come from the cache, or that could not be kept in it."""
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


def check(prepared: PreparedBuild, auth: Document, composer: InstalledComposer, notify: Notify) -> None:
    """Warn of everything about the secrets that a person should know; `auth` is the project's auth.json."""
    request, secrets, project = prepared.request, prepared.secrets, prepared.project
    for notice in (*secrets.warn_of_expiry(request.expiry_warning, time.time()), *secrets.warn_of_values()):
        notify(notice)
    if request.scope is not Scope.IC:
        return
    for notice in (
        *secrets.warn_of_repeats(),
        *secrets.warn_of_rivals(composer, is_brokered=request.broker),
        *(() if request.broker else secrets.warn_of_methods(composer)),
        *(() if request.broker else secrets.warn_of_collisions(project, auth, composer)),
    ):
        notify(notice)


def render(
    prepared: PreparedBuild, composer: InstalledComposer, extensions: Extensions, notify: Notify, errors: Errors
) -> PreparedBuild:
    """Render the secrets: files and variables of the build, and those of `extensions`."""
    request, secrets = prepared.request, prepared.secrets
    inherited = inherit(request.environment, pristine=request.pristine)
    home = RenderedHome({}, {})
    if request.scope is Scope.WEB:
        ours = render_application(secrets, request.target, request.scope)
    else:
        ours = render_environment(secrets, inherited, request.preserve, notify, prepared.placeholders)
        inherited_too = {**inherited, **ours.variables}
        is_brokered = request.broker
        home = render_home(secrets, prepared.home, inherited_too, composer, notify, errors, is_brokered=is_brokered)
        if secrets.credentials and prepared.project.foreign_home and not is_brokered:
            with errors:
                home = spread_credentials(secrets, home, prepared.project.foreign_home, composer, notify)
        ours = ours.add(Rendered(variables=home.variables, paths={"COMPOSER_HOME": COMPOSER}))
    whole = ours
    with errors:
        held = secrets.hold_back(prepared.placeholders) if request.broker else secrets
        context = RenderContext(request.target, prepared.project.directory, held, inherited, request.scope)
        whole = render_others(context, ours, extensions.list_renderers())
    environment = {**inherited, **whole.variables}
    with errors:
        check_size(environment, request.command, os.sysconf("SC_ARG_MAX") - _ADDED)
    return prepared._replace(
        git=_find_git(environment),
        environment=environment,
        home_files=home.files,
        files=whole.files,
        paths=whole.paths,
    )


def find_logins(prepared: PreparedBuild, auth: Document) -> Logins:
    """Find whom git can be: by secrets, and for other hosts by what the user and the project have; `auth` is its."""
    secrets, home, project = prepared.secrets, prepared.home, prepared.project
    config: Document = prepared.home_files.get(CONFIG_FILE, {})
    variable: Document = {}
    with contextlib.suppress(IcSecretsError):  # whatever cannot be read has been refused already
        config = config or read_auth(os.path.join(home.path, CONFIG_FILE))
        variable = parse_document(prepared.environment.get(AUTH_VARIABLE) or "{}", AUTH_VARIABLE)
    section = config.get("config")
    documents = (section if isinstance(section, dict) else {}, prepared.auth, variable, project.config, auth)
    theirs = {
        (each.method, each.host): each
        for document in documents
        for each in list_credentials(document)
        if each.host not in secrets.hosts and re.fullmatch(_HOST, each.host)
    }
    is_brokered = prepared.request.broker
    sources = project.sources
    places = [*sources.repositories, *(each.source for each in (*sources.inline, *(sources.locked or ())))]
    return Logins(
        logins=(*(() if is_brokered else secrets.logins), *git.find_logins(theirs.values())),
        minting=(*(() if is_brokered else secrets.minting_hosts), *git.find_minting_hosts(theirs.values())),
        ours=frozenset(secrets.hosts),
        hosts=frozenset(each.host for each in places if each and each.has_login and re.fullmatch(_HOST, each.host)),
    )


def _find_git(environment: Mapping[str, str]) -> str | None:
    try:
        return os.path.abspath(find_program("git", environment))
    except BuildError:
        return None
