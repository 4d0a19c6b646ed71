"""A Composer home for one build: the user's own, seen through links, with an auth.json of its own.

Setting COMPOSER_HOME moves more than auth.json: config.json, the global plugins, the keys and the cache would be gone.
So every entry of the real home is linked into the private one, with a `cache` link to the real cache (which keeps the
precedence of `cache-dir`, as COMPOSER_CACHE_DIR would not), and what a build creates there is carried back afterwards.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Collection, Mapping

from ..core.files import read_regular
from ..core.records import NamedTuple
from ..errors import MalformedAuthError
from .auth_json import parse_document
from .trees import expand_path

AUTH_FILE = "auth.json"
CONFIG_FILE = "config.json"
_KEYS = ("keys.dev.pub", "keys.tags.pub")
_HOME = "{$home}"
_LARGEST = 8 << 20


class ComposerHome(NamedTuple):
    """The directories of the user's own Composer, as its `Factory` finds them.

    `cache` is the one that the person chose, if any: by a variable, or by the `cache-dir` of their own config.json.
    """

    path: str
    cache: str
    data: str

    @classmethod
    def find(cls, environment: Mapping[str, str]) -> "ComposerHome":
        """Find the directories that Composer would use with that environment; none need exist."""
        explicit, home = environment.get("COMPOSER_HOME"), _find_composer_home(environment)
        return cls(
            path=os.path.abspath(home),
            cache=os.path.abspath(_find_cache(environment, home)),
            data=os.path.abspath(explicit or _find_data(environment, home)),
        )


class OverlayTrace(NamedTuple):
    """What was put into a private home: the names of its files and links, and the directories made outside for it."""

    own: tuple[str, ...]
    links: tuple[str, ...]
    directories: tuple[str, ...]


class Overlay:
    """The private home of one build, in `path`: links to the real one, and files of its own.

    `own` are these files by name: they replace the user's and are never carried back.
    """

    def __init__(self, path: str, home: ComposerHome, own: Mapping[str, bytes]) -> None:
        self.path = path
        self.home = home
        self._own = dict(own)
        self._links: set[str] = set()
        self._made: list[str] = []

    @classmethod
    def resume(cls, path: str, home: ComposerHome, made: OverlayTrace) -> "Overlay":
        """Return the home that another process made, to carry back what was added to it since."""
        overlay = cls(path, home, dict.fromkeys(made.own, b""))
        overlay._links = set(made.links)
        overlay._made = list(made.directories)
        return overlay

    @property
    def trace(self) -> OverlayTrace:
        """What `resume` needs."""
        return OverlayTrace(tuple(self._own), tuple(sorted(self._links)), tuple(self._made))

    def make(self, write: Callable[[str, bytes], None]) -> None:
        """Fill the empty directory; `write` makes a private file; OSError."""
        for name, data in self._own.items():
            write(os.path.join(self.path, name), data)
        # Where that fails, Composer goes on without a cache through the dangling link, as it would have.
        with contextlib.suppress(OSError):
            self._make_cache(self.home.cache)
        for name, path in list_shared(self.home, self._own).items():
            self._link(path, name)
        self._link(self.home.cache, "cache")

    def carry_back(self, find_unfit: Callable[[str], Collection[str]]) -> tuple[str, ...]:
        """Move what the build created into the real home; return the names of what was not moved, and is lost.

        A file that the build put in the place of a link, as an atomic write does, replaces the real file. auth.json
        never leaves, nor what is unfit, since it contains a value or might: `find_unfit` returns the paths of that in a
        file or tree. What appeared in the real home in the meantime is never overwritten.
        """
        left = []
        for name in _list(self.path):
            if name in self._own or name == AUTH_FILE:
                continue
            source = os.path.join(self.path, name)
            if name in self._links and os.path.islink(source):
                continue
            try:
                unfit = find_unfit(source)
                left += [os.path.relpath(path, self.path) for path in unfit]
                if source not in unfit:
                    self._move(source, name, unfit)
            except OSError:  # which shutil.Error is, too
                left.append(name)
        for directory in reversed(self._made):
            with contextlib.suppress(OSError):
                os.rmdir(directory)  # if the build did not use it
        return tuple(left)

    def _make_cache(self, path: str) -> None:
        if not os.path.isdir(path):
            self._make_cache(os.path.dirname(path))
            os.mkdir(path)
            self._made.append(path)

    def _link(self, source: str, name: str) -> None:
        os.symlink(source, os.path.join(self.path, name))
        self._links.add(name)

    def _move(self, source: str, name: str, unfit: Collection[str]) -> None:
        import shutil

        if name == "cache":  # the build replaced the link: a cache can be lost
            return
        os.makedirs(self.home.path, exist_ok=True)
        destination = os.path.join(self.home.path, name)
        if name not in self._links and os.path.lexists(destination):
            raise FileExistsError(name)
        partial = os.path.join(self.home.path, f".{name}.{os.urandom(6).hex()}.partial")
        try:
            if os.path.isdir(source) and not os.path.islink(source):
                shutil.copytree(source, partial, symlinks=True, ignore=lambda path, names: _select(unfit, path, names))
            else:
                shutil.copy2(source, partial, follow_symlinks=False)
            os.replace(partial, destination)
        finally:
            if os.path.lexists(partial):
                _discard(partial)


def list_shared(home: ComposerHome, own: Collection[str]) -> dict[str, str]:
    """Return what a private home with its `own` files takes from the real one: the paths by name."""
    names = [name for name in _list(home.path) if name not in {*own, AUTH_FILE, "cache"}]
    shared = {name: os.path.join(home.path, name) for name in names}
    for name in _KEYS:
        if name not in shared and os.path.exists(os.path.join(home.data, name)):
            shared[name] = os.path.join(home.data, name)
    return shared


def expand_setting(path: str, environment: Mapping[str, str], home: str = "") -> str:
    """Return the path that a setting of Composer has, with Composer's home, the user's and variables replaced."""
    if _HOME in path:
        path = path.replace(_HOME, home or _find_composer_home(environment))
    return expand_path(path, environment)


def _read_cache(home: str) -> str:
    """Return the `cache-dir` of the person's config.json; "" where it names none, or cannot be read."""
    place = os.path.join(home, CONFIG_FILE)
    with contextlib.suppress(OSError, UnicodeDecodeError, MalformedAuthError):
        section = parse_document((read_regular(place, _LARGEST) or b"{}").decode(), place).get("config")
        named = section.get("cache-dir") if isinstance(section, dict) else None
        return named if isinstance(named, str) else ""
    return ""


def _select(paths: Collection[str], directory: str, names: Collection[str]) -> list[str]:
    return [name for name in names if os.path.join(directory, name) in paths]


def _find_composer_home(environment: Mapping[str, str]) -> str:
    return environment.get("COMPOSER_HOME") or _find_home(environment)


def _find_home(environment: Mapping[str, str]) -> str:
    user = _user_directory(environment)
    places = [os.path.join(user, ".composer")]
    if _uses_xdg(environment):
        places.insert(0, os.path.join(environment.get("XDG_CONFIG_HOME") or os.path.join(user, ".config"), "composer"))
    return next((place for place in places if os.path.isdir(place)), places[0])


def _find_cache(environment: Mapping[str, str], home: str) -> str:
    named = environment.get("COMPOSER_CACHE_DIR") or _read_cache(home)
    if named:
        return expand_setting(named, environment, home)
    if environment.get("COMPOSER_HOME"):
        return os.path.join(home, "cache")
    user = _user_directory(environment)
    if sys.platform == "darwin":
        return os.path.join(user, "Library", "Caches", "composer")
    legacy = os.path.join(home, "cache")
    if home == os.path.join(user, ".composer") and os.path.isdir(legacy):
        return legacy
    if _uses_xdg(environment):
        return os.path.join(environment.get("XDG_CACHE_HOME") or os.path.join(user, ".cache"), "composer")
    return legacy


def _find_data(environment: Mapping[str, str], home: str) -> str:
    user = _user_directory(environment)
    if home != os.path.join(user, ".composer") and _uses_xdg(environment):
        return os.path.join(environment.get("XDG_DATA_HOME") or os.path.join(user, ".local", "share"), "composer")
    return home


def _user_directory(environment: Mapping[str, str]) -> str:
    return environment.get("HOME") or os.path.expanduser("~")


def _uses_xdg(environment: Mapping[str, str]) -> bool:
    return any(name.startswith("XDG_") for name in environment) or os.path.isdir("/etc/xdg")


def _list(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _discard(path: str) -> None:
    import shutil

    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        os.unlink(path)
