"""How fast a tree is searched: 50 secrets in all their encodings, 65 MB in 3,228 files, whole processes.

Run it as a script; it prints a table. Each figure is the median of several runs, and the programs take
turns, so that what else the machine does hits them alike. A peer that is not there is left out.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bench_mask import LETTERS, MadeSecret, make_exposed
from programs import list_programs, measure_in_turns, print_ratios

from ic_secrets.core.clocks import Since
from ic_secrets.core.shares import count_shares
from ic_secrets.leaks.search import search
from ic_secrets.leaks.walk import Place
from ic_secrets.masking.matcher import Matcher
from ic_secrets.masking.needles import Needle, derive_all, for_search

MEGABYTE = 1_000_000
PROGRAM = Path(sys.executable).parent / "ic-secrets"
OURS = "ic-secrets scan"
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
    holders = set(chance.sample(range(count), min(20, count)))
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


def make_store(folder: Path, exposed: Sequence[MadeSecret]) -> dict[str, str]:
    """A store that holds the secrets for `my-site`; the environment that names it."""
    environment = os.environ | {
        "IC_SECRETS_STORE": str(folder / "store.db"),
        "IC_SECRETS_KEY_FILE": str(folder / "key"),
    }
    subprocess.run([PROGRAM, "init"], env=environment, check=True, capture_output=True)
    for one in exposed:
        words = [PROGRAM, "set", "my-site", one.name, "--type", one.type.value, "--scope", "ic"]
        subprocess.run(words, env=environment, input=one.value.reveal().encode(), check=True, capture_output=True)
    return environment


def list_peers(needles: Path, raw: Path, tree: Path) -> dict[str, list[str]]:
    """The command of each program that is there to compare with; none may leave out files that we search."""
    commands: dict[str, list[str]] = {}
    for name, program in list_programs("rg").items():
        search = [program, "-F", "-n", "--hidden", "--no-ignore", "-a", "-f"]
        commands[f"{name} -F, the same needles"] = [*search, str(needles), str(tree)]
        commands[f"{name} -F, the raw values"] = [*search, str(raw), str(tree)]
    for name, program in list_programs("grep").items():
        commands[f"{name} -F, the same needles"] = [program, "-rnaF", "-f", str(needles), str(tree)]
    return commands


def list_scanners(tree: Path) -> dict[str, list[str]]:
    """Those that take seconds."""
    options = ["--no-banner", "--exit-code", "0", "--log-level", "error"]
    return {name: [program, "dir", *options, str(tree)] for name, program in list_programs("gitleaks").items()}


def search_as_run_does(needles: Sequence[Needle], tree: Path) -> None:
    """The step of `run` after a build that has written the whole tree, in the process that is there already."""
    search([Place(str(tree))], Matcher(needles), since=Since(0), processes=count_shares())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--secrets", type=int, default=50)
    parser.add_argument("--files", type=int, default=3228)
    parser.add_argument("--size", type=int, default=65, help="of the tree, in MB")
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()

    exposed = make_exposed(options.secrets)
    needles = for_search(derive_all(exposed))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tree, file, raw = folder / "tree", folder / "needles", folder / "raw"
        make_tree(tree, options.files, options.size * MEGABYTE, [needle.data for needle in needles])
        file.write_bytes(b"".join(needle.data + b"\n" for needle in needles))
        raw.write_bytes(b"".join(needle.data + b"\n" for needle in needles if needle.encoding == "raw"))
        environment = make_store(folder, exposed)
        commands: dict[str, Sequence[str] | Callable[[], object]] = {
            OURS: [str(PROGRAM), "scan", "my-site", str(tree)],
            f"{OURS}, the search alone": [
                sys.executable,
                str(Path(__file__).with_name("search_given.py")),
                str(file),
                str(tree),
            ],
            "the search within ic-secrets run": partial(search_as_run_does, needles, tree),
            **list_peers(file, raw, tree),
        }
        print(f"{len(exposed)} secrets, {len(needles)} needles, {options.size} MB in {options.files:,} files\n")
        taken = measure_in_turns(commands, environment, options.runs)
        taken |= measure_in_turns(list_scanners(tree), environment, 3)
    print_ratios(taken, OURS)


if __name__ == "__main__":
    main()
