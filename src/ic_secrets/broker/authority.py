"""A certificate authority made for one build.

Nothing of it is ever in a file that has a name: its key stays in memory, and what OpenSSL takes from files alone it
gets from anonymous memory.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import os
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from . import der

if TYPE_CHECKING:
    import ssl

# Certificates last for the longest build, and were valid already for clocks that are slow.
_LIFE = datetime.timedelta(days=7)
_SKEW = datetime.timedelta(days=1)
_SIGNED = der.sequence(der.oid("1.2.840.10045.4.3.2"))  # ecdsa-with-SHA256
_CURVE = der.oid("1.2.840.10045.3.1.7")  # P-256
_KEY = der.sequence(der.oid("1.2.840.10045.2.1"), _CURVE)
_NAME = der.sequence(der.encode(der.SET, der.sequence(der.oid("2.5.4.3"), der.utf8("ic-secrets, for one build"))))
_SERVERS = der.oid("1.3.6.1.5.5.7.3.1")
# Extensions of RFC 5280, 4.2.1.
_SUBJECT_KEY, _KEY_USAGE, _ALTERNATIVE_NAME, _CONSTRAINTS = "2.5.29.14", "2.5.29.15", "2.5.29.17", "2.5.29.19"
_AUTHORITY_KEY, _EXTENDED_USAGE = "2.5.29.35", "2.5.29.37"


class Authority:
    """The authority: its certificate, and server contexts for the hosts that it is asked for."""

    def __init__(self, now: datetime.datetime | None = None) -> None:
        """Make it; `now` is when it is made."""
        now = now or datetime.datetime.now(datetime.timezone.utc)
        self._times = der.sequence(der.moment(now - _SKEW), der.moment(now + _LIFE))
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._contexts: dict[str, ssl.SSLContext] = {}
        extensions = (
            _extend(_CONSTRAINTS, der.sequence(der.true(), der.integer(0)), is_critical=True),
            _extend(_KEY_USAGE, der.bits(b"\x06", 1), is_critical=True),  # keyCertSign, cRLSign
        )
        self.certificate = self._sign(self._key, _NAME, extensions)

    def make_context(self, host: str) -> ssl.SSLContext:
        """Return the context of a server for the host, a name or an address without brackets; always the same one."""
        if host not in self._contexts:
            import ssl

            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.set_alpn_protocols(["http/1.1"])
            with _as_file((_render_key(self._leaf_key) + self._make_leaf(host)).encode()) as path:
                context.load_cert_chain(path)
            self._contexts[host] = context
        return self._contexts[host]

    def _make_leaf(self, host: str) -> str:
        """Return a certificate for the host alone: its name is where clients look, the subject is empty."""
        try:
            name = der.encode(0x87, ipaddress.ip_address(host).packed)
        except ValueError:
            name = der.encode(0x82, host.encode())
        extensions = (
            _extend(_ALTERNATIVE_NAME, der.sequence(name), is_critical=True),
            _extend(_CONSTRAINTS, der.sequence(), is_critical=True),
            _extend(_KEY_USAGE, der.bits(b"\x80", 7), is_critical=True),  # digitalSignature
            _extend(_EXTENDED_USAGE, der.sequence(_SERVERS)),
        )
        return self._sign(self._leaf_key, der.sequence(), extensions)

    def _sign(self, key: ec.EllipticCurvePrivateKey, subject: bytes, extensions: tuple[bytes, ...]) -> str:
        """Return a certificate (PEM; RFC 5280, 4.1)."""
        identifiers = (
            _extend(_SUBJECT_KEY, der.octets(_identify(key))),
            _extend(_AUTHORITY_KEY, der.sequence(der.encode(0x80, _identify(self._key)))),
        )
        content = der.sequence(
            der.tagged(0, der.integer(2)),
            der.integer(int.from_bytes(os.urandom(16), "big") >> 1),
            _SIGNED,
            _NAME,
            self._times,
            subject,
            der.sequence(_KEY, der.bits(_find_point(key))),
            der.tagged(3, der.sequence(*identifiers, *extensions)),
        )
        signature = self._key.sign(content, ec.ECDSA(hashes.SHA256()))
        return _render_pem("CERTIFICATE", der.sequence(content, _SIGNED, der.bits(signature)))


def _extend(name: str, value: bytes, *, is_critical: bool = False) -> bytes:
    return der.sequence(der.oid(name), *([der.true()] if is_critical else []), der.octets(value))


def _find_point(key: ec.EllipticCurvePrivateKey) -> bytes:
    numbers = key.public_key().public_numbers()
    return b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def _identify(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return what a key is called by; RFC 7093 has this of SHA-256."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(_find_point(key))
    return digest.finalize()[:20]


def _render_key(key: ec.EllipticCurvePrivateKey) -> str:
    """Return the private key (PEM; RFC 5915)."""
    private = der.octets(key.private_numbers().private_value.to_bytes(32, "big"))
    content = der.sequence(der.integer(1), private, der.tagged(0, _CURVE), der.tagged(1, der.bits(_find_point(key))))
    return _render_pem("EC PRIVATE KEY", content)


def _render_pem(label: str, content: bytes) -> str:
    lines = textwrap.fill(base64.b64encode(content).decode(), 64)
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"


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
