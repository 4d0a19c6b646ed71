"""Each repository is matched with the credential that it would get, and what is missing is said with what to type."""

from __future__ import annotations

from typing import Any

import pytest

from ic_secrets.composer.precedence import Winner
from ic_secrets.composer.project import Project
from ic_secrets.composer.repositories import Repository, read_sources
from ic_secrets.model.resolve import Definition, Verdict
from ic_secrets.model.secret import Owner, Scope, SecretType, Target
from ic_secrets.plan.credentials import check_repositories, check_unneeded
from ic_secrets.plan.facts import Access, Answer, Facts, find_access
from ic_secrets.plan.problem import Problem

BUILD = frozenset({Scope.IC})
BASIC = "http-basic.repo.example.org"


def define(
    name: str, kind: SecretType = SecretType.COMPOSER, verdict: Verdict = Verdict.WON, scopes: frozenset[Scope] = BUILD
) -> Definition:
    return Definition(Owner.site("my-site"), None, name, kind, scopes, None, 1, 0, 0, None, verdict)


def project(config: dict[str, Any] | None = None, *urls: str) -> Project:
    manifest = {"config": config or {}, "repositories": [{"type": "composer", "url": url} for url in urls]}
    return Project("", "", "composer.json", True, True, read_sources(manifest, {}))


def situation(*definitions: Definition, **others: Any) -> Facts:
    used = {d.name for d in definitions if d.verdict is Verdict.WON and d.type is SecretType.COMPOSER}
    winners = {}
    for name in used:
        method, _, host = name.partition(".")
        winners[host] = Winner(host, method, name)
    facts = Facts(Target.parse("my-site.dev"), project(), definitions, used, winners=winners, version=(2, 5, 5))
    return facts._replace(**others)


REPO = Repository("composer", "https://repo.example.org", "repo.example.org", "http")
FORGE = Repository("vcs", "https://github.com/a/b", "github.com", "api")


def find(repository: Repository, at: Facts) -> list[Problem]:
    return list(check_repositories(at._replace(accesses=(find_access(repository, at),))))


def test_a_secret_covers_it_and_so_does_what_the_user_has() -> None:
    assert find_access(REPO, situation(define(BASIC))) == Access(REPO, "covered", BASIC)
    own = {"repo.example.org": Winner("repo.example.org", "bearer", "/home/me/auth.json")}
    assert find_access(REPO, situation(winners=own)) == Access(REPO, "own", "/home/me/auth.json")


def test_a_host_that_git_alone_asks_is_covered_by_its_helper() -> None:
    repository = Repository("git", "https://repo.example.org/x.git", "repo.example.org", "git")
    at = situation(git_logins={"repo.example.org": BASIC})
    assert find_access(repository, at) == Access(repository, "covered", BASIC)


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
    access = find_access(REPO._replace(host=host), situation(project=project(config), version=version))
    assert access.remedy == f"`ic-secrets set my-site {name} --type composer --scope ic`"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (define(BASIC, SecretType.RUNTIME), "has the type runtime, not composer"),
        (define(BASIC, verdict=Verdict.OUT_OF_SCOPE, scopes=frozenset({Scope.WEB})), "has the scope web, not ic"),
    ],
    ids=["type", "scope"],
)
def test_a_secret_of_the_right_name_that_no_build_reads_is_an_error(wrong: Definition, said: str) -> None:
    at = situation(wrong)
    (found,) = find(REPO, at)
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
    at = situation(is_composer=is_composer)
    assert [found.level for found in find(repository, at)] == [level]


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
    at = situation(*([define(BASIC)] if has_secret else []))
    access = find_access(REPO, at).learn(Answer(outcome, "why"))
    assert access.status == status
    assert [found.level for found in check_repositories(at._replace(accesses=(access,)))] == ([level] if level else [])


def test_a_credential_that_nothing_needs_is_named() -> None:
    at = situation(define(BASIC), define("bearer.old.example.org"), project=project({}, "https://repo.example.org"))
    (found,) = check_unneeded(at)
    assert found.level == "note"
    assert "bearer.old.example.org" in found.text
