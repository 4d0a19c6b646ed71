"""An older copy of the store is refused, by a generation that is named or by a file that remembers one."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from children import fork, run_unprivileged, wait
from commandline import Cli
from ic_secrets.errors import StateFileError, StoreError, StoreRolledBackError, StoreTamperedError
from ic_secrets.model.secret import SecretType
from ic_secrets.stores import rollback
from ic_secrets.stores.base import Identity
from ic_secrets.stores.embedded import store as local
from ic_secrets.stores.rollback import check_minimum, check_state, update_state
from local_stores import EMPTY, KEY, MY_SITE, make_store, memory_directory, open_for_reading, put, raw

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "receipt.schema.json").read_text())


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A filled store."""
    return make_store(tmp_path)


@pytest.fixture
def state(tmp_path: Path) -> str:
    """Where a state file can be; there is none yet."""
    return str(tmp_path / "state" / "generations.json")


def write(path: str, times: int = 1) -> None:
    """Write to the store, each time a transaction."""
    with local.open_store(path, [KEY]) as store:
        for _ in range(times):
            put(store, EMPTY, None, "WRITTEN", SecretType.ENV)


def identity(path: str) -> Identity:
    with open_for_reading(path) as store:
        found = store.identify()
    assert found
    return found


def look(path: str, state: str) -> None:
    """Open the store as a command does that only reads."""
    with open_for_reading(path) as store:
        check_state(store.url, lambda: store.identify(), state)


def remembered(state: str) -> dict[str, int]:
    document = json.loads(Path(state).read_text())
    assert document["schema"] == "ic-secrets.state/1"
    stores: dict[str, int] = document["stores"]
    return stores


# --- a generation that is named ---------------------------------------------------------------------


def test_a_store_below_the_named_generation_is_refused(path: str) -> None:
    """The very generation is all right, and a later one; the error names both."""
    write(path, 5)
    with open_for_reading(path) as store:
        for minimum in (0, store.generation - 1, store.generation):
            check_minimum(store.url, store.identify(), minimum, "--min-generation")
        with pytest.raises(StoreRolledBackError, match=rf"generation {store.generation};.* {store.generation + 1} or"):
            check_minimum(store.url, store.identify(), store.generation + 1, "--min-generation")


def test_a_store_without_generations_cannot_promise_one(state: str) -> None:
    """To name a generation is an error then; a state file, which may be set for all stores, passes it over."""
    with pytest.raises(StoreError, match="other:store has no generations, so --min-generation"):
        check_minimum("other:store", None, 1, "--min-generation")
    check_state("other:store", lambda: None, state)
    assert remembered(state) == {}


# --- a file that remembers --------------------------------------------------------------------------


def test_the_state_file_remembers_the_highest_generation(path: str, state: str) -> None:
    """It is made where there is none, for its user alone, and nothing else is left in its directory."""
    before = os.umask(0)
    try:
        look(path, state)
        first = remembered(state)
        write(path)
        look(path, state)
    finally:
        os.umask(before)
    assert first == {identity(path).id: identity(path).generation - 1}
    assert remembered(state) == {identity(path).id: identity(path).generation}
    assert stat.S_IMODE(os.stat(state).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(state)).st_mode) == 0o700
    assert os.listdir(os.path.dirname(state)) == ["generations.json"]


def test_an_older_copy_is_refused_and_the_newer_is_still_remembered(path: str, state: str, tmp_path: Path) -> None:
    """Wherever the copy lies: a store is known by its id. Taking that out of the file lets an older one be meant."""
    older = str(tmp_path / "older.db")
    shutil.copy(path, older)
    write(path, 3)
    look(path, state)
    shutil.copy(older, path)
    for copy in (older, path):
        for _ in range(2):
            with pytest.raises(StoreRolledBackError, match="remembers") as raised:
                look(copy, state)
        assert identity(path).id in raised.value.hint
    assert remembered(state) == {identity(path).id: identity(path).generation + 3}
    Path(state).write_text(json.dumps({"schema": "ic-secrets.state/1", "stores": {}}))
    look(path, state)
    assert remembered(state) == {identity(path).id: identity(path).generation}


def test_stores_are_remembered_apart(path: str, state: str, tmp_path: Path) -> None:
    """Another store at the same path is neither older nor newer, but an older copy of *that* is refused there too."""
    (tmp_path / "other").mkdir()
    other = make_store(tmp_path / "other")
    old_other = str(tmp_path / "old-other.db")
    shutil.copy(other, old_other)
    write(path, 9)
    write(other, 2)
    look(path, state)
    shutil.copy(other, path)
    look(path, state)
    shutil.copy(old_other, path)
    with pytest.raises(StoreRolledBackError):
        look(path, state)
    assert len(remembered(state)) == 2


def test_an_older_copy_written_over_the_opened_store_is_refused(path: str, tmp_path: Path) -> None:
    """What was checked when the store was opened holds for all that is read from it later."""
    (tmp_path / "other").mkdir()
    older, other = Path(path).read_bytes(), Path(make_store(tmp_path / "other")).read_bytes()
    write(path)
    newer = Path(path).read_bytes()
    with open_for_reading(path) as store:
        check_minimum(store.url, store.identify(), 2, "--min-generation")
        Path(path).write_bytes(older)
        with pytest.raises(StoreRolledBackError):
            store.read(MY_SITE)
        Path(path).write_bytes(newer)
        assert store.read(MY_SITE).secrets
        Path(path).write_bytes(other)
        with pytest.raises(StoreTamperedError):
            store.read(MY_SITE)


def make_malformed(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


def make_open(path: Path) -> None:
    path.write_text('{"schema": "ic-secrets.state/1", "stores": {}}')
    path.chmod(0o666)


BAD = {
    "a directory": (Path.mkdir, "not a regular file"),
    "a pipe": (os.mkfifo, "not a regular file"),
    "a link": (lambda path: path.symlink_to("elsewhere"), "symbolic link"),
    "open to others": (make_open, "0666"),
    "empty": (Path.touch, "not in the format that ic-secrets writes"),
    "no JSON": (make_malformed("{"), "not in the format that ic-secrets writes"),
    "deep": (make_malformed("[" * 100_000), "not in the format that ic-secrets writes"),
    "of another schema": (make_malformed('{"schema": "ic-secrets.state/2", "stores": {}}'), "not in the format"),
    "without stores": (make_malformed('{"schema": "ic-secrets.state/1"}'), "not in the format that ic-secrets writes"),
    "with a word": (make_malformed('{"schema": "ic-secrets.state/1", "stores": {"ab": "7"}}'), "not in the format"),
    "below zero": (make_malformed('{"schema": "ic-secrets.state/1", "stores": {"ab": -7}}'), "not in the format"),
    "with a bad id": (
        make_malformed('{"schema": "ic-secrets.state/1", "stores": {"\\u001b": 7}}'),
        "not in the format",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_state_file_is_refused_and_left(path: str, tmp_path: Path, name: str) -> None:
    """It was asked for, so a command without it must not go on."""
    make, problem = BAD[name]
    state = tmp_path / "state.json"
    make(state)
    before = os.lstat(state)
    with pytest.raises(StateFileError, match=problem):
        look(path, str(state))
    assert os.lstat(state)[:8] == before[:8]


def test_a_state_file_that_cannot_be_written_is_refused(state: str) -> None:
    """Even where nothing would be written this time: a check that works only now and then is none."""
    with memory_directory() as directory:
        path = make_store(directory)
        place = directory / "state"
        look(path, str(place / "file"))
        directory.chmod(0o755)
        os.chmod(path, 0o644)
        place.chmod(0o555)
        os.chown(place / "file", 65534, 65534)

        def read() -> None:
            with pytest.raises(StateFileError, match="cannot be written"):
                look(path, str(place / "file"))
            with pytest.raises(StateFileError, match="cannot be read: Permission denied"):
                look(path, str(place / "new"))

        assert run_unprivileged(read) == 0


def test_a_state_file_is_waited_for_and_not_for_ever(path: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was stopped while it held the lock stops no other for good."""
    look(path, state)
    monkeypatch.setattr(rollback, "_PATIENCE", 0.1)
    descriptor = os.open(state, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(StateFileError, match="locked by another process"):
            look(path, state)
    finally:
        os.close(descriptor)
    look(path, state)


# --- many at once, and killed ones ------------------------------------------------------------------


def test_writers_and_readers_at_once_alarm_nobody(rounds: Callable[[int, int], int]) -> None:
    """A reader that is slow never takes its own, older look at the store for a rollback."""
    with memory_directory() as directory:
        path, state = make_store(directory), str(directory / "state.json")
        turns = rounds(5, 50)

        def work(is_writer: bool) -> None:
            for _ in range(turns):
                if is_writer:
                    write_and_remember(path, state)
                else:
                    look(path, state)

        children = [fork(lambda number=number: work(number % 2 == 0)) for number in range(8)]
        assert [wait(child) for child in children] == [0] * 8
        assert remembered(state) == {identity(path).id: identity(path).generation}


def write_and_remember(path: str, state: str) -> None:
    """What a command that writes does."""
    with local.open_store(path, [KEY]) as store:
        check_state(store.url, lambda: store.identify(), state)
        put(store, EMPTY, None, "WRITTEN", SecretType.ENV)
        update_state(store, state)


def test_a_killed_command_never_remembers_what_was_not_written(rounds: Callable[[int, int], int]) -> None:
    """At whatever moment: the file is whole, not ahead of the store, and the next command goes on and tidies up."""

    def work() -> None:
        while True:
            write_and_remember(path, state)

    chosen = random.Random(7)
    with memory_directory() as directory:
        path = make_store(directory)
        place = directory / "state"
        state = str(place / "file")
        look(path, state)
        for _ in range(rounds(15, 300)):
            child = fork(work)
            time.sleep(chosen.uniform(0, 0.05))
            os.kill(child, signal.SIGKILL)
            assert wait(child) == -signal.SIGKILL
            assert remembered(state)[identity(path).id] <= identity(path).generation
            write_and_remember(path, state)
            assert remembered(state) == {identity(path).id: identity(path).generation}
            assert os.listdir(place) == ["file"]


# --- the commands -----------------------------------------------------------------------------------


@pytest.fixture
def store_file(cli: Cli, home: dict[str, str]) -> Path:
    """A store with a secret for builds, as the commands make it."""
    cli("init", check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic,user", stdin=b"canary-one", check=0)
    return Path(home["XDG_DATA_HOME"]) / "ic-secrets" / "store.db"


COMMANDS = [
    ("run", "my-site", "--", "touch", "started"),
    ("get", "my-site", "TOKEN"),
    ("list", "my-site"),
    ("list", "--stale", "0"),
    ("mask", "my-site"),
    ("scan", "my-site", "."),
    ("site", "list"),
    ("site", "set", "my-site", "--org", "agency"),
    ("set", "my-site", "TOKEN"),
    ("delete", "my-site", "TOKEN"),
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
@pytest.mark.parametrize("setting", ["state", "variable"])
def test_every_command_refuses_an_older_copy(
    cli: Cli, store_file: Path, tmp_path: Path, words: tuple[str, ...], setting: str
) -> None:
    """Nothing is exposed, nothing is written, and `run` gives 125."""
    older = store_file.read_bytes()
    env = {"IC_SECRETS_STATE_FILE": str(tmp_path / "state.json")}
    cli("set", "my-site", "TOKEN", stdin=b"canary-two", env=env, check=0)
    if setting == "variable":
        env = {"IC_SECRETS_MIN_GENERATION": "3"}
    cli("list", "my-site", env=env, check=0)
    store_file.write_bytes(older)
    done = cli(*words, env=env, stdin=b"canary-three")
    assert done.returncode == (125 if words[0] == "run" else 1)
    assert b"has the generation 2; " in done.stderr
    assert done.stdout == b""
    assert not (tmp_path / "started").exists()
    assert store_file.read_bytes() == older


def test_run_takes_the_generation_from_its_own_receipt(cli: Cli, store_file: Path, tmp_path: Path) -> None:
    """What one run writes down, the next one asks for."""
    receipt = tmp_path / "receipt.json"
    cli("run", "my-site", "--leaks", "off", "--receipt", receipt, "--", "true", check=0)
    document = json.loads(receipt.read_text())
    jsonschema.validate(document, SCHEMA)
    assert document["store"]["generation"] == 2
    cli("run", "my-site", "--leaks", "off", "--min-generation", "2", "--", "true", check=0)
    done = cli("run", "my-site", "--min-generation", "3", "--", "touch", "started", check=125)
    assert b"--min-generation requires 3" in done.stderr
    assert not (tmp_path / "started").exists()


def test_a_damaged_older_copy_is_not_repaired_unless_asked_for(cli: Cli, store_file: Path, tmp_path: Path) -> None:
    """Its own manifest vouches for it, and the repaired one would have another id: nothing would ever tell."""
    older = store_file.read_bytes()
    env = {"IC_SECRETS_STATE_FILE": str(tmp_path / "state.json")}
    cli("set", "my-site", "TOKEN", stdin=b"canary-two", env=env, check=0)
    store_file.write_bytes(older)
    with raw(str(store_file)) as db:
        db.execute("UPDATE buckets SET mac = zeroblob(32) WHERE number = 1")
    done = cli("check-store", env=env, check=1)
    assert b"warning: " in done.stderr
    assert b"has the generation 2; " in done.stderr
    for asked in (env, {"IC_SECRETS_MIN_GENERATION": "3"}):
        done = cli("check-store", "--repair", env=asked, check=1)
        assert b"error: " in done.stderr
        assert b"has the generation 2; " in done.stderr
        assert not store_file.with_name("store.db.repaired").exists()
    done = cli("check-store", "--repair", "--unverified", env=env, check=1)
    assert b"warning: " in done.stderr
    assert store_file.with_name("store.db.repaired").exists()


@pytest.mark.parametrize("text", ["", "-1", "two", "1.5", "٣", "9" * 30])
def test_what_is_no_generation_is_refused(cli: Cli, store_file: Path, tmp_path: Path, text: str) -> None:
    """An empty one above all: it would come from a variable of the pipeline that is not set."""
    cli("run", "my-site", "--min-generation", text, "--", "touch", "started", check=125)
    assert not (tmp_path / "started").exists()


def test_a_write_is_remembered_at_once(cli: Cli, store_file: Path, tmp_path: Path) -> None:
    """Else an older copy could be put back before the next command looks."""
    env = {"IC_SECRETS_STATE_FILE": str(tmp_path / "state.json")}
    cli("set", "my-site", "TOKEN", stdin=b"canary-two", env=env, check=0)
    assert list(remembered(env["IC_SECRETS_STATE_FILE"]).values()) == [3]


def test_a_state_file_lost_meanwhile_fails_neither_a_write_nor_a_build(
    cli: Cli, store_file: Path, tmp_path: Path
) -> None:
    """What was done is done: a write that cannot be remembered is told, a build's end does not look."""
    state = tmp_path / "state.json"
    env = {"IC_SECRETS_STATE_FILE": str(state)}
    spoil = f"rm {state} && mkdir {state}"
    done = cli("run", "my-site", "--leaks", "off", "--", "sh", "-c", spoil, env=env, check=0)
    assert done.stderr == b""
    done = cli("run", "my-site", "--", "touch", "started", env=env, check=125)
    assert b"not a regular file" in done.stderr
    assert not (tmp_path / "started").exists()
    state.rmdir()
    with cli.start("set", "my-site", "TOKEN", env=env) as child:
        until = time.monotonic() + 60
        while not state.exists():
            assert time.monotonic() < until
            time.sleep(0.01)
        time.sleep(0.2)  # it was made, then written; now the command waits for its value
        state.unlink()
        state.mkdir()
        _, errors = child.communicate(b"canary-two")
    assert child.returncode == 0
    assert b"warning: the store was written, but the state file" in errors
    assert cli("get", "my-site", "TOKEN", check=0).stdout == b"canary-two\n"
