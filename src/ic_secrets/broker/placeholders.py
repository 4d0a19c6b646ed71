"""What a build sees of an `env` secret that is bound to hosts, and how its value gets into a request. Pure."""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from urllib.parse import quote, quote_plus

PATTERN = r"ics_[A-Za-z0-9]{32}"
_BASIC = r"(?i)(basic\s+)([A-Za-z0-9+/=_-]+)"
# What a header cannot hold.
_CONTROL = r"[\x00-\x08\x0a-\x1f\x7f]"


class UnfitValueError(Exception):
    """The value of a secret cannot stand where its placeholder does."""


def make_placeholder(store_id: str, source: str, name: str) -> str:
    """Return the placeholder of a secret: the same in every build, and made of nothing that is secret.

    A changing one would change locks, and miss the cache in every build.
    """
    digest = hashlib.sha256("\0".join(("ic-secrets placeholder", store_id, source, name)).encode()).digest()
    return "ics_" + base64.b32encode(digest[:20]).decode().lower()


def find_placeholders(*texts: str) -> frozenset[str]:
    """Return all that look like one, also inside of the pairs of basic authentication."""
    opened = [_open_basic(text) for text in texts if text[:6].lower() == "basic "]
    return frozenset(re.findall(PATTERN, "\n".join((*texts, *opened))))


def fill_target(text: str, values: Mapping[str, str]) -> str:
    """Return the path and query with the values, each percent-encoded."""
    return _fill(text, values, lambda value: quote(value, safe=""))


def fill_header(text: str, values: Mapping[str, str]) -> str:
    """Return the value of a header with the values; a pair of basic authentication is put together anew."""
    match = re.fullmatch(_BASIC, text) if text[:6].lower() == "basic " else None
    if match:
        pair = _open_basic(text)
        filled = _fill(pair, values, _to_latin)
        if filled != pair:
            return match[1] + base64.b64encode(filled.encode("latin-1")).decode()
        return text
    return _fill(text, values, _for_header)


def can_fill(content_type: str) -> bool:
    """Return whether the values can be put into a body of that type."""
    return _find_escape(content_type) is not None


def fill_body(content_type: str, body: bytes, values: Mapping[str, str]) -> bytes:
    """Return the body with the values, escaped as the type needs it; the same one where it is of no such type."""
    escape = _find_escape(content_type)
    text = body.decode("latin-1")
    return _fill(text, values, escape).encode("latin-1") if escape else body


# A shorter value is not looked for in answers: it would match by chance.
_SHORTEST = 7
_MARK = b"***"
# A longer value, or one of several lines, has so many odd forms that looking for them takes minutes.
_LONGEST = 512
# What holds no text that a server has made of a request.
_BINARY = (
    r"(?:image|audio|video|font)/.*|application/(?:zip|gzip|x-.*|octet-stream|pdf|vnd\..*|java-archive)|multipart/.*"
)


def holds_text(content_type: str) -> bool:
    """Return whether an answer of that type may repeat what it was asked with."""
    kind = content_type.partition(";")[0].strip().lower()
    return not re.fullmatch(_BINARY, kind) or kind.endswith(("json", "xml"))


class Hider:
    """Put placeholders in the place of values in what a server answers, wherever that is cut; `***` for odd forms."""

    def __init__(self, values: Mapping[str, str]) -> None:
        """`values` are those that the request had, by placeholder."""
        from ..masking.needles import derive_needles
        from ..masking.parts import split_value

        self._forms: dict[bytes, bytes] = {}
        for placeholder, value in values.items():
            for shown in (quote(value, safe=""), quote_plus(value), quote(value), _for_json(value), _to_latin(value)):
                self._forms[shown.encode("latin-1")] = placeholder.encode()
            odd = derive_needles("", split_value(value)) if len(value) <= _LONGEST and "\n" not in value else ()
            for needle in odd:
                self._forms.setdefault(needle.data, _MARK)
        forms = sorted((form for form in self._forms if len(form) > _SHORTEST), key=len, reverse=True)
        self._most = len(forms[0]) - 1 if forms else 0
        self._pattern = re.compile(b"|".join(map(re.escape, forms)) or rb"(?!)")
        self._tail = b""

    def feed(self, piece: bytes) -> bytes:
        """Take a piece, and return what can be shown now."""
        data = self._tail + piece
        return self._advance(data, len(data) - self._most)

    def close(self) -> bytes:
        """Return the rest."""
        return self._advance(self._tail, len(self._tail))

    def _advance(self, data: bytes, limit: int) -> bytes:
        """Return what begins before the limit, where the longest form would be seen whole."""
        shown, position = [], 0
        for match in self._pattern.finditer(data):
            if match.start() >= limit:
                break
            shown += [data[position : match.start()], self._forms[match[0]]]
            position = match.end()
        hold = max(position, limit, 0)
        self._tail = data[hold:]
        return b"".join([*shown, data[position:hold]])

    def hide(self, text: str) -> str:
        """Return the text of a header."""
        return (self.feed(text.encode("latin-1", "replace")) + self.close()).decode("latin-1")


def _fill(text: str, values: Mapping[str, str], escape: Callable[[str], str]) -> str:
    def replace(match: "re.Match[str]") -> str:
        return escape(values[match[0]]) if match[0] in values else match[0]

    return re.sub(PATTERN, replace, text)


def _open_basic(text: str) -> str:
    """Return the pair of basic authentication as latin-1; "" if the text is not such a header."""
    match = re.fullmatch(_BASIC, text)
    if not match:
        return ""
    try:
        return base64.b64decode(match[2] + "=" * (-len(match[2]) % 4)).decode("latin-1")
    except binascii.Error:
        return ""


def _to_latin(value: str) -> str:
    return value.encode().decode("latin-1")


def _for_header(value: str) -> str:
    if re.search(_CONTROL, value):
        raise UnfitValueError
    return _to_latin(value)


def _for_json(value: str) -> str:
    return json.dumps(value)[1:-1]


def _for_multipart(value: str) -> str:
    if "\r\n--" in value:
        raise UnfitValueError
    return _to_latin(value)


def _for_xml(value: str) -> str:
    import html  # takes a while

    return html.escape(value).encode("ascii", "xmlcharrefreplace").decode()


# By the beginning or end of a body's type.
_ESCAPES: tuple[tuple[str, Callable[[str], str]], ...] = (
    (r"application/x-www-form-urlencoded", quote_plus),
    (r"application/(?:[\w.+-]+\+)?json", _for_json),
    (r"multipart/form-data", _for_multipart),
    (r"(?:application|text)/(?:[\w.+-]+\+)?xml", _for_xml),
    (r"text/plain", _to_latin),
)


def _find_escape(content_type: str) -> Callable[[str], str] | None:
    kind = content_type.partition(";")[0].strip().lower()
    return next((escape for pattern, escape in _ESCAPES if re.fullmatch(pattern, kind)), None)
