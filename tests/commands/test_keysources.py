"""Where a master key comes from: files, variables, commands, the keyring, and keys under a passphrase."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from commandline import PROGRAM, Cli
from ic_secrets.config.settings import Settings
from ic_secrets.errors import MasterKeyError
from ic_secrets.keys import passphrase as locking, sources as keysources
from ic_secrets.keys.master import create_key_file
from ic_secrets.keys.sealing import MasterKey
from ic_secrets.keys.sources import Keyholder, KeySource
from keyrings import install_keyring
from local_stores import make_store, raw
from screen import Screen

KEY, OTHER = MasterKey(bytes(range(32))), MasterKey(bytes(range(32, 64)))
PASSPHRASE = "correct horse, canary, staple"


@pytest.fixture
def keyring(cli: Cli, tmp_path: Path) -> Path:
    return install_keyring(tmp_path, cli.home)


def load(environment: Mapping[str, str], **flags: str) -> tuple[MasterKey, ...]:
    return tuple(Settings(environment, {name.replace("_", "-"): value for name, value in flags.items()}).load_keys())


def key_file(directory: Path, *keys: MasterKey, name: str = "key") -> str:
    path = str(directory / name)
    create_key_file(path, "\n".join(key.format() for key in keys))
    return path


def printing(text: str) -> str:
    return f"{sys.executable} -c 'print(\"{text}\")'"


# --- sources ----------------------------------------------------------------------------------------


def test_each_source_gives_its_key(tmp_path: Path) -> None:
    path = key_file(tmp_path, KEY)
    assert load({"IC_SECRETS_KEY": KEY.format()}) == (KEY,)
    assert load({"IC_SECRETS_KEY_FILE": path}) == (KEY,)
    assert load({}, key_file=path) == (KEY,)
    assert load({"IC_SECRETS_KEY_COMMAND": printing(KEY.format())}) == (KEY,)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"CI": "true", "IC_SECRETS_KEY": ""}, "IC_SECRETS_KEY is empty"),
        ({"CI": "true"}, "IC_SECRETS_KEY is not set"),
        ({"IC_SECRETS_KEY_FILE": ""}, "IC_SECRETS_KEY_FILE is empty"),
    ],
    ids=str,
)
def test_a_job_that_does_not_get_the_key_learns_which_jobs_do(
    cli: Cli, tmp_path: Path, given: dict[str, str], named: str
) -> None:
    """Forks get no secrets, unprotected branches no protected variables; at home a key file is made by `init`."""
    path = make_store(tmp_path)
    store = ("--store", path)
    told = cli("list", "my-site", *store, env=given, check=1).stderr.decode()
    assert named in told
    assert "fork" in told
    assert "protected variables" in told
    assert "`ic-secrets init`" in cli("list", "my-site", *store, check=1).stderr.decode()


def test_the_first_source_comes_first_and_all_must_agree(tmp_path: Path) -> None:
    """While a rotation is under way a source has two keys: those that share one agree."""
    both, old, new = key_file(tmp_path, KEY, OTHER), KEY.format(), OTHER.format()
    assert load({"IC_SECRETS_KEY": new, "IC_SECRETS_KEY_FILE": both}) == (OTHER, KEY)
    assert load({"IC_SECRETS_KEY": new}, key_file=both) == (KEY, OTHER)
    assert load({"IC_SECRETS_KEY": f"{new}\n{old}", "IC_SECRETS_KEY_COMMAND": printing(old)}) == (OTHER, KEY)


@pytest.mark.parametrize("second", ["IC_SECRETS_KEY_FILE", "IC_SECRETS_KEY_COMMAND", "--key-file"])
def test_two_sources_that_share_no_key_are_an_error(tmp_path: Path, second: str) -> None:
    path = key_file(tmp_path, OTHER)
    values = {"IC_SECRETS_KEY_FILE": path, "IC_SECRETS_KEY_COMMAND": printing(OTHER.format())}
    environment = {"IC_SECRETS_KEY": KEY.format()} | {name: values[name] for name in values if name == second}
    flags = {"key_file": path} if second.startswith("--") else {}
    with pytest.raises(MasterKeyError, match="hold different keys") as caught:
        load(environment, **flags)
    assert "IC_SECRETS_KEY" in str(caught.value)
    assert second in str(caught.value)
    assert KEY.format() not in str(caught.value)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (f"{sys.executable} -c 'raise SystemExit(3)'", "ended with status 3"),
        ("/nowhere/at/all --key", "/nowhere/at/all cannot be run"),
        ("'unbalanced", "is not a command"),
        (" ", "is not a command"),
        (printing(""), "is empty"),
        (printing("canary"), "malformed"),
        (f"{sys.executable} -c 'print(chr(233))'", "did not print a master key"),
        (printing("ic-secrets-key-9:canary"), "does not know"),
    ],
)
def test_a_command_that_gives_no_key_is_named(command: str, message: str) -> None:
    """What it printed is never shown: it may be a key with a slip in it."""
    with pytest.raises(MasterKeyError, match=message) as caught:
        load({"IC_SECRETS_KEY_COMMAND": command, "PATH": os.environ["PATH"], "PYTHONUTF8": "1"})
    assert "IC_SECRETS_KEY_COMMAND" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_command_is_run_without_a_shell(tmp_path: Path) -> None:
    with pytest.raises(MasterKeyError):
        load({"IC_SECRETS_KEY_COMMAND": f"echo $(touch {tmp_path}/made); touch {tmp_path}/made"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import time; time.sleep(60)", "printed no key within 1 second"),
        ("import os, time; os.close(1); time.sleep(60)", "printed no key within 1 second"),
        ("while True: print('canary' * 100)", "printed more than a key"),
    ],
)
def test_a_command_without_an_end_is_ended(monkeypatch: pytest.MonkeyPatch, script: str, message: str) -> None:
    monkeypatch.setattr(keysources, "_PATIENCE", 1.0)
    with pytest.raises(MasterKeyError, match=message) as caught:
        load({"IC_SECRETS_KEY_COMMAND": f'{sys.executable} -c "{script}"'})
    assert "canary" not in str(caught.value)


def test_a_command_tells_its_trouble_itself(cli: Cli) -> None:
    """What it says on stderr is for the person; its stdout is for nobody."""
    command = f"{sys.executable} -c \"import sys; print('canary'); sys.exit('log in first')\""
    done = cli("key", "show", "--json", env={"IC_SECRETS_KEY_COMMAND": command})
    assert b"log in first" in done.stderr
    assert b"canary" not in done.stdout + done.stderr


@pytest.mark.parametrize("text", [KEY.format(), "'" + KEY.format() + "'", locking.lock(KEY, PASSPHRASE)])
@pytest.mark.parametrize("name", ["IC_SECRETS_KEY_FILE", "IC_SECRETS_KEY_COMMAND", "IC_SECRETS_KEY_KEYRING"])
def test_a_key_in_the_place_of_its_place_is_not_shown(name: str, text: str) -> None:
    """The likeliest slip of all: its value set in the wrong variable, in a job whose log many read."""
    with pytest.raises(MasterKeyError, match=r"holds a key|a key was given") as caught:
        load({name: text})
    assert KEY.format()[-20:] not in f"{caught.value} {caught.value.hint}"
    assert text[-20:] not in f"{caught.value} {caught.value.hint}"


def test_no_key_is_made_where_another_source_gives_one(cli: Cli, tmp_path: Path) -> None:
    """It would only be another one; nor is anything left of the attempt."""
    held = {"IC_SECRETS_KEY": KEY.format()}
    done = cli("init", "--key-file", tmp_path / "new-key", "--store", tmp_path / "store.db", env=held)
    assert done.returncode == 1
    assert b"there is no key file" in done.stderr
    assert not [name for name in os.listdir(tmp_path) if name.startswith(("new-key", "store.db"))]


def test_a_keyring_holds_a_key(cli: Cli, keyring: Path) -> None:
    made = cli("key", "new", "--keyring=ic-secrets/agency", check=0)
    cli.home["IC_SECRETS_KEY_KEYRING"] = "ic-secrets/agency"
    cli("init", check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic", stdin=b"canary-canary", check=0)
    assert cli("run", "my-site", "--no-mask", "--", "printenv", "TOKEN", check=0).stdout == b"canary-canary\n"
    (entry,) = json.loads(keyring.read_text()).values()
    assert entry.strip().encode() not in made.stdout + made.stderr
    again = cli("key", "new", "--keyring=ic-secrets/agency")
    assert again.returncode == 1
    assert b"has an entry" in again.stderr
    missing = cli("list", "my-site", env={"IC_SECRETS_KEY_KEYRING": "elsewhere"})
    assert b"no entry elsewhere" in missing.stderr


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("keyring.backends.fail.Keyring", b"the keyring cannot be used: NoKeyringError"),
        (None, b"the package keyring is not installed"),
    ],
)
def test_a_machine_without_a_keyring_says_so(cli: Cli, tmp_path: Path, backend: str | None, message: bytes) -> None:
    if backend is None:
        (tmp_path / "keyring.py").write_text("raise ImportError('not installed')")
        cli.home["PYTHONPATH"] = str(tmp_path)
    else:
        cli.home["PYTHON_KEYRING_BACKEND"] = backend
    done = cli("key", "new", "--keyring=ic-secrets")
    assert done.returncode == 1
    assert message in done.stderr
    assert b"hint: " in done.stderr


def test_a_key_is_made_in_one_place(cli: Cli, tmp_path: Path) -> None:
    done = cli("key", "new", "--keyring=ic-secrets", "--key-file", tmp_path / "key")
    assert done.returncode == 2
    assert not (tmp_path / "key").exists()


def test_a_build_inherits_no_way_to_a_key(cli: Cli, keyring: Path) -> None:
    cli("init", check=0)
    cli("site", "set", "my-site", check=0)
    names = ("KEY", "KEY_FILE", "KEY_COMMAND", "KEY_KEYRING", "PASSPHRASE", "PASSPHRASE_FILE", "STORE")
    path = Path(cli.home["XDG_CONFIG_HOME"]) / "ic-secrets" / "key"
    sources = {"IC_SECRETS_KEY": path.read_text(), "IC_SECRETS_KEY_FILE": str(path)}
    sources |= {
        "IC_SECRETS_KEY_COMMAND": f"cat {path}",
        "IC_SECRETS_PASSPHRASE": "x",
        "IC_SECRETS_PASSPHRASE_FILE": "x",
        "IC_SECRETS_KEY_KEYRING": "ic-secrets",
    }
    keyring.write_text(json.dumps({"ic-secrets|master-key": path.read_text()}))
    done = cli("run", "my-site", "--", "env", env=sources, check=0)
    assert not [name for name in names if f"IC_SECRETS_{name}=".encode() in done.stdout]


# --- keys under a passphrase --------------------------------------------------------------------------


def test_a_locked_key_opens_with_its_passphrase_alone() -> None:
    text = locking.lock(KEY, PASSPHRASE)
    assert locking.unlock(text, PASSPHRASE) == KEY
    assert locking.read_id(text) == KEY.id
    assert KEY.format()[-43:] not in text
    for other in ("", PASSPHRASE + " ", PASSPHRASE.upper()):
        with pytest.raises(MasterKeyError, match=f"does not open the key {KEY.id}"):
            locking.unlock(text, other)


def test_the_same_key_is_never_locked_alike() -> None:
    assert locking.lock(KEY, PASSPHRASE) != locking.lock(KEY, PASSPHRASE)


def test_a_locked_key_is_written_in_one_way_only() -> None:
    """The last character of its salt and of its sealed key holds four bits that say nothing: they are as they were."""
    text = locking.lock(KEY, PASSPHRASE)
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for end in (text.rindex(":"), len(text)):
        for spare in range(1, 16):
            other = digits[digits.index(text[end - 1]) ^ spare]
            with pytest.raises(MasterKeyError, match="malformed"):
                locking.unlock(text[: end - 1] + other + text[end:], PASSPHRASE)


def test_every_part_of_a_locked_key_is_bound_to_it() -> None:
    text = locking.lock(KEY, PASSPHRASE)
    fields = [found.span() for found in re.finditer("[^:,]+", text)][1:]
    assert len(fields) == 6  # id, three costs, salt, sealed key
    for _, end in fields:
        changed = "1" if text[end - 1] != "1" else "2"
        with pytest.raises(MasterKeyError):
            locking.unlock(text[: end - 1] + changed + text[end:], PASSPHRASE)


@pytest.mark.parametrize(
    "costs", ["1048577,3,4", "65536,17,4", "65536,3,17", "8191,3,4", "65536,0,4", "65536,3,0", "999999999,3,4"]
)
def test_costs_that_would_hold_us_up_are_refused(costs: str) -> None:
    """They are read from a file that somebody else may have written."""
    text = locking.lock(KEY, PASSPHRASE).replace("65536,3,4", costs)
    with pytest.raises(MasterKeyError, match="are allowed"):
        locking.unlock(text, PASSPHRASE)


@pytest.mark.parametrize(
    "text", ["ic-secrets-locked-key-1:", "ic-secrets-locked-key-2:x", "ic-secrets-locked-key-1:a:b"]
)
def test_what_is_no_locked_key_is_refused(text: str) -> None:
    with pytest.raises(MasterKeyError, match=r"malformed|does not know"):
        locking.unlock(text, PASSPHRASE)


def test_a_locked_key_file_asks_for_its_passphrase(cli: Cli, tmp_path: Path) -> None:
    held = {"IC_SECRETS_PASSPHRASE": PASSPHRASE}
    cli.home["IC_SECRETS_KEY_FILE"] = str(tmp_path / "locked")
    cli("key", "new", "--passphrase", env=held, check=0)
    cli("init", env=held, check=0)
    nobody = cli("site", "list")
    assert nobody.returncode == 1
    assert b"no terminal to ask" in nobody.stderr
    wrong = cli("site", "list", env={"IC_SECRETS_PASSPHRASE": "canary"})
    assert b"does not open the key" in wrong.stderr
    assert b"canary" not in wrong.stderr
    (tmp_path / "words").write_text(PASSPHRASE + "\n")
    (tmp_path / "words").chmod(0o644)
    open_file = cli("site", "list", env={"IC_SECRETS_PASSPHRASE_FILE": str(tmp_path / "words")})
    assert b"open to other users" in open_file.stderr
    (tmp_path / "words").chmod(0o600)
    cli("site", "list", env={"IC_SECRETS_PASSPHRASE_FILE": str(tmp_path / "words")}, check=0)
    shown = json.loads(cli("key", "show", "--json", check=0).stdout)
    assert shown["opens"] is True
    assert [key["locked"] for source in shown["sources"] for key in source["keys"]] == [True]


def test_a_passphrase_in_a_file_is_any_text(cli: Cli, tmp_path: Path) -> None:
    """And it is the same passphrase in a variable."""
    words = tmp_path / "words"
    words.write_bytes("schlüssel, 鍵\n".encode())
    words.chmod(0o600)
    cli.home["IC_SECRETS_KEY_FILE"] = str(tmp_path / "locked")
    cli("key", "new", "--passphrase", env={"IC_SECRETS_PASSPHRASE_FILE": str(words)}, check=0)
    cli("init", env={"IC_SECRETS_PASSPHRASE": "schlüssel, 鍵"}, check=0)
    missing = cli("site", "list", env={"IC_SECRETS_PASSPHRASE_FILE": str(tmp_path / "none")})
    assert b"there is no passphrase file" in missing.stderr
    words.write_bytes(b"\n")
    empty = cli("site", "list", env={"IC_SECRETS_PASSPHRASE_FILE": str(words)})
    assert b"is empty" in empty.stderr


def test_a_person_types_a_passphrase_unseen(cli: Cli, tmp_path: Path) -> None:
    """Twice to lock a key, once to use it; what is not typed, or typed otherwise, is an error."""
    cli.home |= {"IC_SECRETS_KEY_FILE": str(tmp_path / "locked"), "TERM": "dumb"}

    def type_in(*words: str, typed: list[str]) -> tuple[int, bytes]:
        screen = Screen([str(PROGRAM), *words], cli.home)
        for line in typed:
            screen.wait_for("passphrase of the key .*: ")
            screen.type(line)
        shown = screen.read_to_end()
        return screen.finish(), shown

    status, shown = type_in("key", "new", "--passphrase", typed=["canary one\n", "canary two\n"])
    assert (status, b"not the same" in shown) == (1, True)
    assert not (tmp_path / "locked").exists()
    status, shown = type_in("key", "new", "--passphrase", typed=["canary one\n", "canary one\n"])
    assert (status, b"canary" in shown) == (0, False)
    status, shown = type_in("init", typed=["canary one\n"])
    assert (status, b"made the store" in shown) == (0, True)
    status, shown = type_in("site", "list", typed=["\x04"])
    assert (status, b"no passphrase entered" in shown) == (1, True)


def test_each_passphrase_is_asked_for_once(tmp_path: Path) -> None:
    """Keys under one are opened by it, and those under another are asked for again."""
    words = {KEY.id: "one", OTHER.id: "two"}
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(next(words[key_id] for key_id in words if key_id in prompt))
        return asked[-1]

    (tmp_path / "first").write_text(locking.lock(KEY, "one"))
    (tmp_path / "second").write_text(locking.lock(OTHER, "two"))
    third = MasterKey.generate()
    (tmp_path / "third").write_text(locking.lock(third, "one"))
    for path in tmp_path.iterdir():
        path.chmod(0o600)
    holder = Keyholder({}, ask)
    sources = [KeySource("--key-file", "file", str(tmp_path / name)) for name in ("first", "second", "third", "first")]
    assert [holder.read(source) for source in sources] == [(KEY,), (OTHER,), (third,), (KEY,)]
    assert asked == ["one", "two"]


# --- what is shown of keys ----------------------------------------------------------------------------


def test_key_show_opens_the_store(tmp_path: Path, cli: Cli) -> None:
    """What it says is verified; of a store that was changed it says so, and gives 1."""
    path = make_store(tmp_path)
    cli.home |= {"IC_SECRETS_STORE": path, "IC_SECRETS_KEY": MasterKey(bytes(range(32))).format()}
    shown = json.loads(cli("key", "show", "--json", check=0).stdout)
    assert (shown["opens"], shown["data_keys"], shown["problem"]) == (True, 1, None)
    with raw(path) as connection:
        connection.execute("UPDATE store SET generation = generation + 1")
    changed = cli("key", "show", "--json", check=1)
    assert json.loads(changed.stdout)["opens"] is False
    assert "was changed" in json.loads(changed.stdout)["problem"]
    assert b"was changed" in cli("key", "show", check=1).stderr
