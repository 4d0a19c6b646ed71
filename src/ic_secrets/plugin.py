"""ic-secrets as a pluggy plugin of another pipeline, whose builds get their secrets through hooks.

    import pluggy
    from ic_secrets import plugin

    manager = pluggy.PluginManager("my_pipeline")
    plugin.register(manager)

    env = manager.hook.ic_secrets_before_build(target="my-site.dev", project="checkout")
    status = subprocess.run(["composer", "install"], cwd="checkout", env=env).returncode
    receipt = manager.hook.ic_secrets_after_build(status=status)

For a pipeline with a build hook of its own, `wrap` does both around it. If the pipeline ends in between, or is killed,
a watchdog scrubs.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator, Mapping, MutableMapping
from typing import Any

import pluggy

from .api import OpenBuild, open_build
from .errors import BuildError

# Raised when a hook or an argument is removed; additions do not affect existing pipelines.
VERSION = 1
NAME = "ic-secrets"


class Specs:
    """The hooks that a pipeline gets, each called once (`firstresult`). `register` adds them."""

    def ic_secrets_before_build(self, target: str, project: str) -> dict[str, str]:  # type: ignore[empty-body]
        """Expose the secrets of `target` (`SITE[.ENV]`) for a build in the directory `project`; return its environment.

        IcSecretsError, with nothing exposed, if the build cannot be started: a plugin's veto, an unknown site, …
        One build at a time: starting a second one before the first has ended is a BuildError.
        """

    def ic_secrets_after_build(self, status: int) -> dict[str, Any] | None:
        """Scrub, search for leaks, and return the receipt (docs/receipt.schema.json).

        `status` is the build's exit status. Safe to call twice, or without a build: it then returns None. If `status`
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
            raise BuildError("a build is already open", hint="ic_secrets_after_build ends it")
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
    """Add our hooks to the pipeline's manager, whatever project its markers name, and implement them."""
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
    """Wrap the pipeline's own build hook, which is called `hook`.

    `target`, `project` and `environment` are the names of its arguments for `SITE[.ENV]`, the directory, and the
    environment of the build. That is a dict: it is what the build inherits, it holds the secrets while the hook's other
    implementations run, and it is restored afterwards. If the hook returns an exit status (an int, or an object with a
    `returncode`), it goes into the receipt. Exceptions of the hook pass through.
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

    around.__wrapped__ = spec.function  # type: ignore[attr-defined]  # pluggy takes the arguments' names from here
    holder = _Holder()
    setattr(holder, hook, pluggy.HookimplMarker(manager.project_name)(wrapper=True)(around))
    manager.register(holder, f"{NAME} around {hook}")


class _Holder:
    """A plugin with one function."""


def _copy(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a copy of the function to mark, since another manager may have another project's name."""

    @functools.wraps(function)  # pluggy takes the arguments' names from here
    def call(*values: Any) -> Any:
        return function(*values)

    return call


def _find_status(result: object) -> int:
    """Return the exit status in a hook's result; of several results, the first that is not 0."""
    for one in result if isinstance(result, list) else [result]:
        status = getattr(one, "returncode", one)
        if isinstance(status, int) and not isinstance(status, bool) and status:
            return status
    return 0
