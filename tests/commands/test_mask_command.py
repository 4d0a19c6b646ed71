"""`mask` as a filter in a pipeline: prompts, chunks, and a reader or a writer that goes away."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from commandline import Cli

VALUE = b"canary-of-a-token"


@pytest.fixture
def masking(cli: Cli) -> Iterator[subprocess.Popen[bytes]]:
    cli("init", check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic", stdin=VALUE, check=0)
    with cli.start("mask", "my-site") as process:
        yield process
        process.kill()


def give(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin
    os.write(process.stdin.fileno(), data)


def take(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """What comes within that time, until it is silent for as long again."""
    assert process.stdout
    shown = b""
    while select.select([process.stdout], [], [], seconds)[0]:
        piece = os.read(process.stdout.fileno(), 65536)
        if not piece:
            break
        shown += piece
    return shown


def test_a_prompt_appears_and_a_half_value_does_not(masking: subprocess.Popen[bytes]) -> None:
    give(masking, b"Password: c")
    assert take(masking, 3) == b"Password: c"
    give(masking, b"\ntoken: " + VALUE[:12])
    assert take(masking, 1) == b"\ntoken: "
    give(masking, VALUE[12:] + b".\n")
    assert take(masking, 1) == b"***.\n"


def test_a_prompt_takes_a_tenth_of_a_second(masking: subprocess.Popen[bytes]) -> None:
    give(masking, b"ready\n")
    take(masking, 1)
    start = time.monotonic()
    give(masking, b"Continue? c")
    shown = b""
    assert masking.stdout
    while shown != b"Continue? c":
        shown += os.read(masking.stdout.fileno(), 100)
    assert 0.08 < time.monotonic() - start < 1


def test_the_end_of_stdin_ends_it_with_all_shown(masking: subprocess.Popen[bytes]) -> None:
    shown, told = masking.communicate(b"a " + VALUE + b" b " + VALUE[:-1])
    assert (shown, told, masking.returncode) == (b"a *** b " + VALUE[:-1], b"", 0)


def test_a_long_stream_is_masked_and_memory_stays_flat(masking: subprocess.Popen[bytes]) -> None:
    line = b"x" * 1000 + VALUE + b"\n"
    assert masking.stdin
    assert masking.stdout
    reader = subprocess.Popen(["sh", "-c", "wc -c; sleep 1"], stdin=masking.stdout, stdout=subprocess.PIPE)
    for _ in range(200):
        masking.stdin.write(line * 200)
    masking.stdin.flush()
    time.sleep(0.5)
    status = Path(f"/proc/{masking.pid}/status").read_text()
    masking.stdin.close()
    shown, _ = reader.communicate()
    assert int(shown) == 200 * 200 * 1004
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    assert int(peak.split()[1]) < 60_000


def test_a_reader_that_goes_away_ends_it_without_a_word(masking: subprocess.Popen[bytes]) -> None:
    assert masking.stdout
    assert masking.stderr
    masking.stdout.close()
    give(masking, b"more\n")
    assert masking.wait(10) == 141
    assert masking.stderr.read() == b""


def test_nothing_of_stdin_passes_when_the_store_cannot_be_opened(cli: Cli) -> None:
    done = cli("mask", "my-site", stdin=VALUE)
    assert (done.returncode, done.stdout) == (1, b"")
    assert VALUE not in done.stderr


def test_it_cannot_be_dumped(masking: subprocess.Popen[bytes]) -> None:
    give(masking, b"x\n")
    take(masking, 1)
    limits = Path(f"/proc/{masking.pid}/limits").read_text()
    assert "Max core file size        0                    0" in limits
    if os.geteuid():
        with pytest.raises(PermissionError):
            Path(f"/proc/{masking.pid}/environ").read_bytes()
