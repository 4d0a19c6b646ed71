"""What answers teach the broker: names of a repository, what packages.json announces, and packages of metadata."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest

from ic_secrets.broker.order import Order, Place
from ic_secrets.broker.rules import Decision, Head, Rules
from ic_secrets.broker.targets import Endpoint
from ic_secrets.composer.credential import parse_credential
from ic_secrets.composer.methods import map_hosts

SECRETS = (
    parse_credential("github-oauth.github.com", "canary"),
    parse_credential("gitlab-token.gitlab.com", "canary"),
    parse_credential("http-basic.repo.example.org", "me canary"),
)
PLACES = (
    Place("vcs", "https://github.com/acme/lib", "api"),
    Place("vcs", "https://gitlab.com/acme/lib", "api"),
    Place("composer", "https://repo.example.org/satis", "http"),
)
GITHUB = "api.github.com/repos/acme/lib"
ROOT = "repo.example.org/satis/packages.json"


@pytest.fixture
def rules() -> Rules:
    return Rules(Order(SECRETS, places=PLACES, forges=map_hosts()))


def ask(rules: Rules, url: str, method: str = "GET", *headers: tuple[str, str]) -> Decision:
    host, slash, path = url.partition("/")
    path, _, query = (slash + path).partition("?")
    return rules.decide(Endpoint("https", host, 443), Head(method, path, query, headers))


def teach(rules: Rules, url: str, document: Any = None, status: int = 200, **headers: str) -> Decision:
    """Let the rules learn from an answer to the URL."""
    decision = ask(rules, url)
    body = json.dumps(document).encode() if document is not None and decision.learns else b""
    rules.learn(decision, status, tuple(headers.items()), body)
    return decision


def has(rules: Rules, url: str) -> bool:
    return ask(rules, url).credential is not None


# --- a repository's other names


def test_a_hundred_tags_go_on_at_the_repositorys_id(rules: Rules) -> None:
    assert not has(rules, "api.github.com/repositories/42/tags?page=2")
    link = '<https://api.github.com/repositories/42/tags?page=2>; rel="next", <https://api.github.com/x>; rel="last"'
    teach(rules, f"{GITHUB}/tags?per_page=100", [], link=link)
    assert has(rules, "api.github.com/repositories/42/tags?page=2")
    assert not has(rules, "api.github.com/repositories/43/tags?page=2")
    assert not has(rules, "api.github.com/repositories/42/hooks")


def test_the_id_of_a_gitlab_project_is_learnt_from_its_next_page_or_its_description(rules: Rules) -> None:
    teach(
        rules,
        "gitlab.com/api/v4/projects/acme%2Flib/repository/tags",
        [],
        link='<https://gitlab.com/api/v4/projects/7/repository/tags?page=2>; rel="next"',
    )
    assert has(rules, "gitlab.com/api/v4/projects/7/repository/tags?page=2")
    teach(rules, "gitlab.com/api/v4/projects/acme%2Flib", {"id": 8, "path_with_namespace": "Acme/Lib2"})
    assert has(rules, "gitlab.com/api/v4/projects/8/repository/branches")
    assert has(rules, "gitlab.com/acme/lib2.git/info/refs?service=git-upload-pack")


def test_a_renamed_repository_is_followed(rules: Rules) -> None:
    teach(rules, GITHUB, status=301, location="https://api.github.com/repositories/42")
    assert has(rules, "api.github.com/repositories/42")
    teach(rules, "api.github.com/repositories/42", {"id": 42, "full_name": "acme/renamed", "private": True})
    assert has(rules, "api.github.com/repos/Acme/Renamed/zipball/0f")
    url = "github.com/acme/lib.git/info/refs?service=git-upload-pack"
    teach(rules, url, status=301, location="/acme/moved.git/info/refs?service=git-upload-pack")
    assert has(rules, "github.com/acme/moved.git/info/refs?service=git-upload-pack")


@pytest.mark.parametrize(
    "location",
    ["https://evil.example/acme/x", "https://codeload.github.com/acme/x", "https://api.github.com/user", "::", ""],
)
def test_a_redirect_elsewhere_teaches_nothing(rules: Rules, location: str) -> None:
    teach(rules, GITHUB, status=302, location=location)
    assert not has(rules, "api.github.com/repos/acme/x")
    assert not has(rules, "api.github.com/user")


def test_a_strangers_answer_teaches_nothing(rules: Rules) -> None:
    stranger = "api.github.com/repos/evil/lib"
    assert not teach(rules, stranger, {"id": 43, "full_name": "acme/secret"}).learns
    teach(rules, f"{stranger}/tags", [], link='<https://api.github.com/repositories/43/tags>; rel="next"')
    teach(rules, stranger, status=301, location="https://api.github.com/repositories/43")
    assert not has(rules, "api.github.com/repositories/43")
    assert not has(rules, "api.github.com/repos/acme/secret")


# --- what packages.json announces

ANNOUNCED = {
    "notify-batch": "/satis/downloads",
    "security-advisories": {"metadata": False, "api-url": "https://repo.example.org/advisories?x=1"},
    "filter": {"metadata": False, "api-url": "/filter"},
    "metadata-url": "/p2/%package%.json",
    "packages": [],
}


def test_a_post_that_packages_json_announces_is_allowed_with_the_credential(rules: Rules) -> None:
    teach(rules, ROOT, ANNOUNCED)
    for url in ("satis/downloads", "advisories?x=1", "filter"):
        assert ask(rules, f"repo.example.org/{url}", "POST").secret == "http-basic.repo.example.org"
    for url in ("advisories", "advisories?x=2", "filter/", "satis/download", "satis/downloads/x"):
        assert ask(rules, f"repo.example.org/{url}", "POST").refusal
    assert ask(rules, "repo.example.org/filter", "PUT").refusal


def test_an_announced_post_to_another_host_never_has_its_credential(rules: Rules) -> None:
    teach(rules, ROOT, {"notify-batch": "https://api.github.com/repos/acme/lib/merges", "packages": []})
    decision = ask(rules, "api.github.com/repos/acme/lib/merges", "POST")
    assert (decision.refusal, decision.credential) == (None, None)


def test_packages_json_is_asked_first_where_it_was_not_seen(rules: Rules) -> None:
    """Composer keeps it for ten minutes, and an install from a lock does not ask for it at all."""
    decision = ask(rules, "repo.example.org/satis/downloads", "POST", ("user-agent", "Composer/2"))
    assert decision.first
    first = decision.first
    assert (decision.target, first.method, first.target) == ("", "GET", "/satis/packages.json")
    assert first.secret == "http-basic.repo.example.org"
    assert ("user-agent", "Composer/2") in first.headers
    rules.learn(first, 200, (), json.dumps(ANNOUNCED).encode())
    assert ask(rules, "repo.example.org/satis/downloads", "POST").credential
    assert ask(rules, "repo.example.org/satis/other", "POST").refusal


def test_packages_json_is_asked_with_the_login_of_the_projects_own_url() -> None:
    place = Place("composer", "https://repo.example.org/own", "http", True)
    rules = Rules(Order(SECRETS, places=(place,), forges=map_hosts()))
    first = ask(rules, "repo.example.org/n", "POST", ("authorization", "Basic own")).first
    assert first
    assert [each for each in first.headers if each[0] == "authorization"] == [("authorization", "Basic own")]


@pytest.mark.parametrize(("status", "body"), [(500, b""), (200, b"garbage"), (200, b"[]"), (200, b"[" * 99999)])
def test_it_is_asked_once(rules: Rules, status: int, body: bytes) -> None:
    decision = ask(rules, "repo.example.org/satis/downloads", "POST")
    assert decision.first
    rules.learn(decision.first, status, (), body)
    assert ask(rules, "repo.example.org/satis/downloads", "POST").refusal


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("https://repo.example.org", "/packages.json"),
        ("https://repo.example.org/a/", "/a/packages.json"),
        ("https://repo.example.org/a/my.json", "/a/my.json"),
        ("https://repo.example.org/a?x=1", "/a/packages.json"),
    ],
)
def test_packages_json_is_where_composer_looks_for_it(url: str, root: str) -> None:
    rules = Rules(Order(SECRETS, places=(Place("composer", url, "http"),), forges=map_hosts()))
    first = ask(rules, "repo.example.org/x", "POST").first
    assert first
    assert first.target == root


def test_a_repository_with_a_token_in_its_path_is_known_when_it_is_asked(rules: Rules) -> None:
    place = Place("composer", "https://repo.example.org/***/x", "http")
    rules = Rules(Order(SECRETS, places=(place,), forges=map_hosts()))
    assert ask(rules, "repo.example.org/x", "POST").refusal
    teach(rules, "repo.example.org/t0k3n/x/packages.json", {"notify-batch": "/n", "packages": []})
    assert ask(rules, "repo.example.org/n", "POST").credential


def test_a_packages_json_that_was_moved_is_still_one(rules: Rules) -> None:
    teach(rules, ROOT, status=302, location="/new/index?v=1")
    teach(rules, "repo.example.org/new/index?v=1", {"notify-batch": "/n", "packages": []})
    assert ask(rules, "repo.example.org/n", "POST").credential


@pytest.mark.parametrize("value", [7, "", "relative", "ftp://a/", {"x": 1}, None])
def test_an_announcement_that_is_none_changes_nothing(rules: Rules, value: Any) -> None:
    teach(rules, ROOT, {"notify-batch": value, "security-advisories": value, "filter": [value], "packages": value})
    assert ask(rules, "repo.example.org/relative", "POST").refusal


def test_an_answer_that_teaches_is_asked_for_whole_and_in_an_encoding_that_can_be_read(rules: Rules) -> None:
    headers = (("if-modified-since", "yesterday"), ("if-none-match", '"0f"'), ("accept-encoding", "br, gzip"))
    lesson = ask(rules, ROOT, "GET", *headers)
    assert lesson.learns
    assert [each for each in lesson.headers if each[0] != "authorization"] == [
        ("host", "repo.example.org"),
        ("accept-encoding", "gzip"),
    ]
    assert ("accept-encoding", "identity") in ask(rules, ROOT, "GET", ("accept-encoding", "br")).headers
    other = ask(rules, "repo.example.org/a.zip", "GET", *headers)
    assert not other.learns
    assert set(headers) <= set(other.headers)


# --- packages of metadata

METADATA = {
    "packages": {
        "acme/deep": [
            {
                "source": {"type": "git", "url": "git@github.com:acme/deep.git"},
                "dist": {"type": "zip", "url": "https://api.github.com/repos/acme/deep/zipball/0f"},
            },
            {"dist": {"type": "zip", "url": "https://gitlab.com/api/v4/projects/7/packages/composer/archives/x.zip"}},
            {"dist": {"url": "https://gitlab.com/api/v4/projects/7/variables"}},
            {"dist": "x", "source": {"url": 7}},
            "x",
        ],
        "acme/old": {"1.0": {"source": {"url": "https://github.com/acme/old"}}},
    }
}


@pytest.mark.parametrize("url", ["satis/packages.json", "satis/include/all$0f.json", "p2/acme/deep.json"])
def test_an_update_finds_a_private_package_that_only_metadata_names(rules: Rules, url: str) -> None:
    teach(rules, ROOT, ANNOUNCED)
    assert not has(rules, "api.github.com/repos/acme/deep")
    teach(rules, f"repo.example.org/{url}", METADATA)
    assert has(rules, "api.github.com/repos/acme/deep")
    assert has(rules, "api.github.com/repos/acme/old/zipball/1")
    assert has(rules, "gitlab.com/api/v4/projects/7/packages/composer/archives/x.zip?sha=1")


@pytest.mark.parametrize(("pack", "is_learnt"), [(gzip.compress, True), (lambda body: body, False)])
def test_an_answer_is_unpacked_to_learn_from_it(rules: Rules, pack: Callable[[bytes], bytes], is_learnt: bool) -> None:
    rules.learn(ask(rules, ROOT), 200, (("Content-Encoding", "gzip"),), pack(json.dumps(METADATA).encode()))
    assert has(rules, "api.github.com/repos/acme/deep") is is_learnt


def test_metadata_cannot_name_what_no_package_is_at(rules: Rules) -> None:
    teach(rules, ROOT, METADATA)
    assert not has(rules, "gitlab.com/api/v4/projects/7/variables")
    assert not has(rules, "gitlab.com/api/v4/projects/7/repository/tags")


@pytest.mark.parametrize("url", ["repo.example.org/elsewhere/x.json", "github.com/evil/x/raw/main/packages.json"])
def test_what_is_no_metadata_of_a_named_repository_teaches_nothing(rules: Rules, url: str) -> None:
    teach(rules, ROOT, ANNOUNCED)
    assert not teach(rules, url, METADATA).learns
    assert not has(rules, "api.github.com/repos/acme/deep")


def test_without_a_forge_there_is_nothing_to_learn_from_metadata() -> None:
    rules = Rules(Order(SECRETS[2:], places=PLACES, forges=map_hosts()))
    assert ask(rules, ROOT).learns
    assert not ask(rules, "repo.example.org/satis/include/all.json").learns
