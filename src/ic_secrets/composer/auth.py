"""What Composer makes of credentials: auth.json rendered, merged and compared. All of it is pure.

The methods, their words and their JSON are those of `composer config --auth` and of Composer's
auth.json schema (https://getcomposer.org/doc/articles/authentication-for-private-packages.md).
Nothing here reads a file or the environment; texts come in and documents go out.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from ..errors import InvalidValueError, MalformedAuthError
from ..model.secret import COMPOSER_METHODS, SecretValue, split_composer_name

# A decoded auth.json: the edge where JSON of any shape comes in.
Document = dict[str, Any]

# When several methods know one host, Composer lets the one that it loads last win.
LOAD_ORDER = COMPOSER_METHODS

_CONTROL = r"[\x00-\x1f\x7f]"
_GITHUB_TOKEN = r"[.A-Za-z0-9_-]+"
_HEADER = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:\s*\S.*"


class Method(NamedTuple):
    """One way to authenticate: since which Composer, and the fields of its JSON.

    `required` fields are also the words of the short form, in that order. `token` says that a bare
    string does as well.
    """

    since: tuple[int, int]
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    token: bool = False
    words: bool = True


METHODS: Mapping[str, Method] = {
    "http-basic": Method((1, 0), ("username", "password")),
    "bearer": Method((1, 10), token=True),
    "github-oauth": Method((1, 0), token=True),
    "gitlab-oauth": Method((1, 0), ("token",), ("refresh-token", "expires-at"), token=True, words=False),
    "gitlab-token": Method((1, 3), ("username", "token"), token=True),
    "bitbucket-oauth": Method((1, 0), ("consumer-key", "consumer-secret"), ("access-token", "access-token-expiration")),
    "custom-headers": Method((2, 9)),
    "forgejo-token": Method((2, 9), ("username", "token")),
    "client-certificate": Method((2, 9), ("local_cert",), ("local_pk", "passphrase"), words=False),
}

# Fields that may be empty: a token as user name with no password is common.
_MAY_BE_EMPTY = frozenset({"password", "passphrase"})


class Credential(NamedTuple):
    """A `composer` secret as Composer takes it: `auth[method][host] = content`."""

    name: str
    method: str
    host: str
    content: Any

    def __repr__(self) -> str:
        return f"Credential({self.name})"


class Collision(NamedTuple):
    """A place of the project whose credential Composer prefers to ours, or that of another method."""

    host: str
    file: str
    method: str


def parse_credential(name: str, value: SecretValue) -> Credential:
    """The credential that a `composer` secret means (rule 11).

    Words separated by white space, as `composer config` would take them after the key, or JSON of
    the shape that auth.json holds. InvalidValueError names the secret and the shape, never the value.
    """
    method, host = split_composer_name(name)
    text = value.reveal().strip()
    if not text:
        raise _invalid(name, "is empty")
    if text[0] in '{["':
        content = _from_json(name, METHODS[method], text)
    else:
        content = _from_words(name, METHODS[method], text)
    if method == "github-oauth" and not re.fullmatch(_GITHUB_TOKEN, content):
        raise _invalid(name, "has characters that no GitHub token has; Composer would die on it, whatever the command")
    return Credential(name, method, host, content)


def parse_document(text: str, origin: str) -> Document:
    """The auth.json or composer.json that `text` holds; MalformedAuthError names `origin` alone."""
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise MalformedAuthError(f"{origin} is not valid JSON") from None
    if document == []:  # how PHP writes an empty object
        document = {}
    if not isinstance(document, dict):
        raise MalformedAuthError(f"{origin} holds no JSON object")
    return document


def parse_auth(text: str, origin: str) -> Document:
    """The auth.json that `text` holds; MalformedAuthError where Composer would stumble over it."""
    document = parse_document(text, origin)
    check_sections(document, origin)
    return document


def check_sections(document: Document, origin: str) -> None:
    """MalformedAuthError when a method's section is no map of hosts (Composer would die half-way)."""
    for method in COMPOSER_METHODS:
        section = document.get(method)
        if section is not None and section != [] and not isinstance(section, dict):
            raise MalformedAuthError(f"{origin}: {method} is no map of hosts to credentials")


def merge_auth(document: Document, credentials: Iterable[Credential]) -> Document:
    """The user's auth.json with the secrets in it.

    Every method of a host that a secret sets is dropped first, since Composer lets the method that
    it loads last win, whatever its source. All else, other config keys included, stays.
    """
    credentials = tuple(credentials)
    merged, _ = drop_hosts(document, {credential.host for credential in credentials})
    for credential in credentials:
        section = merged.get(credential.method)
        if not isinstance(section, dict):
            section = merged[credential.method] = {}
        section[credential.host] = credential.content
    return merged


def drop_hosts(document: Document, hosts: Collection[str]) -> tuple[Document, tuple[str, ...]]:
    """A copy of the document (of what is not a method, the same) without the hosts, and those that it had."""
    kept = {
        key: dict(value) if key in COMPOSER_METHODS and isinstance(value, dict) else value
        for key, value in document.items()
    }
    dropped: set[str] = set()
    for method in COMPOSER_METHODS:
        section = kept.get(method)
        if isinstance(section, dict):
            for host in hosts & section.keys():
                del section[host]
                dropped.add(host)
            if not section:
                del kept[method]
    return kept, tuple(sorted(dropped))


def move_headers(source: Document, destination: Document, hosts: Collection[str]) -> None:
    """Move the custom-headers of `source` into `destination` when both have some, in place.

    Composer below 2.11 merges every method host by host, except this one: a stronger source's map
    replaces the weaker one's whole, and so would hide the headers of the other hosts.
    """
    stronger, weaker = source.get("custom-headers"), destination.get("custom-headers")
    if isinstance(stronger, dict) and isinstance(weaker, dict):
        del source["custom-headers"]
        for host, headers in stronger.items():
            if host not in hosts:
                weaker[host] = headers


def find_collisions(
    sections: Document, file: str, credentials: Sequence[Credential], *, replaces_headers: bool = True
) -> tuple[Collision, ...]:
    """The credentials of a project's file that Composer will prefer to the secrets'.

    `sections` is an auth.json, or the `config` of a composer.json. Another method for the same host
    collides when Composer loads it later; the same method always does; where Composer replaces headers
    rather than merges them, a custom-headers map hides ours for every host.
    """
    collisions = []
    for credential in credentials:
        for method in LOAD_ORDER:
            section = sections.get(method)
            if not isinstance(section, dict):
                continue
            later = LOAD_ORDER.index(method) >= LOAD_ORDER.index(credential.method)
            hides = replaces_headers and method == credential.method == "custom-headers"
            if hides or (later and credential.host in section):
                collisions.append(Collision(credential.host, file, method))
    return tuple(dict.fromkeys(collisions))


def find_rivals(credentials: Sequence[Credential]) -> tuple[tuple[str, str, str], ...]:
    """Pairs of secrets for one host: (host, the name that Composer will use, the name that it will not)."""
    strongest: dict[str, Credential] = {}
    rivals = []
    for credential in sorted(credentials, key=lambda item: LOAD_ORDER.index(item.method)):
        weaker = strongest.get(credential.host)
        if weaker:
            rivals.append((credential.host, credential.name, weaker.name))
        strongest[credential.host] = credential
    return tuple(rivals)


def parse_version(version: str | None) -> tuple[int, ...]:
    """`2.5.5` or `2.9.0-RC1` as its numbers, all three; none where it is no version."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version or "")
    return tuple(int(number or 0) for number in match.groups()) if match else ()


def is_composer(command: Sequence[str]) -> bool:
    """Whether the command's program is Composer, by its name."""
    return bool(command) and command[0].rsplit("/", 1)[-1].startswith("composer")


def find_project(command: Sequence[str], directory: str, join: Callable[[str, str], str]) -> str:
    """The directory that a Composer command works in: its `-d`/`--working-dir`, else `directory`."""
    if not is_composer(command):
        return directory
    words = iter(command[1:])
    for word in words:
        if word == "--":
            break
        if word in {"-d", "--working-dir"}:
            return join(directory, next(words, "."))
        if word.startswith("--working-dir="):
            return join(directory, word.partition("=")[2])
        if word.startswith("-d") and not word.startswith("--"):
            return join(directory, word[2:])
    return directory


def _from_words(name: str, method: Method, text: str) -> Any:
    if not method.required and not method.token:  # custom-headers: a header a line
        return _checked_headers(name, [line.strip() for line in text.splitlines() if line.strip()])
    words = text.split()
    if method.token and len(words) == 1:
        return _checked_text(name, "the token", words[0])
    if method.words and len(words) == len(method.required):
        return {field: _checked_text(name, field, word) for field, word in zip(method.required, words, strict=True)}
    raise _invalid(name, f"has {len(words)} words where {_describe(method)} belongs")


def _from_json(name: str, method: Method, text: str) -> Any:
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise _invalid(name, f"starts like JSON but is not valid JSON; {_describe(method)} belongs there") from None
    if isinstance(content, str) and method.token:
        return _checked_text(name, "the token", content)
    if isinstance(content, list) and not method.required and not method.token:
        return _checked_headers(name, content)
    if isinstance(content, dict) and method.required:
        fields = set(content)
        if set(method.required) <= fields <= {*method.required, *method.optional}:
            return {field: _checked_field(name, field, content[field]) for field in content}
    raise _invalid(name, f"has JSON of the wrong shape; {_describe(method)} belongs there")


def _checked_field(name: str, field: str, value: Any) -> Any:
    if field in {"expires-at", "access-token-expiration"}:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise _invalid(name, f"has a {field} that is no number")
    if field in _MAY_BE_EMPTY and value == "":
        return value
    return _checked_text(name, field, value)


def _checked_text(name: str, field: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _invalid(name, f"has no text for {field}")
    if re.search(_CONTROL, value):
        raise _invalid(name, f"has control characters in {field}, which no HTTP header can carry")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _invalid(name, f"has half a character (a lone surrogate) in {field}") from None
    return value


def _checked_headers(name: str, headers: list[Any]) -> list[str]:
    for header in headers:
        if not isinstance(header, str) or not re.fullmatch(_HEADER, header) or re.search(_CONTROL, header):
            raise _invalid(name, "has a line that is no HTTP header, `Name: value`")
    if not headers:
        raise _invalid(name, "has no header")
    return headers


def _describe(method: Method) -> str:
    shapes = []
    if method.token:
        shapes.append("one word")
    if method.words and method.required:
        shapes.append(f"{len(method.required)} words, `{' '.join(method.required)}`")
    if method.required:
        fields = ", ".join(f'"{field}"' for field in method.required)
        shapes.append(f"JSON with {fields}")
    if not method.required and not method.token:
        shapes.append("a line `Name: value` for each header, or a JSON list of them")
    return ", or ".join(shapes)


def _invalid(name: str, problem: str) -> InvalidValueError:
    return InvalidValueError(
        f"the value of {name} {problem}", hint="words are split on white space; what they cannot say, JSON can"
    )


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError
