"""Which proxy of the person's own is used for which server."""

from __future__ import annotations

import pytest

from ic_secrets.broker.proxies import UnreachableError, UpstreamProxy, find_proxy
from ic_secrets.broker.targets import Endpoint

SECURE = Endpoint("https", "repo.example.org", 443)
PLAIN = Endpoint("http", "repo.example.org", 80)


@pytest.mark.parametrize(
    ("environment", "endpoint", "expected"),
    [
        ({}, SECURE, None),
        ({"https_proxy": "http://p.example:3128"}, SECURE, UpstreamProxy("p.example", 3128)),
        ({"HTTPS_PROXY": "p.example"}, SECURE, UpstreamProxy("p.example", 80)),
        ({"https_proxy": "http://lower", "HTTPS_PROXY": "http://upper"}, SECURE, UpstreamProxy("lower", 80)),
        ({"https_proxy": "", "HTTPS_PROXY": "http://upper"}, SECURE, UpstreamProxy("upper", 80)),
        ({"https_proxy": "http://p.example"}, PLAIN, None),
        ({"http_proxy": "http://p.example"}, PLAIN, UpstreamProxy("p.example", 80)),
        ({"http_proxy": "http://p.example"}, SECURE, None),
        ({"ALL_PROXY": "http://p.example"}, SECURE, UpstreamProxy("p.example", 80)),
        ({"https_proxy": "http://u:p%40ss@p.example"}, SECURE, UpstreamProxy("p.example", 80, "Basic dTpwQHNz")),
        ({"https_proxy": "http://u@p.example"}, SECURE, UpstreamProxy("p.example", 80, "Basic dTo=")),
        ({"https_proxy": "http://[::1]:3128"}, SECURE, UpstreamProxy("::1", 3128)),
    ],
)
def test_the_proxy_is_the_one_that_curl_would_take(
    environment: dict[str, str], endpoint: Endpoint, expected: UpstreamProxy | None
) -> None:
    assert find_proxy(environment, endpoint) == expected
    assert "p@ss" not in repr(expected)
    assert "dTpwQHNz" not in repr(expected)


@pytest.mark.parametrize(
    ("exempt", "host", "is_exempt"),
    [
        ("repo.example.org", "repo.example.org", True),
        ("example.org", "repo.example.org", True),
        (".example.org", "repo.example.org", True),
        ("*.example.org", "repo.example.org", True),
        ("EXAMPLE.ORG", "repo.example.org", True),
        ("example.org.", "repo.example.org", True),
        ("ample.org", "repo.example.org", False),
        ("repo.example.org.evil", "repo.example.org", False),
        ("a, b ,example.org", "repo.example.org", True),
        ("a b example.org", "repo.example.org", True),
        ("*", "repo.example.org", True),
        ("", "repo.example.org", False),
        (".", "repo.example.org", False),
        ("repo.example.org:443", "repo.example.org", True),
        ("repo.example.org:8443", "repo.example.org", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.0/8", "127.1.2.3", True),
        ("10.0.0.0/8", "127.0.0.1", False),
        ("27.0.0.1", "127.0.0.1", False),
        ("::1", "::1", True),
        ("[::1]:443", "::1", True),
        ("[::1]:80", "::1", False),
        ("fd00::/8", "fd12::3", True),
        ("no/mask", "127.0.0.1", False),
    ],
)
def test_no_proxy_exempts_a_host_its_subdomains_networks_and_ports(exempt: str, host: str, is_exempt: bool) -> None:
    found = find_proxy({"https_proxy": "http://p", "no_proxy": exempt}, Endpoint("https", host, 443))
    assert (found is None) == is_exempt
    assert find_proxy({"https_proxy": "http://p", "NO_PROXY": exempt}, Endpoint("https", host, 443)) == found


@pytest.mark.parametrize("url", ["socks5://p", "https://p", "http://", "http://p:99999", "ftp://p"])
def test_a_proxy_that_is_not_an_http_one_is_said(url: str) -> None:
    with pytest.raises(UnreachableError, match="not an http://"):
        find_proxy({"https_proxy": url}, SECURE)
