"""On a terminal the child has a terminal: its size, its keys, its colours, and the shell's job control."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from screen import Screen
from wrapper import WRAPPER


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {
        "PID_FILE": f"{tmp_path}/pid",
        "ENDED_FILE": f"{tmp_path}/ended",
        "PS1": "prompt> ",
        "TERM": "xterm",
        "HISTFILE": "",
    }


def wrapped(script: str) -> list[str]:
    return [sys.executable, "-c", WRAPPER, "10", "no", "bash", "--norc", "-c", script]


@pytest.fixture
def shell(environment: dict[str, str]) -> Iterator[Screen]:
    """An interactive shell, in which `wrapped SCRIPT` runs a script in the wrapper."""
    function = f'wrapped() {{ {sys.executable} -c "$WRAPPER" 10 no bash --norc -c "$1"; }}; export -f wrapped'
    screen = Screen(["bash", "--norc", "-i"], environment | {"WRAPPER": WRAPPER})
    screen.wait_for("prompt> ")
    screen.type(f"{function}\n")
    screen.wait_for("prompt> ")
    yield screen
    screen.close()


def test_all_three_streams_are_terminals_of_the_same_size(environment: dict[str, str]) -> None:
    screen = Screen(wrapped("test -t 0 && test -t 1 && test -t 2 && stty size && exit 5"), environment)
    screen.wait_for("30 100")
    assert screen.finish() == 5


def test_each_stream_keeps_its_kind(environment: dict[str, str], tmp_path: Path) -> None:
    """stdout that is a terminal beside stderr that is a file, and the other way round."""
    for stream, other in ((1, 2), (2, 1)):
        script = f"test -t {stream} && ! test -t {other} && echo yes >&{stream} || echo no >&{stream}; echo f >&{other}"
        shell = f'exec {other}>{tmp_path}/file; "$@"'
        screen = Screen(["bash", "-c", shell, "-", *wrapped(script)], environment)
        screen.wait_for("YES")
        screen.finish()
        assert (tmp_path / "file").read_bytes() == b"F\n!"


def test_a_change_of_size_is_passed_on(environment: dict[str, str]) -> None:
    screen = Screen(wrapped("trap 'stty size; exit' WINCH; echo ready; while :; do read -t 1; done"), environment)
    screen.wait_for("READY")
    screen.resize(40, 120)
    screen.wait_for("40 120")
    assert screen.finish() == 0


def test_keys_reach_the_child_raw_and_the_terminal_is_restored(environment: dict[str, str]) -> None:
    screen = Screen(wrapped("stty raw -echo; echo ready; dd bs=1 count=3 2>/dev/null | od -An -tx1"), environment)
    before = termios.tcgetattr(screen.master)
    screen.wait_for("READY")
    screen.type("\x1b[A")
    screen.wait_for("1B 5B 41")
    assert screen.finish() == 0
    assert before[3] & termios.ICANON


def test_the_interrupt_key_reaches_the_childs_group(environment: dict[str, str]) -> None:
    screen = Screen(wrapped("echo ready; sleep 300; echo not reached"), environment)
    screen.wait_for("READY")
    screen.type("\x03")
    assert screen.finish() == 128 + signal.SIGINT


def test_a_program_that_handles_the_interrupt_key_goes_on(environment: dict[str, str]) -> None:
    screen = Screen(wrapped("trap 'echo caught' INT; echo ready; read line; echo got $line; exit 0"), environment)
    screen.wait_for("READY")
    screen.type("\x03")
    screen.wait_for("CAUGHT")
    screen.type("line\n")
    screen.wait_for("GOT LINE")
    assert screen.finish() == 0


def test_a_hidden_prompt_stays_hidden(environment: dict[str, str]) -> None:
    screen = Screen(wrapped("read -s -p 'password: ' p; echo; echo length ${#p}"), environment)
    screen.wait_for("PASSWORD: ")
    screen.type("typed-password\n")
    screen.wait_for("LENGTH 14")
    assert b"typed" not in screen.shown.lower()
    assert screen.finish() == 0


def test_suspended_and_continued_by_the_shell(shell: Screen) -> None:
    shell.type("wrapped 'echo ready; read line; echo got $line'\n")
    shell.wait_for("READY")
    shell.type("\x1a")
    shell.wait_for("Stopped")
    shell.wait_for("prompt> ")
    shell.type("stty -a | grep -o ' ican''on'\n")
    shell.wait_for(" icanon")
    shell.type("fg\n")
    shell.wait_for("bash --norc")
    shell.type("line\n")
    shell.wait_for("GOT LINE")
    shell.wait_for("prompt> ")


def test_a_background_job_prints_and_leaves_the_terminal_alone(shell: Screen) -> None:
    shell.type("wrapped 'echo from behind' &\n")
    shell.wait_for("FROM BEHIND")
    shell.type("wait; echo sta''tus $?\n")
    shell.wait_for("status 0")


def test_in_a_pipe_line_ends_of_the_other_program_stay_in_order(shell: Screen) -> None:
    shell.type("wrapped 'echo one; echo two; read -t 1' | cat\n")
    shell.wait_for("ONE\r\nTWO\r\n")
    shell.wait_for("prompt> ")


def test_a_terminal_that_hangs_up_ends_the_child(environment: dict[str, str], tmp_path: Path) -> None:
    screen = Screen(wrapped(f"echo $$ > {tmp_path}/child; echo ready; sleep 300"), environment)
    screen.wait_for("READY")
    child = int((tmp_path / "child").read_text())
    assert screen.close() in {128 + signal.SIGHUP, -signal.SIGHUP}
    assert not Path(f"/proc/{child}").exists()


def test_without_masking_a_reader_in_the_background_is_given_the_terminal(shell: Screen) -> None:
    """With no pseudo-terminal between, the child's group gets the terminal when it wants to read from it."""
    plain = WRAPPER.replace("open_channels()", "()")
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"plain-{os.getpid()}.py"
    path.write_text(plain)
    try:
        shell.type(f"{sys.executable} {path} 10 no bash --norc -c 'echo re\"\"ady; read line; echo got $line'\n")
        shell.wait_for("ready")
        shell.type("line\n")
        shell.wait_for("got line")
        shell.wait_for("prompt> ")
        shell.type(f"{sys.executable} {path} 10 no bash --norc -c 'read x; echo x=$x; read line; echo got $line'\n")
        shell.type("first\n")
        shell.wait_for("x=first")
        shell.type("\x1a")
        shell.wait_for("Stopped")
        shell.type("fg\n")
        shell.wait_for("fg")
        shell.type("second\n")
        shell.wait_for("got second")
    finally:
        path.unlink()


def test_no_terminal_anywhere_needs_none(environment: dict[str, str]) -> None:
    done = subprocess.run(
        wrapped("tty; exit 4"), env=environment, stdin=subprocess.DEVNULL, capture_output=True, start_new_session=True
    )
    assert done.returncode == 4
    assert done.stdout == b"NOT A TTY\n!"
