"""auth.json as a document: parsed, checked, merged with secrets. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from ..core.json_text import MOST_VALUES, TooManyValuesError, parse
from ..errors import MalformedAuthError
from .methods import METHODS

if TYPE_CHECKING:
    from .credential import Credential

# A decoded auth.json: the edge where JSON of any shape comes in.
Document = dict[str, Any]


def parse_document(text: str, origin: str, most: int = MOST_VALUES) -> Document:
    """Return the auth.json or composer.json that `text` holds; MalformedAuthError names only its `origin`."""
    try:
        document = parse(text, most)
    except TooManyValuesError as error:
        raise MalformedAuthError(f"{origin} has {error}") from None
    except ValueError:
        raise MalformedAuthError(f"{origin} is not valid JSON") from None
    if document == []:  # how PHP writes an empty object
        document = {}
    if not isinstance(document, dict):
        raise MalformedAuthError(f"{origin} is not a JSON object")
    return document


def parse_auth(text: str, origin: str) -> Document:
    """Return the auth.json that `text` holds; MalformedAuthError where Composer would fail on it."""
    document = parse_document(text, origin)
    check_sections(document, origin)
    return document


def check_sections(document: Document, origin: str) -> None:
    """Raise MalformedAuthError if the section of a method does not map hosts (Composer would fail half-way)."""
    for method in METHODS:
        section = document.get(method)
        if section is not None and section != [] and not isinstance(section, dict):
            raise MalformedAuthError(f"{origin}: {method} does not map hosts to credentials")


def merge_auth(document: Document, credentials: Iterable[Credential]) -> Document:
    """Return the user's auth.json with the secrets in it.

    Every method of a host that a secret sets is dropped first, since Composer lets the method that it loads last win,
    whatever its source. All else, other configuration included, stays.
    """
    credentials = tuple(credentials)
    merged, _ = drop_hosts(document, {credential.host for credential in credentials})
    for credential in credentials:
        section = merged.get(credential.method)
        if not isinstance(section, dict):
            section = merged[credential.method] = {}
        section[credential.host] = credential.content
    return merged


def drop_hosts(document: Document, hosts: Collection[str]) -> tuple[Document, tuple[str, ...]]:
    """Return a copy of the document without the hosts, and those of them that it had; only methods are copied."""
    kept = {
        key: dict(value) if key in METHODS and isinstance(value, dict) else value for key, value in document.items()
    }
    dropped: set[str] = set()
    for method in METHODS:
        section = kept.get(method)
        if isinstance(section, dict):
            for host in hosts & section.keys():
                del section[host]
                dropped.add(host)
            if not section:
                del kept[method]
    return kept, tuple(sorted(dropped))


def move_section(source: Document, destination: Document, method: str, hosts: Collection[str]) -> None:
    """Move the method's section of `source` into that of `destination`, in place, but drop these hosts of it.

    For a Composer that does not merge this method host by host: there a stronger source's section replaces the weaker
    one's whole, and so would hide its other hosts. Both documents must have one.
    """
    stronger = source.pop(method)
    destination[method].update((host, content) for host, content in stronger.items() if host not in hosts)
