"""What commands leave in the audit log: never a value, never a change without an entry."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from children import fork, wait
from commandline import PROGRAM, Cli
from ic_secrets.keys.master import load_key_file
from ic_secrets.model.secret import Owner
from ic_secrets.stores.embedded import store as local

CANARY = b"hunter2-canary-value"


@pytest.fixture
def place(home: dict[str, str]) -> Path:
    """The directory of the store and its log."""
    return Path(home["XDG_DATA_HOME"]) / "ic-secrets"


@pytest.fixture
def log(cli: Cli, place: Path) -> Path:
    """The log of a store with a site and one readable secret."""
    cli("init", check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic,user", stdin=CANARY, check=0)
    return place / "store.db.audit"


def entries(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def tell(log: Path, after: int = 2) -> list[tuple[Any, ...]]:
    """What was done since: command, owner, names, result, error."""
    return [
        (entry["command"], entry["owner"], entry["names"], entry["result"], entry.get("error"))
        for entry in entries(log)[after:]
    ]


def dump(home: dict[str, str]) -> tuple[object, ...]:
    """What the store holds, and how often it was written."""
    keys = load_key_file(str(Path(home["XDG_CONFIG_HOME"]) / "ic-secrets/key"))
    path = str(Path(home["XDG_DATA_HOME"]) / "ic-secrets/store.db")
    with local.open_store(path, keys, read_only=True) as store:
        return list(store.sites()), store.read(Owner.site("my-site")), store.generation


# --- one entry for each command that changes or reveals -------------------------------------------------

CASES: list[tuple[str, bytes, int, list[tuple[Any, ...]]]] = [
    ("set my-site OTHER --type runtime --scope web", b"v", 0, [("set", "my-site", ["OTHER"], "ok", None)]),
    ("set my-site.dev TOKEN", b"v", 0, [("set", "my-site.dev", ["TOKEN"], "ok", None)]),
    ("set my-site TOKEN --type runtime", b"v", 1, [("set", "my-site", ["TOKEN"], "refused", "ImmutableError")]),
    ("set my-site TOKEN", b"", 1, [("set", "my-site", ["TOKEN"], "refused", "InvalidValueError")]),
    ("set my-site hunter2-canary-value", b"v", 1, [("set", "my-site", [], "refused", "UndefinedSecretError")]),
    ("get my-site TOKEN", b"", 0, [("get", "my-site", ["TOKEN"], "ok", None)]),
    ("get my-site hunter2-canary-value", b"", 1, [("get", "my-site", [], "refused", "UnknownSecretError")]),
    ("get hunter2-canary-value TOKEN", b"", 1, [("get", None, [], "refused", "UnknownSiteError")]),
    ("get my-site hunter2", b"", 1, [("get", "my-site", [], "refused", "UnknownSecretError")]),
    ("set my-site hunter2 --type env --scope ic", b"", 1, [("set", "my-site", [], "refused", "InvalidValueError")]),
    ("set hunter2 NEW --type env --scope ic", b"", 1, [("set", None, [], "refused", "InvalidValueError")]),
    (
        "set my-site hunter2 --type env --scope ic --from-file gone",
        b"",
        1,
        [("set", "my-site", [], "refused", "IcSecretsError")],
    ),
    (
        "set org:hunter2 hunter2 --type env --scope ic",
        b"x" * 16385,
        1,
        [("set", None, [], "refused", "InvalidValueError")],
    ),
    ("site set hunter2 --org a --supporting a", b"", 1, [("site set", None, [], "refused", "InvalidNameError")]),
    ("delete my-site TOKEN", b"", 0, [("delete", "my-site", ["TOKEN"], "ok", None)]),
    ("delete my-site hunter2-canary-value", b"", 1, [("delete", "my-site", [], "refused", "UnknownSecretError")]),
    ("site set my-site --org agency", b"", 0, [("site set", "my-site", [], "ok", None)]),
    ("site set my-site --org a --supporting a", b"", 1, [("site set", "my-site", [], "refused", "InvalidNameError")]),
    ("site delete my-site", b"", 0, [("site delete", "my-site", ["TOKEN"], "ok", None)]),
    ("site delete hunter2-canary-value", b"", 1, [("site delete", None, [], "refused", "UnknownSiteError")]),
    ("list my-site --show-values", b"", 0, [("list", "my-site", ["TOKEN"], "ok", None)]),
    ("list my-site", b"", 0, []),
    ("site list", b"", 0, []),
    ("mask my-site", b"", 0, [("mask", "my-site.dev", ["TOKEN"], "ok", None)]),
    ("scan my-site.dev ./", b"", 1, [("scan", "my-site.dev", ["TOKEN"], "ok", None)]),
    (
        "run my-site -- true",
        b"",
        0,
        [("run", "my-site.dev", ["TOKEN"], "started", None), ("run", "my-site.dev", ["TOKEN"], "ended", None)],
    ),
    ("run my-site -- /no/such", b"", 127, [("run", "my-site.dev", [], "refused", "ProgramNotFoundError")]),
    ("run my-site --only hunter2 -- true", b"", 125, [("run", "my-site.dev", [], "refused", "UnknownSecretError")]),
    (
        "run my-site --run-dir . -- true",
        b"",
        125,
        [
            ("run", "my-site.dev", ["TOKEN"], "started", None),
            ("run", "my-site.dev", ["TOKEN"], "refused", "ExposureError"),
        ],
    ),
]


@pytest.mark.parametrize(("line", "stdin", "status", "expected"), CASES, ids=[case[0] for case in CASES])
def test_what_changes_or_reveals_is_logged_and_no_value_is(
    cli: Cli, log: Path, work: Path, line: str, stdin: bytes, status: int, expected: list[tuple[Any, ...]]
) -> None:
    """A name that no store knows is not told either: it may be a value in the wrong place."""
    (work / "file").write_bytes(CANARY)
    cli(*line.split(), stdin=stdin, cwd=work, check=status)
    assert tell(log) == expected
    assert b"hunter2" not in log.read_bytes()
    assert cli("audit", "--verify").returncode == 0


def test_an_entry_says_who_where_and_when(cli: Cli, log: Path, work: Path) -> None:
    job = {"BUILD_URL": f"https://bot:{CANARY.decode()}@ci.example/job/7/"}
    subprocess.run(["git", "init", "-q"], cwd=work, check=True)
    (work / ".git/HEAD").write_text("0123456789" * 4)
    cli("get", "my-site", "TOKEN", env=job, cwd=work, check=0)
    entry = entries(log)[-1]
    assert entry["uid"] == os.geteuid()
    assert entry["host"] == os.uname().nodename
    assert entry["job"] == "https://ci.example/job/7/"
    assert entry["revision"] == "0123456789" * 4
    assert entry["generation"] == 2
    assert len(entry["store"]) == 32
    assert entry["time"].startswith(time.strftime("%Y-%m-%dT", time.gmtime()))


def test_a_hostile_revision_is_not_told(cli: Cli, log: Path, work: Path) -> None:
    (work / ".git").mkdir()
    (work / ".git/HEAD").write_bytes(CANARY)
    cli("run", "my-site", "--", "true", cwd=work, check=0)
    assert {entry["revision"] for entry in entries(log)} == {None}
    assert CANARY not in log.read_bytes()


def test_a_build_is_logged_before_it_starts_and_when_it_has_ended(cli: Cli, log: Path, work: Path) -> None:
    """With its status and what it left; both entries have one id."""
    shown = cli("run", "my-site", "--", "tail", "-n1", log, cwd=work, check=0).stdout
    assert json.loads(shown)["result"] == "started"
    cli("run", "my-site", "--", "sh", "-c", 'echo "$TOKEN" > left', cwd=work, check=120)
    started, ended = entries(log)[-2:]
    assert (ended["result"], ended["status"], ended["leaks"]) == ("ended", 120, 1)
    assert started["id"] == ended["id"] != entries(log)[0]["id"]


def test_a_killed_build_is_seen_to_have_started(cli: Cli, log: Path, work: Path) -> None:
    with cli.start("run", "my-site", "--", "sh", "-c", "echo started; sleep 60", cwd=work) as process:
        assert process.stdout
        assert process.stdout.readline() == b"started\n"
        process.send_signal(signal.SIGKILL)
    assert tell(log) == [("run", "my-site.dev", ["TOKEN"], "started", None)]
    cli("audit", "--verify", check=0)


def test_the_log_is_no_reason_to_search_for_leaks(cli: Cli, log: Path, work: Path) -> None:
    """It changes with every build, lies in the home, and holds no value: it is passed over."""
    receipt = work.parent / "receipt.json"
    for _ in range(2):  # without a git or Composer to ask, so that the build starts at once
        words = ["run", "my-site", "--receipt", receipt, "--", shutil.which("true") or ""]
        cli(*words, cwd=work, env={"PATH": "/no/such"}, check=0)
    leaks = json.loads(receipt.read_text())["leaks"]
    assert (leaks["searched_files"], leaks["findings"], leaks["unsearched"]) == (0, [], [])


# --- a log that cannot be written -----------------------------------------------------------------------


def spoil(log: Path) -> None:
    """Nobody can write there, root neither."""
    log.unlink()
    log.mkdir()


@pytest.mark.parametrize(
    "line",
    [
        "set my-site TOKEN",
        "set my-site NEW --type env --scope ic",
        "delete my-site TOKEN",
        "site set other",
        "site delete my-site",
    ],
)
def test_nothing_is_changed_unlogged(cli: Cli, log: Path, home: dict[str, str], line: str) -> None:
    before = dump(home)
    spoil(log)
    done = cli(*line.split(), stdin=b"other", check=1)
    assert b"error: the audit log" in done.stderr
    assert b"hint: IC_SECRETS_AUDIT_FILE" in done.stderr
    assert dump(home) == before


def test_no_store_is_made_unlogged(cli: Cli, place: Path) -> None:
    place.mkdir(parents=True)
    (place / "store.db.audit").mkdir()
    done = cli("init", check=1)
    assert b"error: the audit log" in done.stderr
    assert os.listdir(place) == ["store.db.audit"]


def test_the_entry_is_on_disk_before_the_change_is(cli: Cli, log: Path, home: dict[str, str]) -> None:
    """As the system calls tell: the log is synchronised, and then the journal, which makes the change, is removed."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    trace = log.parent.parent / "trace"
    words = ["strace", "-f", "-y", "-o", str(trace), "-e", "trace=fdatasync,fsync,unlink,unlinkat", str(PROGRAM)]
    done = subprocess.run([*words, "set", "my-site", "TOKEN"], env=home, input=b"v", capture_output=True, check=False)
    if done.returncode:
        pytest.skip("strace may not trace here")
    calls = trace.read_text().splitlines()
    logged = next(n for n, call in enumerate(calls) if "sync(" in call and "store.db.audit>" in call)
    committed = next(n for n, call in enumerate(calls) if "unlink" in call and "store.db-journal" in call)
    assert logged < committed


def test_a_commit_that_fails_is_told_by_a_second_entry(cli: Cli, log: Path, home: dict[str, str]) -> None:
    """A file that may not grow stands for a full disk; the log is short enough to be written."""
    before = dump(home)
    big = b"x" * 16_000
    program = (
        "import resource, sys, os\n"
        "size = os.path.getsize(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))\n"
        "os.execv(sys.argv[2], sys.argv[2:])\n"
    )
    words = [sys.executable, "-c", program, log.with_suffix(""), PROGRAM, "set", "my-site", "TOKEN"]
    done = subprocess.run(list(map(str, words)), env=home, input=big, capture_output=True, check=False)
    assert done.returncode == 1, done.stderr
    assert [entry[3:] for entry in tell(log)] == [("ok", None), ("failed", "StoreWriteError")]
    assert len({entry["id"] for entry in entries(log)[2:]}) == 1
    assert dump(home) == before


@pytest.mark.parametrize(
    "line", ["get my-site TOKEN", "list my-site --show-values", "mask my-site", "scan my-site .", "run my-site -- true"]
)
def test_what_reads_goes_on_with_one_warning_and_stops_where_that_is_required(
    cli: Cli, log: Path, work: Path, line: str
) -> None:
    spoil(log)
    done = cli(*line.split(), cwd=work, check=0)
    assert done.stderr.count(b"warning: the audit log") == 1
    assert b"hint: IC_SECRETS_AUDIT_FILE names another file, IC_SECRETS_AUDIT=off writes none" in done.stderr
    done = cli(*line.split(), cwd=work, env={"IC_SECRETS_AUDIT": "required"}, check=125 if "run" in line else 1)
    assert (done.stdout, done.stderr.count(b"error: the audit log")) == (b"", 1)
    quiet = cli(*line.split(), cwd=work, env={"IC_SECRETS_AUDIT": "off"}, check=0)
    assert b"audit" not in quiet.stderr


def test_a_build_that_must_be_logged_is_not_started(cli: Cli, log: Path, work: Path, private: Path) -> None:
    spoil(log)
    cli("run", "my-site", "--", "touch", "built", cwd=work, env={"IC_SECRETS_AUDIT": "required"}, check=125)
    assert not (work / "built").exists()
    assert list(private.iterdir()) == []


@pytest.mark.parametrize("mode", ["warn", "required"])
@pytest.mark.parametrize(
    "command", ["rm -r logs", "rm logs/log", "mv logs/log l; mkdir logs/log", "ln -sf /dev/null logs/log"]
)
def test_a_build_that_takes_the_log_away_is_scrubbed_all_the_same(
    cli: Cli, log: Path, work: Path, private: Path, mode: str, command: str
) -> None:
    """Its end can be told nowhere, which is a fault where it must be."""
    (work / "logs").mkdir()
    env = {"IC_SECRETS_AUDIT_FILE": str(work / "logs/log"), "IC_SECRETS_AUDIT": mode}
    done = cli("run", "my-site", "--", "sh", "-c", command, cwd=work, env=env, check=121 if mode == "required" else 0)
    assert (b"error: " if mode == "required" else b"warning: ") + b"the audit log" in done.stderr
    assert list(private.iterdir()) == []


def test_nothing_is_logged_where_it_is_off(cli: Cli, log: Path) -> None:
    """For a change too: the person's own environment says so."""
    before = log.read_bytes()
    cli("set", "my-site", "TOKEN", stdin=b"v", env={"IC_SECRETS_AUDIT": "off"}, check=0)
    cli("run", "my-site", "--", "true", env={"IC_SECRETS_AUDIT": "off"}, check=0)
    assert log.read_bytes() == before


def test_the_build_does_not_inherit_the_log(cli: Cli, log: Path, work: Path) -> None:
    """Neither its name nor the open file."""
    env = {"IC_SECRETS_AUDIT_FILE": str(work.parent / "log")}
    listing = "env; ls -l /proc/self/fd"
    shown = cli("run", "my-site", "--", "sh", "-c", listing, cwd=work, env=env, check=0).stdout
    assert b"IC_SECRETS" not in shown
    assert str(work.parent / "log").encode() not in shown


@pytest.fixture
def read_only(log: Path, place: Path) -> Iterator[None]:
    """The store's directory, mounted so that nobody can write there."""
    words = ["mount", "--bind", str(place), str(place)]
    if os.geteuid() or subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("a file system can be mounted only by root")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.usefixtures("read_only")
def test_a_build_reads_a_store_in_a_directory_that_cannot_be_written(cli: Cli, work: Path) -> None:
    """One warning, which names the remedies; the build's own status stays."""
    for env, count in (({}, 1), ({"IC_SECRETS_AUDIT": "off"}, 0), ({"IC_SECRETS_AUDIT_FILE": "log"}, 0)):
        done = cli("run", "my-site", "--", "sh", "-c", 'test -n "$TOKEN" && exit 7', cwd=work, env=env, check=7)
        assert done.stderr.count(b"warning: the audit log") == count
        assert done.stderr.count(b"Read-only file system") == count
    assert [entry["result"] for entry in entries(work / "log")] == ["started", "ended"]


@pytest.mark.parametrize("value", ["yes", "REQUIRED"])
def test_another_word_is_no_setting(cli: Cli, log: Path, value: str) -> None:
    done = cli("get", "my-site", "TOKEN", env={"IC_SECRETS_AUDIT": value}, check=1)
    assert b"it takes required, warn, off" in done.stderr
    assert done.stdout == b""


def test_twenty_commands_at_once_are_all_logged(cli: Cli, log: Path, home: dict[str, str]) -> None:
    def command(number: int) -> None:
        words = [str(PROGRAM), "get", "my-site", "TOKEN"] if number % 2 else [str(PROGRAM), "set", "my-site", "TOKEN"]
        subprocess.run(words, env=home, input=b"v", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)

    children = [fork(lambda number=number: command(number)) for number in range(20)]
    assert [wait(child) for child in children] == [0] * 20
    assert sorted(entry["command"] for entry in entries(log)[2:]) == ["get"] * 10 + ["set"] * 10
    changes = [entry["generation"] for entry in entries(log) if entry["command"] == "set"]
    assert changes == sorted(set(changes))
    cli("audit", "--verify", check=0)
