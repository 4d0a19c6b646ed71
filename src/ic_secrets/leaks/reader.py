"""Reading what the walk lists, and searching it: short files and names many at a time, long ones in windows.

A search of its own for each short file would cost more than reading it.
"""

import io
import os
import stat
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import IO

from ..core.records import NamedTuple
from ..masking.escapes import CONTROLS
from ..masking.matcher import Matcher
from .archives import ArchiveError, Budget, Member, MemberError, is_archive, open_members
from .findings import PROLOGUE, Finding, Names, Places
from .walk import Entry, Kind

# Path, `where` and member of a `Finding`.
Source = tuple[str, str, str | None]

_ARCHIVE = "an archive, not searched inside"
_NESTED = "an archive inside an archive that is too large, or too deep"
# An archive inside an archive is held in memory, so many bytes of it, and so many deep.
_LARGEST_NESTED = 32 << 20
_DEEPEST = 4
# A batch of this size stays in a processor's cache between the reading and the search.
_BATCH = 512 << 10
# Anything this long is searched by itself.
LONG = 256 << 10
# How many names are searched together.
_NAMES = 1000
# How many bytes are enough to recognize an archive.
_SHORT_START = 512
# Longer files are read in windows; each overlaps the next by more than the longest needle with line breaks inside.
_WINDOW = 2 << 20
_LEAST_OVERLAP = 64 << 10
# How far beyond its size at the start a file that grows meanwhile is read.
_GROWTH = 64 << 20
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class Batch:
    """Pieces of data in one buffer, which is used again and again: fresh memory would cost more than the search.

    `search` is called for each piece that may hold a needle, at once or when the batch is flushed.
    """

    def __init__(self, matcher: Matcher, search: Callable[[Source, bytes], None]) -> None:
        self._matcher = matcher
        self._search = search
        self._buffer = bytearray(_BATCH)
        self._view = memoryview(self._buffer)
        self._sources: list[Source] = []
        self._ends: list[int] = []
        self._end = 0

    def make_room(self, size: int) -> memoryview:
        """Return where the next piece of up to `size` bytes can be written, at most `LONG`."""
        if self._end + size > _BATCH:
            self.flush()
        return self._view[self._end : self._end + size]

    def add(self, source: Source, size: int) -> None:
        """Add the piece of that size that has been written into the room."""
        start, end = self._end, self._end + size
        has_controls = any(self._buffer.find(control, start, end) >= 0 for control in CONTROLS)
        if has_controls and not self._ignores_controls(start, end):
            self._search(source, bytes(self._view[start:end]))
            return
        self._sources.append(source)
        self._ends.append(end)
        self._end = end

    def flush(self) -> None:
        """Search what has been added."""
        if not self._sources:
            return  # if nothing has changed, nothing needs to be compiled
        hits = self._matcher.find_hits(self._view[: self._end])
        for number in sorted({bisect_left(self._ends, hit) for hit in hits}):
            start = self._ends[number - 1] if number else 0
            self._search(self._sources[number], bytes(self._view[start : self._ends[number]]))
        self._sources, self._ends, self._end = [], [], 0

    def _ignores_controls(self, start: int, end: int) -> bool:
        """Return whether the piece is binary, so that there is neither colour nor bold print inside a value."""
        is_binary = self._buffer.find(b"\0", start, min(end, start + PROLOGUE)) >= 0
        return is_binary and self._matcher.is_plain


class Inside(NamedTuple):
    """How archives are searched inside: within `limit` bytes together, or as many for each as `archives` allows.

    Those below the paths in `but` are not, since they are known to come from elsewhere.
    """

    limit: int | None = None
    but: tuple[str, ...] = ()


class Reader:
    """The reader of what the walk lists: what it found, left out and failed to read.

    With a limit, `missed` are those left out that are archives; `share` is the part of the limit that is ours.
    """

    def __init__(self, matcher: Matcher, inside: Inside | None, share: int = 1) -> None:
        self.findings: list[Finding] = []
        self.left_out: list[tuple[str, str]] = []
        self.missed: list[tuple[str, str]] = []
        self.failed: list[tuple[str, OSError]] = []
        self.files = 0
        self.size = 0
        self._matcher = matcher
        self._inside = inside
        self._budget = Budget(inside.limit // share) if inside and inside.limit is not None else None
        self._overlap = max([_LEAST_OVERLAP, *(4 * len(needle.data) for needle in matcher.needles)])
        self._names = Names(matcher.needles)
        self._batch = Batch(matcher, self._search_piece)

    def search_names(self, entries: Sequence[Entry]) -> None:
        """Search the names of the entries, one by one only if there is something in all of them together."""
        for first in range(0, len(entries), _NAMES):
            some = entries[first : first + _NAMES]
            names = os.fsencode("/".join([entry.name for entry in some]))
            if any(control in names for control in CONTROLS) or self._matcher.find_hits(names):
                for entry in some:
                    self._search_piece((entry.path, "name", None), os.fsencode(entry.name))

    def search_content(self, entry: Entry) -> None:
        """Search the content of a file, or the target of a link."""
        try:
            if entry.kind is Kind.FILE:
                self._search_file(entry.path)
            elif entry.kind is Kind.LINK:
                self._add((entry.path, "link", None), os.fsencode(os.readlink(entry.path)))
        except FileNotFoundError:
            return
        except OSError as error:
            self.failed.append((entry.path, error))

    def flush(self) -> None:
        """Search what has been gathered but not searched yet."""
        self._batch.flush()

    def _add(self, source: Source, data: bytes) -> None:
        if len(data) >= LONG:
            self._search_piece(source, data)
            return
        self._batch.make_room(len(data))[:] = data
        self._batch.add(source, len(data))

    def _search_file(self, path: str) -> None:
        descriptor = os.open(path, _FLAGS)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                return
            start = self._search_start(path, descriptor, found.st_size)
            self.files += 1
            if is_archive(path, start):
                self._search_archive(path, descriptor)
        finally:
            os.close(descriptor)

    def _search_start(self, path: str, descriptor: int, size: int) -> bytes:
        """Search a file that was of this size, and return its beginning."""
        source = (path, "content", None)
        if size < LONG:
            room = self._batch.make_room(size + 1)
            read = os.readv(descriptor, (room,))
            self.size += read
            if read == size:
                start = bytes(room[:_SHORT_START])
                if start.startswith(b"#!"):
                    start = bytes(room[:read])  # the list of a phar comes after a program
                self._batch.add(source, read)
                return start[:read]
            data = bytes(room[:read])
        else:
            data = os.read(descriptor, min(size, _WINDOW) + 1)
            self.size += len(data)
            if len(data) == size:
                self._search_piece(source, data)
                return data
        self._search_long(path, descriptor, data, size)
        return data

    def _search_long(self, path: str, descriptor: int, start: bytes, size: int) -> None:
        """Search a file, the start of which has been read, to its end."""
        total = len(start)

        def read(wanted: int) -> bytes:
            nonlocal total
            if total > size + _GROWTH:
                self.left_out.append((path, "it grew while it was read"))
                return b""
            data = os.read(descriptor, wanted)
            total += len(data)
            self.size += len(data)
            return data

        self._search_stream((path, "content", None), start, read)

    def _search_stream(self, source: Source, start: bytes, read: Callable[[int], bytes]) -> None:
        """Search what was read and what `read` gives; what that raises is raised after all before it was searched."""
        places = Places(self._names, *source)
        for data, owned in _windows(start, read, self._overlap):
            if data is start and owned == len(data):
                self._add(source, data)
            else:
                self._search_window(places, data, owned)

    def _search_archive(self, path: str, descriptor: int) -> None:
        if not self._inside or path.startswith(self._inside.but):
            self.left_out.append((path, _ARCHIVE))
            return
        budget = self._budget or Budget()
        with open(descriptor, "rb", closefd=False) as file:
            self._search_members(path, file, path, budget, ())

    def _search_members(self, path: str, file: IO[bytes], name: str, budget: Budget, outer: tuple[str, ...]) -> None:
        """Search the members of an archive, which may be a member of others (`outer`)."""
        try:
            for member in open_members(file, name, budget):
                self._search_member(path, member, budget, (*outer, member.name))
        except ArchiveError as error:
            self._leave_out("!".join((path, *outer)), str(error))

    def _search_member(self, path: str, member: Member, budget: Budget, names: tuple[str, ...]) -> None:
        name = "!".join(names)
        for where, text in (("name", member.name), ("link", member.target)):
            self._add((path, where, name), text.encode(errors="surrogateescape"))
        source = (path, "content", name)
        try:
            start = member.read(_WINDOW)
            if not is_archive(member.name, start):
                self._search_stream(source, start, member.read)
                return
            while len(start) <= _LARGEST_NESTED and (more := member.read(_WINDOW)):
                start += more
            self._search_stream(source, start, member.read)
            if len(start) > _LARGEST_NESTED or len(names) >= _DEEPEST:
                self._leave_out(f"{path}!{name}", _NESTED)
            else:
                self._search_members(path, io.BytesIO(start), member.name, budget, names)
        except MemberError as error:
            self._leave_out(f"{path}!{name}", str(error))

    def _leave_out(self, place: str, reason: str) -> None:
        self.left_out.append((place, reason))
        if self._budget:
            self.missed.append((place, reason))

    def _search_piece(self, source: Source, data: bytes) -> None:
        matches = self._matcher.find(self._drop_controls(data))
        if matches:
            places = Places(self._names, *source)
            places.add(data, matches)
            self.findings += places.findings

    def _search_window(self, places: Places, data: bytes, owned: int) -> None:
        places.add(data, self._matcher.find(self._drop_controls(data)), 0, owned)
        if owned == len(data):
            self.findings += places.findings

    def _drop_controls(self, data: bytes) -> bytes:
        """Return the data; in binary data NUL replaces the terminal's control characters.

        There is no colour inside a value there, and looking for it would double the work.
        """
        if self._matcher.is_plain and b"\0" in data[:PROLOGUE]:
            for control in CONTROLS:
                data = data.replace(control, b"\0")
        return data


def _windows(start: bytes, read: Callable[[int], bytes], overlap: int) -> Iterator[tuple[bytes, int]]:
    """Yield windows of the data, and how many bytes of each the next does not repeat; then raise what `read` did."""
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
