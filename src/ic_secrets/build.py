"""One build, from the store to the last trace: prepare, expose, run, scrub, verify, receipt.

`run_build` is the story; each step is a function that other ways to build use as well. The store
comes in opened: nothing here knows which one it is, nor a command line.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

from . import git
from .errors import LEAK_FOUND, SCRUB_INCOMPLETE, IcSecretsError, ScrubIncompleteError
from .exposure import PrivateDirectory, choose_parent, sweep
from .files import read_regular
from .minted import LiveMasker, MintedTokens
from .overlay import AUTH_FILE, Overlay
from .preparation import BuildRequest, Notice, Notify, Preparation, list_exposed, prepare
from .process import Child, Outcome, SignalCatcher
from .receipt import Receipt, check_writable, find_versions
from .stores import Identity, Store
from .streams import open_channels
from .watchdog import Watchdog

if TYPE_CHECKING:  # what masks and what looks for traces is loaded while the build runs, not before
    from .findings import SearchResult
    from .patterns import Patterns
    from .vcs import Residue
    from .walk import Place

# File systems stamp changes with a clock that lags behind ours by a tick of the kernel's, in ns.
_CLOCK_LAG = 50_000_000
# Trees that are not the build's alone are walked this far, in entries.
_MOST_ENTRIES = 100_000
# What begins with a dot in a home may be an interpreter or a browser: of each such tree so many; the receipt names it.
_MOST_HOME_ENTRIES = 5_000
_LARGEST = 1 << 20

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


def run_build(store: Store, request: BuildRequest, notify: Notify, record: Record) -> int:
    """Build with the target's secrets; the exit status that the contract of `run` gives.

    Raises IcSecretsError when the build could not be started; then nothing was exposed, or what was
    is gone again. Once it has run, a fault of ours is told, and never hides the build's own status.
    """
    try:
        return _run_build(store, request, notify, record)
    except BaseException as error:
        record.fail(error)
        raise


def _run_build(store: Store, request: BuildRequest, notify: Notify, record: Record) -> int:
    receipt = Receipt(request)
    notify = receipt.listen(notify)
    with SignalCatcher() as signals, Watchdog() as watchdog:
        preparation = prepare(store, request, notify)
        names = [secret.name for secret in preparation.secrets]
        record.start(names, preparation.project, preparation.store)
        store.close()
        if request.receipt:
            check_writable(request.receipt)
            receipt.versions = find_versions(preparation)
        for path, reason in sweep(request.environment, request.run_dir).failed:
            notify(Notice(f"{path}, left by a dead run, cannot be removed: {reason}", "remove it by hand"))
        with expose(preparation, watchdog, notify) as exposure:
            if signals.ending:
                with contextlib.suppress(IcSecretsError):  # nothing was built, and the signal is what is to be told
                    record.end(signals.status, 0)
                return signals.status
            channels = open_channels() if request.mask else ()
            child = Child(request.command, preparation.program, exposure.environment, signals, channels)
            exposure.directory.watchdog.watch(child.pid)
            outcome = child.run(
                exposure.make_masker,
                grace=request.grace,
                allow_background=request.allow_background,
                on_end=exposure.finish,
            )
        return conclude(exposure, outcome, receipt, record, lambda: signals.status, notify)


def conclude(
    exposure: Exposure,
    outcome: Outcome,
    receipt: Receipt,
    record: Record,
    find_signal: Callable[[], int],
    notify: Notify,
) -> int:
    """Look for what the scrubbed build left, tell it, write the receipt and end the record; the exit status.

    A step that fails is told, and the next one is done all the same.
    """
    faults: list[str] = []

    def attempt(step: Callable[[], T]) -> T | None:
        try:
            return step()
        except IcSecretsError as error:
            faults.append(str(error))
            notify(Notice(str(error), error.hint, "error"))
        except Exception as error:  # its message may hold anything
            faults.append(type(error).__name__)
            notify(Notice(f"an unexpected {type(error).__name__} after the build", "please report it", "error"))
        return None

    if outcome.ended:
        what = "process" if outcome.ended == 1 else "processes"
        notify(Notice(f"ended {outcome.ended} {what} that the build had left running"))
    if outcome.is_cut:
        faults.append("cut")
        notify(Notice("the output could not be written or masked, and was cut off there", level="error"))
    preparation = exposure.preparation
    attempt(lambda: mend_clones(exposure, notify))
    result = attempt(lambda: find_leaks(exposure, record.path)) if preparation.request.leaks != "off" else None
    status = find_signal() or outcome.status
    status = decide_status(status or (SCRUB_INCOMPLETE if faults else 0), exposure, result, notify)
    attempt(lambda: receipt.write(preparation, exposure, result, status))
    status = status or (SCRUB_INCOMPLETE if faults else 0)
    attempt(lambda: record.end(status, len(result.findings) if result else 0))
    return status or (SCRUB_INCOMPLETE if faults else 0)


class Exposure:
    """What a build can see as long as it runs: the private directory, and the environment that names it."""

    def __init__(self, preparation: Preparation, watchdog: Watchdog, notify: Notify) -> None:
        request = preparation.request
        self.preparation = preparation
        self.failure: ScrubIncompleteError | None = None
        self.scrubbed: tuple[str, ...] = ()
        self.hosts_seen: tuple[str, ...] = ()
        self.mended: tuple[Residue, ...] = ()
        self.since = time.time_ns() - _CLOCK_LAG
        self._notify = notify
        self._patterns: Patterns | None = None
        self._lock = threading.Lock()  # both streams may ask at once
        self._maskers: list[LiveMasker] = []
        parent = choose_parent(request.environment, [request.directory, preparation.project], request.run_dir)
        self.directory = PrivateDirectory.make(parent, watchdog)
        try:
            if not self.directory.in_memory:
                notify(
                    Notice(
                        f"{parent} is no tmpfs: for the time of the build the secrets are on a disk",
                        "name a directory on a tmpfs with --run-dir",
                    )
                )
            self._overlay = Overlay(self.directory.subdirectory("composer"), preparation.home, preparation.files)
            self._overlay.make(self.directory.write)
            self.minted = MintedTokens(os.path.join(self._overlay.path, AUTH_FILE), preparation.files[AUTH_FILE])
            self.environment = {
                **preparation.environment,
                "COMPOSER_HOME": self._overlay.path,
                **self._expose_git(),
            }
        except BaseException:
            self.directory.scrub()
            raise

    def find_patterns(self) -> Patterns:
        """The needles of every value that the build could see, derived once."""
        from .needles import derive_all
        from .patterns import Patterns

        with self._lock:
            if self._patterns is None:
                self._patterns = Patterns(derive_all(list_exposed(self.preparation.secrets)))
            return self._patterns

    def hide_values(self, name: str) -> str:
        """A name that the build chose, with the values in it masked."""
        from .mask import mask_text

        return mask_text(name, self.find_patterns())

    def make_masker(self) -> LiveMasker:
        """A masker for one stream of the build."""
        masker = LiveMasker(self.find_patterns, self.minted)
        self._maskers.append(masker)
        return masker

    @property
    def masked(self) -> dict[str, int]:
        """How often each secret was masked in the output."""
        counts: dict[str, int] = {}
        for masker in self._maskers:
            for name, count in masker.masked.items():
                counts[name] = counts.get(name, 0) + count
        return counts

    def finish(self) -> None:
        """Remove the secrets, carry back what the build added to the Composer home, remove the rest.

        Safe to call twice. A failure is kept in `failure` rather than raised: the output of the build
        is still on its way.
        """
        if self.directory.is_scrubbed:
            return
        self.minted.refresh()
        try:
            self.hosts_seen = self._read_seen()
            self.directory.remove_secrets()
            for name in self._overlay.carry_back(self._is_clean):
                self._notify(
                    Notice(
                        f"{self.hide_values(name)}, which the build made in the Composer home, was not carried back, "
                        "and is gone",
                        "it holds a value, or something of that name is there",
                    )
                )
        finally:
            try:
                self.scrubbed = tuple(self.directory.scrub())
            except ScrubIncompleteError as error:
                self.failure = error

    def _is_clean(self, path: str) -> bool:
        """Whether no value lies in what the build made, so that it may leave the private directory."""
        from .leaks import search
        from .needles import for_search
        from .patterns import Patterns
        from .walk import Place

        needles = for_search((*self.find_patterns().needles, *self.minted.needles))
        result = search([Place(path)], Patterns(needles))
        return not result.findings

    def _expose_git(self) -> dict[str, str]:
        """Hand git its logins by a helper; the variables that say so, none where it has none."""
        preparation = self.preparation
        if not preparation.git or not (preparation.logins or preparation.minting_hosts):
            return {}
        place = self.directory.subdirectory("git")
        self._seen = os.path.join(place, git.SEEN_FILE)
        files = git.render_files(preparation.logins, preparation.minting_hosts, place, preparation.git)
        for name, data in files.items():
            self.directory.write(os.path.join(place, name), data, 0o700 if name == git.SHIM_FILE else 0o600)
        path = preparation.environment.get("PATH", os.defpath)
        if os.statvfs(place).f_flag & os.ST_NOEXEC:  # the real git is found behind ours
            self._notify(
                Notice(
                    f"no program can be executed in {self.directory.path}: where a server refuses git's credential, "
                    "Composer puts it into git's arguments, and nothing takes it out",
                    "name a tmpfs without noexec with --run-dir",
                )
            )
        return {
            **git.add_configuration(preparation.environment, os.path.join(place, git.CONFIG_FILE)),
            "PATH": f"{place}{os.pathsep}{path}",
        }

    _seen: str | None = None

    def _read_seen(self) -> tuple[str, ...]:
        """The hosts for which Composer put a login into git's arguments."""
        preparation = self.preparation
        known = {login.host for login in preparation.logins} | set(preparation.minting_hosts)
        with contextlib.suppress(OSError):
            data = read_regular(self._seen, _LARGEST) if self._seen else None
            return tuple(sorted(known & set((data or b"").decode(errors="replace").splitlines())))
        return ()


@contextlib.contextmanager
def expose(preparation: Preparation, watchdog: Watchdog, notify: Notify) -> Iterator[Exposure]:
    """Make the private directory; inside, the build can run; afterwards nothing of it is left."""
    exposure = Exposure(preparation, watchdog, notify)
    try:
        yield exposure
    finally:
        exposure.finish()


def mend_clones(exposure: Exposure, notify: Notify) -> None:
    """Take out of clones' configurations what this build put there, and name what earlier builds did."""
    for host in exposure.hosts_seen:
        notify(
            Notice(
                f"Composer put the login for {host} into git's arguments: for a moment other users of this machine "
                "could read it there",
                "that happens when the server refuses it to git, or gives Composer a new one; "
                "change it if the machine has other users",
            )
        )
    from .vcs import mend

    mended = []
    for residue in find_clones(exposure.preparation):
        if os.stat(residue.path).st_ctime_ns < exposure.since:
            notify(
                Notice(
                    f"{residue.path} holds a credential for {', '.join(residue.hosts)}, left by an earlier build",
                    "`ic-secrets scrub` takes it out",
                )
            )
            continue
        try:
            mend(residue)
            mended.append(residue)
            notify(Notice(f"{residue.path} held a credential for {', '.join(residue.hosts)}; it was taken out"))
        except OSError as error:
            notify(Notice(f"{residue.path} holds a credential and cannot be mended: {error.strerror}", level="error"))
    exposure.mended = tuple(mended)


def find_clones(preparation: Preparation) -> tuple[Residue, ...]:
    """The clones with a credential in their configuration, in the caches and the project."""
    from .vcs import find_residue

    found = [residue for cache in preparation.caches for residue in find_residue(cache)]
    return tuple(dict.fromkeys([*found, *find_residue("", [preparation.project])]))


def find_leaks(exposure: Exposure, record: str | None = None) -> SearchResult:
    """Search what the build could have written, as far as it changed since the build began.

    The file of the build's record is ours: it has just changed, and holds no value.
    """
    from .findings import SearchResult
    from .walk import Walk

    places = _list_places(exposure.preparation)
    skip = [exposure.directory.path, *([record] if record else [])]
    walk = Walk(exposure.since, skip)
    if not any(True for _ in walk.list_due(places)) and not walk.left_out and not walk.failed:
        return SearchResult()  # nothing changed: then nothing is loaded to look into it
    from .leaks import search
    from .needles import for_search
    from .patterns import Patterns

    needles = (*exposure.find_patterns().needles, *exposure.minted.needles)
    result = search(places, Patterns(for_search(needles)), since=exposure.since, skip=skip, hidden=needles)
    return result.without(exposure.preparation.request.leaks_allowed, exposure.preparation.project)


def decide_status(status: int, exposure: Exposure, result: SearchResult | None, notify: Notify) -> int:
    """Tell what was found, and what it makes of the build's own status: a failure of its own wins."""
    findings = result.findings if result else []
    fails = exposure.preparation.request.leaks == "fail"
    for finding in findings:
        text = f"{finding.name} was left behind in {finding.place} ({finding.encoding})"
        notify(Notice(text, level="error" if fails else "warning"))
    if exposure.failure:
        notify(Notice(exposure.hide_values(str(exposure.failure)), exposure.failure.hint, "error"))
        return status or exposure.failure.exit_status
    return status or (LEAK_FOUND if findings and fails else 0)


def _list_places(preparation: Preparation) -> list[Place]:
    from .walk import Place

    request, home = preparation.request, preparation.home
    places = [Place(request.directory), Place(preparation.project)]
    places += [Place(path) for path in (home.path, home.data)]
    # A project may name any directory as its cache.
    places += [Place(path, most=_MOST_ENTRIES, own=True) for path in preparation.caches]
    user = request.environment.get("HOME")
    if user:
        # What builds write there begins with a dot; the rest is the person's own.
        with contextlib.suppress(OSError):
            hidden = sorted(name for name in os.listdir(user) if name.startswith("."))
            places += [Place(os.path.join(user, name), most=_MOST_HOME_ENTRIES, own=True) for name in hidden]
    temporary = request.environment.get("TMPDIR") or "/tmp"  # noqa: S108
    return [*places, Place(temporary, most=_MOST_ENTRIES, own=True)]
