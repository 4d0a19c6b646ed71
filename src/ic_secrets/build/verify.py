"""What comes after the scrub: clones are cleaned of credentials, and what the build left behind is searched for."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.clocks import Since
from ..core.files import is_below
from ..core.notices import Notice, Notify
from ..errors import LEAK_FOUND, SCRUB_INCOMPLETE
from ..model.secret import Scope
from ..process.directory import list_directories
from .expose import Exposure
from .prepare import PreparedBuild

if TYPE_CHECKING:  # what looks for traces is loaded while the build runs, not before
    from ..git.clones import Residue
    from ..leaks.findings import SearchResult

# How much is unpacked of the archives that the build wrote, in bytes: it took longer to make them.
_MOST_UNPACKED = 512 << 20


def mend_clones(exposure: Exposure, notify: Notify) -> tuple[Residue, ...]:
    """Take this build's credentials out of clones' configurations, and name earlier builds'; return the former.

    An application was given no credential that could be there.
    """
    if exposure.prepared.request.scope is not Scope.IC:
        return ()
    for host in exposure.hosts_seen:
        notify(
            Notice(
                f"a login for {host} was in git's arguments: for a moment other users of this machine could read it "
                "there",
                "that happens when the server refuses it to git, when it gives Composer a new one, or where the login "
                "stands in a URL; change it if the machine has other users",
            )
        )
    from ..git.clones import mend

    mended = []
    for residue in find_clones(exposure.prepared):
        hosts = ", ".join(residue.hosts)
        found = os.stat(residue.path)
        if not exposure.since.covers(found.st_dev, found.st_ctime_ns):
            text = f"{residue.path} contains a credential for {hosts}, left by an earlier build"
            notify(Notice(text, "`ic-secrets scrub` takes it out"))
            continue
        try:
            mend(residue)
            mended.append(residue)
            notify(Notice(f"{residue.path} contained a credential for {hosts}; it was taken out"))
        except OSError as error:
            text = f"{residue.path} contains a credential and cannot be rewritten: {error.strerror}"
            notify(Notice(text, level="error"))
    return tuple(mended)


def find_clones(prepared: PreparedBuild) -> tuple[Residue, ...]:
    """Find the clones with a credential in their configuration, in the caches and the project."""
    from ..git.clones import find_residue

    found = [residue for cache in prepared.caches for residue in find_residue(cache)]
    return tuple(dict.fromkeys([*found, *find_residue("", [prepared.project.directory])]))


def find_leaks(exposure: Exposure, record: str | None = None) -> SearchResult:
    """Search what the build could have written, as far as it changed since the build began.

    The file of the build's record is ours: it has just changed, and contains no value.
    """
    from ..leaks.findings import SearchResult
    from ..leaks.walk import Walk
    from .places import find_moved, list_places

    prepared = exposure.prepared
    places = list_places(exposure)
    skip = [exposure.directory.path, *exposure.outputs, *([record] if record else [])]
    skip += _list_foreign(exposure, [place.path for place in places])
    since = exposure.since.settle()
    walk = Walk(since, skip)
    missed = find_moved(exposure)
    if not any(True for _ in walk.list_entries(places)) and not walk.left_out and not walk.failed:
        return SearchResult(unsearched=missed, missed=missed)  # nothing changed: then nothing is loaded to look into it
    from ..core.shares import count_shares
    from ..leaks.reader import Inside
    from ..leaks.search import search
    from ..masking.matcher import Matcher
    from ..masking.needles import for_search

    needles = (*prepared.secrets.needles, *exposure.minted.needles)
    result = search(
        places,
        Matcher(for_search(needles)),
        since=since,
        skip=skip,
        # What Composer downloads is the server's own.
        inside=Inside(_MOST_UNPACKED, tuple(f"{cache}{os.sep}" for cache in prepared.caches)),
        hidden=needles,
        processes=count_shares(),
    )
    result.unsearched += missed
    result.missed += missed
    return result.without(prepared.request.leaks_allowed, prepared.project.directory)


def judge(status: int, exposure: Exposure, result: SearchResult | None, notify: Notify) -> int:
    """Report what was found, and return the status that follows: the build's own wins where it is not 0."""
    findings = result.findings if result else []
    fails = exposure.prepared.request.leaks == "fail"
    level = "error" if fails else "warning"
    shared = [finding for finding in findings if _may_be_foreign(finding.path, exposure)]
    for finding in findings:
        text = f"{finding.name} was left behind in {finding.place} ({finding.encoding})"
        if finding in shared:
            notify(Notice(f"{text}, by this build or by another that ran at the same time"))
        else:
            notify(Notice(text, level=level))
    is_leak = fails and len(shared) < len(findings)
    unreadable = find_unreadable(result, exposure.since.settle()) if result else []
    for path in unreadable:
        text = f"{path}, which the build made or changed, cannot be read, so it was not searched for leaks"
        notify(Notice(text, "search it with `ic-secrets scan` as a user who can read it", level))
    for path, reason in result.missed if result else ():
        text = f"{path} was not searched for leaks: {reason}"
        notify(Notice(text, "search it with `ic-secrets scan --deep`, or name it with --leaks-allow"))
    if exposure.failure:
        text = exposure.prepared.secrets.hide_values(str(exposure.failure))
        notify(Notice(text, exposure.failure.hint, "error"))
        return status or exposure.failure.exit_status
    return status or (LEAK_FOUND if is_leak else SCRUB_INCOMPLETE if unreadable and fails else 0)


def _list_foreign(exposure: Exposure, places: Sequence[str]) -> list[str]:
    """List the directories of builds that ran at the same time: their private ones, and where they work.

    A directory that holds a place to search is searched all the same, and so is one in our own project.
    """
    request = exposure.prepared.request
    own = exposure.neighbour.projects
    works = [path for neighbour in exposure.neighbours for path in neighbour.projects]
    foreign = [
        path
        for path in works
        if not any(is_below(place, path) for place in places) and not any(is_below(path, each) for each in own)
    ]
    running = list_directories(request.environment, request.run_dir)
    return [*foreign, *running, *(neighbour.path for neighbour in exposure.neighbours)]


def _may_be_foreign(path: str, exposure: Exposure) -> bool:
    """Whether a build that ran at the same time may have written what is there: where both may write.

    Of the directories of ours that it is in, the innermost decides.
    """
    own, path = exposure.neighbour, os.path.realpath(path)
    around = [each for each in (*own.projects, *own.shared) if is_below(path, each)]
    innermost = max(around, key=len, default="")
    return any(innermost in (*other.projects, *other.shared) for other in exposure.neighbours)


def find_unreadable(result: SearchResult, since: Since) -> list[str]:
    """Find what of the unsearched is ours, changed since then, and not readable: no build does that by chance."""
    found = []
    for path, _ in result.unsearched:
        with contextlib.suppress(OSError, ValueError):
            status = os.lstat(path)
            is_changed = status.st_uid == os.geteuid() and since.covers(status.st_dev, status.st_ctime_ns)
            needed = os.R_OK | (os.X_OK if stat.S_ISDIR(status.st_mode) else 0)
            if is_changed and not os.access(path, needed):
                found.append(path)
    return found
