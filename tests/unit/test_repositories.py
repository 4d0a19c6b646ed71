"""What composer.json and composer.lock say of where packages come from, whatever shape they have."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, strategies as st

from ic_secrets.composer.foreign_home import find_foreign_home
from ic_secrets.composer.repositories import make_repository, read_sources

REPOSITORIES: dict[str, tuple[dict[str, Any], tuple[str, str, bool]]] = {
    "of Composer": ({"type": "composer", "url": "https://A.Example.org/x"}, ("a.example.org", "http", False)),
    "one with a port": ({"type": "composer", "url": "https://a.org:8443"}, ("a.org:8443", "http", False)),
    "a public one": ({"type": "composer", "url": "https://wpackagist.org"}, ("wpackagist.org", "http", False)),
    "one with a login": ({"type": "composer", "url": "https://u:canary@a.org"}, ("a.org", "http", True)),
    "GitHub": ({"type": "vcs", "url": "https://github.com/a/b"}, ("github.com", "api", False)),
    "git": ({"type": "git", "url": "https://git.example.org/a.git"}, ("git.example.org", "git", False)),
    "a forge by SSH": ({"type": "vcs", "url": "git@github.com:a/b.git"}, ("github.com", "api", False)),
    "git of a forge by SSH": ({"type": "git", "url": "git@github.com:a/b.git"}, ("github.com", "git", False)),
    "Bitbucket by SSH": ({"type": "vcs", "url": "git@bitbucket.org:a/b.git"}, ("bitbucket.org", "git", False)),
    "an ssh: URL of a forge": ({"type": "vcs", "url": "ssh://git@github.com/a/b"}, ("github.com", "ssh", False)),
    "git by SSH": ({"type": "vcs", "url": "git@git.example.org:a/b.git"}, ("git.example.org", "ssh", False)),
    "an ssh: URL": ({"type": "git", "url": "ssh://git@a.org/b"}, ("a.org", "ssh", False)),
    "one with a password": ({"type": "git", "url": "ssh://git:canary@a.org/b"}, ("a.org", "ssh", False)),
    "another protocol": ({"type": "vcs", "url": "svn://u:canary@a.org/b"}, ("", "local", False)),
    "a path": ({"type": "path", "url": "../module"}, ("", "local", False)),
    "an archive": (
        {"type": "package", "package": {"dist": {"url": "https://dl.example.org/x.zip?k=canary"}}},
        ("dl.example.org", "http", False),
    ),
}


@pytest.mark.parametrize("case", REPOSITORIES)
def test_a_repository_is_known_by_host_and_transport(case: str) -> None:
    entry, expected = REPOSITORIES[case]
    manifest = {"repositories": [entry, {"packagist.org": False}]}
    (repository,) = read_sources(manifest, None).repositories
    assert (repository.host, repository.transport, repository.has_login) == expected
    assert "canary" not in repr(repository)


LOGINS = {
    "https://user:pass@a.example.org/x": "https://a.example.org/x",
    "https://canary@a.example.org/x?y": "https://a.example.org/x",
    "https://u:pa@ss@a.example.org/x": "https://a.example.org/x",
    "https://u:pa/ss@a.example.org/x": "https://a.example.org/x",
    "https://u:pa?s#s@a.example.org": "https://a.example.org",
    "https://a.example.org:8443/@scope/x": "https://a.example.org:8443/@scope/x",
    "ssh://deploy:pass@a.example.org/x": "ssh://a.example.org/x",
    "ssh://git@a.example.org/x": "ssh://git@a.example.org/x",
    "deploy:pass@a.example.org:x.git": "a.example.org:x.git",
    "git@a.example.org:x.git": "git@a.example.org:x.git",
    "svn+ssh://u:pa/ss@a.example.org/x": "svn+ssh://a.example.org/x",
    "svn://user@a.example.org/x": "svn://a.example.org/x",
}


@pytest.mark.parametrize("url", LOGINS)
def test_no_login_of_a_url_is_shown(url: str) -> None:
    """However odd the password is; only the user `git` says nothing to anybody."""
    found = read_sources({"repositories": [{"type": "vcs", "url": url}]}, None).repositories
    assert found[0].url == LOGINS[url]


@pytest.mark.parametrize("repositories", [{"packagist.org": False}, [{"packagist.org": False}], [{"packagist": False}]])
def test_packagist_is_there_until_it_is_turned_off(repositories: Any) -> None:
    assert [each.host for each in read_sources({}, None).repositories] == ["repo.packagist.org"]
    assert read_sources({"repositories": repositories}, None).repositories == ()


def test_the_lock_file_names_further_hosts_but_those_of_packagists_packages() -> None:
    dist = {"type": "zip", "url": "https://api.github.com/repos/a/b/zipball/1"}
    public = {"name": "a/b", "dist": dist, "notification-url": "https://packagist.org/downloads/"}
    private = {"name": "c/d", "dist": {"type": "zip", "url": "https://cdn.example.org/d.zip"}}
    lock = {"packages": [public], "packages-dev": [private]}
    sources = read_sources({}, lock)
    assert [(each.kind, each.host) for each in sources.list_all()[1:]] == [("download", "cdn.example.org")]
    assert "github.com" in sources.hosts


KEYS = ["repositories", "type", "url", "package", "packages", "packages-dev", "dist", "source", "name", "config", "x"]
TEXTS = ["composer", "vcs", "package", "https://a.org/x", "git@a.org:b", "https://u:p@a.org", "packagist.org", ""]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS + TEXTS), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(KEYS), JSON), st.none() | st.dictionaries(st.sampled_from(KEYS), JSON))
def test_any_composer_json_and_lock_can_be_read(manifest: dict[str, Any], lock: dict[str, Any] | None) -> None:
    sources = read_sources(manifest, lock)
    assert sources.hosts >= {repository.host for repository in sources.list_all()}


def test_no_part_of_a_password_with_a_raw_at_sign_or_slash_is_shown() -> None:
    chance = random.Random(1)
    words = ["Kq7", "Zx9", "Wv3", "Jj5"]
    separators = ["@", "/", ":", "?", "#", "://", "%40", "//", "@@", "/@"]
    for _ in range(5_000):
        parts = chance.sample(words, chance.randint(1, 4))
        password = parts[0] + "".join(chance.choice(separators) + part for part in parts[1:])
        login = chance.choice(["user:", "first.last:", "oauth2:", ":", ""]) + password
        host = chance.choice(["repo.example.org", "repo.example.org:8443", "localhost:8080", "gitlab"])
        path = chance.choice(["/", "", "/o/r.git", "/@scope/x", "/p@1"])
        url = chance.choice(["https://", "http://", "HTTPS://", "ssh://"]) + f"{login}@{host}{path}"
        for kind in ("composer", "vcs", "git", "download"):
            shown = make_repository(kind, url, ())
            assert not any(word.lower() in f"{shown.url} {shown.host}".lower() for word in words), url


def test_an_at_sign_in_a_path_is_no_login() -> None:
    for url in (
        "https://repo.example.org/@scope/x",
        "https://repo.example.org:8443/@scope/x",
        "https://localhost:8080/@x",
        "https://github.com/o/r/archive/v1@2.zip",
        "../packages@1",
        "C:/packages/x@y",
    ):
        assert make_repository("download", url, ()).url == url


@pytest.mark.parametrize(
    ("manifest", "locked", "expected"),
    [
        ({}, ["magento/composer"], ("magento/composer",)),
        ({"require": {"magento/product-community-edition": "2.4.7"}}, None, ("magento/product-community-edition",)),
        (
            {"scripts": {"deploy": ["@putenv COMPOSER_HOME=var", "@composer install"]}},
            [],
            ("a script of composer.json",),
        ),
        ({"scripts": {"show": "echo COMPOSER_HOME=$COMPOSER_HOME"}}, ["acme/tool"], ()),
        ({"scripts": 7}, [], ()),
    ],
)
def test_what_gives_composer_another_home_is_known(
    manifest: dict[str, Any], locked: list[str] | None, expected: tuple[str, ...]
) -> None:
    lock = None if locked is None else {"packages": [{"name": name} for name in locked]}
    assert find_foreign_home(manifest, read_sources(manifest, lock), ["composer", "install"], "/") == expected
