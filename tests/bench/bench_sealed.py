"""How long a sealed file takes: to write it, to open one site of it, to import it; by the number of its lines.

Run it as a script; it prints a table.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ic_secrets.keys.master import create_key_file
from ic_secrets.keys.sealing import MasterKey
from ic_secrets.model.secret import Owner, Scope, SecretType, SecretValue, Site
from ic_secrets.stores import sealed_file as sealed
from ic_secrets.stores.base import Place, Write
from ic_secrets.stores.embedded import store as local
from ic_secrets.transfer.merge import import_secrets, read_secrets

PROGRAM = Path(sys.executable).parent / "ic-secrets"
KEY = MasterKey.generate()
# Each organization holds as much as each site does, for a hundred sites.
A_SITE, SITES_AN_ORGANIZATION = 100, 100


def fill(path: str, secrets: int) -> None:
    with local.create(path, KEY) as store, store.transaction():
        for number in range(0, secrets, A_SITE):
            index = number // A_SITE
            organization = f"organization-{index // SITES_AN_ORGANIZATION}"
            owner = (
                Owner("site", f"site-{index}") if index % SITES_AN_ORGANIZATION else Owner("organization", organization)
            )
            if owner.is_site:
                store.set_site(Site(owner.name, organization))
            for name in range(min(A_SITE, secrets)):
                value = SecretValue(os.urandom(20).hex())
                store.put(
                    Place(owner, None, f"KEY_{name}"), Write(value, type=SecretType.ENV, scopes=frozenset({Scope.IC}))
                )


def seconds(action: Callable[[], object], runs: int = 1) -> float:
    """The median of several runs."""
    took = []
    for _ in range(runs):
        started = time.perf_counter()
        action()
        took.append(time.perf_counter() - started)
    return statistics.median(took)


def measure(folder: Path, secrets: int, runs: int) -> list[str]:
    path, file = str(folder / f"{secrets}.db"), folder / f"{secrets}.sealed"
    fill(path, secrets)
    environment = {"HOME": str(folder), "PATH": os.environ["PATH"], "IC_SECRETS_KEY_FILE": str(folder / "key")}

    def run(*words: str | Path) -> None:
        subprocess.run([PROGRAM, *words], env=environment, cwd=folder, check=True, capture_output=True)

    def open_site() -> None:
        with sealed.open_store(str(file), lambda: [KEY]) as store:
            store.site("site-1")
            store.read(Owner("site", "site-1"))
            store.read(Owner("organization", "organization-0"))

    def bring_all() -> None:
        with sealed.open_store(str(file), lambda: [KEY]) as store, local.create(f"{path}.again", KEY) as new:
            import_secrets(new, read_secrets(store, list(store.owners())))

    export = seconds(lambda: run("export", "--all", "--format", "sealed", "--store", path, "-o", file))
    opening = seconds(open_site, runs)
    whole = seconds(lambda: run("run", "site-1", "--store", f"sealed:{file}", "--leaks", "off", "--", "true"), runs)
    embedded = seconds(lambda: run("run", "site-1", "--store", path, "--leaks", "off", "--", "true"), runs)
    importing = seconds(bring_all)
    copying = seconds(lambda: run("copy", path, f"{path}.copy"))
    size = file.stat().st_size / 1e6
    figures = (f"{size:.1f}", f"{export:.1f}", f"{opening * 1e3:.0f}", f"{whole * 1e3:.0f}", f"{embedded * 1e3:.0f}")
    return [f"{secrets:,}", *figures, f"{importing:.1f}", f"{copying:.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--secrets", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--runs", type=int, default=11)
    options = parser.parse_args()
    print("| secrets | MB | export, s | open one site, ms | run, ms | run, embedded, ms | import, s | copy, s |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        create_key_file(f"{temporary}/key", KEY.format())
        for secrets in options.secrets:
            print(f"| {' | '.join(measure(Path(temporary), secrets, options.runs))} |", flush=True)
    print(f"\nmost memory, of a command: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3:.0f} MB")


if __name__ == "__main__":
    main()
