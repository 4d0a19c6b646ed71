"""One build, from the store to the last trace: prepare, expose, run, scrub, verify, receipt.

`run_build` is the story, told on top of `open_build`, which every other way to build uses as well. The
store comes in opened: nothing here knows which one it is, nor a plugin, nor a command line.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from ..core.notices import Notice, Notify
from ..errors import SCRUB_INCOMPLETE, SIGNAL_BASE, EndedError, IcSecretsError
from ..process.child import Child, Outcome, SignalCatcher
from ..process.directory import sweep
from ..process.streams import open_channels
from ..process.watchdog import Watchdog
from ..stores.base import Identity, Store
from .expose import Exposure, expose
from .prepare import BuildRequest, Extensions, NoExtensions, Preparation, prepare
from .receipt import Receipt, check_writable, find_versions
from .verify import decide_status, find_leaks, mend_clones

T = TypeVar("T")


class Record(Protocol):
    """What is kept of a build, elsewhere: that it began, and how it ended."""

    @property
    def path(self) -> str | None:
        """The file that it is kept in, if any: no leak is searched for there."""

    def start(self, names: Iterable[str], directory: str, store: Identity | None) -> None:
        """Nothing is exposed yet; IcSecretsError where the build must not go on unrecorded.

        `names` are the secrets that will be, `directory` is that of the project, `store` whence they come.
        """

    def end(self, status: int, leaks: int) -> None:
        """The build has ended with that status, and left so many values behind."""

    def fail(self, error: BaseException) -> None:
        """The build was not started, or could not be ended as it should. Raises nothing."""


class Build:
    """A build while its secrets are exposed; afterwards, how it ended.

    Whoever runs it says so with `outcome`. A build without one was never started: nothing of it is looked
    for, and it has no receipt.
    """

    def __init__(self, exposure: Exposure, receipt: Receipt, record: Record, extensions: Extensions, notify: Notify):
        self.exposure = exposure
        self.outcome: Outcome | None = None
        self.status = 0
        self.leaks = 0
        self.find_signal: Callable[[], int] = lambda: 0
        self.receipt: dict[str, Any] | None = None
        self._receipt = receipt
        self._record = record
        self._extensions = extensions
        self._notify = notify
        self._faults: list[str] = []

    @property
    def environment(self) -> Mapping[str, str]:
        """The build's environment, whole."""
        return self.exposure.environment

    def conclude(self, outcome: Outcome) -> None:
        """Look for what the scrubbed build left, tell it, write the receipt and end the record.

        A step that fails is told, and the next one is done all the same.
        """
        preparation = self.exposure.preparation
        if outcome.ended:
            what = "process" if outcome.ended == 1 else "processes"
            self._notify(Notice(f"ended {outcome.ended} {what} that the build had left running"))
        if outcome.is_cut:
            self._faults.append("cut")
            self._notify(Notice("the output could not be written or masked, and was cut off there", level="error"))
        self._attempt(lambda: mend_clones(self.exposure, self._notify))
        is_searched = preparation.request.leaks != "off"
        result = self._attempt(lambda: find_leaks(self.exposure, self._record.path)) if is_searched else None
        status = self._judge(self.find_signal() or outcome.status)
        status = decide_status(status, self.exposure, result, self._notify)
        self.leaks = len(result.findings) if result else 0
        self.receipt = self._attempt(lambda: self._receipt.render(preparation, self.exposure, result, status))
        self._attempt(lambda: self._receipt.write(self.receipt))
        self._attempt(lambda: self._extensions.tell_receipt(self.receipt or {}))
        status = self._judge(status or self.find_signal())  # one that ended a plugin
        self._attempt(lambda: self._record.end(status, self.leaks))
        self.status = self._judge(status)

    def _judge(self, status: int) -> int:
        return status or (SCRUB_INCOMPLETE if self._faults else 0)

    def _attempt(self, step: Callable[[], T]) -> T | None:
        try:
            return step()
        except IcSecretsError as error:
            self._faults.append(str(error))
            self._notify(Notice(str(error), error.hint, "error"))
        except Exception as error:  # its message may hold anything
            self._faults.append(type(error).__name__)
            text = f"an unexpected {type(error).__name__} after the build"
            self._notify(Notice(text, "please report it", "error"))
        return None


@contextlib.contextmanager
def open_build(
    store: Store,
    request: BuildRequest,
    notify: Notify,
    record: Record,
    extensions: Extensions | None = None,
    reading: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> Iterator[Build]:
    """Expose the target's secrets for the time of the block; then scrub, and conclude what was run in it.

    What `reading` makes surrounds the preparation, which may have to wait for a store on a server.
    Raises IcSecretsError when the build cannot be started; then nothing was exposed, or what was is gone
    again. The store is closed before anything is exposed.
    """
    extensions, owner = extensions or NoExtensions(), os.getpid()
    receipt = Receipt(request)
    notify = receipt.listen(notify)
    try:
        with Watchdog() as watchdog:
            with reading():
                preparation = prepare(store, request, notify, extensions)
            extensions.check_build(preparation)
            make_ready(store, preparation, receipt, record, notify)
            with expose(preparation, watchdog, notify) as exposure:
                build = Build(exposure, receipt, record, extensions, notify)
                yield build
            if os.getpid() != owner:
                return  # a child that was forked in the block: the build is its parent's
            if build.outcome:
                build.conclude(build.outcome)
            else:
                with contextlib.suppress(IcSecretsError):  # nothing was built, and why is what is to be told
                    record.end(build.status, 0)
    except BaseException as error:
        if os.getpid() == owner:
            record.fail(error)
        raise


def run_build(
    store: Store, request: BuildRequest, notify: Notify, record: Record, extensions: Extensions | None = None
) -> int:
    """Build with the target's secrets; the exit status that the contract of `run` gives.

    A signal that comes while the store is read ends that: nothing is exposed.
    Raises IcSecretsError when the build could not be started; then nothing was exposed, or what was
    is gone again. Once it has run, a fault of ours is told, and never hides the build's own status.
    """
    with SignalCatcher() as signals:
        try:
            with open_build(store, request, notify, record, extensions, signals.raising) as build:
                if signals.ending:
                    build.status = signals.status
                else:
                    build.find_signal = lambda: signals.status
                    build.outcome = _run(build.exposure, signals)
        except EndedError as ended:
            return SIGNAL_BASE + ended.number
        return build.status


def make_ready(store: Store, preparation: Preparation, receipt: Receipt, record: Record, notify: Notify) -> None:
    """The last that is done, and can fail, before anything is exposed."""
    request = preparation.request
    record.start([secret.name for secret in preparation.secrets], preparation.project, preparation.store)
    store.close()
    if request.receipt:
        check_writable(request.receipt)
        receipt.versions = find_versions(preparation)
    for path, reason in sweep(request.environment, request.run_dir).failed:
        notify(Notice(f"{path}, left by a dead run, cannot be removed: {reason}", "remove it by hand"))


def _run(exposure: Exposure, signals: SignalCatcher) -> Outcome:
    """Run the request's command to its end, its output masked."""
    preparation = exposure.preparation
    request = preparation.request
    channels = open_channels() if request.mask else ()
    child = Child(request.command, preparation.program, exposure.environment, signals, channels)
    exposure.directory.watchdog.watch(child.pid)
    return child.run(
        exposure.make_masker,
        grace=request.grace,
        allow_background=request.allow_background,
        on_end=exposure.finish,
    )
