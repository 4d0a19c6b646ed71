"""A build to which something happens after it began: each fault is reported, the rest of the work is done, and 121."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from commandline import PROGRAM, Cli

VALUE = b"a-canary-of-a-token"
UNSHARE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]


@pytest.fixture
def site(cli: Cli, private: Path) -> Cli:
    """A store whose site has a variable and a login for git."""
    cli("init", check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic", stdin=VALUE, check=0)
    name = "http-basic.git.example.org"
    cli("set", "my-site", name, "--type", "composer", "--scope", "ic", stdin=b"deploy a-canary-of-a-word", check=0)
    return cli


def run_mounted(site: Cli, work: Path, before: str, script: str) -> subprocess.CompletedProcess[bytes]:
    """Run a build in a mount namespace of its own, after the commands `before`."""
    command = f'{before}\nexec {PROGRAM} run my-site -- sh -c "$1"'
    return subprocess.run(
        [*UNSHARE, "sh", "-ec", command, "sh", script], env=site.home, cwd=work, capture_output=True, timeout=60
    )


def test_a_receipt_whose_directory_the_build_removed_is_reported(site: Cli, work: Path) -> None:
    (work / "made").mkdir()
    done = site("run", "my-site", "--receipt", "made/receipt", "--", "rmdir", "made", cwd=work, check=121)
    assert b"made/receipt cannot be written" in done.stderr


@pytest.mark.parametrize(("script", "status"), [("true", 121), ("exit 7", 7)])
@pytest.mark.parametrize("step", ["find_leaks", "mend_clones"])
def test_an_unexpected_error_after_the_build_hides_neither_its_status_nor_shows_a_value(
    site: Cli, work: Path, private: Path, step: str, script: str, status: int
) -> None:
    code = (
        "import sys\nfrom ic_secrets import cli\nfrom ic_secrets.build import run\n"
        "def broken(exposure, *others):\n"
        "    raise ValueError(exposure.prepared.secrets[0].value.reveal())\n"
        f"run.{step} = broken\n"
        f"sys.exit(cli.main(['run', 'my-site', '--receipt', 'receipt', '--', 'sh', '-c', {script!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=work, env=site.home, capture_output=True, timeout=60)
    assert done.returncode == status
    assert b"error: an unexpected ValueError after the build" in done.stderr
    assert b"canary" not in done.stderr
    assert json.loads((work / "receipt").read_text())["status"] == status
    assert list(private.iterdir()) == []


def test_what_the_build_mounted_into_the_private_directory_is_reported(site: Cli, work: Path) -> None:
    done = run_mounted(site, work, "", 'mkdir "$COMPOSER_HOME/m"; mount --bind . "$COMPOSER_HOME/m"')
    assert done.returncode == 121, done.stderr
    assert b"composer/m cannot be removed" in done.stderr


def test_a_dead_run_whose_directory_cannot_be_removed_is_reported(site: Cli, work: Path, private: Path) -> None:
    dead = private / f"ic-secrets-{os.geteuid()}-0"
    (dead / "m").mkdir(parents=True)
    done = run_mounted(site, work, f"mount --bind . {dead}/m", "true")
    assert done.returncode == 0, done.stderr
    assert b"/m, left by a dead run, cannot be removed" in done.stderr


def test_a_tmpfs_on_which_nothing_can_be_executed_is_warned_of(site: Cli, work: Path, private: Path) -> None:
    done = run_mounted(site, work, f"mount -t tmpfs -o noexec,mode=700 none {private}", "true")
    assert done.returncode == 0, done.stderr
    assert b"no program can be executed in" in done.stderr


def test_a_clone_that_cannot_be_rewritten_is_reported(site: Cli, work: Path) -> None:
    clone = work / "vendor/acme/package/.git"
    clone.mkdir(parents=True)
    script = f"""printf '[remote "origin"]\\nurl = https://deploy:a-password@git.example.org/x\\n' > {clone}/config
        mount --bind {clone} {clone}; mount -o remount,bind,ro {clone}"""
    done = run_mounted(site, work, "", script)
    assert b"config contains a credential and cannot be rewritten" in done.stderr


def test_a_credential_that_the_build_left_in_a_clone_is_taken_out_and_reported(site: Cli, work: Path) -> None:
    config = work / "vendor/acme/package/.git/config"
    config.parent.mkdir(parents=True)
    script = f"printf '[remote \"origin\"]\\nurl = https://deploy:a-password@git.example.org/x\\n' > {config}"
    done = site("run", "my-site", "--", "sh", "-c", script, cwd=work, check=0)
    assert b"config contained a credential for git.example.org; it was taken out" in done.stderr
    assert config.read_text() == '[remote "origin"]\nurl = https://git.example.org/x\n'


def test_what_the_build_left_running_is_ended_and_counted(site: Cli, work: Path) -> None:
    done = site("run", "my-site", "--", "sh", "-c", "sleep 300 & sleep 300 & exit 0", cwd=work, check=0)
    assert b"ended 2 processes that the build had left running" in done.stderr


def test_a_build_without_git_gets_no_helper_for_it(site: Cli, work: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/env").symlink_to("/usr/bin/env")
    done = site("run", "my-site", "--", "env", cwd=work, env={"PATH": str(tmp_path / "bin")}, check=0)
    assert b"GIT_CONFIG_COUNT" not in done.stdout
    assert b"GIT_CONFIG_COUNT" in site("run", "my-site", "--", "env", cwd=work, check=0).stdout


def test_more_than_the_kernel_takes_is_refused_before_anything_is_exposed(site: Cli, work: Path) -> None:
    most, size = os.sysconf("SC_ARG_MAX") - 20_000, 100_000  # which we ourselves can still be started with
    words = [*["x" * size] * (most // size), "x" * (most % size)]
    done = site("run", "my-site", "--", "true", *words, cwd=work)
    assert (done.returncode, b"the build's environment has" in done.stderr) == (125, True)


def test_where_the_secrets_do_not_fit_nothing_is_left(site: Cli, work: Path, private: Path) -> None:
    site("set", "my-site", "LARGE", "--type", "env", "--scope", "ic", stdin=b"x" * 100, check=0)
    name = "bearer.large.example.org"
    site("set", "my-site", name, "--type", "composer", "--scope", "ic", stdin=VALUE * 700, check=0)
    command = (
        f"mount -t tmpfs -o size=8k,mode=700 none {private}\n"
        f"{PROGRAM} run --run-dir {private} my-site -- touch built || status=$?\nls -A {private}\nexit $status"
    )
    done = subprocess.run(
        [*UNSHARE, "sh", "-ec", command], env=site.home, cwd=work, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (125, ""), done.stderr
    assert "No space left on device" in done.stderr
    assert not (work / "built").exists()


def test_a_signal_before_the_command_starts_starts_nothing_and_leaves_nothing(
    site: Cli, work: Path, private: Path
) -> None:
    """It comes while the secrets are written: they are removed, and the status is the signal's."""
    code = (
        "import os, signal, sys\nfrom ic_secrets import cli\nfrom ic_secrets.build import run\n"
        "fill = run.expose\n"
        "def interrupted(*given):\n    os.kill(os.getpid(), signal.SIGTERM)\n    return fill(*given)\n"
        "run.expose = interrupted\n"
        "sys.exit(cli.main(['run', 'my-site', '--', 'touch', 'built']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=work, env=site.home, capture_output=True, timeout=60)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert list(private.iterdir()) == []
    assert not (work / "built").exists()


def test_output_that_cannot_be_written_fails_a_build_that_succeeded(site: Cli, work: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [str(PROGRAM), "run", "my-site", "--", "sh", "-c", "seq 100000"],
            env=site.home,
            cwd=work,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    assert done.returncode == 121, done.stderr
    assert b"the output could not be written or masked, and was cut off there" in done.stderr
