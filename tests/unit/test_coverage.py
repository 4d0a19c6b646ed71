"""What a project needs is matched with what it has, and what is missing is said with what to type."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ic_secrets.composer.precedence import Winner
from ic_secrets.composer.repositories import (
    Answer,
    Circumstances,
    Need,
    Repository,
    cover,
    find_faults,
    find_unneeded,
    learn,
    list_hosts,
    list_repositories,
)
from ic_secrets.model.resolve import Definition, Verdict
from ic_secrets.model.secret import Owner, Scope, SecretType, Target

BUILD = frozenset({Scope.IC})
BASIC = "http-basic.repo.example.org"


def define(
    name: str, kind: SecretType = SecretType.COMPOSER, verdict: Verdict = Verdict.WON, scopes: frozenset[Scope] = BUILD
) -> Definition:
    return Definition(Owner.site("my-site"), None, name, kind, scopes, None, 1, 0, 0, None, verdict)


def circumstances(*definitions: Definition, **others: Any) -> Circumstances:
    used = {d.name for d in definitions if d.verdict is Verdict.WON and d.type is SecretType.COMPOSER}
    winners = {}
    for name in used:
        method, _, host = name.partition(".")
        winners[host] = Winner(host, method, name)
    at = Circumstances(Target.parse("my-site.dev"), winners, {}, used, definitions, {}, (2, 5, 5), True)
    return at._replace(**others)


REPOSITORIES: dict[str, tuple[dict[str, Any], tuple[str, str, str]]] = {
    "of Composer": ({"type": "composer", "url": "https://A.Example.org/x"}, ("a.example.org", "http", "missing")),
    "one with a port": ({"type": "composer", "url": "https://a.org:8443"}, ("a.org:8443", "http", "missing")),
    "a public one": ({"type": "composer", "url": "https://wpackagist.org"}, ("wpackagist.org", "http", "public")),
    "one with a login": ({"type": "composer", "url": "https://u:canary@a.org"}, ("a.org", "http", "own")),
    "GitHub": ({"type": "vcs", "url": "https://github.com/a/b"}, ("github.com", "api", "unknown")),
    "git": ({"type": "git", "url": "https://git.example.org/a.git"}, ("git.example.org", "git", "missing")),
    "git by SSH": ({"type": "vcs", "url": "git@github.com:a/b.git"}, ("github.com", "ssh", "ssh")),
    "an ssh: URL": ({"type": "git", "url": "ssh://git@a.org/b"}, ("a.org", "ssh", "ssh")),
    "one with a password": ({"type": "git", "url": "ssh://git:canary@a.org/b"}, ("a.org", "ssh", "ssh")),
    "another protocol": ({"type": "vcs", "url": "svn://u:canary@a.org/b"}, ("", "local", "local")),
    "a path": ({"type": "path", "url": "../module"}, ("", "local", "local")),
    "an archive": (
        {"type": "package", "package": {"dist": {"url": "https://dl.example.org/x.zip?k=canary"}}},
        ("dl.example.org", "http", "missing"),
    ),
}


@pytest.mark.parametrize("case", REPOSITORIES)
def test_a_repository_is_known_by_host_transport_and_status(case: str) -> None:
    entry, expected = REPOSITORIES[case]
    manifest = {"repositories": [entry, {"packagist.org": False}]}
    (repository,) = list_repositories(manifest, None)
    need = cover(repository, circumstances())
    assert (repository.host, repository.transport, need.status) == expected
    assert "canary" not in repr(need)


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
    found = list_repositories({"repositories": [{"type": "vcs", "url": url}]}, None)
    assert found[0].url == LOGINS[url]


@pytest.mark.parametrize("repositories", [{"packagist.org": False}, [{"packagist.org": False}], [{"packagist": False}]])
def test_packagist_is_there_until_it_is_turned_off(repositories: Any) -> None:
    assert [each.host for each in list_repositories({}, None)] == ["repo.packagist.org"]
    assert list_repositories({"repositories": repositories}, None) == ()


def test_the_lock_file_names_further_hosts_but_those_of_packagists_packages() -> None:
    dist = {"type": "zip", "url": "https://api.github.com/repos/a/b/zipball/1"}
    public = {"name": "a/b", "dist": dist, "notification-url": "https://packagist.org/downloads/"}
    private = {"name": "c/d", "dist": {"type": "zip", "url": "https://cdn.example.org/d.zip"}}
    lock = {"packages": [public], "packages-dev": [private]}
    found = list_repositories({}, lock)
    assert [(each.kind, each.host) for each in found[1:]] == [("download", "cdn.example.org")]
    assert "github.com" in list_hosts(found, lock)


REPO = Repository("composer", "https://repo.example.org", "repo.example.org", "http")
FORGE = Repository("vcs", "https://github.com/a/b", "github.com", "api")


def test_a_secret_covers_it_and_so_does_what_the_user_has() -> None:
    assert cover(REPO, circumstances(define(BASIC))) == Need(REPO, "covered", BASIC)
    own = {"repo.example.org": Winner("repo.example.org", "bearer", "/home/me/auth.json")}
    assert cover(REPO, circumstances(winners=own)) == Need(REPO, "own", "/home/me/auth.json")


def test_a_host_that_git_alone_asks_is_covered_by_its_helper() -> None:
    repository = Repository("git", "https://repo.example.org/x.git", "repo.example.org", "git")
    at = circumstances(git_logins={"repo.example.org": BASIC})
    assert cover(repository, at) == Need(repository, "covered", BASIC)


@pytest.mark.parametrize(
    ("host", "config", "version", "name"),
    [
        ("repo.example.org", {}, (2, 5, 5), "http-basic.repo.example.org"),
        ("github.com", {}, (2, 5, 5), "github-oauth.github.com"),
        ("gitlab.com", {}, (2, 5, 5), "gitlab-token.gitlab.com"),
        ("git.example.org", {"gitlab-domains": ["git.example.org"]}, (2, 5, 5), "gitlab-token.git.example.org"),
        ("bitbucket.org", {}, (2, 5, 5), "bitbucket-oauth.bitbucket.org"),
        ("codeberg.org", {}, (2, 5, 5), "http-basic.codeberg.org"),
        ("codeberg.org", {}, (2, 11, 0), "forgejo-token.codeberg.org"),
    ],
    ids=["plain", "github", "gitlab", "own-gitlab", "bitbucket", "codeberg-old", "codeberg-new"],
)
def test_what_is_missing_is_told_with_the_command_to_type(
    host: str, config: dict[str, Any], version: tuple[int, ...], name: str
) -> None:
    need = cover(REPO._replace(host=host), circumstances(config=config, version=version))
    assert need.remedy == f"`ic-secrets set my-site {name} --type composer --scope ic`"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (define(BASIC, SecretType.RUNTIME), "has the type runtime, not composer"),
        (define(BASIC, verdict=Verdict.OUT_OF_SCOPE, scopes=frozenset({Scope.WEB})), "has the scope web, without ic"),
    ],
    ids=["type", "scope"],
)
def test_a_secret_of_the_right_name_that_no_build_reads_is_an_error(wrong: Definition, said: str) -> None:
    at = circumstances(wrong)
    (found,) = find_faults([cover(REPO, at)], at)
    assert (found.level, said in found.text) == ("error", True)
    assert "`ic-secrets delete my-site" in found.remedy


@pytest.mark.parametrize(
    ("repository", "is_composer", "level"),
    [
        (REPO, True, "warning"),
        (FORGE, True, "note"),
        (REPO._replace(host="repo.magento.com"), True, "error"),
        (REPO._replace(host="repo.magento.com"), False, "warning"),
    ],
    ids=["perhaps-private", "forge", "private", "private-but-no-composer"],
)
def test_it_is_an_error_only_where_it_is_certain(repository: Repository, is_composer: bool, level: str) -> None:
    at = circumstances(is_composer=is_composer)
    assert [found.level for found in find_faults([cover(repository, at)], at)] == [level]


ANSWERS = [
    (True, "ok", "covered", None),
    (True, "expired", "covered", "error"),
    (True, "refused", "covered", "error"),
    (True, "not found", "covered", "error"),
    (True, "unreachable", "covered", "error"),
    (True, "redirected", "covered", "warning"),
    (True, "not asked", "covered", "note"),
    (False, "ok", "public", None),
    (False, "expired", "missing", "error"),
    (False, "unreachable", "missing", "warning"),
]


@pytest.mark.parametrize(
    ("has_secret", "outcome", "status", "level"), ANSWERS, ids=[f"{has}-{outcome}" for has, outcome, *_ in ANSWERS]
)
def test_what_a_repository_says_is_judged(has_secret: bool, outcome: str, status: str, level: str | None) -> None:
    at = circumstances(*([define(BASIC)] if has_secret else []))
    need = learn(cover(REPO, at), Answer(outcome, "why"))
    assert need.status == status
    assert [found.level for found in find_faults([need], at)] == ([level] if level else [])


def test_a_credential_that_nothing_needs_is_named() -> None:
    at = circumstances(define(BASIC), define("bearer.old.example.org"))
    (found,) = find_unneeded({"repo.example.org"}, at, has_lock=True)
    assert found.level == "note"
    assert "bearer.old.example.org" in found.text


KEYS = ["repositories", "type", "url", "package", "packages", "packages-dev", "dist", "source", "name", "config", "x"]
TEXTS = ["composer", "vcs", "package", "https://a.org/x", "git@a.org:b", "https://u:p@a.org", "packagist.org", ""]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS + TEXTS), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(KEYS), JSON), st.none() | st.dictionaries(st.sampled_from(KEYS), JSON))
def test_any_composer_json_and_lock_can_be_judged(manifest: dict[str, Any], lock: dict[str, Any] | None) -> None:
    repositories = list_repositories(manifest, lock)
    at = circumstances(config=manifest)
    needs = [cover(repository, at) for repository in repositories]
    assert all(found.text for found in find_faults(needs, at))
    assert list_hosts(repositories, lock) >= {repository.host for repository in repositories}
