"""What tests of commands share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from brokers import World, make_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An authority, and the servers and brokers that a test starts."""
    with make_world(tmp_path) as made:
        yield made
