"""The hosts that a secret may be bound to: how they are spelled, and what is said of any other spelling."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from ic_secrets.errors import InvalidHostError
from ic_secrets.model.hosts import MAX_LENGTH, check_hosts, format_hosts, parse_hosts
from ic_secrets.model.secret import Hosts, SecretType


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("connect.advancedcustomfields.com", ("connect.advancedcustomfields.com",)),
        (" b.example.org:8443 , a.example.org,a.example.org", ("a.example.org", "b.example.org:8443")),
        ("xn--bcher-kva.example", ("xn--bcher-kva.example",)),
        (
            "localhost:8080,127.0.0.1,[::1],[2001:db8::1]:8443",
            ("127.0.0.1", "[2001:db8::1]:8443", "[::1]", "localhost:8080"),
        ),
        ("", ()),
        (" ", ()),
    ],
)
def test_hosts_are_spelled_as_composers_keys(text: str, hosts: tuple[str, ...]) -> None:
    assert parse_hosts(text) == hosts
    assert parse_hosts(format_hosts(hosts)) == hosts == check_hosts(SecretType.ENV, reversed(hosts))


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("https://Connect.example.com/v2?k=1", "a host has no scheme and no login", "write connect.example.com"),
        ("https://a.example.com:8443", "a host has no scheme and no login", "write a.example.com:8443"),
        ("https://a.example.com:443/", "a host has no scheme and no login", "a host is HOST or HOST:PORT"),
        ("https://", "a host has no scheme and no login", "a host is HOST or HOST:PORT"),
        ("a.example.com/v2", "'a.example.com/v2' has a path", "write a.example.com"),
        ("*.example.com", "'*.example.com' has a wildcard", "a host is HOST or HOST:PORT"),
        ("A.example.com", "'A.example.com' is not lower case", "write a.example.com"),
        ("a.example.com.", "'a.example.com.' ends with a dot", "write a.example.com"),
        ("bücher.example", "'bücher.example' is not ASCII", "a host is HOST or HOST:PORT"),
        ("a.example.com:443", "names the port of https", "write a.example.com"),
        ("a.example.com:0", "has a port that is not a number from 1 to 65535", "a host is HOST or HOST:PORT"),
        ("a.example.com:65536", "has a port that is not a number from 1 to 65535", "a host is HOST or HOST:PORT"),
        ("a.example.com:", "has a port that is not a number from 1 to 65535", "a host is HOST or HOST:PORT"),
        ("127.1", "is not an address as it is usually written", "a host is HOST or HOST:PORT"),
        ("0x7f.0.0.1", "is not an address as it is usually written", "a host is HOST or HOST:PORT"),
        ("2130706433", "is not an address as it is usually written", "a host is HOST or HOST:PORT"),
        ("127.0.0.01", "is not an address as it is usually written", "a host is HOST or HOST:PORT"),
        ("[::0001]", "is not an address as it is usually written", "a host is HOST or HOST:PORT"),
        ("[fe80::1%eth0]", "is not an address as it is usually written", "a host is HOST or HOST:PORT"),
        ("a.example.com,,b.example.com", "a host is empty", "a host is HOST or HOST:PORT"),
        ("a b", "'a b' is not a host", "a host is HOST or HOST:PORT"),
        ("a..b", "'a..b' is not a host", "a host is HOST or HOST:PORT"),
        ("a" * 64 + ".example.com", "is not a host", "a host is HOST or HOST:PORT"),
    ],
)
def test_what_is_wrong_with_a_host_is_said(text: str, message: str, hint: str) -> None:
    with pytest.raises(InvalidHostError) as caught:
        parse_hosts(text)
    assert message in str(caught.value)
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize("text", ["https://me:pass-canary@a.example.com/x", "me:pass-canary@a.example.com"])
def test_a_login_before_a_host_is_not_shown(text: str) -> None:
    with pytest.raises(InvalidHostError) as caught:
        parse_hosts(text)
    assert "canary" not in f"{caught.value} {caught.value.hint}"
    assert caught.value.hint == "write a.example.com"


@pytest.mark.parametrize(("kind", "hint"), [(SecretType.COMPOSER, "in its name"), (SecretType.RUNTIME, "no build")])
def test_only_env_secrets_are_bound(kind: SecretType, hint: str) -> None:
    with pytest.raises(InvalidHostError, match=f"a {kind.value} secret cannot be bound to hosts") as caught:
        check_hosts(kind, ["a.example.com"])
    assert hint in caught.value.hint
    assert check_hosts(kind, []) == ()


def test_more_hosts_than_every_store_keeps_are_refused() -> None:
    with pytest.raises(InvalidHostError, match=f"at most {MAX_LENGTH}"):
        parse_hosts(",".join(f"a-long-name-of-a-host-{number}.example.com" for number in range(20)))


@given(st.text(max_size=40))
def test_any_text_is_hosts_in_order_or_an_error_of_one_line(text: str) -> None:
    caught = None
    hosts: Hosts = ()
    try:
        hosts = parse_hosts(text)
    except InvalidHostError as error:
        caught = error
    assert caught is None or f"{caught}{caught.hint}".isprintable()
    assert hosts == tuple(sorted(set(hosts))) == parse_hosts(format_hosts(hosts))
