"""What a hostile project, a hostile server or code in a build might get the rules to do; each with what works."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from ic_secrets.broker.order import Bound, Order, Place
from ic_secrets.broker.placeholders import Hider, make_placeholder
from ic_secrets.broker.rules import Decision, Head, Rules
from ic_secrets.broker.targets import Endpoint
from ic_secrets.composer.credential import parse_credential
from ic_secrets.composer.methods import map_hosts

ACF = make_placeholder("store", "site:a", "ACF_KEY")
BOUND = Bound("ACF_KEY", ACF, "canary-acf/1", ("connect.acf.example",))
FETCH = ("content-type", "application/x-git-upload-pack-request")
LFS = ("content-type", "application/vnd.git-lfs+json")


def make_rules(secrets: dict[str, str], *places: Place, config: Any = None, **more: Any) -> Rules:
    credentials = tuple(parse_credential(*each) for each in secrets.items())
    return Rules(Order(credentials, places=places, forges=map_hosts(config), **more))


def ask(rules: Rules, method: str, url: str, *headers: tuple[str, str], body: bytes | None = None) -> Decision:
    scheme, _, rest = url.rpartition("://")
    host, slash, path = rest.partition("/")
    path, _, query = (slash + path).partition("?")
    endpoint = Endpoint(scheme or "https", host, 80 if scheme == "http" else 443)
    length = (("content-length", str(len(body))),) if body else ()
    head = Head(method, path, query, (("host", host), *headers, *length))
    decision = rules.decide(endpoint, head)
    return rules.decide_body(decision, head, body)[0] if decision.body == "small" and body else decision


def teach(rules: Rules, url: str, document: Any = None, status: int = 200, **headers: str) -> None:
    decision = ask(rules, "GET", url)
    body = json.dumps(document).encode() if document is not None and decision.learns else b""
    rules.learn(decision, status, tuple(headers.items()), body)


def composer(url: str) -> Place:
    return Place("composer", url, "http")


# --- to write

FORGEJO = {"forgejo-token.codeberg.org": "me canary"}
BATCH = json.dumps({"operation": "download", "transfers": ["basic"], "objects": [], "hash_algo": "sha256"}).encode()


def test_no_file_is_written_by_an_api_whose_path_ends_like_a_fetch() -> None:
    """Forgejo's API makes a file by a POST to its path, which may have any name."""
    rules = make_rules(FORGEJO, Place("vcs", "https://codeberg.org/acme/lib", "api"))
    for name in ("git-upload-pack", "x.git/info/lfs/objects/batch"):
        url = f"codeberg.org/api/v1/repos/acme/lib/contents/{name}"
        assert ask(rules, "GET", url).credential
        assert ask(rules, "POST", url, FETCH).refusal
        assert ask(rules, "POST", url, LFS, body=BATCH).refusal
    assert ask(rules, "POST", "codeberg.org/acme/lib.git/git-upload-pack", FETCH).credential
    assert ask(rules, "POST", "codeberg.org/acme/lib.git/info/lfs/objects/batch", LFS, body=BATCH).credential


def test_no_file_is_written_on_a_host_that_is_not_known_as_a_forge() -> None:
    """Forgejo's API takes a password too, and reads JSON of any type, but no other body."""
    rules = make_rules({"http-basic.git.example.org": "me canary"})
    url = "git.example.org/api/v1/repos/acme/lib/contents"
    written = json.dumps({**json.loads(BATCH), "content": "eA=="}).encode()
    assert ask(rules, "POST", f"{url}/git-upload-pack", ("content-type", "application/json")).refusal
    assert ask(rules, "POST", f"{url}/git-upload-pack").refusal
    assert ask(rules, "POST", f"{url}/info/lfs/objects/batch", LFS, body=written).refusal
    for content in ("application/x-git-upload-pack-request", "Application/X-Git-Upload-Pack-Request"):
        assert ask(rules, "POST", "git.example.org/lib.git/git-upload-pack", ("content-type", content)).credential
    assert ask(rules, "POST", "git.example.org/lib.git/info/lfs/objects/batch", LFS, body=BATCH).credential


@pytest.mark.parametrize(
    "target",
    ["/repos/acme/lib/git/refs", "/graphql", "https://github.com/acme/lib/archive/x", "/repos/evil/x/zipball/x"],
)
def test_no_packages_json_on_a_forge_announces_a_post_with_the_credential(target: str) -> None:
    """A file of any repository is one, where the request asks for it raw."""
    base = composer("https://api.github.com/repos/evil/x/contents")
    rules = make_rules({"github-oauth.github.com": "canary"}, base, Place("vcs", "https://github.com/acme/lib", "api"))
    root = ask(rules, "GET", "api.github.com/repos/evil/x/contents/packages.json")
    rules.learn(root, 200, (), json.dumps({"notify-batch": target, "packages": []}).encode())
    url = target.removeprefix("https://") if "://" in target else f"api.github.com{target}"
    decision = ask(rules, "POST", url)
    assert not decision.first
    assert (decision.credential, decision.refusal) == (None, None), "as it is, without the credential"
    basic = make_rules({"http-basic.repo.example.org": "me canary"}, composer("https://repo.example.org"))
    teach(basic, "repo.example.org/packages.json", {"notify-batch": "/n", "packages": []})
    assert ask(basic, "POST", "repo.example.org/n").credential


@pytest.mark.parametrize(
    "name",
    ["X_HTTP_Method_Override", "x-http_method", "X-Original-Method", "X-Forwarded-URI", "Transfer_Encoding", "Sudo"],
)
def test_no_header_tells_a_server_another_method_in_another_spelling(name: str) -> None:
    """CGI, WSGI and PHP read a dash and an underscore alike."""
    rules = make_rules({"http-basic.repo.example.org": "me canary"})
    decision = ask(rules, "GET", "repo.example.org/x", (name.lower(), "DELETE"), ("x_mine", "1"))
    assert decision.credential
    assert [key for key, _ in decision.headers] == ["host", "x_mine", "authorization"]
    other = ask(rules, "GET", "elsewhere.example/x", ("x-http-method-override", "DELETE"))
    assert ("x-http-method-override", "DELETE") in other.headers


# --- to reach what nobody named


@pytest.mark.parametrize("key", ["gitlab-domains", "github-domains", "forgejo-domains"])
@pytest.mark.parametrize("secret", ["github-oauth.github.com", "http-basic.github.com"])
def test_a_project_cannot_say_that_github_is_another_forge(key: str, secret: str) -> None:
    """The other one's paths are others, and all that is no API of its would count as a website."""
    config = {key: ["github.com", "api.github.com"]}
    value = "canary" if "oauth" in secret else "me canary"
    places = (composer("https://api.github.com/"), Place("vcs", "https://github.com/acme/lib", "api"))
    rules = make_rules({secret: value}, *places, config=config)
    for path in ("/user/keys", "/repos/acme/secret/contents/x", "/repos/acme/lib/hooks"):
        assert not ask(rules, "GET", f"api.github.com{path}").credential
    assert ask(rules, "GET", "api.github.com/repos/acme/lib/tags").credential


def test_a_project_cannot_say_that_a_secrets_own_forge_is_another_one() -> None:
    config = {"gitlab-domains": ["git.example.org"], "forgejo-domains": ["lab.example.org"]}
    secrets = {"forgejo-token.git.example.org": "me canary", "gitlab-token.lab.example.org": "canary"}
    bases = (composer("https://git.example.org/"), composer("https://lab.example.org/"))
    rules = make_rules(secrets, *bases, config=config)
    assert not ask(rules, "GET", "git.example.org/api/v1/user").credential
    assert not ask(rules, "GET", "lab.example.org/api/v4/user").credential
    assert ask(rules, "GET", "git.example.org/api/packages/acme/composer/packages.json").credential


@pytest.mark.parametrize("prefix", ["/api", "/api/v4", "/api/v4/projects"])
def test_a_project_cannot_install_a_gitlab_inside_of_its_own_api(prefix: str) -> None:
    """What is below the prefix would else be the website, all of which a repository may name."""
    config = {"gitlab-domains": ["gitlab.com", f"gitlab.com{prefix}", f"lab.example.org{prefix}", "lab.example.org"]}
    secrets = {"gitlab-token.gitlab.com": "canary", "gitlab-token.lab.example.org": "canary"}
    bases = (composer("https://gitlab.com/"), composer("https://lab.example.org/"))
    rules = make_rules(secrets, *bases, config=config)
    for host in ("gitlab.com", "lab.example.org"):
        for path in ("user", "projects/1/variables", "version"):
            assert not ask(rules, "GET", f"{host}/api/v4/{path}").credential
        assert ask(rules, "GET", f"{host}/acme/packages.json").credential


@pytest.mark.parametrize("path", ["/api%2Fv4/user", "/api%2fv4%2fuser", "/%61pi%2Fv4/user"])
def test_an_encoded_slash_makes_no_website_of_an_api(path: str) -> None:
    rules = make_rules({"gitlab-token.gitlab.com": "canary"}, composer("https://gitlab.com/"))
    assert not ask(rules, "GET", f"gitlab.com{path}").credential
    assert ask(rules, "GET", "gitlab.com/acme%2Fv4/user").credential


# --- on plain HTTP


def test_plain_http_is_for_the_very_repository_that_the_project_says_so_for() -> None:
    """Whoever is on the way, and root of the build's machine by /etc/hosts, reads what goes there."""
    places = (composer("http://plain.example.org/satis"), Place("vcs", "http://api.github.com/repos/acme/lib", "api"))
    secrets = {"http-basic.plain.example.org": "me canary", "github-oauth.github.com": "canary"}
    insecure = frozenset(place.url for place in places) | {"http://connect.acf.example/x", "http://github.com/acme/lib"}
    rules = make_rules(secrets, *places, insecure=insecure, bound=(BOUND,))
    assert ask(rules, "GET", "http://plain.example.org/satis/packages.json").credential
    assert not ask(rules, "GET", "http://plain.example.org/other/packages.json").credential
    assert not ask(rules, "GET", "http://plain.example.org/satisfied").credential
    for url in ("http://api.github.com/repos/acme/lib", "http://github.com/acme/lib/info/refs?service=git-upload-pack"):
        assert not ask(rules, "GET", url).credential
        assert ask(rules, "GET", url.replace("http:", "https:")).credential
    assert not ask(rules, "GET", f"http://connect.acf.example/x?k={ACF}").filled
    assert ask(rules, "GET", f"connect.acf.example/x?k={ACF}").filled


def test_nothing_is_learnt_from_an_answer_on_plain_http() -> None:
    """Anybody on the way may have written it."""
    rules = make_rules({"github-oauth.github.com": "canary"}, Place("vcs", "https://github.com/acme/lib", "api"))
    moved = "https://api.github.com/repositories/42"
    teach(rules, "http://api.github.com/repos/acme/lib", status=301, location=moved)
    teach(rules, "http://api.github.com/repos/acme/lib", {"id": 42, "full_name": "acme/secret"})
    assert not ask(rules, "GET", "api.github.com/repositories/42").credential
    assert not ask(rules, "GET", "api.github.com/repos/acme/secret").credential
    teach(rules, "api.github.com/repos/acme/lib", status=301, location=moved)
    assert ask(rules, "GET", "api.github.com/repositories/42").credential


# --- to get a credential of its own


def test_no_session_is_handed_out_that_a_credential_has_opened() -> None:
    rules = make_rules({"http-basic.repo.example.org": "me canary"}, bound=(BOUND,))
    answer = (("set-cookie", "session=1"), ("content-type", "text/html"), ("set-cookie", "b=2"))
    assert rules.hide_values(ask(rules, "GET", "repo.example.org/x"), answer) == answer[1:2]
    for url in (f"connect.acf.example/x?k={ACF}", "elsewhere.example/x"):
        assert rules.hide_values(ask(rules, "GET", url), answer) == answer


@pytest.mark.parametrize("name", ["accept-encoding", "Accept_Encoding", "Range", "If_Range"])
def test_an_answer_that_may_repeat_a_value_cannot_be_asked_for_packed_or_in_parts(name: str) -> None:
    rules = make_rules({}, bound=(BOUND,))
    decision = ask(rules, "GET", f"connect.acf.example/x?k={ACF}", (name.lower(), "gzip"))
    assert [each for each in decision.headers if each[0] != "host"] == [("accept-encoding", "identity")]
    assert (name.lower(), "gzip") in ask(rules, "GET", "connect.acf.example/x", (name.lower(), "gzip")).headers


# --- to stop it


def test_a_long_value_is_looked_for_in_no_time() -> None:
    value = "\n".join(f"line {number} of a canary" for number in range(700))
    hider = Hider({ACF: value})
    start = time.monotonic()
    shown = hider.feed(b"a" * 1_000_000 + value.encode()) + hider.close()
    assert time.monotonic() - start < 5
    assert shown == b"a" * 1_000_000 + ACF.encode()


def test_what_a_server_announces_is_matched_in_no_time() -> None:
    base = composer("https://repo.example.org")
    rules = make_rules({"http-basic.repo.example.org": "me canary", "github-oauth.github.com": "canary"}, base)
    announced = {"metadata-url": "/" + "%a%" * 30 + "x%package%.json", "providers-url": "/p/%package%$%hash%.json"}
    teach(rules, "repo.example.org/packages.json", {**announced, "packages": []})
    start = time.monotonic()
    assert not ask(rules, "GET", "repo.example.org/" + "a" * 4000).learns
    assert time.monotonic() - start < 1
    assert ask(rules, "GET", "repo.example.org/p/acme/lib$0f0f.json").learns
