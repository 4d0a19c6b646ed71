"""A test in this folder starts no process: `tests/commands/` is the place for those."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator

import pytest

STARTS = frozenset({"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"})
_running: list[str] = []
_started: list[str] = []
_owner = os.getpid()


def _note(event: str, _arguments: tuple[object, ...]) -> None:
    if event in STARTS and _running and os.getpid() == _owner:
        _started.append(event)


sys.addaudithook(_note)


@pytest.fixture(autouse=True)
def start_no_process(request: pytest.FixtureRequest) -> Generator[None, None, None]:
    """Fail a test that starts a process."""
    _running.append(request.node.nodeid)
    _started.clear()
    yield
    _running.clear()
    assert not _started, f"{request.node.nodeid} belongs in tests/commands/: it called {', '.join(_started)}"
