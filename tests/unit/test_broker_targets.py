"""Who is asked: every other spelling of a host or a path is the same one, or is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from ic_secrets.broker.targets import (
    Endpoint,
    RequestError,
    has_tricks,
    is_plain,
    parse_absolute,
    parse_connect,
    parse_host,
    split_path,
)

CONNECTS = {
    "repo.example.org:443": ("repo.example.org", 443),
    "REPO.example.ORG:443": ("repo.example.org", 443),
    "repo.example.org.:443": ("repo.example.org", 443),
    "repo.example.org:8443": ("repo.example.org", 8443),
    "bücher.example:443": ("xn--bcher-kva.example", 443),
    "xn--bcher-kva.example:443": ("xn--bcher-kva.example", 443),
    "127.0.0.1:18080": ("127.0.0.1", 18080),
    "[::1]:18911": ("::1", 18911),
    "[0:0:0:0:0:0:0:1]:443": ("::1", 443),
    "[::ffff:127.0.0.1]:443": ("127.0.0.1", 443),
    "under_score.example.org:443": ("under_score.example.org", 443),
    "localhost:443": ("localhost", 443),
}
REFUSED = [
    "repo.example.org",
    "repo.example.org:",
    "repo.example.org:0",
    "repo.example.org:65536",
    "repo.example.org:443443",
    "repo.example.org:443/",
    "user@repo.example.org:443",
    "user:word@repo.example.org:443",
    "repo.example.org:443@evil.example:443",
    "repo.example.org:443#:1",
    "2130706433:443",
    "0x7f000001:443",
    "0x7f.1:443",
    "127.1:443",
    "127.0.0.01:443",
    "0177.0.0.1:443",
    "127.0.0.1.:0",
    "[fe80::1%eth0]:443",
    "[fe80::1%25eth0]:443",
    "[::1:443",
    "::1:443",
    "[repo.example.org]:443",
    "repo..example.org:443",
    ".example.org:443",
    ":443",
    "-a.example.org:443",
    "repo example.org:443",
    "repo.example.org\t:443",
    "repo.example.org\\evil:443",
    "a" * 64 + ".example.org:443",
    "a." * 127 + "aa:443",
]


@pytest.mark.parametrize(("text", "found"), CONNECTS.items())
def test_a_host_has_one_spelling(text: str, found: tuple[str, int]) -> None:
    assert parse_connect(text) == Endpoint("https", *found)


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_plainly_a_host_and_a_port_is_refused(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_connect(text)
    assert caught.value.status == 400


def test_a_refusal_does_not_repeat_the_request() -> None:
    with pytest.raises(RequestError) as caught:
        parse_connect("canary:5f1c@example.org:443")
    assert "canary" not in caught.value.words


def test_the_key_is_composers_spelling() -> None:
    assert parse_connect("a.org:443").key == "a.org"
    assert parse_connect("a.org:8443").key == "a.org:8443"
    assert parse_connect("[::1]:443").key == "[::1]"
    assert parse_absolute("http://a.org/").endpoint.key == "a.org"
    assert parse_absolute("http://a.org:443/").endpoint.key == "a.org:443"
    assert parse_host("A.org", "https").key == "a.org"


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [("localhost", True), ("127.8.9.1", True), ("::1", True), ("a.localhost.org", False), ("10.0.0.1", False)],
)
def test_loopback_is_known_by_its_name(host: str, is_loopback: bool) -> None:
    assert Endpoint("http", host, 80).is_loopback is is_loopback


@pytest.mark.parametrize(
    ("text", "host", "path", "query"),
    [
        ("http://a.org", "a.org", "/", ""),
        ("HTTP://A.org:8080/x%2Fy?a=b?c", "a.org", "/x%2Fy", "a=b?c"),
        ("http://a.org?a=b", "a.org", "/", "a=b"),
    ],
)
def test_a_url_is_taken_apart_as_it_was_written(text: str, host: str, path: str, query: str) -> None:
    url = parse_absolute(text)
    assert (url.endpoint.host, url.path, url.query) == (host, path, query)


@pytest.mark.parametrize(
    "text", ["/x", "ftp://a.org/", "http:a.org/", "http:///x", "http://u@a.org/", "http://a.org/#x"]
)
def test_what_is_not_a_url_for_a_proxy_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        parse_absolute(text)


TRICKS = [
    "/a/../b",
    "/a/%2e%2e/b",
    "/a/%2E./b",
    "/a/./b",
    "/..",
    "/a/..;/b",
    "/a/..%3Bx/b",
    "/a%2f..%2fb",
    "/a%2F%2e%2e",
    "/a\\..\\b",
    "/a%5cb",
    "/a%00b",
    "/a%0d%0ab",
    "/a b",
    "/a#b",
    "/a%zzb",
    "/a%",
    "/a\x7f",
]


@pytest.mark.parametrize("path", TRICKS)
def test_a_path_that_servers_read_differently_is_not_plain(path: str) -> None:
    assert has_tricks(path)
    assert not is_plain(path)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/v4/projects/acme%2Fsub%2Flib/repository/files/composer%2Ejson/raw",
        "/api/v4/projects/a/repository/files/%2Egithub%2FFUNDING%2Eyml/raw",
        "/p2/acme/lib~dev.json",
        "/.well-known/x",
        "/a/...",
        "/a..b/c",
    ],
)
def test_what_composer_asks_is_plain(path: str) -> None:
    assert is_plain(path)
    assert split_path(f"{path}?a=../b") == (path, "a=../b", True)


@pytest.mark.parametrize("path", ["/a/%252e%252E/b", "/a%252fb", "/a%25255cb"])
def test_a_path_that_climbs_for_whoever_decodes_twice_is_not_plain(path: str) -> None:
    assert not is_plain(path)
    assert is_plain("/a/100%25/b%2525"), "a percent sign by itself is"


def test_an_empty_segment_is_no_trick_but_not_plain() -> None:
    assert not is_plain("/a//b")
    assert not has_tricks("/a//b")


@given(st.text(max_size=60))
def test_any_text_is_a_host_in_its_only_spelling_or_refused(text: str) -> None:
    """What was parsed once is parsed to itself."""
    try:
        endpoint = parse_connect(text)
    except RequestError:
        return
    again = parse_host(endpoint.key, "https")
    assert again == endpoint
    assert again.host == again.host.lower()
    assert "@" not in again.host
