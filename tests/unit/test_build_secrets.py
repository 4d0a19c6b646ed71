"""The list of a build's secrets: what is parsed, and what each question to it answers."""

from __future__ import annotations

import pytest

from ic_secrets.build.secrets import BuildSecret, BuildSecrets
from ic_secrets.composer.project import Project
from ic_secrets.composer.version import InstalledComposer
from ic_secrets.core.collector import ErrorCollector
from ic_secrets.errors import BuildError, InvalidValueError, MalformedAuthError, ReservedNameError
from ic_secrets.model.resolve import Definition, Verdict
from ic_secrets.model.secret import Owner, Scope, SecretType, SecretValue

ENV, COMPOSER = SecretType.ENV, SecretType.COMPOSER
BASIC = "http-basic.repo.example.org"
BEARER = "bearer.repo.example.org"
HEADERS = "custom-headers.repo.example.org"


class Composer(InstalledComposer):
    """A Composer of that version, which is not started for it."""

    def __init__(self, version: str | None) -> None:
        super().__init__({}, "/")
        self._is_asked, self._version = True, version


def define(name: str, kind: SecretType, text: str | None) -> Definition:
    value = None if text is None else SecretValue(text)
    owner, scopes = Owner.site("my-site"), frozenset({Scope.IC})
    return Definition(owner, None, name, kind, scopes, value, 1, 0, 0, None, Verdict.WON)


def make(*secrets: tuple[str, SecretType, str]) -> BuildSecrets:
    return BuildSecrets(
        BuildSecret.make(name, kind, SecretValue(text), source="my-site") for name, kind, text in secrets
    )


WRONG = {
    "no value": (define("TOKEN", ENV, None), BuildError, "the store does not give the value of TOKEN"),
    "a reserved name": (define("LD_PRELOAD", ENV, "x"), ReservedNameError, "LD_PRELOAD"),
    "a NUL": (define("TOKEN", ENV, "a-canary\0"), InvalidValueError, "TOKEN contains a NUL"),
    "a COMPOSER_AUTH that is not JSON": (
        define("COMPOSER_AUTH", ENV, '{"bearer": {"a.org": "a-canary"'),
        MalformedAuthError,
        "COMPOSER_AUTH is not valid JSON",
    ),
    "a COMPOSER_AUTH without hosts": (
        define("COMPOSER_AUTH", ENV, '{"http-basic": {"username": "deploy", "password": "a-canary"}}'),
        MalformedAuthError,
        "COMPOSER_AUTH: http-basic does not map hosts to username and password",
    ),
    "a COMPOSER_AUTH with a token that Composer dies of": (
        define("COMPOSER_AUTH", ENV, '{"github-oauth": {"github.com": "a canary"}}'),
        MalformedAuthError,
        "COMPOSER_AUTH: github-oauth does not map hosts to token",
    ),
    "no credential": (define(BASIC, COMPOSER, "a-canary"), InvalidValueError, BASIC),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_reach_a_build_is_an_error_or_is_collected(wrong: str) -> None:
    definition, error, text = WRONG[wrong]
    with pytest.raises(error, match=text) as caught:
        BuildSecrets.parse([definition])
    assert "canary" not in str(caught.value)
    collector = ErrorCollector()
    secrets = BuildSecrets.parse([definition, define("OTHER", ENV, "value")], collector)
    assert ([secret.name for secret in secrets], len(collector.errors)) == (["OTHER"], 1)


def test_a_fault_of_ours_is_not_collected() -> None:
    with pytest.raises(ZeroDivisionError), ErrorCollector():
        print(1 / 0)


def test_it_shows_names_alone() -> None:
    assert repr(make(("TOKEN", ENV, "a-canary"), (BASIC, COMPOSER, "deploy a-canary"))) == (
        f"(BuildSecret(TOKEN), BuildSecret({BASIC}))"
    )


def test_each_secret_is_found_as_what_it_is_to_the_build() -> None:
    secrets = make(
        (BASIC, COMPOSER, "deploy a-password"), ("bitbucket-oauth.bitbucket.org", COMPOSER, "a b"), ("T", ENV, "t")
    )
    assert [credential.name for credential in secrets.credentials] == [BASIC, "bitbucket-oauth.bitbucket.org"]
    assert secrets.variables == [("T", SecretValue("t"))]
    assert secrets.hosts == {"repo.example.org", "bitbucket.org"}
    assert [(login.host, login.username) for login in secrets.logins] == [("repo.example.org", "deploy")]
    assert secrets.minting_hosts == ("bitbucket.org",)
    assert secrets.hide_values("a-password of t") == "*** of t"
    assert secrets.get_matcher() is secrets.get_matcher()


def test_values_that_are_short_or_common_are_warned_of() -> None:
    secrets = make(("SHORT", ENV, "abc"), ("COMMON", ENV, "password"), ("GOOD", ENV, "a-good-value"))
    assert [notice.text.split()[0] for notice in secrets.warn_of_values()] == ["SHORT", "COMMON"]


@pytest.mark.parametrize(("version", "said"), [("2.5.5", True), ("2.9.0", False), (None, False)])
def test_a_method_that_composer_ignores_is_warned_of(version: str | None, said: bool) -> None:
    texts = [notice.text for notice in make((HEADERS, COMPOSER, "X-Key: value")).warn_of_methods(Composer(version))]
    assert texts == [f"{HEADERS}: Composer 2.5.5 ignores custom-headers, which needs 2.9 or newer"] * said


@pytest.mark.parametrize(("version", "said"), [("2.5.5", False), ("2.9.0", True)])
def test_of_two_credentials_for_a_host_the_unused_one_is_named(version: str, said: bool) -> None:
    """One that Composer ignores is not a rival."""
    secrets = make((BASIC, COMPOSER, "deploy word"), (HEADERS, COMPOSER, "X-Key: value"))
    texts = [notice.text for notice in secrets.warn_of_rivals(Composer(version))]
    assert (
        texts == [f"{HEADERS} and {BASIC} are for the same host, repo.example.org: Composer uses only {HEADERS}"] * said
    )


@pytest.mark.parametrize(
    ("theirs", "version", "said"),
    [
        ({"bearer": {"repo.example.org": "x"}}, "2.5.5", ["bearer"]),
        ({"bearer": {"other.example.org": "x"}}, "2.5.5", []),
        ({"custom-headers": {"repo.example.org": ["A: b"]}}, "2.5.5", []),
        ({"custom-headers": {"repo.example.org": ["A: b"]}}, "2.9.0", ["custom-headers"]),
    ],
    ids=["stronger", "another host", "ignored", "known"],
)
@pytest.mark.parametrize("place", ["auth.json", "composer.json"])
def test_a_credential_of_the_project_that_composer_prefers_is_named(
    theirs: dict[str, object], version: str, said: list[str], place: str
) -> None:
    project = Project("/p", "/p/auth.json", "/p/composer.json", config=theirs if place == "composer.json" else {})
    auth = theirs if place == "auth.json" else {}
    notices = make((BASIC, COMPOSER, "deploy word")).warn_of_collisions(project, auth, Composer(version))
    assert [notice.text for notice in notices] == [
        f"/p/{place} has its own {method} for repo.example.org, which Composer prefers to the secret" for method in said
    ]


@pytest.mark.parametrize(("version", "said"), [("2.10.0", True), ("2.11.0", False)])
def test_headers_for_another_host_collide_where_composer_does_not_merge_them(version: str, said: bool) -> None:
    theirs = {"custom-headers": {"other.example.org": ["A: b"]}}
    secrets = make((HEADERS, COMPOSER, "X-Key: value"))
    assert bool(list(secrets.warn_of_collisions(Project("/p"), theirs, Composer(version)))) is said


def test_composer_auth_as_a_variable_is_credentials_and_what_else_it_sets() -> None:
    text = (
        '{"http-basic": {"a.org": {"username": "deploy", "password": "a-canary"},'
        ' "b.org": {"username": "", "password": ""}},'
        ' "github-oauth": {"github.com": "a-github-token"}, "github-protocols": ["https"]}'
    )
    secrets = make(("COMPOSER_AUTH", ENV, text), ("bearer.a.org", COMPOSER, "a-bearer-token"))
    assert secrets.variables == []
    assert [each.name for each in secrets.credentials] == ["bearer.a.org", "github-oauth.github.com"]
    assert secrets.settings == {"github-protocols": ["https"]}
    assert [notice.text for notice in secrets.warn_of_repeats()] == [
        "COMPOSER_AUTH also has a credential for a.org; bearer.a.org is used instead"
    ]
    assert secrets.hide_values("a-canary a-github-token deploy https") == "*** *** deploy https"
    assert secrets.without_variable().hosts == {"a.org"}
