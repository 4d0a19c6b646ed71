"""What of the broker and of isolation works here. A plain run needs neither, unless the settings say so."""

from __future__ import annotations

import socket

from ..assembly.request import find_isolation
from ..errors import IsolationError
from ..isolation.outside import leave_out_checkouts
from ..isolation.probe import Ability, choose, probe_bubblewrap, probe_landlock
from ..model import Scope
from .finding import FAIL, OK, WARN, Finding, Place


def look_at_broker(place: Place) -> Finding:
    """Make what a broker needs of the system: a certificate, and a socket on the loopback interface."""
    from ..broker.authority import Authority

    wanted = place.context.settings.is_on("broker")
    try:
        Authority().make_context("localhost")
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), 5):
            pass
    except OSError as error:
        remedy = "bring the loopback interface up, and allow files in memory (memfd_create)"
        return Finding(FAIL if wanted else WARN, f"it cannot listen here: {error.strerror}", remedy)
    return Finding(OK, "works: credentials can be kept out of the build")


def look_at_bubblewrap(place: Place) -> Finding:
    """Say whether namespaces can be had, by making them."""
    return _describe(
        probe_bubblewrap(leave_out_checkouts(place.environment, [place.directory])), "namespaces for a build"
    )


def look_at_landlock(place: Place) -> Finding:
    """Say which version of Landlock's interface the kernel has."""
    return _describe(probe_landlock(), "its interface keeps files and TCP")


def _describe(ability: Ability, what: str) -> Finding:
    facts = {
        "works": ability.works,
        "version": ability.version,
        **({"path": ability.program} if ability.program else {}),
    }
    if not ability.works:
        return Finding(WARN, ability.reason, ability.hint, facts)
    details = [f"version {ability.version}", *([ability.program] if ability.program else [])]
    if ability.program:
        details += ["in a user namespace"] if ability.user_namespace else []
        details += [] if ability.own_proc else ["without a /proc of its own"]
    return Finding(OK, f"{what}: {', '.join(details)}", facts=facts)


def look_at_isolation(place: Place) -> Finding:
    """Say how a build would be isolated; FAIL where the settings want that and it cannot be."""
    wanted = find_isolation(place.context.settings, Scope.IC)
    try:
        ability, notice = choose(wanted or "best", leave_out_checkouts(place.environment, [place.directory]))
    except IsolationError as error:
        return Finding(FAIL if wanted else WARN, str(error), "do what is said above", {"mode": ""})
    facts = {"mode": ability.mode}
    if notice:
        return Finding(WARN, notice.text, notice.hint, facts)
    return Finding(OK, f"works, by {ability.mode}", facts=facts)
