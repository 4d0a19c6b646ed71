"""Errors that are collected to be shown together, where otherwise the first would end everything."""

from __future__ import annotations

import contextlib
from types import TracebackType

from ..errors import IcSecretsError

# What surrounds each step that may fail: an ErrorCollector, or RAISED, which lets the first error through.
Errors = contextlib.AbstractContextManager[None, bool | None]
RAISED: Errors = contextlib.nullcontext()


class ErrorCollector:
    """The errors of the blocks that it surrounds; a context manager, used once for each step.

    with errors:
        check_size(…)
    """

    def __init__(self) -> None:
        self.errors: list[IcSecretsError] = []

    def __enter__(self) -> None:
        """Nothing is to be done before the step."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if isinstance(error, IcSecretsError):
            self.errors.append(error)
            return True
        return False
