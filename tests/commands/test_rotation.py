"""Rotation: the store under another master key; whoever holds the key file can open it at any moment."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from children import fork, wait
from commandline import Cli
from ic_secrets import cli as command_line
from ic_secrets.errors import MasterKeyError, StoreLockedError, StoreTamperedError
from ic_secrets.keys.master import load_key_file, replace_key_file
from ic_secrets.keys.passphrase import lock
from ic_secrets.keys.sealing import MasterKey
from ic_secrets.stores.embedded import store as local
from ic_secrets.stores.registry import open_store
from keyrings import install_keyring
from local_stores import AGENCY, CANARY, KEY, MY_SITE, dump, make_store, memory_directory, put, raw

NEW = MasterKey(bytes(reversed(range(32))))


@pytest.fixture
def path() -> Iterator[str]:
    with memory_directory() as directory:
        yield make_store(directory)


@pytest.fixture
def store_file(cli: Cli) -> Path:
    """A store of the command line's, with a secret."""
    cli("init", check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic,user", stdin=CANARY.encode(), check=0)
    return Path(cli.home["XDG_DATA_HOME"]) / "ic-secrets" / "store.db"


@pytest.fixture
def key_file(cli: Cli, store_file: Path) -> Path:
    return Path(cli.home["XDG_CONFIG_HOME"]) / "ic-secrets" / "key"


# --- the store --------------------------------------------------------------------------------------


def test_after_it_the_new_key_opens_all_and_the_old_one_nothing(path: str) -> None:
    with local.open_store(path, [KEY]) as store:
        before = dump(store)
        generation = store.generation
        assert store.rotate(NEW)
        assert dump(store) == before
        assert store.generation == generation + 1
        assert store.master_id == NEW.id
    with pytest.raises(StoreLockedError):
        local.open_store(path, [KEY])
    with local.open_store(path, [NEW], read_only=True) as store:
        assert dump(store) == before
    assert local.read_master_id(path) == NEW.id


def test_values_set_from_then_on_are_under_a_key_that_the_old_one_never_opened(path: str) -> None:
    with local.open_store(path, [KEY]) as store:
        store.rotate(NEW)
        assert store.data_keys == 2
        put(store, MY_SITE, None, "API_KEY")
    with raw(path) as connection:
        query = "SELECT data_key FROM secrets WHERE owner = 'my-site' AND environment = '' AND name = ?"
        assert [connection.execute(query, [name]).fetchone()[0] for name in ("API_KEY", "LICENSE_KEY")] == [2, 1]


def test_to_rotate_to_the_same_key_changes_nothing(path: str) -> None:
    with local.open_store(path, [KEY]) as store:
        generation = store.generation
        assert not store.rotate(KEY)
        assert store.generation == generation


def test_a_reader_with_both_keys_goes_on(path: str) -> None:
    with local.open_store(path, [NEW, KEY], read_only=True) as reader, local.open_store(path, [KEY]) as writer:
        before = dump(reader)
        writer.rotate(NEW)
        assert dump(reader) == before


def test_readers_in_other_processes_go_on_while_it_happens(path: str, rounds: Callable[[int, int], int]) -> None:
    """Every read, before, during and after, gives all of it."""
    started, ready = os.pipe()

    def read() -> None:
        with local.open_store(path, [NEW, KEY], read_only=True) as store:
            expected = dump(store)
            os.write(ready, b"!")
            deadline = time.monotonic() + 60
            while store.master_id != NEW.id or store.data_keys < 2:
                assert dump(store) == expected
                assert time.monotonic() < deadline
            assert dump(store) == expected

    readers = [fork(read) for _ in range(rounds(2, 8))]
    for _ in readers:
        assert os.read(started, 1)
    with local.open_store(path, [KEY]) as store:
        store.rotate(NEW)
    assert [wait(reader) for reader in readers] == [0] * len(readers)


@pytest.mark.parametrize("read_only", [True, False])
def test_who_read_its_key_too_early_reads_it_again(path: str, read_only: bool) -> None:
    """A build may read the old key from the file, and open the store when it is under the new one already."""

    def load() -> list[MasterKey]:
        keys = [NEW] if local.read_master_id(path) == NEW.id else [KEY]
        with local.open_store(path, [KEY, NEW]) as store:
            store.rotate(NEW)
        return keys

    with open_store(path, load, read_only=read_only) as store:
        assert len(list(store.sites())) == 3


def test_a_store_that_is_open_already_goes_on(path: str) -> None:
    with local.open_store(path, [KEY], reload=lambda: [NEW]) as store:
        before = dump(store)
        with local.open_store(path, [KEY]) as writer:
            writer.rotate(NEW)
        assert dump(store) == before
        put(store, MY_SITE, None, "API_KEY")
    with local.open_store(path, [KEY, NEW], reload=lambda: [KEY]) as store, local.open_store(path, [NEW]) as writer:
        writer.rotate(MasterKey.generate())
        with pytest.raises(StoreLockedError):
            dump(store)


def test_a_refused_rotation_leaves_the_old_key(path: str) -> None:
    """All owners are verified first: a store that was tampered with is not made genuine by a new key."""
    with raw(path) as connection:
        connection.execute("UPDATE owners SET organization = 'studio' WHERE name = 'my-site'")
    with local.open_store(path, [KEY]) as store, pytest.raises(StoreTamperedError):
        store.rotate(NEW)
    assert local.read_master_id(path) == KEY.id


def test_a_damaged_row_stays_noticed(path: str) -> None:
    with raw(path) as connection:
        connection.execute("UPDATE secrets SET version = version + 1 WHERE kind = 'organization' AND name = 'API_KEY'")
    with local.open_store(path, [KEY]) as store:
        store.rotate(NEW)
        store.read(MY_SITE)
        with pytest.raises(StoreTamperedError):
            store.read(AGENCY)


# --- the command --------------------------------------------------------------------------------------


def reads(cli: Cli, **env: str) -> bool:
    return cli("get", "my-site", "TOKEN", env=env).stdout == CANARY.encode() + b"\n"


def test_the_key_file_gets_the_new_key(cli: Cli, store_file: Path, key_file: Path) -> None:
    old_text = key_file.read_text()
    (old,) = load_key_file(str(key_file))
    backup = store_file.with_name("backup.db")
    backup.write_bytes(store_file.read_bytes())
    done = cli("key", "rotate", check=0)
    (new,) = load_key_file(str(key_file))
    assert new != old
    assert reads(cli)
    assert not reads(cli, IC_SECRETS_KEY=old_text, IC_SECRETS_KEY_FILE="")
    kept = key_file.with_name(f"key.{old.id}")
    assert load_key_file(str(kept)) == (old,)
    assert reads(cli, IC_SECRETS_STORE=str(backup), IC_SECRETS_KEY_FILE=str(kept))
    assert sorted(os.listdir(key_file.parent)) == sorted([key_file.name, kept.name])
    for text in (old_text, key_file.read_text()):
        assert text.strip().encode() not in done.stdout + done.stderr


def test_the_old_key_can_be_discarded(cli: Cli, key_file: Path) -> None:
    cli("key", "rotate", "--discard-old", check=0)
    assert os.listdir(key_file.parent) == [key_file.name]
    assert reads(cli)


@pytest.mark.parametrize("is_committed", [False, True])
def test_one_that_was_cut_off_is_finished(cli: Cli, store_file: Path, key_file: Path, is_committed: bool) -> None:
    """The file holds both keys then, whichever of them the store is sealed with."""
    (old,) = load_key_file(str(key_file))
    key_file.write_text(f"{NEW.format()}\n{old.format()}\n")
    if is_committed:
        with local.open_store(str(store_file), [old]) as store:
            store.rotate(NEW)
    assert reads(cli)
    cli("key", "rotate", check=0)
    assert load_key_file(str(key_file)) == (NEW,)
    assert local.read_master_id(str(store_file)) == NEW.id
    assert reads(cli)


def test_killed_at_any_moment_the_key_file_opens_the_store(
    cli: Cli, key_file: Path, rounds: Callable[[int, int], int]
) -> None:
    start = time.monotonic()
    cli("key", "rotate", "--discard-old", check=0)
    taken = time.monotonic() - start
    for _ in range(rounds(12, 200)):
        with cli.start("key", "rotate", "--discard-old") as process:
            try:
                process.wait(random.uniform(0.3, 1.2) * taken)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        assert reads(cli)
    cli("key", "rotate", check=0)
    assert reads(cli)
    assert len(load_key_file(str(key_file))) == 1


# Where a rotation does something that others see; each line of these is a moment for a kill.
_EMBEDDED = ("stores/embedded/store.py", "stores/embedded/session.py")
STEPS = ("cli/keys.py", "keys/sources.py", "core/new_files.py", *_EMBEDDED)


def test_killed_at_each_step_it_is_finished_by_the_next(
    cli: Cli, store_file: Path, key_file: Path, rounds: Callable[[int, int], int]
) -> None:
    """Before every single line of it, not only at moments that chance finds; the whole with `--long`."""
    end = run_until(cli, key_file, None)
    assert end > 200
    killed = 0
    for step in range(1, end + 1, rounds(17, 1)):
        killed += run_until(cli, key_file, step) == -signal.SIGKILL
        keys = load_key_file(str(key_file))
        with local.open_store(str(store_file), keys, read_only=True) as store:
            assert [secret.name for secret in store.read(MY_SITE).secrets] == ["TOKEN"]
        assert len(keys) < 4
    assert killed > 0.9 * len(range(1, end + 1, rounds(17, 1)))
    cli("key", "rotate", check=0)
    assert reads(cli)
    assert len(load_key_file(str(key_file))) == 1
    assert sorted(path.name for path in key_file.parent.iterdir() if path.suffix == ".new") == []


def run_until(cli: Cli, key_file: Path, step: int | None) -> int:
    """Rotate in a child that is killed before the step-th line; how it ended, or without a step how many there are."""
    told, tell = os.pipe()

    def child() -> None:
        lines = 0

        def trace(frame: FrameType, event: str, _: object) -> object:
            nonlocal lines
            if not frame.f_code.co_filename.endswith(STEPS):
                return None
            if event == "line":
                lines += 1
                if lines == step:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        os.environ.clear()
        os.environ.update(cli.home)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        sys.settrace(trace)
        status = command_line.main(["key", "rotate", "--discard-old"])
        sys.settrace(None)
        os.write(tell, b"%d" % lines)
        assert status == 0

    status = wait(fork(child))
    os.close(tell)
    with open(told, "rb") as file:
        said = file.read()
    return status if step else int(said)


def test_commands_go_on_while_keys_are_rotated(cli: Cli, key_file: Path, rounds: Callable[[int, int], int]) -> None:
    """Each process reads the key file and opens the store at a moment of its own."""
    stop = key_file.with_name("stop")

    def read_on() -> None:
        while not stop.exists():
            done = cli("run", "my-site", "--no-mask", "--", "printenv", "TOKEN", check=0)
            assert done.stdout == CANARY.encode() + b"\n"

    readers = [fork(read_on) for _ in range(2)]
    try:
        for _ in range(rounds(8, 200)):
            cli("key", "rotate", "--discard-old", check=0)
    finally:
        stop.touch()
    assert [wait(reader) for reader in readers] == [0, 0]


def test_two_at_once_in_a_keyring_lose_no_key(cli: Cli, tmp_path: Path) -> None:
    """One that is slow to write its new key does not write it over that of another, which the store has by then."""
    install_keyring(tmp_path, cli.home)
    cli.home["IC_SECRETS_KEY_KEYRING"] = "ic-secrets/agency"
    cli("key", "new", "--keyring", check=0)
    cli("init", check=0)
    with cli.start("key", "rotate", "--discard-old", env={"KEYRING_SLOW": "1"}) as slow:
        while not (tmp_path / "writing").exists():
            time.sleep(0.01)
            assert slow.poll() is None
        cli("key", "rotate", "--discard-old", check=0)
        slow.communicate(timeout=60)
    cli("site", "list", check=0)


def test_two_stores_under_one_key_file_lose_no_key(cli: Cli, key_file: Path, tmp_path: Path) -> None:
    """Rotated at once: whichever keys they have then, a file has them."""
    other = tmp_path / "other.db"
    cli("init", "--store", other, check=0)
    with cli.start("key", "rotate") as first, cli.start("key", "rotate", "--store", str(other)) as second:
        first.communicate(timeout=60)
        second.communicate(timeout=60)
    keys = [key.id for path in key_file.parent.glob("key*") for key in load_key_file(str(path))]
    store = Path(cli.home["XDG_DATA_HOME"]) / "ic-secrets" / "store.db"
    assert {local.read_master_id(str(path)) for path in (store, other)} <= set(keys)


def test_a_key_file_that_was_changed_meanwhile_is_not_replaced(key_file: Path) -> None:
    text = key_file.read_text()
    with pytest.raises(MasterKeyError, match="was changed meanwhile"):
        replace_key_file(str(key_file), NEW.format(), before=KEY.format())
    assert key_file.read_text() == text


def test_a_state_file_may_lie_beside_the_key(cli: Cli, key_file: Path) -> None:
    cli.home["IC_SECRETS_STATE_FILE"] = str(key_file.with_name("state.json"))
    cli("key", "rotate", check=0, timeout=20)
    assert reads(cli)


def test_two_at_once_lose_no_key(cli: Cli, key_file: Path) -> None:
    processes = [cli.start("key", "rotate") for _ in range(4)]
    for process in processes:
        with process:
            process.communicate(timeout=60)
            assert process.returncode == 0
    assert reads(cli)


def test_a_key_that_is_given_from_elsewhere_is_changed_by_hand(cli: Cli, key_file: Path, tmp_path: Path) -> None:
    held = {"IC_SECRETS_KEY": key_file.read_text()}
    key_file.unlink()
    refused = cli("key", "rotate", env=held)
    assert refused.returncode == 1
    assert b"--to-file" in refused.stderr
    new_file = tmp_path / "new-key"
    told = cli("key", "rotate", "--to-file", new_file, env=held, check=0)
    assert b"IC_SECRETS_KEY still gives the old key" in told.stderr
    cli("key", "rotate", "--to-file", new_file, env=held, check=0)  # again, as after a kill
    assert not reads(cli, **held)
    assert reads(cli, IC_SECRETS_KEY=new_file.read_text())
    same = cli("key", "rotate", "--to-file", new_file, env={"IC_SECRETS_KEY": new_file.read_text()})
    assert b"holds the old key" in same.stderr


def test_a_locked_key_stays_locked(cli: Cli, tmp_path: Path) -> None:
    cli.home |= {"IC_SECRETS_KEY_FILE": str(tmp_path / "locked"), "IC_SECRETS_PASSPHRASE": "a canary in a mine"}
    cli("key", "new", "--passphrase", check=0)
    cli("init", check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "user", stdin=CANARY.encode(), check=0)
    cli("key", "rotate", check=0)
    assert (tmp_path / "locked").read_text().startswith("ic-secrets-locked-key-1:")
    assert reads(cli)
    assert not reads(cli, IC_SECRETS_PASSPHRASE="another")


def test_a_locked_key_from_elsewhere_stays_locked(cli: Cli, tmp_path: Path) -> None:
    cli.home["IC_SECRETS_PASSPHRASE"] = "a canary in a mine"
    cli("key", "new", "--passphrase", "--key-file", tmp_path / "locked", check=0)
    held = {"IC_SECRETS_KEY": (tmp_path / "locked").read_text()}
    cli("init", env=held, check=0)
    cli("key", "rotate", "--to-file", tmp_path / "new-key", env=held, check=0)
    assert (tmp_path / "new-key").read_text().startswith("ic-secrets-locked-key-1:")
    cli("site", "list", env={"IC_SECRETS_KEY_FILE": str(tmp_path / "new-key")}, check=0)


def test_each_source_stays_as_it_was_locked_or_not(cli: Cli, key_file: Path, tmp_path: Path) -> None:
    """Of two that hold the same key, one of them under a passphrase."""
    install_keyring(tmp_path, cli.home)
    cli.home |= {"IC_SECRETS_PASSPHRASE": "a canary in a mine", "IC_SECRETS_KEY_KEYRING": "ic-secrets"}
    (key,) = load_key_file(str(key_file))
    entry = tmp_path / "keyring.json"
    entry.write_text(json.dumps({"ic-secrets|master-key": lock(key, cli.home["IC_SECRETS_PASSPHRASE"])}))
    both = {"IC_SECRETS_KEY_FILE": str(key_file)}
    cli("key", "rotate", "--discard-old", env=both, check=0)
    assert key_file.read_text().startswith("ic-secrets-key-1:")
    assert json.loads(entry.read_text())["ic-secrets|master-key"].startswith("ic-secrets-locked-key-1:")
    assert reads(cli)
    assert reads(cli, **both)


def test_who_has_the_new_key_elsewhere_is_told_where_the_old_one_is(cli: Cli, key_file: Path, tmp_path: Path) -> None:
    told = cli("key", "rotate", "--to-file", tmp_path / "new-key", check=0)
    assert f"the key file {key_file} still gives the old key".encode() in told.stderr
    shown = json.loads(cli("key", "show", "--json", "--key-file", tmp_path / "new-key", check=0).stdout)
    assert (shown["opens"], shown["data_keys"]) == (True, 2)


def test_without_a_store_no_key_is_made(cli: Cli, tmp_path: Path) -> None:
    cli("key", "new", check=0)
    assert cli("key", "rotate", "--to-file", tmp_path / "new-key").returncode == 1
    assert not (tmp_path / "new-key").exists()


def test_it_is_in_the_audit_log_without_a_key(cli: Cli, store_file: Path, key_file: Path) -> None:
    cli("key", "rotate", check=0)
    log = store_file.with_name(store_file.name + ".audit").read_text()
    assert json.loads(log.splitlines()[-1])["command"] == "key rotate"
    assert key_file.read_text().strip() not in log
