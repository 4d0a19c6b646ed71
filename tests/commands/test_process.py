"""A build's processes: streams, signals, exit statuses, and nothing left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ic_secrets.errors import ProgramNotExecutableError, ProgramNotFoundError
from ic_secrets.process.child import find_program
from wrapper import WRAPPER


class Wrapped:
    """The wrapper around a shell script, running."""

    def __init__(self, tmp_path: Path, script: str, *, grace: float = 10, background: bool = False) -> None:
        self._path = tmp_path
        environment = os.environ | {
            "PID_FILE": f"{tmp_path}/pid",
            "ENDED_FILE": f"{tmp_path}/ended",
            "T": f"{tmp_path}",
        }
        words = [sys.executable, "-c", WRAPPER, str(grace), "yes" if background else "no", "bash", "-c", script]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )

    def finish(self, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        out, err = self.process.communicate(stdin, timeout=60)
        return self.process.returncode, out, err

    def wait_for_line(self) -> bytes:
        assert self.process.stdout
        return self.process.stdout.readline()

    @property
    def ended(self) -> int:
        return int((self._path / "ended").read_text())


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


STATUSES = [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]


@pytest.mark.parametrize(("script", "status"), STATUSES)
def test_the_exit_status_is_the_childs_own(tmp_path: Path, script: str, status: int) -> None:
    assert Wrapped(tmp_path, script).finish()[0] == status


def test_three_streams_stay_three_and_output_passes_the_filter(tmp_path: Path) -> None:
    assert Wrapped(tmp_path, "cat; echo err >&2").finish(b"typed") == (0, b"TYPED!", b"ERR\n!")


def test_a_large_output_arrives_whole_and_in_order(tmp_path: Path) -> None:
    status, out, _ = Wrapped(tmp_path, "seq 1 400000").finish()
    assert status == 0
    assert out == "".join(f"{n}\n" for n in range(1, 400_001)).encode() + b"!"


def test_stdout_and_stderr_that_go_to_one_place_keep_their_order(tmp_path: Path) -> None:
    environment = os.environ | {"PID_FILE": f"{tmp_path}/pid", "ENDED_FILE": f"{tmp_path}/ended"}
    script = "for n in $(seq 200); do echo o$n; echo e$n >&2; done"
    words = [sys.executable, "-c", WRAPPER, "10", "no", "bash", "-c", script]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, timeout=60)
    assert done.stdout == b"".join(b"O%d\nE%d\n" % (n, n) for n in range(1, 201)) + b"!"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_reaches_the_whole_group_and_is_the_status_even_where_the_child_said_0(
    tmp_path: Path, number: int
) -> None:
    # Like Composer, the shell waits for its own child, and then says 0.
    script = 'trap "" INT QUIT; trap "exit 0" TERM HUP; (trap - INT QUIT; exec sleep 300) & echo $!; wait; wait; exit 0'
    wrapped = Wrapped(tmp_path, script)
    sleeper = int(wrapped.wait_for_line())
    os.kill(wrapped.process.pid, number)
    assert wrapped.finish()[0] == 128 + number
    assert not is_running(sleeper)


def test_a_child_that_withstands_is_killed_after_the_grace(tmp_path: Path) -> None:
    wrapped = Wrapped(tmp_path, 'trap "" TERM; echo ready; while :; do sleep 300; done', grace=0.3)
    wrapped.wait_for_line()
    os.kill(wrapped.process.pid, signal.SIGTERM)
    assert wrapped.finish()[0] == 143


def test_a_second_signal_does_not_wait_for_the_grace(tmp_path: Path) -> None:
    wrapped = Wrapped(tmp_path, 'trap "echo told" TERM; echo ready; while :; do sleep 0.1; done', grace=3600)
    wrapped.wait_for_line()
    os.kill(wrapped.process.pid, signal.SIGTERM)
    wrapped.wait_for_line()
    os.kill(wrapped.process.pid, signal.SIGTERM)
    assert wrapped.finish()[0] == 143


def test_what_is_started_after_the_signal_is_ended_too(tmp_path: Path) -> None:
    """Composer starts a git again that was ended, and would wait for it."""
    wrapped = Wrapped(tmp_path, 'trap ":" TERM; echo ready; sleep 300; echo again; sleep 300; exit 0', grace=3600)
    wrapped.wait_for_line()
    os.kill(wrapped.process.pid, signal.SIGTERM)
    assert wrapped.finish()[:2] == (143, b"AGAIN\n!")


def test_what_the_build_left_running_is_ended(tmp_path: Path) -> None:
    daemon = "(setsid bash -c 'trap \"\" TERM; echo $$; while :; do sleep 300; done' &)"
    wrapped = Wrapped(tmp_path, f"{daemon}; (sleep 300 & echo $!); read", grace=0.3)
    pids = [int(wrapped.wait_for_line()), int(wrapped.wait_for_line())]
    assert wrapped.finish(b"\n")[0] == 0
    assert not any(is_running(pid) for pid in pids)
    assert wrapped.ended >= 2


def test_it_is_left_running_where_that_is_allowed(tmp_path: Path) -> None:
    wrapped = Wrapped(tmp_path, "sleep 300 & echo $!", background=True)
    pid = int(wrapped.wait_for_line())
    assert wrapped.finish()[0] == 0
    assert is_running(pid)
    os.kill(pid, signal.SIGKILL)


def test_a_reader_that_goes_away_ends_the_child_as_it_would_have_without_us(tmp_path: Path) -> None:
    wrapped = Wrapped(tmp_path, "exec yes")
    wrapped.wait_for_line()
    with wrapped.process as process:
        assert process.stdout
        process.stdout.close()
        assert process.wait(timeout=30) == 128 + signal.SIGPIPE


def test_a_signal_that_was_ignored_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        wrapped = Wrapped(tmp_path, "echo ready; read line; echo $line")
    finally:
        signal.signal(signal.SIGHUP, before)
    wrapped.wait_for_line()
    os.kill(wrapped.process.pid, signal.SIGHUP)
    assert wrapped.finish(b"on\n")[:2] == (0, b"ON\n!")


def test_a_child_gets_the_default_for_broken_pipes(tmp_path: Path) -> None:
    assert Wrapped(tmp_path, "yes | head -1; echo ${PIPESTATUS[0]}").finish()[1] == b"Y\n141\n!"


def test_programs_are_found_as_a_shell_finds_them(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x")
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "tool").chmod(0o755)
    path = {"PATH": f"/nowhere:{tmp_path}"}
    assert find_program("tool", path) == f"{tmp_path}/tool"
    assert find_program(f"{tmp_path}/tool", {}) == f"{tmp_path}/tool"
    with pytest.raises(ProgramNotExecutableError):
        find_program("data", path)
    with pytest.raises(ProgramNotExecutableError):
        find_program(str(tmp_path), path)
    for name in ("missing", "", "/nowhere/tool"):
        with pytest.raises(ProgramNotFoundError):
            find_program(name, path)


def test_a_prompt_without_a_newline_appears(tmp_path: Path) -> None:
    wrapped = Wrapped(tmp_path, "printf 'password: '; read answer; echo $answer")
    assert wrapped.process.stdout
    started = time.monotonic()
    assert os.read(wrapped.process.stdout.fileno(), 100) == b"PASSWORD: "
    assert time.monotonic() - started < 30
    assert wrapped.finish(b"x\n")[0] == 0
