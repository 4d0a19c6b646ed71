"""What a caller may get wrong without a word: blocked signals, and files named where another kind belongs."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from children import obey_permissions, run_unprivileged
from commandline import PROGRAM, Cli
from ic_secrets.build.verify import find_unreadable
from ic_secrets.core.clocks import Since
from ic_secrets.leaks.findings import SearchResult
from watching import wait_until_gone

VALUE = b"a-canary-of-a-token"


@pytest.fixture
def site(cli: Cli, tmp_path: Path) -> Cli:
    cli.home |= {"IC_SECRETS_STORE": str(tmp_path / "store.db"), "IC_SECRETS_KEY_FILE": str(tmp_path / "key")}
    cli("init", check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic,user", stdin=VALUE, check=0)
    return cli


def test_signals_that_our_caller_blocked_hold_nothing_up(site: Cli, work: Path) -> None:
    """Neither the end of the build nor a TERM is waited for without end."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
    try:
        done = subprocess.run(
            [PROGRAM, "run", "my-site", "--", "sh", "-c", "exit 7"], env=site.home, cwd=work, timeout=60
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert done.returncode == 7


@pytest.mark.parametrize("name", ["store.db", "key", "store.db.audit"])
def test_a_receipt_takes_the_place_of_a_receipt_alone(site: Cli, work: Path, tmp_path: Path, name: str) -> None:
    content = (tmp_path / name).read_bytes()
    done = site("run", "my-site", "--receipt", tmp_path / name, "--", "true", cwd=work)
    assert done.returncode == 125
    assert b"is not a receipt" in done.stderr
    assert (tmp_path / name).read_bytes().startswith(content)
    for _ in range(2):
        site("run", "my-site", "--receipt", tmp_path / "receipt.json", "--", "true", cwd=work, check=0)


@pytest.mark.parametrize("name", ["store.db", "key"])
def test_nothing_is_logged_into_what_is_no_log(site: Cli, tmp_path: Path, name: str) -> None:
    content = (tmp_path / name).read_bytes()
    done = site("get", "my-site", "TOKEN", env={"IC_SECRETS_AUDIT_FILE": str(tmp_path / name)})
    assert b"is not an audit log" in done.stderr
    assert (tmp_path / name).read_bytes() == content


def test_a_build_inherits_no_stream_that_is_not_masked(site: Cli, work: Path) -> None:
    with open(work / "third", "w+b") as third:
        done = subprocess.run(
            [PROGRAM, "run", "my-site", "--", "sh", "-c", f'echo "$TOKEN" >&{third.fileno()}'],
            env=site.home,
            cwd=work,
            pass_fds=[third.fileno()],
            capture_output=True,
            timeout=60,
        )
        assert done.returncode not in {0, 125}
        assert third.read() == b""


def test_a_private_directory_that_the_build_moves_away_is_scrubbed(site: Cli, work: Path) -> None:
    """Wherever it is on its file system, and whatever took its place."""
    private = work / "private"
    other = work / "elsewhere"
    private.mkdir()
    other.mkdir()
    project = work / "project"
    project.mkdir()
    script = (
        f'd=$(dirname "$COMPOSER_HOME"); mv "$d" {other}/moved; mkdir "$d"; cp {other}/moved/composer/auth.json "$d"'
    )
    site("run", "my-site", "--run-dir", private, "--", "sh", "-c", script, cwd=project, check=0)
    assert list(private.iterdir()) == []
    assert list(other.iterdir()) == []


def test_killed_after_the_build_moved_it_away_nothing_is_left_either(site: Cli, work: Path) -> None:
    """The watchdog holds the directory, not its name alone."""
    project = work / "project"
    (work / "private").mkdir()
    project.mkdir()
    script = 'mv "$(dirname "$COMPOSER_HOME")" ../moved; echo moved; exec sleep 300'
    words = [PROGRAM, "run", "my-site", "--run-dir", work / "private", "--", "sh", "-c", script]
    with subprocess.Popen(words, env=site.home, cwd=project, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"moved\n"
        process.kill()
        assert process.stdout.read() == b""
    wait_until_gone(work / "moved")


def test_killed_a_daemon_that_fled_session_parents_and_environment_is_ended(site: Cli, work: Path) -> None:
    """It is known by who adopted it; the watchdog looks ten times in a second."""
    daemon = "(setsid env -i sh -c 'sleep 300 & echo $! $$ >pids; exec sleep 300' &)"
    script = f"{daemon}; while ! [ -s pids ]; do :; done; sleep 0.5; echo x; exec sleep 300"
    words = [PROGRAM, "run", "my-site", "--", "sh", "-c", script]
    with subprocess.Popen(words, env=site.home, cwd=work, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"x\n"
        process.kill()
    pids = (work / "pids").read_text().split()
    assert len(pids) == 2
    for pid in pids:
        wait_until_gone(Path("/proc", pid))


def test_what_the_build_made_unreadable_is_no_good_build() -> None:
    """What was so before is none of the build's, nor is what can be read, or is gone."""

    def child() -> None:
        with tempfile.TemporaryDirectory() as place:
            for name in ("old", "new", "open"):
                os.mkdir(f"{place}/{name}-directory")
                Path(f"{place}/{name}-file").touch()
            for name in ("old-directory", "old-file"):
                os.chmod(f"{place}/{name}", 0)
            since = os.lstat(f"{place}/old-file").st_ctime_ns + 1
            while time.time_ns() < since + 20_000_000:  # until the file system's clock has gone on
                select.select([], [], [], 0.005)
            for name in ("new-directory", "new-file"):
                os.chmod(f"{place}/{name}", 0)
            names = [*os.listdir(place), "gone"]
            result = SearchResult(unsearched=[(f"{place}/{name}", "unreadable") for name in names])
            assert sorted(find_unreadable(result, Since(since))) == [f"{place}/new-directory", f"{place}/new-file"]
            for name in os.listdir(place):
                os.chmod(f"{place}/{name}", 0o700)

    assert run_unprivileged(child) == 0


@pytest.mark.parametrize(("mode", "status"), [("fail", 121), ("warn", 0), ("off", 0)])
def test_a_build_that_made_something_unreadable_is_told_so(site: Cli, work: Path, mode: str, status: int) -> None:
    words = [PROGRAM, "run", "my-site", f"--leaks={mode}", "--", "sh", "-c", 'echo "$TOKEN" >f; chmod 000 f']
    done = subprocess.run(words, env=site.home, cwd=work, stderr=subprocess.PIPE, preexec_fn=obey_permissions)
    assert (done.returncode, b"/f, which the build made" in done.stderr) == (status, mode != "off"), done.stderr


def test_a_pipe_in_the_place_of_a_store_is_not_waited_for(site: Cli, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = site("check-store", "--store", tmp_path / "pipe", timeout=30)
    assert done.returncode == 1
    assert b"not a regular file" in done.stderr


@pytest.mark.parametrize("end", ["", "-journal", "-wal", "-shm", ".audit"])
def test_a_repaired_store_has_a_name_of_its_own(site: Cli, tmp_path: Path, end: str) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(path.read_bytes()[:-4096])
    done = site("check-store", f"--repair={path}{end}")
    assert done.returncode != 0
    assert b"belongs to the damaged store" in done.stderr
    assert not (tmp_path / "store.db-journal").exists()
