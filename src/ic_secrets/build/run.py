"""One build from the store to the last trace: prepare, expose, run, scrub, verify, receipt.

`run_build` reads from top to bottom; `open_build`, and the builds in two steps, take the same steps. The store comes in
opened: nothing here knows which one it is, nor a plugin, nor a command line.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

from ..core.linux import harden
from ..core.notices import Notice, Notify
from ..errors import SCRUB_INCOMPLETE, SIGNAL_BASE, EndedError, IcSecretsError, ScrubIncompleteError
from ..process.child import Child, Outcome
from ..process.directory import sweep
from ..process.signals import SignalCatcher
from ..process.streams import PassThrough, open_channels
from ..process.watchdog import Watchdog
from ..stores.base import Identity, Store
from .expose import Exposure, expose
from .prepare import Extensions, NoExtensions, PreparedBuild, prepare
from .receipt import Receipt, check_writable, find_versions
from .request import BuildRequest
from .verify import find_leaks, judge, mend_clones

if TYPE_CHECKING:
    from ..broker import StartingBroker
    from ..leaks.findings import SearchResult

T = TypeVar("T")


def run_build(
    store: Store,
    request: BuildRequest,
    notify: Notify,
    record: Record,
    extensions: Extensions | None = None,
    announce: Callable[[PreparedBuild], None] = lambda prepared: None,
    broker: StartingBroker | None = None,
) -> int:
    """Build with the target's secrets; return the exit status that the contract of `run` gives.

    A signal that comes while the store is read ends that: nothing is exposed.
    Raises IcSecretsError when the build could not be started; then nothing was exposed, or what was is gone again.
    Once it has run, a fault of ours is reported, and never hides the build's own status. `announce` is called just
    before anything is exposed. `broker` is what `start_broker` gave for the request.
    """
    build = Build(request, notify, record, extensions)
    with SignalCatcher() as signals:
        try:
            with build.recorded(), Watchdog() as watchdog:  # forked before any value is read
                with signals.raising():
                    prepared = build.prepare(store)  # load → select → resolve → render
                build.begin(store, prepared)
                announce(prepared)
                with expose(prepared, watchdog, build.notify, broker) as build.exposure:
                    if not signals.ending:
                        build.outcome = _run_command(build.exposure, signals)
                # everything is scrubbed now
                return build.conclude(signals)  # verify → receipt
        except EndedError as ended:
            return SIGNAL_BASE + ended.number


@contextlib.contextmanager
def open_build(
    store: Store, request: BuildRequest, notify: Notify, record: Record, extensions: Extensions | None = None
) -> Iterator[Build]:
    """Expose the target's secrets for the time of the block; then scrub, and conclude what was run in it.

    Raises IcSecretsError when the build cannot be started; then nothing was exposed, or what was is gone again. The
    store is closed before anything is exposed.
    """
    build, owner = Build(request, notify, record, extensions), os.getpid()
    with build.recorded(), Watchdog() as watchdog, start_broker(request) as broker:
        prepared = build.prepare(store)
        build.begin(store, prepared)
        with expose(prepared, watchdog, build.notify, broker) as build.exposure:
            yield build
        if os.getpid() == owner:  # else a child that was forked in the block: the build is its parent's
            build.conclude()


class Record(Protocol):
    """What is kept of a build elsewhere: that it began, and how it ended."""

    @property
    def path(self) -> str | None:
        """The file that it is kept in, if any: it is not searched for leaks."""

    def start(self, names: Iterable[str], directory: str, store: Identity | None) -> None:
        """Note that a build begins; IcSecretsError where it must not go on unrecorded. Nothing is exposed yet.

        `names` are the secrets that will be, `directory` is that of the project, `store` where they come from.
        """

    def end(self, status: int, leaks: int) -> None:
        """Note that the build has ended with that status, and left so many values behind."""

    def fail(self, error: BaseException) -> None:
        """Note that the build was not started, or could not be ended as it should. Raises nothing."""


class Build:
    """One build, and all who follow it: the receipt, the record, the extensions, and whoever reads the notices.

    Whoever runs it sets its `outcome`. A build without one was never started: nothing of it is searched for, and it has
    no receipt. `status` and `leaks` are known when it is concluded.
    """

    exposure: Exposure

    def __init__(
        self,
        request: BuildRequest,
        notify: Notify,
        record: Record,
        extensions: Extensions | None = None,
        receipt: Receipt | None = None,
    ) -> None:
        """`receipt` is that of a build which another process began."""
        self.request = request
        self.receipt = receipt or Receipt(request)
        self.notify = self.receipt.listen(notify)
        self.outcome: Outcome | None = None
        self.status = 0
        self.leaks = 0
        self._record = record
        self._extensions = extensions or NoExtensions()
        self._has_faults = False

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Inside, whatever ends the build is in its record."""
        owner = os.getpid()
        try:
            yield
        except BaseException as error:
            if os.getpid() == owner:
                self._record.fail(error)
            raise

    def prepare(self, store: Store) -> PreparedBuild:
        """Load, select, resolve and render; IcSecretsError, a plugin's veto too, where it cannot become a build."""
        prepared = prepare(store, self.request, self.notify, self._extensions)
        self._extensions.check_build(prepared)
        return prepared

    def begin(self, store: Store, prepared: PreparedBuild) -> None:
        """Do the last that can fail before anything is exposed; close the store."""
        request, project = self.request, prepared.project.directory
        self._record.start([secret.name for secret in prepared.secrets], project, prepared.loaded.store)
        store.close()
        if request.receipt:
            check_writable(request.receipt)
            self.receipt.versions = find_versions(prepared)
        for path, reason in sweep(request.environment, request.run_dir).failed:
            text = f"{path}, left by a dead run, cannot be removed: {reason}"
            self.notify(Notice(text, "remove it by hand"))

    def conclude(self, signals: SignalCatcher | None = None) -> int:
        """Search for what the scrubbed build left, report it, write the receipt and end the record; return the status.

        A step that fails is reported, and the next one is done all the same. The search, which may take long, is ended
        by the next signal.
        """

        def find_signal() -> int:
            return signals.status if signals else 0

        if self.outcome is None:
            self.status = self.status or find_signal()
            with contextlib.suppress(IcSecretsError):  # nothing was built, and why is reported already
                self._record.end(self.status, 0)
            return self.status
        exposure, record = self.exposure, self._record
        self._report(self.outcome)
        if exposure.report:
            from .brokering import report_traffic

            report = exposure.report
            self._attempt(lambda: report_traffic(report, self.notify))
        mended = self._attempt(lambda: mend_clones(exposure, self.notify)) or ()
        is_searched = self.request.leaks != "off"
        result = self._attempt(lambda: self._search(exposure, signals)) if is_searched else None
        self.leaks = len(result.findings) if result else 0
        status = self._add_faults(find_signal() or self.outcome.status)
        status = judge(status, exposure, result, self.notify)
        self._attempt(lambda: self.receipt.render(exposure, mended, result, status))
        self._attempt(self.receipt.write)
        self._attempt(lambda: self._extensions.show_receipt(self.receipt.document or {}))
        status = self._add_faults(status or find_signal())  # one that ended a plugin
        self._attempt(lambda: record.end(status, self.leaks))
        self.status = self._add_faults(status)
        return self.status

    def _search(self, exposure: Exposure, signals: SignalCatcher | None) -> SearchResult:
        try:
            with signals.raising_next() if signals else contextlib.nullcontext():
                return find_leaks(exposure, self._record.path)
        except EndedError:
            raise ScrubIncompleteError(
                "a signal ended the search for leaks: what the build left behind is not known",
                hint=f"`ic-secrets scan {self.request.target} PATH` searches now",
            ) from None

    def _report(self, outcome: Outcome) -> None:
        if outcome.ended:
            what = "process" if outcome.ended == 1 else "processes"
            self.notify(Notice(f"ended {outcome.ended} {what} that the build had left running"))
        if outcome.is_cut:
            self._has_faults = True
            text = "the output could not be written or masked, and was cut off there"
            self.notify(Notice(text, level="error"))

    def _add_faults(self, status: int) -> int:
        return status or (SCRUB_INCOMPLETE if self._has_faults else 0)

    def _attempt(self, step: Callable[[], T]) -> T | None:
        try:
            return step()
        except IcSecretsError as error:
            self.notify(Notice(str(error), error.hint, "error"))
        except Exception as error:  # its message may contain anything
            text = f"an unexpected {type(error).__name__} after the build"
            self.notify(Notice(text, "please report it", "error"))
        self._has_faults = True
        return None


def start_broker(request: BuildRequest) -> contextlib.AbstractContextManager[StartingBroker | None]:
    """Start the broker that the request asks for, to get ready while the build is prepared; ExposureError.

    The earlier it starts the less the build waits for it, and it has to start before any value is read. What the build
    is not to have is in our memory too, so nobody can look into that any more.
    """
    if not request.broker:
        return contextlib.nullcontext()
    from ..broker import StartingBroker

    harden()
    return StartingBroker()


def _run_command(exposure: Exposure, signals: SignalCatcher) -> Outcome:
    """Run the request's command to its end, its output masked."""
    prepared, request = exposure.prepared, exposure.prepared.request
    # What is isolated never gets our own terminal, into which it could type.
    channels = open_channels() if request.mask or request.isolate else ()
    launch = exposure.make_launch()
    child = Child(request.command, prepared.program, exposure.environment, signals, channels, launch)
    exposure.directory.watchdog.watch(child.pid)
    return child.run(
        exposure.make_masker if request.mask else PassThrough,
        grace=request.grace,
        allow_background=request.allow_background,
        on_end=exposure.scrub,
    )
