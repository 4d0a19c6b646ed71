"""What a build can see as long as it runs: the private directory, filled, and the environment that names it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..composer.home import AUTH_FILE, Overlay, OverlayTrace
from ..composer.minted import LiveMasker, MintedTokens
from ..core.files import read_regular
from ..core.notices import Notice, Notify
from ..errors import ScrubIncompleteError
from ..git import helper as git
from ..process.directory import PrivateDirectory, choose_parent
from ..process.watchdog import Watchdog
from .prepare import Preparation, list_exposed
from .render import COMPOSER

if TYPE_CHECKING:  # what masks is loaded while the build runs, not before
    from ..git.clones import Residue
    from ..masking.matcher import Matcher

# File systems stamp changes with a clock that lags behind ours by a tick of the kernel's, in ns.
_CLOCK_LAG = 50_000_000
_LARGEST = 1 << 20
_GIT = "git"
_AUTH = f"{COMPOSER}/{AUTH_FILE}"


class Exposure:
    """One build's, from its first file to the scrub.

    `told` are files that were given values on purpose, where no leak is searched for.
    """

    def __init__(self, preparation: Preparation, directory: PrivateDirectory, since: int, notify: Notify) -> None:
        """Nothing is in the directory yet, or somebody else has filled it (`make`, `resume`)."""
        self.preparation = preparation
        self.directory = directory
        self.since = since
        self.told: tuple[str, ...] = ()
        self.environment: Mapping[str, str] = {}
        self.failure: ScrubIncompleteError | None = None
        self.scrubbed: tuple[str, ...] = ()
        self.hosts_seen: tuple[str, ...] = ()
        self.mended: tuple[Residue, ...] = ()
        self._notify = notify
        self._matcher: Matcher | None = None
        self._lock = threading.Lock()  # both streams may ask at once
        self._maskers: list[LiveMasker] = []

    @classmethod
    def make(cls, preparation: Preparation, watchdog: Watchdog, notify: Notify) -> Exposure:
        """Make the private directory and fill it; BuildError, and then nothing of it is left."""
        request = preparation.request
        since = time.time_ns() - _CLOCK_LAG
        parent = choose_parent(request.environment, [request.directory, preparation.project], request.run_dir)
        directory = PrivateDirectory.make(parent, watchdog)
        try:
            if not directory.in_memory:
                notify(
                    Notice(
                        f"{parent} is no tmpfs: for the time of the build the secrets are on a disk",
                        "name a directory on a tmpfs with --run-dir",
                    )
                )
            exposure = cls(preparation, directory, since, notify)
            exposure._fill()
        except BaseException:
            directory.scrub()
            raise
        return exposure

    @classmethod
    def resume(
        cls, preparation: Preparation, directory: PrivateDirectory, since: int, home: OverlayTrace, notify: Notify
    ) -> Exposure:
        """What another process has made and left in the directory, to be finished here.

        Of the preparation's files only the auth.json is asked for, as it was written.
        """
        exposure = cls(preparation, directory, since, notify)
        exposure._overlay = Overlay.resume(os.path.join(directory.path, COMPOSER), preparation.home, home)
        exposure._watch_minted()
        exposure._seen = os.path.join(directory.path, _GIT, git.SEEN_FILE)
        return exposure

    @property
    def home_trace(self) -> OverlayTrace:
        """What `resume` is to be told of the Composer home."""
        assert self._overlay
        return self._overlay.trace

    def get_matcher(self) -> Matcher:
        """The needles of every value that the build could see, derived once."""
        from ..masking.matcher import Matcher
        from ..masking.needles import derive_all

        with self._lock:
            if self._matcher is None:
                self._matcher = Matcher(derive_all(list_exposed(self.preparation.secrets)))
            return self._matcher

    def hide_values(self, name: str) -> str:
        """A name that the build chose, with the values in it masked."""
        from ..masking.masker import mask_text

        return mask_text(name, self.get_matcher())

    def make_masker(self) -> LiveMasker:
        """A masker for one stream of the build."""
        masker = LiveMasker(self.get_matcher, self.minted)
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
            for name in self._overlay.carry_back(self._is_clean) if self._overlay else ():
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

    def _fill(self) -> None:
        if self._has_home:
            self._overlay = self._make_home()
        self._write_more()
        self._watch_minted()
        self.environment = {
            **self.preparation.environment,
            **{name: os.path.join(self.directory.path, path) for name, path in self.preparation.paths.items()},
            **self._expose_git(),
        }

    @property
    def _has_home(self) -> bool:
        """Whether Composer gets a home of its own; an application does without, and Composer there uses the user's."""
        return _AUTH in self.preparation.files

    def _watch_minted(self) -> None:
        path = os.path.join(self.directory.path, _AUTH)
        self.minted = MintedTokens(path, self.preparation.files[_AUTH] if self._has_home else b"{}")

    def _make_home(self) -> Overlay:
        """The private Composer home, with the files that were rendered for it."""
        prefix = f"{COMPOSER}/"
        files = self.preparation.files
        own = {path.removeprefix(prefix): data for path, data in files.items() if path.startswith(prefix)}
        overlay = Overlay(self.directory.subdirectory(COMPOSER), self.preparation.home, own)
        overlay.make(self.directory.write)
        return overlay

    def _write_more(self) -> None:
        """What was rendered beside the Composer home."""
        made = {COMPOSER}
        for path, data in self.preparation.files.items():
            parts = path.split("/")[:-1]
            if parts[:1] == [COMPOSER]:
                continue
            for depth in range(1, len(parts) + 1):
                directory = "/".join(parts[:depth])
                if directory not in made:
                    self.directory.subdirectory(directory)
                    made.add(directory)
            self.directory.write(os.path.join(self.directory.path, path), data)

    def _is_clean(self, path: str) -> bool:
        """Whether no value lies in what the build made, so that it may leave the private directory."""
        from ..leaks.search import search
        from ..leaks.walk import Place
        from ..masking.matcher import Matcher
        from ..masking.needles import for_search

        needles = for_search((*self.get_matcher().needles, *self.minted.needles))
        result = search([Place(path)], Matcher(needles))
        return not result.findings

    def _expose_git(self) -> dict[str, str]:
        """Hand git its logins by a helper; the variables that say so, none where it has none."""
        preparation = self.preparation
        if not preparation.git or not (preparation.logins or preparation.minting_hosts):
            return {}
        place = self.directory.subdirectory(_GIT)
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

    _overlay: Overlay | None = None
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
    exposure = Exposure.make(preparation, watchdog, notify)
    owner = os.getpid()
    try:
        yield exposure
    finally:
        if os.getpid() == owner:  # a child that was forked in the block and leaves it has nothing to end
            exposure.finish()
