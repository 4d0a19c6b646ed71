"""What would lead a build past the broker is refused before anything is exposed; what is harmless is said."""

from __future__ import annotations

from typing import Any

import pytest

from ic_secrets.broker.defeats import find_defeats
from ic_secrets.composer.repositories import read_sources

HOSTS = frozenset({"repo.org", "github.com", "port.org:8443"})
NOTHING = read_sources({}, None)


def levels(found: tuple[Any, ...]) -> list[str]:
    return [notice.level for notice in found]


def check_options(options: Any, url: str = "https://repo.org/x") -> tuple[Any, ...]:
    manifest = {"repositories": [{"type": "composer", "url": url, "options": options}]}
    return find_defeats(HOSTS, read_sources(manifest, None), {}, (), {})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"ssl": {"cafile": "ca.pem"}}, ["error"]),
        ({"ssl": {"capath": "certs"}}, ["error"]),
        ({"ssl": {"peer_fingerprint": "ab"}}, ["error"]),
        ({"ssl": {"local_cert": "c.pem", "local_pk": "k.pem", "passphrase": "x"}}, ["error"]),
        ({"http": {"proxy": "tcp://corp:3128"}}, ["error"]),
        ({"ssl": {"verify_peer": False, "verify_peer_name": False}}, ["warning"]),
        ({"ssl": {"verify_peer": False, "cafile": "ca.pem"}}, ["error", "warning"]),
        ({"http": {"header": ["X-A: b"], "timeout": 60}}, []),
        ({"ssl": [], "http": "x"}, []),
        (["ssl"], []),
        (None, []),
    ],
)
def test_options_of_a_repository_of_a_host_of_the_broker(options: Any, expected: list[str]) -> None:
    assert levels(check_options(options)) == expected


@pytest.mark.parametrize(
    ("url", "is_ours"),
    [
        ("https://repo.org/x", True),
        ("https://user:word@REPO.org", True),
        ("https://api.github.com/x", True),
        ("https://port.org:8443/x", True),
        ("https://port.org/x", False),
        ("https://other.org", False),
    ],
)
def test_options_concern_the_broker_at_its_hosts_alone(url: str, is_ours: bool) -> None:
    found = check_options({"ssl": {"cafile": "ca.pem"}}, url)
    assert bool(found) is is_ours
    assert "word" not in repr(found)


@pytest.mark.parametrize("section", ["dist", "source"])
@pytest.mark.parametrize("place", ["lock", "inline"])
def test_options_of_a_package_count_too(section: str, place: str) -> None:
    package = {
        "name": "acme/one",
        section: {"type": "zip", "url": "https://repo.org/one"},
        "transport-options": {"ssl": {"capath": "/certs"}},
    }
    manifest = {"repositories": [{"type": "package", "package": package}]} if place == "inline" else {}
    lock = {"packages": [package]} if place == "lock" else None
    found = find_defeats(HOSTS, read_sources(manifest, lock), {}, (), {})
    assert levels(found) == ["error"]
    assert "the package acme/one has the option ssl.capath" in found[0].text


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"cafile": "ca.pem"}, ["error"]),
        ({"capath": "certs"}, ["error"]),
        ({"disable-tls": True}, ["error"]),
        ({"disable-tls": False, "cafile": None, "secure-http": False}, []),
    ],
)
def test_authorities_and_tls_in_the_projects_own_configuration(config: dict[str, Any], expected: list[str]) -> None:
    assert levels(find_defeats(HOSTS, NOTHING, config, (), {})) == expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("http.https://github.com/acme.proxy", "http://corp:1", ["error"]),
        ("http.https://github.com/acme.proxy", "", ["error"]),
        ("http.https://me@github.com/.proxy", "http://corp:1", ["error"]),
        ("http.https://*.com/.proxy", "http://corp:1", ["error"]),
        ("http.https://port.org:8443/a.proxy", "http://corp:1", ["error"]),
        ("http.https://github.com:443/a.proxy", "http://corp:1", ["error"]),
        ("http.https://github.com/.proxy", "http://corp:1", ["warning"]),
        ("http.https://github.com.proxy", "http://corp:1", ["warning"]),
        ("http.proxy", "http://corp:1", ["warning"]),
        ("http.proxy", "http://env:1", []),  # the broker goes by it too
        ("http.https://other.org/acme.proxy", "http://corp:1", []),
        ("http.https://port.org/acme.proxy", "http://corp:1", []),
        ("http.https://sub.github.com/acme.proxy", "http://corp:1", []),
        ("http.sslverify", "false", ["warning"]),
        ("http.https://github.com/.sslverify", "0", ["warning"]),
        ("http.sslverify", "true", []),
        ("http.https://github.com/.sslcert", "/c.pem", ["error"]),
        ("http.sslcert", "/c.pem", ["warning"]),
        ("http.https://github.com/.sslcainfo", "/ca.pem", []),
        ("http.https://github.com/.extraheader", "Authorization: x", []),
        ("url.git@github.com:.insteadof", "https://github.com/", ["error"]),
        ("url.ssh://git@github.com/.insteadof", "https://github.com/acme/", ["error"]),
        ("url.ssh://git@proxy/.insteadof", "https://", ["error"]),
        ("url.git@github.com:.insteadof", "gh:", []),
        ("url.git@other.org:.insteadof", "https://other.org/", []),
        ("url.https://mirror.org/.insteadof", "https://github.com/", []),
        ("url.https://github.com/.insteadof", "git@github.com:", []),
        ("url.git@github.com:.pushinsteadof", "https://github.com/", []),
        ("http.nonsense.proxy", "x", []),
        ("core.proxy", "x", []),
    ],
)
def test_git_as_the_person_has_set_it(key: str, value: str, expected: list[str]) -> None:
    found = find_defeats(HOSTS, NOTHING, {}, [("user.name", "Me"), (key, value)], {"https_proxy": "http://env:1"})
    assert levels(found) == expected
    assert all(notice.hint for notice in found)


def test_no_login_of_a_url_is_shown() -> None:
    git = [
        ("http.https://me:s3cret@github.com/.proxy", "http://corp:w0rd@corp:1"),
        ("url.ssh://me:s3cret@x/.insteadof", "https://"),
    ]
    found = find_defeats(HOSTS, NOTHING, {}, git, {})
    assert levels(found) == ["error", "error"]
    assert "s3cret" not in repr(found)
    assert "w0rd" not in repr(found)


@pytest.mark.parametrize("name", ["GIT_SSL_NO_VERIFY", "GIT_SSL_CERT"])
def test_variables_of_git_that_the_broker_does_not_keep_to_are_said(name: str) -> None:
    assert levels(find_defeats(HOSTS, NOTHING, {}, (), {name: "1"})) == ["warning"]


def test_errors_come_first_and_each_thing_once() -> None:
    git = [("http.sslverify", "false"), ("http.sslverify", "false"), ("http.https://repo.org/x.proxy", "")]
    assert levels(find_defeats(HOSTS, NOTHING, {"cafile": "x"}, git, {})) == ["error", "error", "warning"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"all_proxy": "socks5h://127.0.0.1:1080"}, ["error"]),
        ({"ALL_PROXY": "socks5://user:w0rd@corp"}, ["error"]),
        ({"https_proxy": "https://corp:3128"}, ["error"]),
        ({"https_proxy": "http://corp:3128", "all_proxy": "socks5h://127.0.0.1:1080"}, []),
        ({"http_proxy": "socks5h://127.0.0.1:1080"}, []),
        ({"all_proxy": "socks5h://127.0.0.1:1080", "no_proxy": "repo.org,github.com,port.org"}, []),
    ],
)
@pytest.mark.parametrize("hosts", [HOSTS, frozenset()])
def test_a_proxy_that_the_broker_cannot_use_is_refused_before(
    environment: dict[str, str], expected: list[str], hosts: frozenset[str]
) -> None:
    if not hosts and "no_proxy" in environment:  # packagist.org is on the way of nearly every build
        expected = ["error"]
    found = find_defeats(hosts, NOTHING, {}, (), environment)
    assert levels(found) == expected
    assert "w0rd" not in repr(found)
