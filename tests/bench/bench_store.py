"""How the embedded store grows from 10² to 10⁶ secrets: a build's start, `list`, `set`, a bulk of writes, the file.

Run it as a script; it prints a table, and with --plot FILE draws it. The build gets 20 secrets from every store.
"""

from __future__ import annotations

import argparse
import math
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench_search import PROGRAM
from programs import measure_in_turns

from ic_secrets.keys.sealing import MasterKey
from ic_secrets.model.resolve import trace
from ic_secrets.model.secret import Owner, Scope, SecretType, SecretValue, Site
from ic_secrets.stores.base import Place, Store, Write
from ic_secrets.stores.embedded import store as local

BASE = 20
# Of what an owner holds so many are for builds, unless --for-builds says otherwise; the others are the application's.
FOR_BUILDS = BASE // 2

# Runs a command, and prints the kilobytes that the largest of its processes had at its peak. Small itself, since what
# it has when it starts the command would count.
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


class Shape(NamedTuple):
    """How many secrets, and of how many sites and organizations: each owner holds about a hundred."""

    secrets: int
    sites: int
    organizations: int

    @classmethod
    def of(cls, count: int) -> Shape:
        sites = max(1, count // 100)
        return cls(count, sites, max(1, sites // 100))

    @property
    def site(self) -> str:
        """The site that is measured: one in the middle."""
        return f"site-{self.sites // 2}"


class Figures(NamedTuple):
    """What was measured of one store; times in seconds."""

    start: float
    peak: float
    list_operation: float
    list_process: float
    set_operation: float
    set_process: float
    made: float
    size: int


def fill(path: str, key: MasterKey, shape: Shape, for_builds: int) -> None:
    """Make the store, and write all that it holds in one transaction."""
    names = [Owner.site(f"site-{number}") for number in range(shape.sites)]
    names += [Owner.organization(f"org-{number}") for number in range(shape.organizations)]
    with local.create(path, key) as store, store.transaction():
        for number, owner in enumerate(names):
            if owner.is_site:
                store.set_site(Site(owner.name, f"org-{number % shape.organizations}"))
            share = shape.secrets // len(names) + (number < shape.secrets % len(names))
            for index in range(share):
                put(store, owner, index, for_builds)


def put(store: Store, owner: Owner, index: int, for_builds: int) -> None:
    value = SecretValue(secrets.token_urlsafe(24))
    kind, scope = (SecretType.ENV, Scope.IC) if index < for_builds else (SecretType.RUNTIME, Scope.WEB)
    store.put(
        Place(owner, None, f"{owner.kind.upper()}_KEY_{index}"), Write(value, type=kind, scopes=frozenset({scope}))
    )


def take_time(operation: Callable[[], object], runs: int) -> float:
    """The median of so many runs; the first is not counted."""
    taken = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        operation()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def list_once(path: str, key: MasterKey, site: str) -> None:
    """What `list` does, but for its output."""
    with local.open_store(path, [key], read_only=True) as store:
        chain = store.read_chain(Owner.site(site), scope=Scope.USER)
        assert len(trace(None, Scope.USER, chain)) >= BASE


def set_once(path: str, key: MasterKey, site: str) -> None:
    with local.open_store(path, [key]) as store:
        put(store, Owner.site(site), 0, 1)


def find_peak(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """In megabytes, of the process that has most: the median of five runs."""
    words = [sys.executable, "-c", PEAK, *command]
    peaks = [
        int(subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout) for _ in range(5)
    ]
    return statistics.median(peaks) * 1024 / 1e6


def make_stores(folder: Path, key: MasterKey, counts: Sequence[int], for_builds: int) -> dict[int, float]:
    """One store of each size, `COUNT.db`; the seconds that each took."""
    taken = {}
    for count in counts:
        start = time.perf_counter()
        child = os.fork()  # so that what it takes in memory is gone afterwards
        if not child:
            fill(str(folder / f"{count}.db"), key, Shape.of(count), for_builds)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            sys.exit(f"the store of {count} secrets could not be made")
        taken[count] = time.perf_counter() - start
        print(f"made {count:,} secrets in {taken[count]:.1f} s", file=sys.stderr)
    return taken


def measure(folder: Path, made: Mapping[int, float], key: MasterKey, runs: int) -> dict[int, Figures]:
    counts = list(made)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "IC_SECRETS_KEY": key.format(), "VALUE": "changed"}
    (folder / "work").mkdir()
    os.chdir(folder / "work")
    runs_of: dict[str, dict[int, list[str]]] = {"run": {}, "list": {}, "set": {}}
    for count in counts:
        site, store = Shape.of(count).site, ["--store", str(folder / f"{count}.db")]
        runs_of["run"][count] = [str(PROGRAM), "run", site, *store, "--leaks", "off", "--", "true"]
        runs_of["list"][count] = [str(PROGRAM), "list", site, *store]
        runs_of["set"][count] = [str(PROGRAM), "set", site, "SITE_KEY_0", *store, "--from-env", "VALUE"]
    for commands in runs_of.values():
        for command in commands.values():
            subprocess.run(command, env=environment, check=True, capture_output=True)
    taken = {
        name: measure_in_turns({str(count): command for count, command in commands.items()}, environment, runs)
        for name, commands in runs_of.items()
    }

    def median(name: str, count: int) -> float:
        return statistics.median(taken[name][str(count)])

    figures = {}
    for count in counts:
        path, site = str(folder / f"{count}.db"), Shape.of(count).site
        figures[count] = Figures(
            start=median("run", count),
            peak=find_peak(runs_of["run"][count], environment),
            list_operation=take_time(lambda path=path, site=site: list_once(path, key, site), runs),
            list_process=median("list", count),
            set_operation=take_time(lambda path=path, site=site: set_once(path, key, site), runs),
            set_process=median("set", count),
            made=made[count],
            size=os.path.getsize(path),
        )
    os.chdir("/")
    return figures


def print_figures(figures: Mapping[int, Figures]) -> None:
    """A table in Markdown, as the README has it."""
    print("| secrets | run ms | ratio | peak MB | list ms | in all | set ms | in all | import s | a second | file MB |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for count, each in figures.items():
        times = [each.list_operation, each.list_process, each.set_operation, each.set_process]
        cells = [
            f"{count:,}",
            f"{1000 * each.start:.0f}",
            f"{each.start / figures[BASE].start:.2f}",
            f"{each.peak:.0f}",
            *(f"{1000 * seconds:.{1 if seconds < 0.1 else 0}f}" for seconds in times),
            f"{each.made:.2f}",
            f"{count / each.made:,.0f}",
            f"{each.size / 1e6:.2f}",
        ]
        print(f"| {' | '.join(cells)} |")


def draw(figures: Mapping[int, Figures], file: str) -> None:
    """The same as a picture; matplotlib comes with `pip install -e '.[bench]'`."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "ic-secrets", "svg.fonttype": "none"}
    from matplotlib import pyplot

    def times(field: str, factor: float = 1000) -> list[float]:
        return [getattr(each, field) * factor for each in figures.values()]

    charts: dict[str, dict[str, list[float]]] = {
        "whole commands, ms": {
            "run … -- true": times("start"),
            "list": times("list_process"),
            "set": times("set_process"),
        },
        "in the store, ms": {"list of a site": times("list_operation"), "one set": times("set_operation")},
        "peak memory of run, MB": {"run … -- true": times("peak", 1)},
        "all of it at once": {"import, s": times("made", 1), "file, MB": times("size", 1e-6)},
    }
    figure, axes = pyplot.subplots(2, 2, figsize=(9, 6.5), sharex=True, layout="constrained")
    for place, (title, lines) in zip(axes.flat, charts.items(), strict=True):
        for label, values in lines.items():
            place.loglog(list(figures), values, marker="o", markersize=4, label=label)
        values = [value for line in lines.values() for value in line]
        place.set_ylim(10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values))))
        place.set_title(title, fontsize=10)
        place.grid(visible=True, alpha=0.3)
        place.legend(fontsize=8)
    for place in axes[1]:
        place.set_xlabel("secrets in the store")
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=6, help="as a power of ten (6)")
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--for-builds", type=int, default=FOR_BUILDS, help="of each owner's secrets (10)")
    parser.add_argument("--plot", metavar="FILE", help="draw the figures there, as SVG")
    options = parser.parse_args()
    plot = options.plot and os.path.abspath(options.plot)
    with tempfile.TemporaryDirectory() as temporary:
        counts = [BASE, *(10**power for power in range(2, options.largest + 1))]
        key = MasterKey.generate()
        made = make_stores(Path(temporary), key, counts, options.for_builds)
        figures = measure(Path(temporary), made, key, options.runs)
    print_figures(figures)
    if plot:
        draw(figures, plot)


if __name__ == "__main__":
    main()
