"""Which credential Composer sends to a host when several sources have one. Pure.

Composer merges its sources per method and host, then loads method after method, each
over the one before (`Config::merge`, `BaseIO::loadConfiguration`; `Factory::createConfig` and `createComposer` have
the order of the sources). So between methods the order of loading decides, and between sources only within one.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .auth import LOAD_ORDER, METHODS, Document

# Since this version COMPOSER_AUTH is merged once more, over the project's own files.
_AUTH_LAST = (2, 7, 8)
# Since this version custom-headers are merged by host, too; before, a stronger source's hid the weaker one's whole.
_HEADERS_MERGED = (2, 11)


class Source(NamedTuple):
    """Something that Composer reads credentials from: an auth.json, the `config` of a composer.json, or a variable."""

    name: str
    sections: Document

    def __repr__(self) -> str:
        return f"Source({self.name})"


class Winner(NamedTuple):
    """The credential that Composer sends to a host, by its method and the name of its source."""

    host: str
    method: str
    source: str


def order_sources(
    home: Iterable[Source], variable: Source | None, project: Iterable[Source], version: tuple[int, ...]
) -> tuple[Source, ...]:
    """The sources as that Composer merges them, weakest first.

    `home` are the user's config.json and auth.json, `project` the composer.json and the auth.json beside it, each in
    that order; `variable` is COMPOSER_AUTH. An unknown version, (), is taken for a new one.
    """
    between = (variable,) if variable else ()
    last = between if not version or version >= _AUTH_LAST else ()
    return (*home, *between, *project, *last)


def replaces_headers(version: tuple[int, ...]) -> bool:
    """Whether a source's custom-headers hide those of weaker sources for every host; () is taken for a new version."""
    return bool(version) and version[:2] < _HEADERS_MERGED


def find_winners(sources: Sequence[Source], version: tuple[int, ...]) -> dict[str, Winner]:
    """For each host the credential that a Composer of that version sends; () knows every method."""
    winners: dict[str, Winner] = {}
    for method in LOAD_ORDER:
        if version and METHODS[method].since > version[:2]:
            continue
        merged: dict[str, str] = {}
        for source in sources:
            section = source.sections.get(method)
            if not isinstance(section, dict):
                continue
            if method == "custom-headers" and replaces_headers(version):
                merged = {}
            merged |= dict.fromkeys(section, source.name)
        for host, name in merged.items():
            winners[host] = Winner(host, method, name)
    return winners
