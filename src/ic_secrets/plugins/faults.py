"""Keep a plugin's faults its own: what it raises is reported under its name, what it prints goes to stderr."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from ..errors import NOT_STARTED, PluginError, PluginInterruptedError
from ..process import SignalCatcher
from .supervisor import note_plugin

# The streams belong to the whole process: two builds in two threads must not restore each other's.
_lock = threading.RLock()


@contextlib.contextmanager
def contain_faults(
    plugin: str,
    doing: str,
    *allowed: type[BaseException],
    owns_process: bool = True,
    status: int | None = None,
) -> Iterator[None]:
    """Turn what the block raises, except `allowed`, into a PluginError: `the plugin PLUGIN failed DOING: ...`.

    The error's message may hold anything, so only its class and place are shown. Stdout belongs to the command: within
    the block it is stderr, for child processes too. In another program (not `owns_process`) it stays what it is, since
    other threads may be writing to it.

    A signal that would end us ends the block, even while signals are caught: PluginInterruptedError. A process that the
    plugin forks ends with the block. Where the plugin ends ours, the supervisor fails the command, with `status` if it
    is given.
    """
    owner = os.getpid()
    stop = _Stop()
    redirect = _redirect_stdout if owns_process else contextlib.nullcontext
    try:
        try:
            ended = f"the plugin {plugin} failed {doing}: it ended the process"
            with note_plugin(ended, status), _lock, redirect(), _interruptible(stop):
                yield
        finally:
            if os.getpid() != owner:
                os._exit(NOT_STARTED)  # a second one of us must not go on with the build
        if stop.error:  # the plugin caught what was raised in it
            raise stop.error
    except BaseException as error:
        if stop.number:
            name = signal.Signals(stop.number).name
            raise PluginInterruptedError(f"{name} came while the plugin {plugin} ran", stop.number) from None
        if isinstance(error, allowed):
            raise
        # Ctrl-C is a person's, unless signals are caught: then only the plugin can raise this.
        if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            raise
        fault = describe_fault(error, is_loading=doing == "to load")
        raise PluginError(f"the plugin {plugin} failed {doing}: {fault}") from None


def describe_fault(error: BaseException, *, is_loading: bool = False) -> str:
    """Return the error's class and place, nothing of its message: `ValueError at plugin.py:12`.

    With IC_SECRETS_DEBUG=1 the traceback's places are printed to stderr.
    """
    import traceback

    kind = _name_kind(type(error))
    if is_loading and isinstance(error, ModuleNotFoundError) and error.name:  # no value is known yet
        kind += f" (no module {error.name})"
    # Code that was compiled from a text can call its file and its functions by a value: only real files are shown.
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
    """Return the name of the first class that Python or we define: a plugin can name its own after a value."""
    for each in kind.__mro__:
        module = sys.modules.get(each.__module__)
        is_known = each.__module__.partition(".")[0] in {"ic_secrets", *sys.stdlib_module_names}
        if is_known and vars(module).get(each.__name__) is each:
            return str(each.__name__)
    return "an error"


class _StopError(BaseException):
    """Ends a plugin's code. Not an Exception, so that the plugin seldom catches it."""


class _Stop:
    """The signal that ended a plugin's code, and what was raised there for it."""

    number = 0
    error: _StopError | None = None


@contextlib.contextmanager
def _interruptible(stop: _Stop) -> Iterator[None]:
    """While signals are caught, note one that would end us as usual, and raise it in the plugin's code as well."""
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
            stop.error = _StopError()
            raise stop.error

    try:
        for each in caught:
            signal.signal(each, interrupt)
        yield
    finally:
        is_active = False
        for each, handler in caught.items():
            signal.signal(each, handler)


@contextlib.contextmanager
def _redirect_stdout() -> Iterator[None]:
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
