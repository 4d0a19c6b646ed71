"""A transaction on a server that writes one path at a time: kept here until its end, then written step by step.

The data of a secret are all of it, and each write of them is by check-and-set: of two writers one is first, and what
somebody else wrote meanwhile is not overwritten. Custom metadata are written before the data, since a policy may let
them be created only, and count for nothing where the data have another id.

Where a write fails, or a signal comes, those before it are taken back. What was created is taken back by check-and-set
as well: it is marked as removed, and then deleted, so that whoever has written to it since keeps it. A site's record is
deleted first and written last: half of a site is an unknown site.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...core.records import NamedTuple
from ...core.signals import delaying_signals
from ...errors import IcSecretsError, StoreBusyError, StoreDeniedError, StoreFormatError, StoreWriteError
from . import layout
from .client import Answer, Mount, Request, get_object
from .layout import Node

_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?Z", re.ASCII)
# How long what somebody takes back may be marked as removed before it is written over, in seconds: they were killed.
_REMOVAL = 2.0
_PAUSE = 0.05
# How long a failing server is waited for when a signal is to end us, what is taken back included, in seconds.
_HURRY = 5.0


class _Step(NamedTuple):
    """A write of a node in place of `before`, or its deletion (`after` None)."""

    path: str
    before: Node | None
    after: Node | None


class Transaction:
    """A mount as one transaction sees it. What was read once is read again from here, until `clear`."""

    def __init__(self, mount: Mount) -> None:
        self._mount = mount
        self._nodes: dict[str, Node | None] = {}
        # The version, by path, of what is there no more: 0 where there is nothing at all.
        self._versions: dict[str, int] = {}
        self._removed: set[str] = set()
        # The paths of steps below each folder.
        self._touched: dict[str, set[str]] = {}
        # Folders that are not ours: each is named once.
        self._foreign: dict[str, bool] = {}
        self._listed: dict[str, frozenset[str]] = {}
        self._steps: list[_Step] = []

    def clear(self) -> None:
        """Forget what was read and what was not written yet."""
        self._nodes.clear()
        self._listed.clear()
        self._touched.clear()
        self._steps.clear()

    @property
    def size(self) -> int:
        """Return how many steps there are; `cut` goes back to that many."""
        return len(self._steps)

    # --- reading ----------------------------------------------------------------------------------------

    def list_folders(self, folders: Sequence[str]) -> dict[str, list[str]]:
        """Return the names in each folder, in order; those of folders end with a slash."""
        missing = [folder for folder in folders if folder not in self._listed]
        answers = self._mount.client.ask_all(
            [Request("LIST", self._mount.get_metadata_path(folder)) for folder in missing]
        )
        for folder, answer in zip(missing, answers, strict=True):
            keys = self._read(answer, folder).get("keys") or ()
            if not isinstance(keys, (list, tuple)) or not all(isinstance(key, str) for key in keys):
                raise StoreFormatError(f"{self._mount.client} lists {folder} with something that is not a name")
            self._listed[folder] = frozenset(keys)
        return {folder: self._look_into(folder) for folder in folders}

    def _look_into(self, folder: str) -> list[str]:
        """Return the names in the folder, with the changes of this transaction."""
        found = set(self._listed[folder])
        for path in self._touched.get(folder, ()):
            first, slash, _ = path[len(folder) :].partition("/")
            if self._nodes[path] is not None:
                found.add(first + slash)
            elif not slash:
                found.discard(first)
        return sorted(found, key=lambda name: name.removesuffix("/"))

    def list_named(self, folder: str, grammar: str) -> list[str]:
        """Return the folders in the folder whose names are of that grammar; the others are another tool's."""
        names = [name[:-1] for name in self.list_folders([folder])[folder] if name.endswith("/")]
        for name in names:
            if not re.fullmatch(grammar, name):
                self._foreign.setdefault(f"{folder}{name}/", True)
        return [name for name in names if re.fullmatch(grammar, name)]

    def take_notices(self) -> tuple[str, ...]:
        """Return, once, which folders of another tool were passed over."""
        new = [folder for folder, is_new in self._foreign.items() if is_new]
        self._foreign |= dict.fromkeys(new, False)
        return tuple(f"{self._mount.name}/{folder} was not written by ic-secrets, and is left out" for folder in new)

    def get(self, paths: Sequence[str], *, is_lenient: bool = False) -> list[Node | None]:
        """Return the node at each path; None for an empty one.

        With `is_lenient`, where the server refuses the data but not the metadata, the node has no value.
        """
        missing = []
        for path in dict.fromkeys(paths):
            folder, _, name = path.rpartition("/")
            if path not in self._nodes and name in self._listed.get(f"{folder}/", {name}):
                missing.append(path)
            elif path not in self._nodes:  # it would be in the list, also without data
                self._nodes[path] = None
        self._nodes |= self._fetch(missing, is_lenient=is_lenient)
        return [self._nodes[path] for path in paths]

    def has_changed(self, path: str) -> bool:
        """Return whether somebody wrote the node since it was read."""
        return self._fetch([path], is_lenient=True)[path] != self._nodes[path]

    def _fetch(self, paths: Sequence[str], *, is_lenient: bool) -> dict[str, Node | None]:
        """Return the nodes as they are on the server now."""
        requests = [Request("GET", self._mount.get_data_path(path)) for path in paths]
        answers = dict(zip(paths, self._mount.client.ask_all(requests, is_lenient=is_lenient), strict=True))
        refused = [path for path, answer in answers.items() if answer.status == 403]
        closed = self._mount.client.ask_all([Request("GET", self._mount.get_metadata_path(path)) for path in refused])
        nodes = {path: self._make_node(answer, path) for path, answer in answers.items() if path not in refused}
        nodes |= {path: self._make_closed_node(answer, path) for path, answer in zip(refused, closed, strict=True)}
        return nodes

    def _make_closed_node(self, answer: Answer, path: str) -> Node | None:
        found = self._read(answer, path)
        version, states = found.get("current_version") or 0, get_object(found, "versions")
        state = get_object(states, str(version))
        self._versions[path] = version if isinstance(version, int) else 0
        if answer.status == 404 or not state or _is_gone(state):
            return None
        meta = get_object(found, "custom_metadata")
        return Node(meta, {"changed": _parse_time(found.get("updated_time"))}, self._versions[path])

    def _make_node(self, answer: Answer, path: str) -> Node | None:
        found = self._read(answer, path)
        meta, data = get_object(found, "metadata"), found.get("data")
        version = meta.get("version") or 0
        self._versions[path] = version = version if isinstance(version, int) else 0
        self._removed.discard(path)
        if answer.status == 404 or data is None:
            return None
        if not isinstance(data, dict):
            raise StoreFormatError(f"{path} is not a secret that ic-secrets wrote: it holds no fields")
        if layout.REMOVED.items() <= data.items():
            self._removed.add(path)
            return None
        return Node(get_object(meta, "custom_metadata"), data, version)

    def find_oldest(self, paths: Iterable[str]) -> str:
        """Return the path whose first version the server has had for longest; one whose first it has not any more."""
        paths = sorted(paths)
        ask_all = self._mount.client.ask_all
        answers = ask_all(
            [Request("GET", self._mount.get_data_path(path) + "?version=1") for path in paths], is_lenient=True
        )
        ages = []
        for path, answer in zip(paths, answers, strict=True):
            state = get_object(self._read(answer, path), "metadata") if answer.status != 403 else {}
            if answer.status == 403:  # not to be read by us, but the metadata are
                closed = ask_all([Request("GET", self._mount.get_metadata_path(path))])[0]
                state = get_object(get_object(self._read(closed, path), "versions"), "1")
            ages.append((str(state.get("created_time") or ""), path))
        return min(ages)[1]

    def _read(self, answer: Answer, path: str) -> Mapping[str, Any]:
        """Return the data of the answer. A 404 means absence only in an engine of version 2."""
        if answer.status not in {200, 404}:
            raise StoreBusyError(f"{self._mount.client} cannot read {path}: {answer.errors}")
        found = answer.body.get("data")
        if answer.status == 404:
            self._mount.check()
            return found if isinstance(found, dict) else {}
        if isinstance(found, dict) and "created_time" in (found.get("metadata") or found):
            self._mount.is_checked = True  # nothing else answers so
        elif not isinstance(found, dict) or "keys" not in found:
            self._mount.check()
            raise StoreFormatError(
                f"{self._mount.client} answers {path} with something that no engine of version 2 gives"
            )
        return found

    # --- writing ----------------------------------------------------------------------------------------

    def put(self, path: str, data: Mapping[str, Any]) -> None:
        """Write the data as a new version of the node that `get` gave, or as a new one."""
        if path in self._removed:
            self._await_removal(path)
        before = self._nodes[path]
        version = before.version if before else self._versions.get(path, 0)
        meta = layout.get_meta(data) or (before.meta if before else {})
        self._step(path, Node(meta, {**data, "write": os.urandom(8).hex()}, version + 1))

    def delete(self, path: str) -> None:
        """Delete the node with its metadata and every version."""
        self._step(path, None)
        self._versions[path] = 0

    def _await_removal(self, path: str) -> None:
        """Wait for whoever takes it back; StoreBusyError where somebody has written it since."""
        end = time.monotonic() + _REMOVAL
        while path in self._removed and time.monotonic() < end:
            time.sleep(_PAUSE)
            self._nodes |= self._fetch([path], is_lenient=True)
        if self._nodes[path] is not None:
            raise StoreBusyError(f"{path} was created by somebody else meanwhile")

    def _step(self, path: str, after: Node | None) -> None:
        self._steps.append(_Step(path, self._nodes.get(path), after))
        self._nodes[path] = after
        folder = path
        while "/" in folder:
            folder = folder.rpartition("/")[0]
            self._touched.setdefault(f"{folder}/", set()).add(path)

    def cut(self, size: int) -> None:
        """Drop the steps after the first `size`, none of which the server has."""
        while len(self._steps) > size:
            step = self._steps.pop()
            self._nodes[step.path] = step.before

    def commit(self) -> None:
        """Write all steps to the server; where one fails, take back those before it, and raise."""
        steps = sorted(self._prune(), key=_rank)
        if not steps:
            self.clear()
            return
        done: list[_Step] = []
        with delaying_signals(lambda: self._mount.client.limit(_HURRY)) as check_signals:
            try:
                self._mount.check()
                for step in steps:
                    check_signals()
                    done.append(step)
                    self._do(step)
                check_signals()
                self._check_twins([step.path for step in steps if step.after and not step.before])
            except BaseException as error:
                if not self._undo(done):
                    raise StoreWriteError(
                        f"a write failed halfway, and not all of it could be taken back: {error}",
                        hint="repeat the command when the server is well",
                    ) from None
                raise
            finally:
                self.clear()

    def _prune(self) -> list[_Step]:
        """Return the steps, without those of paths that come and go within the transaction."""
        first: dict[str, Node | None] = {}
        for step in self._steps:
            first.setdefault(step.path, step.before)
        made = {step.path for step in self._steps if step.after}
        gone = {path for path in made if first[path] is None and self._nodes[path] is None}
        return [step for step in self._steps if step.path not in gone]

    def _do(self, step: _Step) -> None:
        path, after = step.path, step.after
        if after is None:
            self._write("DELETE", self._mount.get_metadata_path(path))
            return
        if step.before is None:
            self._announce(path, after.meta)
        answer = self._write_data(path, after.data, after.version - 1)
        if answer is None:
            # Ours, where an earlier try was done and its answer lost; else somebody else's.
            node = self._fetch([path], is_lenient=True)[path]
            if node is None or (node.version, node.data) != (after.version, after.data):
                if node is not None and node.meta.get("id") == after.meta.get("id"):
                    self._announce(path, layout.get_meta(node.data))  # in place of ours, which came too late
                raise StoreBusyError(f"{path} was written by somebody else meanwhile")
            return
        meta = get_object(get_object(answer.body, "data"), "custom_metadata")
        if after.meta and meta.get("id") != after.meta.get("id"):
            self._announce(path, after.meta)

    def _announce(self, path: str, meta: Mapping[str, str]) -> None:
        """Write the custom metadata, where we may: those that another left may be there to stay."""
        where = self._mount.get_metadata_path(path)
        for left in (2, 1, 0) if meta else ():
            try:
                self._write("POST", where, {"custom_metadata": dict(meta)})
            except StoreDeniedError:  # where they are gone again, whoever left them has taken them back meanwhile
                if self._mount.client.ask("GET", where).status == 200:
                    return
                if not left:
                    raise
            else:
                return

    def _write_data(self, path: str, data: Mapping[str, Any], version: int) -> Answer | None:
        """Write the data in place of that version; None where it is another by now."""
        answer = self._write("POST", self._mount.get_data_path(path), {"data": data, "options": {"cas": version}})
        if answer.status == 400 and "check-and-set" in answer.errors:
            return None
        if answer.status >= 400:
            raise StoreWriteError(f"{self._mount.client} refuses {path}: {answer.errors or answer.status}")
        return answer

    def _check_twins(self, created: Sequence[str]) -> None:
        """StoreBusyError where somebody else created a secret for one of the places before us, with other scopes."""
        twins = {twin: path for path in created for twin in layout.list_twins(path)}
        folders = sorted({twin.rpartition("/")[0] + "/" for twin in twins})
        self._listed.clear()
        listed = self.list_folders(folders)
        there = [folder + name for folder in folders for name in listed[folder] if folder + name in twins]
        for twin, node in self._fetch([path for path in there if path not in created], is_lenient=True).items():
            if node is not None and self.find_oldest([twin, twins[twin]]) == twin:
                raise StoreBusyError(f"{twin} was created by somebody else meanwhile")

    def _write(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        answer = self._mount.client.ask(method, path, body)
        if answer.status == 413 or (answer.status == 400 and "too large" in answer.errors):
            raise StoreWriteError(f"{path} is too large for {self._mount.client}", hint="its max_request_size says so")
        if method != "POST" and answer.status == 400:
            raise StoreWriteError(f"{self._mount.client} refuses {path}: {answer.errors}")
        return answer

    def _undo(self, done: Sequence[_Step]) -> bool:
        """Put everything back as it was before these steps, the last perhaps not done; return whether we could."""
        whole = True
        for path in dict.fromkeys(step.path for step in reversed(done)):
            wanted = next(step.before for step in done if step.path == path)
            ours = [step.after for step in done if step.path == path]
            try:
                self._restore(path, wanted, [node.data for node in ours if node], is_deleted=None in ours)
            except IcSecretsError:
                whole = False
        return whole

    def _restore(self, path: str, wanted: Node | None, ours: Sequence[Mapping[str, Any]], *, is_deleted: bool) -> None:
        """Put one path back, unless somebody else has written it since."""
        now = self._fetch([path], is_lenient=True)[path]
        if now is None and (path in self._removed or not (is_deleted or wanted is None)):
            return
        if now is not None and now.data not in ours:  # never touched, or somebody else's by now
            return
        if wanted is not None:
            version = now.version if now else self._versions[path]
            with contextlib.suppress(StoreBusyError):
                self._do(_Step(path, now, wanted._replace(version=version + 1)))
            return
        metadata = self._mount.get_metadata_path(path)
        if now is None and self._mount.client.ask("GET", metadata).status == 404:
            return
        if self._write_data(path, layout.REMOVED, now.version if now else self._versions[path]):
            self._write("DELETE", metadata)


def _rank(step: _Step) -> int:
    """Say when its turn is: a site's record is deleted before everything else, and written after it."""
    if not layout.is_record(step.path):
        return 1
    return 0 if step.after is None else 2


def _is_gone(version: Mapping[str, Any]) -> bool:
    """Return whether it was destroyed or deleted; a time in the future is when it will be (`delete_version_after`)."""
    when = version.get("deletion_time")
    moment = _parse_time(when)
    return bool(version.get("destroyed")) or (bool(when) and (moment is None or moment <= time.time()))


def _parse_time(text: object) -> int | None:
    """Return a time of RFC 3339, as the server writes it, in Unix time; None for anything else."""
    import calendar

    found = _TIME.match(str(text))
    return calendar.timegm(tuple(int(part) for part in found.groups())) if found else None
