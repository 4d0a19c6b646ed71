"""What `doctor` says of a machine: that it is right, changes nothing and shows no value."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from commandline import Cli
from ic_secrets.assembly import Context
from ic_secrets.cli import doctor
from ic_secrets.config import Settings
from ic_secrets.doctor import FAIL, OK, WARN, checks, examine, keeping, machine, modes
from ic_secrets.doctor.finding import Check, Finding, Place
from ic_secrets.errors import StoreMissingError
from ic_secrets.isolation import probe
from ic_secrets.isolation.probe import Ability

DOCS = Path(__file__).parents[2] / "docs"
CANARY = "doctor-canary-value"


@pytest.fixture
def site(cli: Cli, work: Path) -> Cli:
    """A command line in a project, with a store that has a secret."""
    cli.cwd = work
    cli("init", check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic", stdin=CANARY.encode(), check=0)
    return cli


def ask(cli: Cli, *options: str, check: int | None = None, **environment: str) -> dict[str, Any]:
    """Return the checks by their names."""
    done = cli("doctor", "--json", *options, env=environment, check=check)
    document = json.loads(done.stdout)
    jsonschema.validate(document, json.loads((DOCS / "doctor.schema.json").read_text()))
    assert document["would_fail"] is (done.returncode == 1)
    return {each["name"]: each for each in document["checks"]}


def list_files(*places: Path) -> dict[str, tuple[int, int, int]]:
    found = {}
    for place in places:
        for directory, names, files in os.walk(place):
            for path in (directory, *(os.path.join(directory, name) for name in names + files)):
                status = os.lstat(path)
                found[path] = (status.st_mtime_ns, status.st_mode, status.st_size)
    return found


def test_a_machine_that_can_run_a_build_is_well(site: Cli) -> None:
    done = site("doctor", check=0)
    lines = done.stdout.decode().splitlines()
    assert lines[-1].startswith("a plain run would start here")
    assert [line.split()[0] for line in lines if line.startswith(("ok", "warn", "fail"))].count("fail") == 0
    assert done.stderr == b""
    assert b"\x1b" not in done.stdout  # no colour where there is no terminal
    found = ask(site, check=0)
    assert list(found) == [check.name for check in checks.CHECKS]
    assert found["git"]["facts"]["version"][0].isdigit()
    assert found["store"]["level"] == "ok"


def test_nothing_is_changed_and_no_value_is_shown(site: Cli, tmp_path: Path, work: Path) -> None:
    (work / "composer.json").write_text("{}")
    (work / "ic-secrets.toml").write_text('site = "my-site"\n')
    options = {"IC_SECRETS_STATE_FILE": str(tmp_path / "state.json"), "IC_SECRETS_CACHE": "1h"}
    places = [tmp_path, Path("/dev/shm")]
    before = list_files(*places)
    for words in (["doctor"], ["doctor", "--json"]):
        done = site(*words, env=options, check=0)
        assert CANARY.encode() not in done.stdout + done.stderr
    after = list_files(*places)
    temporary = str(tmp_path / "tmp")  # Composer has a file there, gone at once
    for listing in (before, after):
        listing[temporary] = (0, 0, 0)
    mine = [{path: found for path, found in each.items() if path.startswith(str(tmp_path))} for each in (before, after)]
    assert mine[0] == mine[1]
    assert not [path for path in set(after) - set(before) if "ic-secrets" in path]


def test_a_run_that_would_fail_is_told_before(cli: Cli, work: Path) -> None:
    cli.cwd = work
    found = ask(cli, check=1)
    assert (found["key"]["level"], found["store"]["level"]) == (FAIL, FAIL)
    assert "ic-secrets init" in found["store"]["remedy"]
    assert b"a plain run would fail here" in cli("doctor", check=1).stdout
    cli("init", check=0)
    ask(cli, check=0)


def test_a_site_that_the_store_does_not_know_is_told(site: Cli) -> None:
    found = ask(site, check=1, IC_SECRETS_SITE="my-sit")
    assert found["store"]["level"] == FAIL
    assert "my-sit" in found["store"]["text"]


def test_an_older_copy_of_the_store_is_told(site: Cli, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    store = tmp_path / "copy.db"
    (original,) = tmp_path.rglob("store.db")
    store.write_bytes(original.read_bytes())
    site("set", "my-site", "TOKEN", stdin=b"another-canary", env={"IC_SECRETS_STATE_FILE": str(state)}, check=0)
    assert ask(site, check=0, IC_SECRETS_STATE_FILE=str(state))["store"]["level"] == OK
    older = ask(site, "--store", str(store), check=1, IC_SECRETS_STATE_FILE=str(state))["store"]
    assert "remembers" in older["text"]
    assert ask(site, check=1, IC_SECRETS_MIN_GENERATION="99")["store"]["level"] == FAIL


def test_a_file_of_settings_that_is_wrong_is_told_once(site: Cli, work: Path) -> None:
    (work / "ic-secrets.toml").write_text("grace = 3x\n")
    done = site("doctor", check=1)
    assert done.stdout.count(b"not valid TOML") == 1
    assert b"see settings" in done.stdout
    (work / "ic-secrets.toml").write_text('grace = "3x"\n')
    assert ask(site, check=1)["settings"]["level"] == FAIL


def test_a_log_that_is_required_and_cannot_be_written_is_told(site: Cli) -> None:
    found = ask(site, check=1, IC_SECRETS_AUDIT="required", IC_SECRETS_AUDIT_FILE="/nonexistent/audit")
    assert found["audit"]["level"] == FAIL


def test_a_plugin_that_is_not_there_is_told(site: Cli) -> None:
    assert ask(site, check=1, IC_SECRETS_PLUGINS="no_such_plugin")["plugins"]["level"] == FAIL


def test_programs_that_are_missing_are_no_failure(site: Cli, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    broken = tmp_path / "bin" / "php"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    found = ask(site, check=0, PATH=str(tmp_path / "bin"))
    assert [found[name]["level"] for name in ("git", "php", "composer")] == [WARN, WARN, WARN]
    assert "apt install git" in found["git"]["remedy"]
    assert "does not say its version" in found["php"]["text"]


def test_what_is_no_tmpfs_is_told(site: Cli, work: Path, tmp_path: Path) -> None:
    disk = Path("/var/tmp")
    found = ask(site, check=0, IC_SECRETS_RUN_DIR=str(disk))["private-directory"]
    if found["level"] == OK:
        pytest.skip("/var/tmp is on a tmpfs here")
    assert "can be read from the disk" in found["text"]
    assert "--run-dir" in found["remedy"]
    assert ask(site, check=1, IC_SECRETS_RUN_DIR=str(tmp_path / "missing"))["private-directory"]["level"] == FAIL


def test_words_fit_a_terminal(site: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    doctor._print(checks.Result(checks.CHECKS[0], Finding(WARN, "a long text " * 20, "do this " * 20)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("\x1b[33mwarn  \x1b[0msystem")
    assert len(lines) > 4
    assert all(len(line.replace("\x1b[33m", "").replace("\x1b[0m", "")) <= 80 for line in lines)


# --- single checks, where the machine cannot be made so ----------------------------------------------------


def look(name: str, work: Path, **environment: str) -> Finding:
    context = Context(Settings({"HOME": str(work), "PATH": os.environ["PATH"], **environment}), lambda notice: None)
    place = Place(context, str(work))
    (found,) = [result.finding for result in examine(place) if result.check.name == name]
    return found


def test_clocks_that_differ_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert look("clock", tmp_path).level == OK
    monkeypatch.setattr(machine, "read_clock", lambda directory: time.time_ns() - 90 * 10**9)
    assert "90 seconds behind ours" in look("clock", tmp_path).text

    def refuse(directory: str) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(machine, "read_clock", refuse)
    assert "nothing can be written" in look("clock", tmp_path).text


def test_whoever_keeps_the_memory_of_programs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = tmp_path / "core_pattern"
    pattern.write_text("|/usr/share/apport/apport -p%p\n")
    monkeypatch.setattr(machine, "_PATTERN", str(pattern))
    assert look("core-dumps", tmp_path).text.startswith("/usr/share/apport/apport gets the memory")
    pattern.write_text("core\n")
    assert look("core-dumps", tmp_path).level == OK


def test_isolation_that_the_settings_want_and_the_machine_refuses_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "find_bubblewrap", lambda environment: None)
    monkeypatch.setattr(probe, "find_abi", lambda: -errno.ENOSYS)
    assert look("isolate", tmp_path).level == WARN
    assert look("isolate", tmp_path, IC_SECRETS_ISOLATE="1").level == FAIL
    assert look("bubblewrap", tmp_path).remedy.startswith("apt install bubblewrap")
    assert look("landlock", tmp_path).level == WARN
    monkeypatch.setattr(probe, "find_abi", lambda: 7)
    found = look("isolate", tmp_path, IC_SECRETS_ISOLATE="1")
    assert (found.level, found.facts) == (WARN, {"mode": "landlock"})
    assert look("isolate", tmp_path, IC_SECRETS_ISOLATE="bubblewrap").level == FAIL
    lesser = Ability("bubblewrap", works=True, version="0.8.0", program="/bwrap", user_namespace=True, own_proc=False)
    monkeypatch.setattr(modes, "probe_bubblewrap", lambda environment: lesser)
    assert look("bubblewrap", tmp_path).text.endswith("in a user namespace, without a /proc of its own")


def test_a_log_that_cannot_be_written_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = str(tmp_path / "audit")
    assert look("audit", tmp_path, IC_SECRETS_AUDIT_FILE=place).level == OK
    monkeypatch.setattr(keeping, "is_writable", lambda path: False)
    found = look("audit", tmp_path, IC_SECRETS_AUDIT_FILE=place)
    assert (found.level, found.text) == (WARN, f"{place} cannot be written")


def test_a_check_is_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(place: Place) -> Finding:
        raise StoreMissingError("nothing there")

    monkeypatch.setattr(checks, "CHECKS", (Check("one", "One", fail), Check("two", "Two", fail)))
    first, second = (result.finding for result in examine(Place(Context(Settings({}), lambda notice: None), "/")))
    assert (first.level, first.text, first.remedy) == (FAIL, "nothing there", StoreMissingError.hint)
    assert (second.level, second.text) == (FAIL, "see One")


def test_the_page_names_every_check() -> None:
    page = (DOCS / "reference" / "doctor.md").read_text()
    assert all(f"`{check.name}`" in page for check in checks.CHECKS)
