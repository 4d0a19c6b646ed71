"""One build, from the store to the last trace: load, select, resolve, render, expose, run, scrub.

`run_build` is the story; each step is a function that other ways to build use as well. The store
comes in opened: nothing here knows which one it is, nor a command line.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from . import composer
from .environment import Preserve, add_secrets, check_size, inherit
from .errors import (
    BuildError,
    MalformedAuthError,
    ScrubIncompleteError,
    UnknownSecretError,
)
from .exposure import PrivateDirectory, choose_parent, sweep
from .overlay import AUTH_FILE, CONFIG_FILE, ComposerHome, Overlay
from .process import Child, SignalCatcher, find_program
from .resolve import Definition, inert_overrides, resolve
from .secret import Owner, Scope, SecretType, SecretValue, Target
from .stores import Store, read_chain
from .streams import Filter, open_channels

# Environments that no build runs for on the platform (rule 12).
_NEVER_BUILT = frozenset({"test", "live"})
# What the private directory's paths add to the environment, at the most, in bytes.
_ADDED = 16_384


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that the person should know; the build goes on."""

    text: str
    hint: str = ""


Notify = Callable[[Notice], None]


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What is to be built, and how. `grace` is in seconds."""

    target: Target
    command: tuple[str, ...]
    directory: str
    environment: Mapping[str, str]
    only: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()
    preserve: Preserve = field(default_factory=Preserve)
    pristine: bool = False
    mask: bool = True
    run_dir: str | None = None
    grace: float = 10.0
    allow_background: bool = False


@dataclass(frozen=True, slots=True)
class Preparation:
    """All that a build needs, decided and checked, while nothing is exposed yet."""

    request: BuildRequest
    program: str
    secrets: tuple[Definition, ...]
    credentials: tuple[composer.Credential, ...]
    environment: Mapping[str, str]
    home: ComposerHome
    files: Mapping[str, bytes] = field(repr=False)  # of the private Composer home


def run_build(store: Store, request: BuildRequest, notify: Notify) -> int:
    """Build with the target's secrets; the exit status that the contract of `run` gives.

    Raises IcSecretsError when the build could not be started; then nothing was exposed, or what was
    is gone again.
    """
    with SignalCatcher() as signals:
        preparation = prepare(store, request, notify)
        store.close()
        sweep(request.environment, request.run_dir)
        with expose(preparation, notify) as exposure:
            if signals.ending:
                return signals.status
            child = Child(
                request.command,
                preparation.program,
                exposure.environment,
                signals,
                open_channels() if request.mask else (),
            )
            exposure.directory.watchdog.watch(child.pid)
            outcome = child.run(
                lambda: make_masker(preparation.secrets),
                grace=request.grace,
                allow_background=request.allow_background,
                on_end=exposure.finish,
            )
        if outcome.ended:
            notify(Notice(f"{outcome.ended} processes that the build had left running were ended"))
        status = signals.status or outcome.status
        if exposure.failure:
            if status == 0:
                raise exposure.failure
            notify(Notice(str(exposure.failure), exposure.failure.hint))
        return status


def prepare(store: Store, request: BuildRequest, notify: Notify) -> Preparation:
    """Load, select, resolve and render, and refuse what cannot become a build."""
    if request.target.environment in _NEVER_BUILT:
        notify(
            Notice(
                f"{request.target.environment} is never built on the platform",
                "builds run for dev and multidevs; their code is deployed to test and live",
            )
        )
    program = find_program(request.command[0], request.environment)
    secrets = select(load(store, request.target, notify), request, notify)
    credentials = tuple(
        composer.parse_credential(secret.name, given_value(secret))
        for secret in secrets
        if secret.type is SecretType.COMPOSER
    )
    for host, used, unused in composer.find_rivals(credentials):
        notify(Notice(f"{used} and {unused} are for one host, {host}: Composer uses {used} alone"))
    variables = [(secret.name, given_value(secret)) for secret in secrets if secret.type is SecretType.ENV]
    environment = inherit(request.environment, pristine=request.pristine)
    environment, kept = add_secrets(environment, variables, request.preserve)
    for name in kept:
        notify(Notice(f"{name} was set already and is preserved; the secret of that name is not used"))
    home = ComposerHome.find(environment)
    files = render_home(home, credentials, environment, notify)
    warn_of_collisions(request, credentials, notify)
    check_size(environment, request.command, os.sysconf("SC_ARG_MAX") - _ADDED)
    return Preparation(request, program, secrets, credentials, environment, home, files)


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
    for name in sorted(request.only - names):
        raise UnknownSecretError(
            f"{request.target} has no secret {name} that a build gets",
            hint=f"`ic-secrets explain {request.target} {name}` shows why",
        )
    for name in sorted(request.excluded - names):
        notify(Notice(f"{request.target} has no secret {name} that could be left out"))
    return tuple(
        secret
        for secret in exposed
        if secret.name not in request.excluded and (not request.only or secret.name in request.only)
    )


def given_value(secret: Definition) -> SecretValue:
    """The value; BuildError where the store does not give it."""
    if secret.value is None:
        raise BuildError(f"the store does not give the value of {secret.name} ({secret.source})")
    return secret.value


def render_home(
    home: ComposerHome,
    credentials: Sequence[composer.Credential],
    environment: dict[str, str],
    notify: Notify,
) -> dict[str, bytes]:
    """The files of the private Composer home; takes from `environment`'s COMPOSER_AUTH what secrets set.

    MalformedAuthError names the user's file that Composer would stumble over.
    """
    hosts = {credential.host for credential in credentials}
    auth = _read_document(home, AUTH_FILE)
    merged = composer.merge_auth(auth, credentials)
    inherited = environment.get("COMPOSER_AUTH")
    if inherited:
        document = composer.parse_document(inherited, "COMPOSER_AUTH")
        composer.check_sections(document, "COMPOSER_AUTH")
        document, dropped = composer.drop_hosts(document, hosts)
        composer.move_headers(document, merged, hosts)
        for host in dropped:
            notify(Notice(f"COMPOSER_AUTH also had a credential for {host}; the secret is used instead"))
        environment["COMPOSER_AUTH"] = json.dumps(document)
    files = {AUTH_FILE: json.dumps(merged, indent=4).encode()}
    config = _read_document(home, CONFIG_FILE)
    section = config.get("config")
    if isinstance(section, dict):
        config["config"], dropped = composer.drop_hosts(section, hosts)
        if dropped:
            files[CONFIG_FILE] = json.dumps(config, indent=4).encode()
            place = os.path.join(home.path, CONFIG_FILE)
            notify(
                Notice(
                    f"{place} also has a credential for {', '.join(dropped)}; the secret is used instead",
                    "the build sees a copy of that file, and what it writes there is not kept",
                )
            )
    return files


def warn_of_collisions(request: BuildRequest, credentials: Sequence[composer.Credential], notify: Notify) -> None:
    """Name the project's own credentials that Composer prefers to the secrets'; its files stay as they are."""
    project = composer.find_project(request.command, request.directory, os.path.join)
    manifest = os.path.join(project, request.environment.get("COMPOSER") or "composer.json")
    auth = os.path.join(os.path.dirname(os.path.realpath(manifest)), AUTH_FILE)
    found: list[composer.Collision] = []
    text = _read_text(auth)
    if text is not None:
        document = composer.parse_document(text, auth)
        composer.check_sections(document, auth)
        found += composer.find_collisions(document, auth, credentials)
    # A malformed composer.json is Composer's to explain: its own message says where.
    with contextlib.suppress(MalformedAuthError):
        section = composer.parse_document(_read_text(manifest) or "{}", manifest).get("config")
        if isinstance(section, dict):
            found += composer.find_collisions(section, manifest, credentials)
    for collision in found:
        notify(
            Notice(
                f"{collision.file} has its own {collision.method} for {collision.host}, which Composer prefers "
                "to the secret",
                "remove it there, if the secret is to be used",
            )
        )


class Exposure:
    """What a build can see as long as it runs: the private directory, and the environment that names it."""

    def __init__(self, preparation: Preparation, notify: Notify) -> None:
        request = preparation.request
        parent = choose_parent(request.environment, request.directory, request.run_dir)
        self.failure: ScrubIncompleteError | None = None
        self._notify = notify
        self.directory = PrivateDirectory.make(parent)
        try:
            if not self.directory.in_memory:
                notify(
                    Notice(
                        f"{parent} is no tmpfs: for the time of the build the secrets are on a disk",
                        "name a directory on a tmpfs with --run-dir",
                    )
                )
            self._overlay = Overlay(self.directory.subdirectory("composer"), preparation.home, preparation.files)
            self._overlay.make(self.directory.write)
        except BaseException:
            self.directory.scrub()
            raise
        self.environment = {**preparation.environment, "COMPOSER_HOME": self._overlay.path}

    def finish(self) -> None:
        """Remove the secrets, carry back what the build added to the Composer home, remove the rest.

        Safe to call twice. A failure is kept in `failure` rather than raised: the output of the build
        is still on its way.
        """
        if self.directory.is_scrubbed:
            return
        self.directory.remove_secrets()
        for name in self._overlay.carry_back():
            self._notify(
                Notice(f"{name}, which the build made in the Composer home, could not be carried back and is gone")
            )
        try:
            self.directory.scrub()
        except ScrubIncompleteError as error:
            self.failure = error


@contextlib.contextmanager
def expose(preparation: Preparation, notify: Notify) -> Iterator[Exposure]:
    """Make the private directory; inside, the build can run; afterwards nothing of it is left."""
    exposure = Exposure(preparation, notify)
    try:
        yield exposure
    finally:
        exposure.finish()


def make_masker(secrets: Sequence[Definition]) -> Filter:
    """A masker of the values that the build can see."""
    from .mask import Masker
    from .needles import derive

    return Masker([n for secret in secrets for n in derive(secret.name, secret.type, given_value(secret))])


def _read_document(home: ComposerHome, name: str) -> composer.Document:
    text = _read_text(os.path.join(home.path, name))
    if text is None:
        return {}
    origin = os.path.join(home.path, name)
    document = composer.parse_document(text, origin)
    composer.check_sections(document, origin)
    return document


def _read_text(path: str) -> str | None:
    """The text of the file, None where there is none; BuildError when it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        raise MalformedAuthError(f"{path} is not UTF-8") from None
    except OSError as error:
        raise BuildError(f"{path} cannot be read: {error.strerror}") from None
