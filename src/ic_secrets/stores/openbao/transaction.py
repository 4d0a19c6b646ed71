"""A transaction on a server that writes one path at a time: kept here until its end, then written by `commit`."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...errors import StoreBusyError
from . import layout
from .client import Mount
from .commit import Step, await_claim, commit, dismiss, make_write
from .layout import Node
from .nodes import Nodes


class Transaction:
    """A mount as one transaction sees it. What was read once is read again from here, until `clear`."""

    def __init__(self, mount: Mount) -> None:
        self._mount = mount
        self._server = Nodes(mount)
        self._nodes: dict[str, Node | None] = {}
        # The paths of steps below each folder.
        self._touched: dict[str, set[str]] = {}
        # Folders that are not ours: each is named once.
        self._foreign: dict[str, bool] = {}
        self._listed: dict[str, frozenset[str]] = {}
        self._steps: list[Step] = []

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
        self._listed |= self._server.list_folders([folder for folder in folders if self._find_listed(folder) is None])
        return {folder: self._look_into(folder) for folder in folders}

    def _find_listed(self, folder: str) -> frozenset[str] | None:
        """Return the names that the server has in the folder; None where they are not known."""
        above, _, name = folder[:-1].rpartition("/")
        if f"{name}/" not in self._listed.get(f"{above}/", {f"{name}/"}):  # it would be in that list
            return self._listed.setdefault(folder, frozenset())
        return self._listed.get(folder)

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
            listed = self._find_listed(f"{folder}/")
            if path not in self._nodes and (listed is None or name in listed):
                missing.append(path)
            elif path not in self._nodes:  # it would be in the list, also without data
                self._nodes[path] = None
                self._server.forget(path)
        self._nodes |= self._server.fetch(missing, is_lenient=is_lenient)
        return [self._nodes[path] for path in paths]

    def has_changed(self, path: str) -> bool:
        """Return whether somebody wrote the node since it was read."""
        return self._server.fetch([path])[path] != self._nodes[path]

    def find_oldest(self, paths: Iterable[str]) -> str:
        """Return the path whose first version the server has had for longest; one whose first it has not any more."""
        return self._server.find_oldest(paths)

    # --- writing ----------------------------------------------------------------------------------------

    def put(self, path: str, data: Mapping[str, Any]) -> None:
        """Write the data as a new version of the node that `get` gave, or as a new one."""
        if self._nodes[path] is None:
            for place in (path, *layout.list_twins(path)):
                if await_claim(self._server, place) is not None:
                    raise StoreBusyError(f"{place} was created by somebody else meanwhile")
                if place != path:
                    dismiss(self._mount, self._server, place)
        before = self._nodes[path]
        meta = layout.get_meta(data) or (before.meta if before else {})
        data = {**data, "write": os.urandom(8).hex()}
        self._step(path, Node(meta, data, before.version + 1 if before else 1))

    def delete(self, path: str) -> None:
        """Delete the node with its metadata and every version."""
        self._step(path, None)

    def _step(self, path: str, after: Node | None) -> None:
        self._steps.append(Step(path, self._nodes.get(path), after))
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
        steps = self._join()
        try:
            if steps:
                commit(self._mount, self._server, steps)
        finally:
            self.clear()

    def _join(self) -> list[Step]:
        """Return what comes of the steps: for each path a deletion, writes, or first the one and then the others."""
        paths: dict[str, list[Step]] = {}
        for step in self._steps:
            paths.setdefault(step.path, []).append(step)
        joined = []
        for path, steps in paths.items():
            before, version = steps[0].before, self._server.versions.get(path, 0)
            last = max((number for number, step in enumerate(steps, 1) if step.after is None), default=0)
            if last and (before or not steps[0].after):
                joined.append(Step(path, before, None))
                before, version = None, 0
            for step in steps[last:]:
                assert step.after is not None
                joined.append(make_write(path, before, step.after, version))
                before = joined[-1].after
        return joined
