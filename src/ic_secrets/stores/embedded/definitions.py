"""The rules of the model for one write: what an owner has under a name, and what is written there."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ...composer.methods import check_name
from ...model.resolve import Holdings, check_base, choose_hosts, find_base
from ...model.secret import Hosts, Owner, Scopes, SecretType
from ..base import Place, Write
from .rows import Row
from .session import Session


def read_name_chain(session: Session, owner: Owner, environment: str | None, name: str) -> list[Holdings]:
    """Return what the owner, and where it matters the site's primary organization, holds under the name.

    That is all that the rules of a write look at, and a large organization is read only when it counts.
    """
    held = session.held(owner).names.get(name, {})
    chain = [_holdings(owner, held)]
    own, old = held.get(""), held.get(environment or "")
    is_bound_elsewhere = own is not None and old is not None and old.base != own.base
    if owner.is_site and (is_bound_elsewhere if own else held or environment is not None):
        record = session.find(owner)
        if record and record.organization:
            organization = Owner.organization(record.organization)
            chain.append(_holdings(organization, session.held(organization).names.get(name, {})))
    return chain


def define(chain: list[Holdings], place: Place, write: Write) -> tuple[SecretType, Scopes, str, Hosts]:
    """Return type, scopes, base and hosts of what is about to be written (rules 3, 6 and 10).

    A new base has a random id; the hosts of an override are kept with its base.
    """
    if place.environment is not None:
        base = find_base(place.environment, place.name, chain, write.type, write.scopes, write.hosts)
        return base.type, base.scopes, base.id, ()
    kind, scopes = check_base(place.name, chain, write.type, write.scopes)
    check_name(kind, place.name)
    old = chain[0].secrets[0] if chain[0].secrets else None
    return kind, scopes, old.id if old else os.urandom(8).hex(), choose_hosts(kind, write.hosts, old)


def _holdings(owner: Owner, held: Mapping[str, Row]) -> Holdings:
    rows = held.values()
    return Holdings(
        owner,
        tuple(row.secret(owner, None) for row in rows if not row.environment),
        tuple(row.override(owner, None) for row in rows if row.environment),
    )
