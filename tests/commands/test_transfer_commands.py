"""`export`, `import` and `copy` as processes: files, terminals, kills."""

from __future__ import annotations

import json
import os
import random
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commandline import PROGRAM
from ic_secrets.keys.master import create_key_file
from ic_secrets.keys.sealing import MasterKey
from ic_secrets.model.secret import Owner, SecretType, SecretValue, Site
from ic_secrets.stores.base import Place, Store, Write
from ic_secrets.stores.embedded import store as local
from local_stores import AGENCY, BUILD, CANARY, KEY, MY_SITE, OWNERS, dump, make_store, open_for_reading, put
from screen import Screen


@pytest.fixture
def path(tmp_path: Path, home: dict[str, str]) -> str:
    """A store with something of everything, which the environment names with its key."""
    create_key_file(str(tmp_path / "key"), KEY.format())
    home["IC_SECRETS_KEY_FILE"] = str(tmp_path / "key")
    home["IC_SECRETS_STORE"] = make_store(tmp_path)
    return home["IC_SECRETS_STORE"]


def values(store: Store) -> list[Any]:
    """What the owners hold, told without ids and versions."""
    sites, holdings = dump(store)
    bases = [
        (s.owner, s.name, s.type, s.scopes, s.value, s.created, s.changed, s.expires)
        for h in holdings
        for s in h.secrets
    ]
    overrides = [
        (o.owner, o.environment, o.name, o.type, o.value, o.changed, o.expires) for h in holdings for o in h.overrides
    ]
    return [sites, bases, overrides]


# --- export -----------------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole_and_keeps_its_place(cli: Any, path: str, tmp_path: Path) -> None:
    """Its mode stays, a link to it stays a link, nothing else is in its directory, and no part of a value in it."""
    directory = tmp_path / "repository"
    directory.mkdir()
    file = directory / "all.sealed"
    file.write_text("ic-secrets-sealed-1 an older export")
    file.chmod(0o640)
    (tmp_path / "link").symlink_to(file)
    cli("export", "--all", "--format", "sealed", "-o", tmp_path / "link", check=0)
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert os.listdir(directory) == ["all.sealed"]
    assert file.read_text().startswith("ic-secrets-sealed-2 ")
    assert CANARY not in file.read_text()
    before = (file.stat().st_ino, file.read_bytes())
    cli("export", "--all", "--format", "sealed", "-o", file, check=0)
    assert (file.stat().st_ino, file.read_bytes()) == before


def test_what_is_no_export_is_never_replaced(cli: Any, path: str, tmp_path: Path) -> None:
    """A store or a key in the place of the file would be gone for ever."""
    for content in (Path(path).read_bytes(), KEY.format().encode(), b"something else"):
        (tmp_path / "there").write_bytes(content)
        done = cli("export", "--all", "--format", "sealed", "-o", tmp_path / "there")
        assert done.returncode == 1
        assert b"not an export of this format" in done.stderr
        assert (tmp_path / "there").read_bytes() == content


def test_a_damaged_export_is_written_again(cli: Any, path: str, tmp_path: Path) -> None:
    file = tmp_path / "all.sealed"
    cli("export", "--all", "--format", "sealed", "-o", file, check=0)
    whole = file.read_bytes()
    file.write_bytes(whole[:-3] + b"00\n")
    cli("export", "--all", "--format", "sealed", "-o", file, check=0)
    assert file.read_bytes() == whole


def test_an_import_changes_a_sites_organization_with_consent_only(cli: Any, path: str, tmp_path: Path) -> None:
    """Who makes the file could else choose whose secrets the site's build gets."""
    file = tmp_path / "my-site.sealed"
    cli("export", "my-site", "--format", "sealed", "--without-org", "-o", file, check=0)
    cli("site", "set", "my-site", "--org", "studio", check=0)
    refused = cli("import", "my-site", "--format", "sealed", file)
    assert refused.returncode == 1
    assert b"primary organization from studio to agency" in refused.stderr
    shown = cli("import", "my-site", "--format", "sealed", file, "--with-org", "--dry-run")
    assert "studio → agency".encode() in shown.stdout


def test_an_older_copy_is_neither_copied_nor_imported(cli: Any, path: str, tmp_path: Path) -> None:
    file, state = tmp_path / "all.sealed", {"IC_SECRETS_STATE_FILE": str(tmp_path / "state.json")}
    cli("export", "--all", "--format", "sealed", "-o", file, check=0)
    older, old_file = Path(path).read_bytes(), file.read_bytes()
    cli("set", "my-site", "NEW", "--type", "env", "--scope", "ic", stdin=b"a canary", check=0)
    cli("list", "my-site", env=state, check=0)
    cli("export", "--all", "--format", "sealed", "-o", file, check=0)
    cli("import", "--all", "--format", "sealed", file, "--dry-run", env=state, check=0)
    file.write_bytes(old_file)
    imported = cli("import", "--all", "--format", "sealed", file, "--dry-run", env=state)
    assert b"remembers" in imported.stderr
    Path(path).write_bytes(older)
    copied = cli("copy", path, tmp_path / "copy.db", env=state)
    assert b"remembers" in copied.stderr
    assert not (tmp_path / "copy.db").exists()


def test_a_file_that_cannot_be_written_stays_as_it_is(cli: Any, path: str, tmp_path: Path) -> None:
    """No such directory, a directory in its place: an error with its name, and no file."""
    for place, reason in (("absent/all.sealed", "No such file or directory"), (".", "is not a regular file")):
        done = cli("export", "--all", "--format", "sealed", "-o", place, check=1)
        assert reason in done.stderr.decode()
    assert not list(tmp_path.rglob("*.partial"))


def test_an_export_has_the_organization_along_or_not(cli: Any, path: str) -> None:
    """With it a build works from the file; another site's or organization's secrets are never in it."""
    with_org = cli("export", "my-site", "--format", "sealed", check=0).stdout.decode().splitlines()
    without = cli("export", "my-site", "--format", "sealed", "--without-org", check=0).stdout.decode().splitlines()
    alone = cli("export", "org:agency", "--format", "sealed", check=0).stdout.decode().splitlines()
    owners = [{line.split()[1] for line in lines[1:-1]} for lines in (with_org, without, alone)]
    assert owners == [{"my-site", "org:agency"}, {"my-site"}, {"org:agency"}]
    assert len({lines[0] for lines in (with_org, without, alone)}) == 3, "three files, not versions of one"


def test_a_key_in_the_place_of_its_file_is_not_shown(cli: Any, path: str) -> None:
    """A slip that would otherwise be in the log of a pipeline."""
    key = MasterKey.generate().format()
    for words in (
        ("export", "my-site", "--format", "sealed", "--seal-key-file", key),
        ("import", "my-site", "--format", "sealed", "my.sealed", "--open-key-file", key),
        ("copy", path, "copy.db", "--from-key-file", key),
        ("copy", path, "copy.db", "--to-key-file", key),
    ):
        done = cli(*words, check=1)
        assert key[17:30] not in (done.stdout + done.stderr).decode()


# --- import -----------------------------------------------------------------------------------------------


def test_an_import_is_told_as_json(cli: Any, path: str, tmp_path: Path) -> None:
    """Each definition with what became of it; refused ones with the reason, and status 1."""
    cli("export", "my-site", "--format", "sealed", "-o", "my.sealed", check=0)
    with local.open_store(path, [KEY]) as store:
        put(store, MY_SITE, None, "ANOTHER", SecretType.ENV)
        store.put(Place(AGENCY, None, "API_KEY"), Write(SecretValue("changed")))
        store.delete(Place(MY_SITE, None, "LICENSE_KEY"))
        put(store, MY_SITE, None, "LICENSE_KEY", SecretType.RUNTIME)
    words = ("import", "my-site", "--with-org", "--format", "sealed", "my.sealed", "--json")
    dry = json.loads(cli(*words, "--dry-run", check=1).stdout)
    assert (dry["schema"], dry["dry_run"], dry["done"]) == ("ic-secrets.import/1", True, False)
    found = {(c["owner"], c["environment"], c["name"]): c["action"] for c in dry["changes"]}
    assert found["my-site", None, None] == "same"
    assert found["org:agency", None, "API_KEY"] == "changed"
    assert found["my-site", None, "LICENSE_KEY"] == "refused"
    assert ("my-site", None, "ANOTHER") not in found
    refused = json.loads(cli(*words, check=1).stdout)
    assert (refused["done"], refused["counts"]) == (False, dry["counts"])
    done = json.loads(cli(*words, "--skip-refused", check=1).stdout)
    assert (done["done"], done["counts"]) == (True, dry["counts"])
    assert {c["reason"] for c in done["changes"] if c["action"] != "refused"} == {None}
    assert json.loads(cli(*words, "--dry-run", check=1).stdout)["counts"]["changed"] == 0


# --- copy -------------------------------------------------------------------------------------------------


def fill(path: str, sites: int) -> None:
    """Many owners: each site with bases of its own, and overrides of them and of its organization's."""
    with local.open_store(path, [KEY]) as store, store.transaction():
        for number in range(sites):
            site = Owner("site", f"site-{number}")
            store.set_site(Site(site.name, "agency"))
            for name in ("ONE", "TWO"):
                value = SecretValue(f"{CANARY} {number} {name}")
                store.put(
                    Place(site, None, name), Write(value, type=SecretType.ENV, scopes=BUILD, times=(number, number + 1))
                )
            put(store, site, "dev", "ONE")
            put(store, site, "dev", "INHERITED")


def check_copied(source: str, destination: str, sites: int) -> None:
    owners = [*OWNERS, *(Owner("site", f"site-{number}") for number in range(sites))]
    with open_for_reading(source) as one, open_for_reading(destination) as other:
        assert values(one) == values(other)
        for owner in owners:
            held, copied = one.read(owner), other.read(owner)
            assert [s.value for s in held.secrets] == [s.value for s in copied.secrets]
            assert [o.value for o in held.overrides] == [o.value for o in copied.overrides]


def test_a_copy_holds_what_the_source_does(cli: Any, path: str) -> None:
    """Also under another key; a second time nothing is written."""
    fill(path, 5)
    cli("copy", path, "copy.db", check=0)
    check_copied(path, str(cli.cwd / "copy.db"), 5)
    with open_for_reading(str(cli.cwd / "copy.db")) as store:
        generation = store.generation
    told = json.loads(cli("copy", path, "copy.db", "--json", check=0).stdout)
    assert (told["schema"], told["owners"], told["counts"]["made"]) == ("ic-secrets.copy/1", 10, 0)
    with open_for_reading(str(cli.cwd / "copy.db")) as store:
        assert store.generation == generation


def test_what_was_moved_is_in_the_audit_log(cli: Any, path: str, tmp_path: Path) -> None:
    """An entry for each export and import, and for each owner that was copied, with names and never a value."""

    def logged(file: str) -> list[tuple[str, str | None, str, bool]]:
        lines = [json.loads(line) for line in Path(f"{file}.audit").read_text().splitlines()]
        assert CANARY not in str(lines)
        return [(e["command"], e["owner"], e["result"], "API_KEY" in e["names"]) for e in lines]

    cli("export", "my-site", "--format", "sealed", "-o", "my.sealed", check=0)
    cli("copy", path, "copy.db", check=0)
    cli("import", "my-site", "--format", "sealed", "my.sealed", "--dry-run", "--store", "copy.db", check=0)
    with local.open_store(str(cli.cwd / "copy.db"), [KEY]) as store:
        store.delete(Place(MY_SITE, None, "API_KEY"))
    cli("import", "my-site", "--format", "sealed", "my.sealed", "--store", "copy.db", check=0)
    with local.open_store(str(cli.cwd / "copy.db"), [KEY]) as store:
        store.delete(Place(MY_SITE, None, "API_KEY"))
        put(store, MY_SITE, None, "API_KEY", SecretType.RUNTIME)
    cli("import", "my-site", "--format", "sealed", "my.sealed", "--store", "copy.db", check=1)
    assert logged(path) == [("export", "my-site", "ok", True), ("copy", None, "ok", False)]
    assert logged(str(cli.cwd / "copy.db")) == [
        ("copy", "org:agency", "ok", True),
        ("copy", "org:studio", "ok", True),
        ("copy", "empty", "ok", False),
        ("copy", "my-site", "ok", True),
        ("copy", "other-site", "ok", True),
        ("import", "my-site", "ok", True),
        ("import", "my-site", "refused", False),
    ]


@pytest.mark.slow
def test_a_killed_copy_is_completed_by_the_next(cli: Any, path: str, rounds: Callable[[int, int], int]) -> None:
    """At whatever moment: each owner is there whole or not at all, and no file is left beside."""
    sites = 60
    fill(path, sites)
    started = time.monotonic()
    cli("copy", path, "whole.db", check=0)
    took = time.monotonic() - started
    chosen = random.Random()
    interrupted = 0
    for turn in range(rounds(6, 60)):
        name = f"copy-{turn}.db"
        for _ in range(3):
            with cli.start("copy", path, name) as child:
                time.sleep(chosen.uniform(0.1, 0.9) * took)
                child.send_signal(signal.SIGKILL)
                interrupted += child.wait() == -signal.SIGKILL
            check_whole_owners(cli.cwd / name)
        cli("copy", path, name, check=0)
        check_copied(path, str(cli.cwd / name), sites)
        assert {file for file in os.listdir(cli.cwd) if file.startswith(name)} <= {name, f"{name}.audit"}
    assert interrupted


def check_whole_owners(path: Path) -> None:
    if not path.exists():
        return
    with open_for_reading(str(path)) as store:
        for site in store.sites():
            if site.name.startswith("site-"):
                held = store.read(Owner("site", site.name))
                assert (len(held.secrets), len(held.overrides)) == (2, 2)


def test_a_copy_to_a_full_disk_can_be_gone_on_with(cli: Any, path: str) -> None:
    """What was acknowledged is there; the error says what failed; with room again it completes."""
    fill(path, 60)
    script = f"ulimit -f 60; exec {PROGRAM} copy {path} copy.db"
    done = subprocess.run(["bash", "-c", script], cwd=cli.cwd, env=cli.home, capture_output=True, text=True)
    assert done.returncode == 1
    assert "error: " in done.stderr
    check_whole_owners(cli.cwd / "copy.db")
    cli("copy", path, "copy.db", check=0)
    check_copied(path, str(cli.cwd / "copy.db"), 60)


def test_a_copy_shows_its_progress_on_a_terminal_only(cli: Any, path: str) -> None:
    """A bar that goes when it is done; a log gets what was made, and the counts."""
    fill(path, 40)
    screen = Screen([str(PROGRAM), "copy", path, "one.db"], cli.home | {"TERM": "xterm"}, cli.cwd)
    screen.wait_for("copying definitions")
    screen.wait_for(r"/224")
    screen.wait_for("copied 45 owners")
    screen.read_to_end()
    assert screen.finish() == 0
    done = cli("copy", path, "two.db", check=0)
    assert done.stderr.splitlines()[-1] == b"copied 45 owners: 43 sites and 181 values made"
    assert all(line.startswith(b"made the ") for line in done.stderr.splitlines()[:-1])
    assert done.stdout == b""
