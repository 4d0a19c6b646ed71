"""What Composer's cache has of a project, and under which names (`Composer\\Cache` and its users)."""

import hashlib
import os
import re
from collections.abc import Iterator
from typing import Any

from ..core.records import NamedTuple
from .auth_json import Document
from .project import find_lock, read_leniently, read_lock
from .repositories import iterate_entries

# The kinds of a cache: a setting and a variable each, and a directory.
KINDS = ("files", "repo", "vcs")
_UNUSABLE = r"(?:^|[\\/])(?:\$null|nul|NUL|/dev/null)(?:[\\/]|$)"
_NAME = r"[a-z0-9][a-z0-9_.-]*/[a-z0-9][a-z0-9_.-]*"
_TYPE = r"[a-z0-9.]{1,10}"
_SHA1 = r"[0-9a-f]{40}"
_MOST_PACKAGES = 5_000


class CachedPackage(NamedTuple):
    """A package by its name, and its archive as composer.lock has it: the file, and the checksum if there is one."""

    name: str
    archive: str = ""
    checksum: str = ""


class Wanted(NamedTuple):
    """What a project wants from the cache: packages, and clones as pairs of directory and URL. It may be locked."""

    packages: tuple[CachedPackage, ...]
    clones: tuple[tuple[str, str], ...]
    is_locked: bool

    @property
    def checksums(self) -> dict[str, str]:
        """The checksum that an archive must have, by its path in `files`."""
        return {f"{each.name}/{each.archive}": each.checksum for each in self.packages if each.checksum}


def read_wanted(manifest_file: str) -> Wanted:
    """Read what the composer.json and its composer.lock want; nothing where they cannot be read."""
    manifest = read_leniently(manifest_file) or {}
    is_locked = os.path.exists(find_lock(manifest_file))
    lock = read_lock(manifest_file) or {}
    entries = list(_list_locked(lock))
    packages = dict.fromkeys(filter(None, map(_make_package, entries)))
    if not is_locked:
        sections = [manifest.get(name) for name in ("require", "require-dev")]
        names = [name.lower() for section in sections if isinstance(section, dict) for name in section]
        packages = {CachedPackage(name): None for name in names[:_MOST_PACKAGES] if re.fullmatch(_NAME, name)}
    sources = [entry["source"] for entry in entries if isinstance(entry.get("source"), dict)]
    urls = [place.get("url") for place in (*sources, *iterate_entries(manifest))]
    clones = {name_clone(url): url for url in urls if isinstance(url, str)}
    return Wanted(tuple(packages), tuple(clones.items()), is_locked)


def is_cache(path: str) -> bool:
    """Return whether Composer uses such a path as a cache: `/dev/null` means that there is to be none."""
    return not re.search(_UNUSABLE, path)


def name_clone(url: str) -> str:
    """Return the name that a clone of the URL has in `vcs`."""
    return re.sub(r"[^A-Za-z0-9.]", "-", url)


def find_package(file: str) -> str | None:
    """Return the package that a file in a directory of `repo` describes; None where it is about none, or many."""
    match = re.fullmatch(r"provider-(.+?)(?:~dev)?\.json", file)
    return match[1].replace("~", "/") if match else None


def _list_locked(lock: Document) -> Iterator[Document]:
    sections = [lock.get(name) for name in ("packages", "packages-dev")]
    packages = [entry for section in sections if isinstance(section, list) for entry in section]
    yield from (entry for entry in packages[:_MOST_PACKAGES] if isinstance(entry, dict))


def _make_package(entry: Document) -> CachedPackage | None:
    name, dist = str(entry.get("name")).lower(), entry.get("dist")
    if not re.fullmatch(_NAME, name):
        return None
    if not isinstance(dist, dict) or not isinstance(dist.get("url"), str) or not _matches(_TYPE, dist.get("type")):
        return CachedPackage(name)
    key = hashlib.sha1(dist["url"].encode(errors="replace"), usedforsecurity=False).hexdigest()
    checksum = str(dist.get("shasum"))
    return CachedPackage(name, f"{key}.{dist['type']}", checksum if _matches(_SHA1, checksum) else "")


def _matches(pattern: str, value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None
