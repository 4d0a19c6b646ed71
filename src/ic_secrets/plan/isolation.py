"""What an isolated build would reach and see, and what it would ask for in vain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..core.records import NamedTuple
from .problem import Problem

if TYPE_CHECKING:
    from ..build.prepare import PreparedBuild

# The most hosts that one warning names.
_MOST = 10


class PlannedIsolation(NamedTuple):
    """What a build would be isolated by, the hosts that it would reach (`HOST[:PORT]`), and where it could write."""

    mode: str
    version: str
    hosts: tuple[str, ...]
    writable: tuple[str, ...]


def plan_isolation(prepared: PreparedBuild) -> PlannedIsolation | None:
    """Return what isolates the build; None where nothing does, or can."""
    isolation, reach = prepared.isolation, prepared.order.reach if prepared.order else None
    if isolation is None or reach is None:
        return None
    ability, view = isolation.ability, isolation.view
    return PlannedIsolation(ability.mode, ability.version, tuple(sorted(reach.hosts)), tuple(sorted(view.writable)))


def check_mentions(prepared: PreparedBuild) -> Iterator[Problem]:
    """Warn of servers that the project mentions and that would be out of the build's reach."""
    reach = prepared.order.reach if prepared.order else None
    if reach is None:
        return
    from ..broker.targets import RequestError, parse_host
    from ..composer.mentions import list_mentions

    missed = []
    for mention in list_mentions(prepared.project, prepared.request.command):
        try:
            is_reached = any(reach.covers(parse_host(mention.host, scheme)) for scheme in ("https", "http"))
        except RequestError:
            continue
        if not is_reached:
            missed.append(mention)
    if missed:
        shown = missed[:_MOST]
        rest = f" and {len(missed) - _MOST} more" if len(missed) > _MOST else ""
        names = ", ".join(f"{mention.host} ({mention.place})" for mention in shown)
        options = " ".join(f"--allow-host {mention.host}" for mention in shown)
        yield Problem("warning", f"the isolated build would not reach {names}{rest}", f"if it needs to: {options}")
