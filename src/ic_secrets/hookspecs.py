"""What a plugin can do: its hooks, version 1, and the types that they use.

    from ic_secrets import hookimpl
    from ic_secrets.hookspecs import BuildPlan
    from ic_secrets.errors import VetoError

    @hookimpl
    def ic_secrets_before_expose(plan: BuildPlan) -> None:
        if plan.target.environment == "live":
            raise VetoError("nothing is built for live")

A plugin implements the hooks that it needs and takes the arguments that it needs. Wrappers are refused: nothing may
stand between a build and its scrub. A plugin runs inside ic-secrets and can do what ic-secrets can; name only those
that you would trust with the master key. A hook runs before anything is exposed or after everything is scrubbed. In a
hook, stdout is stderr, and a signal that would end ic-secrets ends the hook. A plugin that ends the process
(`os._exit`, `os.execv`) fails the command. Everything that a plugin needs comes from `ic_secrets`,
`ic_secrets.errors`, `ic_secrets.testing` and this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pluggy

from .build import BuildSecret, BuildSecrets, RenderContext, Rendered
from .composer import Credential
from .core.records import NamedTuple
from .model import Holdings
from .model.secret import Override, Owner, Scope, Secret, SecretType, SecretValue, Site, Target
from .stores import Identity, Place, Store, StoreOpener, StoreRequest, Write

__all__ = [
    "PROJECT",
    "VERSION",
    "BuildPlan",
    "BuildSecret",
    "BuildSecrets",
    "Command",
    "Credential",
    "Holdings",
    "Identity",
    "Override",
    "Owner",
    "Place",
    "PlannedSecret",
    "RenderContext",
    "Rendered",
    "Scope",
    "Secret",
    "SecretType",
    "SecretValue",
    "Site",
    "Store",
    "StoreOpener",
    "StoreRequest",
    "Target",
    "Write",
    "hookimpl",
    "hookspec",
]

# Goes up when a hook or an argument is removed; an added one changes nothing for existing plugins.
VERSION = 1
PROJECT = "ic_secrets"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class PlannedSecret(NamedTuple):
    """A secret that a build will get. `destination` has the shape that it has in a receipt (receipt.schema.json)."""

    name: str
    type: str
    source: str
    version: int
    destination: Mapping[str, Any]


class BuildPlan(NamedTuple):
    """A build before it starts: what it will get and where, never a value.

    `program` is the last part of the command's path; its arguments are not shown. `files` are paths below the private
    directory, `variables` the names of those that secrets and renderers set.
    """

    target: Target
    project: str
    program: str
    secrets: tuple[PlannedSecret, ...]
    files: tuple[str, ...]
    variables: tuple[str, ...]


class Command(NamedTuple):
    """A command that a plugin adds: `run` takes the words after its name and returns the exit status.

    An IcSecretsError that it raises is shown as `error: …`.
    """

    name: str
    summary: str
    run: Callable[[Sequence[str]], int]


@hookspec
def ic_secrets_register_stores() -> Mapping[str, StoreOpener]:  # type: ignore[empty-body]
    """Return what opens the plugin's stores, by the scheme of their URLs (`{"my-vault": open_vault}`).

    A store derives from `Store` and passes `ic_secrets.testing.StoreContract`. A scheme that is built in, or that
    another plugin has, is refused.
    """


@hookspec
def ic_secrets_register_commands() -> Sequence[Command]:  # type: ignore[empty-body]
    """Return the commands that the plugin adds. One that is built in, or that another plugin has, is refused."""


@hookspec
def ic_secrets_render_secrets(context: RenderContext) -> Rendered | None:
    """Return further files of the private directory and variables of the build, or None.

    Decide, and touch nothing: what is returned is written with mode 0600 when the build is exposed, and is removed with
    it. `secret.value.reveal()` opens a value. Output is masked for the secrets' own values in the usual encodings; what
    is computed from them in another way is not masked.
    """


@hookspec
def ic_secrets_before_expose(plan: BuildPlan) -> None:
    """Look at a build before anything is exposed. `VetoError("why")` keeps it from starting; return nothing."""


@hookspec
def ic_secrets_after_scrub(receipt: Mapping[str, Any]) -> None:
    """Look at the receipt of a build that is over and scrubbed; docs/receipt.schema.json describes it.

    It is a copy. An error raised here is reported, and makes a successful build end with 121.
    """
