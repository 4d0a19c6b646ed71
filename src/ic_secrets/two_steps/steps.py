"""A build whose two ends are commands of their own: what `build.open_build` does around a block, in two processes.

`begin_build` ends with a guard over the exposed secrets (`guard`) and what `end_build` needs beside them (`handover`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from ..build import BuildRequest, Extensions, PreparedBuild
from ..build.expose import Exposure
from ..build.run import Build, Record, start_broker
from ..core import Notify
from ..core.records import NamedTuple
from ..errors import AlreadyExposedError, ExposureError, ScrubbedMeanwhileError
from ..process import Outcome, SignalCatcher, Watchdog
from ..process.directory import NOTE, find_enclosing
from ..stores import Store
from .guard import StartingGuard, open_process
from .handover import Handover, find_handover, find_note
from .locks import locked_checkout
from .pipelines import Pipeline, choose_lasting
from .shells import Change


class Term(NamedTuple):
    """How long the secrets stay exposed: seconds, and, where it is named, until that process ends."""

    ttl: float
    until_pid: int | None = None


class ResumableRecord(Record, Protocol):
    """A record that another process ends."""

    @property
    def memento(self) -> Mapping[str, Any]:
        """What that process needs, as JSON holds it."""


def begin_build(
    store: Store,
    request: BuildRequest,
    term: Term,
    pipeline: Pipeline,
    notify: Notify,
    record: ResumableRecord,
    extensions: Extensions | None = None,
) -> Change:
    """Expose the target's secrets and leave them to a guard; return the change of the environment for the build.

    Raises IcSecretsError when the build cannot be started; then nothing was exposed, or what was is gone again.
    The directory of the request is the checkout by which the build is found.
    """
    build = Build(request, notify, record, extensions)
    _refuse_nested(request.environment)
    with (
        build.recorded(),
        _opened(term.until_pid) as until,
        SignalCatcher() as signals,
        StartingGuard() as guard,
        Watchdog() as watchdog,
        start_broker(request) as broker,
        contextlib.ExitStack() as locks,
    ):
        prepared = build.prepare(store)
        pipeline.check(prepared)
        lock = locks.enter_context(_locked(prepared))
        build.begin(store, prepared)
        guard_id = guard.find_id()
        exposure = Exposure.make(prepared, watchdog, build.notify, broker, is_handed_on=True)
        exposure.outputs = pipeline.outputs
        try:
            change = Change.find(request.environment, exposure.environment)
            restore = pipeline.publish(change, prepared)
            handover = Handover.of(
                exposure, build.receipt, guard_id, record=record.memento, pipeline=pipeline.name, restore=restore
            )
            handover.write(exposure.directory, choose_lasting(restore))
            if signals.ending:
                raise ExposureError("it was ended by a signal; nothing is exposed any more")
            kept = [exposure.directory.descriptor, *lock, *([broker.descriptor] if broker else [])]
            guard.take_over(exposure.directory.path, kept, term.ttl, until, NOTE)
            exposure.directory.release()
            if broker:
                broker.release()
        finally:
            exposure.scrub()
    return change


def end_build(
    handover: Handover,
    notify: Notify,
    record: Record,
    *,
    status: int = 0,
    receipt: str | None = None,
    extensions: Extensions | None = None,
) -> int:
    """Scrub what `begin_build` exposed, search for what the build left, write the receipt; the status is as of `run`.

    `status` is the build's own, `receipt` another file than the one that was named when it began.
    ScrubbedMeanwhileError where its guard was quicker.
    """
    with SignalCatcher() as signals, handover.unfinished():
        exposure = handover.resume_exposure(notify, receipt)
        request = exposure.prepared.request
        build = Build(request, notify, record, extensions, handover.resume_receipt(request))
        build.exposure, build.outcome = exposure, Outcome(status)
        exposure.scrub()
        return build.conclude(signals)


def abandon_build(request: BuildRequest, notify: Notify) -> None:
    """Scrub what this process has just exposed, if anything, since nobody could be given it."""
    handover = find_handover(request.directory, request.environment, request.run_dir)
    if handover and handover.is_ours:
        with contextlib.suppress(ScrubbedMeanwhileError):
            handover.resume_exposure(notify).scrub()


def _refuse_nested(environment: Mapping[str, str]) -> None:
    """Raise AlreadyExposedError where the environment is a build's: its home would then be taken for the user's."""
    if find_enclosing(environment.get("COMPOSER_HOME") or ""):
        raise AlreadyExposedError(
            "this environment is that of a build already",
            hint='`eval "$(ic-secrets post-build --format sh)"` restores the environment that the shell had before',
        )


@contextlib.contextmanager
def _opened(pid: int | None) -> Iterator[int | None]:
    """Open a pidfd of the process, if one is named."""
    descriptor = None if pid is None else open_process(pid)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextlib.contextmanager
def _locked(prepared: PreparedBuild) -> Iterator[Sequence[int]]:
    """Hold the lock that says that the checkout is being built; AlreadyExposedError."""
    request, checkout = prepared.request, os.path.realpath(prepared.project.directory)
    other = find_handover(checkout, request.environment, request.run_dir)
    if other and other.checkout == checkout and other.guard.is_alive:
        raise AlreadyExposedError(f"{checkout} has the secrets of another pre-build")
    with locked_checkout(checkout) as descriptors:
        earlier = find_note(checkout, request.environment, request.run_dir)
        if earlier and earlier.checkout == checkout:  # nobody has ended it, and nobody will
            with contextlib.suppress(OSError):
                earlier.remove()
        yield descriptors
