"""Nothing gets out: not in output, not in files, not to whoever kills us, and the receipt proves it."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from screen import Screen
from searching import search_tree
from servers import Servers

PROGRAM = str(Path(sys.executable).parent / "ic-secrets")
CANARY = "canary-7Tq2xW9-value"
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "receipt.schema.json").read_text())


@pytest.fixture
def site(cli: Any, tmp_path: Path) -> Path:
    """A store with one licence key, and an empty project."""
    cli("init", check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic", stdin=CANARY.encode(), check=0)
    cli(
        "set",
        "my-site",
        "bearer.repo.example.org",
        "--type",
        "composer",
        "--scope",
        "ic",
        stdin=b"tok-" + CANARY.encode(),
        check=0,
    )
    project = tmp_path / "project"
    (project / "vendor").mkdir(parents=True)
    (project / "composer.lock").write_text("{}\n")
    return project


LEAKY = (
    'echo start >> log; echo "$TOKEN" > vendor/x; '
    'printf "{\\"a\\":\\n\\"%s\\"}" "$(printf "x%s" "$TOKEN" | base64)" > composer.lock'
)


def test_a_leaking_build_gives_120_and_names_both_places(cli: Any, site: Path, tmp_path: Path) -> None:
    receipt = tmp_path / "receipt.json"
    done = cli("run", "my-site", "--receipt", receipt, "--", "sh", "-c", LEAKY, cwd=site, check=120)
    lines = [line for line in done.stderr.decode().splitlines() if line.startswith("error:")]
    assert len(lines) == 2
    assert f"error: TOKEN was left behind in {site}/vendor/x:1 (raw)" in lines
    assert any(f"{site}/composer.lock:2 (base64" in line for line in lines)
    assert CANARY not in done.stderr.decode()
    document = json.loads(receipt.read_text())
    found = {
        (Path(finding["path"]).name, finding["line"], finding["secret"]) for finding in document["leaks"]["findings"]
    }
    assert found == {("x", 1, "TOKEN"), ("composer.lock", 2, "TOKEN")}
    assert document["status"] == 120


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (("--leaks", "warn"), 0),
        (("--leaks", "off"), 0),
        (("--leaks-allow", "TOKEN"), 0),
        (("--leaks-allow", "vendor/*", "--leaks-allow", "composer.lock"), 0),
        (("--leaks-allow", "vendor/*"), 120),
        (("--leaks-allow", "OTHER"), 120),
    ],
)
def test_leaks_can_be_warned_of_or_allowed(cli: Any, site: Path, options: tuple[str, ...], status: int) -> None:
    cli("run", "my-site", *options, "--", "sh", "-c", LEAKY, cwd=site, check=status)


def test_the_status_of_a_build_that_fails_wins_over_its_leak(cli: Any, site: Path) -> None:
    done = cli("run", "my-site", "--", "sh", "-c", f"{LEAKY}; exit 3", cwd=site, check=3)
    assert b"was left behind" in done.stderr


def test_only_what_changed_since_the_build_began_is_read(cli: Any, site: Path) -> None:
    (site / "vendor" / "old").write_text(CANARY)
    time.sleep(0.1)  # the clock of a file system ticks coarsely
    cli("run", "my-site", "--", "true", cwd=site, check=0)
    cli("run", "my-site", "--", "touch", "vendor/old", cwd=site, check=120)


@pytest.mark.parametrize(
    "place", ["$HOME/.npmrc", "$HOME/.config/tool/token", "$TMPDIR/left", "$XDG_CACHE_HOME/composer/left"]
)
def test_homes_caches_and_temporary_directories_are_searched_too(cli: Any, site: Path, place: str) -> None:
    script = f'mkdir -p "$(dirname "{place}")" && printf %s "$TOKEN" > "{place}"'
    cli("run", "my-site", "--", "sh", "-c", script, cwd=site, check=120)


def test_the_receipt_follows_its_schema_and_holds_no_value(
    cli: Any, servers: Servers, tmp_path: Path, home: dict[str, str], site: Path
) -> None:
    project = servers.project(tmp_path, "everything")
    for command in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x", "--allow-empty"],
    ):
        subprocess.run(["git", *command], cwd=project, env=home, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project, env=home, capture_output=True, text=True).stdout
    for server in (servers.basic, servers.bearer, servers.git):
        cli(
            "set",
            "my-site",
            server.secret_name,
            "--type",
            "composer",
            "--scope",
            "ic",
            stdin=server.secret_value,
            check=0,
        )
    receipt = project / "receipt.json"
    install = ("composer", "install", "--no-interaction", "--no-progress")
    cli("run", "my-site.dev", "--receipt", receipt, "--", *install, cwd=project, check=0)
    document = json.loads(receipt.read_text())
    jsonschema.validate(document, SCHEMA)
    assert search_tree([receipt], [*servers.needles, CANARY.encode()]) == []
    assert document["revision"] == head.strip()
    assert document["versions"]["composer"][0].isdigit()
    assert {secret["name"] for secret in document["secrets"]} == {
        "TOKEN",
        "bearer.repo.example.org",
        servers.basic.secret_name,
        servers.bearer.secret_name,
        servers.git.secret_name,
    }
    assert document["scrub"]["complete"] is True
    assert any(path["path"].endswith("composer/auth.json") for path in document["scrub"]["paths"])
    assert all(path["gone"] for path in document["scrub"]["paths"])
    assert document["leaks"]["searched_files"] > 10


PLACES = {
    "composer.lock": "composer-files",
    "vendor/composer/installed.json": "composer-files",
    "vendor/composer/installers/left": "project",
    "theme/composer.lock": "project",
    "$XDG_CACHE_HOME/composer/vcs/a/config": "composer-cache",
    "$XDG_CONFIG_HOME/composer/left": "composer-home",
    "$HOME/.npmrc": "home",
    "$TMPDIR/left": "temporary",
    "link/left": "elsewhere",
}


def test_a_receipt_tells_where_composer_itself_writes_from_where_a_script_does(
    cli: Any, site: Path, tmp_path: Path
) -> None:
    (tmp_path / "shared").mkdir()
    (site / "link").symlink_to(tmp_path / "shared")
    write = 'for p in "$@"; do mkdir -p "$(dirname "$p")"; printf %s "$TOKEN" > "$p"; done'
    clones = "$XDG_CACHE_HOME/composer/vcs/b/config vendor/a/b/.git/config"
    login = "https://user:$TOKEN@git.example.org/a.git"
    mended = f'TOKEN="[remote \\"origin\\"] url = {login}"'
    script = f"set -- {' '.join(PLACES)}; {write}; set -- {clones}; {mended}; {write}"
    receipt = tmp_path / "receipt.json"
    cli("run", "my-site", "--receipt", receipt, "--", "sh", "-c", script, cwd=site, check=120)
    document = json.loads(receipt.read_text())
    jsonschema.validate(document, SCHEMA)
    found = sorted((finding["place"], Path(finding["path"]).name) for finding in document["leaks"]["findings"])
    assert found == sorted((place, Path(path).name) for path, place in PLACES.items())
    assert [clone["place"] for clone in document["git"]["mended"]] == ["composer-cache", "project"]


def test_a_receipt_tells_a_secret_that_was_kept_out_from_those_that_were_exposed(
    cli: Any, tmp_path: Path, home: dict[str, str], site: Path
) -> None:
    receipt = tmp_path / "receipt.json"
    home["TOKEN"] = "of-the-job"
    cli("run", "my-site", "--preserve-env=TOKEN", "--receipt", receipt, "--", "true", cwd=site, check=0)
    document = json.loads(receipt.read_text())
    jsonschema.validate(document, SCHEMA)
    assert [secret["name"] for secret in document["secrets"]] == ["bearer.repo.example.org"]
    assert document["preserved"] == ["TOKEN"]


def test_a_receipt_that_cannot_be_written_is_said_before_the_build(cli: Any, site: Path) -> None:
    done = cli("run", "my-site", "--receipt", "nowhere/receipt.json", "--", "touch", "built", cwd=site, check=125)
    assert b"cannot be written" in done.stderr
    assert not (site / "built").exists()


ENCODERS = {
    "raw": 'printf %s "$TOKEN"',
    "base64": 'printf %s "$TOKEN" | base64',
    "base64 with a suffix": 'printf "%s:x" "$TOKEN" | base64',
    "hex": 'printf %s "$TOKEN" | od -An -tx1 | tr -d " \\n"',
    "slowly": 'for c in $(printf %s "$TOKEN" | sed "s/./& /g"); do printf %s "$c"; sleep 0.02; done',
    "coloured": 'printf "%s\\033[31m%s\\033[0m" "$(printf %s "$TOKEN" | cut -c-9)" "$(printf %s "$TOKEN" | cut -c10-)"',
    "on stderr": 'printf %s "$TOKEN" >&2',
    "auth.json": 'cat "$COMPOSER_HOME/auth.json"',
}


@pytest.mark.parametrize("script", ENCODERS.values(), ids=ENCODERS.keys())
def test_what_a_build_prints_is_masked(cli: Any, site: Path, script: str) -> None:
    done = cli("run", "my-site", "--", "sh", "-c", script, cwd=site, check=0)
    shown = done.stdout + done.stderr
    assert b"***" in shown
    assert CANARY.encode() not in shown
    assert base64.b64encode(CANARY.encode())[:16] not in shown
    assert CANARY.encode().hex().encode()[:24] not in shown


def test_on_a_terminal_composer_keeps_its_colours_and_its_size_and_is_masked(
    cli: Any, site: Path, servers: Servers, tmp_path: Path, home: dict[str, str]
) -> None:
    name = ("set", "my-site", servers.basic.secret_name, "--type", "composer", "--scope", "ic")
    cli(*name, stdin=servers.basic.secret_value, check=0)
    project = servers.project(tmp_path, "basic-only")
    script = 'composer install && stty size && composer config --global --list && cat "$COMPOSER_HOME/auth.json"'
    screen = Screen([PROGRAM, "run", "my-site", "--", "sh", "-c", script], home | {"TERM": "xterm"}, project)
    shown = screen.read_to_end()
    assert screen.finish() == 0
    assert b"\x1b[32m" in shown, "green, as Composer prints on a terminal"
    assert b"\r\n30 100\r\n" in shown
    assert b"***" in shown
    assert not any(needle in shown for needle in servers.basic.needles)
    assert json.dumps(servers.basic.password).encode()[1:-1] not in shown


def test_the_wrapper_cannot_be_looked_into(cli: Any, site: Path, home: dict[str, str]) -> None:
    """Neither its memory nor its environment by the same user, nor a core of it or of the build on a disk."""
    script = "grep -h ^Max.core /proc/self/limits /proc/$PPID/limits; echo ready; read line"
    command = [PROGRAM, "run", "my-site", "--", "sh", "-c", script]
    with subprocess.Popen(command, cwd=site, env=home, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        limits = [process.stdout.readline().split()[4:6] for _ in range(2)]
        assert process.stdout.readline() == b"ready\n"
        owner = os.stat(f"/proc/{process.pid}/environ").st_uid
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.communicate(b"\n")
    assert limits == [[b"0", b"0"], [b"0", b"0"]]
    assert owner == 0, "a process that is not dumpable belongs to root in /proc"
    assert "CoreDumping:\t0" in status


def test_memory_does_not_grow_with_the_output(cli: Any, site: Path, home: dict[str, str]) -> None:
    peaks = []
    for size in (1, 200):
        script = f"yes 'a line of a build log, one of very many' | head -c {size}M"
        code = (
            "import resource, subprocess, sys; "
            "subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True); "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        command = [sys.executable, "-c", code, PROGRAM, "run", "my-site", "--", "sh", "-c", script]
        done = subprocess.run(command, cwd=site, env=home, capture_output=True, check=True, timeout=120)
        peaks.append(int(done.stdout))
    assert max(peaks) < 60 * 1024, f"{peaks} KiB"
    assert peaks[1] < peaks[0] + 8 * 1024, f"{peaks} KiB"


def test_an_unexpected_error_shows_neither_locals_nor_values(site: Path, home: dict[str, str]) -> None:
    code = (
        "import sys\nfrom ic_secrets import cli\nfrom ic_secrets.build import run\n"
        "def broken(prepared, watchdog, notify, broker):\n"
        "    value = prepared.secrets[0].value.reveal()\n"
        "    raise ValueError(value)\n"
        "run.expose = broken\n"
        "sys.exit(cli.main(['run', 'my-site', '--', 'true']))\n"
    )
    for debug in ({}, {"IC_SECRETS_DEBUG": "1"}):
        done = subprocess.run([sys.executable, "-c", code], cwd=site, env=home | debug, capture_output=True, timeout=60)
        assert done.returncode == 125
        assert b"an unexpected ValueError" in done.stderr
        assert CANARY.encode() not in done.stdout + done.stderr
        assert b"Traceback" not in done.stderr
    assert b" in broken" in done.stderr


HOSTILE = {
    "a pipe for an auth.json": ('rm "$COMPOSER_HOME/auth.json"; mkfifo "$COMPOSER_HOME/auth.json"; echo hi', 0),
    "a closed directory": ('chmod 0 "$(dirname "$COMPOSER_HOME")"; exit 4', 4),
    "a pipe that cannot be carried back": ('mkfifo "$COMPOSER_HOME/f-$TOKEN"; exit 7', 7),
    "a copy of auth.json": ('mv "$COMPOSER_HOME/auth.json" "$COMPOSER_HOME/auth.json.bak"', 0),
}


@pytest.mark.parametrize(("script", "status"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_build_neither_holds_us_up_nor_gets_a_value_out(
    cli: Any, site: Path, home: dict[str, str], private: Path, tmp_path: Path, script: str, status: int
) -> None:
    done = cli("run", "my-site", "--", "sh", "-c", script, cwd=site, timeout=60, check=status)
    assert list(private.iterdir()) == []
    assert CANARY.encode() not in done.stdout + done.stderr
    assert search_tree([tmp_path], [CANARY.encode()]) == []


def test_a_stderr_that_takes_nothing_changes_no_status(site: Path, home: dict[str, str], private: Path) -> None:
    script = 'mkfifo "$COMPOSER_HOME/f"; exit 7'
    with open("/dev/full", "wb") as full:
        command = [PROGRAM, "run", "my-site", "--", "sh", "-c", script]
        assert subprocess.run(command, cwd=site, env=home, stderr=full, timeout=60).returncode == 7
    assert list(private.iterdir()) == []


def test_closed_streams_change_no_status(site: Path, home: dict[str, str]) -> None:
    for closed in (">&-", "2>&-", "<&-", ">&- 2>&- <&-"):
        shell = f"{PROGRAM} run my-site -- sh -c 'exit 5' {closed}"
        assert subprocess.run(["sh", "-c", shell], cwd=site, env=home, timeout=60).returncode == 5


def test_an_output_that_cannot_be_written_is_no_success(site: Path, home: dict[str, str]) -> None:
    with open("/dev/full", "wb") as full:
        command = [PROGRAM, "run", "my-site", "--", "echo", "lost"]
        assert subprocess.run(command, cwd=site, env=home, stdout=full, timeout=60).returncode == 121


def test_processes_that_were_there_before_the_build_are_left_alone(site: Path, home: dict[str, str]) -> None:
    """A shell that calls us with exec leaves us its children: a log reader, a server."""
    shell = f"sleep 300 >/dev/null 2>&1 & echo $!; exec {PROGRAM} run my-site -- echo built"
    done = subprocess.run(["bash", "-c", shell], cwd=site, env=home, capture_output=True, timeout=60)
    pid, built = done.stdout.split()
    assert built == b"built"
    os.kill(int(pid), signal.SIGKILL)


def test_children_that_are_ignored_by_our_caller_are_waited_for(site: Path, home: dict[str, str]) -> None:
    shell = f"trap '' CHLD; exec {PROGRAM} run my-site -- sh -c 'exit 6'"
    assert subprocess.run(["bash", "-c", shell], cwd=site, env=home, timeout=60).returncode == 6


def test_a_receipt_goes_where_a_link_leads_and_replaces_no_device(cli: Any, site: Path, tmp_path: Path) -> None:
    (tmp_path / "target").write_text('{"schema": "ic-secrets.receipt/1"}')
    (tmp_path / "link").symlink_to("target")
    cli("run", "my-site", "--receipt", tmp_path / "link", "--", "true", cwd=site, check=0)
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "target").read_text())["status"] == 0
    cli("run", "my-site", "--receipt", "/dev/null", "--", "true", cwd=site, check=125)


def test_what_a_receipt_asks_for_is_asked_without_our_keys(
    cli: Any, site: Path, home: dict[str, str], tmp_path: Path
) -> None:
    fake = tmp_path / "bin" / "composer"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\nenv > {tmp_path}/seen\necho Composer version 2.9.1\n")
    fake.chmod(0o755)
    env = {"PATH": f"{fake.parent}:{home['PATH']}", "IC_SECRETS_KEY_FILE": f"{home['XDG_CONFIG_HOME']}/ic-secrets/key"}
    cli("run", "my-site", "--receipt", tmp_path / "receipt", "--", "true", cwd=site, env=env, check=0)
    assert "IC_SECRETS" not in (tmp_path / "seen").read_text()
    assert json.loads((tmp_path / "receipt").read_text())["versions"]["composer"] == "2.9.1"


def test_a_method_that_the_installed_composer_ignores_is_named(cli: Any, site: Path) -> None:
    name = ("set", "my-site", "forgejo-token.code.example.org", "--type", "composer", "--scope", "ic")
    cli(*name, stdin=b"user token-of-forgejo", check=0)
    version = subprocess.run(["composer", "--version"], capture_output=True, text=True, timeout=60).stdout
    done = cli("run", "my-site", "--", "true", cwd=site, check=0)
    is_old = tuple(map(int, version.split()[2].split(".")[:2])) < (2, 9)
    assert (b"ignores forgejo-token" in done.stderr) is is_old


WAYS = ("process", "group", "session")


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_left_within_a_second(
    cli: Any, site: Path, home: dict[str, str], private: Path, rounds: Callable[[int, int], int]
) -> None:
    """The process alone, its group, or its session, at random moments of a build with children and daemons."""
    script = (
        'echo $$ > "$0.pid"; (setsid sleep 300 &) ; sleep 300 & '
        'while :; do cat "$COMPOSER_HOME/auth.json" >/dev/null; echo x; done'
    )
    seed = random.Random(7)
    worst = 0.0
    for number in range(rounds(30, 300)):
        way = WAYS[number % len(WAYS)]
        mark = site / f"run-{number}"
        process = subprocess.Popen(
            [PROGRAM, "run", "my-site", "--", "sh", "-c", script, str(mark)],
            cwd=site,
            env=home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(seed.uniform(0, 0.4))  # a random moment is what is tried here
        kill(process, way)
        process.wait(timeout=30)
        started = time.monotonic()
        while left(private, site):
            assert time.monotonic() - started < 20, (number, way, left(private, site))
            time.sleep(0.002)
        worst = max(worst, time.monotonic() - started)
    print(f"the longest took {worst:.3f} s")
    assert search_tree([private, Path("/dev/shm")], [CANARY.encode()]) == []


def kill(process: subprocess.Popen[bytes], way: str) -> None:
    if way == "process":
        process.kill()
    elif way == "group":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            try:
                if os.getsid(pid) == process.pid:
                    os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def left(private: Path, site: Path) -> list[str]:
    """What is there still: private directories, and processes of the build."""
    found = [str(path) for path in private.iterdir()]
    for pid in (name for name in os.listdir("/proc") if name.isdigit()):
        try:
            is_over = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"
            if os.readlink(f"/proc/{pid}/cwd") == str(site) and not is_over:
                found.append(Path(f"/proc/{pid}/cmdline").read_text())
        except OSError:
            continue
    return found
