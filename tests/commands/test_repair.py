"""A damaged store: what is said of it, what is salvaged, and what is never believed."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from children import run_in_child, run_unprivileged
from commandline import Cli
from ic_secrets.errors import (
    StoreBusyError,
    StoreError,
    StoreExistsError,
    StoreFormatError,
    StoreLockedError,
    StoreReadError,
    StoreTamperedError,
)
from ic_secrets.keys.sealing import MasterKey
from ic_secrets.model.secret import Owner, SecretType, SecretValue, Site
from ic_secrets.stores.base import Place, Write
from ic_secrets.stores.embedded import repair as repair_module, salvage, store as local
from ic_secrets.stores.embedded.repair import Report, Salvage, check, repair
from local_stores import (
    AGENCY,
    BUILD,
    CANARY,
    KEY,
    MY_SITE,
    OWNERS,
    cut_off_a_write,
    dump,
    make_store,
    memory_directory,
    put,
    raw,
)

PAGE = 4096

Values = dict[tuple[str, str | None, str], tuple[object, ...]]


@pytest.fixture
def path() -> Iterator[str]:
    """A filled store, to be damaged."""
    with memory_directory() as directory:
        yield make_store(directory)


@pytest.fixture(scope="module")
def large() -> Iterator[bytes]:
    """A store of many pages, with interior ones and overflow: 3 organizations, 40 sites, 900 values."""
    with memory_directory() as directory:
        path = make_store(directory)
        chosen = random.Random(3)
        with local.open_store(path, [KEY]) as store, store.transaction():
            for number in range(40):
                store.set_site(Site(f"site-{number}", "agency"))
                for turn in range(20):
                    size = chosen.choice([5, 30, 400, 3000])
                    value = SecretValue(f"{CANARY} {number} {turn} " + "x" * size)
                    store.put(
                        Place(Owner("site", f"site-{number}"), None, f"K{turn}"),
                        Write(value, type=SecretType.ENV, scopes=BUILD),
                    )
        with local.open_store(path, [KEY]) as store, store.transaction():
            for number in range(0, 40, 3):
                store.delete_site(f"site-{number}")
            for turn in range(300):
                store.put(
                    Place(AGENCY, None, f"LATE_{turn}"),
                    Write(SecretValue(f"{turn}"), type=SecretType.ENV, scopes=BUILD),
                )
        yield Path(path).read_bytes()


def check_quietly(path: str, **options: str) -> Report:
    return check(path, [KEY], lambda done, total: None, **options)


def repair_quietly(path: str, **options: object) -> tuple[Report, Salvage | None, Values]:
    """The report, and all that the new store holds."""
    target = f"{path}.repaired"
    with open(path, "rb") as file:
        before = file.read()
    try:
        report, salvage = repair(path, target, [KEY], lambda done, total: None, **options)  # type: ignore[arg-type]
        assert Path(path).read_bytes() == before
        return report, salvage, hold(target) if salvage else {}
    finally:
        Path(target).unlink(missing_ok=True)


def hold(path: str) -> Values:
    """All values of the store, whole, by owner, environment and name."""
    found: Values = {}
    with local.open_store(path, [KEY], read_only=True) as store:
        with raw(path) as db:
            owners = [Owner(*columns) for columns in db.execute("SELECT kind, name FROM owners")]
        for owner in owners:
            holdings = store.read(owner)
            for secret in holdings.secrets:
                found[str(owner), None, secret.name] = (secret.id, *secret[3:])
            for override in holdings.overrides:
                found[str(owner), override.environment, override.name] = (override.base, *override[4:])
    return found


def named(report: Report) -> set[tuple[str, str | None, str]]:
    return {(owner, environment or None, name) for owner, environment, name in report.readable}


# --- whole ------------------------------------------------------------------------------------------


def test_a_whole_store_is_said_to_be_whole(path: str) -> None:
    """With its identity and counts; and there is nothing to repair."""
    report, salvage, _ = repair_quietly(path)
    assert report.fault == ""
    assert salvage is None
    assert (report.sites, report.organizations, report.secrets, report.overrides) == (3, 2, 13, 8)
    assert report.key_id == KEY.id
    with local.open_store(path, [KEY]) as store:
        assert (report.store_id, report.generation) == (store.store_id, store.generation)


def test_a_store_in_use_is_checked(path: str) -> None:
    """Another process's open store, and its transaction, are no damage."""
    with local.open_store(path, [KEY]) as store, store.transaction():
        put(store, MY_SITE, None, "API_KEY")
        assert run_in_child(lambda: check_quietly(path).fault and os._exit(3)) == 0


# --- damaged ----------------------------------------------------------------------------------------


def test_what_is_whole_is_salvaged_as_it_was(path: str) -> None:
    """Bases, versions, times and organizations; under the same key, with a later generation and another identity."""
    before = hold(path)
    with local.open_store(path, [KEY]) as store:
        generation, store_id = store.generation, store.store_id
    with raw(path) as db:
        db.execute("UPDATE secrets SET scopes = 'web' WHERE owner = 'studio' AND name = 'API_KEY'")
    target = path + ".repaired"
    report, salvage = repair(path, target, [KEY], lambda done, total: None)
    kept = {at: value for at, value in before.items() if at[0] != "org:studio"}
    assert hold(target) == kept
    assert named(report) == kept.keys()
    assert report.damaged == ["org:studio API_KEY"]
    assert {at[2] for at in report.doubtful} == {"LICENSE_KEY", "http-basic.repo.example.org"}
    assert salvage == (target, len(kept))
    assert os.stat(target).st_mode & 0o777 == 0o600
    with local.open_store(target, [KEY]) as store:
        assert store.site("my-site") == Site("my-site", "agency", ("help",))
        assert store.site("empty") == Site("empty")
        assert store.generation > generation
        assert store.store_id != store_id


def test_a_store_under_its_second_key_is_salvaged_under_that(path: str) -> None:
    """Values sealed before the rotation and after it; the older key opens nothing, and is not asked."""
    new = MasterKey.generate()
    with local.open_store(path, [KEY]) as store:
        store.rotate(new)
        put(store, MY_SITE, None, "LICENSE_KEY")
    with raw(path) as db:
        db.execute("DELETE FROM buckets")
    target = f"{path}.repaired"
    report, salvage = repair(path, target, [new, KEY], lambda done, total: None)
    assert salvage == (target, 21)
    assert report.key_id == new.id
    with pytest.raises(StoreLockedError):
        local.open_store(target, [KEY])


def test_a_data_key_that_is_lost_takes_only_its_own_values(path: str) -> None:
    """Those that were sealed since a rotation have another one; but the root vouches for nothing any more."""
    new = MasterKey.generate()
    with local.open_store(path, [KEY]) as store:
        store.rotate(new)
        put(store, MY_SITE, None, "LICENSE_KEY")
    with raw(path) as db:
        db.execute("UPDATE data_keys SET wrapped = zeroblob(60) WHERE id = 1")
    report = check(path, [new], lambda done, total: None)
    assert report.doubtful == [("my-site", "", "LICENSE_KEY")]
    assert report.readable == []
    assert len(report.damaged) == 20


def test_an_older_row_is_not_believed(path: str) -> None:
    """Its seal is right. Only who asks for what the manifest does not vouch for gets it."""
    with raw(path) as db:
        old = db.execute("SELECT * FROM secrets WHERE owner = 'my-site' AND name = 'API_KEY'").fetchall()
    with local.open_store(path, [KEY]) as store:
        store.put(Place(MY_SITE, None, "API_KEY"), Write(SecretValue("rotated")))
        store.delete(Place(MY_SITE, "live", "API_KEY"))
    with raw(path) as db:
        db.executemany(f"INSERT OR REPLACE INTO secrets VALUES ({', '.join('?' * 14)})", old)
    report, _, values = repair_quietly(path)
    assert not [at for at in values if at[0] == "my-site"]
    assert ("my-site", "live", "API_KEY") in report.doubtful
    assert report.damaged == []
    _, _, values = repair_quietly(path, doubtful=True)
    assert ("my-site", "live", "API_KEY") in values


def test_an_older_owner_is_not_believed(path: str) -> None:
    """Rows and record fit each other, and are older than the bucket and the root."""
    older = shutil.copy(path, path + ".older")
    with local.open_store(path, [KEY]) as store:
        store.put(Place(MY_SITE, None, "API_KEY"), Write(SecretValue("rotated")))
        store.set_site(Site("my-site", None))
    with raw(path) as db:
        db.execute("ATTACH ? AS older", (older,))
        db.execute("DELETE FROM secrets WHERE owner = 'my-site'")
        db.execute("INSERT INTO secrets SELECT * FROM older.secrets WHERE owner = 'my-site'")
        db.execute("INSERT OR REPLACE INTO owners SELECT * FROM older.owners WHERE name = 'my-site'")
    report, _, values = repair_quietly(path)
    assert "my-site" in report.doubts
    assert not [at for at in values if at[0] == "my-site"]
    assert [at for at in values if at[0] == "org:agency"]


LOST: dict[str, tuple[str, int, int]] = {
    # What is lost; how many values are vouched for then, and how many are genuine.
    "nothing but the schema": ("CREATE VIEW v AS SELECT 1", 21, 21),
    "the buckets": ("DELETE FROM buckets", 21, 21),
    "the table of the buckets": ("DROP TABLE buckets", 21, 21),
    "half of the buckets": ("DELETE FROM buckets WHERE number % 2", 21, 21),
    "the MACs of the buckets": ("UPDATE buckets SET mac = zeroblob(32)", 21, 21),
    "the id of the key": ("UPDATE store SET master = 'ffffffffffffffff'", 21, 21),
    "the generation": ("UPDATE store SET generation = 7", 0, 21),
    "the MAC of the root": ("UPDATE store SET mac = zeroblob(32)", 0, 21),
    "the owners": ("DELETE FROM owners", 0, 21),
    "the table of the owners": ("DROP TABLE owners", 0, 21),
    "an owner": ("DELETE FROM owners WHERE name = 'my-site'", 14, 21),
    "an owner and a bucket": (
        "DELETE FROM owners WHERE name = 'my-site'; DELETE FROM buckets WHERE number = 3",
        14,
        21,
    ),
    "an owner with all it had": (
        "DELETE FROM owners WHERE name = 'my-site'; DELETE FROM secrets WHERE owner = 'my-site'",
        14,
        14,
    ),
    "all rows": ("DELETE FROM secrets", 0, 0),
}


@pytest.mark.parametrize("lost", LOST, ids=lambda name: name.replace(" ", "-"))
def test_what_is_left_is_salvaged(path: str, lost: str) -> None:
    """What the manifest still vouches for, and with a word more what is genuine; and nothing else, ever."""
    statement, vouched, genuine = LOST[lost]
    before = hold(path)
    with raw(path) as db:
        db.executescript(statement)
    report, salvage, values = repair_quietly(path)
    assert report.fault
    assert salvage
    assert len(values) == vouched
    assert len(report.readable) == vouched
    assert len(report.readable) + len(report.doubtful) == genuine
    assert values.items() <= before.items()
    _, _, values = repair_quietly(path, doubtful=True)
    assert len(values) == genuine
    assert values.items() <= before.items()


def test_a_lost_owner_is_told_of_though_nothing_names_it(path: str) -> None:
    """Its bucket's MAC says that somebody is missing."""
    with raw(path) as db:
        db.executescript("DELETE FROM owners WHERE name = 'empty'")
    assert check_quietly(path).lost_records == 1


@pytest.mark.parametrize("statement", ["DELETE FROM store", "DELETE FROM data_keys", "DROP TABLE store"])
def test_an_older_copy_gives_identity_and_data_keys_back(path: str, statement: str) -> None:
    """Without them nothing can be read, and that is said; no value comes from the older copy."""
    backup = shutil.copy(path, path + ".backup")
    with local.open_store(path, [KEY]) as store:
        store.put(Place(MY_SITE, None, "API_KEY"), Write(SecretValue("newer than the backup")))
        store.delete(Place(AGENCY, None, "INHERITED"))
    before = hold(path)
    with raw(path) as db:
        db.executescript(statement)
    with pytest.raises(StoreTamperedError, match="nothing can be read") as caught:
        check_quietly(path)
    assert "--backup" in caught.value.hint
    report, _, values = repair_quietly(path, backup=backup, doubtful=True)
    assert values == before
    assert bool(report.doubtful) == ("store" in statement)


def test_what_a_backup_would_bring_is_said(path: str) -> None:
    """What it has of the values that are lost, damaged or not vouched for; and nothing of it is taken."""
    backup = shutil.copy(path, path + ".backup")
    with local.open_store(path, [KEY]) as store:
        store.put(Place(AGENCY, None, "MADE_SINCE"), Write(SecretValue("v"), SecretType.ENV, BUILD))
        generation = store.generation
    with raw(path) as db:
        db.execute("DELETE FROM secrets WHERE owner = 'my-site' AND name = 'API_KEY'")
    assert check_quietly(path).backup is None
    report, _, values = repair_quietly(path, backup=backup)
    assert report.backup is not None
    assert report.backup.generation == generation - 1
    assert {at[0] for at in report.backup.values} == {"my-site"}
    assert ("my-site", "live", "API_KEY") in report.backup.values
    assert ("org:agency", None, "MADE_SINCE") in values
    assert not [at for at in values if at[0] == "my-site"]
    Path(backup).write_text("not a store")
    with pytest.raises(StoreFormatError):
        check_quietly(path, backup=backup)


@pytest.mark.parametrize("version", [1, 2, 99])
def test_a_repaired_store_has_the_hosts_of_its_secrets(path: str, version: int) -> None:
    """Also where the damage is in the number of the format, and the column is there all the same."""
    with raw(path) as db:
        db.execute("UPDATE secrets SET sealed = x'' WHERE name = 'LICENSE_KEY' AND owner = 'my-site'")
        db.execute(f"PRAGMA user_version = {version if version < 99 else 1_000_000}")
    repair(path, path + ".new", [KEY], lambda done, total: None, doubtful=True)
    with local.open_store(path + ".new", [KEY], read_only=True) as store:
        for owner in (MY_SITE, AGENCY):
            assert store.read(owner).secrets[0].hosts == ("api.example.com", "api.example.com:8443")


def test_a_row_that_is_none_is_passed_over(path: str) -> None:
    """Whatever an enemy makes up is named as damaged, printable, or not at all; the rest is still vouched for."""
    with raw(path) as db:
        (row,) = db.execute("SELECT * FROM secrets WHERE owner = 'my-site' AND name = 'LICENSE_KEY' LIMIT 1").fetchall()
        for name, sealed in (("A\x1b[2J", row[12]), ("B", "text"), ("C", b""), (b"\xff", row[12]), ("D", 1.5)):
            db.execute(f"INSERT INTO secrets VALUES ({', '.join('?' * 14)})", (*row[:2], name, *row[3:12], sealed, ""))
        db.execute(f"INSERT INTO secrets VALUES ({', '.join('?' * 14)})", ("site", "nobody", *row[2:]))
    report = check_quietly(path)
    assert len(report.readable) == 21
    assert len(report.damaged) == 6
    assert all(label.isprintable() for label in report.damaged)


@pytest.mark.slow
def test_a_page_that_is_gone_never_makes_a_value(large: bytes, rounds: Callable[[int, int], int]) -> None:
    """Each page in turn is zeros or noise: what SQLite still reads is saved, and nothing that was not there."""
    chosen = random.Random(11)
    with memory_directory() as directory:
        path = str(directory / "store.db")
        Path(path).write_bytes(large)
        before = hold(path)
        pages = len(large) // PAGE
        shares = []
        for number in chosen.sample(range(pages), rounds(25, pages)):
            noise = chosen.choice([bytes(PAGE), chosen.randbytes(PAGE)])
            Path(path).write_bytes(large[: number * PAGE] + noise + large[(number + 1) * PAGE :])
            try:
                _, salvage, values = repair_quietly(path, doubtful=True)
            except (StoreFormatError, StoreTamperedError):  # the page of the schema, the identity or the data keys
                shares.append(0.0)
                continue
            if salvage is None:  # a page that holds nothing
                continue
            assert values.items() <= before.items()
            shares.append(len(values) / len(before))
        assert sum(share > 0.9 for share in shares) > len(shares) // 2


@pytest.mark.slow
def test_flipped_bytes_never_make_a_value(path: str, rounds: Callable[[int, int], int]) -> None:
    """Whatever is damaged: no crash, and what is vouched for is exactly what was there."""
    data = Path(path).read_bytes()
    before = hold(path)
    used = [at for at, byte in enumerate(data) if byte]
    chosen = random.Random(5)
    salvaged = 0
    messages: list[str] = []
    for at in chosen.sample(used, rounds(120, 2000)):
        broken = bytearray(data)
        broken[at] ^= 1 << chosen.randrange(8)
        Path(path).write_bytes(broken)
        try:
            _, salvage, values = repair_quietly(path)
        except StoreError as error:
            messages.append(str(error))
            continue
        if salvage:
            assert values.items() <= before.items()
            salvaged += 1
    assert salvaged > rounds(40, 700)
    assert CANARY not in "".join(messages)


def test_a_write_that_was_cut_off_is_reported_to_who_may_not_undo_it() -> None:
    """With what to do; and nothing is touched."""
    with memory_directory() as directory:
        path = make_store(directory)
        cut_off_a_write(path)
        files = {name: (directory / name).read_bytes() for name in os.listdir(directory)}
        os.chmod(path, 0o444)
        os.chmod(f"{path}-journal", 0o444)
        directory.chmod(0o555)

        def child() -> None:
            with pytest.raises(StoreReadError, match="a write was cut off") as caught:
                check_quietly(path)
            assert "run any command once" in caught.value.hint

        assert run_unprivileged(child) == 0
        directory.chmod(0o755)
        assert {name: (directory / name).read_bytes() for name in os.listdir(directory)} == files


def test_a_store_that_stays_locked_is_not_a_damaged_one(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a view or a table that somebody put in the place of ours keep the check from ending."""
    with raw(path) as db:
        db.executescript(
            "DROP TABLE buckets; CREATE VIEW buckets AS WITH RECURSIVE n(number) AS "
            "(SELECT 1 UNION ALL SELECT number + 1 FROM n) SELECT number, zeroblob(32) AS mac FROM n"
        )
    assert len(check_quietly(path).readable) == 21
    monkeypatch.setattr(salvage, "BUSY_TIMEOUT_MS", 0)
    with raw(path) as db:
        db.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreBusyError), salvage.Tables(path):
            pass


def test_a_damaged_store_that_this_user_may_not_read_is_said_to_be_unreadable() -> None:
    with memory_directory() as directory:
        directory.chmod(0o755)
        path = make_store(directory)
        os.chmod(path, 0o000)

        def child() -> None:
            with pytest.raises(StoreReadError, match=r"store\.db cannot be read: unable to open database file"):
                check_quietly(path)

        assert run_unprivileged(child) == 0


def test_a_new_store_that_does_not_verify_is_an_error(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a fault of the disk: it is read again before it is said to be there."""
    with raw(path) as db:
        db.execute("UPDATE buckets SET mac = zeroblob(32)")
    target = f"{path}.repaired"

    def damage(done: int, total: int) -> None:
        if os.path.exists(target):
            with raw(target) as db:
                db.execute("UPDATE secrets SET sealed = zeroblob(50)")

    monkeypatch.setattr(repair_module, "_BATCH", 1)
    with pytest.raises(StoreTamperedError, match=r"store\.db\.repaired: .* was changed"):
        repair(path, target, [KEY], damage)


# --- what is no damage ------------------------------------------------------------------------------


def test_what_is_no_damaged_store_is_refused_in_the_usual_words(path: str) -> None:
    """Another key, a newer format, another file; and nothing is made."""
    with pytest.raises(StoreLockedError):
        check(path, [MasterKey.generate()], lambda done, total: None)
    with raw(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreFormatError, match="format 99"):
        repair_quietly(path)
    Path(path).write_text("something else")
    with pytest.raises(StoreFormatError, match="not an ic-secrets store"):
        repair_quietly(path)
    assert os.listdir(os.path.dirname(path)) == ["store.db"]


def test_nothing_is_overwritten(path: str) -> None:
    """Not the place of the new store, whatever is there."""
    with raw(path) as db:
        db.execute("DELETE FROM buckets")
    for target in (path, path + ".kept"):
        Path(path + ".kept").write_text("kept")
        before = Path(target).read_bytes()
        with pytest.raises(StoreExistsError):
            repair(path, target, [KEY], lambda done, total: None)
        assert Path(target).read_bytes() == before


def test_no_value_is_shown(cli: Cli, path: str) -> None:
    """Neither as text nor as JSON, damaged or whole, though names are."""
    (key_file := cli.cwd / "key").write_text(KEY.format())
    key_file.chmod(0o600)
    for statement in ("", "DELETE FROM secrets WHERE name = 'API_KEY' AND owner = 'agency'"):
        with raw(path) as db:
            db.executescript(statement)
        for words in ((), ("--json",)):
            done = cli("check-store", "--store", path, "--key-file", key_file, *words)
            assert done.returncode == bool(statement)
            assert CANARY.encode() not in done.stdout + done.stderr
            assert (b"INHERITED" in done.stdout) == bool(statement)


def test_owners_are_all_read(path: str) -> None:
    """The helper of these tests sees what others see."""
    with local.open_store(path, [KEY]) as store:
        assert len(hold(path)) == sum(len(h.secrets) + len(h.overrides) for h in dump(store, OWNERS)[1])
