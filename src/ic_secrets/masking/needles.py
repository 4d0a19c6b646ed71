"""Every form of a secret that must not be seen.

A **needle** is one run of bytes that gives a secret away: the value, a line or a leaf of it, and what
encoders make of those. `derive` lists them for one secret; `mask` hides them in output, and the search
of files looks for those that `for_search` leaves. What is no secret by itself (a user name, a consumer
key, the path of a certificate, a host) is no needle by itself. Not covered: values that were reversed,
compressed, encrypted, or cut in ways that no program here does.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ..model.secret import SecretType, SecretValue
from .encodings import elide, encode, encode_pair, encode_text

# In bytes. Below SHORTEST a value is all over any output; a form of one needs a little more to mean anything.
SHORTEST = 4
SHORTEST_FORM = 6
SHORTEST_LEAF = 8
SHORTEST_SEARCHED = 8

# Words that stand in files and output for reasons of their own. Such a value is masked, since it was declared secret,
# but no search can say anything with it.
_COMMON = frozenset(
    "admin administrator anonymous changeme composer database default disabled develop development docker drupal "
    "enabled example example.com example.org false github gitlab guest http https latest local localhost main "
    "manager master mysql nobody none null pantheon passphrase password postgres prod production public release "
    "root secret secrets service_account sqlite stage staging symfony test testing token true undefined user "
    "username version wordpress xxxxxxxx 127.0.0.1 0.0.0.0".split()
)
_SAMENESS = r"(?s)(.)\1*|[0-9]{1,11}"
# What a leaf of JSON says in public: words, or an address that holds no token.
_PUBLIC_WORDS = r"[A-Za-z]+(?:[ _.-][A-Za-z]+)*"
_PUBLIC_ADDRESS = r"https?://[A-Za-z0-9.-]+(?::\d+)?(?:/[A-Za-z0-9._-]{0,15})*"
_SECRET_KEY = r"(?i)pass|secret|token|key|credential|auth|salt|pwd"

# What stands where a password or a user name must be, when the other one is the token.
_STAND_INS = frozenset(
    "- x none null oauth oauth2 token bearer x-oauth-basic x-token-auth x-access-token private-token "
    "gitlab-ci-token satispress".split()
) | {""}
_TOKEN_PREFIX = r"gh[pousr]_|github_pat_|gl(?:pat|dt|rt|ft|cbt|ptt|soat)-"
_ADDRESS = r"https?://"
_URL_PASSWORD = r"://[^/\s:@]*:([^@/\s]+)@"

# The words of each method that takes two, in the order of `composer config --auth`.
_WORDS = {
    "http-basic": ("username", "password"),
    "bitbucket-oauth": ("consumer-key", "consumer-secret"),
    "gitlab-token": ("username", "token"),
    "forgejo-token": ("username", "token"),
}
_USERS = ("username", "consumer-key")
_PASSWORDS = ("password", "token", "consumer-secret")
_NO_SECRETS = frozenset({*_USERS, "expires-at", "access-token-expiration", "local_cert", "local_pk"})
# With whom Composer pairs a token (here None) that has no user name, in a URL or a header.
_PARTNERS = {
    "github-oauth": (None, "x-oauth-basic"),
    "gitlab-oauth": ("oauth2", None),
    "gitlab-token": (None, "private-token"),
}

_PEM_BORDER = r"-----(?:BEGIN|END) [A-Z0-9 ]+-----"
_HEADER_SCHEME = r"(?i)(basic|bearer|token|digest|apikey)\s+(\S.*)"


class Exposed(NamedTuple):
    """One secret that a build can see; the name of a `composer` one holds its method: `http-basic.HOST`."""

    name: str
    type: SecretType
    value: SecretValue


class Needle(NamedTuple):
    """One form of one secret. `encoding` is a short stable word for reports; `data` is never shown."""

    name: str
    encoding: str
    data: bytes

    def __repr__(self) -> str:
        return f"Needle({self.name}, {self.encoding})"


class _Parts:
    """What of a value is secret: texts, in every encoding; lines and public leaves, as they are; pairs of two texts."""

    def __init__(self, texts: Iterable[str] = (), pairs: Iterable[tuple[str, str]] = ()) -> None:
        self.texts = list(texts)
        self.lines: list[str] = []
        self.leaves: list[str] = []
        self.pairs = list(pairs)


def derive(name: str, kind: SecretType, value: SecretValue) -> tuple[Needle, ...]:
    """Every needle of one secret, the raw ones first; each run of bytes once, under its plainest encoding.

    White space around a value is left out of its needles: what ends a file or a line is no secret.
    """
    return _needles(name, _read_parts(name, kind, value.reveal()), is_credential=kind is SecretType.COMPOSER)


def derive_all(exposed: Iterable[Exposed]) -> tuple[Needle, ...]:
    """The needles of all the secrets that a build can see."""
    return tuple(needle for one in exposed for needle in derive(one.name, one.type, one.value))


def derive_token(name: str, token: str, user: str = "x-token-auth") -> tuple[Needle, ...]:
    """The needles of a token that was found later: one that Composer was given for the secret `name`."""
    token = token.strip()
    return _needles(name, _Parts(texts=[token], pairs=[(user, token)]), is_credential=True)


def for_search(needles: Iterable[Needle]) -> tuple[Needle, ...]:
    """The needles that say something when they are found in a file.

    They have at least 8 bytes; common words, small numbers, and the words and plain addresses in a JSON
    value are left out, since an honest tree is full of them.
    """
    return tuple(
        needle
        for needle in needles
        if len(needle.data) >= SHORTEST_SEARCHED
        and not (needle.encoding in {"raw", "line"} and is_common(needle.data.decode(errors="replace")))
        and needle.encoding != "leaf"
    )


def too_short(exposed: Iterable[Exposed]) -> tuple[str, ...]:
    """The names of the secrets with a value, or a part that is secret by itself, too short to be masked."""
    return _names(exposed, lambda text: 0 < len(encode(text)) < SHORTEST)


def too_common(exposed: Iterable[Exposed]) -> tuple[str, ...]:
    """The names of the secrets that are a common word: masked wherever the word stands, never searched for."""
    return _names(exposed, lambda text: len(encode(text)) >= SHORTEST and is_common(text))


def is_common(text: str) -> bool:
    """Whether the text stands in files for its own reasons: a common word, up to 11 digits, one character repeated."""
    return text.lower() in _COMMON or re.fullmatch(_SAMENESS, text) is not None


def _names(exposed: Iterable[Exposed], is_such: Callable[[str], bool]) -> tuple[str, ...]:
    return tuple(
        one.name for one in exposed if any(map(is_such, _read_parts(one.name, one.type, one.value.reveal()).texts))
    )


# --- what of a value is secret --------------------------------------------------------------------


def _read_parts(name: str, kind: SecretType, text: str) -> _Parts:
    text = text.strip()
    parts = _composer_parts(name.partition(".")[0], text) if kind is SecretType.COMPOSER else _plain_parts(text)
    parts.texts = [kept for one in parts.texts if (kept := one.strip())]
    for one in (*parts.texts, *parts.leaves):
        if "\n" in one and _parse_json(one) is None:
            parts.lines += [line for row in one.splitlines() if _is_telling(line := row.strip())]
    return parts


def _plain_parts(text: str) -> _Parts:
    parts = _Parts(texts=[text])
    for found in re.findall(_URL_PASSWORD, text):
        if len(found) >= SHORTEST_LEAF:
            from urllib.parse import unquote

            parts.texts.append(unquote(found))
    for key, leaf in _leaves(_parse_json(text)):
        is_secret = not key or re.search(_SECRET_KEY, key) is not None
        if is_secret or len(leaf) >= SHORTEST_LEAF:
            is_public = re.fullmatch(_PUBLIC_ADDRESS, leaf) or (not is_secret and re.fullmatch(_PUBLIC_WORDS, leaf))
            (parts.leaves if is_public else parts.texts).append(leaf)
    return parts


def _composer_parts(method: str, text: str) -> _Parts:
    """Which parts of a credential in Composer's auth.json are secret; words and JSON alike."""
    if method == "custom-headers":
        return _header_parts(text)
    fields = _composer_fields(method, text)
    user = next((fields[one] for one in _USERS if one in fields), "")
    password = next((fields[one] for one in _PASSWORDS if one in fields), "")
    parts = _Parts(texts=[value for key, value in fields.items() if key not in _NO_SECRETS])
    if user:
        parts.pairs.append((user, password))
    elif method in _PARTNERS:
        before, after = _PARTNERS[method]
        parts.pairs.append((before or password, after or password))
    beside = password.lower() in _STAND_INS or re.match(_ADDRESS, password)
    if user.lower() not in _STAND_INS and (beside or re.match(_TOKEN_PREFIX, user)):
        # The user name is itself the token: beside a stand-in, or a licence key beside its site's address.
        parts.texts = [user] + [one for one in parts.texts if one != password or not beside]
    if "access-token" in fields:
        parts.pairs.append(("x-token-auth", fields["access-token"]))
    return parts


def _composer_fields(method: str, text: str) -> dict[str, str]:
    """The fields that the value has in auth.json; what has the wrong shape is taken for secret altogether."""
    document = _parse_json(text)
    if isinstance(document, dict):
        return {key or str(number): leaf for number, (key, leaf) in enumerate(_leaves(document))}
    words = [leaf for _, leaf in _leaves(document)] or text.split()
    names = _WORDS.get(method, ())
    if len(words) == len(names):
        return dict(zip(names, words, strict=True))
    return {"token" if number == 0 else f"word {number}": word for number, word in enumerate(words)}


def _header_parts(text: str) -> _Parts:
    """The values of headers, the token after a scheme, and what a Basic header encodes; names of headers are public."""
    rows = [leaf for _, leaf in _leaves(_parse_json(text))] or text.splitlines()
    parts = _Parts()
    for row in rows:
        header = (row.partition(":")[2] or row).strip()
        parts.texts.append(header)
        scheme = re.fullmatch(_HEADER_SCHEME, header)
        if scheme:
            parts.texts.append(scheme[2])
        if scheme and scheme[1].lower() == "basic":
            user, _, password = _decode_base64(scheme[2]).partition(":")
            parts.texts += [password] if password else []
            parts.pairs += [(user, password)] if password else []
    return parts


def _decode_base64(text: str) -> str:
    import base64

    try:
        return base64.b64decode(text, validate=True).decode()
    except ValueError:
        return ""


def _parse_json(text: str) -> object:
    """The document that the text is, or None; only what starts like one is tried."""
    if not text.lstrip().startswith(("{", "[", '"')):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _leaves(document: object) -> Iterator[tuple[str, str]]:
    """The strings of a JSON document, each with the key that it stands under, directly or in a list."""
    waiting = [("", document)]
    while waiting:
        key, node = waiting.pop()
        if isinstance(node, str):
            yield key, node
        elif isinstance(node, dict):
            waiting.extend(reversed([(str(name), child) for name, child in node.items()]))
        elif isinstance(node, list):
            waiting.extend(reversed([(key, child) for child in node]))


def _is_telling(line: str) -> bool:
    """Whether a line of a value says something by itself, unlike `{` or `-----BEGIN PRIVATE KEY-----`."""
    return (
        len(line) >= SHORTEST_FORM
        and not re.fullmatch(_PEM_BORDER, line)
        and sum(character.isalnum() for character in line) >= SHORTEST
    )


# --- all of it ------------------------------------------------------------------------------------


def _needles(name: str, parts: _Parts, *, is_credential: bool) -> tuple[Needle, ...]:
    found: dict[bytes, Needle] = {}

    def add(encoding: str, data: bytes, shortest: int = SHORTEST_FORM) -> None:
        if len(data) >= shortest and data not in found:
            found[data] = Needle(name, encoding, data)

    texts = [text for text in parts.texts if len(encode(text)) >= SHORTEST]
    for text in texts:
        add("raw", encode(text), SHORTEST)
    for encoding, pieces in (("line", parts.lines), ("leaf", parts.leaves)):
        for piece in pieces:
            add(encoding, encode(piece))
    for text in texts:
        for encoding, data in encode_text(text):
            add(encoding, data)
        if is_credential:
            add("git", elide(text))
    for user, password in parts.pairs:
        for encoding, data in encode_pair(user, password):
            add(encoding, data)
    return tuple(found.values())
