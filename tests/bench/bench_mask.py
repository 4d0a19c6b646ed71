"""How fast output is masked: 50 secrets in all their encodings, a build log of 32 MB, one core.

Run it as a script; it prints a table. Every figure is the median of several runs, and what it is
compared with is measured in the same run, since machines differ and only ratios travel.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from ic_secrets.composer.credential import split_secret
from ic_secrets.masking.masker import Masker
from ic_secrets.masking.matcher import Matcher
from ic_secrets.masking.needles import Needle, derive_all
from ic_secrets.masking.parts import SecretParts
from ic_secrets.model.secret import SecretType, SecretValue

MEGABYTE = 1_000_000
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
WORDS = (
    "Installing Downloading Extracting archive cache from drupal/core symfony/console guzzlehttp/psr7 vendor/composer "
    "- Package operations: 0 updates, 3 removals Generating optimized autoload files (100%) [OK] warning 10.2.3 v6.4.1 "
    "https://repo.packagist.org/p2/drupal/core.json sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b"
).split()


class MadeSecret(NamedTuple):
    """A secret that was made up."""

    name: str
    type: SecretType
    value: SecretValue

    @property
    def parts(self) -> SecretParts:
        """What must not be seen of it."""
        return split_secret(self.type, self.name, self.value.reveal())


def make_exposed(count: int) -> list[MadeSecret]:
    """Secrets as sites have them: half in the environment, half credentials of private packages."""
    chance = random.Random(50)
    values = ["".join(chance.choices(LETTERS, k=chance.randint(16, 48))) for _ in range(count)]
    return [
        MadeSecret(f"TOKEN_{number}", SecretType.ENV, SecretValue(value))
        if number % 2
        else MadeSecret(f"http-basic.repo{number}.example.org", SecretType.COMPOSER, SecretValue(f"deploy {value}"))
        for number, value in enumerate(values)
    ]


def make_lines(size: int, needles: Iterable[Needle], *, colour: bool = False) -> list[bytes]:
    """A build log of that size, with a needle in one line of a thousand."""
    chance = random.Random(32)
    known = [needle.data for needle in needles]
    lines: list[bytes] = []
    total = 0
    while total < size:
        line = " ".join(chance.choices(WORDS, k=chance.randint(3, 12))).encode()
        if not len(lines) % 1000:
            line += b" " + chance.choice(known)
        line = b"\x1b[32m" + line + b"\x1b[39m\n" if colour else line + b"\n"
        lines.append(line)
        total += len(line)
    return lines


def measure(work: Callable[[], object], runs: int) -> float:
    """The median of the seconds that the work takes."""
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def mask(chunks: Iterable[bytes], matcher: Matcher) -> None:
    masker = Masker(matcher)
    for chunk in chunks:
        masker.feed(chunk)
    masker.close()


def cut(log: bytes, size: int) -> list[bytes]:
    return [log[start : start + size] for start in range(0, len(log), size)]


def filter_stdin(count: int) -> None:
    """Mask stdin, as the wrapper of a build does its child's output; the seconds from first byte to last on stderr."""
    matcher = Matcher(derive_all(make_exposed(count)))
    matcher.compile()
    masker = Masker(matcher)
    for stream in (0, 1):
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, 1 << 20)
    data = os.read(0, 262_144)
    start = time.perf_counter()
    while data:
        write(masker.feed(data))
        data = os.read(0, 262_144)
    write(masker.close())
    print(time.perf_counter() - start, file=sys.stderr)


def write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def pipe(log: Path, *filters: str) -> str:
    """`cat LOG | FILTER | … > /dev/null`; what came on stderr."""
    command = " | ".join([f"cat {log}", *filters, "cat > /dev/null"])
    return subprocess.run(["bash", "-c", command], check=True, stderr=subprocess.PIPE, text=True).stderr


def measure_varlock(log: Path, exposed: Iterable[MadeSecret], folder: Path, runs: int) -> float | None:
    """varlock's masking of the same log, where it is installed: `npm install varlock`."""
    program = shutil.which("varlock")
    if program is None:
        return None
    words = [one.value.reveal().split()[-1] for one in exposed]
    schema = "".join(f"# @sensitive\nVALUE_{number}={word}\n" for number, word in enumerate(words))
    (folder / ".env.schema").write_text("# @defaultSensitive=true\n# ---\n" + schema)
    command = f"cd {folder} && PH_OPT_OUT=true {program} run -- cat {log} | cat > /dev/null"
    return measure(lambda: subprocess.run(["bash", "-c", command], check=True), runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--secrets", type=int, default=50)
    parser.add_argument("--size", type=int, default=32, help="of the log, in MB")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--filter", action="store_true", help="mask stdin; what the pipe's figures run")
    options = parser.parse_args()
    if options.filter:
        filter_stdin(options.secrets)
        return

    exposed = make_exposed(options.secrets)
    needles = derive_all(exposed)
    matcher = Matcher(needles)
    print(f"{len(exposed)} secrets, {len(needles)} needles, {options.size} MB of log, median of {options.runs} runs")
    print(f"derive {1000 * measure(lambda: derive_all(exposed), options.runs):.0f} ms", end=", ")
    print(f"load and compile {1000 * measure(matcher.compile, 1):.0f} ms", end=", ")
    print(f"compile {1000 * measure(lambda: Matcher(needles).compile(), options.runs):.0f} ms\n")

    lines = make_lines(options.size * MEGABYTE, needles)
    log = b"".join(lines)
    rows: list[tuple[str, int, float]] = []

    def add(what: str, size: int, seconds: float) -> None:
        rows.append((what, size, seconds))

    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        file = Path(folder) / "log"
        file.write_bytes(log)
        add("cat | cat", len(log), measure(lambda: pipe(file), options.runs))
        itself = f"{sys.executable} {Path(__file__).resolve()} --secrets {options.secrets} --filter"
        inside: list[float] = []
        add("cat | masker | cat", len(log), measure(lambda: inside.append(float(pipe(file, itself))), options.runs))
        add("  from its first byte to its last", len(log), statistics.median(inside))
        varlock = measure_varlock(file, exposed, Path(folder), options.runs)
        if varlock:
            add("varlock run -- cat", len(log), varlock)

    for size in (65_536, 262_144, 1_048_576):
        chunks = cut(log, size)
        add(
            f"masker, chunks of {size // 1024} KiB",
            len(log),
            measure(lambda chunks=chunks: mask(chunks, matcher), options.runs),
        )
    add("masker, one chunk", len(log), measure(lambda: mask([log], matcher), options.runs))
    coloured = b"".join(make_lines(options.size * MEGABYTE // 4, needles, colour=True))
    chunks = cut(coloured, 65_536)
    add("masker, every line in colour", len(coloured), measure(lambda: mask(chunks, matcher), options.runs))
    short = [line[:60] for line in lines[:200_000]]
    by_line = measure(lambda: mask(short, matcher), options.runs)
    add(f"masker, line by line ({by_line / len(short) * 1e6:.1f} µs a line)", sum(map(len, short)), by_line)
    alternation = re.compile(
        b"|".join(re.escape(data) for data in sorted({needle.data for needle in needles}, key=len, reverse=True))
    )
    sample = log[:MEGABYTE]
    add("re alternation, unsplit", len(sample), measure(lambda: alternation.sub(b"***", sample), options.runs))

    _, size, seconds = rows[0]
    base, slow = size / seconds, rows[-1][1] / rows[-1][2]
    print(f"{'':44}{'MB/s':>8}{'of cat | cat':>14}{'times re':>10}")
    for what, size, seconds in rows:
        speed = size / seconds
        print(f"{what:44}{speed / MEGABYTE:8.0f}{speed / base:14.2f}{speed / slow:10.0f}")


if __name__ == "__main__":
    main()
