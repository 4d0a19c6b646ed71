"""What a build left behind: the search of files for every value in all its encodings.

By default only what changed since the build began is read, so that a build that changed nothing costs
a walk and no reading. Nothing is followed through links, and nothing but regular files is opened. A
finding names file, line, secret and encoding, never the value: a part of a path that holds one is
shown as `***`.
"""

from __future__ import annotations

import marshal
import os
import stat
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

from ..core.shares import do_shares
from ..masking.matcher import Matcher
from ..masking.needles import Needle
from .archives import ArchiveError, Member, MemberError, is_archive, open_members
from .batch import LONG, Batch, Source
from .findings import PROLOGUE, Finding, Names, Places, SearchResult
from .walk import Entry, Kind, Place, Walk

__all__ = ["Finding", "Place", "SearchResult", "search"]

HIDDEN = "***"
_ARCHIVE = "an archive, not searched inside"
_NESTED = "an archive inside of an archive"

# So many entries are listed before they are shared out.
_PART = 50_000
# A child costs as much as so many small files.
_WORTH_SHARING = 200
# So many names are searched together.
_NAMES = 1000
# What tells an archive from other files stands in so many bytes.
_SHORT_START = 512
# Longer files are read in windows; each overlaps the next by more than the longest needle with line breaks inside.
_WINDOW = 2 << 20
_LEAST_OVERLAP = 64 << 10
# A file that grows while it is read is read so far beyond the size that it had.
_GROWTH = 64 << 20
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def search(
    places: Iterable[Place],
    matcher: Matcher,
    *,
    since: int | None = None,
    deep: bool = False,
    skip: Collection[str] = (),
    hidden: Collection[Needle] = (),
    processes: int = 1,
) -> SearchResult:
    """Search the trees; a directory that several hold is walked once. The findings are in the order of their paths.

    `since` leaves out what has not changed from that time on (ns since the epoch); `deep` looks into
    archives; `skip` names directories that are not walked; `hidden` is what no path may show beside what
    is searched for. `processes` share the work; more than one where the caller has no threads. OSError is
    never raised: what cannot be read is in `unsearched`.
    """
    walk = Walk(since, skip)
    entries = walk.list_due(places)
    failed: list[tuple[str, str]] = []
    result = SearchResult()
    compiling = threading.Thread(target=matcher.compile)
    if processes > 1:
        compiling.start()  # the walk need not wait for it
    while part := list(islice(entries, _PART)):
        if compiling.is_alive():
            compiling.join()
        count = processes if len(part) >= _WORTH_SHARING else 1
        for share in do_shares(partial(_search_share, part, matcher, deep, count), count):
            findings, left_out, unreadable, files, size = marshal.loads(share)  # noqa: S302 (what our child wrote)
            result.findings += (Finding(*finding) for finding in findings)
            result.unsearched += left_out
            result.files += files
            result.size += size
            failed += unreadable
    failed += ((path, _explain(error)) for path, error in walk.failed)
    result.unsearched += walk.left_out + failed
    result.failures = len(failed)
    _put_in_order(result, matcher, {needle.data for needle in (*matcher.needles, *hidden)})
    return result


def _search_share(part: Sequence[Entry], matcher: Matcher, deep: bool, count: int, number: int) -> bytes:
    """Search every so many-th entry, and tell so that it can pass through a pipe."""
    reader = _Reader(matcher, deep=deep)
    share = part[number::count]
    reader.take_names(share)
    for entry in share:
        reader.take(entry)
    reader.flush()
    findings = [tuple(finding) for finding in reader.findings]
    failed = [(path, _explain(error)) for path, error in reader.failed]
    return marshal.dumps((findings, reader.left_out, failed, reader.files, reader.size))


def _explain(error: OSError) -> str:
    return error.strerror or "unreadable"


def _put_in_order(result: SearchResult, matcher: Matcher, telling: Collection[bytes]) -> None:
    """Sort; hide values in paths; leave out what an archive shows from outside and from inside."""
    paths = [path for path, _ in result.unsearched]
    paths += (part for finding in result.findings for part in (finding.path, finding.member or ""))
    told = "\n".join(paths).encode(errors="surrogateescape")
    telling = [needle for needle in telling if needle in told]
    inside = {(finding.path, finding.name) for finding in result.findings if finding.member}
    findings = [
        finding._replace(
            path=_hide_values(finding.path, matcher, telling),
            member=finding.member and _hide_values(finding.member, matcher, telling),
        )
        for finding in result.findings
        if finding.member or finding.where != "content" or (finding.path, finding.name) not in inside
    ]
    result.findings = sorted(
        dict.fromkeys(findings), key=lambda one: (one.path, one.member or "", one.offset, one.name)
    )
    result.unsearched = sorted((_hide_values(path, matcher, telling), reason) for path, reason in result.unsearched)


def _hide_values(path: str, matcher: Matcher, telling: Collection[bytes]) -> str:
    """The path, with `***` for each of its parts that a value lies in, or a piece of one."""
    data = path.encode(errors="surrogateescape")
    spans = [(match.start, match.end) for match in matcher.find(data)]
    for needle in telling:
        start = data.find(needle)
        while start >= 0:
            spans.append((start, start + len(needle)))
            start = data.find(needle, start + 1)
    if not spans:
        return path
    parts, start = [], 0
    for part in data.split(b"/"):
        end = start + len(part)
        is_told = any(first < end and start < last for first, last in spans)
        parts.append(HIDDEN if is_told else part.decode(errors="surrogateescape"))
        start = end + 1
    return "/".join(parts)


class _Reader:
    """Reads what the walk lists, and searches it batch by batch."""

    def __init__(self, matcher: Matcher, *, deep: bool) -> None:
        self.findings: list[Finding] = []
        self.left_out: list[tuple[str, str]] = []
        self.failed: list[tuple[str, OSError]] = []
        self.files = 0
        self.size = 0
        self._matcher = matcher
        self._deep = deep
        self._overlap = max([_LEAST_OVERLAP, *(4 * len(needle.data) for needle in matcher.needles)])
        self._names = Names(matcher.needles)
        self._batch = Batch(matcher, self._search_piece)

    def take_names(self, entries: Sequence[Entry]) -> None:
        """Search the entries' names, one by one only where there is something among them."""
        for first in range(0, len(entries), _NAMES):
            some = entries[first : first + _NAMES]
            names = os.fsencode("/".join([entry.name for entry in some]))
            if b"\x1b" in names or self._matcher.find_hits(names):
                for entry in some:
                    self._search_piece((entry.path, "name", None), os.fsencode(entry.name))

    def take(self, entry: Entry) -> None:
        """Search what the entry holds."""
        try:
            if entry.kind is Kind.FILE:
                self._take_file(entry.path)
            elif entry.kind is Kind.LINK:
                self._add((entry.path, "link", None), os.fsencode(os.readlink(entry.path)))
        except FileNotFoundError:
            return
        except OSError as error:
            self.failed.append((entry.path, error))

    def flush(self) -> None:
        """Search what has been gathered."""
        self._batch.flush()

    def _add(self, source: Source, data: bytes) -> None:
        if len(data) >= LONG:
            self._search_piece(source, data)
            return
        self._batch.make_room(len(data))[:] = data
        self._batch.take(source, len(data))

    def _take_file(self, path: str) -> None:
        descriptor = os.open(path, _FLAGS)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                return
            start = self._take_start(path, descriptor, found.st_size)
            self.files += 1
            if is_archive(path, start):
                self._take_archive(path, descriptor)
        finally:
            os.close(descriptor)

    def _take_start(self, path: str, descriptor: int, size: int) -> bytes:
        """Search a file that was of this size; what it begins with."""
        source = (path, "content", None)
        if size < LONG:
            room = self._batch.make_room(size + 1)
            read = os.readv(descriptor, (room,))
            self.size += read
            if read == size:
                start = bytes(room[:_SHORT_START])
                if start.startswith(b"#!"):
                    start = bytes(room[:read])  # the list of a phar is behind a program
                self._batch.take(source, read)
                return start[:read]
            data = bytes(room[:read])
        else:
            data = os.read(descriptor, min(size, _WINDOW) + 1)
            self.size += len(data)
            if len(data) == size:
                self._search_piece(source, data)
                return data
        self._take_long(path, descriptor, data, size)
        return data

    def _take_long(self, path: str, descriptor: int, start: bytes, size: int) -> None:
        """Search a file of which the start was read, to its end."""
        total = len(start)

        def read(wanted: int) -> bytes:
            nonlocal total
            if total > size + _GROWTH:
                self.left_out.append((path, "it grows while it is read"))
                return b""
            data = os.read(descriptor, wanted)
            total += len(data)
            self.size += len(data)
            return data

        self._take_content((path, "content", None), start, read)

    def _take_content(self, source: Source, start: bytes, read: Callable[[int], bytes]) -> None:
        """Search what was read and what is still to be read; what `read` raises, after all before it was taken."""
        places = Places(self._names, *source)
        for data, owned in _windows(start, read, self._overlap):
            if data is start and owned == len(data):
                self._add(source, data)
            else:
                self._search_window(places, data, owned)

    def _take_archive(self, path: str, descriptor: int) -> None:
        if not self._deep:
            self.left_out.append((path, _ARCHIVE))
            return
        try:
            with open(descriptor, "rb", closefd=False) as file:
                for member in open_members(file, path):
                    self._take_member(path, member)
        except ArchiveError as error:
            self.left_out.append((path, str(error)))

    def _take_member(self, path: str, member: Member) -> None:
        for where, text in (("name", member.name), ("link", member.target)):
            self._add((path, where, member.name), text.encode(errors="surrogateescape"))
        try:
            start = member.read(_WINDOW)
            if is_archive(member.name, start):
                self.left_out.append((f"{path}!{member.name}", _NESTED))
            self._take_content((path, "content", member.name), start, member.read)
        except MemberError as error:
            self.left_out.append((f"{path}!{member.name}", str(error)))

    def _search_piece(self, source: Source, data: bytes) -> None:
        matches = self._matcher.find(self._without_colour(data))
        if matches:
            places = Places(self._names, *source)
            places.take(data, matches)
            self.findings += places.findings

    def _search_window(self, places: Places, data: bytes, owned: int) -> None:
        places.take(data, self._matcher.find(self._without_colour(data)), 0, owned)
        if owned == len(data):
            self.findings += places.findings

    def _without_colour(self, data: bytes) -> bytes:
        """The data; a binary one without its escape characters, whose place NUL takes.

        No colour stands inside of a value there: looking for that would double the work.
        """
        is_binary = self._matcher.is_plain and b"\0" in data[:PROLOGUE]
        return data.replace(b"\x1b", b"\0") if is_binary else data


def _windows(start: bytes, read: Callable[[int], bytes], overlap: int) -> Iterator[tuple[bytes, int]]:
    """Windows of the data, and how many bytes of each are not in the next one as well; at last, what `read` raised."""
    data = start
    fault: Exception | None = None
    try:
        while more := read(_WINDOW):
            if len(data) > overlap:
                owned = len(data) - overlap
                yield data, owned
                data = data[owned:]
            data += more
    except (OSError, ArchiveError, MemberError) as error:
        fault = error
    yield data, len(data)
    if fault:
        raise fault
