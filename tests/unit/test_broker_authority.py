"""The authority of one build: what its certificates say, and that no file ever holds its key."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import ssl
import tempfile
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from ic_secrets.broker.authority import Authority


def shake_hands(authority: Authority, host: str, name: str = "", trusted: str = "") -> x509.Certificate:
    """The certificate that a client sees which trusts the authority and asks for `name`."""
    context = ssl.create_default_context(cadata=trusted or authority.certificate)
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # as newer Pythons and browsers do
    context.set_alpn_protocols(["h2", "http/1.1"])
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(back, there, server_hostname=name or host)
    server = authority.make_context(host).wrap_bio(there, back, server_side=True)
    for side in (client, server, client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert client.selected_alpn_protocol() == "http/1.1"
    seen = client.getpeercert(binary_form=True)
    assert seen
    return x509.load_der_x509_certificate(seen)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("repo.example.org", x509.DNSName("repo.example.org")),
        ("xn--bcher-kva.example", x509.DNSName("xn--bcher-kva.example")),
        ("127.0.0.1", x509.IPAddress(ipaddress.ip_address("127.0.0.1"))),
        ("::1", x509.IPAddress(ipaddress.ip_address("::1"))),
    ],
)
def test_a_client_that_trusts_it_accepts_its_leaf_for_the_host_alone(host: str, name: x509.GeneralName) -> None:
    authority = Authority()
    leaf = shake_hands(authority, host)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical  # since the subject is empty (RFC 5280, 4.2.1.6)
    assert list(names.value) == [name]
    assert leaf.subject == x509.Name([])
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(authority, host, "other.example.org")


def test_nobody_accepts_it_who_trusts_the_authority_of_another_build() -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(Authority(), "repo.example.org", trusted=Authority().certificate)


def test_the_authority_is_one_for_servers_and_for_a_short_time() -> None:
    now = datetime.datetime(2026, 11, 28, 12, tzinfo=datetime.timezone.utc)
    certificate = x509.load_pem_x509_certificate(Authority(now).certificate.encode())
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, True, False)
    public = certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.curve.name == "secp256r1"
    assert certificate.not_valid_before_utc == now - datetime.timedelta(days=1)  # a clock may be slow
    assert certificate.not_valid_after_utc == now + datetime.timedelta(days=7)


def test_a_leaf_says_that_it_is_none_for_anything_else() -> None:
    leaf = shake_hands(Authority(), "repo.example.org")
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [x509.OID_SERVER_AUTH]
    assert leaf.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature


def test_a_host_has_one_context_so_that_sessions_are_resumed() -> None:
    authority = Authority()
    assert authority.make_context("a.example") is authority.make_context("a.example")
    assert authority.make_context("a.example") is not authority.make_context("b.example")


@pytest.mark.parametrize("has_memory_files", [True, False])
def test_its_key_is_in_no_file_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_memory_files: bool
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[int] = []
    if not has_memory_files:
        monkeypatch.delattr(os, "memfd_create", raising=False)
        load = ssl.SSLContext.load_cert_chain

        def look(self: ssl.SSLContext, path: str) -> None:
            seen.append(os.stat(path).st_mode & 0o777)
            load(self, path)

        monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", look)
    shake_hands(Authority(), "repo.example.org")
    assert seen == ([] if has_memory_files else [0o600])
    assert not list(tmp_path.iterdir())
