"""The paths that a build will see, while they are gathered."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable

from ..core.records import NamedTuple
from ..errors import IsolationError

# So many links may lead to one path, as for the kernel.
_MOST_LINKS = 40
# Directories that a build has for itself, or that belong to all of a machine: seen in parts at most.
NEVER_WHOLE = frozenset(
    "/ /proc /sys /dev /dev/shm /run /run/user /tmp /var /var/tmp /var/lib /home /root /mnt /media".split()
)


class Trace(NamedTuple):
    """Where a path really leads, and the links on the way: the path of each, and what is written in it."""

    real: str
    links: tuple[tuple[str, str], ...]


def trace(path: str) -> Trace:
    """Follow an absolute path through its links; what does not exist counts as no link. OSError for a loop."""
    waiting = path.split("/")[::-1]
    place = ""
    links: dict[str, str] = {}
    while waiting:
        part = waiting.pop()
        if part in {"", "."}:
            continue
        if part == "..":
            place = os.path.dirname(place).rstrip("/")
            continue
        try:
            target = os.readlink(f"{place}/{part}")
        except OSError:
            place = f"{place}/{part}"
            continue
        if len(links) >= _MOST_LINKS:
            raise OSError(f"too many links lead to {path}")
        links[f"{place}/{part}"] = target
        place = "" if target.startswith("/") else place
        waiting += target.split("/")[::-1]
    return Trace(place or "/", tuple(links.items()))


def is_within(path: str, directory: str) -> bool:
    """Return whether the normal path is the directory or below it, by their names alone."""
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def is_seen(path: str, shown: Iterable[str], hidden: Iterable[str], home: str) -> bool:
    """Return whether the path is in what is shown, and not in what is hidden; a home is shown by parts alone."""
    if any(is_within(path, each) for each in hidden):
        return False
    in_home = bool(home) and is_within(path, home)
    return any(is_within(path, each) and not (in_home and is_within(home, each)) for each in shown)


def is_whole(path: str, home: str) -> bool:
    """Return whether to show the directory would be to show a whole home, or even more."""
    return path in NEVER_WHOLE or os.path.dirname(path) == "/home" or (bool(home) and is_within(home, path))


class Outline:
    """The paths that a build will see; `project` and `home` are real ones, `home` is "" without one."""

    def __init__(self, project: str, home: str, concealed: Collection[str]) -> None:
        self.project = project
        self.home = home
        self.concealed = concealed
        self.readable: dict[str, None] = {}
        self.writable: dict[str, None] = {}
        self.protected: dict[str, None] = {}
        self.links: dict[str, str] = {}

    def sees(self, path: str) -> bool:
        """Return whether the real path is seen so far."""
        return is_seen(path, (*self.readable, *self.writable), (), self.home)

    def writes(self, path: str) -> bool:
        """Return whether the real path is writable so far."""
        return is_seen(path, self.writable, (), self.home)

    def is_fit(self, path: str) -> bool:
        """Return whether the path may be shown though nobody named it: nothing of ours, nor through the checkout."""
        try:
            real = self.follow(path).real
        except IsolationError:
            return False
        return not is_whole(real, self.home) and not any(is_within(real, each) for each in self.concealed)

    def show(self, path: str, *, writable: bool = False) -> str:
        """Show what is at the absolute path, and the links that lead there; return the real path; IsolationError.

        A link in the project is the checkout's: it does not decide what else a build sees.
        """
        found = self.follow(path)
        for concealed in self.concealed:
            if is_within(found.real, concealed):
                raise IsolationError(
                    f"{path} is where keys or credentials are kept: no isolated build may see it",
                    hint="keep apart what a build needs",
                )
        self.links |= found.links
        if writable:
            self.writable[found.real] = None
        elif not self.sees(found.real):
            self.readable[found.real] = None
        return found.real

    def follow(self, path: str) -> Trace:
        """Follow the path, but not through a link in the project to elsewhere; IsolationError."""
        try:
            found = trace(path)
        except OSError:
            raise IsolationError(f"{path} is a link that leads in a circle") from None
        if not is_within(found.real, self.project) and not self.sees(found.real):
            for link, _ in found.links:
                if is_within(link, self.project):
                    raise IsolationError(
                        f"{link} is a link that leads out of the project, to {found.real}",
                        hint=f"if the build may see that: --allow-path {found.real}",
                    )
        return found
