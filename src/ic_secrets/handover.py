"""What `pre-build` leaves for `post-build`, in the private directory: all that ends a build without store or key.

`build/state.json` says what was done, `build/exposed.json` holds the values, for the search afterwards: they lie
beside auth.json and go with it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .directory import PrivateDirectory, find_enclosing, list_directories
from .errors import ScrubbedMeanwhileError
from .exposure import Exposure
from .files import is_below, read_regular
from .git import Login
from .guard import GuardId, RunningGuard
from .notices import Notice, Notify
from .overlay import AUTH_FILE, ComposerHome, OverlayTrace
from .preparation import BuildRequest, Preparation
from .receipt import Receipt
from .rendering import COMPOSER, given_value
from .resolve import Definition, Verdict
from .secret import SecretType, SecretValue, Target, parse_owner
from .stores import Identity

_FORMAT = 1
_PLACE = "build"
_STATE = f"{_PLACE}/state.json"
_EXPOSED = f"{_PLACE}/exposed.json"
_LARGEST = 256 << 20
# What the search and the sweep ask of an environment.
_KEPT = ("HOME", "TMPDIR", "XDG_RUNTIME_DIR")


class Handover(NamedTuple):
    """A build that was begun and not ended: its private directory, its checkout, its guard, and its whole state."""

    path: str
    checkout: str
    guard: RunningGuard
    state: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Handover({self.path})"

    @property
    def record(self) -> Mapping[str, Any]:
        """What the keeper of its record left for itself."""
        content: Mapping[str, Any] = self.state["record"]
        return content

    @property
    def notes(self) -> Mapping[str, Any]:
        """What whoever began the build left for itself."""
        content: Mapping[str, Any] = self.state["notes"]
        return content


def write_handover(
    exposure: Exposure,
    receipt: Receipt,
    guard: GuardId,
    record: Mapping[str, Any],
    notes: Mapping[str, Any],
    told: Sequence[str] = (),
) -> None:
    """Leave it in the private directory; `told` as in `Exposure`; ExposureError."""
    preparation, directory = exposure.preparation, exposure.directory
    request = preparation.request
    auth = preparation.files[f"{COMPOSER}/{AUTH_FILE}"].decode()
    values = {secret.name: given_value(secret).reveal() for secret in preparation.secrets}
    directory.subdirectory(_PLACE)
    directory.write(os.path.join(directory.path, _EXPOSED), json.dumps({"auth": auth, "values": values}).encode())
    state = {
        "format": _FORMAT,
        "checkout": os.path.realpath(preparation.project),
        "project": preparation.project,
        "directory": request.directory,
        "target": str(request.target),
        "environment": {name: request.environment[name] for name in _KEPT if name in request.environment},
        "run_dir": request.run_dir,
        "leaks": request.leaks,
        "leaks_allowed": request.leaks_allowed,
        "receipt": request.receipt,
        "secrets": [(s.source, s.name, s.type.value, s.version) for s in preparation.secrets],
        "logins": [(login.name, login.host) for login in preparation.logins],
        "minting_hosts": preparation.minting_hosts,
        "git_alone": sorted(preparation.git_alone),
        "home": preparation.home,
        "caches": preparation.caches,
        "store": preparation.store,
        "overlay": exposure.home_trace,
        "written": [*directory.written, _STATE],
        "told": told,
        "since": exposure.since,
        "started": receipt.started,
        "versions": dict(receipt.versions),
        "notices": list(receipt.notices),
        "guard": guard,
        "record": dict(record),
        "notes": dict(notes),
    }
    directory.write(os.path.join(directory.path, _STATE), json.dumps(state).encode())


def find_handover(directory: str, environment: Mapping[str, str], run_dir: str | None = None) -> Handover | None:
    """The build that was begun in the directory, or above it; the nearest of several. None where there is none.

    Only what this user has begun is found.
    """
    # The environment that a pre-build made names the place that it was told of.
    inside = find_enclosing(environment.get("COMPOSER_HOME") or "")
    paths = dict.fromkeys(list_directories(environment, run_dir))
    if inside:
        paths |= dict.fromkeys(list_directories({}, os.path.dirname(inside)))
    found = [handover for path in paths if (handover := _read(path)) and is_below(directory, handover.checkout)]
    return max(found, key=lambda handover: len(handover.checkout), default=None)


def resume_exposure(handover: Handover, notify: Notify) -> Exposure:
    """The exposure, to be finished; ScrubbedMeanwhileError where its guard was quicker."""
    state = handover.state
    try:
        exposed = json.loads(read_regular(os.path.join(handover.path, _EXPOSED), _LARGEST) or b"")
        directory = PrivateDirectory.resume(handover.path, state["written"], handover.guard)
    except (OSError, ValueError):
        raise ScrubbedMeanwhileError("its guard has just scrubbed it") from None
    preparation = _read_preparation(state, exposed)
    exposure = Exposure.resume(preparation, directory, state["since"], OverlayTrace(*state["overlay"]), notify)
    exposure.told = tuple(state["told"])
    return exposure


def resume_receipt(handover: Handover, request: BuildRequest) -> Receipt:
    """Its receipt, as far as it was."""
    state = handover.state
    notices = [Notice(*notice) for notice in state["notices"]]
    return Receipt.resume(request, state["started"], state["versions"], notices)


def _read(path: str) -> Handover | None:
    """What the directory says; None where it is that of a run, or is being made or removed."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        state = json.loads(read_regular(os.path.join(path, _STATE), _LARGEST) or b"")
        if state["format"] == _FORMAT:
            return Handover(path, state["checkout"], RunningGuard(GuardId(*state["guard"])), state)
    return None


def _read_preparation(state: Mapping[str, Any], exposed: Mapping[str, Any]) -> Preparation:
    request = BuildRequest(
        target=Target.parse(state["target"]),
        command=(),
        directory=state["directory"],
        environment=state["environment"],
        run_dir=state["run_dir"],
        leaks=state["leaks"],
        leaks_allowed=tuple(state["leaks_allowed"]),
        receipt=state["receipt"],
    )
    return Preparation(
        request=request,
        program="",
        project=state["project"],
        secrets=tuple(_read_secret(secret, exposed["values"]) for secret in state["secrets"]),
        logins=tuple(Login(name, host, "", "") for name, host in state["logins"]),
        minting_hosts=tuple(state["minting_hosts"]),
        git=None,
        git_alone=frozenset(state["git_alone"]),
        environment={},
        home=ComposerHome(*state["home"]),
        caches=tuple(state["caches"]),
        files={f"{COMPOSER}/{AUTH_FILE}": exposed["auth"].encode()},
        paths={},
        store=state["store"] and Identity(*state["store"]),
    )


def _read_secret(described: Sequence[Any], values: Mapping[str, str]) -> Definition:
    source, name, kind, version = described
    owner, environment = parse_owner(source)
    return Definition(
        owner=owner,
        environment=environment,
        name=name,
        type=SecretType(kind),
        scopes=frozenset(),
        value=SecretValue(values[name]),
        version=version,
        created=0,
        changed=0,
        expires=None,
        verdict=Verdict.WON,
    )
