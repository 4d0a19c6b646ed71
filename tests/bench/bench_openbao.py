"""What a store on a server costs: `run … -- true` over one on this machine beside the embedded store, and many at once.

Run it as a script; it prints two tables. Half of the secrets are the site's, half its organization's; the token has the
policy of a build.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench_mask import make_exposed
from bench_search import PROGRAM
from programs import measure_in_turns, print_ratios

from bao_servers import ROOT, Server, running

OURS = "ic-secrets run, embedded store"
RUN = [str(PROGRAM), "run", "my-site", "--leaks", "off", "--", "true"]


def call(environment: dict[str, str], *words: str, value: bytes = b"") -> str:
    """What our program prints; an error ends the measuring."""
    done = subprocess.run([str(PROGRAM), *words], env=environment, input=value, check=True, capture_output=True)
    return done.stdout.decode()


def fill(folder: Path, server: Server, count: int) -> tuple[dict[str, str], dict[str, str]]:
    """The environments that name the embedded store and the server's, with the same secrets."""
    base = os.environ | {"HOME": str(folder), "IC_SECRETS_KEY_FILE": str(folder / "key")}
    embedded = base | {"IC_SECRETS_STORE": str(folder / "store.db")}
    mount = server.mount()
    remote = base | {"IC_SECRETS_STORE": server.url(mount), "BAO_TOKEN": ROOT}
    call(embedded, "init")
    call(embedded, "site", "set", "my-site", "--org", "agency")
    for number, one in enumerate(make_exposed(count)):
        owner = ("my-site", "org:agency")[number % 2]
        words = ("set", owner, one.name, "--type", one.type.value, "--scope", "ic")
        call(embedded, *words, value=one.value.reveal().encode())
    call(remote, "copy", embedded["IC_SECRETS_STORE"], server.url(mount))
    policy = call(remote, "bao", "policy", "my-site")
    return embedded, remote | {"BAO_TOKEN": server.token(policy)}


def build_at_once(environment: dict[str, str], builds: int, side_by_side: int) -> list[float]:
    """The seconds that each of so many builds took, so many of them at a time; one that fails ends the measuring."""
    taken: list[float] = []
    waiting = builds
    active: list[tuple[float, subprocess.Popen[bytes]]] = []
    while waiting or active:
        while waiting and len(active) < side_by_side:
            process = subprocess.Popen(RUN, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            active.append((time.perf_counter(), process))
            waiting -= 1
        for each in [each for each in active if each[1].poll() is not None]:
            taken.append(time.perf_counter() - each[0])
            assert each[1].stderr
            if each[1].returncode:
                sys.exit(f"a build gave {each[1].returncode}: {each[1].stderr.read().decode()}")
            each[1].stderr.close()
            active.remove(each)
        time.sleep(0.002)
    return sorted(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--secrets", type=int, default=50)
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--builds", type=int, default=200)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary, running() as server:
        folder = Path(temporary)
        (folder / "work").mkdir()
        os.chdir(folder / "work")
        embedded, remote = fill(folder, server, options.secrets)
        commands = {
            OURS: ["env", f"IC_SECRETS_STORE={embedded['IC_SECRETS_STORE']}", *RUN],
            "ic-secrets run, a server on this machine": ["env", f"IC_SECRETS_STORE={remote['IC_SECRETS_STORE']}", *RUN],
        }
        for command in commands.values():
            subprocess.run(command, env=remote, check=True, capture_output=True)
        taken = measure_in_turns(commands, remote, options.runs)
        print(f"{options.secrets} secrets\n")
        print_ratios(taken, OURS)
        own, servers = (1000 * statistics.median(times) for times in taken.values())
        print(f"\nthe server costs {servers - own:.0f} ms more\n")
        print(f"{options.builds} builds{'':12}{'p50 s':>8}{'p95 s':>8}{'most s':>8}{'all s':>8}")
        for side_by_side in (20, options.builds):
            started = time.perf_counter()
            times = build_at_once(remote, options.builds, side_by_side)
            whole = time.perf_counter() - started
            shown = (times[len(times) // 2], times[len(times) * 95 // 100], times[-1], whole)
            print(f"{side_by_side:>4} at a time{'':8}" + "".join(f"{each:8.1f}" for each in shown))
        os.chdir("/")


if __name__ == "__main__":
    main()
