"""Servers that a build may ask beside those of its packages: in its scripts, and for what npm and its like install."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence

from ..core.files import read_regular
from ..core.records import NamedTuple
from .auth_json import Document
from .project import Project, read_leniently

_LARGEST = 32 << 20
_URL = re.compile(r"\bhttps?://(?:[^/?#@\s\"'$]*@)?([A-Za-z0-9][A-Za-z0-9.-]*(?::\d{1,5})?)(?=[/?#\s\"'`;|&)]|$)")
# Inside of an isolated build these are its own.
_OWN = re.compile(r"localhost|127(?:\.\d+){3}|0\.0\.0\.0")
_INSTALLER = re.compile(r"(?<![\w./-])(npm|npx|pnpm|pnpx|yarn)(?![\w./-])")
# Where each asks for packages unless it is told otherwise (https://docs.npmjs.com/cli/using-npm/registry).
_REGISTRIES = {"yarn": "registry.yarnpkg.com"}
_REGISTRY = "registry.npmjs.org"
# The locks that name where each package was downloaded from, and the files that name another registry.
_LOCKS = ("package-lock.json", "npm-shrinkwrap.json", "yarn.lock")
_RESOLVED = re.compile(r"""["']?resolved["']?:?\s+["'](https?://[^"'\s]+)""")
_SETTINGS = (".npmrc", ".yarnrc", ".yarnrc.yml")
_NAMES_REGISTRY = re.compile(r"(?mi)^[^#;\n]*registry(?:Server)?\"?\s*[:=\s]\s*\"?(https?://\S+)")


class Mention(NamedTuple):
    """A host (`HOST[:PORT]`), and where it is mentioned, as a reader finds it: `the script post-install-cmd`."""

    host: str
    place: str


def list_mentions(project: Project, command: Sequence[str]) -> tuple[Mention, ...]:
    """Return each host once that the command, the project's scripts, or the locks of their installers mention.

    A script in a file of its own is not read: what that asks is not known before it runs.
    """
    scripts = list(_list_scripts(read_leniently(project.manifest_file) or {}))
    texts = [("the command", " ".join(command)), *scripts]
    found = [Mention(host, place) for place, text in texts for host in find_hosts(text)]
    installers = {match[1] for _, text in texts for match in _INSTALLER.finditer(text)}
    if installers:
        found += _list_downloads(project.directory, installers)
    return tuple({mention.host: mention for mention in reversed(found)}.values())[::-1]


def find_hosts(text: str) -> Iterator[str]:
    """Yield the hosts of the web addresses in the text, but for those that are the machine's own."""
    for match in _URL.finditer(text):
        host = match[1].lower().rstrip(".")
        if not _OWN.fullmatch(host.partition(":")[0]):
            yield host


def _list_scripts(manifest: Document) -> Iterator[tuple[str, str]]:
    scripts = manifest.get("scripts")
    for name, content in scripts.items() if isinstance(scripts, dict) else ():
        lines = content if isinstance(content, list) else [content]
        yield f"the script {name}", "\n".join(line for line in lines if isinstance(line, str))


def _list_downloads(directory: str, installers: Iterable[str]) -> Iterator[Mention]:
    """List where the installers download from: what locks name, registries of settings, or else the usual ones."""
    locked = list(_find_in(directory, _LOCKS, _RESOLVED))
    chosen = list(_find_in(directory, _SETTINGS, _NAMES_REGISTRY))
    yield from locked
    yield from chosen
    if not locked and not chosen:
        for installer in sorted(installers):
            yield Mention(_REGISTRIES.get(installer, _REGISTRY), f"where {installer} downloads from")


def _find_in(directory: str, names: Iterable[str], pattern: re.Pattern[str]) -> Iterator[Mention]:
    for name in names:
        for url in pattern.findall(_read(directory, name)):
            yield from (Mention(host, name) for host in find_hosts(url))


def _read(directory: str, name: str) -> str:
    with contextlib.suppress(OSError):
        return (read_regular(os.path.join(directory, name), _LARGEST) or b"").decode(errors="replace")
    return ""
