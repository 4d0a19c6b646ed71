"""Load and check the plugins that a person names, and call them when a build or a command needs them.

A plugin is the name of an entry point (group `ic_secrets`) or the path of a file. What is installed but not named
is never imported.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import pluggy

from .. import hookspecs
from ..build import RenderContext, Rendered, Renderer
from ..core.records import NamedTuple
from ..errors import SCRUB_INCOMPLETE, IcSecretsError, PluginError, VetoError
from ..hookspecs import PROJECT, BuildPlan, Command, PlannedSecret
from ..stores import Store
from ..stores.registry import SCHEMES, StoreOpener, StoreRequest
from .discovery import Origin, find_named, load_origin
from .faults import contain_faults, describe_fault
from .store import PluginStore
from .supervisor import supervise

if TYPE_CHECKING:
    from ..build import PreparedBuild

_COMMAND = r"[a-z][a-z0-9-]*"
Contain = Callable[..., AbstractContextManager[None]]
_SCHEME = r"[a-z][a-z0-9]*([+-][a-z0-9]+)*"


class Plugin(NamedTuple):
    """A loaded plugin: what it implements, and the schemes and commands that it adds."""

    origin: Origin
    hooks: tuple[str, ...]
    schemes: tuple[str, ...]
    commands: tuple[str, ...]


class Plugins:
    """The active plugins of one process: the `Extensions` of its builds, its further stores and commands."""

    def __init__(self, reserved: Sequence[str] = (), *, owns_process: bool = True) -> None:
        """Begin with none. `reserved` are the names of our own commands; for `owns_process` see `contain_faults`."""
        self._contain = functools.partial(contain_faults, owns_process=owns_process)
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._reserved = frozenset({*reserved, "help"})
        self._openers: dict[str, StoreOpener] = {}
        self.active: list[Plugin] = []
        self.commands: dict[str, Command] = {}

    def add(self, origin: Origin) -> Plugin:
        """Load a plugin; PluginError where it is broken, or claims what another has, and then it stays out."""
        if any(plugin.origin.name == origin.name for plugin in self.active):
            raise PluginError(
                f"two plugins are called {origin.name}", hint="name each once, and give files names of their own"
            )
        with self._contain(str(origin), "to load", PluginError):
            plugin = load_origin(origin)
        self._register(origin, plugin)
        try:
            openers = self._find_openers(origin)
            commands = self._find_commands(origin)
        except BaseException:
            self._manager.unregister(plugin)
            raise
        for name, opener in openers.items():
            self._openers[name] = _contain_opener(str(origin), opener, self._contain)
        self.commands |= {name: _contain_command(str(origin), command) for name, command in commands.items()}
        hooks = sorted(caller.name for caller in self._manager.get_hookcallers(plugin) or ())
        loaded = Plugin(origin, tuple(hooks), tuple(sorted(openers)), tuple(sorted(commands)))
        self.active.append(loaded)
        return loaded

    def find_opener(self, scheme: str) -> StoreOpener | None:
        """Return what opens stores with URLs of that scheme."""
        return self._openers.get(scheme)

    # --- what a build asks (`build.prepare.Extensions`) ---

    def list_renderers(self) -> Sequence[tuple[str, Renderer]]:
        """Return the plugins that render, each with its name."""
        return [
            (f"the plugin {name}", _make_renderer(name, call, self._contain))
            for name, call in self._list_calls("ic_secrets_render_secrets")
        ]

    def check_build(self, prepared: PreparedBuild) -> None:
        """Show the plan to every plugin; the first VetoError stops the build, its message masked."""
        calls = self._list_calls("ic_secrets_before_expose")
        for name, call in calls:
            try:
                with self._contain(name, "in ic_secrets_before_expose", VetoError):
                    answer = call(plan=make_plan(prepared))
            except VetoError as veto:
                text, hint = (prepared.secrets.hide_values(each) for each in (str(veto), veto.hint))
                raise VetoError(f"the plugin {name} does not allow this build: {text}", hint=hint) from None
            if answer is not None:
                raise PluginError(f"the plugin {name} returned something from ic_secrets_before_expose")

    def show_receipt(self, receipt: Mapping[str, Any]) -> None:
        """Show a copy of the receipt to every plugin; then raise a PluginError for those that failed, if any."""
        failures: list[PluginError] = []
        for name, call in self._list_calls("ic_secrets_after_scrub"):
            try:
                status = int(receipt.get("status") or 0) or SCRUB_INCOMPLETE
                with self._contain(name, "in ic_secrets_after_scrub", status=status):
                    call(receipt=json.loads(json.dumps(receipt)))
            except PluginError as error:
                failures.append(error)
        if failures:
            raise PluginError("; ".join(map(str, failures)), hint=failures[0].hint)

    # --- registration ---

    def _register(self, origin: Origin, plugin: object) -> None:
        with self._contain(str(origin), "to load", PluginError):
            _check_marks(origin, plugin)
            try:
                self._manager.register(plugin, origin.name)
            except (pluggy.PluginValidationError, ValueError) as error:
                reason = str(error).splitlines()[-1] if isinstance(error, pluggy.PluginValidationError) else "twice"
                self._forget(plugin)
                raise PluginError(f"the plugin {origin} cannot be registered: {reason}") from None
            try:
                self._check(origin, plugin)
                self._manager.check_pending()
            except BaseException:
                self._forget(plugin)
                raise

    def _forget(self, plugin: object) -> None:
        if self._manager.is_registered(plugin):
            self._manager.unregister(plugin)

    def _check(self, origin: Origin, plugin: object) -> None:
        """Check that every hook exists and that none is a wrapper."""
        callers = self._manager.get_hookcallers(plugin) or []
        if not callers:
            raise PluginError(f"the plugin {origin} implements no hook", hint="mark them with @ic_secrets.hookimpl")
        known = sorted(name for name in vars(hookspecs) if name.startswith("ic_secrets_"))
        for caller in callers:
            for implementation in caller.get_hookimpls():
                if implementation.plugin is plugin:
                    _check_parameters(origin, caller.name, implementation.function)
            if caller.name not in known:
                from difflib import get_close_matches

                close = get_close_matches(caller.name, known, n=1)
                hint = f"did it mean {close[0]}?" if close else f"the hooks are {', '.join(known)}"
                raise PluginError(f"the plugin {origin} implements {caller.name}, which is not a hook", hint=hint)
            for implementation in caller.get_hookimpls():
                if implementation.plugin is plugin and (implementation.wrapper or implementation.hookwrapper):
                    raise PluginError(
                        f"the plugin {origin} wraps {caller.name}",
                        hint="a hook may look at a build, but not stand between it and its scrub",
                    )

    def _find_openers(self, origin: Origin) -> dict[str, StoreOpener]:
        found = self._ask(origin, "ic_secrets_register_stores", Mapping)
        for scheme, opener in found.items():
            if not isinstance(scheme, str) or not re.fullmatch(_SCHEME, scheme) or not callable(opener):
                raise PluginError(f"the plugin {origin} registers {scheme!a}, which is not a valid URL scheme")
            if scheme in SCHEMES:
                raise PluginError(f"the plugin {origin} registers {scheme}:, a kind of store that is built in")
            self._check_free(origin, scheme, f"{scheme}:", lambda plugin: plugin.schemes)
        return dict(found)

    def _find_commands(self, origin: Origin) -> dict[str, Command]:
        found: dict[str, Command] = {}
        for command in self._ask(origin, "ic_secrets_register_commands", Sequence):
            fits = isinstance(command, Command) and isinstance(command.name, str) and callable(command.run)
            if not fits or not re.fullmatch(_COMMAND, command.name) or not isinstance(command.summary, str):
                raise PluginError(f"the plugin {origin} registers something that is not a hookspecs.Command")
            if command.name in self._reserved:
                raise PluginError(f"the plugin {origin} registers the command {command.name}, which is built in")
            if command.name in found:
                raise PluginError(f"the plugin {origin} registers the command {command.name} twice")
            self._check_free(origin, command.name, command.name, lambda plugin: plugin.commands)
            found[command.name] = command
        return found

    def _check_free(self, origin: Origin, name: str, shown: str, taken: Callable[[Plugin], Sequence[str]]) -> None:
        for plugin in self.active:
            if name in taken(plugin):
                raise PluginError(f"the plugins {plugin.origin} and {origin} both register {shown}")

    def _ask(self, origin: Origin, hook: str, kind: type) -> Any:
        """Return what the plugin's own hook returns, an empty one of its `kind` where it has no such hook."""
        calls = [call for name, call in self._list_calls(hook) if name == origin.name]
        if not calls:
            return {} if kind is Mapping else []
        with self._contain(str(origin), f"in {hook}"):
            answer = calls[0]()
        if not isinstance(answer, kind) or isinstance(answer, str):
            raise PluginError(f"the plugin {origin} does not return a {kind.__name__.lower()} from {hook}")
        return answer

    def _list_calls(self, hook: str) -> list[tuple[str, Callable[..., Any]]]:
        """Return who implements the hook, in pluggy's order; each is called alone, so that its fault is its own."""
        implementations = reversed(getattr(self._manager.hook, hook).get_hookimpls())
        return [(each.plugin_name, functools.partial(_call, each.function, each.argnames)) for each in implementations]


def _call(function: Callable[..., Any], names: Sequence[str], **arguments: object) -> Any:
    return function(*(arguments[name] for name in names))


def _check_marks(origin: Origin, plugin: object) -> None:
    if isinstance(plugin, type):
        raise PluginError(f"the plugin {origin} is a class", hint="its entry point must name a module or an object")
    for name in dir(plugin):
        value = getattr(plugin, name, None) if name.startswith("ic_secrets_") else None
        if callable(value) and not isinstance(value, type) and not hasattr(value, f"{PROJECT}_impl"):
            raise PluginError(f"in the plugin {origin}, {name} lacks @ic_secrets.hookimpl")


def _check_parameters(origin: Origin, hook: str, function: Callable[..., Any]) -> None:
    """Refuse parameters that are not plainly named: a hook with a default or `**` would be called without them."""
    import inspect

    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise PluginError(f"in the plugin {origin}, {hook} is async, which no hook may be")
    for parameter in inspect.signature(function).parameters.values():
        is_plain = parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is parameter.empty
        if not is_plain:
            raise PluginError(
                f"in the plugin {origin}, {hook} has the parameter {parameter.name}, which is not a plain one",
                hint="name it as the hook does, without a default and without a star",
            )


def make_plan(prepared: PreparedBuild) -> BuildPlan:
    """Return what plugins see of a build."""
    from types import MappingProxyType

    from ..build.receipt import describe_secret

    secrets = []
    for secret in prepared.secrets:
        described = describe_secret(secret, prepared)
        destination = MappingProxyType(described.pop("destination"))
        secrets.append(PlannedSecret(**described, destination=destination))
    return BuildPlan(
        target=prepared.request.target,
        project=prepared.project.directory,
        program=os.path.basename(prepared.program),
        secrets=tuple(secrets),
        files=prepared.file_names,
        variables=prepared.added_variables,
    )


def _make_renderer(name: str, call: Callable[..., Any], contain: Contain) -> Renderer:
    def render(context: RenderContext) -> Rendered:
        from types import MappingProxyType

        with contain(name, "in ic_secrets_render_secrets"):
            rendered = call(context=context._replace(environment=MappingProxyType(dict(context.environment))))
        if rendered is None:
            return Rendered()
        if not isinstance(rendered, Rendered) or not _is_sound(rendered):
            raise PluginError(f"the plugin {name} does not return a valid Rendered from ic_secrets_render_secrets")
        return Rendered(dict(rendered.files), dict(rendered.variables), dict(rendered.paths))

    return render


def _is_sound(rendered: Rendered) -> bool:
    kinds = (bytes, str, str)
    return all(
        isinstance(part, Mapping) and all(isinstance(key, str) and isinstance(part[key], kind) for key in part)
        for part, kind in zip(rendered, kinds, strict=True)
    )


def _contain_opener(name: str, opener: StoreOpener, contain: Contain) -> StoreOpener:
    def open_it(request: StoreRequest) -> Store:
        with contain(name, "to open its store", IcSecretsError):
            store = opener(request)
        if not isinstance(store, Store):
            raise PluginError(
                f"the plugin {name} opened something that is not a store",
                hint="its class must derive from ic_secrets.hookspecs.Store",
            )
        try:
            return PluginStore(store, name, contain)
        except PluginError:  # its attributes cannot be read
            with contain(name, "as a store, in close", IcSecretsError):
                store.close()
            raise

    return open_it


def _contain_command(name: str, command: Command) -> Command:
    """Return the same command; what it prints is its own, what it raises names it, and `sys.exit` gives its status."""

    def run(words: Sequence[str]) -> int:
        try:
            status = command.run(words)
        except (IcSecretsError, KeyboardInterrupt, BrokenPipeError):
            raise
        except SystemExit as ended:
            status = 0 if ended.code is None else ended.code  # type: ignore[assignment]
        except BaseException as error:
            fault = describe_fault(error)
            raise PluginError(f"the plugin {name} failed in its command {command.name}: {fault}") from None
        if not isinstance(status, int) or not 0 <= status < 256:
            raise PluginError(f"the plugin {name} does not return an exit status from its command {command.name}")
        return int(status)

    return command._replace(run=run)


# --- finding ---


@functools.cache
def load(value: str, source: str, reserved: tuple[str, ...] = (), *, owns_process: bool = True) -> Plugins:
    """Load the plugins that the setting names, once; PluginError for the first that is broken.

    `source` is where the setting comes from: a variable's name, or `FILE:LINE`. `reserved` are our own commands. In a
    process of our own (`owns_process`) the command goes on in a child; see `supervisor.supervise`.
    """
    if owns_process:
        supervise()
    plugins = Plugins(reserved, owns_process=owns_process)
    for origin in find_named(value, source):
        plugins.add(origin)
    return plugins
