"""The walk over the trees to search: each directory once, and through links only where a place says so."""

import contextlib
import enum
import os
import stat
from collections.abc import Collection, Iterable, Iterator

from ..core.clocks import Since
from ..core.linux import list_file_systems
from ..core.records import NamedTuple
from ..process.directory import has_private_name

# File systems that show what the kernel knows; some of their files never end.
_KERNEL_TYPES = frozenset(
    "autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts efivarfs fusectl mqueue nsfs proc pstore "
    "rpc_pipefs securityfs selinuxfs sysfs tracefs".split()
)
# Each tree outside that a link of the project leads to is walked this far, in entries.
_MOST_LINKED = 20_000
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC


class Kind(enum.Enum):
    """What an entry of a directory is; `OTHER` is a pipe, a socket or a device."""

    FILE = "file"
    LINK = "link"
    DIRECTORY = "directory"
    OTHER = "other"


class Entry(NamedTuple):
    """One thing that the walk has found."""

    path: str
    name: str
    kind: Kind


class Place(NamedTuple):
    """A tree to search, or a file. `most` limits the entries that are walked; `own` skips what others own.

    A place that is `required` but missing is a failure. `follow` belongs to a build's project: what its links lead to
    is searched too, and what is not walked of it is `missed`.
    """

    path: str
    most: int | None = None
    own: bool = False
    required: bool = False
    follow: bool = False


class Walk:
    """The entries to search; `left_out` and `failed` are the places that were not walked, and why.

    `missed` are those of the former that a person should hear of.
    """

    def __init__(self, since: Since | None, skip: Collection[str]) -> None:
        """Leave out what has not changed since that time, and the paths to `skip`."""
        self.left_out: list[tuple[str, str]] = []
        self.missed: list[tuple[str, str]] = []
        self.failed: list[tuple[str, OSError]] = []
        self._since = since
        self._user = os.geteuid()
        self._kernel = {device: kind for device, kind in list_file_systems().items() if kind in _KERNEL_TYPES}
        self._seen: set[tuple[int, int]] = set()
        self._skipped: set[tuple[int, int]] = set()
        for path in skip:
            with contextlib.suppress(OSError):
                found = os.stat(path)
                self._skipped.add((found.st_dev, found.st_ino))
        self._seen.update(self._skipped)
        self._links: list[str] = []
        self._files: dict[str, str] = {}

    def list_entries(self, places: Iterable[Place]) -> Iterator[Entry]:
        """Yield what is below the places, and the places that are files or links to one.

        Files come last: by then it is known which of them are in a tree that was walked.
        """
        for place in places:
            yield from self._walk_place(place)
        while self._links:
            path = self._links.pop()
            yield from self._walk_place(Place(path, most=_MOST_LINKED, own=True, follow=True), linked=True)
        for real, path in self._files.items():
            with contextlib.suppress(FileNotFoundError):
                parent, found = os.stat(os.path.dirname(real)), os.stat(real)
                if self._is_changed(found) and (parent.st_dev, parent.st_ino) not in self._seen:
                    yield Entry(path, os.path.basename(path), Kind.FILE)

    def _walk_place(self, place: Place, *, linked: bool = False) -> Iterator[Entry]:
        """Walk a tree, or note a file; a link whose target is gone or out of reach is not a failure."""
        try:
            found = os.stat(place.path)
        except OSError as error:
            if place.required or not (linked or isinstance(error, FileNotFoundError)):
                self.failed.append((place.path, error))
            return
        if stat.S_ISDIR(found.st_mode):
            yield from self._walk(place, os.path.realpath(place.path) if linked else place.path)
        elif not stat.S_ISREG(found.st_mode):
            if not linked:
                self.left_out.append((place.path, "neither a file nor a directory"))
        elif not linked or self._is_changed(found):
            real = os.path.realpath(place.path)
            self._files.setdefault(real, real if linked or os.path.islink(place.path) else place.path)

    def _walk(self, place: Place, top: str) -> Iterator[Entry]:
        everything = self._since is None and not place.own
        count = 0
        waiting = [top]
        while waiting:
            directory = waiting.pop()
            prefix = directory if directory.endswith(os.sep) else directory + os.sep
            try:
                descriptor = os.open(directory, _FLAGS if directory is top else _FLAGS | os.O_NOFOLLOW)
                try:
                    if not self._is_new(directory, os.fstat(descriptor)):
                        continue
                    with os.scandir(descriptor) as entries:
                        for entry in entries:
                            count += 1
                            kind = _judge(entry)
                            if kind is Kind.DIRECTORY:
                                if self._is_neighbour(prefix + entry.name):
                                    continue
                                waiting.append(prefix + entry.name)
                            elif kind is Kind.LINK and place.follow:
                                self._links.append(prefix + entry.name)
                            if everything or self._is_due(entry, own=place.own):
                                yield Entry(prefix + entry.name, entry.name, kind)
                finally:
                    os.close(descriptor)
            except (FileNotFoundError, NotADirectoryError):  # it is gone, or has become something else
                continue
            except OSError as error:
                self.failed.append((directory, error))
            if place.most is not None and count > place.most:
                self._leave_out(place, (top, f"more than {place.most:,} entries"))
                return

    def _is_neighbour(self, directory: str) -> bool:
        """Return whether it is the private directory of another build: what that one exposes is not a leak of ours."""
        return self._since is not None and has_private_name(directory)

    def _leave_out(self, place: Place, what: tuple[str, str]) -> None:
        self.left_out.append(what)
        if place.follow:
            self.missed.append(what)

    def _is_new(self, directory: str, found: os.stat_result) -> bool:
        identity = found.st_dev, found.st_ino
        if identity in self._seen:
            return False
        self._seen.add(identity)
        kernel = self._kernel.get(found.st_dev)
        if kernel:
            self.left_out.append((directory, f"a kernel file system ({kernel})"))
        return not kernel

    def _is_due(self, entry: os.DirEntry[str], *, own: bool) -> bool:
        """Return whether the entry has changed, and is ours if it must be."""
        try:
            found = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return False
        return self._is_changed(found) and not (own and found.st_uid != self._user)

    def _is_changed(self, found: os.stat_result) -> bool:
        is_new = self._since is None or self._since.covers(found.st_dev, found.st_ctime_ns)
        return is_new and not self._is_skipped(found)

    def _is_skipped(self, found: os.stat_result) -> bool:
        return (found.st_dev, found.st_ino) in self._skipped


def _judge(entry: os.DirEntry[str]) -> Kind:
    if entry.is_file(follow_symlinks=False):
        return Kind.FILE
    if entry.is_dir(follow_symlinks=False):
        return Kind.DIRECTORY
    return Kind.LINK if entry.is_symlink() else Kind.OTHER
