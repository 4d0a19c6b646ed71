"""What a caller may get wrong without a word: blocked signals, and files named where another kind belongs."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from commandline import PROGRAM, Cli

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
    assert b"is no receipt" in done.stderr
    assert (tmp_path / name).read_bytes().startswith(content)
    for _ in range(2):
        site("run", "my-site", "--receipt", tmp_path / "receipt.json", "--", "true", cwd=work, check=0)


@pytest.mark.parametrize("name", ["store.db", "key"])
def test_nothing_is_logged_into_what_is_no_log(site: Cli, tmp_path: Path, name: str) -> None:
    content = (tmp_path / name).read_bytes()
    done = site("get", "my-site", "TOKEN", env={"IC_SECRETS_AUDIT_FILE": str(tmp_path / name)})
    assert b"is no audit log" in done.stderr
    assert (tmp_path / name).read_bytes() == content


def test_a_pipe_in_the_place_of_a_store_is_not_waited_for(site: Cli, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = site("check-store", "--store", tmp_path / "pipe", timeout=30)
    assert done.returncode == 1
    assert b"no regular file" in done.stderr


@pytest.mark.parametrize("end", ["", "-journal", "-wal", "-shm", ".audit"])
def test_a_repaired_store_has_a_name_of_its_own(site: Cli, tmp_path: Path, end: str) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(path.read_bytes()[:-4096])
    done = site("check-store", f"--repair={path}{end}")
    assert done.returncode != 0
    assert b"belongs to the damaged store" in done.stderr
    assert not (tmp_path / "store.db-journal").exists()
