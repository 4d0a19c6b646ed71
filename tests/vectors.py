"""Stores that were written once and are kept: how a file of `fixtures/vectors/` is read, and what a store holds."""

from __future__ import annotations

import base64
import textwrap
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from ic_secrets.model.secret import Override, Secret, format_scopes
from ic_secrets.stores.embedded.store import LocalStore
from ic_secrets.stores.sealed_file import SealedStore

VECTORS = Path(__file__).parent.parent / "fixtures" / "vectors"


class Vector(NamedTuple):
    """A kept file, and what its opening is to come to.

    `kind` is the kind of store, `expect` the name of a failure or `success`, `key` that to open it with.
    """

    kind: str
    expect: str
    key: str
    comment: str
    content: bytes


def parse(text: str) -> Vector:
    """The header's `name: value` lines until an empty one, then the content: base64 of what zlib made of it."""
    header, _, body = text.partition("\n\n")
    fields = dict(line.split(": ", 1) for line in header.splitlines())
    return Vector(**fields, content=zlib.decompress(base64.b64decode(body)))  # type: ignore[arg-type]


def render(vector: Vector) -> str:
    """The text that `parse` takes."""
    header = "".join(f"{name}: {value}\n" for name, value in vector._asdict().items() if name != "content")
    body = base64.b64encode(zlib.compress(vector.content, 9)).decode()
    return f"{header}\n{textwrap.fill(body, 120)}\n"


def describe(store: LocalStore | SealedStore) -> dict[str, Any]:
    """All that the store holds, in JSON's types, values included."""
    values: list[dict[str, Any]] = []
    for owner in sorted(store.owners(), key=str):
        holdings = store.read(owner)
        values += [_describe(secret, None, secret.id) for secret in holdings.secrets]
        values += [_describe(override, override.environment, override.base) for override in holdings.overrides]
    sites = [
        {"site": site.name, "organization": site.organization, "supporting": list(site.supporting)}
        for site in store.sites()
    ]
    return {"store_id": store.store_id, "generation": store.generation, "sites": sites, "values": values}


def _describe(item: Secret | Override, environment: str | None, base: str) -> dict[str, Any]:
    assert item.value is not None
    return {
        "owner": str(item.owner),
        "environment": environment,
        "name": item.name,
        "type": item.type.value,
        "scopes": format_scopes(item.scopes),
        "value": item.value.reveal(),
        "base": base,
        "version": item.version,
        "created": item.created,
        "changed": item.changed,
        "expires": item.expires,
        **({"hosts": list(item.hosts)} if isinstance(item, Secret) and item.hosts else {}),
    }
