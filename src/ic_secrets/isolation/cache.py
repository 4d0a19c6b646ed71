"""Composer's cache in an isolated build: one of its own, which begins with links into the person's.

What is in a cache is trusted by whoever uses it next: git executes what the `config` of a clone names, and Composer
unpacks a zip of which nothing says the checksum. So the build only reads the person's cache. What it adds is in a
scratch directory and gone when it ends, but for archives whose checksum a composer.lock names: these are kept by the
checksum, in a directory where only isolated builds look, and only for a package with that very checksum.

They are not kept under the name that Composer gives them, which is of the URL: another project, whose lock has no
checksum for that URL, would unpack whatever a hostile build had put there, and a hostile checkout has a lock that names
the checksum of that.

Composer replaces metadata (`repo`) by a rename, which puts a file of the build's own in the place of a link. It writes
archives (`files`) through a link, which fails where the target is only readable; it does so where the archive does not
have the checksum of the lock, so such an archive is not linked.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice

from ..composer.cached import KINDS, CachedPackage, find_package, is_cache, read_wanted
from ..composer.project import Project
from ..core.files import is_below, is_real_directory, remove_tree
from ..core.notices import Notice, Notify
from ..errors import ExposureError
from ..git.borrowed import borrow
from ..process.directory import SCRATCH, PrivateDirectory, SharedGuard, choose_roomy_parent
from ..process.watchdog import Watchdog

_VARIABLE = "COMPOSER_CACHE_DIR"
_NO_CACHE = "/dev/null"
# Where in `files` archives are by their checksums. No package can have that name, and Composer's own cleaning finds it.
KEPT = "ic-secrets~isolated"
_ARCHIVE = r"[0-9a-f]{40}\.[a-z0-9.]{1,10}"
_CHUNK = 1 << 20
# A link costs up to 200 µs on a disk, a checksum 1 ms for each megabyte.
_MOST_LINKS = 2_000
_MOST_OF_A_PACKAGE = 10
# A directory of metadata has a link of this name, which Composer uses for nothing, to the one in the person's cache: a
# disk takes five times as long to make a link to more than 59 characters.
_ALIAS = "+"
_MOST_ENTRIES = 10_000
_MOST_CLONES = 100
_MOST_BYTES = 1 << 30
_LARGEST = 512 << 20
_DEEPEST = 4
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC


class ScratchCache:
    """The cache of one isolated build, until `remove`.

    `path` is its directory ("" without a cache), and `variables` lead Composer to it. `readable` is what its
    links lead to: the build has to see that, and must not write it. Where that is in the project, which the build may
    write, it is `protected` instead.
    """

    def __init__(self, project: Project, notify: Notify, variables: Mapping[str, str]) -> None:
        """`variables` are those of a build without such a directory."""
        self.path = ""
        self.readable: tuple[str, ...] = ()
        self.protected: tuple[str, ...] = ()
        self.variables = variables
        self._project = project
        self._notify = notify
        self._directory: PrivateDirectory | None = None
        self._cache = ""
        self._checksums: Mapping[str, str] = {}
        self._links: dict[str, str] = {}
        self._clones: dict[str, str] = {}
        self._is_complete = False
        self._bytes = _MOST_BYTES

    @classmethod
    def make(
        cls,
        cache: str,
        project: Project,
        environment: Mapping[str, str],
        watchdog: Watchdog,
        notify: Notify,
        command: Sequence[str] = (),
    ) -> ScratchCache:
        """Make one from what the person's `cache` has for the project, or the one in the project that it names.

        Nothing is made where the person wants no cache. Where nothing can be made the build has no cache, and where the
        person's cannot be used its own begins empty; both are said.
        """
        is_named = bool(project.cache) and not environment.get(_VARIABLE)
        is_own = not is_named or os.path.realpath(project.cache) == os.path.realpath(cache)
        cache = project.cache if is_named else cache
        if not is_cache(cache):
            return cls(project, notify, {})
        scratch = cls(project, notify, {_VARIABLE: _NO_CACHE})
        scratch._look(cache, is_own=is_own, is_install="install" in command)
        try:
            is_small = scratch._is_complete and not scratch._clones
            parent = choose_roomy_parent(environment, [project.directory], is_small=is_small)
            directory = PrivateDirectory.make(parent, SharedGuard(watchdog), SCRATCH)
        except ExposureError as error:
            notify(Notice(f"the isolated build has no Composer cache: {error}", error.hint))
            return scratch
        scratch.path, scratch._directory = directory.path, directory
        scratch.variables = _lead(directory.path)
        try:
            scratch._fill()
        except OSError as error:
            scratch._report(error)
        except BaseException:
            scratch.remove()
            raise
        return scratch

    def take_back(self) -> int:
        """Keep the new archives whose checksums a lock names, before or after the build; return how many."""
        count = 0
        try:
            if self._cache:
                checksums = {**read_wanted(self._project.manifest_file).checksums, **self._checksums}
                for path, checksum in checksums.items():
                    count += self._keep(path, checksum)
        except OSError as error:
            text = f"what the isolated build downloaded is not kept in {self._cache}: {error.strerror}"
            self._notify(Notice(text, "the next one downloads it again"))
        return count

    def remove(self) -> None:
        """Remove the directory; ScrubIncompleteError. Safe to call twice."""
        if self._directory and not self._directory.is_scrubbed:
            self._directory.scrub()

    def _look(self, cache: str, *, is_own: bool, is_install: bool) -> None:
        """Find what of the cache the build may want, which is the person's own or one that only the checkout names."""
        wanted = read_wanted(self._project.manifest_file)
        self._checksums = wanted.checksums
        real, is_inside = os.path.realpath(cache), is_below(cache, self._project.directory)
        try:
            # A checkout could name any directory, to have it shown to its build.
            fault = "" if is_own else "composer.json names it, and it is outside the project"
            if is_inside or not fault:
                fault = "" if os.stat(real).st_uid == os.geteuid() else "it belongs to another user"
            if fault:
                text = f"the isolated build begins with an empty cache instead of {cache}: {fault}"
                self._notify(Notice(text, f"it downloads what it needs; {_VARIABLE} names another cache"))
                return
            self._cache = real
            self.readable, self.protected = ((), (real,)) if is_inside else ((real,), ())
            # What a link leads to elsewhere is not shown to the build.
            files, repo, vcs = (is_real_directory(os.path.join(self._cache, kind)) for kind in KINDS)
            for package in wanted.packages if files else ():
                self._find_archives(package)
            self._is_complete = wanted.is_locked and all(
                not each.archive or f"files/{each.name}/{each.archive}" in self._links for each in wanted.packages
            )
            if repo and not (is_install and wanted.is_locked):  # then Composer does not ask what there is
                names = {package.name for package in wanted.packages}
                self._find_metadata("repo", names, _DEEPEST, is_locked=wanted.is_locked)
            if vcs:
                paths = {os.path.join("vcs", name): url for name, url in wanted.clones}
                found = (path for path in paths if is_real_directory(os.path.join(self._cache, path)))
                self._clones = {path: paths[path] for path in islice(found, _MOST_CLONES)}
        except FileNotFoundError:  # nothing was ever built here
            self._cache = real
        except OSError as error:
            self._report(error)

    def _report(self, error: OSError) -> None:
        text = f"the isolated build does not begin with all of {self._cache}: {error.strerror}"
        self._notify(Notice(text, "it downloads what it needs"))

    def _find_archives(self, package: CachedPackage) -> None:
        """Find the archive of the package that is locked, or else those of any version."""
        place = f"files/{package.name}"
        source = os.path.join(self._cache, place)
        is_there = is_real_directory(os.path.dirname(source)) and is_real_directory(source)
        names = [name for name in (_list_files(source) if is_there else ()) if re.fullmatch(_ARCHIVE, name)]
        names = sorted(names, key=lambda name: name != package.archive)[:_MOST_OF_A_PACKAGE]
        found = {name: f"{source}/{name}" for name in names}
        if package.checksum:
            kept = os.path.join(self._cache, "files", KEPT, package.checksum)
            places = (found.pop(package.archive, ""), kept)
            right = next((path for path in places if path and self._has_checksum(path, package.checksum)), "")
            found |= {package.archive: right} if right else {}
        if package.archive in found:
            found = {package.archive: found[package.archive]}
        for name, target in found.items():
            self._link(f"{place}/{name}", target)

    def _find_metadata(self, place: str, names: Collection[str], depth: int, *, is_locked: bool) -> None:
        """Find metadata: of the locked packages, or else of as many as possible; and what is of no single package."""
        source = os.path.join(self._cache, place)
        files = {name: find_package(name) for name in _list_files(source)}
        chosen = [name for name, package in files.items() if not (is_locked and package) or package in names]
        if chosen:
            self._link(f"{place}/{_ALIAS}", source)
        for name in sorted(chosen, key=lambda name: files[name] not in names):
            self._link(f"{place}/{name}", f"{_ALIAS}/{name}")
        for name in _list_directories(source) if depth else ():
            self._find_metadata(f"{place}/{name}", names, depth - 1, is_locked=is_locked)

    def _link(self, path: str, target: str) -> None:
        if len(self._links) < _MOST_LINKS:
            self._links[path] = target

    def _fill(self) -> None:
        """Make the links, and clones that borrow from the cache's; OSError."""
        made: set[str] = set()

        def make_directory(path: str) -> None:
            if path and path not in made:
                make_directory(os.path.dirname(path))
                os.mkdir(f"{self.path}/{path}", 0o700)
                made.add(path)

        for kind in KINDS:
            make_directory(kind)
        for path, target in self._links.items():
            make_directory(os.path.dirname(path))
            os.symlink(target, f"{self.path}/{path}")
        for path, url in self._clones.items():
            self._borrow(os.path.join(self._cache, path), os.path.join(self.path, path), url)

    def _borrow(self, clone: str, place: str, url: str) -> None:
        with contextlib.suppress(OSError):  # git clones it anew
            if borrow(clone, place, url):
                return
        remove_tree(place)

    def _has_checksum(self, path: str, checksum: str) -> bool:
        """Return whether the file is there, is no link, and has the checksum; not where it is one too many to read."""
        try:
            descriptor = os.open(path, _FILE)
        except OSError:
            return False
        try:
            return self._is_fit(descriptor) and _compute_checksum(descriptor) == checksum
        finally:
            os.close(descriptor)

    def _is_fit(self, descriptor: int) -> bool:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > min(_LARGEST, self._bytes):
            return False
        self._bytes -= status.st_size
        return True

    def _keep(self, path: str, checksum: str) -> bool:
        """Keep the file of the build at that path in `files`, if it has the checksum; OSError."""
        descriptor = _open_below(os.path.join(self.path, "files"), path)
        if descriptor is None:
            return False
        try:
            is_own = os.fstat(descriptor).st_nlink == 1
            is_right = is_own and self._is_fit(descriptor) and _compute_checksum(descriptor) == checksum
            return is_right and self._copy(descriptor, checksum)
        finally:
            os.close(descriptor)

    def _copy(self, descriptor: int, checksum: str) -> bool:
        """Write the open file into the directory of what is kept; OSError.

        What is written is what has the checksum, whoever writes to the file meanwhile.
        """
        directory = os.path.join(self._cache, "files", KEPT)
        os.makedirs(directory, exist_ok=True)
        if os.path.realpath(directory) != directory:
            return False
        partial = os.path.join(directory, f"{checksum}.{os.urandom(6).hex()}")
        target = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            with open(target, "wb") as file:
                is_same = _compute_checksum(descriptor, file.write) == checksum
            if is_same:
                os.replace(partial, os.path.join(directory, checksum))
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)
        return is_same


def _lead(path: str) -> dict[str, str]:
    """Return the variables that lead Composer there, each part of the cache too: a setting may have it elsewhere."""
    return {_VARIABLE: path, **{f"COMPOSER_CACHE_{kind.upper()}_DIR": os.path.join(path, kind) for kind in KINDS}}


def _compute_checksum(descriptor: int, write: Callable[[bytes], object] | None = None) -> str:
    """Return the SHA-1 of the open file; `write` receives what it was computed from."""
    checksum = hashlib.sha1(usedforsecurity=False)
    os.lseek(descriptor, 0, os.SEEK_SET)
    left = _LARGEST
    while left > 0 and (data := os.read(descriptor, _CHUNK)):
        checksum.update(data)
        left -= len(data)
        if write:
            write(data)
    return checksum.hexdigest()


def _open_below(root: str, path: str) -> int | None:
    """Open a file below the directory, no part of the way through a link; None where that fails."""
    *directories, name = path.split("/")
    parent = None
    try:
        parent = os.open(root, _DIRECTORY)
        for each in directories:
            above, parent = parent, os.open(each, _DIRECTORY, dir_fd=parent)
            os.close(above)
        return os.open(name, _FILE, dir_fd=parent)
    except OSError:
        return None
    finally:
        if parent is not None:
            os.close(parent)


def _list_files(directory: str) -> Iterator[str]:
    yield from (entry.name for entry in _scan(directory) if entry.is_file(follow_symlinks=False))


def _list_directories(directory: str) -> Iterator[str]:
    yield from (entry.name for entry in _scan(directory) if entry.is_dir(follow_symlinks=False))


def _scan(directory: str) -> list[os.DirEntry[str]]:
    """Return what is in the directory, as far as it is looked at; OSError where it cannot be read."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(directory) as entries:
        return list(islice(entries, _MOST_ENTRIES))
    return []
