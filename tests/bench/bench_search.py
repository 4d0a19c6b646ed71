"""How fast a tree is searched: 50 secrets in all their clothes, 65 MB in 3,228 files, whole processes.

Run it as a script; it prints a table. Each figure is the median of several runs, and the programs take
turns, so that what else the machine does hits them alike. A peer that is not there is left out.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench_mask import LETTERS, make_exposed

from ic_secrets.needles import derive_all, for_search

MEGABYTE = 1_000_000
PROGRAM = Path(sys.executable).parent / "ic-secrets"
WORDS = (
    "function public static return array string namespace use class extends implements private protected null "
    "throw new Exception foreach instanceof abstract interface getContainer setParameter serviceId bundle Drupal "
    "Symfony Component HttpFoundation Request Response EventDispatcher Subscriber entity_type plugin manager config"
).split()
LINES = (
    "    public function get{}({} $value): ?{}\n",
    "        $this->{} = {}::{}($value, ['key' => '{}']);\n",
    " * @param \\{}\\{}\\{} $value  The value that is {} when {} was called.\n",
    "use {}\\{}\\{};\n",
    "        if (null === $this->{} || !isset($this->{}[$name])) {{\n",
    '    "https://repo.packagist.org/p2/{}/{}.json": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",\n',
    "\n",
    "    }}\n",
)


def make_tree(folder: Path, count: int, size: int, known: Sequence[bytes]) -> None:
    """Files as `vendor/` holds them: most are short, some long, one of twenty binary; 20 hold a value."""
    chance = random.Random(65)
    lengths = [chance.lognormvariate(0, 1.3) for _ in range(count)]
    scale = size / sum(lengths)
    text = "".join(make_line(chance) for _ in range(40_000)).encode()
    noise = chance.randbytes(4 * MEGABYTE)
    holders = set(chance.sample(range(count), 20))
    for number, length in enumerate(lengths):
        is_binary = number % 20 == 19
        source = noise if is_binary else text
        length = max(1, round(length * scale))
        start = chance.randrange(len(source))
        data = (source[start:] + source * (1 + length // len(source)))[:length]
        if number in holders:
            data = data[: length // 2] + chance.choice(known) + data[length // 2 :]
        place = folder / "vendor" / f"owner{number % 40}" / f"package{number % 160}" / f"src{number % 480}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"File{number}.{'bin' if is_binary else 'php'}").write_bytes(data)


def make_line(chance: random.Random) -> str:
    line = chance.choice(LINES)
    return line.format(*(chance.choice(WORDS) + chance.choice(LETTERS) for _ in range(line.count("{}"))))


def make_store(folder: Path, exposed: Sequence[object]) -> dict[str, str]:
    """A store that holds the secrets for `my-site`; the environment that names it."""
    environment = os.environ | {
        "IC_SECRETS_STORE": str(folder / "store.db"),
        "IC_SECRETS_KEY_FILE": str(folder / "key"),
        "HOME": str(folder),
    }
    subprocess.run([PROGRAM, "init"], env=environment, check=True, stdout=subprocess.DEVNULL)
    for one in exposed:
        words = [PROGRAM, "set", "my-site", one.name, "--type", one.type.value, "--scope", "ic"]
        value = one.value.reveal().encode()
        subprocess.run(words, env=environment, input=value, check=True, capture_output=True)
    return environment


def find_peers(needles: Path, raw: Path, tree: Path) -> dict[str, list[str]]:
    """The command of each program that is there to compare with."""
    commands: dict[str, list[str]] = {}
    rg = shutil.which("rg")
    if rg:
        search = [rg, "-F", "-n", "--hidden", "--no-ignore", "-a", "--no-messages"]
        commands["rg -F, the same needles"] = [*search, "-f", str(needles), str(tree)]
        commands["rg -F, the raw values"] = [*search, "-f", str(raw), str(tree)]
    if shutil.which("grep"):
        commands["grep -F, the same needles"] = ["grep", "-rnaF", "-f", str(needles), str(tree)]
    gitleaks = shutil.which("gitleaks")
    if gitleaks:
        commands["gitleaks dir"] = [
            gitleaks,
            "dir",
            "--no-banner",
            "--exit-code",
            "0",
            "--log-level",
            "error",
            str(tree),
        ]
    return commands


def measure(commands: dict[str, list[str]], environment: dict[str, str], runs: int) -> dict[str, float]:
    """The median seconds of each; they take turns."""
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs + 1):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, env=environment, capture_output=True)
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--secrets", type=int, default=50)
    parser.add_argument("--files", type=int, default=3228)
    parser.add_argument("--size", type=int, default=65, help="of the tree, in MB")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--keep", metavar="DIR", help="make the tree there, or use the one that is there")
    options = parser.parse_args()

    exposed = make_exposed(options.secrets)
    needles = for_search(derive_all(exposed))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.keep or temporary)
        tree, file, raw = folder / "tree", folder / "needles", folder / "raw"
        if not tree.exists():
            make_tree(tree, options.files, options.size * MEGABYTE, [needle.data for needle in needles])
            file.write_bytes(b"".join(needle.data + b"\n" for needle in needles))
            raw.write_bytes(b"".join(needle.data + b"\n" for needle in needles if needle.encoding == "raw"))
            make_store(folder, exposed)
        environment = os.environ | {
            "IC_SECRETS_STORE": str(folder / "store.db"),
            "IC_SECRETS_KEY_FILE": str(folder / "key"),
        }
        ours = [str(PROGRAM), "scan", "my-site", str(tree)]
        commands = {"ic-secrets scan": ours, **find_peers(file, raw, tree)}
        print(f"{len(exposed)} secrets, {len(needles)} needles, {options.size} MB in {options.files:,} files, ", end="")
        print(f"median of {options.runs} runs\n")
        taken = measure(commands, environment, options.runs)
    own = taken["ic-secrets scan"]
    print(f"{'':32}{'ms':>8}{'times ours':>12}")
    for name, seconds in taken.items():
        print(f"{name:32}{1000 * seconds:8.0f}{seconds / own:12.2f}")


if __name__ == "__main__":
    main()
