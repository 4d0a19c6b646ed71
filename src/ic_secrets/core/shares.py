"""Do work in equal shares, in as many processes at once: threads would wait for one another."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable

from .linux import end_with

_MOST = 4


def count_shares() -> int:
    """Return how many shares to make: one for each processor that we may use, up to four; one beside threads."""
    if threading.active_count() > 1:
        return 1
    if hasattr(os, "sched_getaffinity"):
        return min(_MOST, len(os.sched_getaffinity(0)))
    return min(_MOST, os.cpu_count() or 1)


def do_shares(work: Callable[[int], bytes], count: int) -> list[bytes]:
    """Return what `work` returns for each number below `count`; all but the first run in child processes.

    Not for a process with threads. A share whose child fails is done here; when we are killed, so are the children.
    """
    children = [_start(work, number) for number in range(1, count)]
    try:
        results = [work(0)]
        while children:
            child, end = children[0]
            with open(end, "rb") as pipe:
                result = pipe.read()
            _, status = os.waitpid(child, 0)
            children.pop(0)
            results.append(result if status == 0 else work(len(results)))
    except BaseException:
        for child, _ in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        raise
    return results


def _start(work: Callable[[int], bytes], number: int) -> tuple[int, int]:
    """Start a child that writes its share to a pipe; return its id, and our end of the pipe."""
    ours, theirs = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child:
        os.close(theirs)
        return child, ours
    status = 1
    gc.disable()  # it would touch, and so copy, everything that is shared with the parent
    try:
        end_with(parent)
        os.close(ours)
        with open(theirs, "wb") as pipe:
            pipe.write(work(number))
        status = 0
    finally:
        os._exit(status)  # in any case: this process must not run what the parent does at its end
