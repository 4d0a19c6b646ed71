"""Credentials that were left in the configuration of git clones: found, and taken out.

Composer by itself puts `user:password@` into the URL of a clone's remote, and when git fails at the wrong moment it
stays in the cache for whoever reads it next. Rewritten URLs (`url.X.insteadOf`) and headers (`http.extraHeader`) hold
credentials too.
"""

import contextlib
import errno
import os
import re
from bisect import bisect
from collections.abc import Iterable, Iterator

from ..core.files import is_below, read_regular, replace_file
from ..core.json_text import MOST_LOCKED_VALUES, parse
from ..core.records import NamedTuple

# To git, the login in a URL ends with the last @ before the host; a password may hold one that should be encoded.
_URL = rb'(?i)((?:https?|ftps?)://)([^/?#\s"]*)@([^/?#@\s"]+)'
# A user name alone is not a credential, unless it looks like a token.
_TOKEN = rb"(?=.*[0-9])[A-Za-z0-9_.=~-]{20,}"
# `extraheader = Authorization: …` with the lines that continue it, perhaps on the line that begins its section.
_HEADER = (
    rb"(?im)^([ \t]*(?:\[[^\]\n]*\][ \t]*)?)extraheader[ \t]*=[ \t]*(?:\"[ \t]*)?"
    rb"(?=[a-z-]{0,100}(?:authorization|token|api-?key|cookie))[a-z-]+[ \t]*:(?:\\\r?\n|[^\r\n])*(\r?\n|\Z)"
)
_SECTION = rb"(?m)^[ \t]*\[([^\]\n]*)\]"
_SECTION_HOST = rb'(?i)http[ \t]+"(?:[a-z]+://)?(?:[^"]*@)?([^/"]+)'
_ANY_HOST = "any host"
# A longer file is not the configuration of a clone.
_LARGEST = 1 << 20
# A composer.json or an installed.json; a project with more packages is not looked into further.
_LARGEST_DOCUMENT = 8 << 20
_MOST_PACKAGES = 10_000


class Residue(NamedTuple):
    """The configuration of a clone that holds credentials for the hosts."""

    path: str
    hosts: tuple[str, ...]


def find_residue(cache: str, projects: Iterable[str] = ()) -> tuple[Residue, ...]:
    """Return every configuration of a clone with a credential: in Composer's cache, and in the projects' vendor.

    Clones that are reached through a link belong to somebody else, and are left alone.
    """
    trees = [(cache, _list_caches(cache))] if cache else []
    trees += [(project, _list_clones(project)) for project in projects]
    found: dict[str, Residue] = {}
    for tree, paths in trees:
        for path in paths:
            hosts = _find_hosts(_read_leniently(path))
            if hosts and _is_inside(path, tree):
                found[path] = Residue(path, hosts)
    return tuple(found.values())


def mend(residue: Residue) -> None:
    """Take the credentials out of the configuration, and change nothing else; OSError, and then nothing changes."""
    data = _read(residue.path)
    mended = re.sub(_HEADER, _without_header, re.sub(_URL, _without_userinfo, data))
    if mended != data:
        replace_file(residue.path, mended)


def _find_hosts(data: bytes) -> tuple[str, ...]:
    hosts = [_name_host(match, data) for match in re.finditer(_URL, data) if _is_credential(match[2])]
    begins, named = [], []
    for section in re.finditer(_SECTION, data):
        host = re.match(_SECTION_HOST, section[1].strip())
        begins.append(section.start())
        named.append(host[1].decode(errors="replace") if host else _ANY_HOST)
    for header in re.finditer(_HEADER, data):
        at = bisect(begins, header.start())
        hosts.append(named[at - 1] if at else _ANY_HOST)
    return tuple(dict.fromkeys(hosts))


def _name_host(match: re.Match[bytes], data: bytes) -> str:
    """Return the host of a URL with a login, but nothing that may be the rest of a password with a raw slash."""
    rest = re.compile(rb'[^\s"]*').match(data, match.end())
    is_rest = b"." not in match[3] and rest is not None and b"@" in rest[0]
    return _ANY_HOST if is_rest else match[3].decode(errors="replace")


def _is_credential(userinfo: bytes) -> bool:
    user, _, password = userinfo.partition(b":")
    return bool(password) or re.fullmatch(_TOKEN, user) is not None


def _without_userinfo(match: re.Match[bytes]) -> bytes:
    return match[1] + match[3] if _is_credential(match[2]) else match[0]


def _without_header(match: re.Match[bytes]) -> bytes:
    """Return what stays of the line: the beginning of a section, if it has one."""
    return match[1].rstrip() + match[2] if b"[" in match[1] else b""


def _is_inside(path: str, tree: str) -> bool:
    """Return whether the file is below the tree, with no link on the way."""
    inside = os.path.relpath(path, tree)
    root = os.path.realpath(tree)
    return not inside.startswith(os.pardir) and os.path.realpath(path) == os.path.join(root, inside)


def _list_caches(cache: str) -> Iterator[str]:
    for name in _list(os.path.join(cache, "vcs")):
        yield os.path.join(cache, "vcs", name, "config")


def _list_clones(project: str) -> Iterator[str]:
    """Yield the configurations of packages that were installed from source, wherever installers put them."""
    vendor = os.path.join(project, _find_vendor(project))
    if not is_below(vendor, project):
        return
    for owner in _list(vendor):
        for name in _list(os.path.join(vendor, owner)):
            yield os.path.join(vendor, owner, name, ".git", "config")
    installed = _read_document(os.path.join(vendor, "composer", "installed.json"))
    packages = installed.get("packages")
    for package in packages[:_MOST_PACKAGES] if isinstance(packages, list) else ():
        place = package.get("install-path") if isinstance(package, dict) else None
        if isinstance(place, str) and "\0" not in place:
            yield os.path.normpath(os.path.join(vendor, "composer", place, ".git", "config"))


def _find_vendor(project: str) -> str:
    """Return the project's `vendor-dir`."""
    config = _read_document(os.path.join(project, "composer.json")).get("config")
    vendor = config.get("vendor-dir") if isinstance(config, dict) else None
    return vendor if isinstance(vendor, str) and vendor and "\0" not in vendor else "vendor"


def _read_document(path: str) -> dict[str, object]:
    with contextlib.suppress(OSError, ValueError):
        document = parse((read_regular(path, _LARGEST_DOCUMENT) or b"").decode(), MOST_LOCKED_VALUES)
        if isinstance(document, dict):
            return document
    return {}


def _list(directory: str) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(os.listdir(directory))
    return []


def _read(path: str) -> bytes:
    """Return the file's bytes; OSError if it is missing, too long or not a regular file."""
    data = read_regular(path, _LARGEST, through_links=False)
    if data is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return data


def _read_leniently(path: str) -> bytes:
    with contextlib.suppress(OSError):
        return _read(path)
    return b""
