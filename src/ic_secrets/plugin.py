"""ic-secrets as a pluggy plugin of another pipeline: its builds get their secrets by hooks.

    import pluggy
    from ic_secrets import plugin

    manager = pluggy.PluginManager("my_pipeline")
    plugin.register(manager)

    env = manager.hook.ic_secrets_before_build(target="my-site.dev", project="checkout")
    status = subprocess.run(["composer", "install"], cwd="checkout", env=env).returncode
    receipt = manager.hook.ic_secrets_after_build(status=status)

Where the pipeline has a build hook of its own, `wrap` does both around it. Should the pipeline end in between, or be
killed, a watchdog scrubs.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator, Mapping, MutableMapping
from typing import Any

import pluggy

from .api import OpenBuild, open_build
from .errors import BuildError

# Goes up when a hook or an argument is taken away; what is added changes nothing for pipelines that are there.
VERSION = 1
NAME = "ic-secrets"


class Specs:
    """The hooks that a pipeline gets, each answered once (`firstresult`). `register` adds them."""

    def ic_secrets_before_build(self, target: str, project: str) -> dict[str, str]:  # type: ignore[empty-body]
        """Expose the secrets of `target` (`SITE[.ENV]`) for a build in the directory `project`; its environment, whole.

        IcSecretsError, and nothing is exposed, where the build cannot be started: a plugin's veto, an unknown site, …
        One build at a time: a second one before the first has ended is a BuildError.
        """

    def ic_secrets_after_build(self, status: int) -> dict[str, Any] | None:
        """Scrub, look for what the build left, and give the receipt (docs/receipt.schema.json).

        `status` is the build's exit status. Safe to call twice, or with no build before it: then None. Where `status`
        is 0, a leak is a LeakFoundError and an incomplete scrub a ScrubIncompleteError.
        """


class Plugin:
    """What a pipeline registers; `options` are those of `ic_secrets.open_build`."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = dict(options)
        self._stack: contextlib.ExitStack | None = None
        self._build: OpenBuild | None = None

    def ic_secrets_before_build(self, target: str, project: str) -> dict[str, str]:
        """See `Specs`."""
        if self._stack is not None:
            raise BuildError("a build is open already", hint="ic_secrets_after_build ends it")
        stack = contextlib.ExitStack()
        build = stack.enter_context(open_build(target, project=project, **self._options))
        self._stack, self._build = stack, build
        return build.env

    def ic_secrets_after_build(self, status: int) -> dict[str, Any] | None:
        """See `Specs`."""
        stack, build = self._stack, self._build
        if stack is None or build is None:
            return None
        self._stack = self._build = None
        with stack:
            build.status = status
        return build.receipt


def register(manager: pluggy.PluginManager, **options: Any) -> Plugin:
    """Add our hooks to the pipeline's manager, whatever project its markers name, and answer them."""
    plugin = Plugin(options)
    specify = pluggy.HookspecMarker(manager.project_name)
    implement = pluggy.HookimplMarker(manager.project_name)
    specs = type("Specs", (), {"__doc__": Specs.__doc__})
    for name in ("ic_secrets_before_build", "ic_secrets_after_build"):
        setattr(specs, name, specify(firstresult=True)(_copy(getattr(Specs, name))))
        setattr(plugin, name, implement(_copy(getattr(plugin, name))))
    manager.add_hookspecs(specs)
    manager.register(plugin, NAME)
    return plugin


def wrap(
    manager: pluggy.PluginManager,
    hook: str,
    *,
    target: str = "target",
    project: str = "project",
    environment: str = "environment",
    **options: Any,
) -> None:
    """Stand around the pipeline's own build hook, the one that is called `hook`.

    `target`, `project` and `environment` are the names of its arguments that hold `SITE[.ENV]`, the directory, and
    the environment of the build: a dict, which is what the build inherits, holds the secrets while the hook's other
    implementations run, and is as it was afterwards. Where the hook gives an exit status (an int, or an object with
    a `returncode`), the receipt has it. What the hook raises goes through.
    """
    spec = getattr(manager.hook, hook).spec
    missing = {target, project, environment} - set(spec.argnames)
    if missing:
        raise TypeError(f"{hook} has no argument {', '.join(sorted(missing))}")

    def around(*values: Any) -> Generator[None, Any, Any]:
        given = dict(zip(spec.argnames, values, strict=True))
        variables: MutableMapping[str, str] = given[environment]
        before = dict(variables)
        with open_build(str(given[target]), project=given[project], environment=before, **options) as build:
            variables.clear()
            variables.update(build.env)
            try:
                result = yield
            finally:
                variables.clear()
                variables.update(before)
            build.status = _find_status(result)
        return result

    around.__wrapped__ = spec.function  # type: ignore[attr-defined]  # whence pluggy takes the arguments' names
    holder = _Holder()
    setattr(holder, hook, pluggy.HookimplMarker(manager.project_name)(wrapper=True)(around))
    manager.register(holder, f"{NAME} around {hook}")


class _Holder:
    """A plugin of one function."""


def _copy(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function anew, to be marked: another manager may have another project's name."""

    @functools.wraps(function)  # whence pluggy takes the arguments' names
    def call(*values: Any) -> Any:
        return function(*values)

    return call


def _find_status(result: object) -> int:
    """The exit status that a hook's result says; of several results, the first that is none of success."""
    for one in result if isinstance(result, list) else [result]:
        status = getattr(one, "returncode", one)
        if isinstance(status, int) and not isinstance(status, bool) and status:
            return status
    return 0
