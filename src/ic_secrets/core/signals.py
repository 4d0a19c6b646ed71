"""Signals that would end us, while something must be taken back first."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from ..errors import EndedError

_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT)


@contextlib.contextmanager
def delaying_signals(hurry: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """Keep the signals that would end us until the block has ended, and send the first again then.

    The block is given what it calls between its steps: that raises EndedError when one has come. `hurry` is called as
    soon as it comes. Those that are ignored stay so. In a thread that is not the main one, which alone gets signals,
    nothing is changed.
    """
    came: list[int] = []

    def note(number: int, _frame: object) -> None:
        came.append(number)
        if len(came) == 1:
            hurry()

    def check() -> None:
        if came:
            raise EndedError(came[0])

    before = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in _ENDING}
        before = {number: handler for number, handler in handlers.items() if handler not in {signal.SIG_IGN, None}}
    for number in before:
        signal.signal(number, note)
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            os.kill(os.getpid(), came[0])
