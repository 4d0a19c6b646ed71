"""A certificate authority made for one build.

Nothing of it is ever in a file that has a name: its key stays in memory, and what OpenSSL takes from files alone it
gets from anonymous memory.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    import ssl

# Certificates last for the longest build, and were valid already for clocks that are slow.
_LIFE = datetime.timedelta(days=7)
_SKEW = datetime.timedelta(days=1)


class Authority:
    """The authority: its certificate, and server contexts for the hosts that it is asked for."""

    def __init__(self, now: datetime.datetime | None = None) -> None:
        """Make it; `now` is when it is made."""
        self._now = now or datetime.datetime.now(datetime.timezone.utc)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ic-secrets, for one build")])
        self._contexts: dict[str, ssl.SSLContext] = {}
        usage = _make_usage(key_cert_sign=True, crl_sign=True)
        self._certificate = (
            self._begin(self._key, self._name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def certificate(self) -> str:
        """The authority's own certificate (PEM)."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def make_context(self, host: str) -> ssl.SSLContext:
        """Return the context of a server for the host, a name or an address without brackets; always the same one."""
        if host not in self._contexts:
            import ssl

            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.set_alpn_protocols(["http/1.1"])
            with _as_file(self._make_leaf(host)) as path:
                context.load_cert_chain(path)
            self._contexts[host] = context
        return self._contexts[host]

    def _make_leaf(self, host: str) -> bytes:
        """Return a certificate for the host alone, and its key; the name is where clients look, the subject empty."""
        try:
            name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            name = x509.DNSName(host)
        leaf = (
            self._begin(self._leaf_key, x509.Name([]))
            .add_extension(x509.SubjectAlternativeName([name]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_make_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        key = self._leaf_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return key + leaf.public_bytes(serialization.Encoding.PEM)

    def _begin(self, key: ec.EllipticCurvePrivateKey, subject: x509.Name) -> x509.CertificateBuilder:
        public, issuer = key.public_key(), self._key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - _SKEW)
            .not_valid_after(self._now + _LIFE)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
        )


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Return the path of a file with the content that no other process can open: in memory, or gone at once."""
    if hasattr(os, "memfd_create"):
        number = os.memfd_create("certificate")
        try:
            os.write(number, content)
            yield f"/proc/self/fd/{number}"
        finally:
            os.close(number)
    else:
        import tempfile

        with tempfile.NamedTemporaryFile() as file:  # 0600
            file.write(content)
            file.flush()
            yield file.name


def _make_usage(**used: bool) -> x509.KeyUsage:
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign "
        "encipher_only decipher_only"
    )
    return x509.KeyUsage(**(dict.fromkeys(names.split(), False) | used))
