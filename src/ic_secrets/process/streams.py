"""Carry the child's output to ours: one channel for each place where it goes.

stdout and stderr stay two streams, unless both go to the same place: then they share a channel, so that their order
stays too. The child gets a pseudo-terminal for a terminal, and a pipe for anything else.

While it runs, our own stdout and stderr lead into the channels too: what is written to `/proc/1/fd/1` is masked, too.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import threading
from collections.abc import Iterator, Sequence
from typing import Protocol

from .terminal import Terminal

# After this many seconds of silence, what a masker holds back and may show is shown: a prompt.
_IDLE = 0.1
_CHUNK = 262_144
_PIPE_SIZE = 1_048_576
# Where the real places are kept while a build runs: not among the numbers that scripts use.
_KEPT = 64


class Filter(Protocol):
    """Changes what passes from a stream of the child to ours (`masking.masker.Masker`)."""

    def feed(self, data: bytes) -> bytes:
        """Take more data; return what can be shown now."""

    def flush_idle(self) -> bytes:
        """Return what can be shown because nothing more came for a while."""

    def close(self) -> bytes:
        """Return the rest."""


class PassThrough:
    """The filter that changes nothing."""

    def feed(self, data: bytes) -> bytes:
        """Return the data."""
        return data

    def flush_idle(self) -> bytes:
        """Return nothing: nothing is held back."""
        return b""

    def close(self) -> bytes:
        """Return nothing."""
        return b""


class Channel:
    """A place where output goes, and the child's end of it. It `is_broken` when its filter failed."""

    def __init__(self, streams: Sequence[int]) -> None:
        """`streams` are those (1, 2), of ours and of the child, that go to the place."""
        self.streams = tuple(streams)
        self.terminal: Terminal | None = None
        self._sink = sink = fcntl.fcntl(streams[0], fcntl.F_DUPFD_CLOEXEC, _KEPT)
        self._thread: threading.Thread | None = None
        self.is_broken = False
        if os.isatty(sink):
            self.terminal = Terminal(sink)
            self.source, self.child_end = self.terminal.master, self.terminal.slave
        else:
            self.source, self.child_end = os.pipe()
            with contextlib.suppress(OSError, AttributeError):
                fcntl.fcntl(self.child_end, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)

    def cover(self) -> None:
        """Lead our own streams to the child's end."""
        for stream in self.streams:
            os.dup2(self.child_end, stream)

    def uncover(self) -> None:
        """Lead our own streams back to the place; safe to call twice."""
        for stream in self.streams:
            os.dup2(self._sink, stream)

    def start(self, masker: Filter, stop: int) -> None:
        """Carry the output in a thread; `stop` becomes readable when no more is due."""
        os.close(self.child_end)
        self._thread = threading.Thread(target=self._pump, args=(masker, stop), daemon=True)
        self._thread.start()

    def join(self, timeout: float | None) -> bool:
        """Wait until everything has been written; return whether it has."""
        if self._thread is not None:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        return True

    def _pump(self, masker: Filter, stop: int) -> None:
        try:
            for data in read_with_silences(self.source, stop):
                write_whole(self._sink, masker.feed(data) if data else masker.flush_idle())
            write_whole(self._sink, masker.close())
        except OSError as error:
            # A reader that is gone is not a fault: the child finds out when we close our end.
            self.is_broken = error.errno not in {errno.EPIPE, errno.EIO}
        except Exception:
            self.is_broken = True  # a fault of the filter's: nothing is shown that did not pass it
        finally:
            os.close(self.source)


def read_with_silences(source: int, stop: int | None = None) -> Iterator[bytes]:
    """Yield what comes from the descriptor, and an empty string for each silence after it, until its end.

    When `stop` becomes readable, only what is there already is still read.
    """
    poll = select.poll()
    poll.register(source, select.POLLIN)
    if stop is not None:
        poll.register(stop, select.POLLIN)
    stopping = False
    silent = True
    while True:
        ready = dict(poll.poll(0 if stopping else None if silent else _IDLE * 1000))
        if source in ready:
            try:
                data = os.read(source, _CHUNK)
            except OSError as error:
                if error.errno == errno.EIO:  # how a pseudo-terminal says that its child has gone
                    return
                raise
            if not data:
                return
            silent = False
            yield data
        elif stopping:
            return
        elif stop is not None and stop in ready:
            poll.unregister(stop)
            stopping = True
        else:
            silent = True
            yield b""


def write_whole(sink: int, data: bytes) -> None:
    """Write all of the data, in as many pieces as it takes; OSError."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(sink, view) :]
        except BlockingIOError:  # whoever shares it with us made it so
            poll = select.poll()
            poll.register(sink, select.POLLOUT)
            poll.poll()


def open_channels() -> list[Channel]:
    """Open a channel for each place where our own stdout and stderr go."""
    places: dict[tuple[int, ...], list[int]] = {}
    for stream in (1, 2):
        found = os.fstat(stream)
        places.setdefault((found.st_dev, found.st_ino, found.st_rdev), []).append(stream)
    return [Channel(streams) for streams in places.values()]
