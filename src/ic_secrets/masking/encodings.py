"""Encodings: what programs make of a value when they print or store it. One record each. Pure.

To add an encoding, add its record to `ENCODINGS`. Each form is what the encoder writes for the value, without the
quotes around it. A form that equals the value, or another form, does no harm.
"""

import binascii
import codecs
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator

from ..core.records import NamedTuple
from .parts import to_bytes

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
# The characters that HTML-safe JSON may write as escapes; PHP's JSON_HEX_TAG, _AMP, _APOS and _QUOT do so by group.
_MARKUP = ("<>", "&", "'", '"')
# What is left as it is by PHP, JavaScript and URL parsers: in a component, a path, a user's name or password, a whole
# address, a query. Some leave a percent sign, too.
_URL_SAFE = ("", "/", "!'()*", "!$&'()*+,;=", "!$%&'()*+,", "!#$&'()*+,/:;=?@", "!$%&()*+,/:;=?@[\\]^`{|}")
# Where printers cut a long text, and what they write then: PHP's traces, Laravel's Str::limit, Guzzle.
_CUTS = ((15, "..."), (50, "..."), (100, "..."), (120, " (truncated...)"))
# What Composer's Git::maskCredentials leaves as it is.
_NOT_ELIDED = frozenset({"private-token", "x-token-auth", "oauth2", "gitlab-ci-token", "x-oauth-basic"})

# How many bytes of other data may stand before the value, and how many characters of base64 depend on those.
_ANYWHERE = ((0, 0), (1, 2), (2, 3))
_ALONE = ((0, 0),)

# Databases keep values up to this long in one run of bytes. A longer one is also looked for by pieces of this size, one
# at each such distance: wherever it is cut, some are whole. Pieces of fewer different bytes could be anybody's.
_LONG = 1024
_PIECE, _PIECE_DISTANCE = 64, 192
_LEAST_VARIED = 10

# The encoding whose needles have other text inside, before each of their lines.
INDENTED = "indented"
# What may stand before each line of a value. A first line of less than four bytes is found only between these: to hold
# it back before any prefix would mean holding back the end of every other line.
_INDENTATIONS = (*(b" " * size for size in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16)), b"\t", b"\t\t", b"\t\t\t")
_LINE_MARKS = (b"> ", b"# ", b"! ", b" ! ", b"| ", b" * ", b"+ ", b"- ")
_SHORT_LINE = rb"(?s)(?=[^\n]*[A-Za-z0-9\x80-\xff])[^\n]{1,3}\r?\n.{1,256}"

Forms = Iterable[bytes]


class Encoding(NamedTuple):
    """One way in which programs write a value, under a short stable word for reports.

    `forms` gives what may become of a text, `pair_forms` of a user name and a password that go together. With
    `keeps_plain` text of letters, digits, `.`, `_` and `-` stays as it is, and is not asked about. `for_credentials`
    limits `forms` to Composer's credentials.
    """

    name: str
    forms: Callable[[str], Forms] | None = None
    pair_forms: Callable[[str, str], Forms] | None = None
    keeps_plain: bool = False
    for_credentials: bool = False


def encode_text(text: str, *, is_credential: bool = False) -> Iterator[tuple[str, bytes]]:
    """Yield what encoders make of the text, each with the name of the encoding, the plainest first."""
    is_plain = re.fullmatch(_PLAIN, text) is not None
    for encoding in ENCODINGS:
        is_idle = (is_plain and encoding.keeps_plain) or (encoding.for_credentials and not is_credential)
        if encoding.forms and not is_idle:
            for form in encoding.forms(text):
                yield encoding.name, form


def encode_pair(user: str, password: str) -> Iterator[tuple[str, bytes]]:
    """Yield what programs make of a user name and a password, each with the name of the encoding."""
    for encoding in ENCODINGS:
        if encoding.pair_forms:
            for form in encoding.pair_forms(user, password):
                yield encoding.name, form


def encode_for_files(text: str) -> Iterator[tuple[str, bytes]]:
    """Yield what a text becomes in files alone: UTF-16."""
    (little, _), (big, _) = (
        encode(text, "surrogatepass") for encode in (codecs.utf_16_le_encode, codecs.utf_16_be_encode)
    )
    # Of ASCII, the one is the other but for a NUL at either end.
    yield from (("utf-16", form) for form in ((little[:-1],) if text.isascii() else (little, big)))


def cut_for_databases(data: bytes, encoding: str) -> Iterator[bytes]:
    """Yield pieces of a form that a database spreads over its pages, if it is so long."""
    least = 2 * _LEAST_VARIED if encoding == "base64" else _LEAST_VARIED
    for start in range(0, len(data) if len(data) > _LONG else 0, _PIECE_DISTANCE):
        piece = data[start : start + _PIECE]
        if len(piece) == _PIECE and len(set(piece)) >= least:
            yield piece


def _in_bytes(forms: Callable[[str], Iterable[str]]) -> Callable[[str], Forms]:
    return lambda text: map(to_bytes, forms(text))


def _crlf_forms(text: str) -> Forms:
    data = to_bytes(text)
    return [data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")] if b"\n" in data else []


def _indented_forms(text: str) -> Iterator[bytes]:
    """Indent the lines, or put a mark before each, where the first one is too short to be found by itself."""
    data = to_bytes(text)
    if re.fullmatch(_SHORT_LINE, data):
        lines = [line.strip() for line in data.splitlines()]
        for prefix in (*_INDENTATIONS, *_LINE_MARKS):
            yield from ((ending + prefix).join(lines) for ending in (b"\n", b"\r\n"))


def _hex_forms(text: str) -> Forms:
    digits = to_bytes(text).hex()
    return digits.encode(), digits.upper().encode()


def _pair_forms(user: str, password: str) -> Forms:
    """Return `user:password`, as it is and as it is in URLs."""
    pairs = zip((user, *_percent_forms(user)), (password, *_percent_forms(password)), strict=True)
    return [to_bytes(f"{before}:{after}") for before, after in pairs]


def _elided_pair(user: str, password: str) -> Forms:
    return [elide(user) + b":" + elide(password)]


def _percent_forms(text: str) -> list[str]:
    """Percent-encode (RFC 3986) as PHP's rawurlencode and urlencode, JavaScript and URL parsers do, in both cases."""
    data = to_bytes(text)
    forms = [_quote(data, safe) for safe in _URL_SAFE]
    forms.append(forms[0].replace("%20", "+"))
    forms.append(forms[-1].replace("~", "%7E"))
    return forms + [re.sub(_PERCENT, lambda found: found[0].lower(), form) for form in forms]


def _url_forms(text: str) -> Iterator[str]:
    """Percent-encode once and twice, and as commands to CI runners are."""
    once = _percent_forms(text)
    yield from once
    yield from (_quote(form.encode(), "") for form in dict.fromkeys(once))
    yield text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _json_forms(text: str) -> Iterator[str]:
    """Write the text inside a JSON string (RFC 8259), and inside a string of JSON inside another."""
    yield from _escape_json(text, _MARKUP)
    for form in dict.fromkeys(_escape_json(text)):
        yield json.dumps(form)[1:-1]
        yield json.dumps(form)[1:-1].replace("/", "\\/")


def _escape_json(text: str, markup: Iterable[str] = ()) -> Iterator[str]:
    """Escape as PHP's json_encode does with and without its flags, and others do."""
    groups = [group for group in markup if any(character in text for character in group)]
    for ascii_only in (True, False):
        plain = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        upper = re.sub(_UNICODE_ESCAPE, lambda found: "\\u" + found[0][2:].upper(), plain)
        hidden = (
            _hide_markup(plain, "".join(chosen), case)
            for size in range(1, len(groups) + 1)
            for chosen in itertools.combinations(groups, size)
            for case in "Xx"
        )
        for form in (plain, upper, *hidden):
            yield form
            yield form.replace("/", "\\/")


def _hex_escapes(text: str) -> Iterator[str]:
    """Escape as `\\x..`: all bytes; what is not printable, as Python, nginx and others do; all punctuation, as Twig."""
    data = to_bytes(text)
    for case in "xX":
        yield "".join(f"\\x{byte:02{case}}" for byte in data)
        for quoted in ('"\\', "\\", ""):
            yield "".join(
                f"\\x{byte:02{case}}" if not " " <= chr(byte) <= "~" or chr(byte) in quoted else chr(byte)
                for byte in data
            )
        yield "".join(c if c.isalnum() and c < "\x7f" else f"\\x{ord(c):02{case}}" for c in text)
        yield "".join(c if (c.isalnum() and c < "\x7f") or c in ",._" else f"\\u{ord(c):04{case}}" for c in text)
    yield repr(data)[2:-1]
    yield repr(text)[1:-1]


def _cut_forms(text: str) -> Iterator[bytes]:
    """Cut the text at the widths of known printers; PHP counts bytes, and its newer versions escape them."""
    data = to_bytes(text)
    for width, ending in _CUTS:
        if len(data) > width:
            yield data[:width] + ending.encode()
            yield to_bytes(text[:width] + ending)
    if len(data) > _CUTS[0][0]:
        escapes = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f", "\v": "\\v", "\x1b": "\\e", "\\": "\\\\"}
        start = (chr(byte) for byte in data[: _CUTS[0][0]])
        yield "".join(escapes.get(c) or (c if " " <= c <= "~" else f"\\x{ord(c):02X}") for c in start).encode() + b"..."


def _shell_forms(text: str) -> Iterator[str]:
    """Quote the text as shells do: within '…' and "…", with backslashes (bash's %q and older), and as $'…'."""
    yield text.replace("'", "'\\''")
    yield text.replace("'", "'\"'\"'")
    yield re.sub(_QUOTED_SPECIAL, r"\\\1", text)
    yield re.sub(_BASH_SPECIAL, r"\\\1", text)
    yield re.sub(_SHELL_SPECIAL, r"\\\1", text)
    for ascii_only in (False, True):
        yield _ansi_quoted(text, ascii_only=ascii_only)


def _ansi_quoted(text: str, *, ascii_only: bool) -> str:
    """Write the inside of $'…' as bash does; bytes other than ASCII become octal in the locale C."""
    return "".join(
        _ANSI_ESCAPES.get(character)
        or (
            "".join(f"\\{byte:03o}" for byte in to_bytes(character))
            if character < " " or (ascii_only and character > "~")
            else character
        )
        for character in text
    )


def _php_forms(text: str) -> Iterator[str]:
    """Write the text within PHP's '…' (var_export) and "…" (addslashes and the like), YAML's '…' and CSV's "…"."""
    escaped = text.replace("\\", "\\\\")
    yield escaped.replace("'", "\\'")
    yield escaped.replace("'", "\\'").replace('"', '\\"')
    yield escaped.replace('"', '\\"')
    yield escaped.replace('"', '\\"').replace("$", "\\$")
    yield text.replace("'", "''")
    yield text.replace('"', '""')  # CSV


def _xml_forms(text: str) -> Iterator[str]:
    """Write the text within XML or HTML."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for double, single in _XML_QUOTES:
        yield escaped.replace('"', double).replace("'", single)


def _base64_forms(data: bytes, offsets: tuple[tuple[int, int], ...] = _ANYWHERE) -> Iterator[bytes]:
    """Encode the data in base64 (RFC 4648), alone or amid other data, at each of the offsets, whatever is around it.

    The characters that also depend on the neighbours are left out, except at the end, where the forms of data that ends
    there are given too, with and without padding.
    """
    for offset, skipped in offsets:
        padded = binascii.b2a_base64(bytes(offset) + data, newline=False)[skipped:]
        bare = padded.rstrip(b"=")
        stable = bare if bare == padded else bare[:-1]
        yield from (stable, padded, bare)
        if stable != stable.translate(None, b"+/"):
            yield stable.replace(b"/", b"\\/")
            yield _quote(stable, "").encode()


def _base64url_forms(data: bytes, offsets: tuple[tuple[int, int], ...] = _ANYWHERE) -> Iterator[bytes]:
    """Return those forms in base64 that the alphabet for URLs and file names changes."""
    for form in _base64_forms(data, offsets):
        if b"\\" not in form and b"%" not in form and (b"+" in form or b"/" in form):
            yield form.replace(b"+", b"-").replace(b"/", b"_")


def _basic(user: str, password: str) -> bytes:
    """Return what the header of HTTP's basic authentication encodes (RFC 7617)."""
    return to_bytes(f"{user}:{password}")


def elide(text: str) -> bytes:
    """Return the first and last three characters, as Composer's Git::maskCredentials shows a credential."""
    if text in _NOT_ELIDED:
        return text.encode()
    shown = _quote(to_bytes(text), "")
    if len(shown) > 6:
        return f"{shown[:3]}...{shown[-3:]}".encode()
    return f"{shown[:3]}...".encode() if len(shown) > 3 else b"XXX"


def _quote(data: bytes, safe: str) -> str:
    """Percent-encode all but letters, digits, `_.-~` and what is safe."""
    from urllib.parse import quote_from_bytes  # it brings half a dozen modules along

    return quote_from_bytes(data, safe)


def _hide_markup(text: str, characters: str, case: str) -> str:
    """Make JSON safe for HTML: PHP's JSON_HEX_* flags write `X` (Drupal's encoder sets them all), others `x`."""
    for character in characters:
        written = '\\"' if character == '"' else character
        text = text.replace(written, f"\\u{ord(character):04{case}}")
    return text


# The plainest first: where two encoders write the same, the first of them is named.
ENCODINGS: list[Encoding] = [
    Encoding("urlencoded", _in_bytes(_url_forms), keeps_plain=True),
    Encoding("json", _in_bytes(_json_forms), keeps_plain=True),
    Encoding("shell", _in_bytes(_shell_forms), keeps_plain=True),
    Encoding("php", _in_bytes(_php_forms), keeps_plain=True),
    Encoding("xml", _in_bytes(_xml_forms), keeps_plain=True),
    Encoding("escaped", _in_bytes(_hex_escapes)),
    Encoding("words", lambda text: [to_bytes(" ".join(text.split()))], keeps_plain=True),
    Encoding("crlf", _crlf_forms),
    Encoding(INDENTED, _indented_forms, keeps_plain=True),
    Encoding("pair", pair_forms=_pair_forms),
    Encoding("base64", lambda text: _base64_forms(to_bytes(text)), lambda *pair: _base64_forms(_basic(*pair), _ALONE)),
    Encoding(
        "base64url",
        lambda text: _base64url_forms(to_bytes(text)),
        lambda *pair: _base64url_forms(_basic(*pair), _ALONE),
    ),
    Encoding("hex", _hex_forms),
    Encoding("cut", _cut_forms),
    Encoding("git", lambda text: [elide(text)], _elided_pair, for_credentials=True),
]
