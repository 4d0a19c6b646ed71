"""What others see meanwhile: the arguments of every process, looked at without a break; a path until it is gone."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType


class ArgumentWatch:
    """Within it, the arguments of all processes are read again and again; `seen` are those with a needle.

    It looks some hundred times in a second: what stands there for as long as a request takes is seen for
    sure, what stands there for a millisecond by chance.
    """

    def __init__(self, needles: Iterable[bytes]) -> None:
        self._needles = tuple(needles)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.seen: set[bytes] = set()
        self.programs: set[bytes] = set()

    def __enter__(self) -> ArgumentWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        known: dict[str, bytes] = {}
        while not self._stop.wait(0.001):
            for pid in os.listdir("/proc"):
                if not pid.isdigit():
                    continue
                try:
                    with open(f"/proc/{pid}/cmdline", "rb") as file:
                        arguments = file.read()
                except OSError:
                    continue
                if known.get(pid) == arguments:
                    continue
                known[pid] = arguments
                self.programs.add(os.path.basename(arguments.split(b"\0")[0]))
                if any(needle in arguments for needle in self._needles):
                    self.seen.add(arguments)


def wait_until_gone(path: Path) -> None:
    """The watchdog works on its own; what it promises is a second."""
    deadline = time.monotonic() + 10
    while path.exists():
        assert time.monotonic() < deadline, f"{path} is still there"
        select.select([], [], [], 0.005)
