"""What a build sees of the file system, decided before anything is exposed. Nothing is written.

A build sees the system read-only, its project, and of everything else what it needs: a home is never shown as a whole.
What a checkout says about itself (its links, its `.git`, its composer.json) adds nothing that is not its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from ..composer.home import AUTH_FILE, ComposerHome, list_shared
from ..core.collector import Errors
from ..core.records import NamedTuple
from ..errors import IsolationError
from .checkout import show_checkout
from .hiding import expand, find_concealed, find_unreadable
from .outline import NEVER_WHOLE, Outline, Trace, is_seen, is_whole, is_within, trace
from .tools import show_tools

# What every program may need of the system, where it exists; also `/lib64` and its like.
_SYSTEM = ("/usr", "/etc", "/opt", "/nix", "/snap", "/bin", "/sbin")
# By these Composer knows that it is in a container, where it runs as root without a word of consent.
_CONTAINER = ("/.dockerenv", "/run/.containerenv")
# Where a system keeps what only root may read, beside programs.
_SETTINGS = ("/etc", "/usr/local/etc")
# A server that builds as another user, and with a network, for whoever connects: a read-only mount does not prevent it.
_SOCKETS = ("/nix/var/nix/daemon-socket",)
_PRIVATE = ("/tmp", "/var/tmp", "/dev/shm", "/run")  # noqa: S108 -- a build has these for itself
_COMPOSER = frozenset("composer.json composer.lock config.json vendor keys.dev.pub keys.tags.pub".split())
_WRITABLE = ":rw"


class View(NamedTuple):
    """What a build sees. All paths are absolute and real; each lies inside where it lies outside.

    `readable` and `writable` are files and directories; `protected` is within a writable one and yet read-only;
    `hidden` is within those, and nobody inside may read it: a later one of these lists wins. `links` are symbolic links
    to make, each with what is written in it. `home` is a home to make, empty and writable, `directory` where the build
    starts, as a shell calls it. `private` are directories that begin empty and are the build's own. Without mounts
    (Landlock) nothing of it can be made: then `links`, `home` and `private` are empty, and what is hidden is in none of
    the other lists; a protected directory is writable there.
    """

    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    home: str = ""
    directory: str = ""
    private: tuple[str, ...] = ()

    def shows(self, path: str) -> bool:
        """Return whether what is at the real path is seen inside."""
        return is_seen(path, (*self.readable, *self.writable), self.hidden, self.home)

    def lets_write(self, path: str) -> bool:
        """Return whether what a build writes to the real path is there afterwards."""
        return is_seen(path, self.writable, (*self.hidden, *self.protected), self.home)

    def add(
        self,
        *,
        readable: Iterable[str] = (),
        writable: Iterable[str] = (),
        protected: Iterable[str] = (),
        hidden: Iterable[str] = (),
    ) -> View:
        """Return the view with more in it."""
        return self._replace(
            readable=(*self.readable, *readable),
            writable=(*self.writable, *writable),
            protected=(*self.protected, *protected),
            hidden=(*self.hidden, *hidden),
        )


class Wish(NamedTuple):
    """What a build asks for.

    It starts in `directory`, as the person named it, and its Composer works in `project`. `program` is the path of what
    it runs, `environment` its own. `composer` is the person's Composer home, of which the files named `own` are
    replaced. `step_files` are those that the step of a CI job writes to; of `steering_files` a build may read what
    they say, and a write to them fails aloud. `allowed_paths` are `PATH` or `PATH:rw`;
    `concealed` are our own files and directories, existing or not. `mode` is `bubblewrap` or `landlock`.
    """

    directory: str
    project: str
    program: str
    environment: Mapping[str, str]
    composer: ComposerHome
    own: tuple[str, ...] = ()
    step_files: tuple[str, ...] = ()
    steering_files: tuple[str, ...] = ()
    allowed_paths: tuple[str, ...] = ()
    concealed: tuple[str, ...] = ()
    mode: str = "bubblewrap"
    is_root: bool = False


class PathRule(NamedTuple):
    """A path that a person allows, and whether it may be written to."""

    path: str
    is_writable: bool


def parse_path_rule(text: str, project: str) -> PathRule:
    """Parse `PATH` or `PATH:rw`; a relative path is the project's; IsolationError where it names nothing."""
    path = text.removesuffix(_WRITABLE)
    if not path or "\0" in path:
        raise IsolationError(
            f"--allow-path {text!r} names no path", hint="--allow-path PATH, or PATH:rw to write there"
        )
    return PathRule(os.path.normpath(os.path.join(project, os.path.expanduser(path))), path != text)


def make_view(wish: Wish, errors: Errors) -> View:
    """Return what the build sees; IsolationError and other BuildErrors where it would not see what it needs."""
    name = wish.environment.get("PWD", "")  # what a shell calls the directory, perhaps by a link
    start = trace(os.path.abspath(wish.directory))
    if not name.startswith("/") or trace(name).real != start.real:
        name = os.path.abspath(wish.directory)
    project = trace(os.path.abspath(os.path.join(wish.directory, wish.project)))
    home = _find_home(wish.environment, project.real)
    ours = [*wish.concealed, os.path.join(wish.composer.path, AUTH_FILE)]
    outline = Outline(project.real, home, tuple(dict.fromkeys(map(os.path.realpath, ours))))
    outline.links |= dict(trace(wish.environment["HOME"]).links) if home else {}
    with errors:
        _check_project(project.real, home, outline.concealed)
    _show_system(outline)
    _show_directories(outline, start, project)
    outline.links |= dict(trace(name).links)
    for text in wish.allowed_paths:
        with errors:
            _allow(outline, parse_path_rule(text, project.real))
    with errors:
        show_checkout(outline)
    for path in (*_list_composer(wish, home), *wish.steering_files, *wish.step_files):
        _show_existing(outline, path, writable=path in wish.step_files)
    needed: Sequence[str] = ()
    with errors:
        needed = show_tools(outline, wish.program, wish.environment)
    view = _finish(outline, wish, start.real)
    view = view._replace(directory=name) if view.directory == start.real else view
    for path in needed:
        with errors:
            _check_tool(view, path)
    return view


def _find_home(environment: Mapping[str, str], project: str) -> str:
    """Return the real home, or "" if none is set or a job was given one in the project."""
    home = environment.get("HOME", "")
    real = trace(home).real if home.startswith("/") else "/"
    if real != project and is_within(real, project) and real != _find_account_home():
        return ""
    return "" if real == "/" else real


def _find_account_home() -> str:
    import pwd

    try:
        return os.path.realpath(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        return ""


def _check_project(project: str, home: str, concealed: Iterable[str]) -> None:
    if project in NEVER_WHOLE or (home and is_within(home, project)):
        raise IsolationError(
            f"{project} is more than a project: an isolated build would see all of it",
            hint="keep the project in a directory of its own below it, or name another HOME",
        )
    for path in concealed:
        if is_within(project, path):
            raise IsolationError(f"the project is in {path}, which no isolated build may see", hint="keep them apart")


def _show_system(outline: Outline) -> None:
    libraries = sorted(f"/{name}" for name in os.listdir("/") if name.startswith("lib"))
    for path in (*_SYSTEM, *libraries):
        if os.path.isdir(path):
            outline.show(path)
    for path in filter(os.path.isfile, _CONTAINER):
        outline.show(path)


def _show_directories(outline: Outline, start: Trace, project: Trace) -> None:
    """Show the project, and read-only the directory where the build starts, where that is another one."""
    outline.links |= {**dict(start.links), **dict(project.links)}
    outline.writable[project.real] = None
    if not outline.sees(start.real) and not is_whole(start.real, outline.home):
        outline.readable[start.real] = None


def _allow(outline: Outline, rule: PathRule) -> None:
    path = rule.path
    if not os.path.exists(path):
        bare, _, ending = path.rpartition(":")
        hint = "mend its spelling, or make it before the build"
        if os.path.exists(bare):
            hint = f"after a path there is :rw or nothing, not :{ending}"
        raise IsolationError(f"--allow-path {path} does not exist", hint=hint)
    real = outline.follow(path).real
    if is_whole(real, outline.home) or is_within(real, "/proc"):
        raise IsolationError(
            f"--allow-path {path} would show a whole home, or what a build has for itself",
            hint="name what the build needs in it",
        )
    outline.show(path, writable=rule.is_writable)


def _show_existing(outline: Outline, path: str, *, writable: bool) -> None:
    """Show a file or directory that the build can do without, if it is there and fit to be shown."""
    exists = os.path.isfile(path) if writable else os.path.exists(path)
    if exists and os.path.isabs(path) and outline.is_fit(path):
        outline.show(path, writable=writable)


def _list_composer(wish: Wish, home: str) -> list[str]:
    """Return what is shown of the person's Composer home: never the directory, nor copies of its credentials.

    Where that is also something else, such as the home itself, it is only what Composer knows.
    """
    shared = list_shared(wish.composer, wish.own)
    names = [name for name in shared if not name.startswith(AUTH_FILE)]
    if is_whole(os.path.realpath(wish.composer.path), home):
        names = [name for name in names if name in _COMPOSER]
    return [shared[name] for name in names]


def _check_tool(view: View, path: str) -> None:
    if not view.shows(path):
        raise IsolationError(
            f"{path}, which PATH finds first, would not be seen by the isolated build",
            hint=f"--allow-path {os.path.dirname(path)}",
        )


def _finish(outline: Outline, wish: Wish, start: str) -> View:
    """Return the view, with what is hidden in it."""
    shown = [*outline.readable, *outline.writable]
    if start not in {"/", *_PRIVATE} and not any(is_within(path, start) for path in (*shown, outline.home)):
        start = start if outline.sees(start) else outline.project
    unreadable = find_unreadable(_SETTINGS) if wish.is_root else []
    hidden = [piece for path in unreadable for piece in expand(path, shown)]
    hidden += filter(os.path.isdir, _SOCKETS)
    hidden += find_concealed(outline.concealed, outline.sees, shown)
    hidden = list(dict.fromkeys(hidden))
    if wish.mode == "landlock":
        return _finish_without_mounts(outline, hidden, start)
    links = [(path, target) for path, target in outline.links.items() if not outline.sees(os.path.dirname(path))]
    return View(
        readable=tuple(outline.readable),
        writable=tuple(outline.writable),
        protected=tuple(outline.protected),
        hidden=tuple(hidden),
        links=tuple(links),
        home=outline.home,
        directory=start,
        private=_PRIVATE,
    )


def _finish_without_mounts(outline: Outline, hidden: Sequence[str], start: str) -> View:
    """Return the view where nothing can be laid over anything: what is hidden is left out of what is shown."""
    for path in hidden:
        if outline.writes(path):
            raise IsolationError(
                f"{path} is where the build may write, and cannot be hidden there without namespaces",
                hint="keep it elsewhere, or use --isolate=bubblewrap",
            )
    apart = [*hidden, *([outline.home] if outline.home else [])]
    return View(
        readable=tuple(dict.fromkeys(path for each in outline.readable for path in expand(each, apart))),
        writable=tuple(outline.writable),
        protected=tuple(outline.protected),
        hidden=tuple(hidden),
        directory=start,
    )
