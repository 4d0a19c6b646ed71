"""Keeps a plugin's faults its own: what it raises is charged to it by name, what it prints goes to stderr."""

from __future__ import annotations

import contextlib
import os
import posix
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from ..errors import NOT_STARTED, IcSecretsError, PluginError, PluginInterruptedError
from ..model.resolve import Holdings
from ..model.secret import Override, Owner, Scope, Secret, Site
from ..process.child import SignalCatcher
from ..stores.base import Identity, Place, Store, Write

# The streams are the whole process's: two builds in two threads must not put each other's back.
_lock = threading.RLock()


@contextlib.contextmanager
def contained(plugin: str, doing: str, *allowed: type[BaseException], owns_stdout: bool = True) -> Iterator[None]:
    """Whatever the block raises, but for what is `allowed`, is a PluginError: `the plugin PLUGIN failed DOING: …`.

    The error's message may hold anything, so only its class and place are told. Stdout belongs to the command; within
    the block it is stderr, for child processes too. In another's program (not `owns_stdout`) it stays what it is, since
    other threads may be writing to it.

    A signal that was to end us ends the block, even while signals are caught: PluginInterruptedError. What would
    end the process without a word (`os._exit`, `os.execv`) is a fault, and a process that the plugin forked
    ends with the block.
    """
    owner = os.getpid()
    stop = _Stop()
    redirect = _stdout_as_stderr if owns_stdout else contextlib.nullcontext
    try:
        try:
            with _lock, redirect(), _no_exits(stop), _interruptible(stop):
                yield
        finally:
            if os.getpid() != owner:
                _EXITS["_exit"](NOT_STARTED)  # a second one of us must not go on with the build
        if stop.reason:  # the plugin caught what was raised in it
            raise stop.reason
    except BaseException as error:
        if stop.number:
            name = signal.Signals(stop.number).name
            raise PluginInterruptedError(f"{name} came while the plugin {plugin} ran", stop.number) from None
        if isinstance(error, allowed) and not stop.reason:
            raise
        # Ctrl-C is a person's, unless signals are caught: then nothing but the plugin raises this.
        if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            raise
        fault = describe_fault(error, is_loading=doing == "to load")
        text = f"the plugin {plugin} failed {doing}: {fault}"
        raise PluginError(text) from None


def describe_fault(error: BaseException, *, is_loading: bool = False) -> str:
    """The error's class and place, nothing of its message: `ValueError at plugin.py:12`.

    With IC_SECRETS_DEBUG=1 the way to it is shown on stderr.
    """
    import traceback

    kind = _name_kind(type(error))
    if is_loading and isinstance(error, ModuleNotFoundError) and error.name:  # no value is known yet
        kind += f" (no module {error.name})"
    # Code that was compiled from a text can call its file and its functions by a value: only real files are told.
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if os.path.isfile(frame.filename) and frame.lineno
    ]
    if os.environ.get("IC_SECRETS_DEBUG") == "1":
        for frame in frames:
            print(f"  {frame.filename}:{frame.lineno}", file=sys.stderr)
    if isinstance(error, SyntaxError) and error.filename and os.path.isfile(error.filename):
        return f"{kind} at {os.path.basename(error.filename)}:{error.lineno}"
    frames = [frame for frame in frames if frame.filename != __file__] or frames
    place = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    return f"{kind}{place}"


def _name_kind(kind: type) -> str:
    """The name of the first class that Python or we made: a plugin can call its own by a value."""
    for each in kind.__mro__:
        module = sys.modules.get(each.__module__)
        is_known = each.__module__.partition(".")[0] in {"ic_secrets", *sys.stdlib_module_names}
        if is_known and vars(module).get(each.__name__) is each:
            return str(each.__name__)
    return "an error"


class _StopError(BaseException):
    """Ends a plugin's code. Not an Exception, so that it seldom catches it."""


class _Stop:
    """Why the code of a plugin was ended, if it was."""

    def __init__(self) -> None:
        self.number = 0
        self.reason: BaseException | None = None


# As they were before any plugin was loaded.
_EXITS: dict[str, Callable[..., Any]] = {name: getattr(posix, name) for name in ("_exit", "execv", "execve")}


@contextlib.contextmanager
def _no_exits(stop: _Stop) -> Iterator[None]:
    """What would end this process without its scrub and its status raises instead; a forked child may use it."""
    owner, thread = os.getpid(), threading.get_ident()
    before = {name: getattr(os, name) for name in _EXITS}
    is_active = True

    def guard(name: str) -> Callable[..., Any]:
        def end(*arguments: Any, **keywords: Any) -> Any:
            if is_active and os.getpid() == owner and threading.get_ident() == thread:
                stop.reason = SystemExit()
                raise stop.reason
            return _EXITS[name](*arguments, **keywords)

        return end

    try:
        for name in _EXITS:
            function = guard(name)
            setattr(os, name, function)
            setattr(posix, name, function)
        yield
    finally:
        is_active = False
        for name, function in before.items():
            setattr(os, name, function)
            setattr(posix, name, function)


@contextlib.contextmanager
def _interruptible(stop: _Stop) -> Iterator[None]:
    """While signals are caught, one that was to end us is noted as ever, and raised in the plugin's code."""
    caught: dict[int, Any] = {}
    is_active = True
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            handler = signal.getsignal(number)
            if isinstance(getattr(handler, "__self__", None), SignalCatcher):
                caught[number] = handler

    def interrupt(number: int, frame: FrameType | None) -> None:
        stop.number = stop.number or number
        caught[number](number, frame)
        if is_active:
            stop.reason = _StopError()
            raise stop.reason

    try:
        for each in caught:
            signal.signal(each, interrupt)
        yield
    finally:
        is_active = False
        for each, handler in caught.items():
            signal.signal(each, handler)


@contextlib.contextmanager
def _stdout_as_stderr() -> Iterator[None]:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    saved = os.dup(1)
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.__stdout__.flush()  # type: ignore[union-attr]
        os.dup2(saved, 1)
        os.close(saved)


class ContainedStore(Store):
    """A plugin's store: its own errors are ours, every other fault is charged to the plugin."""

    def __init__(
        self, store: Store, plugin: str, contain: Callable[..., contextlib.AbstractContextManager[None]] = contained
    ) -> None:
        self._store = store
        self._plugin = plugin
        self._contain = contain
        with self._contained("its attributes"):
            self.url, self.only_site = store.url, store.only_site
            self.has_organizations, self.master_id = store.has_organizations, store.master_id

    def _contained(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return self._contain(self._plugin, f"as a store, in {doing}", IcSecretsError)

    def site(self, name: str) -> Site:
        with self._contained("site"):
            return self._store.site(name)

    def sites(self) -> Iterator[Site]:
        with self._contained("sites"):
            return iter(list(self._store.sites()))

    def owners(self) -> Iterator[Owner]:
        with self._contained("owners"):
            return iter(list(self._store.owners()))

    def set_site(self, site: Site) -> None:
        with self._contained("set_site"):
            self._store.set_site(site)

    def delete_site(self, name: str) -> int:
        with self._contained("delete_site"):
            return self._store.delete_site(name)

    def read(
        self, owner: Owner, *, environment: str | None = None, scope: Scope | None = None, values: bool = True
    ) -> Holdings:
        with self._contained("read"):
            return self._store.read(owner, environment=environment, scope=scope, values=values)

    def read_chain(
        self, owner: Owner, *, environment: str | None = None, scope: Scope | None = None, values: bool = False
    ) -> tuple[Holdings, ...]:
        with self._contained("read_chain"):
            chain = self._store.read_chain(owner, environment=environment, scope=scope, values=values)
            self.cached = self._store.cached
            return chain

    def put(self, place: Place, write: Write) -> bool:
        with self._contained("put"):
            return self._store.put(place, write)

    def delete(self, place: Place) -> int:
        with self._contained("delete"):
            return self._store.delete(place)

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        return self._enter("transaction", self._store.transaction)

    def snapshot(self) -> contextlib.AbstractContextManager[None]:
        return self._enter("snapshot", self._store.snapshot)

    def close(self) -> None:
        with self._contained("close"):
            self._store.close()

    def identify(self) -> Identity | None:
        with self._contained("identify"):
            return self._store.identify()

    def check_supported(self, item: Secret | Override) -> None:
        with self._contained("check_supported"):
            self._store.check_supported(item)

    def take_notices(self) -> tuple[str, ...]:
        with self._contained("take_notices"):
            return self._store.take_notices()

    @contextlib.contextmanager
    def _enter(self, name: str, make: Callable[[], contextlib.AbstractContextManager[None]]) -> Iterator[None]:
        with self._contained(name):
            context = make()
            context.__enter__()
        try:
            yield
        except BaseException as error:
            with self._contained(name), contextlib.suppress(type(error)):  # the block's own error is raised below
                context.__exit__(type(error), error, error.__traceback__)
            raise
        with self._contained(name):
            context.__exit__(None, None, None)
