"""Pantheon's secrets.json as a store: what the format can keep it keeps by the contract, the rest it refuses."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ic_secrets.errors import (
    BaseMissingError,
    ConfigError,
    IcSecretsError,
    ImmutableError,
    NoPlaceError,
    StoreBusyError,
    StoreError,
    StoreFormatError,
    StoreMissingError,
    StoreReadError,
    StoreWriteError,
    UndefinedSecretError,
    UnknownSecretError,
    UnknownSiteError,
)
from ic_secrets.model.resolve import resolve
from ic_secrets.model.secret import Owner, Scope, SecretType, SecretValue, Site
from ic_secrets.stores.base import Place, Store, Write
from ic_secrets.stores.embedded import store as local
from ic_secrets.stores.pantheon import file as pantheon_file
from ic_secrets.stores.pantheon.file import PantheonFile
from ic_secrets.stores.registry import open_store
from ic_secrets.testing import (
    BUILD,
    FEATURES,
    ORGANIZATION,
    SITE,
    ReadingContract,
    StoreContract,
    get_base,
    refused,
    set_base,
)
from ic_secrets.transfer.formats import pantheon
from ic_secrets.transfer.merge import add_organizations, read_secrets
from local_stores import KEY, memory_directory

PLATFORM_ID = "9cf2c790-c7b8-4f2f-a6f1-27385b8f958e"
CANARY = "hunter2-canary"


class TestPantheonFile(StoreContract):
    """The contract on a file that is written, which is of one site, and writes nothing of its organization."""

    lacks = frozenset(FEATURES) - {"values"}

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        with pantheon_file.create(f"pantheon-file:{tmp_path}/secrets.json?site=my-site") as store:
            yield store

    def reopen(self, store: Store) -> Store:
        return pantheon_file.open_store(store.url)


class TestExportedFile(ReadingContract):
    """The reading contract on what `export --format pantheon` writes of a site and its organization."""

    lacks = frozenset({"owners", "supporting", "types", "expiry", "versions", "hosts", "identity"})

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        self.path = tmp_path / "secrets.json"
        with memory_directory() as directory, local.create(str(directory / "store.db"), KEY) as store:
            yield store

    def reopen(self, store: Store) -> Store:
        self.path.write_text(export(store))
        organization = next((site.organization for site in store.sites()), None)
        more = f"&org={organization}" if organization else ""
        return pantheon_file.open_store(f"pantheon-file:{self.path}?site=my-site{more}")


def export(store: Store) -> str:
    try:
        owners = add_organizations(store, [SITE])
    except UnknownSiteError:
        return json.dumps(document({}))
    return pantheon.write(read_secrets(store, owners), SITE)[0]


def test_the_contract_leaves_out_what_the_format_lacks_and_no_more() -> None:
    """A test that is left out is one of a feature that is named, and nothing is skipped while it runs."""
    left_out = {name for name in dir(StoreContract) if name.startswith("test_") and not getattr(TestPantheonFile, name)}
    assert "test_a_value_expires_when_it_was_said_to" in left_out
    assert "test_a_value_is_given_back_to_the_byte" not in left_out
    assert all(getattr(StoreContract, name) for name in left_out)


# --- what a file says -----------------------------------------------------------------------------------


def document(secrets: dict[str, Any], site_id: str = PLATFORM_ID, **more: object) -> dict[str, Any]:
    return {"SiteID": site_id, "Secrets": secrets, "Count": len(secrets), "Version": "", "Scopes": ["ic"], **more}


def entry(value: str | None, kind: str = "env", scopes: str = "ic", **more: object) -> dict[str, Any]:
    return {"Type": kind, "Value": value, "Scopes": scopes.split(","), "EnvValues": {}, "OrgValues": {}, **more}


def write(path: Path, content: dict[str, Any]) -> str:
    path.write_text(json.dumps(content))
    return f"pantheon-file:{path}"


def values(store: Store, environment: str = "dev") -> dict[str, str | None]:
    """What a build gets, by name."""
    chain = store.read_chain(SITE, environment=environment, scope=Scope.IC, values=True)
    return {d.name: d.value.reveal() if d.value else None for d in resolve(environment, Scope.IC, chain)}


def test_a_site_inherits_what_the_organization_lends(tmp_path: Path) -> None:
    """Its value, and its overrides; the site's own go first, as on the platform (rule 7)."""
    org_values = {"default": "org", "dev": "org-dev"}
    secrets = {
        "BOTH": entry("site", OrgValues=org_values),
        "LENT": entry(None, OrgValues=org_values),
        "MINE": entry("site", EnvValues={"dev": "site-dev"}),
        "OVER": entry(None, EnvValues={"dev": "site-dev"}, OrgValues=org_values),
        "SPENT": entry("", OrgValues=org_values),
    }
    store = open_store(write(tmp_path / "secrets.json", document(secrets)), list)
    assert values(store) == {
        "BOTH": "site",
        "LENT": "org-dev",
        "MINE": "site-dev",
        "OVER": "site-dev",
        "SPENT": "org-dev",
    }
    assert values(store, "pr-1") == {"BOTH": "site", "LENT": "org", "MINE": "site", "OVER": "org", "SPENT": "org"}


def test_what_the_file_does_not_give_is_not_known(tmp_path: Path) -> None:
    """A null is not an empty value; an organization without a default gives no value."""
    secrets = {"HIDDEN": entry(None), "PART": entry(None, OrgValues={"default": None, "live": "v"})}
    store = open_store(write(tmp_path / "secrets.json", document(secrets)), list)
    assert values(store) == {"HIDDEN": None, "PART": None}


def test_types_and_scopes_that_are_unknown_here_are_named_and_passed_over(tmp_path: Path) -> None:
    secrets = {
        "FILE": entry("v", "file"),
        "VCS": entry("v", "vcs"),
        "OPS": entry("v", "env", "ops"),
        "SOME": entry("v", "env", "ic,ops"),
    }
    store = open_store(write(tmp_path / "secrets.json", document(secrets)), list)
    assert values(store) == {"SOME": "v"}
    assert [notice.partition(" is left out")[0] for notice in store.take_notices()] == [
        "FILE",
        "OPS",
        "the scope 'ops' of SOME",
        "VCS",
    ]
    assert values(store) == {"SOME": "v"}
    assert store.take_notices() == ()


def test_who_the_file_is_of(tmp_path: Path) -> None:
    """The URL's name; else that which its id is made of; else, with an id of the platform's, whoever is asked for."""
    url = write(tmp_path / "platform.json", document({}))
    assert open_store(url, list).site("anything") == Site("anything")
    named = open_store(f"{url}?site=my-site", list)
    assert [site.name for site in named.sites()] == ["my-site"]
    with pytest.raises(UnknownSiteError):
        named.site("my-siet")
    with pantheon_file.create(f"pantheon-file:{tmp_path}/ours.json?site=my-site"):
        ours = open_store(f"pantheon-file:{tmp_path}/ours.json", list)
    assert ours.site("my-site") == Site("my-site")
    with pytest.raises(UnknownSiteError):
        ours.site("my-siet")
    with pytest.raises(UnknownSiteError) as caught:
        list(ours.sites())
    assert "?site=NAME" in caught.value.hint


def test_the_organization_has_the_name_that_the_url_gives_it(tmp_path: Path) -> None:
    """Without one it has the site's name, and is not copied."""
    url = write(tmp_path / "secrets.json", document({"KEY": entry(None, OrgValues={"default": "v"})}))
    named = open_store(f"{url}?site=my-site&org=agency", list)
    assert list(named.owners()) == [SITE, ORGANIZATION]
    assert get_base(named, ORGANIZATION, "KEY").value == SecretValue("v")
    assert named.site("my-site") == Site("my-site", "agency")
    unnamed = open_store(f"{url}?site=my-site", list)
    assert list(unnamed.owners()) == [SITE]
    assert [str(held.owner) for held in unnamed.read_chain(SITE)] == ["my-site", "org:my-site"]


# --- files that are not valid ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"Secrets": 1}',
        '{"Secrets": {"A": 1}}',
        '{"Secrets": {"A": {}, "A": {}}}',
        '{"Secrets": {}, "x": NaN}',
        '{"Secrets": {}, "x": 1e999}',
        "[" * 100_000,
        json.dumps(document({"KEY": entry(None, Value=[CANARY])})),
        json.dumps(document({"KEY": entry(None, EnvValues={CANARY * 2: "v"})})),
        json.dumps(document({"KEY": entry(None, EnvValues=[CANARY])})),
    ],
    ids=lambda text: text[:20],
)
def test_a_file_of_another_shape_is_refused_without_a_word_of_it(text: str, tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text(text)
    with pytest.raises(StoreFormatError) as caught:
        get_base(open_store(f"pantheon-file:{path}", list), SITE, "KEY")
    assert CANARY not in str(caught.value).replace(repr(CANARY * 2), "")


@pytest.mark.parametrize("text", ["\\ud800" + CANARY, CANARY * 2000], ids=["half a character", "too long"])
def test_a_value_that_can_be_none_is_named_and_not_shown(text: str, tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text(json.dumps(document({"KEY": entry("v")})).replace('"v"', f'"{text}"'))
    with pytest.raises(IcSecretsError, match=r"^KEY: ") as caught:
        open_store(f"pantheon-file:{path}", list).read(SITE)
    assert CANARY not in str(caught.value)


def test_a_link_a_pipe_and_nothing_are_no_store(tmp_path: Path) -> None:
    """Nobody is led elsewhere, and nobody waits."""
    url = write(tmp_path / "secrets.json", document({}))
    (tmp_path / "link.json").symlink_to(tmp_path / "secrets.json")
    os.mkfifo(tmp_path / "pipe.json")
    for name, error in (("link", StoreReadError), ("pipe", StoreFormatError), ("none", StoreMissingError)):
        with pytest.raises(error):
            open_store(f"pantheon-file:{tmp_path}/{name}.json", list)
    for bad in ("pantheon-file:", f"{url}?site=a&site=b"):
        with pytest.raises(ConfigError):
            open_store(bad, list)


# --- writing --------------------------------------------------------------------------------------------


def test_what_is_not_known_in_the_file_is_kept(tmp_path: Path) -> None:
    """Other keys, other types and scopes, and whatever the organization lends."""
    secrets = {
        "FILE": entry("v", "file"),
        "KEY": entry("one", "env", "ic,ops", OrgValues={"default": "org"}, Note={"a": [1.5]}),
    }
    url = write(tmp_path / "secrets.json", document(secrets, Extra={"b": None}))
    store = open_store(url, list)
    assert not store.put(Place(SITE, None, "KEY"), Write(SecretValue("two")))
    assert store.put(Place(SITE, "dev", "KEY"), Write(SecretValue("three")))
    assert set_base(store, SITE, "NEW", "four", SecretType.RUNTIME, frozenset({Scope.WEB, Scope.USER}))
    secrets["KEY"] |= {"Value": "two", "EnvValues": {"dev": "three"}}
    secrets["NEW"] = entry("four", "runtime", "web,user")
    expected = document(secrets, Extra={"b": None}) | {"Scopes": ["ic", "ops", "user", "web"]}
    assert json.loads((tmp_path / "secrets.json").read_text()) == expected
    assert store.delete(Place(SITE, None, "KEY")) == 2
    kept = json.loads((tmp_path / "secrets.json").read_text())["Secrets"]["KEY"]
    assert kept == secrets["KEY"] | {"Value": None, "EnvValues": {}}
    assert values(store) == {"KEY": "org"}


def test_the_file_is_private_once_it_is_written(tmp_path: Path) -> None:
    """Terminus leaves it open to others."""
    url = write(tmp_path / "secrets.json", document({}))
    os.chmod(tmp_path / "secrets.json", 0o644)
    set_base(open_store(url, list), SITE, "KEY", "v")
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.json"]


def test_what_the_file_has_no_place_for_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    url = write(
        tmp_path / "secrets.json",
        document({"FILE": entry("v", "file"), "LENT": entry(None, OrgValues={"default": "org"})}),
    )
    before = (tmp_path / "secrets.json").read_bytes()
    store = open_store(f"{url}?site=my-site", list)
    new: Any = {"type": SecretType.ENV, "scopes": BUILD}
    for write_it in (
        lambda: store.put(Place(SITE, None, "KEY"), Write(SecretValue("v"), expires=1_900_000_000, **new)),
        lambda: store.put(Place(Owner("site", "other"), None, "KEY"), Write(SecretValue("v"), **new)),
        lambda: store.put(Place(ORGANIZATION, None, "KEY"), Write(SecretValue("v"), **new)),
        lambda: store.put(Place(SITE, None, "FILE"), Write(SecretValue("v"), **new)),
        lambda: store.put(Place(SITE, None, "LENT"), Write(SecretValue(""), **new)),
        lambda: store.put(Place(SITE, None, "LENT"), Write(SecretValue("v"), type=SecretType.RUNTIME, scopes=BUILD)),
        lambda: store.delete(Place(Owner("organization", "my-site"), None, "LENT")),
        lambda: store.set_site(Site("my-site", None, ("help",))),
        lambda: store.delete_site("my-site"),
    ):
        with pytest.raises(NoPlaceError):
            write_it()
    assert (tmp_path / "secrets.json").read_bytes() == before


def test_the_rules_hold(tmp_path: Path) -> None:
    """Rules 3 and 6, of what the site has and of what it inherits; unknown names do not exist."""
    url = write(
        tmp_path / "secrets.json", document({"KEY": entry("v"), "LENT": entry(None, OrgValues={"default": "o"})})
    )
    store = open_store(url, list)
    with pytest.raises(ImmutableError):
        store.put(Place(SITE, None, "KEY"), Write(SecretValue("w"), type=SecretType.RUNTIME))
    with pytest.raises(UndefinedSecretError):
        store.put(Place(SITE, None, "NEW"), Write(SecretValue("w")))
    with pytest.raises(BaseMissingError):
        store.put(Place(SITE, "dev", "NEW"), Write(SecretValue("w")))
    assert store.put(Place(SITE, "dev", "LENT"), Write(SecretValue("w")))
    assert values(store)["LENT"] == "w"
    with pytest.raises(UnknownSecretError):
        store.delete(Place(SITE, None, "NEW"))
    with pytest.raises(UnknownSecretError):
        store.delete(Place(SITE, "live", "LENT"))
    assert store.delete(Place(SITE, None, "LENT")) == 1
    assert values(store)["LENT"] == "o"


def test_writers_wait_for_each_other(tmp_path: Path) -> None:
    """Each reads what the one before wrote, so that none of forty values is lost."""
    url = write(tmp_path / "secrets.json", document({}))

    def work(first: int) -> None:
        for number in range(first, first + 10):
            set_base(open_store(url, list), SITE, f"KEY_{number}", "v")

    threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 40, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(open_store(url, list).read(SITE).secrets) == 40


def test_what_another_program_wrote_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path / "secrets.json", document({"KEY": entry("mine")}))

    def write_beside_another(store: Store) -> None:
        with store.transaction():
            set_base(store, SITE, "KEY", "ours")
            write(tmp_path / "secrets.json", document({"KEY": entry("theirs")}))

    with open_store(f"{path}?site=my-site", []) as store:
        with pytest.raises(StoreBusyError, match="changed by another program"):
            write_beside_another(store)
        assert values(store) == {"KEY": "theirs"}
        set_base(store, SITE, "KEY", "ours")
        assert values(store) == {"KEY": "ours"}


def test_an_import_of_thousands_takes_seconds(tmp_path: Path) -> None:
    """Each definition costs the same, however many there are; and one that fails takes back itself alone."""
    path = write(tmp_path / "secrets.json", document({}))

    def fail(store: Store) -> None:
        with store.transaction():
            set_base(store, SITE, "KEY_1", "w")
            set_base(store, SITE, "NEW", "w")
            store.delete(Place(SITE, None, "NONE"))

    started = time.monotonic()
    with open_store(f"{path}?site=my-site", []) as store:
        with store.transaction():
            for number in range(2200):
                set_base(store, SITE, f"KEY_{number}", "v")
            with pytest.raises(BaseMissingError):
                store.put(Place(SITE, "dev", "NONE"), Write(SecretValue("v")))
            with pytest.raises(UnknownSecretError):
                fail(store)
        assert values(store) == {f"KEY_{number}": "v" for number in range(2200)}
    assert time.monotonic() - started < 20


def test_a_write_that_fails_leaves_the_file(tmp_path: Path) -> None:
    """Within a transaction too: what was done before in it is undone."""
    url = write(tmp_path / "secrets.json", document({"KEY": entry("one")}))
    store = open_store(url, list)
    with refused(ImmutableError), store.transaction():
        store.put(Place(SITE, None, "KEY"), Write(SecretValue("two")))
        with refused(ZeroDivisionError), store.transaction():
            store.put(Place(SITE, None, "KEY"), Write(SecretValue("three")))
            raise ZeroDivisionError
        assert values(store) == {"KEY": "two"}
        store.put(Place(SITE, None, "KEY"), Write(SecretValue("four"), type=SecretType.RUNTIME))
    assert values(store) == {"KEY": "one"}
    (tmp_path / "secrets.json.new").mkdir()
    with pytest.raises(StoreWriteError):
        store.put(Place(SITE, None, "KEY"), Write(SecretValue("two")))
    assert values(store) == {"KEY": "one"}


def test_a_missing_file_is_made_only_for_a_site_that_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        pantheon_file.create(f"pantheon-file:{tmp_path}/new.json")
    with pantheon_file.create(f"pantheon-file:{tmp_path}/deep/new.json?site=my-site") as store:
        assert isinstance(store, PantheonFile)
        assert stat.S_IMODE((tmp_path / "deep/new.json").stat().st_mode) == 0o600
    with pytest.raises(StoreError):
        pantheon_file.create("pantheon-file:/proc/new.json?site=my-site")


# --- commands -------------------------------------------------------------------------------------------
