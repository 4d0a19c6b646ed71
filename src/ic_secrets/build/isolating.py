"""Isolate a build: what it sees of the files, which hosts it reaches, and how it is started in there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..broker.reach import plan_listeners, render_hosts
from ..ci.platforms import list_steering_files, list_step_files
from ..core.files import read_regular
from ..core.notices import Notice
from ..core.records import NamedTuple
from ..isolation.cache import ScratchCache
from ..isolation.probe import LANDLOCK, choose
from ..isolation.surroundings import adapt_environment, check_arguments, check_outside, furnish_home
from ..isolation.view import View, Wish, make_view

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence

    from ..broker import Running
    from ..core.collector import Errors
    from ..core.notices import Notify
    from ..isolation.probe import Ability
    from ..isolation.safeguard import Safeguard
    from ..process.child import Launch
    from ..process.directory import PrivateDirectory
    from ..process.watchdog import Watchdog
    from .prepare import PreparedBuild

_HOSTS = "/etc/hosts"
_LARGEST = 1 << 20
# The parts of the private directory that programs of the build write to.
_WRITTEN = ("git",)
_HOME, _TEMPORARY = "home", "tmp"
_LOCAL = frozenset({"127.0.0.1", "localhost"})


class Isolation(NamedTuple):
    """How a build is isolated: by what, and the files that it sees.

    The view is without the private directory and the cache, which are made later. `git` are the settings that git reads
    outside.
    """

    ability: Ability
    view: View
    git: Sequence[tuple[str, str]] = ()

    @property
    def has_network(self) -> bool:
        """Whether the build has a network of its own."""
        return self.ability.mode != LANDLOCK


def arrange_isolation(
    prepared: PreparedBuild, git: Sequence[tuple[str, str]], notify: Notify, errors: Errors
) -> PreparedBuild:
    """Return the build with its isolation; IsolationError where it would not see what it needs.

    `git` are the settings that git reads outside, the strongest last.
    """
    request = prepared.request
    choice = None
    with errors:
        choice = choose(request.isolate, prepared.outside)
    if choice is None:
        return prepared
    if choice.notice:
        notify(choice.notice)
    view = make_view(_make_wish(prepared, choice.ability.mode), errors)
    with errors:
        missing = check_outside(request.command, prepared.project, view, prepared.environment)
        if missing:
            notify(Notice(*missing))
    with errors:
        missing = check_arguments(request.command, view, request.directory)
        if missing:
            notify(Notice(*missing))
    return prepared._replace(isolation=Isolation(choice.ability, view, git))


def _make_wish(prepared: PreparedBuild, mode: str) -> Wish:
    request = prepared.request
    return Wish(
        directory=request.directory,
        project=prepared.project.directory,
        program=prepared.program,
        environment=prepared.environment,
        composer=prepared.home,
        own=tuple(prepared.home_files),
        step_files=list_step_files(request.environment),
        steering_files=list_steering_files(request.environment),
        allowed_paths=request.allowed_paths,
        concealed=request.concealed,
        mode=mode,
        is_root=os.geteuid() == 0,
    )


class Enclosure:
    """The isolation of a build that is exposed. `environment` is the build's, `end` ends what was made for it."""

    def __init__(
        self,
        prepared: PreparedBuild,
        running: Running,
        directory: PrivateDirectory,
        environment: Mapping[str, str],
        watchdog: Watchdog,
        notify: Notify,
    ) -> None:
        """Make the cache of the build, which the watchdog guards as well."""
        assert prepared.isolation
        assert prepared.order
        assert prepared.order.reach
        self._ability = prepared.isolation.ability
        self._reach = prepared.order.reach
        self._running = running
        self._notify = notify
        self._safeguard: Safeguard | None = None
        request, project = prepared.request, prepared.project
        repository = os.path.join(project.directory, ".git")
        self._absent = "" if os.path.lexists(repository) else repository
        self._cache = ScratchCache.make(prepared.home.cache, project, environment, watchdog, notify, request.command)
        written = [os.path.join(directory.path, name) for name in _WRITTEN]
        self._view = prepared.isolation.view.add(
            readable=[directory.path, *self._cache.readable],
            writable=[*filter(os.path.isdir, written), *filter(None, [self._cache.path])],
            protected=self._cache.protected,
        )
        adapted = adapt_environment({**environment, **self._cache.variables}, self._view, prepared.isolation.git)
        self.environment = adapted
        if not prepared.isolation.has_network:
            self._do_without_mounts(directory)

    def _do_without_mounts(self, directory: PrivateDirectory) -> None:
        """Give the build a home and a place for temporary files: git dies of a home that it may not read."""
        from ..isolation.safeguard import Safeguard

        self._safeguard = Safeguard(self._view.protected)
        made = {"HOME": directory.subdirectory(_HOME), "TMPDIR": directory.subdirectory(_TEMPORARY)}
        furnish_home(made["HOME"], self.environment.get("HOME", ""), self._view)
        self._view = self._view.add(writable=made.values())
        self.environment |= made
        for host, port in self._reach.carried:
            if host not in _LOCAL:
                text = f"{host}:{port} is not reached by an isolated build but through the proxy"
                self._notify(Notice(text, "what speaks no HTTP has to be on 127.0.0.1, without --isolate=bubblewrap"))

    def make_launch(self) -> Launch:
        """Return how the build is started."""
        if self._ability.mode == LANDLOCK:
            from ..isolation.landlock import Landlock

            local = [port for host, port in self._reach.carried if host in _LOCAL]
            return Landlock(self._view, [self._running.port, *local])
        from ..isolation.bubblewrap import Bubblewrap

        listeners = plan_listeners(self._reach)
        hosts = render_hosts(self._reach, read_regular(_HOSTS, _LARGEST) or b"")

        def deliver(sockets: list[socket.socket]) -> None:
            try:
                self._running.listen(listeners, sockets)
            finally:
                for each in sockets:
                    each.close()

        places = [(each.address, each.port) for each in listeners]
        return Bubblewrap(self._ability, self._view, hosts, places, deliver)

    def end(self) -> None:
        """Take back what may outlive the build from its cache, and remove that; look at what it left for git.

        ScrubIncompleteError.
        """
        if self._absent and os.path.lexists(self._absent):
            hint = "unless you meant it to, remove that before git runs in the project: its settings name programs"
            self._notify(Notice(f"the isolated build made {self._absent}", hint))
        for notice in self._safeguard.put_back() if self._safeguard else ():
            self._notify(notice)
        self._cache.take_back()
        self._cache.remove()
