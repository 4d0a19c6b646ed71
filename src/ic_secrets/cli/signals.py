"""Signals that would end a command at once, made into an error: for one whose output is evaluated."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

from ..errors import EndedError


@contextlib.contextmanager
def raising_signals() -> Iterator[None]:
    """Inside, the first signal that would end us raises EndedError; no further one disturbs what follows that.

    Those that are ignored stay so.
    """
    ending = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in ending}
    caught = [number for number, handler in before.items() if handler is not signal.SIG_IGN]

    def end(number: int, _frame: object) -> None:
        for other in caught:
            signal.signal(other, signal.SIG_IGN)
        raise EndedError(number)

    for number in caught:
        signal.signal(number, end)
    is_ended = False
    try:
        yield
    except EndedError:
        is_ended = True
        raise
    finally:
        for number in [] if is_ended else caught:
            signal.signal(number, before[number])
