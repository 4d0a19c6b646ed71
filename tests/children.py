"""Pieces of tests that run in processes of their own, some of them under another user."""

from __future__ import annotations

import ctypes
import os
import sys
import traceback
from collections.abc import Callable

NOBODY = 65534
_PR_CAPBSET_DROP = 24
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2


def fork(body: Callable[[], object]) -> int:
    """The process id of a child that runs the body, and ends with 0, or with 1 when the body raised."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        body()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def wait(child: int) -> int:
    """The child's exit status, negative for the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_in_child(body: Callable[[], object]) -> int:
    """Run the body in a child and give its exit status."""
    return wait(fork(body))


def obey_permissions() -> None:
    """Before an exec: what is executed stays the same user, and even as root is refused what a file's mode refuses."""
    if sys.platform == "linux" and os.geteuid() == 0:
        library = ctypes.CDLL(None)
        for capability in (_DAC_OVERRIDE, _DAC_READ_SEARCH):
            library.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


def run_unprivileged(body: Callable[[], object]) -> int:
    """The same in a child that obeys the permissions of files: root becomes nobody for it."""

    def child() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        body()

    return run_in_child(child)
