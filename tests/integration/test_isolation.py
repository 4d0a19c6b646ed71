"""Isolated builds: real Composer and git install in namespaces of their own, and end as any other build does."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from broker_sites import BrokerSite, installed
from commandline import PROGRAM
from screen import Screen
from servers.network import Network

SCHEMA = Path(__file__).parents[2] / "docs" / "receipt.schema.json"


def test_a_build_installs_by_every_method(
    site: BrokerSite, isolated: tuple[str, ...], network: Network, tmp_path: Path
) -> None:
    site.store()
    project = network.write_project(tmp_path / "project")
    site.run("composer", "install", "--no-interaction", cwd=project, options=isolated)
    assert installed(project) == sorted(network.packages)
    assert {path.stat().st_uid for path in (project / "vendor").rglob("*")} == {os.geteuid()}


def test_another_host_is_refused_and_named(
    site: BrokerSite, isolated: tuple[str, ...], network: Network, tmp_path: Path
) -> None:
    site.store()
    project = network.write_project(tmp_path / "project")
    ask = ("curl", "-sS", "-o", "/dev/null", "https://evil.example")
    done = site.run(*ask, cwd=project, options=isolated, check=56)
    assert b"403" in done.stderr
    assert b"evil.example" in done.stderr
    assert b"--allow-host evil.example" in done.stderr
    done = site.run("sh", "-c", " ".join(ask) + "; true", cwd=project, options=isolated)
    assert "evil.example" in json.dumps(site.receipt)
    jsonschema.validate(site.receipt, json.loads(SCHEMA.read_text()))
    assert site.receipt["isolation"] == {"mode": isolated[0].partition("=")[2]}
    site.run("true", cwd=project, options=("--broker",))
    assert "isolation" not in site.receipt
    assert network.find("evil.example") == []


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("exit 7", 7),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
        ("kill 0", 143),
        ("exec /nonexistent", 127),
        ("exec /etc/passwd", 126),
    ],
)
def test_the_exit_status_is_the_builds_own(
    site: BrokerSite, isolated: tuple[str, ...], work: Path, script: str, status: int
) -> None:
    site.store(["bearer.bearer.example.org"])
    site.run("sh", "-c", script, cwd=work, options=isolated, check=status)


def test_a_program_that_is_missing_or_not_executable_is_named(
    site: BrokerSite, isolated: tuple[str, ...], work: Path
) -> None:
    site.store(["bearer.bearer.example.org"])
    site.run("no-such-program", cwd=work, options=isolated, check=127)
    (work / "text").write_text("text")
    site.run("./text", cwd=work, options=isolated, check=126)
    (work / "script").write_text("#!/no/such/interpreter\n")
    (work / "script").chmod(0o755)
    site.run("./script", cwd=work, options=isolated, check=126)


TRAP = "trap 'echo trapped; exit 5' INT TERM HUP; echo ready; while :; do sleep 0.05; done"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_reaches_the_build_with_its_grace(
    site: BrokerSite, isolated: tuple[str, ...], work: Path, number: int
) -> None:
    site.store(["bearer.bearer.example.org"])
    with start(site, work, TRAP, isolated) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    assert out == b"trapped\n"
    assert process.returncode == 128 + number


def test_what_ignores_a_signal_is_killed_after_the_grace(
    site: BrokerSite, isolated: tuple[str, ...], work: Path
) -> None:
    site.store(["bearer.bearer.example.org"])
    script = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    with start(site, work, script, isolated, "--grace", "0.3s") as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert find_processes(work) == []


def test_killed_it_leaves_no_process_no_mount_and_no_directory(
    site: BrokerSite, isolated: tuple[str, ...], work: Path, private: Path, tmp_path: Path
) -> None:
    site.store(["bearer.bearer.example.org"])
    before = Path("/proc/self/mountinfo").read_text()
    (work / "daemon.sh").write_text("setsid sleep 300 & echo ready; sleep 300")
    with start(site, work, "sh daemon.sh", isolated) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        process.communicate(timeout=60)
    wait_until(lambda: find_processes(work) == [] and list(private.iterdir()) == [])
    assert Path("/proc/self/mountinfo").read_text() == before


def test_a_daemon_dies_with_the_build(site: BrokerSite, isolated: tuple[str, ...], work: Path) -> None:
    site.store(["bearer.bearer.example.org"])
    done = site.run("sh", "-c", "setsid sleep 300 & exit 0", cwd=work, options=isolated)
    assert (b"left running" in done.stderr) is ("landlock" in isolated[0])  # it is ended as that of any other build
    assert find_processes(work) == []


def test_a_database_on_the_machine_is_carried_in_at_its_address(
    site: BrokerSite, isolated: tuple[str, ...], network: Network, work: Path
) -> None:
    import socket
    import threading

    site.store(["bearer.bearer.example.org"])
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"5.5.5-database ")
                connection.sendall(connection.recv(100))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        script = f"$s = fsockopen('127.0.0.1', {port}); echo fread($s, 15); fwrite($s, 'hello'); echo fread($s, 5);"
        site.run("php", "-r", script, cwd=work, options=isolated, check=255)  # it is not within reach
        options = (*isolated, "--allow-host", f"127.0.0.1:{port}")
        done = site.run("php", "-r", script, cwd=work, options=options)
        assert done.stdout == b"5.5.5-database hello"


def test_a_host_that_is_not_within_reach_is_named_at_the_end(
    site: BrokerSite, isolated: tuple[str, ...], work: Path
) -> None:
    site.store(["bearer.bearer.example.org"])
    done = site.run("curl", "-sS", "https://evil.example/", cwd=work, options=isolated, check=56)
    assert b"the build asked for a host that is not within its reach: evil.example" in done.stderr
    assert b"--allow-host evil.example" in done.stderr


def start(
    site: BrokerSite, work: Path, script: str, isolated: tuple[str, ...], *options: str
) -> subprocess.Popen[bytes]:
    words = [str(PROGRAM), "run", *isolated, *options, "my-site", "--", "sh", "-c", script]
    environment = {**site.cli.home, **site.network.environment}
    return subprocess.Popen(words, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def find_processes(work: Path) -> list[int]:
    """The processes whose environment names the project as their working directory."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                words = (each / "cmdline").read_bytes()
                if b"sleep\0" in words and str(work).encode() in (each / "environ").read_bytes():
                    found.append(int(each.name))
            except OSError:
                continue
    return found


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_its_cache_is_its_own_and_gone_afterwards(
    site: BrokerSite, isolated: tuple[str, ...], network: Network, tmp_path: Path
) -> None:
    site.store()
    project = network.write_project(tmp_path / "project")
    site.run("composer", "install", "--no-interaction", cwd=project, options=isolated)
    script = "echo $COMPOSER_CACHE_DIR; touch $COMPOSER_CACHE_DIR/x"
    done = site.run("sh", "-c", script, cwd=project, options=isolated)
    scratch = Path(done.stdout.decode().strip())
    assert scratch.name.startswith(f"ic-secrets-{os.geteuid()}-cache-")
    assert not scratch.exists()


def test_a_cache_in_the_project_is_as_it_was_after_the_build(
    site: BrokerSite, isolated: tuple[str, ...], work: Path
) -> None:
    site.store(["bearer.bearer.example.org"])
    clone = work / "cache/vcs/clone"
    clone.mkdir(parents=True)
    (work / "composer.json").write_text('{"config": {"cache-dir": "cache"}}')
    is_mounted = "bubblewrap" in isolated[0]  # else it is put back
    site.run("sh", "-c", "touch cache/vcs/clone/config", cwd=work, options=isolated, check=int(is_mounted))
    site.run("touch", "elsewhere", cwd=work, options=isolated)
    assert not (clone / "config").exists()


def test_a_directory_that_the_checkout_calls_a_cache_is_not_shown(
    site: BrokerSite, isolated: tuple[str, ...], work: Path, home: dict[str, str]
) -> None:
    site.store(["bearer.bearer.example.org"])
    secret = Path(home["HOME"]) / "private"
    secret.mkdir()
    (secret / "id_rsa").write_text("key")
    (work / "composer.json").write_text(json.dumps({"config": {"cache-dir": str(secret)}}))
    site.run("cat", str(secret / "id_rsa"), cwd=work, options=isolated, check=1)


@pytest.mark.parametrize("name", ["bwrap", "composer", "git"])
def test_no_program_of_the_checkout_is_run_outside(
    site: BrokerSite, isolated: tuple[str, ...], work: Path, tmp_path: Path, name: str
) -> None:
    """PATH often has the project's vendor/bin; without isolation, the same program is run to ask for its version."""
    site.store(["bearer.bearer.example.org"])
    marker, folder = tmp_path / "marker", work / "vendor" / "bin"
    folder.mkdir(parents=True)
    (folder / name).write_text(f"#!/bin/sh\ntouch {marker}\n")
    (folder / name).chmod(0o755)
    env = {"PATH": f"{folder}:{site.cli.home['PATH']}"}
    site.run("true", cwd=work, options=isolated, env=env)
    assert not marker.exists()
    if name != "bwrap":
        site.run("true", cwd=work, env=env)
        assert marker.exists()


def test_a_descriptor_that_was_inherited_does_not_reach_the_build(
    site: BrokerSite, isolated: tuple[str, ...], work: Path
) -> None:
    site.store(["bearer.bearer.example.org"])
    words = [str(PROGRAM), "run", *isolated, "--no-mask", "my-site", "--", "ls", "/proc/self/fd"]
    environment = {**site.cli.home, **site.network.environment}
    outside = os.open("/", os.O_RDONLY)
    try:
        done = subprocess.run(words, cwd=work, env=environment, stdout=subprocess.PIPE, pass_fds=[outside], timeout=60)
    finally:
        os.close(outside)
    assert done.stdout.split() == [b"0", b"1", b"2", b"3"]  # 3 is the listing's own


@pytest.mark.slow
def test_killed_at_any_moment_it_leaves_nothing(
    site: BrokerSite, isolated: tuple[str, ...], work: Path, private: Path, pytestconfig: pytest.Config
) -> None:
    site.store(["bearer.bearer.example.org"])
    rounds = 300 if pytestconfig.getoption("--long") else 15
    for number in range(rounds):
        with start(site, work, "sleep 300", isolated) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.5 * number / rounds)
            process.kill()
            process.communicate(timeout=60)
        wait_until(lambda: find_processes(work) == [] and list(private.iterdir()) == [])


@pytest.fixture
def terminal(site: BrokerSite, isolated: tuple[str, ...], work: Path) -> Callable[..., Screen]:
    """What starts a build in a terminal."""

    def start_there(script: str, *options: str, redirected: str = "") -> Screen:
        site.store(["bearer.bearer.example.org"])
        words = shlex.join([str(PROGRAM), "run", *isolated, *options, "my-site", "--", "sh", "-c", script])
        return Screen(["sh", "-c", f"{words} {redirected}"], {**site.cli.home, **site.network.environment}, work)

    return start_there


def test_it_has_a_real_terminal(terminal: Callable[..., Screen]) -> None:
    script = "test -t 0 && stty size && read word </dev/tty && echo read $word; stty size; exit 9"
    screen = terminal(script)
    screen.wait_for("30 100")
    screen.resize(40, 90)
    screen.type("something\n")
    screen.wait_for("read something")
    screen.wait_for("40 90")
    screen.read_to_end()
    assert screen.finish() == 9


def test_keys_stop_and_end_what_runs_in_the_terminal(terminal: Callable[..., Screen]) -> None:
    screen = terminal("echo ready; sleep 300")
    screen.wait_for("ready")
    screen.type("\x03")
    screen.read_to_end()
    assert screen.finish() == 130


def test_the_persons_own_terminal_is_out_of_reach(terminal: Callable[..., Screen], work: Path) -> None:
    """Without isolation a build whose streams are redirected opens it all the same, and reads what is typed."""
    redirected = f"<{os.devnull} >{work}/out 2>{work}/err"
    screen = terminal("echo written >/dev/tty", redirected=redirected)
    assert b"written" not in screen.read_to_end()
    assert screen.finish() != 0
    assert "/dev/tty" in (work / "err").read_text()


def test_without_isolation_it_is_not(site: BrokerSite, work: Path) -> None:
    words = shlex.join([str(PROGRAM), "run", "my-site", "--", "sh", "-c", "echo written >/dev/tty"])
    site.store(["bearer.bearer.example.org"])
    screen = Screen(["sh", "-c", f"{words} <{os.devnull} >out 2>err"], site.cli.home, work)
    assert b"written" in screen.read_to_end()
    assert screen.finish() == 0
