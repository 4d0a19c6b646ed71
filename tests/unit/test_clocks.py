"""When a build began is known by the clock that stamps a file, whatever ours says."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ic_secrets.core.clocks import Since

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        (10 * SECOND + 5, True),
        (10 * SECOND + 4, False),
        (10 * SECOND, True),  # it may be 10.9 seconds, on a file system that counts whole ones
        (9 * SECOND, True),  # or 10.9, on one that counts every second one
        (8 * SECOND, False),
    ],
)
def test_stamps_in_whole_seconds_cover_what_came_after_them(stamp: int, expected: bool) -> None:
    assert Since(10 * SECOND + 5).covers(1, stamp) is expected


def test_the_clock_of_a_file_system_counts_rather_than_ours() -> None:
    since = Since(3600 * SECOND, 0, ((1, 5),))
    assert since.covers(1, 6)
    assert not since.covers(1, 4)
    assert not since.covers(2, 6)


def test_a_file_that_is_written_afterwards_is_covered_at_once(tmp_path: Path) -> None:
    for number in range(200):
        before = Since.now([str(tmp_path)])
        (tmp_path / str(number)).touch()
        found = (tmp_path / str(number)).stat()
        assert before.covers(found.st_dev, found.st_ctime_ns)
    assert len(list(tmp_path.iterdir())) == 200  # asking leaves nothing


def test_a_clock_that_is_set_back_meanwhile_moves_the_beginning() -> None:
    """It said an hour more when the build began, five seconds ago."""
    uptime = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - 5 * SECOND
    since = Since(time.time_ns() + 3595 * SECOND, uptime, ((1, time.time_ns() + 3595 * SECOND),)).settle()
    for device in (1, 2):
        assert since.covers(device, time.time_ns() - 4 * SECOND)
        assert not since.covers(device, time.time_ns() - 6 * SECOND + 1)


def test_a_clock_that_goes_on_moves_nothing(tmp_path: Path) -> None:
    before = Since.now([str(tmp_path)])
    after = before.settle()
    assert abs(before.moment - after.moment) < SECOND // 100
