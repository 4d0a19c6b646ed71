"""What encoders make of a text: the forms in which a value can leave.

Each form is given as it stands inside whatever the encoder writes, without the quotes around it.
Where a form equals the text or another form, it is given all the same.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Iterator

_PLAIN = r"[A-Za-z0-9._-]*"
_PERCENT = r"%[0-9A-F]{2}"
_UNICODE_ESCAPE = r"\\u[0-9a-f]{4}"
_QUOTED_SPECIAL = r'([\\"$`])'
_BASH_SPECIAL = r"""([ \t|&;()<>!{}*\[\]?^$`,'"\\])"""
_SHELL_SPECIAL = r"(?a)([^A-Za-z0-9_./:=@%+,-])"
_ANSI_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\x1b": "\\E", "\\": "\\\\", "'": "\\'"}
# How writers of XML and HTML put the two quotes.
_XML_QUOTES = (
    ('"', "'"),
    ("&quot;", "'"),
    ("&quot;", "&#039;"),
    ("&quot;", "&#39;"),
    ("&quot;", "&apos;"),
    ("&quot;", "&#x27;"),
    ("&#34;", "&#39;"),
)
# What Composer's Git::maskCredentials leaves as it is.
_NOT_ELIDED = frozenset({"private-token", "x-token-auth", "oauth2", "gitlab-ci-token", "x-oauth-basic"})

_Offsets = tuple[tuple[int, int], ...]
# Bytes of other data before the value, and how many characters of base64 depend on those.
_ANYWHERE: _Offsets = ((0, 0), (1, 2), (2, 3))
_ALONE: _Offsets = ((0, 0),)


def encode_text(text: str) -> Iterator[tuple[str, bytes]]:
    """What encoders make of the text, each with the short stable word for the encoding."""
    data = encode(text)
    if not re.fullmatch(_PLAIN, text):
        for encoding, make in (
            ("urlencoded", _percent_forms),
            ("json", _json_forms),
            ("shell", _shell_forms),
            ("php", _php_forms),
            ("xml", _xml_forms),
        ):
            for form in make(text):
                yield encoding, encode(form)
    if "\n" in text:
        yield "crlf", data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    yield from _base64_forms(data)
    yield "hex", data.hex().encode()
    yield "hex", data.hex().upper().encode()


def encode_pair(user: str, password: str) -> Iterator[tuple[str, bytes]]:
    """`user:password` as it stands in URLs and in the header of HTTP's basic authentication (RFC 7617)."""
    pair = f"{user}:{password}"
    yield "pair", encode(pair)
    for before, after in zip(_percent_forms(user), _percent_forms(password), strict=True):
        yield "pair", encode(f"{before}:{after}")
    yield "git", elide(user) + b":" + elide(password)
    yield from _base64_forms(encode(pair), _ALONE)


def _percent_forms(text: str) -> list[str]:
    """Percent-encoded (RFC 3986) by PHP's rawurlencode and urlencode, JavaScript and parsers of URLs, in both cases."""
    data = encode(text)
    forms = [_quote(data, safe) for safe in ("", "/", "!'()*", "!$&'()*+,;=")]
    forms.append(forms[0].replace("%20", "+"))
    forms.append(forms[-1].replace("~", "%7E"))
    return forms + [re.sub(_PERCENT, lambda found: found[0].lower(), form) for form in forms]


def _json_forms(text: str) -> Iterator[str]:
    """The text inside a JSON string: PHP's json_encode with and without its flags, and other writers (RFC 8259)."""
    for ascii_only in (True, False):
        plain = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        upper = re.sub(_UNICODE_ESCAPE, lambda found: "\\u" + found[0][2:].upper(), plain)
        for form in (plain, upper, _hide_markup(plain, "X"), _hide_markup(plain, "x")):
            yield form
            yield form.replace("/", "\\/")


def _shell_forms(text: str) -> Iterator[str]:
    """The text as shells quote it: within '…' and "…", with backslashes (bash's %q and older), and as $'…'."""
    yield text.replace("'", "'\\''")
    yield text.replace("'", "'\"'\"'")
    yield re.sub(_QUOTED_SPECIAL, r"\\\1", text)
    yield re.sub(_BASH_SPECIAL, r"\\\1", text)
    yield re.sub(_SHELL_SPECIAL, r"\\\1", text)
    for ascii_only in (False, True):
        yield _ansi_quoted(text, ascii_only=ascii_only)


def _ansi_quoted(text: str, *, ascii_only: bool) -> str:
    """The inside of $'…' as bash prints it; other bytes than ASCII become octal where the locale is C."""
    return "".join(
        _ANSI_ESCAPES.get(character)
        or (
            "".join(f"\\{byte:03o}" for byte in encode(character))
            if character < " " or (ascii_only and character > "~")
            else character
        )
        for character in text
    )


def _php_forms(text: str) -> Iterator[str]:
    """Within PHP's '…' (var_export) and "…" (addslashes and the like), and within YAML's '…'."""
    escaped = text.replace("\\", "\\\\")
    yield escaped.replace("'", "\\'")
    yield escaped.replace("'", "\\'").replace('"', '\\"')
    yield escaped.replace('"', '\\"')
    yield escaped.replace('"', '\\"').replace("$", "\\$")
    yield text.replace("'", "''")


def _xml_forms(text: str) -> Iterator[str]:
    """Within XML or HTML."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for double, single in _XML_QUOTES:
        yield escaped.replace('"', double).replace("'", single)


def _base64_forms(data: bytes, offsets: _Offsets = _ANYWHERE) -> Iterator[tuple[str, bytes]]:
    """Base64 (RFC 4648) of the data alone or amid other data, at each of the offsets, whatever stands around.

    The characters that also depend on the neighbours are left out, except at the end, where the forms
    of data that ends there are given too, with and without padding.
    """
    for offset, skipped in offsets:
        padded = binascii.b2a_base64(bytes(offset) + data, newline=False)[skipped:]
        bare = padded.rstrip(b"=")
        stable = bare if bare == padded else bare[:-1]
        for form in (stable, padded, bare):
            yield "base64", form
            if b"+" in form or b"/" in form:
                yield "base64url", form.replace(b"+", b"-").replace(b"/", b"_")
        if stable != stable.translate(None, b"+/"):
            yield "base64", stable.replace(b"/", b"\\/")
            yield "base64", _quote(stable, "").encode()


def elide(text: str) -> bytes:
    """The first and last three characters, as Composer's Git::maskCredentials shows a credential in its errors."""
    if text in _NOT_ELIDED:
        return text.encode()
    shown = _quote(encode(text), "")
    if len(shown) > 6:
        return f"{shown[:3]}...{shown[-3:]}".encode()
    return f"{shown[:3]}...".encode() if len(shown) > 3 else b"XXX"


def _quote(data: bytes, safe: str) -> str:
    """Percent-encoded, but for letters, digits, `_.-~` and what is safe."""
    from urllib.parse import quote_from_bytes  # it brings half a dozen modules along

    return quote_from_bytes(data, safe)


def _hide_markup(text: str, case: str) -> str:
    """JSON made safe for HTML: PHP's JSON_HEX_* flags write `X` (Drupal's encoder sets them all), others `x`."""
    text = text.replace('\\"', "\\u0022")
    for character in "<>&'":
        text = text.replace(character, f"\\u{ord(character):04{case}}")
    return text


def encode(text: str) -> bytes:
    """The text in UTF-8; half a character, which JSON can hold, in the bytes that Python gives it."""
    return text.encode(errors="surrogatepass")
