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

from ..build.expose import Exposure
from ..build.prepare import BuildRequest, Preparation
from ..build.receipt import Receipt
from ..build.render import COMPOSER, given_value
from ..composer.home import AUTH_FILE, ComposerHome, OverlayTrace
from ..core.files import is_below, read_regular, remove_tree
from ..core.linux import read_start_time
from ..core.notices import Notice, Notify
from ..errors import ScrubbedMeanwhileError
from ..git.helper import Login
from ..model.resolve import Definition, Verdict
from ..model.secret import SecretType, SecretValue, Target, parse_owner
from ..process.directory import HANDOVER, NOTE, PrivateDirectory, find_enclosing, list_directories
from ..stores.base import Cached, Identity
from .guard import GuardId, RunningGuard

_FORMAT = 1
_STATE = f"{HANDOVER}/state.json"
_EXPOSED = f"{HANDOVER}/exposed.json"
_LARGEST = 256 << 20
# What the search and the sweep ask of an environment.
_KEPT = ("HOME", "TMPDIR", "XDG_RUNTIME_DIR")


class Note(NamedTuple):
    """What is left of a build that was begun and whose guard has scrubbed it in time: its directory, and no value."""

    path: str
    checkout: str
    target: str
    receipt: str | None
    record: Mapping[str, Any]
    notes: Mapping[str, Any]

    def remove(self) -> None:
        """Remove it; OSError."""
        remove_tree(self.path)


class Handover(NamedTuple):
    """A build that was begun and not ended: its private directory, its checkout, its guard, and its whole state."""

    path: str
    checkout: str
    guard: RunningGuard
    state: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Handover({self.path})"

    @property
    def is_ours(self) -> bool:
        """Whether this very process began it."""
        return bool(self.state["beginner"] == list(_identify_ourselves()))

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
    """Leave it in the private directory; `told` as in `Exposure`; ExposureError.

    What `notes` has as `lasting` is kept even when the guard scrubs by itself, so no value may be in it.
    """
    preparation, directory = exposure.preparation, exposure.directory
    request = preparation.request
    auth = preparation.files[f"{COMPOSER}/{AUTH_FILE}"].decode()
    values = {secret.name: given_value(secret).reveal() for secret in preparation.secrets}
    note = {
        "format": _FORMAT,
        "checkout": os.path.realpath(preparation.project),
        "target": str(request.target),
        "receipt": request.receipt,
        "record": dict(record),
        "notes": notes.get("lasting", {}),
    }
    directory.write(os.path.join(directory.path, NOTE), json.dumps(note).encode())
    directory.subdirectory(HANDOVER)
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
        "cached": preparation.cached,
        "overlay": exposure.home_trace,
        "written": [*directory.written, _STATE],
        "told": told,
        "since": exposure.since,
        "started": receipt.started,
        "versions": dict(receipt.versions),
        "notices": list(receipt.notices),
        "guard": guard,
        "beginner": _identify_ourselves(),
        "record": dict(record),
        "notes": dict(notes),
    }
    directory.write(os.path.join(directory.path, _STATE), json.dumps(state).encode())


def find_handover(directory: str | None, environment: Mapping[str, str], run_dir: str | None = None) -> Handover | None:
    """The build whose environment this is; else the one that was begun in the directory, or above it, the nearest.

    None where there is none. Only what this user has begun is found.
    """
    inside = find_inside(environment)
    if inside and (meant := _read(inside)):
        return meant
    found = [handover for path in _list_places(environment, run_dir) if (handover := _read(path))]
    around = [handover for handover in found if directory and is_below(directory, handover.checkout)]
    return max(around, key=lambda handover: len(handover.checkout), default=None)


def find_note(directory: str | None, environment: Mapping[str, str], run_dir: str | None = None) -> Note | None:
    """The same of what a guard has scrubbed when its time was up; without a directory, by the environment alone."""
    inside = find_inside(environment)
    if inside and (meant := _read_note(inside)):
        return meant
    found = [note for path in _list_places(environment, run_dir) if (note := _read_note(path))]
    around = [note for note in found if directory and is_below(directory, note.checkout)]
    return max(around, key=lambda note: len(note.checkout), default=None)


def find_inside(environment: Mapping[str, str]) -> str | None:
    """The private directory, ours and still there, that the environment names: that of a build, wherever we are."""
    inside = find_enclosing(environment.get("COMPOSER_HOME") or "")
    return inside if inside and inside in list_directories({}, os.path.dirname(inside)) else None


def _list_places(environment: Mapping[str, str], run_dir: str | None) -> Sequence[str]:
    """Our private directories, those beside the one that the environment names included."""
    inside = find_enclosing(environment.get("COMPOSER_HOME") or "")
    nearby = list_directories({}, os.path.dirname(inside)) if inside else ()
    return tuple(dict.fromkeys([*list_directories(environment, run_dir), *nearby]))


def list_handovers(environment: Mapping[str, str], run_dir: str | None = None) -> Sequence[Handover]:
    """All that this user has begun, and that still have a guard, as far as they are found."""
    found = (_read(path) for path in list_directories(environment, run_dir))
    return [handover for handover in found if handover and handover.guard.is_alive]


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


def _identify_ourselves() -> GuardId:
    return GuardId(os.getpid(), read_start_time(os.getpid()) or 0)


def _read(path: str) -> Handover | None:
    """What the directory says; None where it is that of a run, or is being made or removed."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        state = json.loads(read_regular(os.path.join(path, _STATE), _LARGEST) or b"")
        if state["format"] == _FORMAT:
            return Handover(path, state["checkout"], RunningGuard(GuardId(*state["guard"])), state)
    return None


def _read_note(path: str) -> Note | None:
    """What the guard left; None where there is no note, or the build is not over."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        note = json.loads(read_regular(os.path.join(path, NOTE), _LARGEST) or b"")
        if note.pop("format") == _FORMAT and not os.path.lexists(os.path.join(path, HANDOVER)):
            return Note(path, **note)
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
        cached=Cached(*state["cached"]) if state.get("cached") else None,
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
