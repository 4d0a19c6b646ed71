"""Credentials become what Composer takes, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

from ic_secrets.composer.auth_json import check_sections, drop_hosts, merge_auth, move_section, parse_document
from ic_secrets.composer.command import find_project, is_composer
from ic_secrets.composer.credential import parse_credential
from ic_secrets.composer.precedence import find_collisions, find_rivals
from ic_secrets.errors import InvalidValueError, MalformedAuthError
from ic_secrets.model.secret import SecretValue

CANARY = "canary-5f1c"

GOOD: list[tuple[str, str, Any]] = [
    ("http-basic", "user pass", {"username": "user", "password": "pass"}),
    ("http-basic", "  user\tpass\n", {"username": "user", "password": "pass"}),
    ("http-basic", '{"username": "u", "password": "a b"}', {"username": "u", "password": "a b"}),
    ("http-basic", '{"username": "token", "password": ""}', {"username": "token", "password": ""}),
    ("bearer", "token", "token"),
    ("bearer", '"token"', "token"),
    ("github-oauth", "ghs.A_b-9", "ghs.A_b-9"),
    ("gitlab-oauth", "token", "token"),
    ("gitlab-oauth", '{"token": "t", "expires-at": 7}', {"token": "t", "expires-at": 7}),
    ("gitlab-token", "token", "token"),
    ("gitlab-token", "user token", {"username": "user", "token": "token"}),
    ("bitbucket-oauth", "key secret", {"consumer-key": "key", "consumer-secret": "secret"}),
    ("forgejo-token", "user token", {"username": "user", "token": "token"}),
    ("custom-headers", "X-A: b c\nX-D: e", ["X-A: b c", "X-D: e"]),
    ("custom-headers", '["X-A: b"]', ["X-A: b"]),
    ("client-certificate", '{"local_cert": "/a.pem"}', {"local_cert": "/a.pem"}),
    (
        "client-certificate",
        '{"local_cert": "/a.pem", "local_pk": "/a.key", "passphrase": ""}',
        {"local_cert": "/a.pem", "local_pk": "/a.key", "passphrase": ""},
    ),
]

BAD = [
    ("http-basic", CANARY),
    ("http-basic", f"user {CANARY} more"),
    ("http-basic", ""),
    ("http-basic", " \n "),
    ("http-basic", f'{{"username": "{CANARY}"}}'),
    ("http-basic", f'{{"username": "u", "password": "{CANARY}", "realm": "x"}}'),
    ("http-basic", f'{{"username": ["u"], "password": "{CANARY}"}}'),
    ("http-basic", f'{{"username": "u", "password": "{CANARY}\\n"}}'),
    ("http-basic", f'{{"username": "u", "password": "{CANARY}\\ud800"}}'),
    ("http-basic", f'{{"username": "{CANARY}'),
    ("http-basic", f'["{CANARY}"]'),
    ("bearer", f"two {CANARY}"),
    ("bearer", f'{{"token": "{CANARY}"}}'),
    ("bearer", f'"{CANARY}\\r\\nX-Injected: 1"'),
    ("github-oauth", f"{CANARY}+/="),
    ("gitlab-oauth", f"two {CANARY}"),
    ("gitlab-oauth", f'{{"token": "{CANARY}", "expires-at": "soon"}}'),
    ("gitlab-oauth", f'{{"token": "{CANARY}", "expires-at": true}}'),
    ("gitlab-token", f"three words {CANARY}"),
    ("bitbucket-oauth", CANARY),
    ("forgejo-token", CANARY),
    ("custom-headers", CANARY),
    ("custom-headers", f'["{CANARY}"]'),
    ("custom-headers", f'["X-A: {CANARY}\\nX-B: c"]'),
    ("custom-headers", "[]"),
    ("custom-headers", f'{{"X-A": "{CANARY}"}}'),
    ("client-certificate", CANARY),
    ("client-certificate", f'{{"passphrase": "{CANARY}"}}'),
    ("http-basic", "[" * 16_000),
    ("http-basic", "NaN NaN NaN"),
]


@pytest.mark.parametrize(("method", "text", "content"), GOOD)
def test_words_or_json_become_what_auth_json_holds(method: str, text: str, content: Any) -> None:
    credential = parse_credential(f"{method}.repo.example.org:8443", SecretValue(text))
    assert (credential.method, credential.host, credential.content) == (method, "repo.example.org:8443", content)


@pytest.mark.parametrize(("method", "text"), BAD)
def test_any_other_value_is_refused_by_name_and_never_shown(method: str, text: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse_credential(f"{method}.repo.example.org", SecretValue(text))
    told = str(caught.value) + caught.value.hint
    assert f"{method}.repo.example.org" in told
    assert CANARY not in told
    assert "\n" not in told
    assert caught.value.__cause__ is None


def test_a_credential_does_not_show_itself() -> None:
    assert CANARY not in repr(parse_credential("bearer.a.org", SecretValue(CANARY)))


def test_merging_keeps_other_hosts_and_config_keys_and_drops_every_other_method_of_ours() -> None:
    document = {
        "bearer": {"a.org": "stale", "b.org": "kept"},
        "gitlab-token": {"a.org": "stale"},
        "process-timeout": 5,
        "http-basic": {"c.org": {"username": "u", "password": "p"}},
    }
    before = {key: dict(value) if isinstance(value, dict) else value for key, value in document.items()}
    merged = merge_auth(document, [parse_credential("http-basic.a.org", SecretValue("user pass"))])
    assert merged == {
        "bearer": {"b.org": "kept"},
        "process-timeout": 5,
        "http-basic": {
            "c.org": {"username": "u", "password": "p"},
            "a.org": {"username": "user", "password": "pass"},
        },
    }
    assert document == before


def test_an_empty_section_as_php_writes_it_is_filled() -> None:
    merged = merge_auth({"bearer": []}, [parse_credential("bearer.a.org", SecretValue("t"))])
    assert merged == {"bearer": {"a.org": "t"}}


def test_hosts_are_dropped_and_named() -> None:
    assert drop_hosts({"bearer": {"a.org": "x", "b.org": "y"}}, {"a.org", "z.org"}) == (
        {"bearer": {"b.org": "y"}},
        ("a.org",),
    )


def test_headers_of_a_stronger_source_join_ours_instead_of_hiding_them() -> None:
    stronger = {"custom-headers": {"b.org": ["X: b"], "a.org": ["X: theirs"]}, "bearer": {"c.org": "t"}}
    ours = {"custom-headers": {"a.org": ["X: ours"]}}
    move_section(stronger, ours, "custom-headers", {"a.org"})
    assert stronger == {"bearer": {"c.org": "t"}}
    assert ours == {"custom-headers": {"a.org": ["X: ours"], "b.org": ["X: b"]}}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": ', "not valid JSON"),
        ("[1]", "not a JSON object"),
        ('{"a": NaN}', "not valid JSON"),
        ("", "not valid JSON"),
    ],
)
def test_a_malformed_document_is_named_and_not_shown(text: str, problem: str) -> None:
    with pytest.raises(MalformedAuthError, match=problem) as caught:
        parse_document(text, "auth.json")
    assert "auth.json" in str(caught.value)


def test_an_empty_list_is_how_php_writes_an_empty_object() -> None:
    assert parse_document("[]", "auth.json") == {}


def test_a_section_that_is_not_a_map_is_refused() -> None:
    with pytest.raises(MalformedAuthError, match="bearer"):
        check_sections({"bearer": "token"}, "auth.json")


COLLISIONS = [
    ("http-basic", {"http-basic": {"a.org": {}}}, ["http-basic"]),
    ("http-basic", {"bearer": {"a.org": "t"}}, ["bearer"]),
    ("bearer", {"http-basic": {"a.org": {}}}, []),
    ("http-basic", {"http-basic": {"b.org": {}}}, []),
    ("custom-headers", {"custom-headers": {"b.org": []}}, ["custom-headers"]),
    ("http-basic", {"custom-headers": {"b.org": []}}, []),
    ("http-basic", {"bearer": "no map"}, []),
]


@pytest.mark.parametrize(("ours", "theirs", "expected"), COLLISIONS)
def test_what_composer_prefers_to_the_secret_is_found(ours: str, theirs: dict[str, Any], expected: list[str]) -> None:
    text = "X-A: b" if ours == "custom-headers" else "a b" if ours == "http-basic" else "a"
    credential = parse_credential(f"{ours}.a.org", SecretValue(text))
    assert [
        found.method for found in find_collisions(theirs, "auth.json", [credential], {"custom-headers"})
    ] == expected


def test_of_two_secrets_for_one_host_the_one_that_composer_uses_is_known() -> None:
    basic = parse_credential("http-basic.a.org", SecretValue("a b"))
    bearer = parse_credential("bearer.a.org", SecretValue("t"))
    assert find_rivals([bearer, basic]) == (("a.org", "bearer.a.org", "http-basic.a.org"),)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["composer", "install"], "/p"),
        (["composer", "-d", "web", "install"], "/p/web"),
        (["/usr/bin/composer", "install", "-dweb"], "/p/web"),
        (["composer", "--working-dir=web", "install"], "/p/web"),
        (["composer", "install", "--working-dir", "web"], "/p/web"),
        (["composer.phar", "install", "-d"], "/p/."),
        (["php", "composer.phar", "install", "-d", "web"], "/p/web"),
        (["php8.2", "-d", "memory_limit=-1", "-dzend.x=1", "/usr/bin/composer", "-dweb", "install"], "/p/web"),
        (["php", "-f", "/opt/composer-2.8.1.phar", "--", "--working-dir=web"], "/p/web"),
        (["symfony", "composer", "install", "--working-dir", "web"], "/p/web"),
        (["symfony", "php", "bin/composer", "-d", "web"], "/p/web"),
        (["ddev", "composer", "install", "-d", "web"], "/p/web"),
        (["lando", "composer", "--working-dir=web", "install"], "/p/web"),
        (["env", "-u", "X", "COMPOSER_NO_DEV=1", "nice", "-n", "5", "composer", "-d", "web"], "/p/web"),
        (["php", "artisan", "-d", "web"], "/p"),
        (["symfony", "console", "-d", "web"], "/p"),
        (["make", "-d", "web"], "/p"),
        ([], "/p"),
    ],
)
def test_the_project_is_where_composer_is_told_to_work(command: list[str], expected: str) -> None:
    assert find_project(command, "/p") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("composer install", True),
        ("composer2 install", True),
        ("php composer.phar install", True),
        ("./composer.phar update", True),
        ("php -d memory_limit=-1 /usr/bin/composer install", True),
        ("php -c php.ini -n composer install", True),
        ("symfony composer install", True),
        ("ddev composer install", True),
        ("lando composer install", True),
        ("env COMPOSER_NO_DEV=1 composer install", True),
        ("timeout 600 composer install", True),
        ("composer-unused", False),
        ("vendor/bin/composer-require-checker", False),
        ("php -r composer", False),
        ("php", False),
        ("ddev exec composer", False),
        ("make composer", False),
        ("", False),
    ],
)
def test_composer_is_known_through_php_and_the_tools_that_run_it(text: str, expected: bool) -> None:
    assert is_composer(text.split()) is expected
