"""A build whose two ends are commands of their own: what `build.open_build` does around a block, in two processes.

`begin_build` ends with a guard over the exposed secrets (`guard`) and what `end_build` needs beside them (`handover`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from ..build.expose import Exposure
from ..build.prepare import BuildRequest, Extensions, NoExtensions, Preparation, prepare
from ..build.receipt import Receipt
from ..build.run import Build, Record, make_ready
from ..core.notices import Notify
from ..errors import AlreadyExposedError, ExposureError, ScrubbedMeanwhileError
from ..process.child import Outcome, SignalCatcher
from ..process.directory import NOTE, find_enclosing
from ..process.watchdog import Watchdog
from ..stores.base import Store
from .guard import StartingGuard, open_process
from .handover import Handover, find_handover, find_note, resume_exposure, resume_receipt, write_handover
from .locks import locked_checkout


class Term(NamedTuple):
    """How long the secrets stay exposed: seconds, and, where it is named, until that process ends."""

    ttl: float
    until_pid: int | None = None


class ResumableRecord(Record, Protocol):
    """A record that another process ends."""

    @property
    def memento(self) -> Mapping[str, Any]:
        """What that process needs, as JSON holds it."""


class Face(Protocol):
    """The pipeline in which the build runs: how it is told the build's environment."""

    def check(self, preparation: Preparation) -> None:
        """Refuse, with an IcSecretsError, what cannot be told; nothing is exposed yet."""

    def tell_early(self, environment: Mapping[str, str], preparation: Preparation) -> Mapping[str, Any]:
        """Tell what has to be told before the secrets stay exposed; notes for whoever ends the build."""

    @property
    def told(self) -> Sequence[str]:
        """Files that values are written to on purpose."""


def begin_build(
    store: Store,
    request: BuildRequest,
    term: Term,
    face: Face,
    notify: Notify,
    record: ResumableRecord,
    extensions: Extensions | None = None,
) -> Mapping[str, str]:
    """Expose the target's secrets and leave them to a guard; the build's environment, whole.

    Raises IcSecretsError when the build cannot be started; then nothing was exposed, or what was is gone again.
    The directory of the request is the checkout by which the build is found.
    """
    extensions = extensions or NoExtensions()
    receipt = Receipt(request)
    notify = receipt.listen(notify)
    _refuse_nested(request.environment)
    try:
        with (
            _opened(term.until_pid) as until,
            SignalCatcher() as signals,
            StartingGuard() as guard,
            Watchdog() as watchdog,
            contextlib.ExitStack() as locks,
        ):
            preparation = prepare(store, request, notify, extensions)
            extensions.check_build(preparation)
            face.check(preparation)
            lock = locks.enter_context(_locked(preparation))
            make_ready(store, preparation, receipt, record, notify)
            identity = guard.find_id()
            exposure = Exposure.make(preparation, watchdog, notify)
            try:
                notes = face.tell_early(exposure.environment, preparation)
                write_handover(exposure, receipt, identity, record.memento, notes, face.told)
                if signals.ending:
                    raise ExposureError("it was ended by a signal; nothing is exposed any more")
                guard.take_over(exposure.directory.path, [exposure.directory.descriptor, *lock], term.ttl, until, NOTE)
                exposure.directory.release()
            finally:
                exposure.finish()
        return exposure.environment
    except BaseException as error:
        record.fail(error)
        raise


def end_build(
    handover: Handover,
    notify: Notify,
    record: Record,
    *,
    status: int = 0,
    receipt: str | None = None,
    extensions: Extensions | None = None,
) -> int:
    """Scrub what `begin_build` exposed, look for what the build left, write the receipt; the status as of `run`.

    `status` is the build's own, `receipt` a file other than the one that was named when it began.
    ScrubbedMeanwhileError where its guard was quicker.
    """
    with SignalCatcher() as signals:
        exposure = resume_exposure(handover, notify)
        if receipt:
            request = exposure.preparation.request._replace(receipt=receipt)
            exposure.preparation = exposure.preparation._replace(request=request)
        kept = resume_receipt(handover, exposure.preparation.request)
        notify = kept.listen(notify)
        build = Build(exposure, kept, record, extensions or NoExtensions(), notify)
        build.find_signal = lambda: signals.status
        exposure.finish()
        build.conclude(Outcome(status))
        return build.status


def abandon_build(request: BuildRequest, notify: Notify) -> None:
    """Scrub what this process has just exposed, if anything, since nobody could be told of it."""
    handover = find_handover(request.directory, request.environment, request.run_dir)
    if handover and handover.is_ours:
        with contextlib.suppress(ScrubbedMeanwhileError):
            resume_exposure(handover, notify).finish()


def _refuse_nested(environment: Mapping[str, str]) -> None:
    """AlreadyExposedError where the environment is that of a build: whose home would then be taken for the user's."""
    if find_enclosing(environment.get("COMPOSER_HOME") or ""):
        raise AlreadyExposedError(
            "this environment is that of a build already",
            hint='`eval "$(ic-secrets post-build --format sh)"` puts a shell\'s back, as it was before',
        )


@contextlib.contextmanager
def _opened(pid: int | None) -> Iterator[int | None]:
    """A pidfd of the process, if one is named."""
    descriptor = None if pid is None else open_process(pid)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextlib.contextmanager
def _locked(preparation: Preparation) -> Iterator[Sequence[int]]:
    """The lock that says that the checkout is being built; AlreadyExposedError."""
    request, checkout = preparation.request, os.path.realpath(preparation.project)
    other = find_handover(checkout, request.environment, request.run_dir)
    if other and other.checkout == checkout and other.guard.is_alive:
        raise AlreadyExposedError(f"{checkout} has the secrets of another pre-build")
    with locked_checkout(checkout) as descriptors:
        earlier = find_note(checkout, request.environment, request.run_dir)
        if earlier and earlier.checkout == checkout:  # nobody has ended it, and nobody will
            with contextlib.suppress(OSError):
                earlier.remove()
        yield descriptors
