"""Composer's methods: what each one sends, gives to git and keeps secret, and that a new one is a single record."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from ic_secrets.composer.credential import Credential, parse_credential, split_secret
from ic_secrets.composer.methods import METHODS, Purpose, check_name, choose_method, map_hosts
from ic_secrets.errors import InvalidNameError
from ic_secrets.model.secret import SecretType

CANARY = "canary-5f1c"


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


# Method, host, content, purpose, the host that is asked, and what it gets.
HEADERS: list[tuple[str, str, Any, Purpose, str, dict[str, str]]] = [
    ("bearer", "a.org", "t", "api", "a.org", {"Authorization": "Bearer t"}),
    ("bearer", "a.org", "t", "git", "a.org", basic("t", "bearer")),
    ("http-basic", "a.org", {"username": "u", "password": "p"}, "api", "a.org", basic("u", "p")),
    ("http-basic", "a.org", {"username": "u", "password": "p"}, "git", "a.org", basic("u", "p")),
    ("github-oauth", "github.com", "t", "api", "api.github.com", {"Authorization": "token t"}),
    ("github-oauth", "github.com", "t", "files", "codeload.github.com", {}),
    ("github-oauth", "github.com", "t", "git", "github.com", basic("t", "x-oauth-basic")),
    ("github-oauth", "git.a.org", "t", "api", "git.a.org", basic("t", "x-oauth-basic")),
    ("gitlab-oauth", "gitlab.com", "t", "api", "gitlab.com", {"Authorization": "Bearer t"}),
    ("gitlab-oauth", "gitlab.com", {"token": "t", "expires-at": 7}, "api", "a.org", {"Authorization": "Bearer t"}),
    ("gitlab-oauth", "gitlab.com", {"token": "t", "expires-at": 7}, "git", "gitlab.com", basic("oauth2", "t")),
    ("gitlab-token", "gitlab.com", "t", "api", "gitlab.com", {"PRIVATE-TOKEN": "t"}),
    ("gitlab-token", "gitlab.com", "t", "git", "gitlab.com", basic("private-token", "t")),
    ("gitlab-token", "a.org", {"username": "u", "token": "t"}, "api", "a.org", basic("u", "t")),
    ("gitlab-token", "a.org", {"username": "u", "token": "t"}, "git", "a.org", basic("u", "t")),
    ("gitlab-token", "a.org", {"username": "gitlab-ci-token", "token": "t"}, "api", "a.org", {"JOB-TOKEN": "t"}),
    (
        "gitlab-token",
        "a.org",
        {"username": "gitlab-ci-token", "token": "t"},
        "git",
        "a.org",
        basic("gitlab-ci-token", "t"),
    ),
    (
        "gitlab-token",
        "a.org",
        {"username": "gitlab+deploy-token-1", "token": "t"},
        "git",
        "a.org",
        basic("gitlab+deploy-token-1", "t"),
    ),
    ("http-basic", "a.org", {"username": "t", "password": "oauth2"}, "git", "a.org", basic("oauth2", "t")),
    ("http-basic", "a.org", {"username": "t", "password": "oauth2"}, "api", "a.org", basic("t", "oauth2")),
    ("http-basic", "a.org", {"username": "oauth2", "password": "t"}, "git", "a.org", basic("oauth2", "t")),
    (
        "http-basic",
        "a.org",
        {"username": "t", "password": "gitlab-ci-token"},
        "git",
        "a.org",
        basic("gitlab-ci-token", "t"),
    ),
    ("http-basic", "dev.azure.com", {"username": "", "password": "t"}, "git", "dev.azure.com", basic("", "t")),
    (
        "http-basic",
        "bitbucket.org",
        {"username": "me@a.org", "password": "ATATT3x"},
        "api",
        "bitbucket.org",
        basic("me@a.org", "ATATT3x"),
    ),
    (
        "http-basic",
        "bitbucket.org",
        {"username": "me@a.org", "password": "ATATT3x"},
        "git",
        "bitbucket.org",
        basic("x-bitbucket-api-token-auth", "ATATT3x"),
    ),
    (
        "http-basic",
        "bitbucket.org",
        {"username": "me", "password": "ATBB3x"},
        "git",
        "bitbucket.org",
        basic("me", "ATBB3x"),
    ),
    ("http-basic", "a.org", {"username": "me", "password": "ATATT3x"}, "git", "a.org", basic("me", "ATATT3x")),
    ("forgejo-token", "codeberg.org", {"username": "u", "token": "t"}, "api", "codeberg.org", basic("u", "t")),
    ("bitbucket-oauth", "a.org", {"consumer-key": "k", "consumer-secret": "s"}, "api", "a.org", basic("k", "s")),
    ("bitbucket-oauth", "a.org", {"consumer-key": "k", "consumer-secret": "s"}, "git", "a.org", {}),
    (
        "bitbucket-oauth",
        "bitbucket.org",
        {"consumer-key": "k", "consumer-secret": "s", "access-token": "t"},
        "api",
        "api.bitbucket.org",
        {"Authorization": "Bearer t"},
    ),
    (
        "bitbucket-oauth",
        "bitbucket.org",
        {"consumer-key": "k", "consumer-secret": "s", "access-token": "t"},
        "git",
        "bitbucket.org",
        basic("x-token-auth", "t"),
    ),
    ("custom-headers", "a.org", ["X-A: 1", "X-B: 2"], "api", "a.org", {"X-A": "1", "X-B": "2"}),
    ("custom-headers", "a.org", ["X-A: 1"], "git", "a.org", {}),
    ("client-certificate", "a.org", {"local_cert": "/c"}, "api", "a.org", {}),
]


@pytest.mark.parametrize(("method", "host", "content", "purpose", "asked", "headers"), HEADERS)
def test_a_credential_is_sent_as_composer_sends_it(
    method: str, host: str, content: Any, purpose: Purpose, asked: str, headers: dict[str, str]
) -> None:
    assert Credential(f"{method}.{host}", method, host, content).make_headers(purpose, asked) == headers


@pytest.mark.parametrize(
    ("method", "path", "query", "is_bare"),
    [
        ("bitbucket-oauth", "/acme/lib/downloads/a.zip", "", True),
        ("bitbucket-oauth", "/acme/lib/get/a.zip", "", False),
        ("http-basic", "/acme/lib/downloads/a.zip", "", False),
        ("http-basic", "/a.zip", "a=b&X-Amz-Signature=0f", True),
        ("http-basic", "/a.zip", "x-goog-signature=0f", True),
        ("http-basic", "/a.zip", "AWSAccessKeyId=k&Expires=1&Signature=0f", True),
        ("http-basic", "/a.zip", "sv=1&se=2&sig=0f", True),
        ("http-basic", "/a.zip", "signature=0f&sig=1", False),
    ],
)
def test_what_is_open_to_all_or_signed_is_asked_without_a_credential(
    method: str, path: str, query: str, is_bare: bool
) -> None:
    assert METHODS[method].is_bare(path, query) is is_bare


def test_every_method_is_named_by_its_record() -> None:
    assert all(name == method.name for name, method in METHODS.items())


@pytest.mark.parametrize("name", ["basic.a.org", "https.a.org", "oauth.github.com"])
def test_a_method_that_composer_does_not_have_is_refused_and_all_are_named(name: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        check_name(SecretType.COMPOSER, name)
    assert all(method in caught.value.hint for method in METHODS)


@pytest.mark.parametrize(
    ("host", "version", "method"),
    [
        ("github.com", (), "github-oauth"),
        ("git.agency.example", (), "github-oauth"),
        ("gitlab.com", (2, 11, 0), "gitlab-token"),
        ("bitbucket.org", (), "bitbucket-oauth"),
        ("codeberg.org", (), "forgejo-token"),
        ("codeberg.org", (2, 5, 5), "http-basic"),
        ("repo.example.org", (), "http-basic"),
    ],
)
def test_the_method_that_composer_expects_for_a_host(host: str, version: tuple[int, ...], method: str) -> None:
    config = {"github-domains": ["github.com", "git.agency.example", 7], "gitlab-domains": "not a list"}
    assert choose_method(host, map_hosts(config), version) == method


@pytest.mark.parametrize(
    ("name", "text", "hidden"),
    [
        ("http-basic.a.org", '{"username": "user", "password": "s3cret-example", "realm": "r3alm-example"}', "user"),
        ("http-basic.a.org", '{"username": "user", "password": {"nested": "s3cret-example"}}', ""),
        ("http-basic.a.org", "user s3cret-example r3alm-example", ""),
        ("custom-headers.a.org", "s3cret-example", ""),
        ("custom-headers.a.org", '{"X-Key": "s3cret-example"}', ""),
        ("github-oauth.github.com", "s3cret-example+/=", ""),
        ("bearer.a.org", '{"token": "s3cret-example"}', ""),
        ("client-certificate.a.org", '{"passphrase": "s3cret-example"}', ""),
        ("bearer.a.org", "", ""),
    ],
)
def test_all_of_a_malformed_credential_is_secret_but_what_is_known_to_be_public(
    name: str, text: str, hidden: str
) -> None:
    """No build gets it, but `mask` and `scan` must not show it either."""
    parts = split_secret(SecretType.COMPOSER, name, text)
    assert ("s3cret-example" in text) == any("s3cret-example" in part for part in parts.texts)
    assert ("r3alm-example" in text) == ("r3alm-example" in parts.texts)
    assert "user" not in parts.texts or not hidden
    assert "s3cret" not in repr(parts)


def test_a_new_method_makes_the_headers_that_its_record_says(monkeypatch: pytest.MonkeyPatch) -> None:
    made = METHODS["bearer"]._replace(name="example-key", headers=lambda content, origin, host: {"X-Key": content})
    monkeypatch.setitem(METHODS, "example-key", made)
    credential = parse_credential("example-key.a.org", CANARY)
    assert credential.make_headers("api", "a.org") == {"X-Key": CANARY}
    assert credential.login == (CANARY, "bearer")


@pytest.mark.parametrize(
    ("name", "text", "pair"),
    [
        ("http-basic.bitbucket.org", "me@a.org ATATT3x-canary", "x-bitbucket-api-token-auth:ATATT3x-canary"),
        ("http-basic.a.org", "a-canary-token oauth2", "oauth2:a-canary-token"),
        ("http-basic.dev.azure.com", '{"username": "", "password": "a-canary"}', ":a-canary"),
    ],
)
def test_what_git_sends_with_another_user_name_is_masked_too(name: str, text: str, pair: str) -> None:
    assert pair in [":".join(each) for each in parse_credential(name, text).parts.pairs]
