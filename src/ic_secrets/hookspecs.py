"""What a plugin can do: its hooks, each called with what it names, version 1.

    from ic_secrets import hookimpl
    from ic_secrets.hookspecs import BuildPlan
    from ic_secrets.errors import VetoError

    @hookimpl
    def ic_secrets_before_expose(plan: BuildPlan) -> None:
        if plan.target.environment == "live":
            raise VetoError("nothing is built for live")

A plugin implements the hooks that it needs and takes the arguments that it needs. Wrappers are refused: nothing
stands between a build and its scrub. A plugin runs inside ic-secrets and can do what that can; name only those that
you would trust with the master key. A hook runs before anything is exposed or after all is scrubbed. In it stdout is
stderr, a signal that is to end ic-secrets ends the hook, and `os._exit` and `os.execv` are errors of the plugin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pluggy

from .build.render import RenderContext, Rendered
from .model.secret import Target
from .stores.registry import StoreOpener

# Goes up when a hook or an argument is taken away; what is added changes nothing for plugins that are there.
VERSION = 1
PROJECT = "ic_secrets"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class PlannedSecret(NamedTuple):
    """A secret that a build will get. `destination` is as in a receipt (docs/receipt.schema.json)."""

    name: str
    type: str
    source: str
    version: int
    destination: Mapping[str, Any]


class BuildPlan(NamedTuple):
    """A build before it starts: what it will get and where, never a value.

    `program` is the last part of the command's path; its arguments are nobody's. `files` are paths below the
    private directory, `variables` the names of those that secrets and renderers set.
    """

    target: Target
    project: str
    program: str
    secrets: tuple[PlannedSecret, ...]
    files: tuple[str, ...]
    variables: tuple[str, ...]


class Command(NamedTuple):
    """A command that a plugin adds: `run` takes the words after its name and gives the exit status.

    An IcSecretsError that it raises is shown as `error: …`.
    """

    name: str
    summary: str
    run: Callable[[Sequence[str]], int]


@hookspec
def ic_secrets_register_stores() -> Mapping[str, StoreOpener]:  # type: ignore[empty-body]
    """The stores that the plugin knows: who opens one, by the scheme of its URL (`{"my-vault": open_vault}`).

    What is opened keeps `ic_secrets.testing.StoreContract`. No built-in scheme, nor another plugin's.
    """


@hookspec
def ic_secrets_register_commands() -> Sequence[Command]:  # type: ignore[empty-body]
    """The commands that the plugin adds. No built-in one, nor another plugin's."""


@hookspec
def ic_secrets_render_secrets(context: RenderContext) -> Rendered | None:
    """Further files of the private directory and variables of the build; None where there is nothing to add.

    Decide and touch nothing: what is returned is written, 0600, when the build is exposed, and goes with it. A
    value is opened by `secret.value.reveal()`. Masked is what the secrets' own values look like in usual encodings,
    so what is computed from them otherwise is not.
    """


@hookspec
def ic_secrets_before_expose(plan: BuildPlan) -> None:
    """See a build before anything is exposed. `VetoError("why")` keeps it from starting; nothing is returned."""


@hookspec
def ic_secrets_after_scrub(receipt: Mapping[str, Any]) -> None:
    """See the receipt of a build that is over and scrubbed, as docs/receipt.schema.json describes it.

    It is a copy. An error in here is told, and makes a successful build end with 121.
    """
