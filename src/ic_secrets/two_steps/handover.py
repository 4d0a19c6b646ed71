"""What `pre-build` leaves for `post-build` in the private directory: all that ends a build without a store or key.

It contains the values, for the search afterwards: it lies beside auth.json and goes with it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ..build import BuildSecret, BuildSecrets
from ..build.expose import Exposure
from ..build.prepare import Loaded, PreparedBuild
from ..build.receipt import Receipt, describe_secret
from ..build.request import BuildRequest
from ..ci import find_written
from ..composer import Project
from ..composer.auth_json import Document
from ..composer.home import AUTH_FILE, ComposerHome, OverlayTrace
from ..core import Notice, Notify
from ..core.clocks import Since
from ..core.files import is_below, read_regular, remove_tree
from ..core.linux import read_start_time
from ..core.records import NamedTuple
from ..errors import ScrubbedMeanwhileError
from ..model import SecretType, SecretValue, Target
from ..process.directory import NOTE, STEPS, PrivateDirectory, find_enclosing, leave_note, list_directories
from ..stores.base import Cached, Identity
from .guard import ProcessId, RunningGuard

_FORMAT = 2
_FILE = f"{STEPS}/state.json"
_LARGEST = 256 << 20
# What the search and the sweep need of an environment.
_KEPT = ("HOME", "TMPDIR", "XDG_RUNTIME_DIR")


class Note(NamedTuple):
    """What is left of a build that its guard has scrubbed because its time was up: no value is in it.

    `restore` says what each variable was before that the build changed, None where it was not set; what might be a
    value is left out.
    """

    path: str
    checkout: str
    target: str
    receipt: str | None
    record: Mapping[str, Any]
    pipeline: str
    restore: Mapping[str, str | None]

    def to_json(self) -> bytes:
        """Return what `from_json` takes."""
        return json.dumps({"format": _FORMAT, **self._asdict()}).encode()

    @classmethod
    def from_json(cls, data: bytes, path: str) -> Note:
        """Return the note of the directory `path`; ValueError, KeyError, TypeError."""
        return cls(**{**_load(data), "path": path})

    def remove(self) -> None:
        """Remove its directory; OSError."""
        remove_tree(self.path)


class Handover(NamedTuple):
    """A build that was begun and not ended. Its fields are JSON as they are, but for the tuples.

    `secrets` have a name, type, source, version and value each; those that only the broker knows are not among them,
    but described in `unseen`, as in a receipt. `outputs` are files elsewhere that were given values on purpose.
    `restore` says what each variable was before that the build changed, None where it was not set.
    """

    path: str
    checkout: str
    target: str
    project: str
    identity: Sequence[int]
    directory: str
    environment: Mapping[str, str]
    run_dir: str | None
    leaks: str
    leaks_allowed: Sequence[str]
    receipt: str | None
    secrets: Sequence[Sequence[Any]]
    unseen: Sequence[Mapping[str, Any]]
    broker: ProcessId | None
    auth: Document
    caches: Sequence[str]
    trees: Sequence[str]
    home: ComposerHome
    overlay: OverlayTrace
    store: Identity | None
    cached: Cached | None
    written: Sequence[str]
    outputs: Sequence[str]
    since: Since
    started: float
    versions: Mapping[str, str | None]
    notices: Sequence[Notice]
    guard_id: ProcessId
    beginner: ProcessId
    record: Mapping[str, Any]
    pipeline: str
    restore: Mapping[str, str | None]

    def __repr__(self) -> str:
        return f"Handover({self.path})"

    def to_json(self) -> bytes:
        """Return what `from_json` takes."""
        return json.dumps({"format": _FORMAT, **self._asdict()}).encode()

    @classmethod
    def from_json(cls, data: bytes, path: str) -> Handover:
        """Return what was left in the directory `path`; ValueError, KeyError, TypeError."""
        fields = _load(data)
        return cls(
            **{
                **fields,
                "path": path,
                "since": Since.from_json(fields["since"]),
                "home": ComposerHome(*fields["home"]),
                "overlay": OverlayTrace(*fields["overlay"]),
                "store": fields["store"] and Identity(*fields["store"]),
                "cached": fields["cached"] and Cached(*fields["cached"]),
                "notices": [Notice(*notice) for notice in fields["notices"]],
                "guard_id": ProcessId(*fields["guard_id"]),
                "broker": fields["broker"] and ProcessId(*fields["broker"]),
                "beginner": ProcessId(*fields["beginner"]),
            }
        )

    @classmethod
    def of(cls, exposure: Exposure, receipt: Receipt, guard: ProcessId, **others: Any) -> Handover:
        """Gather it of a build that is exposed; `others` are the record, the pipeline and what it restores."""
        prepared, directory = exposure.prepared, exposure.directory
        request, project = prepared.request, prepared.project
        return cls(
            path=directory.path,
            checkout=os.path.realpath(project.directory),
            target=str(request.target),
            project=project.directory,
            identity=project.identity,
            directory=request.directory,
            environment=_select_environment(request.environment),
            run_dir=request.run_dir,
            leaks=request.leaks,
            leaks_allowed=request.leaks_allowed,
            receipt=request.receipt,
            secrets=[
                (s.name, s.type.value, s.source, s.version, s.value.reveal())
                for s in prepared.secrets
                if s.name not in prepared.hidden
            ],
            unseen=[describe_secret(s, prepared) for s in prepared.secrets if s.name in prepared.hidden],
            auth=prepared.auth,
            caches=project.caches,
            trees=project.trees,
            home=prepared.home,
            overlay=exposure.home_trace,
            store=prepared.loaded.store,
            cached=prepared.loaded.cached,
            written=[*directory.written, NOTE, _FILE],
            outputs=exposure.outputs,
            since=exposure.since,
            started=receipt.started,
            versions=receipt.versions,
            notices=receipt.notices,
            guard_id=guard,
            broker=_identify(exposure.broker.pid) if exposure.broker else None,
            beginner=_identify(os.getpid()),
            **others,
        )

    def write(self, directory: PrivateDirectory, lasting: Mapping[str, str | None]) -> None:
        """Leave it in the private directory, and beside it the note, with what is restored even then; ExposureError."""
        note = Note(self.path, self.checkout, self.target, self.receipt, self.record, self.pipeline, lasting)
        directory.write(os.path.join(self.path, NOTE), note.to_json())
        directory.subdirectory(STEPS)
        directory.write(os.path.join(self.path, _FILE), self.to_json())

    @property
    def guard(self) -> RunningGuard:
        """Its guard."""
        return RunningGuard(self.guard_id)

    @property
    def is_ours(self) -> bool:
        """Whether this very process began it."""
        return self.beginner == _identify(os.getpid())

    @contextlib.contextmanager
    def unfinished(self) -> Iterator[None]:
        """Keep the note beside what is scrubbed inside the block: whoever is killed there has not ended the build."""
        kept = None
        with contextlib.suppress(OSError):
            data = read_regular(os.path.join(self.path, NOTE), _LARGEST)
            kept = data and leave_note(os.path.dirname(self.path), data)
        try:
            yield
        except ScrubbedMeanwhileError:
            with contextlib.suppress(OSError):
                remove_tree(kept or self.path)
            raise
        with contextlib.suppress(OSError):
            while (note := _find_own_note(self.path, self.checkout)) is not None:
                note.remove()

    def resume_exposure(self, notify: Notify, receipt: str | None = None) -> Exposure:
        """Return the exposure, to be finished; `receipt` is another file than the one that was named when it began.

        ScrubbedMeanwhileError where the guard was quicker.
        """
        try:
            os.lstat(os.path.join(self.path, _FILE))
            directory = PrivateDirectory.resume(self.path, self.written, self.guard)
        except OSError:
            raise ScrubbedMeanwhileError("its guard has just scrubbed it") from None
        broker = None
        if self.broker:
            from ..build.brokering import LeftBroker

            broker = LeftBroker(self.path, *self.broker)
        exposure = Exposure.resume(self._prepare(receipt), directory, self.since, self.overlay, notify, broker)
        exposure.outputs = tuple(self.outputs)
        return exposure

    def resume_receipt(self, request: BuildRequest) -> Receipt:
        """Return its receipt, as far as it was."""
        receipt = Receipt(request)
        receipt.started, receipt.versions = self.started, self.versions
        receipt.notices = list(self.notices)
        return receipt

    def _prepare(self, receipt: str | None) -> PreparedBuild:
        """Return as much of the prepared build as its end needs."""
        request = BuildRequest(
            target=Target.parse(self.target),
            command=(),
            directory=self.directory,
            environment=self.environment,
            run_dir=self.run_dir,
            leaks=self.leaks,
            leaks_allowed=tuple(self.leaks_allowed),
            receipt=receipt or self.receipt,
        )
        secrets = BuildSecrets(
            BuildSecret.make(name, SecretType(kind), SecretValue(text), source=source, version=version)
            for name, kind, source, version, text in self.secrets
        )
        return PreparedBuild(
            request=request,
            project=Project(
                self.project, identity=tuple(self.identity), caches=tuple(self.caches), trees=tuple(self.trees)
            ),
            home=self.home,
            secrets=secrets,
            loaded=Loaded(store=self.store, cached=self.cached),
            home_files={AUTH_FILE: self.auth},
            unseen=tuple(self.unseen),
        )


T = TypeVar("T", Handover, Note)


def find_handover(directory: str | None, environment: Mapping[str, str], run_dir: str | None = None) -> Handover | None:
    """Find the build whose environment this is; else the one that was begun in the directory, or nearest above it.

    Only what this user has begun is found.
    """
    return _find(_read, directory, environment, run_dir)


def find_note(directory: str | None, environment: Mapping[str, str], run_dir: str | None = None) -> Note | None:
    """Find the same where a guard has scrubbed in time; without a directory, by the environment alone."""
    return _find(_read_note, directory, environment, run_dir)


def find_inside(environment: Mapping[str, str]) -> str | None:
    """Find the private directory, ours and still there, that the environment names: that of a build."""
    inside = find_enclosing(environment.get("COMPOSER_HOME") or "")
    return inside if inside and inside in list_directories({}, os.path.dirname(inside)) else None


def list_handovers(environment: Mapping[str, str], run_dir: str | None = None) -> Sequence[Handover]:
    """Return all that this user has begun and that still have a guard, as far as they are found."""
    found = (_read(path) for path in list_directories(environment, run_dir))
    return [handover for handover in found if handover and handover.guard.is_alive]


def _find(
    read: Callable[[str], T | None], directory: str | None, environment: Mapping[str, str], run_dir: str | None
) -> T | None:
    inside = find_inside(environment)
    if inside and (meant := read(inside)):
        return meant
    found = [one for path in _list_places(environment, run_dir) if (one := read(path))]
    around = [one for one in found if directory and is_below(directory, one.checkout)]
    return max(around, key=lambda one: len(one.checkout), default=None)


def _list_places(environment: Mapping[str, str], run_dir: str | None) -> Sequence[str]:
    """Return our private directories, those beside the one that the environment names included."""
    inside = find_enclosing(environment.get("COMPOSER_HOME") or "")
    nearby = list_directories({}, os.path.dirname(inside)) if inside else ()
    return tuple(dict.fromkeys([*list_directories(environment, run_dir), *nearby]))


def _read(path: str) -> Handover | None:
    """Read what the directory says; None where it is that of a run, or is being made or removed."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return Handover.from_json(read_regular(os.path.join(path, _FILE), _LARGEST) or b"", path)
    return None


def _read_note(path: str) -> Note | None:
    """Read what the guard left; None where there is no note, or the build is not over."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        note = Note.from_json(read_regular(os.path.join(path, NOTE), _LARGEST) or b"", path)
        return None if os.path.lexists(os.path.join(path, STEPS)) else note
    return None


def _find_own_note(path: str, checkout: str) -> Note | None:
    """Find a note of a build of the checkout beside the private directory `path`."""
    found = (_read_note(each) for each in list_directories({}, os.path.dirname(path)))
    return next((note for note in found if note and note.checkout == checkout), None)


def _load(data: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(data)
    if fields.pop("format") != _FORMAT:
        raise ValueError("another version of ic-secrets wrote it")
    return fields


def _select_environment(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: environment[name] for name in _KEPT if name in environment} | find_written(environment)


def _identify(pid: int) -> ProcessId:
    return ProcessId(pid, read_start_time(pid) or 0)
