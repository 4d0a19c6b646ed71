"""What a build can see while it runs: the private directory, filled, and the environment that names it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from ..composer.home import AUTH_FILE, Overlay, OverlayTrace
from ..composer.minted import LiveMasker, MintedTokens, Source
from ..core.clocks import Since
from ..core.files import read_regular
from ..core.notices import Notice, Notify
from ..errors import ScrubIncompleteError
from ..git import helper as git
from ..masking.needles import Exposed, Needle, derive_all, derive_needles
from ..masking.parts import split_value
from ..process.directory import PrivateDirectory, choose_parent
from ..process.neighbours import Neighbour, announce, find_neighbours
from ..process.watchdog import Watchdog
from .prepare import PreparedBuild
from .render import COMPOSER

if TYPE_CHECKING:
    from ..broker import Order, Report, StartingBroker
    from ..process.child import Launch
    from .isolating import Enclosure

_LARGEST = 1 << 20
_GIT = "git"
# What the password of the broker is called where it was masked.
_BROKER = "the broker's password"
_LOGIN = "a login in the project"


class Broker(Protocol):
    """The broker of a build that is exposed, whichever process started it."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def finish(self) -> Report:
        """End it, wait until it is gone, and return what it did. Raises nothing."""


class Exposure:
    """One build's, from its first file to the scrub.

    `since` is when it began. `outputs` are files elsewhere that were given values on purpose. After the scrub,
    `scrubbed` are the paths that were written, `hosts_seen` the hosts whose login was in git's arguments,
    `neighbours` the builds that ran at the same time, `report` is what the broker did, and `failure` is set where
    something could not be removed.
    """

    def __init__(
        self,
        prepared: PreparedBuild,
        directory: PrivateDirectory,
        since: Since,
        notify: Notify,
        broker: Broker | None = None,
    ) -> None:
        """Nothing is in the directory yet, or another process has filled it (`make`, `resume`)."""
        self.prepared = prepared
        self.directory = directory
        self.since = since
        self.outputs: tuple[str, ...] = ()
        self.environment: Mapping[str, str] = {}
        self.scrubbed: tuple[str, ...] = ()
        self.hosts_seen: tuple[str, ...] = ()
        self.neighbours: tuple[Neighbour, ...] = ()
        self.failure: ScrubIncompleteError | None = None
        self.broker = broker
        self.report: Report | None = None
        self._enclosure: Enclosure | None = None
        self.minted = MintedTokens(os.path.join(directory.path, COMPOSER, AUTH_FILE), prepared.auth)
        # They stand in the project's own files: masked, but not searched for.
        logins = (Exposed(_LOGIN, parts) for parts in prepared.project.logins)
        self._own_needles: tuple[Needle, ...] = derive_all(logins)
        self._sources: list[Source] = [self.minted]
        self._notify = notify
        self._maskers: list[LiveMasker] = []
        self._overlay: Overlay | None = None
        self._seen = os.path.join(directory.path, _GIT, git.SEEN_FILE)

    @classmethod
    def make(
        cls,
        prepared: PreparedBuild,
        watchdog: Watchdog,
        notify: Notify,
        broker: StartingBroker | None = None,
        *,
        is_handed_on: bool = False,
    ) -> Exposure:
        """Make the private directory and fill it; BuildError, and then nothing of it is left.

        `broker` is started already where the build is to have one, and gets its order here. Where the build
        `is_handed_on`, whoever has the directory can ask it for its report.
        """
        request = prepared.request
        projects = [request.directory, prepared.project.directory]
        parent = choose_parent(request.environment, projects, request.run_dir)
        variables = (request.environment.get(name) for name in ("HOME", "TMPDIR"))
        since = Since.now([*projects, parent, *prepared.project.trees, *prepared.caches, *filter(None, variables)])
        directory = PrivateDirectory.make(parent, watchdog)
        with contextlib.ExitStack() as undoing:
            undoing.callback(directory.scrub)
            if not directory.in_memory:
                notify(
                    Notice(
                        f"{parent} is not a tmpfs: while the build runs, the secrets are on a disk",
                        "name a directory on a tmpfs with --run-dir",
                    )
                )
            exposure = cls(prepared, directory, since, notify)
            undoing.callback(exposure._end_enclosure)
            exposure._fill()
            if broker and prepared.order:
                exposure._lead_to(broker, prepared.order, watchdog, is_handed_on=is_handed_on)
            announce(exposure.neighbour, request.environment, request.run_dir)
            undoing.pop_all()
        return exposure

    @classmethod
    def resume(
        cls,
        prepared: PreparedBuild,
        directory: PrivateDirectory,
        since: Since,
        home: OverlayTrace,
        notify: Notify,
        broker: Broker | None = None,
    ) -> Exposure:
        """Return what another process has made and left in the directory, to be finished here."""
        exposure = cls(prepared, directory, since, notify, broker)
        exposure._overlay = Overlay.resume(os.path.join(directory.path, COMPOSER), prepared.home, home)
        return exposure

    @property
    def home_trace(self) -> OverlayTrace:
        """What `resume` needs to know of the Composer home."""
        assert self._overlay
        return self._overlay.trace

    @property
    def neighbour(self) -> Neighbour:
        """What this build is to those that run at the same time."""
        prepared = self.prepared
        request, home = prepared.request, prepared.home
        temporary = request.environment.get("TMPDIR") or "/tmp"  # noqa: S108
        shared = [home.path, home.data, *prepared.caches, os.path.dirname(self.directory.path), temporary, "/var/tmp"]  # noqa: S108
        shared += [request.environment["HOME"]] if request.environment.get("HOME") else []
        projects = [request.directory, prepared.project.directory]
        return Neighbour(self.directory.path, _resolve(projects), _resolve(shared))

    def make_launch(self) -> Launch | None:
        """Return how the build is started; None where it is our own child."""
        return self._enclosure.make_launch() if self._enclosure else None

    def make_masker(self) -> LiveMasker:
        """Make a masker for one stream of the build."""
        masker = LiveMasker(self.prepared.secrets.get_matcher, self._sources, self._own_needles)
        self._maskers.append(masker)
        return masker

    def hide_values(self, text: str) -> str:
        """Mask in a text what is masked in the output."""
        masker = self.make_masker()
        data = os.fsencode(text)
        return os.fsdecode(masker.feed(data) + masker.close())

    @property
    def masked(self) -> dict[str, int]:
        """How often each secret was masked in the output."""
        counts: dict[str, int] = {}
        for masker in self._maskers:
            for name, count in masker.masked.items():
                counts[name] = counts.get(name, 0) + count
        return counts

    def scrub(self) -> None:
        """Remove the secrets, carry back what the build added to the Composer home, remove the rest.

        Safe to call twice. A failure is kept in `failure` rather than raised: the output of the build is still on its
        way.
        """
        if self.directory.is_scrubbed:
            return
        for source in self._sources:  # the last of the output is still to be masked
            source.refresh()
        if self.broker:
            self.report = self.broker.finish()
        try:
            self.hosts_seen = self._read_seen()
            self.neighbours = find_neighbours(self.directory.path)
            self.directory.remove_secrets()
            self._end_enclosure()
            for name in self._overlay.carry_back(self._find_unfit) if self._overlay else ():
                self._notify(
                    Notice(
                        f"{self.prepared.secrets.hide_values(name)}, which the build made in the Composer home, was "
                        "not carried back, and is gone",
                        "it contains a value, could not be searched for one, or something of that name is there",
                    )
                )
        finally:
            try:
                self.scrubbed = tuple(self.directory.scrub())
            except ScrubIncompleteError as error:
                self.failure = error

    def _end_enclosure(self) -> None:
        """End the isolation."""
        try:
            if self._enclosure:
                self._enclosure.end()
        except ScrubIncompleteError as error:
            self.failure = error

    def _fill(self) -> None:
        prepared, root = self.prepared, self.directory.path
        if prepared.home_files:  # an application gets no Composer home; Composer there uses the user's
            files = {name: json.dumps(document, indent=4).encode() for name, document in prepared.home_files.items()}
            self._overlay = Overlay(self.directory.subdirectory(COMPOSER), prepared.home, files)
            self._overlay.make(self.directory.write)
        self._write_files(prepared.files)
        self.environment = {
            **prepared.environment,
            **{name: os.path.join(root, path) for name, path in prepared.paths.items()},
            **self._expose_git(),
        }

    def _lead_to(self, broker: StartingBroker, order: Order, watchdog: Watchdog, *, is_handed_on: bool) -> None:
        """Give the broker its order, and lead the build to it."""
        from .brokering import give_order, lead_build

        root = self.directory.path
        isolation = self.prepared.isolation
        self.broker = running = give_order(
            broker,
            order,
            self.directory,
            is_handed_on=is_handed_on,
            has_network=bool(isolation and isolation.has_network),
        )
        lead = lead_build(order, running, root, self.environment)
        self._write_files(lead.files)
        self.environment = lead.apply(self.environment)
        self._own_needles += derive_needles(_BROKER, split_value(order.password))
        self._sources.append(broker.listen())
        if isolation:
            from .isolating import Enclosure

            self._enclosure = Enclosure(
                self.prepared, running, self.directory, self.environment, watchdog, self._notify
            )
            self.environment = self._enclosure.environment

    def _write_files(self, files: Mapping[str, bytes]) -> None:
        """Write what was rendered beside the Composer home."""
        parts = [path.split("/")[:-1] for path in files]
        directories = {"/".join(each[: depth + 1]) for each in parts for depth in range(len(each))}
        for directory in sorted(directories):  # a parent before what it contains
            self.directory.subdirectory(directory)
        for path, data in files.items():
            self.directory.write(os.path.join(self.directory.path, path), data)

    def _find_unfit(self, path: str) -> frozenset[str]:
        """Return what must not leave the private directory of a file or tree that the build made.

        That is all of it if a value is in it, else what could not be searched.
        """
        from ..leaks.reader import Inside
        from ..leaks.search import search
        from ..leaks.walk import Place
        from ..masking.matcher import Matcher
        from ..masking.needles import for_search

        needles = for_search((*self.prepared.secrets.needles, *self.minted.needles))
        result = search([Place(path, required=True)], Matcher(needles), inside=Inside())
        unfit = {place if os.path.lexists(place) else place.partition("!")[0] for place, _ in result.unsearched}
        is_whole = result.findings or not all(map(os.path.lexists, unfit))
        return frozenset({path} if is_whole else unfit)

    def _expose_git(self) -> dict[str, str]:
        """Give git its logins by a helper; return the variables that name it, none where git needs no login."""
        prepared = self.prepared
        if not prepared.git or not prepared.logins.all_hosts:
            return {}
        place = self.directory.subdirectory(_GIT)
        for name, data in git.render_files(prepared.logins, place, prepared.git).items():
            self.directory.write(os.path.join(place, name), data, 0o700 if name == git.SHIM_FILE else 0o600)
        path = prepared.environment.get("PATH", os.defpath)
        if os.statvfs(place).f_flag & os.ST_NOEXEC:  # the real git is found behind ours
            self._notify(
                Notice(
                    f"no program can be executed in {self.directory.path}: where a server refuses git's credential, "
                    "Composer puts it into git's arguments, and nothing takes it out",
                    "name a tmpfs without noexec with --run-dir",
                )
            )
        return {
            **git.add_configuration(prepared.environment, os.path.join(place, git.CONFIG_FILE)),
            "PATH": f"{place}{os.pathsep}{path}",
        }

    def _read_seen(self) -> tuple[str, ...]:
        """Read the hosts whose login was in git's arguments."""
        secrets = self.prepared.secrets
        known = {*secrets.hosts, *self.prepared.logins.all_hosts}
        data = b""
        with contextlib.suppress(OSError):
            data = read_regular(self._seen, _LARGEST) or b""
        return tuple(sorted(known & set(data.decode(errors="replace").splitlines())))


def _resolve(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(os.path.realpath, paths)))


@contextlib.contextmanager
def expose(
    prepared: PreparedBuild, watchdog: Watchdog, notify: Notify, broker: StartingBroker | None = None
) -> Iterator[Exposure]:
    """Make the private directory; inside, the build can run; afterwards nothing of it is left."""
    exposure = Exposure.make(prepared, watchdog, notify, broker)
    owner = os.getpid()
    try:
        yield exposure
    finally:
        if os.getpid() == owner:  # a child that was forked in the block and leaves it has nothing to end
            exposure.scrub()
