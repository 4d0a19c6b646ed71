"""A transaction on a server that writes one path at a time: kept here until its end, then written step by step.

Each write is by check-and-set: what somebody else wrote meanwhile is not overwritten. Where a write fails, those before
it are taken back.
"""

import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...errors import IcSecretsError, StoreBusyError, StoreFormatError, StoreWriteError
from .client import Answer, Mount, Request
from .layout import Node

_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?Z", re.ASCII)


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
        self._listed: dict[str, frozenset[str]] = {}
        self._steps: list[_Step] = []

    def clear(self) -> None:
        """Forget what was read and what was not written yet."""
        self._nodes.clear()
        self._listed.clear()
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
            self._listed[folder] = frozenset(self._read(answer, folder).get("keys") or ())
        return {folder: self._look_into(folder) for folder in folders}

    def _look_into(self, folder: str) -> list[str]:
        """Return the names in the folder, with the changes of this transaction."""
        found = set(self._listed[folder])
        for path in {step.path for step in self._steps}:
            if path.startswith(folder):
                first, slash, _ = path[len(folder) :].partition("/")
                if self._nodes[path] is not None:
                    found.add(first + slash)
                elif not slash:
                    found.discard(first)
        return sorted(found, key=lambda name: name.removesuffix("/"))

    def get(self, paths: Sequence[str], *, is_lenient: bool = False) -> list[Node | None]:
        """Return the node at each path, None where there is none.

        With `is_lenient`, where the server refuses the data but not the metadata, the node has no value.
        """
        missing = [path for path in dict.fromkeys(paths) if path not in self._nodes]
        self._nodes |= self._fetch(missing, is_lenient=is_lenient)
        return [self._nodes[path] for path in paths]

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
        version = str(found.get("current_version") or 0)
        states = found.get("versions") or {}
        if answer.status == 404 or version not in states or _is_gone(states[version]):
            return None
        return Node(
            found.get("custom_metadata") or {}, {"changed": _parse_time(found.get("updated_time"))}, int(version)
        )

    def _make_node(self, answer: Answer, path: str) -> Node | None:
        found = self._read(answer, path)
        meta, data = found.get("metadata") or {}, found.get("data")
        if answer.status == 404 or data is None:
            return None
        return Node(meta.get("custom_metadata") or {}, data, int(meta.get("version") or 0))

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

    def put(self, path: str, meta: Mapping[str, str], data: Mapping[str, Any]) -> None:
        """Write the data as a new version of the node that `get` gave, or as a new node with that custom metadata."""
        before = self._nodes[path]
        after = Node(before.meta if before else meta, data, before.version + 1 if before else 1)
        self._step(path, after)

    def delete(self, path: str) -> None:
        """Delete the node with its metadata and every version."""
        self._step(path, None)

    def _step(self, path: str, after: Node | None) -> None:
        self._steps.append(_Step(path, self._nodes.get(path), after))
        self._nodes[path] = after

    def cut(self, size: int) -> None:
        """Drop the steps after the first `size`, none of which the server has."""
        while len(self._steps) > size:
            step = self._steps.pop()
            self._nodes[step.path] = step.before

    def commit(self) -> None:
        """Write all steps to the server; where one fails, take back those before it, and raise."""
        steps, done = self._prune(), []
        if steps:
            self._mount.check()
        try:
            for step in steps:
                done.append(step)
                self._do(step)
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
        if step.after is None:
            self._write("DELETE", self._mount.get_metadata_path(step.path))
            return
        if step.before is None:
            self._begin(step.path, step.after.meta)
        cas = step.before.version if step.before else 0
        answer = self._write(
            "POST", self._mount.get_data_path(step.path), {"data": step.after.data, "options": {"cas": cas}}
        )
        if answer.status == 400 and "check-and-set" in answer.errors:
            # Ours, where an earlier try was done and its answer lost; else somebody else's.
            node = self._fetch([step.path], is_lenient=True)[step.path]
            if node is not None and node.version == cas + 1 and node.data == step.after.data:
                return
            raise StoreBusyError(f"{step.path} was written by somebody else meanwhile")
        if answer.status >= 400:
            raise StoreWriteError(f"{self._mount.client} refuses {step.path}: {answer.errors or answer.status}")
        meta = (answer.body.get("data") or {}).get("custom_metadata") or {}
        if step.after.meta and meta.get("id") != step.after.meta.get("id"):
            raise StoreBusyError(f"{step.path} was created by somebody else meanwhile")

    def _begin(self, path: str, meta: Mapping[str, str]) -> None:
        """Write the custom metadata of a new node; what an unfinished or half-deleted one left is removed first."""
        answer = self._mount.client.ask("GET", self._mount.get_metadata_path(path))
        if answer.status == 200:
            found = self._read(answer, path)
            version = str(found.get("current_version") or 0)
            if (found.get("versions") or {}).get(version) and not _is_gone(found["versions"][version]):
                raise StoreBusyError(f"{path} was created by somebody else meanwhile")
            self._write("DELETE", self._mount.get_metadata_path(path))
        if meta:
            self._write("POST", self._mount.get_metadata_path(path), {"custom_metadata": dict(meta)})

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
                whole &= self._restore(path, wanted, ours)
            except IcSecretsError:
                whole = False
        return whole

    def _restore(self, path: str, wanted: Node | None, ours: Sequence[Node | None]) -> bool:
        now = self._fetch([path], is_lenient=True)[path]
        if now == wanted or (now is not None and now not in ours):  # never touched, or somebody else's by now
            return True
        if wanted is None:
            self._write("DELETE", self._mount.get_metadata_path(path))
            return True
        with contextlib.suppress(StoreBusyError):
            self._do(_Step(path, now, wanted))
        return True


def _is_gone(version: Mapping[str, Any]) -> bool:
    return bool(version.get("destroyed")) or bool(version.get("deletion_time"))


def _parse_time(text: object) -> int | None:
    """Return a time of RFC 3339, as the server writes it, in Unix time; None for anything else."""
    import calendar

    found = _TIME.match(str(text))
    return calendar.timegm(tuple(int(part) for part in found.groups())) if found else None
