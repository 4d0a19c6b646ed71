"""Whole commands on a store that a real OpenBao server holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bao_servers import ROOT, Server, running
from commandline import Cli
from ic_secrets.keys.master import create_key_file
from ic_secrets.model.secret import Override, Secret
from ic_secrets.stores.base import Store
from ic_secrets.stores.embedded import store as local
from ic_secrets.stores.openbao import store as openbao
from ic_secrets.stores.registry import read_variables
from local_stores import CANARY, KEY, OWNERS, dump, make_store, open_for_reading


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def url(server: Server, cli: Cli, tmp_path: Path) -> str:
    """An empty store, which the environment names; and beside it the key of embedded ones."""
    url = server.url(server.mount())
    create_key_file(str(tmp_path / "key"), KEY.format())
    cli.home |= {"IC_SECRETS_STORE": url, "BAO_TOKEN": ROOT, "IC_SECRETS_KEY_FILE": str(tmp_path / "key")}
    return url


def open_bao(url: str) -> openbao.BaoStore:
    environment = {"BAO_TOKEN": ROOT}
    return openbao.open_store(url, read_variables(environment), environment)


def values(store: Store) -> object:
    """What the owners hold, without ids and versions."""
    sites, holdings = dump(store)
    items: list[Secret | Override] = [item for holding in holdings for item in (*holding.secrets, *holding.overrides)]
    held = [
        (item.name, getattr(item, "environment", None), item.type, item.scopes, item.value, item.expires, item.created)
        for item in items
    ]
    return sites, [holding.owner for holding in holdings], held


def test_a_store_is_copied_there_and_back(url: str, cli: Cli, tmp_path: Path) -> None:
    """Nothing is lost or changed on either way; a second copy finds all the same."""
    path = make_store(tmp_path)
    cli("copy", path, url, check=0)
    with open_bao(url) as there, open_for_reading(path) as here:
        assert values(there) == values(here)
    report = json.loads(cli("copy", path, url, "--json", check=0).stdout)
    assert set(report["counts"]) == {"made", "changed", "same", "refused"}
    assert (report["counts"]["made"], report["counts"]["changed"], report["counts"]["refused"]) == (0, 0, 0)

    back = str(tmp_path / "back.db")
    cli("copy", url, back, check=0)
    with local.open_store(back, [KEY], read_only=True) as again, open_for_reading(path) as here:
        assert values(again) == values(here)
    assert len(OWNERS) == 5


def test_the_commands_of_a_day(url: str, cli: Cli) -> None:
    """set, list, explain, plan, run, get, delete, as on the embedded store."""
    cli("site", "set", "my-site", "--org", "agency", check=0)
    words = ("--type", "env", "--scope", "ic,user")
    cli("set", "org:agency", "TOKEN", *words, stdin=f"{CANARY}-1".encode(), check=0)
    cli("set", "my-site.dev", "TOKEN", stdin=f"{CANARY}-2".encode(), check=0)
    assert b"TOKEN" in cli("list", "my-site", check=0).stdout
    assert b"my-site.dev" in cli("explain", "my-site", "TOKEN", check=0).stdout
    cli("plan", "my-site", check=0)
    done = cli("run", "my-site", "--", "sh", "-c", f'test "$TOKEN" = {CANARY}-2 && echo "$TOKEN"', check=0)
    assert done.stdout == b"***\n"
    assert cli("get", "org:agency", "TOKEN", check=0).stdout.strip() == f"{CANARY}-1".encode()
    cli("delete", "my-site.dev", "TOKEN", check=0)
    cli("delete", "org:agency", "TOKEN", check=0)
    assert CANARY.encode() not in cli("list", "my-site", "--json", check=0).stdout


def test_what_only_an_embedded_store_has_is_refused_with_a_reason(url: str, cli: Cli) -> None:
    for words in (["check-store"], ["key", "rotate"]):
        done = cli(*words, check=1)
        assert b"error: " in done.stderr
        assert b"Traceback" not in done.stderr


def test_an_import_is_done_together(url: str, cli: Cli, tmp_path: Path) -> None:
    """From a sealed file of an embedded store, in one transaction."""
    path = make_store(tmp_path)
    sealed = str(tmp_path / "all.sealed")
    cli("export", "--all", "--format", "sealed", "-o", sealed, "--store", path, check=0)
    cli("import", "org:agency", "--format", "sealed", sealed, check=0)
    cli("import", "my-site", "--format", "sealed", sealed, check=0)
    with open_bao(url) as there, open_for_reading(path) as here:
        for owner in (OWNERS[0], OWNERS[3]):
            held = [{item.name: item.value for item in store.read(owner).secrets} for store in (there, here)]
            assert held[0] == held[1]
