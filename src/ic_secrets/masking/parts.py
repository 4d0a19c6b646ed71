"""Which parts of a value are secret: the value itself, its lines, leaves of JSON, a password in an address. Pure."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

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
_URL_PASSWORD = r"://[^/\s:@]*:([^@/\s]+)@"
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
    texts = [text]
    leaves: list[str] = []
    for found in re.findall(_URL_PASSWORD, text):
        if len(found) >= SHORTEST_LEAF:
            from urllib.parse import unquote

            texts.append(unquote(found))
    for key, leaf in list_leaves(parse_json(text)):
        is_secret = not key or re.search(_SECRET_KEY, key) is not None
        if is_secret or len(leaf) >= SHORTEST_LEAF:
            is_public = re.fullmatch(_PUBLIC_ADDRESS, leaf) or (not is_secret and re.fullmatch(_PUBLIC_WORDS, leaf))
            (leaves if is_public else texts).append(leaf)
    return make_parts(texts, leaves)


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
    rows = (row.strip() for text in several for row in text.splitlines())
    return SecretParts(kept, tuple(filter(_is_telling, rows)), leaves, tuple(pairs), is_credential)


def is_common(text: str) -> bool:
    """Return whether files hold the text anyway: a common word, up to 11 digits, one character repeated."""
    return text.lower() in _COMMON or re.fullmatch(_SAMENESS, text) is not None


def parse_json(text: str) -> object:
    """Return the document if the text is an object, a list or a string of JSON, else None."""
    if not text.lstrip().startswith(("{", "[", '"')):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def list_leaves(document: object) -> Iterator[tuple[str, str]]:
    """Yield the strings of a JSON document in order, each with the key that it has, or the list that it is in."""
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


def _is_telling(line: str) -> bool:
    """Return whether a line says something by itself, unlike `{` or `-----BEGIN PRIVATE KEY-----`."""
    return (
        len(line) >= SHORTEST_FORM
        and not re.fullmatch(_PEM_BORDER, line)
        and sum(character.isalnum() for character in line) >= SHORTEST
    )
