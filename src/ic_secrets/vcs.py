"""Credentials that Composer left in the configuration of git clones: found, and taken out.

An unwrapped Composer puts `user:password@` into the URL of a clone's remote, and when git fails at
the wrong moment it stays in the cache for whoever reads it next.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .files import replace_file

# A user name alone is no credential, unless it is as long as tokens are.
_USERINFO = re.compile(rb"(?P<scheme>https?://)(?P<userinfo>[^/@\s\"]*:[^/@\s\"]*|[^/:@\s\"]{20,})@(?P<host>[^/\s\"]+)")
_LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Residue:
    """A clone's configuration that holds credentials for the hosts."""

    path: str
    hosts: tuple[str, ...]


def find_residue(cache: str, projects: Iterable[str] = ()) -> tuple[Residue, ...]:
    """Every clone with a credential in its configuration: in Composer's cache, and in the projects' vendor."""
    paths = [*(_list_caches(cache) if cache else ()), *(path for project in projects for path in _list_clones(project))]
    found = []
    for path in dict.fromkeys(paths):
        hosts = dict.fromkeys(match["host"].decode(errors="replace") for match in _USERINFO.finditer(_read(path)))
        if hosts:
            found.append(Residue(path, tuple(hosts)))
    return tuple(found)


def mend(residue: Residue) -> None:
    """Take the credentials out of the configuration's URLs; all else stays. OSError."""
    replace_file(residue.path, _USERINFO.sub(rb"\g<scheme>\g<host>", _read(residue.path)))


def _list_caches(cache: str) -> Iterator[str]:
    for name in _list(os.path.join(cache, "vcs")):
        yield os.path.join(cache, "vcs", name, "config")


def _list_clones(project: str) -> Iterator[str]:
    """The clones of packages that were installed from source, wherever installers put them."""
    vendor = os.path.join(project, "vendor")
    for owner in _list(vendor):
        for name in _list(os.path.join(vendor, owner)):
            yield os.path.join(vendor, owner, name, ".git", "config")
    installed = os.path.join(vendor, "composer", "installed.json")
    with contextlib.suppress(OSError, ValueError, RecursionError):
        with open(installed, encoding="utf-8") as file:
            document = json.load(file)
        packages = document.get("packages", []) if isinstance(document, dict) else []
        for package in packages:
            place = package.get("install-path") if isinstance(package, dict) else None
            if isinstance(place, str):
                yield os.path.normpath(os.path.join(vendor, "composer", place, ".git", "config"))


def _list(directory: str) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(os.listdir(directory))
    return []


def _read(path: str) -> bytes:
    """The file's bytes; none where it is no regular file, or cannot be read."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            data = file.read(_LARGEST + 1)
            return data if len(data) <= _LARGEST else b""
    return b""
