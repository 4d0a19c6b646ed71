"""What two stores hold differently: every kind of drift is named, no value is, and nothing is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bao_servers import ROOT, Server, running
from commandline import Cli
from ic_secrets.keys.master import create_key_file
from ic_secrets.model.secret import Owner, Scope, SecretType, SecretValue, Site
from ic_secrets.stores.base import Place, Store, Write
from ic_secrets.stores.embedded import store as local
from local_stores import CANARY, KEY, make_store

SITE, AGENCY = Owner("site", "my-site"), Owner("organization", "agency")
IC, SHOWN = frozenset({Scope.IC}), frozenset({Scope.IC, Scope.USER})
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "diff.schema.json").read_text())
MIRRORED = {"only_in_a": "only_in_b", "only_in_b": "only_in_a"}


@pytest.fixture
def pair(cli: Cli, tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """Two embedded stores, a.db and b.db, with one key."""
    create_key_file(str(tmp_path / "key"), KEY.format())
    cli.home["IC_SECRETS_KEY_FILE"] = str(tmp_path / "key")
    with local.create(str(cli.cwd / "a.db"), KEY) as a, local.create(str(cli.cwd / "b.db"), KEY) as b:
        for store in (a, b):
            store.set_site(Site("my-site", "agency"))
            put(store, AGENCY, "LENT", "same")
        yield a, b


def put(store: Store, owner: Owner, name: str, text: str, **more: Any) -> None:
    given = {"type": SecretType.ENV, "scopes": IC, **more}
    store.put(Place(owner, None, name), Write(SecretValue(f"{CANARY}-{text}"), **given))


def run_json(cli: Cli, a: str, b: str, *words: str) -> dict[str, Any]:
    done = cli("diff", a, b, *words, "--json")
    found: dict[str, Any] = json.loads(done.stdout)
    jsonschema.validate(found, SCHEMA)
    assert CANARY.encode() not in done.stdout + done.stderr
    assert done.returncode == (0 if found["same"] else 1)
    return found


def describe(found: dict[str, Any]) -> dict[str, list[str]]:
    """The drift of each place, and its aspects."""
    return {
        f"{each['owner']}{'.' + each['environment'] if each['environment'] else ''} {each['name']}": [
            each["drift"],
            *(aspect["aspect"] for aspect in each["aspects"]),
        ]
        for each in found["differences"]
    }


def test_each_kind_of_drift_is_named(pair: tuple[Store, Store], cli: Cli) -> None:
    """Of a site, a base and an override; and the same the other way round."""
    a, b = pair
    put(a, SITE, "VALUE", "one")
    put(b, SITE, "VALUE", "another")
    put(a, SITE, "TYPE", "same")
    put(b, SITE, "TYPE", "same", type=SecretType.RUNTIME)
    put(a, SITE, "SCOPES", "same")
    put(b, SITE, "SCOPES", "same", scopes=SHOWN)
    put(a, SITE, "EXPIRES", "same", expires=1_900_000_000)
    put(b, SITE, "EXPIRES", "same")
    put(a, SITE, "MINE", "one")
    put(b, AGENCY, "OTHERS", "one")
    a.put(Place(SITE, "dev", "LENT"), Write(SecretValue(f"{CANARY}-dev")))
    put(b, SITE, "LENT", "own")
    b.put(Place(SITE, "dev", "LENT"), Write(SecretValue(f"{CANARY}-dev")))
    b.set_site(Site("my-site", "agency", ("help",)))
    found = run_json(cli, "a.db", "b.db")
    assert describe(found) == {
        "org:agency OTHERS": ["only_in_b"],
        "my-site None": ["differing", "supporting"],
        "my-site EXPIRES": ["differing", "expires"],
        "my-site LENT": ["only_in_b"],
        "my-site.dev LENT": ["differing", "base"],
        "my-site MINE": ["only_in_a"],
        "my-site SCOPES": ["differing", "scopes"],
        "my-site TYPE": ["differing", "type"],
        "my-site VALUE": ["differing", "value"],
    }
    back = run_json(cli, "b.db", "a.db")
    assert describe(back) == {
        place: [MIRRORED.get(drift, drift), *aspects] for place, (drift, *aspects) in describe(found).items()
    }
    text = cli("diff", "a.db", "b.db", check=1)
    assert CANARY.encode() not in text.stdout + text.stderr
    assert describe(run_json(cli, "a.db", "b.db", "org:agency")) == {"org:agency OTHERS": ["only_in_b"]}


def test_nothing_is_written(pair: tuple[Store, Store], cli: Cli) -> None:
    put(pair[0], SITE, "MINE", "one")

    def look() -> dict[Path, bytes]:
        return {path: hashlib.sha256(path.read_bytes()).digest() for path in cli.cwd.iterdir() if path.is_file()}

    before = look()
    cli("diff", "a.db", "b.db", check=1)
    assert look() == before


def test_what_a_store_gives_no_value_of_is_never_the_same(pair: tuple[Store, Store], cli: Cli) -> None:
    """A file of the platform's withholds values without the scope `user`: that alone is trouble, not drift."""
    put(pair[0], SITE, "TOKEN", "one")
    secret = {"Type": "env", "Value": None, "Scopes": ["ic"], "EnvValues": {}, "OrgValues": {}}
    document = {"SiteID": "11111111-1111-4111-8111-111111111111", "Secrets": {"TOKEN": secret}, "Count": 1}
    (cli.cwd / "secrets.json").write_text(json.dumps(document))
    (cli.cwd / "secrets.json").chmod(0o600)
    done = cli("diff", "a.db", "pantheon-file:secrets.json?site=my-site", "my-site")
    assert (done.returncode, b"value unknown" in done.stdout) == (2, True), done.stdout + done.stderr
    secret["Value"] = f"{CANARY}-one"
    (cli.cwd / "secrets.json").write_text(json.dumps(document))
    cli("diff", "a.db", "pantheon-file:secrets.json?site=my-site", check=0)


@pytest.mark.parametrize("words", [("absent.db",), ("b.db", "mistyped"), ("b.db", "my-site.dev"), ("nothing:x",), ()])
def test_trouble_is_told_apart_from_drift(pair: tuple[Store, Store], cli: Cli, words: tuple[str, ...]) -> None:
    done = cli("diff", "a.db", *words, check=2)
    assert done.stdout == b""
    assert b"error: " in done.stderr


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as server:
        yield server


def test_stores_of_every_kind_are_the_same_after_a_copy(server: Server, cli: Cli, tmp_path: Path) -> None:
    """On a server and in a sealed file; until one value changes."""
    create_key_file(str(tmp_path / "key"), KEY.format())
    path, url, sealed = make_store(tmp_path), server.url(server.mount()), str(tmp_path / "all.sealed")
    cli.home |= {"IC_SECRETS_KEY_FILE": str(tmp_path / "key"), "BAO_TOKEN": ROOT}
    cli("copy", path, url, check=0)
    cli("export", "--all", "--format", "sealed", "-o", sealed, "--store", path, check=0)
    for other in (url, f"sealed:{sealed}"):
        assert run_json(cli, path, other)["same"]
        assert run_json(cli, other, path)["same"]
    cli("set", "my-site", "NEW", "--type", "env", "--scope", "ic", "--store", url, stdin=CANARY.encode(), check=0)
    assert describe(run_json(cli, path, url)) == {"my-site NEW": ["only_in_b"]}
