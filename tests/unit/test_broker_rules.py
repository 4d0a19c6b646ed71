"""What a build may ask through the broker, with which credential, and what it is told where a server refuses that."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from ic_secrets.broker.order import Bound, Order, Place
from ic_secrets.broker.placeholders import make_placeholder
from ic_secrets.broker.rules import Decision, Head, Rules
from ic_secrets.broker.targets import Endpoint
from ic_secrets.composer.credential import Credential, parse_credential
from ic_secrets.composer.methods import map_hosts

COMPOSER = ("user-agent", "Composer/2.11.0 (Linux)")
FETCH = ("content-type", "application/x-git-upload-pack-request")
ACF = make_placeholder("store", "site:a", "ACF_KEY")
BOUND = Bound("ACF_KEY", ACF, "canary-acf/1", ("connect.acf.example",))
PLACES = (
    Place("vcs", "git@github.com:Acme/Private.git", "api"),
    Place("vcs", "https://gitlab.com/acme/sub/lib.git", "api"),
    Place("vcs", "https://bitbucket.org/acme/lib", "api"),
    Place("vcs", "https://codeberg.org/acme/lib", "api"),
    Place("download", "https://api.github.com/repos/acme/locked/zipball/0f0f", "http"),
    Place("composer", "https://repo.example.org/satis/", "http"),
    Place("composer", "https://gitlab.com/api/v4/group/7/-/packages/composer/", "http"),
)
SECRETS = {
    "github-oauth.github.com": "canarygithub",
    "gitlab-token.gitlab.com": "canarygitlab",
    "bitbucket-oauth.bitbucket.org": "key canarybitbucket",
    "forgejo-token.codeberg.org": "me canaryforgejo",
    "http-basic.repo.example.org": "me canarybasic",
    "bearer.files.example.org:8443": "canarybearer",
}


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


def make_order(secrets: dict[str, str] | None = None, **more: Any) -> Order:
    credentials = tuple(parse_credential(*each) for each in (SECRETS if secrets is None else secrets).items())
    return Order(**{"credentials": credentials, "bound": (BOUND,), "places": PLACES, "forges": map_hosts()} | more)


def make_rules(secrets: dict[str, str] | None = None, **more: Any) -> Rules:
    rules = Rules(make_order(secrets, **more))
    for credential in make_order(secrets, **more).credentials:
        if credential.method == "bitbucket-oauth":
            rules.set_token(credential, "minted")
    return rules


def ask(rules: Rules, method: str, url: str, *headers: tuple[str, str], body: bytes | None = None) -> Decision:
    """Return what becomes of the request, whose `url` may be without `https://`."""
    scheme, _, rest = url.rpartition("://")
    host, slash, path = rest.partition("/")
    name, _, port = host.partition(":")
    scheme = scheme or "https"
    endpoint = Endpoint(scheme, name, int(port or (443 if scheme == "https" else 80)))
    path, _, query = (slash + path).partition("?")
    head = Head(method, path, query, (("host", host), COMPOSER, *headers))
    decision = rules.decide(endpoint, head)
    if body is not None and decision.body == "small":
        decision, sent = rules.decide_body(decision, head, body)
        return decision._replace(headers=(*decision.headers, ("sent", sent.decode())))
    return decision


def find(decision: Decision, name: str) -> list[str]:
    return [value for key, value in decision.headers if key == name]


PRIVATE = "api.github.com/repos/acme/private"
PROJECT = "gitlab.com/api/v4/projects/acme%2Fsub%2Flib"
WITH: dict[str, tuple[str, str]] = {
    PRIVATE: ("authorization", "token canarygithub"),
    f"{PRIVATE}/": ("authorization", "token canarygithub"),
    "api.github.com/repos/ACME/Private": ("authorization", "token canarygithub"),
    f"{PRIVATE}/contents/composer.json?ref=main": ("authorization", "token canarygithub"),
    f"{PRIVATE}/commits/feature%2Fx": ("authorization", "token canarygithub"),
    f"{PRIVATE}/tags?per_page=100": ("authorization", "token canarygithub"),
    f"{PRIVATE}/git/refs/heads?per_page=100": ("authorization", "token canarygithub"),
    f"{PRIVATE}/zipball/0f0f": ("authorization", "token canarygithub"),
    "api.github.com/repos/acme/locked/zipball/abcd": ("authorization", "token canarygithub"),
    "github.com/Acme/Private.git/info/refs?service=git-upload-pack": (
        "authorization",
        basic("canarygithub:x-oauth-basic"),
    ),
    "github.com/acme/private/info/refs?service=git-upload-pack": (
        "authorization",
        basic("canarygithub:x-oauth-basic"),
    ),
    "github.com/acme/private.git/HEAD": ("authorization", basic("canarygithub:x-oauth-basic")),
    PROJECT: ("private-token", "canarygitlab"),
    "gitlab.com/api/v4/projects/Acme%2fSub%2flib": ("private-token", "canarygitlab"),
    f"{PROJECT}/repository/tags?per_page=100": ("private-token", "canarygitlab"),
    f"{PROJECT}/repository/branches": ("private-token", "canarygitlab"),
    f"{PROJECT}/repository/files/composer%2Ejson/raw?ref=1": ("private-token", "canarygitlab"),
    f"{PROJECT}/repository/archive.zip?sha=1": ("private-token", "canarygitlab"),
    "gitlab.com/acme/sub/lib.git/info/refs?service=git-upload-pack": (
        "authorization",
        basic("private-token:canarygitlab"),
    ),
    "gitlab.com/api/v4/group/7/-/packages/composer/packages.json": ("private-token", "canarygitlab"),
    "gitlab.com/api/v4/group/7/-/packages/composer/p2/acme/lib.json": ("private-token", "canarygitlab"),
    "api.bitbucket.org/2.0/repositories/acme/lib?fields=-project": ("authorization", "Bearer minted"),
    "api.bitbucket.org/2.0/repositories/acme/lib/src/0f/composer.json": ("authorization", "Bearer minted"),
    "api.bitbucket.org/2.0/repositories/acme/lib/refs/tags?pagelen=100": ("authorization", "Bearer minted"),
    "bitbucket.org/acme/lib/get/0f0f.zip": ("authorization", "Bearer minted"),
    "bitbucket.org/acme/lib.git/info/refs?service=git-upload-pack": ("authorization", basic("x-token-auth:minted")),
    "codeberg.org/api/v1/repos/acme/lib": ("authorization", basic("me:canaryforgejo")),
    "codeberg.org/api/v1/repos/acme/lib/archive/0f.zip": ("authorization", basic("me:canaryforgejo")),
    "repo.example.org/satis/packages.json": ("authorization", basic("me:canarybasic")),
    "repo.example.org/elsewhere//a.zip": ("authorization", basic("me:canarybasic")),
    "files.example.org:8443/a.zip": ("authorization", "Bearer canarybearer"),
}
BARE = [
    "api.github.com/repos/stranger/private",
    "api.github.com/repos/acme/other",
    f"{PRIVATE}/hooks",
    f"{PRIVATE}/actions/secrets",
    f"{PRIVATE}/commits/main/comments",
    "api.github.com/user",
    "api.github.com/user/repos",
    "api.github.com/repositories/1",
    "api.github.com/repos/acme%2Fprivate",
    "github.com/acme/private/archive/main.zip",
    "github.com/acme/private/settings",
    "github.com/acme/private.gitx/info/refs?service=git-upload-pack",
    "codeload.github.com/acme/private/legacy.zip/0f0f",
    "codeload.github.com/acme/private.git/info/refs?service=git-upload-pack",
    f"{PROJECT}/variables",
    f"{PROJECT}/triggers",
    f"{PROJECT}/repository/files/composer%2Ejson",
    "gitlab.com/api/v4/projects/acme",
    "gitlab.com/api/v4/projects",
    "gitlab.com/api/v4/group/8/-/packages/composer/packages.json",
    "gitlab.com/api/v4/group/7/variables",
    "gitlab.com/acme/sub/lib/-/settings/ci_cd",
    "api.bitbucket.org/2.0/repositories/acme/lib/pipelines_config/variables",
    "bitbucket.org/acme/lib/downloads/x.zip",
    "codeberg.org/api/v1/repos/acme/lib/hooks",
    "repo.example.org/a.zip?X-Amz-Signature=0f",
    "repo.example.org/a.zip?AWSAccessKeyId=a&Expires=1&Signature=b",
    "files.example.org/a.zip",
    "repo.example.org:8443/a.zip",
    "http://repo.example.org/satis/packages.json",
    "http://api.github.com/repos/acme/private",
    "elsewhere.example/a.zip",
]


@pytest.mark.parametrize(("url", "header"), WITH.items())
def test_what_a_build_needs_is_asked_with_the_credential(url: str, header: tuple[str, str]) -> None:
    decision = ask(make_rules(), "GET", url)
    assert header in decision.headers
    assert decision.secret.endswith(decision.credential.host if decision.credential else "?")


@pytest.mark.parametrize("url", BARE)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_everything_else_is_asked_without(method: str, url: str) -> None:
    decision = ask(make_rules(), method, url, ("authorization", "Basic own"))
    assert (decision.refusal, decision.credential, decision.secret) == (None, None, "")
    assert find(decision, "authorization") == ["Basic own"]
    assert "canary" not in str(decision.headers)


REFUSED = [
    ("POST", "api.github.com/repos/acme/private/issues"),
    ("DELETE", PRIVATE),
    ("PUT", "gitlab.com/api/v4/projects/1"),
    ("POST", "repo.example.org/satis/upload"),
    ("OPTIONS", "repo.example.org/"),
    ("PROPFIND", "repo.example.org/"),
    ("GET", "github.com/acme/private.git/info/refs?service=git-receive-pack"),
    ("GET", "github.com/acme/private.git/info/refs?service=git%2Dreceive-pack"),
    ("GET", "github.com/acme/private.git/info/refs?service=git-upload-pack&service=git-receive-pack"),
    ("GET", "repo.example.org/lib.git/info/refs?service=git-receive-pack"),
    ("POST", "github.com/acme/private.git/git-receive-pack"),
    ("POST", "repo.example.org/x/git-upload-pack?_method=DELETE"),
    ("GET", "api.github.com/repos/acme/private/../../user"),
    ("GET", "api.github.com/repos/acme/private/%2e%2e/other"),
    ("GET", "api.github.com/repos//acme/private"),
    ("GET", "gitlab.com/api/v4/projects/acme%2Fsub%2F..%2Fother"),
    ("GET", "gitlab.com/api/v4/projects/acme%252Fsub%252Flib"),
    ("GET", "repo.example.org/a/..%5cb"),
    ("POST", "bitbucket.org/site/oauth2/access_token"),
]


@pytest.mark.parametrize(("method", "url"), REFUSED)
def test_what_no_build_needs_is_refused_and_never_sent(method: str, url: str) -> None:
    rules = make_rules(places=())
    decision = ask(rules, method, url)
    assert decision.refusal
    assert decision.refusal.status in {400, 403}
    assert (decision.target, decision.headers, decision.credential) == ("", (), None)


def test_git_push_is_refused_in_words_that_git_prints() -> None:
    decision = ask(make_rules(), "GET", "github.com/acme/private.git/info/refs?service=git-receive-pack")
    assert decision.refusal
    answer = decision.refusal.render()
    assert (answer.status, dict(answer.headers)["content-type"]) == (403, "text/plain; charset=utf-8")
    assert answer.body.startswith(b"ic-secrets: a build may fetch from github.com, not push to it")


def test_a_fetch_is_a_post_that_is_allowed() -> None:
    decision = ask(make_rules(), "POST", "github.com/acme/private.git/git-upload-pack", FETCH, ("content-length", "99"))
    assert (decision.secret, decision.body) == ("github-oauth.github.com", "stream")
    assert ask(make_rules(), "POST", "github.com/stranger/x.git/git-upload-pack", FETCH).secret == ""


def test_other_hosts_are_passed_on_as_they_are() -> None:
    decision = ask(make_rules(), "DELETE", "http://elsewhere.example/a//../b?c", ("authorization", "Basic own"))
    assert (decision.refusal, decision.target) == (None, "/a//../b?c")
    assert not make_rules().intercepts(decision.endpoint)


@pytest.mark.parametrize(
    ("host", "port", "is_intercepted"),
    [
        ("github.com", 443, True),
        ("api.github.com", 443, True),
        ("codeload.github.com", 443, True),
        ("api.bitbucket.org", 443, True),
        ("github.com", 8443, False),
        ("files.example.org", 443, False),
        ("files.example.org", 8443, True),
        ("connect.acf.example", 443, True),
        ("github.com.evil.example", 443, False),
        ("raw.githubusercontent.com", 443, False),
    ],
)
def test_tls_is_ended_for_the_hosts_of_secrets_alone(host: str, port: int, is_intercepted: bool) -> None:
    assert make_rules().intercepts(Endpoint("https", host, port)) is is_intercepted


def test_allow_write_permits_a_push_and_any_method_with_the_credential() -> None:
    rules = make_rules(writable=frozenset({"github.com"}))
    for method, url in [
        ("GET", "github.com/acme/other.git/info/refs?service=git-receive-pack"),
        ("POST", "github.com/acme/other.git/git-receive-pack"),
        ("POST", "api.github.com/repos/acme/other/releases"),
    ]:
        assert ask(rules, method, url).secret == "github-oauth.github.com"
    assert ask(rules, "POST", "api.bitbucket.org/2.0/repositories/acme/lib").refusal
    assert ask(rules, "GET", "api.github.com/user").secret == ""


@pytest.mark.parametrize(
    ("body", "is_allowed"),
    [
        (b'{"operation": "download", "objects": []}', True),
        (b'{"operation": "upload", "objects": []}', False),
        (b'{"operation": "download", "operation": "upload"}', False),
        (b'{"operation": "download", "Operation": "upload"}', False),
        ('{"operation": "download", "operat\u0131on": 1}'.encode(), False),
        (b'{"operation": "download", "transfers": ["basic"], "ref": {"name": "x"}, "hash_algo": "sha256"}', True),
        (b'["operation", "download"]', False),
        (b'{"operation": "download"', False),
        (b"\xff", False),
        (b"[" * 99999, False),
    ],
)
def test_git_lfs_may_ask_for_downloads_alone(body: bytes, is_allowed: bool) -> None:
    url = "github.com/acme/private.git/info/lfs/objects/batch"
    headers = (("content-type", "application/vnd.git-lfs+json"), ("content-length", str(len(body))))
    assert ask(make_rules(), "POST", url, *headers).body == "small"
    decision = ask(make_rules(), "POST", url, *headers, body=body)
    assert (decision.refusal is None, bool(decision.target)) == (is_allowed, is_allowed)
    assert decision.secret == ("github-oauth.github.com" if is_allowed else "")


def test_a_login_that_arrives_is_replaced_since_git_sends_its_own_prompt_as_one() -> None:
    rules = make_rules()
    arrived = (("authorization", basic("Username for 'https://github.com':x")), ("authorization", "Bearer b"))
    decision = ask(rules, "GET", "github.com/acme/private.git/info/refs?service=git-upload-pack", *arrived)
    assert find(decision, "authorization") == [basic("canarygithub:x-oauth-basic")]
    decision = ask(rules, "GET", PROJECT, *arrived)
    assert (find(decision, "authorization"), find(decision, "private-token")) == ([], ["canarygitlab"])


def test_a_login_in_the_projects_own_url_stays() -> None:
    places = (
        Place("composer", "https://repo.example.org/own", "http", True),
        Place("vcs", "https://github.com/own/lib.git", "git", True),
    )
    rules = make_rules(places=places)
    for url in (
        "repo.example.org/own/packages.json",
        "repo.example.org/own/p2/a/b.json",
        "github.com/own/lib.git/info/refs?service=git-upload-pack",
        "github.com/own/lib/info/refs?service=git-upload-pack",
    ):
        decision = ask(rules, "GET", url, ("authorization", "Basic own"))
        assert (decision.credential, find(decision, "authorization")) == (None, ["Basic own"])
    assert ask(rules, "GET", "repo.example.org/owner/packages.json").secret == "http-basic.repo.example.org"


def test_custom_headers_replace_those_of_the_same_names_alone() -> None:
    rules = make_rules({"custom-headers.a.example.org": '["X-Api-Key: canary", "X-B: 2"]'})
    decision = ask(rules, "GET", "a.example.org/x", ("x-api-key", "own"), ("authorization", "Basic own"))
    assert find(decision, "x-api-key") == ["canary"]
    assert find(decision, "authorization") == ["Basic own"]
    assert ask(rules, "GET", "a.example.org/x.git/info/refs?service=git-upload-pack").credential is None


def test_a_client_certificate_goes_by_the_connection() -> None:
    rules = make_rules({"client-certificate.a.example.org": '{"local_cert": "/c.pem"}'})
    decision = ask(rules, "GET", "a.example.org/x", ("authorization", "Basic own"))
    assert decision.credential is not None
    assert decision.secret == "client-certificate.a.example.org"
    assert find(decision, "authorization") == ["Basic own"]


def test_the_last_of_several_methods_for_one_host_wins_as_it_does_for_composer() -> None:
    rules = make_rules({"bearer.a.example.org": "canaryb", "http-basic.a.example.org": "me canary"})
    assert ask(rules, "GET", "a.example.org/x").secret == "bearer.a.example.org"


def test_a_job_token_goes_in_its_own_header() -> None:
    rules = make_rules({"gitlab-token.gitlab.com": "gitlab-ci-token canary"})
    assert find(ask(rules, "GET", PROJECT), "job-token") == ["canary"]


def test_bitbuckets_access_token_is_minted_before_anything_is_sent() -> None:
    rules = Rules(make_order())
    url = "bitbucket.org/acme/lib/get/0f0f.zip"
    decision = ask(rules, "GET", url)
    assert decision.credential
    assert (decision.needs_token, decision.target, decision.headers) == (True, "", ())
    asked = rules.make_token_request(decision.credential)
    assert (asked.endpoint.key, asked.target) == ("bitbucket.org", "/site/oauth2/access_token")
    assert ("authorization", basic("key:canarybitbucket")) in asked.headers
    assert asked.body == b"grant_type=client_credentials"
    rules.set_token(decision.credential, "minted", 100.0)
    rules.tick(99.9)
    assert find(ask(rules, "GET", url), "authorization") == ["Bearer minted"]
    rules.tick(100.0)
    assert ask(rules, "GET", url).needs_token


def test_an_access_token_that_is_refused_is_minted_once_more() -> None:
    rules = Rules(make_order())

    def mint(token: str) -> Decision:
        decision = ask(rules, "GET", "bitbucket.org/acme/lib/get/0f0f.zip")
        assert decision.credential
        rules.set_token(decision.credential, token)
        return ask(rules, "GET", "bitbucket.org/acme/lib/get/0f0f.zip")

    first = mint("first")
    other = first
    assert rules.judge(first, 403, ()).action == "refuse"  # it is good, but not for this
    verdict = rules.judge(first, 401, ())
    assert (verdict.action, verdict.refusal is not None) == ("renew", True)
    second = mint("second")
    assert rules.judge(other, 401, ()).action == "renew"  # which was asked with the first one
    assert find(ask(rules, "GET", "bitbucket.org/acme/lib/get/0f0f.zip"), "authorization") == ["Bearer second"]
    assert rules.judge(second, 401, ()).action == "refuse"
    assert rules.judge(second, 200, ()).action == "pass"
    assert rules.judge(second, 401, ()).action == "renew"


def test_an_access_token_that_was_stored_with_a_consumer_is_not_used() -> None:
    content = {"consumer-key": "k", "consumer-secret": "s", "access-token": "old"}
    credential = Credential("bitbucket-oauth.bitbucket.org", "bitbucket-oauth", "bitbucket.org", content)
    rules = Rules(make_order({}, credentials=(credential,)))
    assert ask(rules, "GET", "bitbucket.org/acme/lib/get/0f0f.zip").needs_token


@pytest.mark.parametrize(
    "url", ["http://localhost:8080/x", "http://127.0.0.1:8080/x", "http://plain.example.org/satis/x"]
)
def test_plain_http_gets_a_credential_on_loopback_and_where_the_project_says_so(url: str) -> None:
    host = url.split("/")[2]
    insecure = frozenset({"http://plain.example.org/satis"})
    assert ask(make_rules({f"http-basic.{host}": "me canary"}, insecure=insecure), "GET", url).credential
    decision = ask(make_rules({f"http-basic.{host}": "me canary"}), "GET", url)
    assert bool(decision.credential) is ("plain" not in host)


@pytest.mark.parametrize("owner", ["api", "repos", "packages"])
def test_an_owner_may_be_called_like_a_part_of_an_api(owner: str) -> None:
    for host in ("github.com", "bitbucket.org"):
        rules = make_rules(places=(Place("vcs", f"https://{host}/{owner}/lib", "api"),))
        assert ask(rules, "GET", f"{host}/{owner}/lib.git/info/refs?service=git-upload-pack").credential


@pytest.mark.parametrize(
    "url",
    [
        "git@github.com:acme/lib.git",
        "git@github.com:/acme/lib",
        "ssh://git@github.com/acme/lib.git",
        "ssh://git@github.com:22/acme/lib",
        "ssh://github.com/acme/lib.git",
        "https://GitHub.com/Acme/Lib/",
        "https://github.com/acme/lib#main",
    ],
)
def test_a_repository_is_named_by_a_url_of_any_kind(url: str) -> None:
    rules = make_rules(places=(Place("git", url, "git"),))
    assert ask(rules, "GET", "github.com/acme/lib.git/info/refs?service=git-upload-pack").credential
    assert ask(rules, "GET", "api.github.com/repos/acme/lib").credential


def test_a_github_enterprise_server_has_its_api_on_its_own_host() -> None:
    place = Place("vcs", "https://git.example.org/acme/lib", "api")
    rules = make_rules(
        {"github-oauth.git.example.org": "canary"}, places=(place,), forges={"git.example.org": "github-oauth"}
    )
    assert ask(rules, "GET", "git.example.org/api/v3/repos/acme/lib/tags").credential
    assert not ask(rules, "GET", "git.example.org/api/v3/repos/acme/lib/hooks").credential
    stranger = ask(rules, "GET", "git.example.org/api/v3/repos/a/b/tags")
    assert (stranger.credential, stranger.probe) == (None, "/api/v3/repos/a/b")


def test_a_gitlab_may_be_installed_below_a_path() -> None:
    place = Place("vcs", "https://example.org/git/acme/lib.git", "api")
    rules = make_rules(
        {"gitlab-token.example.org": "canary"}, places=(place,), forges={"example.org/git": "gitlab-token"}
    )
    assert ask(rules, "GET", "example.org/git/api/v4/projects/acme%2Flib").credential
    assert not ask(rules, "GET", "example.org/git/api/v4/projects/acme%2Fother").credential


def test_any_repository_of_a_host_that_is_no_forge_gets_the_credential() -> None:
    decision = ask(make_rules(), "GET", "repo.example.org/any/lib.git/info/refs?service=git-upload-pack")
    assert (decision.secret, decision.purpose) == ("http-basic.repo.example.org", "git")


def test_headers_that_name_another_method_or_target_do_not_go_along() -> None:
    decision = ask(
        make_rules(),
        "GET",
        "repo.example.org/x",
        ("x-http-method-override", "DELETE"),
        ("x-original-url", "/admin"),
        ("connection", "keep-alive, x-mine"),
        ("x-mine", "1"),
        ("proxy-authorization", "Basic x"),
        ("te", "trailers"),
        ("x-kept", "1"),
    )
    assert [name for name, _ in decision.headers] == ["host", "user-agent", "x-kept", "authorization"]


@pytest.mark.parametrize(
    "headers",
    [
        (("host", "evil.example"),),
        (("host", "repo.example.org:8443"),),
        (("host", "me@repo.example.org"),),
        (("host", "repo.example.org"), ("host", "repo.example.org")),
        (("content-length", "1"), ("transfer-encoding", "chunked")),
        (("content-length", "1"), ("content-length", "2")),
    ],
)
def test_a_request_that_contradicts_itself_is_refused(headers: tuple[tuple[str, str], ...]) -> None:
    decision = make_rules().decide(Endpoint("https", "repo.example.org", 443), Head("GET", "/", "", headers))
    assert decision.refusal
    assert decision.refusal.status == 400


# --- placeholders


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_a_placeholder_is_filled_at_its_own_host_whatever_the_method(method: str) -> None:
    decision = ask(make_rules(), method, f"connect.acf.example/{ACF}?k={ACF}", ("authorization", basic(f"{ACF}:s")))
    assert decision.target == "/canary-acf%2F1?k=canary-acf%2F1"
    assert find(decision, "authorization") == [basic("canary-acf/1:s")]
    assert (decision.filled, decision.attempts, decision.secret) == (("ACF_KEY",), (), "ACF_KEY")


@pytest.mark.parametrize("host", ["github.com", "http://elsewhere.example", "http://connect.acf.example"])
def test_a_placeholder_elsewhere_stays_and_is_an_attempt(host: str) -> None:
    decision = ask(make_rules(), "GET", f"{host}/x?k={ACF}", ("authorization", basic(f"{ACF}:s")))
    assert (decision.attempts, decision.filled) == (("ACF_KEY",), ())
    assert decision.target == f"/x?k={ACF}"
    assert "canary-acf" not in str(decision.headers)


FORM = ("content-type", "application/x-www-form-urlencoded")


def test_a_small_body_gets_the_value_and_the_new_length() -> None:
    body = f"k={ACF}".encode()
    headers = (FORM, ("content-length", str(len(body))))
    decision = ask(make_rules(), "POST", "connect.acf.example/x", *headers, body=body)
    assert (find(decision, "sent"), find(decision, "content-length")) == (["k=canary-acf%2F1"], ["16"])
    assert decision.filled == ("ACF_KEY",)


def test_a_body_elsewhere_is_an_attempt_too() -> None:
    rules = make_rules(writable=frozenset({"repo.example.org"}))
    body = f"k={ACF}".encode()
    headers = (FORM, ("content-length", str(len(body))))
    decision = ask(rules, "POST", "repo.example.org/x", *headers, body=body)
    assert (decision.attempts, find(decision, "sent")) == (("ACF_KEY",), [body.decode()])


@pytest.mark.parametrize(
    "headers",
    [
        (("content-length", "5"), ("content-type", "application/zip")),
        (("content-length", "99999"), FORM),
        (("content-length", "5"), FORM, ("content-encoding", "gzip")),
        (FORM,),
    ],
)
def test_another_body_is_streamed(headers: tuple[tuple[str, str], ...]) -> None:
    assert ask(make_rules(), "POST", "connect.acf.example/x", *headers).body == "stream"


def test_a_host_with_a_credential_too_takes_a_post_that_holds_its_placeholder_without_the_credential() -> None:
    bound = BOUND._replace(hosts=("repo.example.org",))
    rules = make_rules(bound=(bound,), places=())
    with_it, without = f"k={ACF}".encode(), b"k=1"
    for body, is_allowed in ((with_it, True), (without, False)):
        headers = (FORM, ("content-length", str(len(body))))
        decision = ask(rules, "POST", "repo.example.org/x", *headers, body=body)
        assert (decision.refusal is None, decision.credential) == (is_allowed, None)
    assert ask(rules, "POST", f"repo.example.org/x?k={ACF}").filled == ("ACF_KEY",)
    assert ask(rules, "GET", f"repo.example.org/x?k={ACF}").credential


def test_a_value_that_cannot_stand_there_is_not_sent() -> None:
    bound = BOUND._replace(value="two\nlines")
    decision = ask(make_rules(bound=(bound,)), "GET", "connect.acf.example/x", ("x-key", ACF))
    assert decision.refusal
    assert "ACF_KEY" in decision.refusal.words
    assert "two" not in decision.refusal.words


def test_a_redirect_that_repeats_the_query_shows_the_placeholder() -> None:
    rules = make_rules()
    decision = ask(rules, "GET", f"connect.acf.example/x?k={ACF}")
    location = f"https://cdn.acf.example{decision.target}"
    assert rules.hide_values(decision, (("location", location),)) == (
        ("location", f"https://cdn.acf.example/x?k={ACF}"),
    )


# --- answers


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_credential_is_named_in_a_way_after_which_composer_asks_for_no_other(status: int) -> None:
    rules = make_rules()
    verdict = rules.judge(ask(rules, "GET", PRIVATE), status, ())
    assert verdict.action == "refuse"
    assert verdict.refusal
    answer = verdict.refusal.render()
    assert (answer.status, dict(answer.headers)["content-type"]) == (424, "application/json")
    warning = json.loads(answer.body)["warning"]
    assert warning.startswith(f"ic-secrets: api.github.com answered {status} to the secret github-oauth.github.com")
    assert int(dict(answer.headers)["content-length"]) == len(answer.body)
    assert warning == f"ic-secrets: {verdict.notice}"
    assert "`ic-secrets set OWNER github-oauth.github.com`" in verdict.hint


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "info/refs?service=git-upload-pack", "application/x-git-upload-pack-advertisement"),
        ("POST", "git-upload-pack", "application/x-git-upload-pack-result"),
    ],
)
def test_git_is_told_inside_of_its_protocol(method: str, path: str, kind: str) -> None:
    rules = make_rules()
    verdict = rules.judge(ask(rules, method, f"repo.example.org/lib.git/{path}", FETCH), 401, ())
    assert verdict.refusal
    answer = verdict.refusal.render()
    assert (answer.status, dict(answer.headers)["content-type"]) == (200, kind)
    length, line = answer.body[:4], answer.body
    assert (int(length, 16), line[4:8]) == (len(line), b"ERR ")


@pytest.mark.parametrize(
    ("value", "status", "shown"),
    [
        ("canary", 403, 200),
        ("canary", 404, 200),
        ("gitlab+deploy-token-1 canary", 401, 200),
        ("gitlab-ci-token canary", 401, 200),
        ("canary", 401, 424),
    ],
)
def test_composer_goes_to_git_where_a_gitlab_token_may_only_fetch(value: str, status: int, shown: int) -> None:
    rules = make_rules({"gitlab-token.gitlab.com": value})
    verdict = rules.judge(ask(rules, "GET", PROJECT), status, ())
    assert verdict.refusal
    answer = verdict.refusal.render()
    assert answer.status == shown
    assert bool(verdict.notice) is (shown == 424)  # else Composer goes on, and nothing is wrong
    assert ("permissions" in json.loads(answer.body)) is (shown == 200)


def test_another_program_is_told_what_gitlab_says() -> None:
    rules = make_rules({"gitlab-token.gitlab.com": "canary"})
    decision = ask(rules, "GET", PROJECT)
    curl = decision._replace(headers=(("user-agent", "curl/8"),))
    assert rules.judge(curl, 404, ()).action == "pass"


def test_what_nobody_but_git_lfs_reads_has_its_form() -> None:
    rules = make_rules()
    verdict = rules.judge(ask(rules, "GET", "repo.example.org/lib.git/info/lfs/locks"), 403, ())
    assert verdict.refusal
    assert "message" in json.loads(verdict.refusal.render().body)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (429, (("retry-after", "60"),)),
        (404, ()),
        (500, ()),
        (200, ()),
    ],
)
def test_other_answers_are_passed_on(status: int, headers: tuple[tuple[str, str], ...]) -> None:
    rules = make_rules()
    assert rules.judge(ask(rules, "GET", PRIVATE), status, headers).action == "pass"


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ((("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "1800000000")), " until 2027-01-15T08:00:00Z"),
        ((("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "soon")), ""),
        ((("retry-after", "60"),), ""),
    ],
)
def test_a_secret_whose_rate_limit_is_used_up_is_not_called_wrong(
    headers: tuple[tuple[str, str], ...], words: str
) -> None:
    rules = make_rules()
    for url in (PRIVATE, PROJECT):
        refusal = rules.judge(ask(rules, "GET", url), 403, headers).refusal
        assert refusal
        assert refusal.status == 424
        assert "takes no more requests with the secret" in refusal.words
        assert refusal.words.endswith(words)


def test_a_401_to_a_request_without_our_credential_is_the_servers_own_matter() -> None:
    rules = make_rules()
    assert rules.judge(ask(rules, "GET", "api.github.com/user"), 401, ()) == rules.judge(
        ask(rules, "GET", "elsewhere.example/x"), 401, ()
    )
    verdict = rules.judge(ask(rules, "GET", f"connect.acf.example/x?k={ACF}"), 403, ())
    assert verdict.action == "pass"
    assert "ACF_KEY" in verdict.notice


LIMIT = (("x-ratelimit-remaining", "0"),)
STRANGERS = [
    ("api.github.com/repos/a/b/zipball/0f", "api.github.com", "/repos/a/b", {"private": False}, {"private": True}),
    ("api.github.com/repositories/9/tags", "api.github.com", "/repositories/9", {"private": False}, {}),
    (
        "gitlab.com/api/v4/projects/a%2Fb/repository/archive.zip",
        "gitlab.com",
        "/api/v4/projects/a%2Fb",
        {"visibility": "public"},
        {"visibility": "internal"},
    ),
    ("gitlab.com/a/b/-/archive/1/b.zip", "gitlab.com", "/api/v4/projects/a%2Fb", {"visibility": "public"}, {}),
    (
        "bitbucket.org/a/b/get/0f.zip",
        "api.bitbucket.org",
        "/2.0/repositories/a/b",
        {"is_private": False},
        {"is_private": True},
    ),
    (
        "codeberg.org/api/v1/repos/a/b/archive/0f.zip",
        "codeberg.org",
        "/api/v1/repos/a/b",
        {"private": False},
        {"private": False, "visibility": "limited"},
    ),
]


@pytest.mark.parametrize(("url", "host", "path", "public", "private"), STRANGERS)
def test_a_strangers_public_repository_is_helped_past_a_rate_limit(
    url: str, host: str, path: str, public: dict[str, Any], private: dict[str, Any]
) -> None:
    for document, is_public in ((public, True), (private, False)):
        rules = make_rules()
        bare = ask(rules, "GET", url)
        assert (bare.credential, bare.probe) == (None, path)
        assert {rules.judge(bare, *each).action for each in [(403, LIMIT), (429, ()), (404, ())]} == {"help"}
        assert rules.judge(bare, 401, ()).action == "pass"
        probe = rules.make_probe(bare)
        assert (probe.endpoint.key, probe.target) == (host, path)
        assert probe.credential
        head = Head("GET", *bare.target.partition("?")[::2], (("host", bare.endpoint.key),))
        again = rules.judge_probe(bare, head, 200, json.dumps(document).encode())
        assert bool(again and again.credential) is is_public
        assert bool(ask(rules, "GET", url).credential) is is_public
        assert ask(rules, "GET", url).probe == ""


@pytest.mark.parametrize(("status", "body"), [(404, b'{"private": false}'), (200, b"x"), (200, b"[]"), (500, b"")])
def test_without_a_plain_yes_a_stranger_is_not_public_and_not_asked_about_again(status: int, body: bytes) -> None:
    rules = make_rules()
    bare = ask(rules, "GET", "api.github.com/repos/a/b/tags")
    assert rules.judge_probe(bare, Head("GET", "/repos/a/b/tags", "", ()), status, body) is None
    assert ask(rules, "GET", "api.github.com/repos/a/b/tags").probe == ""


def test_what_is_public_is_still_asked_for_the_drivers_endpoints_alone() -> None:
    rules = make_rules()
    bare = ask(rules, "GET", "api.github.com/repos/a/b/tags")
    rules.judge_probe(bare, Head("GET", "/repos/a/b/tags", "", ()), 200, b'{"private": false}')
    assert ask(rules, "GET", "api.github.com/repos/a/b/tags").credential
    assert not ask(rules, "GET", "api.github.com/repos/a/b/hooks").credential


# --- laws

HOSTS = [
    "github.com",
    "api.github.com",
    "codeload.github.com",
    "gitlab.com",
    "bitbucket.org",
    "api.bitbucket.org",
    "codeberg.org",
    "repo.example.org",
    "files.example.org",
    "connect.acf.example",
    "evil.example",
]
# The hosts that may be sent what holds each canary.
OWNERS = {
    "canarygithub": {"github.com", "api.github.com"},
    "canarygitlab": {"gitlab.com"},
    "minted": {"bitbucket.org", "api.bitbucket.org"},
    "canarybitbucket": {"bitbucket.org"},
    "canaryforgejo": {"codeberg.org"},
    "canarybasic": {"repo.example.org"},
    "canarybearer": {"files.example.org:8443"},
    "canary-acf": {"connect.acf.example"},
}
WORDS = """
    repos acme private sub lib lib.git info refs git-upload-pack git-receive-pack api v3 v4 projects acme%2Fsub%2Flib
    repository tags archive.zip .. %2e%2e variables satis packages.json 2.0 repositories get 0f.zip objects batch lfs
    zipball user *
""".split()
SEGMENTS = st.sampled_from([*WORDS, ACF, ""])
QUERIES = st.sampled_from(["", "service=git-upload-pack", "service=git-receive-pack", f"k={ACF}", "a=b&_method=PUT"])
HEADERS = st.lists(
    st.sampled_from(
        [
            ("authorization", "Basic own"),
            ("authorization", basic(f"{ACF}:x")),
            ("x-key", ACF),
            ("host", "evil.example"),
            ("connection", "authorization, host"),
            ("content-length", "9"),
            ("transfer-encoding", "chunked"),
            FORM,
            ("x-original-url", "/admin"),
        ]
    ),
    max_size=4,
)
REQUESTS = st.tuples(
    st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]),
    st.sampled_from(["https", "http"]),
    st.sampled_from(HOSTS),
    st.sampled_from([0, 0, 0, 8443]),
    st.lists(SEGMENTS, max_size=8).map(lambda parts: "/" + "/".join(parts)),
    QUERIES,
    HEADERS,
)


def spell(decision: Decision, body: bytes = b"") -> str:
    """Return all that is sent, with the pairs of basic authentication opened."""
    shown = [decision.target, body.decode("latin-1"), *(f"{name}: {value}" for name, value in decision.headers)]
    for _, value in decision.headers:
        if value.startswith("Basic ") and value != "Basic own":
            shown.append(base64.b64decode(value[6:]).decode("latin-1"))
    return "\n".join(shown)


@settings(max_examples=600)
@given(st.lists(REQUESTS, min_size=1, max_size=4), st.sampled_from([b"k=1", f"k={ACF}".encode()]))
def test_no_byte_of_a_credential_leaves_to_any_host_but_its_own(requests: list[Any], body: bytes) -> None:
    """And what is refused has nothing that could be sent, whatever was learnt before."""
    rules = make_rules(writable=frozenset({"codeberg.org"}))
    for method, scheme, host, port, path, query, headers in requests:
        endpoint = Endpoint(scheme, host, port or (443 if scheme == "https" else 80))
        head = Head(method, path, query, tuple(headers))
        decision = rules.decide(endpoint, head)
        for step in (decision, decision.first or decision):
            sent = b""
            if step.body == "small":
                step, sent = rules.decide_body(step, head, body)
            if step.refusal or step.needs_token:
                assert (step.target, step.headers, sent) == ("", (), b"")
                continue
            text = spell(step, sent)
            for canary, owners in OWNERS.items():
                assert canary not in text or (step.endpoint.key in owners and scheme == "https")
            hosts = [value for name, value in step.headers if name == "host"]
            assert hosts == ([step.endpoint.key] if step.target else [])
            if step.target:
                rules.learn(step, 302, (("location", "https://evil.example/acme/private"),))
                rules.learn(
                    step, 200, (("link", "<https://evil.example/x>"),), b'{"packages": {}, "notify-batch": "/x"}'
                )


def test_nothing_shows_a_value() -> None:
    order = make_order()
    decision = ask(make_rules(), "GET", PRIVATE)
    assert "canary" not in f"{order!r} {order.bound!r} {decision!r} {decision.credential!r}"


def test_an_order_comes_back_from_its_json() -> None:
    order = make_order(
        writable=frozenset({"b", "a"}),
        insecure=frozenset({"http://a"}),
        environment={"https_proxy": "http://p"},
        authorities="-----BEGIN",
        password="pw",
    )
    assert Order.from_json(order.to_json()) == order
    assert order.to_json().isascii()
