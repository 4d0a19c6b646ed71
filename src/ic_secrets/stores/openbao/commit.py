"""Writing the steps of a transaction to a server that writes one path at a time: side by side, in an order of waves.

The data of a secret are all of it, and each write of them is by check-and-set: of two writers one is first, and what
somebody else wrote meanwhile is not overwritten. Custom metadata are written before the data, since a policy may let
them be created only, and count for nothing where the data have another id. Hosts that go are taken from them after the
data, so that no half of a change unbinds a secret. A new base is claimed first (see `layout`).

Where a write fails, or a signal comes, those before it are taken back. What was created is taken back by check-and-set
as well: it is marked as removed, and then deleted, so that whoever has written to it since keeps it. A site's record is
deleted first and written last: half of a site is an unknown site. Overrides are there before a new base of theirs, and
go after it: no environment gets the base's value meanwhile.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ...core.records import NamedTuple
from ...core.signals import delaying_signals
from ...errors import EndedError, IcSecretsError, StoreBusyError, StoreDeniedError, StoreWriteError
from . import layout
from .client import Answer, Mount, get_object
from .layout import Node
from .nodes import Nodes

# How long a failing server is waited for when a signal is to end us, what is taken back included, in seconds.
_HURRY = 5.0
# How long a claim counts, in seconds: whoever has not written by then was killed.
_CLAIM = 2.0
_PAUSE = 0.05
# So many new bases are claimed at once: whoever wants the same name waits for them.
_CLAIMS = 60


class Step(NamedTuple):
    """A write of a node in place of `before`, or its deletion (`after` None)."""

    path: str
    before: Node | None
    after: Node | None

    @property
    def is_claimed(self) -> bool:
        """Return whether a claim comes before it."""
        return self.before is None and self.after is not None and layout.is_base(self.path)


def make_write(path: str, before: Node | None, after: Node, version: int) -> Step:
    """Return the step that writes the node in place of that before, or after that version, and a claim if need be."""
    version = before.version if before else version
    step = Step(path, before, after._replace(version=version + 1))
    if step.is_claimed:
        claim, version = version + 1, version + 1
    elif before and layout.CLAIM in before.data:
        claim = before.data[layout.CLAIM]
    else:
        return step
    data = {**after.data, layout.CLAIM: claim}
    return step._replace(after=Node(layout.get_meta(data) or after.meta, data, version + 1))


def commit(mount: Mount, nodes: Nodes, steps: Sequence[Step]) -> None:
    """Write the steps, of one path at most a deletion and then writes; where one fails, take all back, and raise."""
    writer = _Writer(mount, nodes)
    with delaying_signals(lambda: mount.client.limit(_HURRY)) as check_signals:
        try:
            mount.check()
            for wave in _arrange(steps):
                check_signals()
                writer.write(wave, check_signals)
            check_signals()
        except BaseException as error:
            if not writer.undo():
                raise StoreWriteError(
                    f"a write failed halfway, and not all of it could be taken back: {error}",
                    hint="repeat the command when the server is well",
                ) from None
            raise


def dismiss(mount: Mount, nodes: Nodes, path: str) -> None:
    """End a claim whose writer was killed, so that they cannot write any more; StoreBusyError where they have."""
    if path in nodes.claims and not _Writer(mount, nodes).write_data(path, layout.GONE, nodes.versions[path]):
        raise StoreBusyError(f"{path} was created by somebody else meanwhile")
    nodes.claims.pop(path, None)


def await_claim(nodes: Nodes, path: str) -> Node | None:
    """Return what is there once the claim is filled or gone; None too where it is so old that its writer was killed."""
    node = None
    while path in nodes.claims and time.monotonic() < nodes.claims[path].since + _CLAIM:
        time.sleep(_PAUSE)
        node = nodes.fetch([path])[path]
    return node


def _arrange(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Yield the steps in waves: those of one may be done in any order."""
    ranked: dict[int, list[Step]] = {}
    for step in steps:
        ranked.setdefault(_rank(step), []).append(step)
    for _, wave in sorted(ranked.items()):
        for start in range(0, len(wave), _CLAIMS):
            yield wave[start : start + _CLAIMS]


def _group(steps: Sequence[Step]) -> dict[str, list[Step]]:
    """Return the steps by path."""
    grouped: dict[str, list[Step]] = {}
    for step in steps:
        grouped.setdefault(step.path, []).append(step)
    return grouped


def _rank(step: Step) -> int:
    if layout.is_record(step.path):
        return 0 if step.after is None else 5
    is_base = layout.is_base(step.path)
    if step.after is None:
        return 1 if is_base else 2
    return 4 if is_base else 3


class _Writer:
    """Who writes the steps, and knows which may have been done."""

    def __init__(self, mount: Mount, nodes: Nodes) -> None:
        self._mount = mount
        self._nodes = nodes
        self._done: list[Step] = []

    def write(self, wave: Sequence[Step], check_signals: Callable[[], None]) -> None:
        """Do the steps of one wave."""

        def run(work: Callable[[Step], None], steps: Sequence[Step]) -> None:
            def begin(steps: Sequence[Step]) -> None:
                for step in steps:
                    with contextlib.suppress(EndedError):  # raised here, it would end us before the others are done
                        check_signals()
                        work(step)

            self._mount.client.run_all(begin, list(_group(steps).values()))
            check_signals()

        self._done += wave
        created = [step for step in wave if step.is_claimed]
        if created:
            run(self._claim, created)
            self._check_twins([step.path for step in created])
        run(self._do, wave)

    def _do(self, step: Step) -> None:
        if step.after is None:
            self._write("DELETE", self._mount.get_metadata_path(step.path))
        else:
            self._put(step.path, step.before, step.after, is_announced=step.is_claimed)

    def _put(self, path: str, before: Node | None, after: Node, *, is_announced: bool = False) -> None:
        """Write the node in place of that before; `is_announced` says of a new one that its metadata are there."""
        known = before.meta if before else {}
        is_bound_anew = before is not None and known.get(layout.HOSTS) != after.meta.get(layout.HOSTS)
        meta = {key: value for key, value in known.items() if key != layout.HOSTS} | dict(after.meta)
        if (before is None and not is_announced) or (is_bound_anew and layout.HOSTS in meta):
            self._announce(path, meta)
        answer = self.write_data(path, after.data, after.version - 1)
        if answer is None:
            # Ours, where an earlier try was done and its answer lost; else somebody else's.
            node = self._nodes.fetch([path])[path]
            if node is None or (node.version, node.data) != (after.version, after.data):
                if node is not None and node.meta.get("id") == after.meta.get("id"):
                    self._announce(path, layout.get_meta(node.data))  # in place of ours, which came too late
                raise StoreBusyError(f"{path} was written by somebody else meanwhile")
        elif after.meta and _get_identity(answer) != after.meta.get("id"):
            self._announce(path, after.meta)
        if is_bound_anew and layout.HOSTS not in meta:
            self._announce(path, meta)

    def _claim(self, step: Step) -> None:
        """Say that the base will be there; StoreBusyError where somebody else does."""
        path, after = step.path, step.after
        assert after is not None
        version = after.version - 2
        is_ours = self._announce(path, after.meta)
        answer = self.write_data(path, layout.make_claim(after.data), version)
        if answer is None:
            node = self._nodes.fetch([path])[path]
            if not self._is_ours(path, after):
                if node is not None and node.meta.get("id") == after.meta.get("id"):
                    self._announce(path, layout.get_meta(node.data))  # in place of ours, which came too late
                raise StoreBusyError(f"{path} is written by somebody else")
        elif not is_ours and _get_identity(answer) != after.meta.get("id"):  # what is there cannot be changed
            raise StoreBusyError(f"{path} has been announced by somebody else")

    def _is_ours(self, path: str, after: Node) -> bool:
        """Return whether the claim that was found there last is ours."""
        claim = self._nodes.claims.get(path)
        return claim is not None and claim.data == layout.make_claim(after.data)

    def _announce(self, path: str, meta: Mapping[str, str]) -> bool:
        """Write the custom metadata, and return whether we might: those that another left may be there to stay."""
        where = self._mount.get_metadata_path(path)
        for left in (2, 1, 0) if meta else ():
            try:
                self._write("POST", where, {"custom_metadata": dict(meta)})
            except StoreDeniedError:  # where they are gone again, whoever left them has taken them back meanwhile
                if self._mount.client.ask("GET", where).status == 200:
                    return False
                if not left:
                    raise
            else:
                break
        return True

    def write_data(self, path: str, data: Mapping[str, Any], version: int) -> Answer | None:
        """Write the data in place of that version; None where it is another by now."""
        answer = self._write("POST", self._mount.get_data_path(path), {"data": data, "options": {"cas": version}})
        if answer.status == 400 and "check-and-set" in answer.errors:
            return None
        if answer.status >= 400:
            raise StoreWriteError(f"{self._mount.client} refuses {path}: {answer.errors or answer.status}")
        return answer

    def _check_twins(self, claimed: Sequence[str]) -> None:
        """StoreBusyError where somebody else has, or claims, one of the secrets, with other scopes.

        Of two who claimed before they looked at least one sees the other. Where both do, the one whose path comes first
        waits for the other to withdraw.
        """
        twins = {twin: path for path in claimed for twin in layout.list_twins(path)}
        listed = self._nodes.list_folders(sorted({twin.rpartition("/")[0] + "/" for twin in twins}))
        there = [folder + name for folder, names in listed.items() for name in names if folder + name in twins]
        for twin, node in self._nodes.fetch(there).items():
            if twins[twin] < twin:
                node = node or await_claim(self._nodes, twin)
                dismiss(self._mount, self._nodes, twin)
            if node is not None or twin in self._nodes.claims:
                raise StoreBusyError(f"{twin} was created by somebody else meanwhile")

    def _write(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        answer = self._mount.client.ask(method, path, body)
        if answer.status == 413 or (answer.status == 400 and "too large" in answer.errors):
            raise StoreWriteError(f"{path} is too large for {self._mount.client}", hint="its max_request_size says so")
        if method != "POST" and answer.status == 400:
            raise StoreWriteError(f"{self._mount.client} refuses {path}: {answer.errors}")
        return answer

    def undo(self) -> bool:
        """Put everything back as it was, the last steps perhaps not done; return whether we could."""
        steps = _group(self._done)

        def restore(path: str) -> bool:
            try:
                self._restore(path, steps[path])
            except IcSecretsError:
                return False
            return True

        waves = [[step.path for step in wave] for wave in _arrange([steps[path][-1] for path in steps])]
        restored = [self._mount.client.run_all(restore, wave) for wave in reversed(waves)]
        return all(all(wave) for wave in restored)

    def _restore(self, path: str, steps: Sequence[Step]) -> None:
        """Put one path back, unless somebody else has written it since."""
        wanted, is_deleted = steps[0].before, any(step.after is None for step in steps)
        claimed = next((step.after for step in steps if step.is_claimed), None)
        now = self._nodes.fetch([path])[path]
        is_claim = path in self._nodes.claims
        if now is not None:
            if now.data not in [step.after.data for step in steps if step.after]:  # never touched, or somebody else's
                return
        elif not (claimed and self._is_ours(path, claimed)) if is_claim else wanted is not None and not is_deleted:
            return
        version = self._nodes.versions[path]
        if wanted is not None:
            with contextlib.suppress(StoreBusyError):
                self._put(path, now, wanted._replace(version=version + 1))
            return
        metadata = self._mount.get_metadata_path(path)
        if now is None and not is_claim and self._mount.client.ask("GET", metadata).status == 404:
            return
        if claimed and claimed.version > 2:  # in place of a claim whose writer must not find it new
            self.write_data(path, layout.GONE, version)
        elif self.write_data(path, layout.REMOVED, version):
            self._write("DELETE", metadata)


def _get_identity(answer: Answer) -> object:
    """Return the id in the custom metadata of what was just written."""
    return get_object(get_object(answer.body, "data"), "custom_metadata").get("id")
