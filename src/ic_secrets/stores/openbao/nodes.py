"""What a server has at its paths now: nodes with their versions, claims on those that are to be, names in folders."""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...core.records import NamedTuple
from ...errors import StoreBusyError, StoreFormatError
from . import layout
from .client import Answer, Mount, Request, get_object
from .layout import Node

_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?Z", re.ASCII)


class Claim(NamedTuple):
    """The data of a claim, {} where they may not be read, and when we saw it first, on the monotonic clock."""

    data: Mapping[str, Any]
    since: float


class Nodes:
    """A mount as it is at the moment of each question; kept is only which version was found last."""

    def __init__(self, mount: Mount) -> None:
        self._mount = mount
        # The version, by path, that was there last: 0 where there is nothing at all.
        self.versions: dict[str, int] = {}
        # By path, what somebody is about to write, or to take back.
        self.claims: dict[str, Claim] = {}

    def list_folders(self, folders: Sequence[str]) -> dict[str, frozenset[str]]:
        """Return the names in each folder; those of folders end with a slash."""
        answers = self._mount.client.ask_all(
            [Request("LIST", self._mount.get_metadata_path(folder)) for folder in folders]
        )
        found = {}
        for folder, answer in zip(folders, answers, strict=True):
            keys = self._read(answer, folder).get("keys") or ()
            if not isinstance(keys, (list, tuple)) or not all(isinstance(key, str) for key in keys):
                raise StoreFormatError(f"{self._mount.client} lists {folder} with something that is not a name")
            found[folder] = frozenset(keys)
        return found

    def fetch(self, paths: Sequence[str], *, is_lenient: bool = True) -> dict[str, Node | None]:
        """Return the node at each path; None for an empty one, and for a claim.

        With `is_lenient`, where the server refuses the data but not the metadata, the node has no value.
        """
        requests = [Request("GET", self._mount.get_data_path(path)) for path in paths]
        answers = dict(zip(paths, self._mount.client.ask_all(requests, is_lenient=is_lenient), strict=True))
        refused = [path for path, answer in answers.items() if answer.status == 403]
        closed = self._mount.client.ask_all([Request("GET", self._mount.get_metadata_path(path)) for path in refused])
        nodes = {path: self._make_node(answer, path) for path, answer in answers.items() if path not in refused}
        nodes |= {path: self._make_closed_node(answer, path) for path, answer in zip(refused, closed, strict=True)}
        return nodes

    def forget(self, path: str) -> None:
        """Forget what was there: a list does not have it any more."""
        self.versions.pop(path, None)
        self.claims.pop(path, None)

    def _make_closed_node(self, answer: Answer, path: str) -> Node | None:
        found = self._read(answer, path)
        version, states = found.get("current_version") or 0, get_object(found, "versions")
        state = get_object(states, str(version))
        self.versions[path] = version if isinstance(version, int) else 0
        if answer.status == 404 or not state or _is_gone(state):
            return None
        meta = get_object(found, "custom_metadata")
        if meta.get(layout.CLAIM) == str(version):
            self._note_claim(path, {})
            return None
        self.claims.pop(path, None)
        return Node(meta, {"changed": _parse_time(found.get("updated_time"))}, self.versions[path])

    def _make_node(self, answer: Answer, path: str) -> Node | None:
        found = self._read(answer, path)
        meta, data = get_object(found, "metadata"), found.get("data")
        version = meta.get("version") or 0
        self.versions[path] = version = version if isinstance(version, int) else 0
        if isinstance(data, dict) and layout.is_claim(data):
            self._note_claim(path, data)
            return None
        self.claims.pop(path, None)
        if answer.status == 404 or data is None or data == layout.GONE:
            return None
        if not isinstance(data, dict):
            raise StoreFormatError(f"{path} is not a secret that ic-secrets wrote: it holds no fields")
        return Node(get_object(meta, "custom_metadata"), data, version)

    def _note_claim(self, path: str, data: Mapping[str, Any]) -> None:
        known = self.claims.get(path)
        if known is None or known.data != data:
            self.claims[path] = Claim(data, time.monotonic())

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
