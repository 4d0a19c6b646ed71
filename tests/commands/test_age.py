"""How old a secret is, and when it ends: said when it is set, shown in lists, warned of by builds."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from commandline import Cli
from ic_secrets.build.secrets import BuildSecret, BuildSecrets
from ic_secrets.core.moments import format_time, parse_expiry
from ic_secrets.core.notices import Notice
from ic_secrets.errors import UsageError
from ic_secrets.keys.sealing import MasterKey
from ic_secrets.model.secret import Owner, Scope, SecretType, SecretValue, Site
from ic_secrets.stores.base import Place, Write
from ic_secrets.stores.embedded import store as local

NOW = 1_800_000_000  # 2027-01-15T08:00:00Z
DAY = 86_400

# --- when a value ends ------------------------------------------------------------------------------

DATES = [
    ("2027-01-15", NOW + 16 * 3600 - 1),
    ("2028-02-29", 1_835_481_599),
    ("2027-01-15T08:00:01Z", NOW + 1),
    ("2027-01-15T08:01", NOW + 60),
    ("2027-01-15 08:01:30", NOW + 90),
    ("2027-01-15T09:00:30+01:00", NOW + 30),
    ("2027-01-15T03:00:30-05:00", NOW + 30),
    ("9999-12-31", 253_402_300_799),
    ("90d", NOW + 90 * DAY),
    ("1.5h", NOW + 5400),
    ("30s", NOW + 30),
]


@pytest.mark.parametrize(("text", "expected"), DATES)
def test_a_date_is_a_day_a_time_or_a_duration(text: str, expected: int) -> None:
    """A day lasts to its end in UTC, and so does a time without a zone."""
    assert parse_expiry(text, NOW) == expected


BAD_DATES = [
    ("2027-01-14", "is in the past"),
    ("2027-01-15T08:00:00Z", "is in the past"),
    ("2027-01-15T08:59:59+01:00", "is in the past"),
    ("0d", "is in the past"),
    ("9999-12-31T23:59:59-01:00", "after the year 9999"),
    ("9" * 400 + "d", "after the year 9999"),
    ("2027-02-29", "not a date"),
    ("2027-1-5", "not a date"),
    ("20270131", "not a date"),
    ("2027", "not a date"),
    ("90", "not a date"),
    ("-5d", "not a date"),
    ("2027-01-31T18", "not a date"),
    ("2027-01-31T25:00", "not a date"),
    ("\u0662027-01-31", "not a date"),
    ("tomorrow", "not a date"),
    ("", "not a date"),
]


@pytest.mark.parametrize(("text", "problem"), BAD_DATES)
def test_what_is_past_or_no_date_is_refused(text: str, problem: str) -> None:
    """A bare number too: it could be a year, or days."""
    with pytest.raises(UsageError, match=problem):
        parse_expiry(text, NOW)


# --- what a build says ------------------------------------------------------------------------------


def make(name: str, expires: int | None, source: str = "my-site") -> BuildSecret:
    return BuildSecret.make(name, SecretType.ENV, SecretValue("value"), source=source, expires=expires)


WARNINGS = [
    (None, None),
    (14 * DAY + 1, None),
    (14 * DAY, "expires in 14 days, at 2027-01-29T08:00:00Z"),
    (2 * DAY - 1, "expires in 47 hours, at 2027-01-17T07:59:59Z"),
    (90, "expires in 90 seconds, at 2027-01-15T08:01:30Z"),
    (0, "expires in 0 seconds, at 2027-01-15T08:00:00Z"),
    (-1, "expired 1 second ago, at 2027-01-15T07:59:59Z"),
    (-3600, "expired 60 minutes ago, at 2027-01-15T07:00:00Z"),
    (-1000 * DAY, "expired 1,000 days ago, at 2024-04-20T08:00:00Z"),
]


@pytest.mark.parametrize(("after", "said"), WARNINGS)
def test_a_build_warns_of_what_has_expired_or_soon_will(after: int | None, said: str | None) -> None:
    """With the command to type; the owner is the one that has the value, an override's with its environment."""
    expires = None if after is None else NOW + after
    secrets = BuildSecrets([make("A", expires), make("B", expires, "my-site.dev")])
    notices = list(secrets.warn_of_expiry(14 * DAY, NOW))
    hint = "`ic-secrets set {} --expires DATE` sets a new value"
    assert notices == (
        [
            Notice(f"A of my-site {said}", hint.format("my-site A")),
            Notice(f"B of my-site.dev {said}", hint.format("my-site.dev B")),
        ]
        if said
        else []
    )


def test_without_a_time_ahead_only_the_expired_are_named() -> None:
    """IC_SECRETS_EXPIRY_WARNING=0."""
    notices = BuildSecrets([make("SOON", NOW + 1), make("PAST", NOW - 1)]).warn_of_expiry(0, NOW)
    assert [notice.text.split()[0] for notice in notices] == ["PAST"]


@pytest.fixture
def aged(cli: Cli, home: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> int:
    """A store whose secrets are of 400, 200, 100 and 0 days ago, some with an end; the present time."""
    cli("init", check=0)
    key = MasterKey.parse((Path(home["XDG_CONFIG_HOME"]) / "ic-secrets" / "key").read_text())
    path = Path(home["XDG_DATA_HOME"]) / "ic-secrets" / "store.db"
    now = int(time.time())
    site, agency = Owner("site", "my-site"), Owner("organization", "agency")
    entries = [
        (400, agency, None, "SHARED", SecretType.ENV, -DAY),
        (400, agency, None, "GONE", SecretType.ENV, None),
        (200, site, None, "TOKEN", SecretType.ENV, None),
        (200, Owner("site", "other-site"), None, "app", SecretType.RUNTIME, None),
        (150, site, "dev", "GONE", None, None),
        (100, site, "dev", "SHARED", None, 5 * DAY),
        (0, site, "multi", "TOKEN", None, 500 * DAY),
    ]
    with local.open_store(str(path), [key]) as store:
        store.set_site(Site("my-site", "agency"))
        store.set_site(Site("empty-site", "agency"))
        for days, owner, environment, name, kind, expires in entries:
            monkeypatch.setattr(time, "time", lambda days=days: now - days * DAY)
            scopes = frozenset({Scope.IC, Scope.USER}) if kind else None
            value = SecretValue(f"canary-{name}-{environment}")
            end = None if expires is None else now + expires
            store.put(Place(owner, environment, name), Write(value, type=kind, scopes=scopes, expires=end))
        store.delete(Place(agency, None, "GONE"))
    monkeypatch.undo()
    return now


def test_an_expired_secret_stops_no_build(cli: Cli, aged: int) -> None:
    """And only what the build gets is warned of: the override for another environment is not."""
    done = cli("run", "my-site.multi", "--leaks", "off", "--", "sh", "-c", "test $SHARED = canary-SHARED-None", check=0)
    assert done.stderr.count(b"warning: SHARED of org:agency expired 24 hours ago") == 1
    assert b"hint: `ic-secrets set org:agency SHARED --expires DATE`" in done.stderr
    assert b"TOKEN" not in done.stderr
    done = cli("run", "my-site.dev", "--leaks", "off", "--", "true", check=0)
    assert b"SHARED of my-site.dev expires in 4 days" in done.stderr


@pytest.mark.parametrize(("setting", "warned"), [("6d", True), ("1h", False), ("0", False), ("600d", True)])
def test_the_time_ahead_is_a_setting(cli: Cli, aged: int, setting: str, warned: bool) -> None:
    """IC_SECRETS_EXPIRY_WARNING."""
    env = {"IC_SECRETS_EXPIRY_WARNING": setting}
    done = cli("run", "my-site.dev", "--leaks", "off", "--", "true", env=env, check=0)
    assert (b"SHARED of my-site.dev expires" in done.stderr) is warned


def test_a_setting_that_is_no_duration_is_named(cli: Cli, aged: int) -> None:
    done = cli("run", "my-site.dev", "--", "true", env={"IC_SECRETS_EXPIRY_WARNING": "soon"}, check=125)
    assert b"error: IC_SECRETS_EXPIRY_WARNING: 'soon' is not a duration" in done.stderr


# --- what lists say ---------------------------------------------------------------------------------


def names(cli: Cli, *words: str) -> list[tuple[str, str | None, str]]:
    """Owner, environment and name of what `list --json` gives, in its order."""
    document = json.loads(cli("list", *words, "--json", check=0).stdout)
    return [(row["owner"], row["environment"], row["name"]) for row in document["secrets"]]


STALE = [
    (("--stale", "1000d"), []),
    (("--stale", "300d"), [("org:agency", None, "SHARED")]),
    (
        ("--stale", "90d"),
        [
            ("org:agency", None, "SHARED"),
            ("my-site", None, "TOKEN"),
            ("other-site", None, "app"),
            ("my-site", "dev", "GONE"),
            ("my-site", "dev", "SHARED"),
        ],
    ),
    (("org:agency", "--stale", "90d"), [("org:agency", None, "SHARED")]),
    (("other-site", "--stale", "90d"), [("other-site", None, "app")]),
    (
        ("my-site", "--stale", "120d"),
        [("org:agency", None, "SHARED"), ("my-site", None, "TOKEN"), ("my-site", "dev", "GONE")],
    ),
    (("my-site.multi", "--stale", "120d"), [("org:agency", None, "SHARED"), ("my-site", None, "TOKEN")]),
    (("empty-site", "--stale", "120d"), [("org:agency", None, "SHARED")]),
]


@pytest.mark.parametrize(("words", "expected"), STALE, ids=lambda words: " ".join(map(str, words))[:30])
def test_stale_finds_what_nobody_has_changed(
    cli: Cli, aged: int, words: tuple[str, ...], expected: list[tuple[str, str | None, str]]
) -> None:
    """Oldest first. Of all owners each value stands once, where it is held; a site also has what it inherits."""
    assert names(cli, *words) == expected


def test_stale_opens_no_value_and_names_the_inert(cli: Cli, aged: int) -> None:
    """GONE lost its base; --show-values has no place here, though the secrets may be read."""
    done = cli("list", "--stale", "90d", check=0)
    assert b"canary" not in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        b"NAME",
        b"SHARED",
        b"TOKEN",
        b"app",
        b"GONE",
        b"SHARED",
    ]
    assert b"my-site.dev (inert)" in done.stdout
    assert b"400 days" in done.stdout
    document = json.loads(cli("list", "--stale", "90d", "--json", check=0).stdout)
    assert [row["name"] for row in document["secrets"] if row["inert"]] == ["GONE"]
    assert {row["value"] for row in document["secrets"]} == {"[REDACTED]"}
    cli("list", "--stale", "90d", "--show-values", check=2)


def test_many_owners_are_all_looked_at(cli: Cli, home: dict[str, str], aged: int) -> None:
    """More than are read at one moment."""
    key = MasterKey.parse((Path(home["XDG_CONFIG_HOME"]) / "ic-secrets" / "key").read_text())
    path = Path(home["XDG_DATA_HOME"]) / "ic-secrets" / "store.db"
    sites = [f"site-{number}" for number in range(250)]
    with local.open_store(str(path), [key]) as store, store.transaction():
        for name in sites:
            value = SecretValue("canary-value")
            store.put(
                Place(Owner("site", name), None, "KEY"), Write(value, type=SecretType.ENV, scopes=frozenset({Scope.IC}))
            )
    time.sleep(1.1)  # times are in whole seconds
    assert {owner for owner, _, name in names(cli, "--stale", "0") if name == "KEY"} == set(sites)


def test_a_list_has_times_and_versions(cli: Cli, aged: int) -> None:
    """In JSON always; as a column only where anything expires, and what has is marked."""
    document = json.loads(cli("list", "my-site", "--json", check=0).stdout)
    rows = {(row["owner"], row["environment"], row["name"]): row for row in document["secrets"]}
    shared = rows["org:agency", None, "SHARED"]
    assert (shared["created"], shared["expires"]) == (format_time(aged - 400 * DAY), format_time(aged - DAY))
    assert (shared["changed"], shared["version"]) == (shared["created"], 1)
    assert rows["my-site", None, "TOKEN"]["expires"] is None
    table = cli("list", "my-site", check=0).stdout.decode().splitlines()
    assert table[0].split()[-1] == "EXPIRES"
    assert [line.split()[0] for line in table if "(expired)" in line] == ["SHARED"]
    assert "EXPIRES" not in cli("list", "other-site", check=0).stdout.decode()
