"""Which parts of a value are secret: the value itself, its lines, leaves of JSON, a password in an address. Pure."""

import json
import re
from collections.abc import Iterable, Iterator

from ..core.records import NamedTuple

# In bytes. Anything shorter is all over any output; an encoded form, or a line, needs a little more to mean anything.
SHORTEST = 4
SHORTEST_FORM = 6
SHORTEST_LEAF = 8

# Words that files and output hold for reasons of their own. Such a value is masked, since it was declared secret, but
# finding it says nothing.
_COMMON = frozenset(
    "admin administrator anonymous changeme composer database default disabled develop development docker drupal "
    "enabled example example.com example.org false github gitlab guest http https latest local localhost main "
    "manager master mysql nobody none null pantheon passphrase password postgres prod production public release "
    "root secret secrets service_account sqlite stage staging symfony test testing token true undefined user "
    "username version wordpress xxxxxxxx 127.0.0.1 0.0.0.0".split()
)
_SAMENESS = r"(?s)(.)\1*|[0-9]{1,11}"
# Leaves of JSON that are public: words, or an address without a token.
_PUBLIC_WORDS = r"[A-Za-z]+(?:[ _.-][A-Za-z]+)*"
_PUBLIC_ADDRESS = r"https?://[A-Za-z0-9.-]+(?::\d+)?(?:/[A-Za-z0-9._-]{0,15})*"
_SECRET_KEY = r"(?i)pass|secret|token|key|credential|auth|salt|pwd"
# A name of a setting whose value is secret, in a query, a DSN or a file of settings, and the setting itself.
_SECRET_SETTING = r"(?i)pass|pwd|secret|token|key$|credential|salt|auth$|^sig"
_SETTING = r"""(?:^|[?&;\s])([A-Za-z_][\w.-]*) ?= ?("[^"]*"|'[^']*'|[^\s;&]+)"""
_LINE_OF_SETTINGS = r"""\s*(?:export\s+)?([A-Za-z_][\w.-]*)\s*[=:]\s*(.*?)\s*"""
_PATH = r"~?/[A-Za-z0-9._/-]*"
# What follows `://`; a password may hold anything that its writer forgot to encode.
_AUTHORITY = r"""://([^\s"'<>]{0,2048})@"""
# How deep JSON, addresses and settings are looked for inside each other, and how many in all.
_DEEPEST = 6
_MOST = 2000
# What people put where a user name or password must be when the other one is the token.
PLACEHOLDERS = frozenset(
    "- x none null oauth oauth2 token bearer x-oauth-basic x-token-auth x-access-token private-token "
    "gitlab-ci-token satispress".split()
) | {""}
_PEM_BORDER = r"-----(?:BEGIN|END) [A-Z0-9 ]+-----"


class SecretParts(NamedTuple):
    """The parts of one value that must not be seen.

    `texts` are secret by themselves, in every encoding; `lines` and public `leaves` as they are, and leaves are not
    searched for. `pairs` are user names and passwords that go together. `is_credential` marks one of Composer's, which
    may appear abridged in Composer's messages.
    """

    texts: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    is_credential: bool = False

    def __repr__(self) -> str:
        return "SecretParts(***)"

    @property
    def are_short(self) -> bool:
        """Whether a text is too short to be masked."""
        return any(0 < len(to_bytes(text)) < SHORTEST for text in self.texts)

    @property
    def are_common(self) -> bool:
        """Whether a text is a common word: masked wherever it occurs, never searched for."""
        return any(len(to_bytes(text)) >= SHORTEST and is_common(text) for text in self.texts)


def split_value(text: str) -> SecretParts:
    """Return the secret parts of an environment variable's or an application's value.

    White space around it is not part of it: what ends a file or a line is not secret.
    """
    text = text.strip()
    parts = _Parts()
    parts.texts[text] = None
    parts.look_into(text, 0)
    return make_parts(parts.texts, parts.leaves, parts.pairs)


class _Parts:
    """What is secret inside a value: leaves of JSON, logins of addresses, settings, and what is inside of those."""

    def __init__(self) -> None:
        self.texts: dict[str, None] = {}
        self.leaves: dict[str, None] = {}
        self.pairs: dict[tuple[str, str], None] = {}

    def look_into(self, text: str, depth: int) -> None:
        """Add the parts inside of the text."""
        if depth > _DEEPEST or len(self.texts) + len(self.leaves) > _MOST:
            return
        document = parse_json(text)
        if document is not None:
            for key, leaf in list_leaves(document):
                self._add(key, leaf, not key or re.search(_SECRET_KEY, key) is not None, depth)
            return
        for authority in re.findall(_AUTHORITY, text):
            for rest in dict.fromkeys((authority, re.split(r"[/?#]", authority)[0], authority.split("@")[0])):
                self._add_login(rest)
        lines = text.splitlines()
        settings = [found for line in lines if (found := re.fullmatch(_LINE_OF_SETTINGS, line))]
        if len(lines) > 1 and 2 * len(settings) >= len(lines):
            pairs = [(found[1], found[2]) for found in settings]
        else:
            pairs = [(name, value) for name, value in re.findall(_SETTING, text) if re.search(_SECRET_SETTING, name)]
        for name, value in pairs:
            is_quoted = value[:1] in {'"', "'"} and value[-1:] == value[:1] and len(value) > 1
            written = value[1:-1] if is_quoted else re.split(r"\s#", value)[0].strip()
            self._add(name, written, re.search(_SECRET_SETTING, name) is not None, depth)
            if "%" in written:
                self._add(name, _unquote(written), re.search(_SECRET_SETTING, name) is not None, depth)

    def _add_login(self, text: str) -> None:
        user, _, password = text.partition(":")
        if password.lower() in PLACEHOLDERS:
            if len(user) >= SHORTEST_LEAF and not re.fullmatch(_PUBLIC_WORDS, user):
                self.texts[_unquote(user)] = None  # the token itself
            return
        self.pairs[_unquote(user), _unquote(password)] = None
        if not is_common(_unquote(password)):
            self.texts[_unquote(password)] = None

    def _add(self, key: str, text: str, is_secret: bool, depth: int) -> None:
        if not text.strip() or text in self.texts or (not is_secret and len(text) < SHORTEST_LEAF):
            return
        is_public = (
            re.fullmatch(_PUBLIC_ADDRESS, text)
            or re.fullmatch(_PATH, text)
            or (not is_secret and re.fullmatch(_PUBLIC_WORDS, text))
        )
        (self.leaves if is_public else self.texts)[text] = None
        self.look_into(text, depth + 1)


def _unquote(text: str) -> str:
    if "%" not in text:
        return text
    from urllib.parse import unquote

    return unquote(text)


def make_parts(
    texts: Iterable[str],
    leaves: Iterable[str] = (),
    pairs: Iterable[tuple[str, str]] = (),
    *,
    is_credential: bool = False,
) -> SecretParts:
    """Return the parts, with the lines of those that have several; JSON's lines are not secret, but its leaves are."""
    kept = tuple(stripped for text in texts if (stripped := text.strip()))
    leaves = tuple(leaves)
    several = (text for text in (*kept, *leaves) if "\n" in text and parse_json(text) is None)
    lines = dict.fromkeys(line for text in several for line in _list_lines(text))
    return SecretParts(kept, tuple(lines), leaves, tuple(pairs), is_credential)


def is_common(text: str) -> bool:
    """Return whether files hold the text anyway: a common word, up to 11 digits, one character repeated."""
    return text.lower() in _COMMON or re.fullmatch(_SAMENESS, text) is not None


def parse_json(text: str) -> object:
    """Return the document if the text is an object, a list or a string of JSON, else None; numbers are as written."""
    if not text.lstrip().startswith(("{", "[", '"')):
        return None
    try:
        return json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return None


def list_leaves(document: object) -> Iterator[tuple[str, str]]:
    """Yield the strings of a JSON document in order, each with the key that it has, or that its list has."""
    waiting = [("", document)]
    while waiting:
        key, node = waiting.pop()
        if isinstance(node, str):
            yield key, node
        elif isinstance(node, dict):
            waiting.extend(reversed([(str(name), child) for name, child in node.items()]))
        elif isinstance(node, list):
            waiting.extend(reversed([(key, child) for child in node]))


def to_bytes(text: str) -> bytes:
    """Return the text in UTF-8; half a character, which JSON can hold, in the bytes that Python gives it."""
    return text.encode(errors="surrogatepass")


def _list_lines(text: str) -> Iterator[str]:
    """Yield the lines that say something, and others together with a neighbour that does."""
    above = ""
    between: list[str] = []
    for row in [*(row.strip() for row in text.splitlines()), ""]:
        is_telling = _is_telling(row)
        if is_telling:
            yield row
        if (is_telling or not row) and any(between):
            told = "\n".join(between).strip()
            several = told.split("\n")
            pairs = ((above, told), (above, several[0]), (told, row), (several[-1], row))
            yield from ("\n".join(pair) for pair in pairs if all(pair))
        above, between = (row, []) if is_telling else (above, [*between, row])


def _is_telling(line: str) -> bool:
    """Return whether a line says something by itself, unlike `{` or `-----BEGIN PRIVATE KEY-----`."""
    return (
        len(line) >= SHORTEST_FORM
        and not re.fullmatch(_PEM_BORDER, line)
        and sum(character.isalnum() for character in line) >= SHORTEST
    )
