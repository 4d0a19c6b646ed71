"""The search of files for every value, in all its encodings.

A caller can limit it to what changed since a build began: then a build that changed nothing costs a walk and no
reading. No link is followed, and only regular files are opened. A finding names file, line, secret and encoding, never
the value: a part of a path that holds one is shown as `***`.
"""

from __future__ import annotations

import marshal
import threading
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from itertools import islice

from ..core.clocks import Since
from ..core.shares import do_shares
from ..masking.matcher import Matcher
from ..masking.needles import Needle
from .findings import Finding, SearchResult
from .reader import Inside, Reader
from .walk import Entry, Place, Walk

HIDDEN = "***"
# How many entries are listed before they are shared out.
_PART = 50_000
# How many entries are worth a process of their own.
_WORTH_SHARING = 200


def search(
    places: Iterable[Place],
    matcher: Matcher,
    *,
    since: Since | None = None,
    inside: Inside | None = None,
    skip: Collection[str] = (),
    hidden: Collection[Needle] = (),
    processes: int = 1,
) -> SearchResult:
    """Search the trees; a directory that is in several is walked once. The findings are in the order of their paths.

    `since` leaves out what has not changed from that time on; `inside` says how archives are
    searched inside, if they are; `skip` names directories that are not walked; `hidden` is what paths must not show
    either, beside what is searched for. `processes` share the work; more than one only if the caller has no threads.
    OSError is never raised: what cannot be read is in `unsearched`.
    """
    walk = Walk(since, skip)
    entries = walk.list_entries(places)
    failed: list[tuple[str, str]] = []
    result = SearchResult()
    compiling = threading.Thread(target=matcher.compile)
    if processes > 1:
        compiling.start()  # the walk need not wait for it
    while part := list(islice(entries, _PART)):
        if compiling.is_alive():
            compiling.join()
        count = processes if len(part) >= _WORTH_SHARING else 1
        for share in do_shares(partial(_search_share, part, matcher, inside, count), count):
            findings, left_out, missed, unreadable, files, size = marshal.loads(share)  # noqa: S302 (what our child wrote)
            result.findings += (Finding(*finding) for finding in findings)
            result.unsearched += left_out
            result.missed += missed
            result.files += files
            result.size += size
            failed += unreadable
    failed += ((path, _explain(error)) for path, error in walk.failed)
    result.unsearched += walk.left_out + failed
    result.failures = len(failed)
    result.missed += walk.missed
    _sort(result, matcher, {needle.data for needle in (*matcher.needles, *hidden)})
    return result


def _search_share(part: Sequence[Entry], matcher: Matcher, inside: Inside | None, count: int, number: int) -> bytes:
    """Search every `count`-th entry, and return the result in bytes that can pass through a pipe."""
    reader = Reader(matcher, inside, count)
    share = part[number::count]
    reader.search_names(share)
    for entry in share:
        reader.search_content(entry)
    reader.flush()
    findings = [tuple(finding) for finding in reader.findings]
    failed = [(path, _explain(error)) for path, error in reader.failed]
    return marshal.dumps((findings, reader.left_out, reader.missed, failed, reader.files, reader.size))


def _explain(error: OSError) -> str:
    return error.strerror or "unreadable"


def _sort(result: SearchResult, matcher: Matcher, hidden: Collection[bytes]) -> None:
    """Sort the result, hide values in paths, and drop what is found in an archive both from outside and inside."""
    shown_paths = [path for path, _ in result.unsearched]
    shown_paths += (part for finding in result.findings for part in (finding.path, finding.member or ""))
    shown = "\n".join(shown_paths).encode(errors="surrogateescape")
    hidden = [needle for needle in hidden if needle in shown]
    inside = {(finding.path, finding.name) for finding in result.findings if finding.member}
    findings = [
        finding._replace(
            path=_hide_values(finding.path, matcher, hidden),
            member=finding.member and _hide_values(finding.member, matcher, hidden),
        )
        for finding in result.findings
        if finding.member or finding.where != "content" or (finding.path, finding.name) not in inside
    ]
    result.findings = sorted(
        dict.fromkeys(findings), key=lambda one: (one.path, one.member or "", one.offset, one.name)
    )
    for paths in (result.unsearched, result.missed):
        paths[:] = sorted((_hide_values(path, matcher, hidden), reason) for path, reason in paths)


def _hide_values(path: str, matcher: Matcher, hidden: Collection[bytes]) -> str:
    """Return the path, with `***` for each of its parts that has a value, or a piece of one, in it."""
    data = path.encode(errors="surrogateescape")
    spans = [(match.start, match.end) for match in matcher.find(data)]
    for needle in hidden:
        start = data.find(needle)
        while start >= 0:
            spans.append((start, start + len(needle)))
            start = data.find(needle, start + 1)
    if not spans:
        return path
    parts, start = [], 0
    for part in data.split(b"/"):
        end = start + len(part)
        is_hidden = any(first < end and start < last for first, last in spans)
        parts.append(HIDDEN if is_hidden else part.decode(errors="surrogateescape"))
        start = end + 1
    return "/".join(parts)
