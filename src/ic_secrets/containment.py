"""Keeps a plugin's faults its own: what it raises is charged to it by name, what it prints goes to stderr."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from .errors import IcSecretsError, PluginError
from .secret import Owner, Site
from .stores import Store

# The streams are the whole process's: two builds in two threads must not put each other's back.
_lock = threading.RLock()


@contextlib.contextmanager
def contained(plugin: str, doing: str, *allowed: type[BaseException]) -> Iterator[None]:
    """Whatever the block raises, but for what is `allowed`, is a PluginError: `the plugin PLUGIN failed DOING: …`.

    The error's message may hold anything, so only its class and place are told. Stdout belongs to the command;
    within the block it is stderr, for child processes too.
    """
    try:
        with _lock, _stdout_as_stderr():
            yield
    except allowed:
        raise
    except BaseException as error:
        # Ctrl-C is a person's, unless signals are caught: then nothing but the plugin raises this.
        if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            raise
        raise PluginError(f"the plugin {plugin} failed {doing}: {describe_fault(error)}") from None


def describe_fault(error: BaseException) -> str:
    """The error's class and place, nothing of its message: `ValueError at plugin.py:12`.

    With IC_SECRETS_DEBUG=1 the way to it is shown on stderr.
    """
    import traceback

    detail = ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        detail = f" (no module {error.name})"
    frames = traceback.extract_tb(error.__traceback__)
    if os.environ.get("IC_SECRETS_DEBUG") == "1":
        for frame in frames:
            print(f"  {frame.filename}:{frame.lineno} in {frame.name}", file=sys.stderr)
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__} at {os.path.basename(error.filename or '?')}:{error.lineno}"
    place = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{detail}{place}"


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


class ContainedStore:
    """A plugin's store: its own errors are ours, every other fault is charged to the plugin."""

    def __init__(self, store: Store, plugin: str) -> None:
        self._store = store
        self._plugin = plugin

    def _contained(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return contained(self._plugin, f"as a store, in {doing}", IcSecretsError)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        with self._contained(name):
            # What a store has beside `Store` (`store_id`, `generation`) it may lack.
            found = getattr(self._store, name, self)
        if found is self:
            raise AttributeError(name)
        if not callable(found):
            return found

        def call(*arguments: object, **keywords: object) -> object:
            with self._contained(name):
                return found(*arguments, **keywords)

        return call

    def sites(self) -> Iterator[Site]:
        """As in `Store`."""
        with self._contained("sites"):
            found = list(self._store.sites())
        return iter(found)

    def owners(self) -> Iterator[Owner]:
        """As in `Store`."""
        with self._contained("owners"):
            found = list(self._store.owners())
        return iter(found)

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """As in `Store`."""
        return self._enter("transaction")

    def snapshot(self) -> contextlib.AbstractContextManager[None]:
        """As in `Store`."""
        return self._enter("snapshot")

    @contextlib.contextmanager
    def _enter(self, name: str) -> Iterator[None]:
        with self._contained(name):
            context = getattr(self._store, name)()
            context.__enter__()
        try:
            yield
        except BaseException as error:
            with self._contained(name), contextlib.suppress(type(error)):  # the block's own error is raised below
                context.__exit__(type(error), error, error.__traceback__)
            raise
        with self._contained(name):
            context.__exit__(None, None, None)
