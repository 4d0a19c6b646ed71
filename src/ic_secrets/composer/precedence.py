"""Precedence: which credential Composer sends to a host when several sources, or secrets, have one. Pure.

Composer merges its sources per method and host, then loads method after method, each
over the one before (`Config::merge`, `BaseIO::loadConfiguration`; `Factory::createConfig` and `createComposer` have
the order of the sources). So between methods the order of loading decides, and between sources only within one.
"""

from collections.abc import Collection, Iterable, Sequence

from ..core.records import NamedTuple
from .auth_json import Document
from .credential import Credential
from .methods import METHODS

# Since this version COMPOSER_AUTH is merged once more, over the project's own files.
_AUTH_LAST = (2, 7, 8)


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


class Collision(NamedTuple):
    """A file of the project with a credential, of some method, that Composer prefers to the secret for the host."""

    host: str
    file: str
    method: str


def order_sources(
    home: Iterable[Source], variable: Source | None, project: Iterable[Source], version: tuple[int, ...]
) -> tuple[Source, ...]:
    """Return the sources as a Composer of that version merges them, weakest first.

    `home` are the user's config.json and auth.json, `project` the composer.json and the auth.json beside it, each in
    that order; `variable` is COMPOSER_AUTH. An unknown version, (), counts as a new one.
    """
    between = (variable,) if variable else ()
    last = between if not version or version >= _AUTH_LAST else ()
    return (*home, *between, *project, *last)


def find_winners(sources: Sequence[Source], version: tuple[int, ...]) -> dict[str, Winner]:
    """Return for each host the credential that a Composer of that version sends; () knows every method."""
    winners: dict[str, Winner] = {}
    for method in METHODS.values():
        if not method.is_known(version):
            continue
        merged: dict[str, str] = {}
        for source in sources:
            section = source.sections.get(method.name)
            if isinstance(section, dict):
                kept = merged if method.merges_hosts(version) else {}
                merged = kept | dict.fromkeys(section, source.name)
        for host, name in merged.items():
            winners[host] = Winner(host, method.name, name)
    return winners


def sort_by_strength(credentials: Iterable[Credential]) -> list[Credential]:
    """Return the credentials in the order in which Composer loads them: of several for a host it uses the last one."""
    order = list(METHODS)
    return sorted(credentials, key=lambda credential: order.index(credential.method))


def find_collisions(
    sections: Document, file: str, credentials: Sequence[Credential], replaced: Collection[str] = ()
) -> tuple[Collision, ...]:
    """Return the credentials of a project's file that Composer will prefer to those of secrets.

    `sections` is an auth.json, or the `config` of a composer.json. Another method for the same host collides if
    Composer loads it later, and the same method always does. For a method in `replaced`, whose sections Composer does
    not merge, the file's section hides the secrets for every host.
    """
    order = list(METHODS)
    collisions = []
    for credential in credentials:
        for method in order[order.index(credential.method) :]:
            section = sections.get(method)
            is_hidden = method == credential.method and method in replaced
            if isinstance(section, dict) and (is_hidden or credential.host in section):
                collisions.append(Collision(credential.host, file, method))
    return tuple(dict.fromkeys(collisions))


def find_rivals(credentials: Iterable[Credential]) -> tuple[tuple[str, str, str], ...]:
    """Return the secrets for one host: the host, the name that Composer will use, and the name that it will not."""
    strongest: dict[str, Credential] = {}
    rivals = []
    for credential in sort_by_strength(credentials):
        weaker = strongest.get(credential.host)
        if weaker:
            rivals.append((credential.host, credential.name, weaker.name))
        strongest[credential.host] = credential
    return tuple(rivals)
