"""A build that writes to our own output by our process id (`/proc/1/fd/1`) is masked as in its own output."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

import pytest

from commandline import PROGRAM, Cli
from screen import Screen

CANARY = "canary-7Tq2xW9-value"
_PR_CAPBSET_DROP, _SYS_PTRACE = 24, 19
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may look into our descriptors at all")
PLACES = ["/proc/$PPID/fd/1", "/proc/$PPID/fd/2"]


@pytest.fixture
def site(cli: Cli, tmp_path: Path) -> Path:
    """A store with one value, and an empty project."""
    cli("init", check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic", stdin=CANARY.encode(), check=0)
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


def forbid_looking_into_others() -> None:
    """Before an exec: even root may not look into a process that is not dumpable, as in most containers."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _SYS_PTRACE, 0, 0, 0)


@AS_ROOT
@pytest.mark.parametrize("place", PLACES)
def test_what_root_writes_to_our_output_by_our_process_id_is_masked(cli: Cli, site: Path, place: str) -> None:
    script = f'echo before; echo "it is $TOKEN" > {place}; echo after'
    done = cli("run", "my-site", "--", "sh", "-c", script, cwd=site, check=0)
    assert b"it is ***\n" in (done.stdout if place.endswith("1") else done.stderr)
    assert done.stdout.startswith(b"before\n")
    assert done.stdout.endswith(b"after\n")
    assert CANARY.encode() not in done.stdout + done.stderr
    plain = cli("run", "--no-mask", "my-site", "--", "sh", "-c", script, cwd=site, check=0)
    assert CANARY.encode() in plain.stdout + plain.stderr, "the place is where our output goes"


@pytest.mark.parametrize("place", PLACES)
def test_whoever_may_not_look_into_us_cannot_write_there(site: Path, home: dict[str, str], place: str) -> None:
    script = f'(echo "it is $TOKEN" > {place}) 2>/dev/null || echo refused'
    command = [PROGRAM, "run", "my-site", "--", "sh", "-c", script]
    done = subprocess.run(
        command, cwd=site, env=home, capture_output=True, timeout=60, preexec_fn=forbid_looking_into_others
    )
    assert (done.returncode, done.stdout) == (0, b"refused\n")
    assert CANARY.encode() not in done.stderr
    shell = ["sh", "-c", f"sh -c '{script}'; :"]
    plain = subprocess.run(shell, env=home | {"TOKEN": CANARY}, capture_output=True, timeout=60)
    assert CANARY.encode() in plain.stdout + plain.stderr, "a shell in our place would have let it through"


def test_in_a_container_the_first_process_output_is_masked(site: Path, home: dict[str, str]) -> None:
    """As a cron job or a service in an image does that wants its lines in `docker logs`."""
    namespaces = ["--pid", "--fork", "--mount-proc", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    script = 'echo "$$ of $PPID"; echo "it is $TOKEN" > /proc/1/fd/1'
    for options, shown in (([], b"it is ***\n"), (["--no-mask"], b"it is " + CANARY.encode() + b"\n")):
        command = ["unshare", *namespaces, PROGRAM, "run", *options, "my-site", "--", "sh", "-c", script]
        done = subprocess.run(command, cwd=site, env=home, capture_output=True, timeout=60)
        assert b" of 1\n" in done.stdout, done
        assert done.stdout.endswith(shown)


@AS_ROOT
def test_on_a_terminal_our_output_is_the_terminal_of_the_build(site: Path, home: dict[str, str]) -> None:
    script = 'echo "it is $TOKEN" > /proc/$PPID/fd/1; stty size < /proc/$PPID/fd/2'
    for options, shown in (([], b"it is ***"), (["--no-mask"], CANARY.encode())):
        words = [str(PROGRAM), "run", *options, "my-site", "--", "sh", "-c", script]
        screen = Screen(words, home | {"TERM": "xterm"}, site)
        output = screen.read_to_end()
        assert screen.finish() == 0
        assert shown in output, output
        assert b"30 100" in output
        assert options or CANARY.encode() not in output


def test_our_own_words_come_out_before_and_after_the_build(cli: Cli, site: Path) -> None:
    """A program that does not start, and processes that it left running, are said where they always were."""
    (site / "broken").write_text("#!/nonexistent/interpreter\n")
    (site / "broken").chmod(0o755)
    done = cli("run", "my-site", "--", "./broken", cwd=site, check=126)
    assert b"cannot be executed" in done.stderr
    done = cli("run", "my-site", "--", "sh", "-c", "sleep 300 >/dev/null 2>&1 & echo built", cwd=site, check=0)
    assert done.stdout == b"built\n"
    assert b"ended 1 process" in done.stderr
