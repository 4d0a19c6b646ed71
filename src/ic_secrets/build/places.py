"""The places that a build may have written to, and what each of them is."""

import contextlib
import os
from collections.abc import Iterator

from ..ci.platforms import find_written
from ..composer.project import Project, identify
from ..git.checkout import find_repository
from ..leaks.walk import Place
from .expose import Exposure

# Trees that are not the build's alone are walked this far, in entries.
_MOST_ENTRIES = 100_000
# A checkout may name any directory as one of its own.
_MOST_NAMED_ENTRIES = 50_000
# What begins with a dot in a home may be an interpreter or a browser: of each such tree so many; the receipt names it.
_MOST_HOME_ENTRIES = 5_000


def list_places(exposure: Exposure) -> list[Place]:
    """Return the places to search, those of the project first: of what is in several, the first one counts."""
    prepared = exposure.prepared
    home, environment = prepared.home, prepared.request.environment
    places = list(_list_project_places(exposure))
    places += [Place(path) for path in (home.path, home.data)]
    # A project may name any directory as its cache.
    places += [Place(path, most=_MOST_ENTRIES, own=True) for path in prepared.caches]
    user = environment.get("HOME")
    if user:
        # What builds write there begins with a dot; the rest is the person's own.
        with contextlib.suppress(OSError):
            hidden = sorted(name for name in os.listdir(user) if name.startswith("."))
            places += [Place(os.path.join(user, name), most=_MOST_HOME_ENTRIES, own=True) for name in hidden]
    return [*places, *(Place(path, most=_MOST_ENTRIES, own=True) for path in _list_temporary(exposure))]


class PlaceNames:
    """What the places of a build are called in its receipt.

    Who wrote a file is not known. That it is one of those that Composer writes itself (`composer-files`), or in
    Composer's cache or home, tells most of what Composer did from what a script did, which usually writes elsewhere.
    """

    def __init__(self, exposure: Exposure) -> None:
        prepared = exposure.prepared
        request, project, home = prepared.request, prepared.project, prepared.home
        environment, directory = request.environment, project.directory
        moved = find_new_name(project) or directory
        vendor = environment.get("COMPOSER_VENDOR_DIR") or project.config.get("vendor-dir") or "vendor"
        places = {
            "temporary": _list_temporary(exposure),
            "home": [environment.get("HOME", "")],
            "composer-home": [home.path, home.data],
            "composer-cache": prepared.caches,
            "job": find_written(environment).values(),
            "project": [
                find_repository(os.path.abspath(directory)),
                *project.trees,
                request.directory,
                directory,
                moved,
            ],
        }
        self._names = {
            os.path.realpath(os.path.join(request.directory, path)): name
            for name, paths in places.items()
            for path in filter(None, paths)
        }
        self._composer = {os.path.realpath(os.path.join(each, str(vendor), "composer")) for each in (directory, moved)}
        self._lock = f"{os.path.basename(project.manifest_file).removesuffix('.json')}.lock"

    def find(self, path: str) -> str:
        """Return the name of the innermost place that the path is in; `elsewhere` if only a link led there."""
        path = os.path.realpath(path)
        directory, base = os.path.split(path)
        place = path
        while place not in self._names:
            if place == os.path.dirname(place):
                return "elsewhere"
            place = os.path.dirname(place)
        name = self._names[place]
        if name == "project" and (directory in self._composer or (directory == place and base == self._lock)):
            return "composer-files"
        return name


def find_moved(exposure: Exposure) -> list[tuple[str, str]]:
    """Return the project's directory, and why it is not searched, if nothing says where it is now."""
    project = exposure.prepared.project
    is_known = not project.identity or identify(project.directory) == project.identity or find_new_name(project)
    return [] if is_known else [(project.directory, "it was moved or removed while the build ran")]


def find_new_name(project: Project) -> str | None:
    """Return what the directory of the project is called now, in the directory it was in; None if it is not there."""
    if not project.identity or identify(project.directory) == project.identity:
        return None
    parent = os.path.dirname(os.path.abspath(project.directory))
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.inode() == project.identity[1] and identify(entry.path) == project.identity:
                return entry.path
    return None


def _list_temporary(exposure: Exposure) -> list[str]:
    """Return the directories for temporary files, and the one that the private directory was in."""
    temporary = exposure.prepared.request.environment.get("TMPDIR") or "/tmp"  # noqa: S108
    return list(dict.fromkeys([os.path.dirname(exposure.directory.path), temporary, "/var/tmp"]))  # noqa: S108


def _list_project_places(exposure: Exposure) -> Iterator[Place]:
    """Yield what belongs to the project and to the CI job, wherever it is."""
    request, project = exposure.prepared.request, exposure.prepared.project
    moved = find_new_name(project) or project.directory
    for path in dict.fromkeys([request.directory, project.directory, moved]):
        yield Place(path, follow=True)
    others = [*project.trees, *find_written(request.environment).values()]
    with contextlib.suppress(OSError):
        # Of a project in a larger working tree, or in a second one, git's directory is elsewhere.
        others.append(find_repository(os.path.abspath(project.directory)) or "")
    for path in filter(None, others):
        yield Place(os.path.join(request.directory, path), most=_MOST_NAMED_ENTRIES, own=True, follow=True)
