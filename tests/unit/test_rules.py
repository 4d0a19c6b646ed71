"""The twelve rules of the model, each with a test of its name, on the embedded store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ic_secrets.build.prepare import load, prepare
from ic_secrets.build.request import BuildRequest
from ic_secrets.composer.credential import parse_credential
from ic_secrets.composer.methods import check_name
from ic_secrets.core.notices import Notice
from ic_secrets.errors import (
    BaseMissingError,
    ImmutableError,
    InvalidNameError,
    InvalidValueError,
    UndefinedSecretError,
    UnknownSiteError,
)
from ic_secrets.keys.sealing import MasterKey
from ic_secrets.model.resolve import Verdict, inert_overrides, resolve, trace
from ic_secrets.model.secret import (
    MAX_VALUE_BYTES,
    Owner,
    Scope,
    Scopes,
    SecretType,
    SecretValue,
    Site,
    Target,
    parse_scopes,
    parse_type,
)
from ic_secrets.stores.base import Place, Store, Write
from ic_secrets.stores.embedded import store as local

SITE = Owner.site("my-site")
ORG = Owner.organization("agency")
IC: Scopes = frozenset({Scope.IC})
USER: Scopes = frozenset({Scope.USER})
ENV = SecretType.ENV


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An embedded store with the site `my-site` of the organization `agency`."""
    with local.create(str(tmp_path / "store.db"), MasterKey.generate()) as made:
        made.set_site(Site("my-site", "agency", ("helpers",)))
        yield made


def put(
    store: Store,
    owner: Owner,
    name: str,
    text: str,
    environment: str | None = None,
    scopes: Scopes | None = None,
    kind: SecretType | None = None,
) -> None:
    """Set a value; a base gets the type `env` and the scope `ic` unless others are named."""
    if environment is None:
        kind, scopes = kind or ENV, scopes or IC
    store.put(Place(owner, environment, name), Write(SecretValue(text), type=kind, scopes=scopes))


def won(store: Store, environment: str = "dev", scope: Scope = Scope.IC) -> dict[str, str]:
    """What `my-site` resolves to: values by name."""
    chain = store.read_chain(SITE, environment=environment, scope=scope, values=True)
    return {d.name: d.value.reveal() for d in resolve(environment, scope, chain) if d.value}


def test_rule_1_a_secret_has_one_of_three_types() -> None:
    assert [parse_type(word) for word in ("runtime", "env", "composer")] == list(SecretType)
    for word in ("", "Env", "file", "env,composer"):
        with pytest.raises(InvalidNameError):
            parse_type(word)


def test_rule_2_a_secret_has_one_scope_or_more() -> None:
    assert parse_scopes("user,ic") == {Scope.IC, Scope.USER}
    for words in ("", ",", "ops", "ic,ops", "IC"):
        with pytest.raises(InvalidNameError):
            parse_scopes(words)


def test_rule_3_type_and_scopes_never_change(store: Store) -> None:
    with pytest.raises(UndefinedSecretError):
        store.put(Place(SITE, None, "TOKEN"), Write(SecretValue("v")))
    put(store, SITE, "TOKEN", "one")
    store.put(Place(SITE, None, "TOKEN"), Write(SecretValue("two")))
    store.put(Place(SITE, None, "TOKEN"), Write(SecretValue("three"), type=ENV, scopes=IC))
    with pytest.raises(ImmutableError, match="type env, not runtime"):
        store.put(Place(SITE, None, "TOKEN"), Write(SecretValue("four"), type=SecretType.RUNTIME, scopes=IC))
    with pytest.raises(ImmutableError, match="scopes ic, not user"):
        store.put(Place(SITE, None, "TOKEN"), Write(SecretValue("four"), scopes=USER))
    assert won(store) == {"TOKEN": "three"}
    store.delete(Place(SITE, None, "TOKEN"))
    put(store, SITE, "TOKEN", "five", kind=SecretType.RUNTIME, scopes=USER)
    assert won(store, scope=Scope.USER) == {"TOKEN": "five"}


def test_rule_4_a_value_has_at_most_16384_bytes_of_utf8() -> None:
    assert MAX_VALUE_BYTES == 16_384
    SecretValue("x" * 16_384)
    SecretValue("é" * 8_192)
    for text in ("x" * 16_385, "é" * 8_192 + "x", "\ud800"):
        with pytest.raises(InvalidValueError):
            SecretValue(text)
    for data in (b"\xff\xfe", b"x" * 16_385):
        with pytest.raises(InvalidValueError):
            SecretValue.from_bytes(data)


def test_rule_5_only_the_primary_organizations_secrets_reach_a_site(store: Store) -> None:
    put(store, ORG, "FROM_PRIMARY", "p")
    put(store, Owner.organization("helpers"), "FROM_SUPPORTING", "s")
    assert won(store) == {"FROM_PRIMARY": "p"}
    store.set_site(Site("my-site", None, ("agency", "helpers")))
    assert won(store) == {}


def test_rule_6_an_override_needs_a_base_and_belongs_to_that_very_one(store: Store) -> None:
    with pytest.raises(BaseMissingError):
        put(store, SITE, "TOKEN", "v", "dev")
    put(store, ORG, "TOKEN", "base")
    put(store, SITE, "TOKEN", "override", "dev")
    with pytest.raises(ImmutableError):
        put(store, SITE, "TOKEN", "override", "dev", kind=SecretType.RUNTIME)
    assert (won(store), won(store, "multi")) == ({"TOKEN": "override"}, {"TOKEN": "base"})
    # A site base made later beside the override must have its type and scopes.
    with pytest.raises(ImmutableError):
        put(store, SITE, "TOKEN", "site", scopes=USER)
    put(store, SITE, "TOKEN", "site")
    assert (won(store), won(store, "multi")) == ({"TOKEN": "override"}, {"TOKEN": "site"})


def test_rule_6_an_override_whose_base_is_gone_is_inert_and_never_revived(store: Store) -> None:
    put(store, ORG, "TOKEN", "base")
    put(store, SITE, "TOKEN", "override", "dev")
    store.delete(Place(ORG, None, "TOKEN"))
    assert won(store) == {}
    put(store, ORG, "TOKEN", "another")
    assert won(store) == {"TOKEN": "another"}
    chain = store.read_chain(SITE)
    assert [override.environment for override in inert_overrides(chain)] == ["dev"]
    notices: list[Notice] = []
    load(store, Target("my-site"), notices.append)
    assert "my-site.dev TOKEN is not used" in notices[0].text
    put(store, SITE, "TOKEN", "set again", "dev")
    assert won(store) == {"TOKEN": "set again"}


def test_rule_6_another_organizations_base_does_not_revive_an_override(store: Store) -> None:
    put(store, ORG, "TOKEN", "base")
    put(store, SITE, "TOKEN", "override", "dev")
    put(store, Owner.organization("buyer"), "TOKEN", "buyer's")
    store.set_site(Site("my-site", "buyer"))
    assert won(store) == {"TOKEN": "buyer's"}


def test_rule_7_each_owners_secrets_are_filtered_by_scope_first(store: Store) -> None:
    put(store, ORG, "TOKEN", "org")
    put(store, SITE, "TOKEN", "site", scopes=USER)
    assert won(store) == {"TOKEN": "org"}
    assert won(store, scope=Scope.USER) == {"TOKEN": "site"}


def test_rule_7_then_the_override_replaces_its_base_then_site_beats_organization(store: Store) -> None:
    put(store, ORG, "TOKEN", "org")
    put(store, ORG, "TOKEN", "org dev", "dev")
    assert (won(store), won(store, "multi")) == ({"TOKEN": "org dev"}, {"TOKEN": "org"})
    put(store, SITE, "TOKEN", "site")
    assert won(store) == {"TOKEN": "site"}, "an organization's override never beats a site's base"
    put(store, SITE, "TOKEN", "site dev", "dev")
    assert (won(store), won(store, "multi")) == ({"TOKEN": "site dev"}, {"TOKEN": "site"})
    store.delete(Place(SITE, None, "TOKEN"))
    assert won(store) == {"TOKEN": "org dev"}, "deleting the site's value brings the organization's back"


def test_rule_7_every_definition_has_a_verdict(store: Store) -> None:
    put(store, ORG, "TOKEN", "org")
    put(store, ORG, "TOKEN", "org dev", "dev")
    put(store, SITE, "TOKEN", "site")
    put(store, SITE, "TOKEN", "site multi", "multi")
    put(store, SITE, "OTHER", "x", scopes=USER)
    traced = trace("dev", Scope.IC, store.read_chain(SITE))
    assert [(d.source, d.verdict) for d in traced["TOKEN"]] == [
        ("org:agency", Verdict.OVERRIDDEN),
        ("org:agency.dev", Verdict.SHADOWED),
        ("my-site", Verdict.WON),
        ("my-site.multi", Verdict.OTHER_ENVIRONMENT),
    ]
    assert [d.verdict for d in traced["OTHER"]] == [Verdict.OUT_OF_SCOPE]


def test_rule_8_a_build_reads_scope_ic_and_runtime_secrets_go_nowhere(store: Store, tmp_path: Path) -> None:
    put(store, SITE, "TOKEN", "token")
    put(store, SITE, "HIDDEN", "hidden", scopes=frozenset({Scope.WEB, Scope.USER}))
    put(store, SITE, "app", "app", kind=SecretType.RUNTIME)
    put(store, SITE, "bearer.a.org", "bearer", kind=SecretType.COMPOSER)
    request = BuildRequest(
        Target("my-site"), ("true",), str(tmp_path), {"PATH": "/bin:/usr/bin", "HOME": str(tmp_path)}
    )
    prepared = prepare(store, request, lambda notice: None)
    assert prepared.environment["TOKEN"] == "token"
    assert prepared.environment.keys() == {"PATH", "HOME", "TOKEN"}
    assert prepared.auth == {"bearer": {"a.org": "bearer"}}


# Rule 9, reading back, is the command line's: tests/scenarios/rule-9-reading-back.txt.

NAMES = [
    (ENV, ["TOKEN", "_x", "a1"], ["1A", "A-B", "A.B", "", "É", "A B", "A=B", "A\n"]),
    (
        SecretType.COMPOSER,
        ["github-oauth.github.com", "http-basic.repo.example.org:8443", "bearer.localhost", "bearer.[::1]:80"],
        [
            "http-basic",
            "http-basic.",
            "HTTP-BASIC.a.org",
            "basic.a.org",
            "http-basic.https://a.org",
            "http-basic.a.org/x",
            "http-basic.A.org",
            "http-basic.a.org:",
            "http-basic.a..org",
            "http-basic.a.org\n",
        ],
    ),
    (SecretType.RUNTIME, ["a", "A.b-c_9", "x" * 128], ["", "x" * 129, "a b", "a/b", "é", "a\n"]),
]


@pytest.mark.parametrize(("kind", "good", "bad"), NAMES)
def test_rule_10_a_name_follows_the_grammar_of_its_type(kind: SecretType, good: list[str], bad: list[str]) -> None:
    for name in good:
        assert check_name(kind, name) == name
    for name in bad:
        with pytest.raises(InvalidNameError):
            check_name(kind, name)


def test_rule_11_a_composer_value_is_words_or_json() -> None:
    words = parse_credential("http-basic.a.org", SecretValue("user pass"))
    assert words.content == {"username": "user", "password": "pass"}
    spaces = parse_credential("http-basic.a.org", SecretValue('{"username": "user", "password": "with space"}'))
    assert spaces.content == {"username": "user", "password": "with space"}
    with pytest.raises(InvalidValueError):
        parse_credential("http-basic.a.org", SecretValue("user with space"))


@pytest.mark.parametrize(("environment", "warned"), [("dev", False), ("multi", False), ("test", True), ("live", True)])
def test_rule_12_a_build_for_test_or_live_warns(store: Store, tmp_path: Path, environment: str, warned: bool) -> None:
    notices: list[Notice] = []
    request = BuildRequest(Target("my-site", environment), ("true",), str(tmp_path), {"PATH": "/bin:/usr/bin"})
    prepare(store, request, notices.append)
    assert any("never built" in notice.text for notice in notices) is warned


def test_a_site_that_is_not_known_is_an_error_and_the_first_base_makes_it(store: Store) -> None:
    with pytest.raises(UnknownSiteError):
        load(store, Target("typo"), lambda notice: None)
    put(store, Owner.site("new"), "TOKEN", "v")
    assert [d.name for d in load(store, Target("new"), lambda notice: None).definitions] == ["TOKEN"]
