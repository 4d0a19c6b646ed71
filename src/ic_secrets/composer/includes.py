"""What composer.json takes from other files of the checkout: packages of path repositories, included files, patches.

All of them may have been made to hang or exhaust us, so a few small regular files are read, and no more.
"""

import contextlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from ..core.files import read_regular
from ..errors import MalformedAuthError
from .auth_json import Document, parse_document
from .repositories import iterate_entries

# Of all files together, in bytes.
_LARGEST = 1 << 20
_MOST_FILES = 200
# So many entries of directories are looked at for a pattern.
_MOST_ENTRIES = 10_000
_PATTERN = re.compile(r"[*?\[]")
_REQUIRES = ("require", "require-dev")


class _Reader:
    """Reads what a checkout names, until it has named too much."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._files = _MOST_FILES
        self._entries = _MOST_ENTRIES
        self._bytes = _LARGEST

    def read(self, patterns: Iterable[Any]) -> Iterator[Document]:
        """Yield the JSON objects in the files that are named, by patterns too; pass over what cannot be read."""
        for pattern in patterns:
            for path in self._find(pattern) if isinstance(pattern, str) and "\0" not in pattern else ():
                self._files -= 1
                if self._files < 0:
                    return
                with contextlib.suppress(OSError, ValueError, MalformedAuthError):
                    data = read_regular(path, self._bytes)
                    if data is not None:
                        self._bytes -= len(data)
                        yield parse_document(data.decode(), path)

    def _find(self, pattern: str) -> list[str]:
        """Return the paths that the pattern may stand for, in order."""
        found = [self._directory]
        for part in re.findall(r"^/|[^/]+", pattern):
            if not _PATTERN.search(part):
                found = [os.path.join(path, part) for path in found]
                continue
            matching = []
            for path in found:
                with contextlib.suppress(OSError), os.scandir(path) as entries:
                    for entry in itertools.islice(entries, self._entries):
                        self._entries -= 1
                        if fnmatchcase(entry.name, part):
                            matching.append(entry.path)
            found = sorted(matching)
        return found


def merge_includes(manifest: Document, directory: str) -> Document:
    """Return composer.json with the repositories and requirements of what it includes, and with all of its patches."""
    reader, extra = _Reader(directory), _get(manifest, "extra")
    merged = _merge_plugin(manifest, reader)
    paths = [f"{entry['url']}/composer.json" for entry in iterate_entries(merged) if _is_path(entry)]
    merged["require"] = _add_requirements(merged, list(reader.read(paths)))
    named = extra.get("patches-file") or _get(extra, "composer-patches").get("patches-file") or "patches.json"
    listed = next(reader.read([named]), {})
    patches = [_get(document, "patches") for document in (extra, _get(merged, "extra"), listed)]
    merged["extra"] = {**extra, "patches": {str(n): each for n, each in enumerate(patches)}}
    return merged


def list_patches(manifest: Document) -> Iterator[str]:
    """Yield the URLs of the patches, whatever the shape in which the plugin for them takes them."""
    waiting: list[Any] = [_get(manifest, "extra").get("patches")]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
        elif isinstance(each, str) and each.lower().startswith(("http://", "https://")):
            yield each


def _merge_plugin(manifest: Document, reader: _Reader) -> Document:
    """Return it as wikimedia/composer-merge-plugin merges it; paths are the root's, in included files too."""
    merged = dict(manifest)
    repositories = manifest.get("repositories")
    waiting = [manifest]
    entries: list[Any] = []
    while waiting:
        options = _get(_get(waiting.pop(), "extra"), "merge-plugin")
        patterns = [each for name in ("include", "require") for each in _list(options.get(name))]
        for document in reader.read(patterns):
            entries += iterate_entries(document)
            for name in _REQUIRES:
                merged[name] = {**_get(document, name), **_get(merged, name)}
            if options.get("merge-extra") is True:
                merged["extra"] = {**_get(document, "extra"), **_get(merged, "extra")}
            if options.get("recurse") is not False:
                waiting.append(document)
    if entries and isinstance(repositories, dict):
        merged["repositories"] = {**{f"included {n}": each for n, each in enumerate(entries)}, **repositories}
    elif entries:
        merged["repositories"] = [*entries, *_list(repositories)]
    return merged


def _add_requirements(manifest: Document, packages: list[Document]) -> Document:
    """Return what is required, with what the path packages that are required need in turn."""
    required = {**_get(manifest, "require-dev"), **_get(manifest, "require")}
    needed: dict[str, Document] = {}
    for package in packages:
        needed.setdefault(str(package.get("name")), {}).update(_get(package, "require"))
    waiting = list(required)
    while waiting:
        more = [name for name in needed.pop(waiting.pop(), {}) if name not in required]
        required |= dict.fromkeys(more, "*")
        waiting += more
    return required


def _is_path(entry: Document) -> bool:
    return entry.get("type") == "path" and isinstance(entry.get("url"), str)


def _get(document: Document, name: str) -> Document:
    section = document.get(name)
    return section if isinstance(section, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
