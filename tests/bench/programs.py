"""The programs that we are measured beside, and the measuring of whole processes."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def list_programs(name: str) -> dict[str, str]:
    """Every program of that name in PATH, by the name and, from the second on, its directory.

    Where PyPI brought one behind a script in Python, it is the program itself.
    """
    found: dict[str, str] = {}
    for directory in dict.fromkeys(map(os.path.realpath, os.get_exec_path())):
        path = Path(directory) / name
        if not os.access(path, os.X_OK) or path.is_dir():
            continue
        packaged = next(path.parent.parent.glob(f"lib/python*/site-packages/*/bin/{name}"), path)
        if not os.access(packaged, os.X_OK):  # the script sees to that when it is first run
            subprocess.run([path, "--version"], capture_output=True)
        found[f"{name} ({directory})" if found else name] = str(packaged)
    return found


def measure_in_turns(
    commands: Mapping[str, Sequence[str] | Callable[[], object]], environment: Mapping[str, str], runs: int
) -> dict[str, list[float]]:
    """The seconds that each command, or function of ours, took, run after run; the first is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs + 1):
        for name, command in commands.items():
            start = time.perf_counter()
            if callable(command):
                command()
            else:
                subprocess.run(command, env=environment, capture_output=True)
            taken[name].append(time.perf_counter() - start)
    return {name: times[1:] for name, times in taken.items()}


def print_ratios(taken: Mapping[str, Sequence[float]], base: str) -> None:
    """A table: medians, the best run, and how many times as long as `base` each took."""
    width = max(map(len, taken))
    unit = statistics.median(taken[base])
    print(f"{'':{width}}{'median ms':>12}{'best ms':>10}{'ratio':>8}")
    for name, times in taken.items():
        median = statistics.median(times)
        print(f"{name:{width}}{1000 * median:12.0f}{1000 * min(times):10.0f}{median / unit:8.2f}")
