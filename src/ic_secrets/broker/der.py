"""DER (X.690), as far as a certificate needs it. Pure.

`cryptography.x509` would do the same, and takes longer to import than all else that a build waits for its broker to do.
"""

from __future__ import annotations

import datetime

_OID, _INTEGER, _BITS, _OCTETS, _BOOLEAN, _UTF8, _TIME = 0x06, 0x02, 0x03, 0x04, 0x01, 0x0C, 0x18
SEQUENCE, SET = 0x30, 0x31


def encode(tag: int, *parts: bytes) -> bytes:
    """Return the parts, which are DER or primitive content, as one value with the tag."""
    content = b"".join(parts)
    size = len(content)
    length = size.to_bytes((size.bit_length() + 7) // 8 or 1, "big")
    return bytes([tag]) + (length if size < 128 else bytes([0x80 | len(length)]) + length) + content


def sequence(*parts: bytes) -> bytes:
    """Return the values as a sequence."""
    return encode(SEQUENCE, *parts)


def tagged(number: int, *parts: bytes) -> bytes:
    """Return the values under a context-specific tag."""
    return encode(0xA0 | number, *parts)


def oid(text: str) -> bytes:
    """Return the object identifier that is written with dots."""
    first, second, *others = map(int, text.split("."))
    content = bytearray([40 * first + second])
    for number in others:
        digits = [number & 0x7F]
        while number := number >> 7:
            digits.append(0x80 | (number & 0x7F))
        content += bytes(reversed(digits))
    return encode(_OID, bytes(content))


def integer(number: int) -> bytes:
    """Return a number that is not negative."""
    return encode(_INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def bits(content: bytes, unused: int = 0) -> bytes:
    """Return a bit string."""
    return encode(_BITS, bytes([unused]), content)


def octets(content: bytes) -> bytes:
    """Return an octet string."""
    return encode(_OCTETS, content)


def true() -> bytes:
    """Return the boolean true."""
    return encode(_BOOLEAN, b"\xff")


def utf8(text: str) -> bytes:
    """Return a text."""
    return encode(_UTF8, text.encode())


def moment(when: datetime.datetime) -> bytes:
    """Return a time of UTC; RFC 5280 wants this form from 2050 on, and the shorter one before."""
    if when.year < 2050:
        return encode(0x17, when.strftime("%y%m%d%H%M%SZ").encode())
    return encode(_TIME, when.strftime("%Y%m%d%H%M%SZ").encode())
