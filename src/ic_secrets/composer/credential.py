"""A `composer` secret as Composer takes it: parsed once, with its secret parts, its headers and git's login. Pure."""

import contextlib
import json
import re
from collections.abc import Iterable
from typing import Any, NoReturn

from ..core.records import NamedTuple
from ..errors import InvalidValueError, MalformedAuthError
from ..masking.parts import PLACEHOLDERS, SecretParts, list_leaves, make_parts, parse_json, split_value
from ..model.names import split_composer_name
from ..model.secret import SecretType, SecretValue
from .auth_json import Document, parse_auth
from .methods import METHODS, Field, Headers, Method, Pair, Purpose, check_name

# The variable that Composer reads a whole auth.json from.
AUTH_VARIABLE = "COMPOSER_AUTH"
_CONTROL = r"[\x00-\x1f\x7f]"
_HEADER = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:\s*\S.*"
_HEADER_SCHEME = r"(?i)(basic|bearer|token|digest|apikey)\s+(\S.*)"
_TOKEN_PREFIX = r"gh[pousr]_|github_pat_|gl(?:pat|dt|rt|ft|cbt|ptt|soat)-"
_ADDRESS = r"https?://"
# With these a header line could lead the credentials of a request to another site, or hide a second request in it.
_OF_THE_REQUEST = frozenset("host content-length transfer-encoding connection upgrade te trailer expect".split())


class Credential(NamedTuple):
    """What auth.json holds for a secret: `auth[method][host] = content`."""

    name: str
    method: str
    host: str
    content: Any

    def __repr__(self) -> str:
        return f"Credential({self.name})"

    @property
    def login(self) -> Pair | None:
        """The user name and password for git, as Composer would put them into a URL; None if git gets no login."""
        return METHODS[self.method].find_login(self.content, self.host)

    @property
    def is_exchanged(self) -> bool:
        """Whether Composer exchanges it for a token, and stores both in the auth.json of its home."""
        return bool(METHODS[self.method].mints) or (isinstance(self.content, dict) and "refresh-token" in self.content)

    @property
    def parts(self) -> SecretParts:
        """The parts of it that must not be seen; a user name, a path or a consumer key is not one by itself."""
        return _find_parts(METHODS[self.method], self.content, self.host)

    def make_headers(self, purpose: Purpose, host: str) -> Headers:
        """Return the headers that Composer, or git for it, sends to `host` with this credential."""
        return METHODS[self.method].make_headers(self.content, self.host, purpose, host)


def parse_credential(name: str, value: SecretValue | str) -> Credential:
    """Return the credential that a `composer` secret holds (rule 11).

    That is words separated by white space, as `composer config` would take them after the key, or JSON of the shape
    that auth.json holds. InvalidValueError names the secret and the shape, never the value; InvalidNameError.
    """
    key, host = split_composer_name(check_name(SecretType.COMPOSER, name))
    method = METHODS[key]
    text = (value.reveal() if isinstance(value, SecretValue) else value).strip()
    if not text:
        raise _invalid(name, "is empty")
    content = _from_json(name, method, text) if text[0] in '{["' else _from_words(name, method, text)
    if method.grammar and isinstance(content, str) and not re.fullmatch(method.grammar, content):
        raise _invalid(name, f"has characters that a {key} token cannot have; Composer would fail on every command")
    return Credential(name, key, host, content)


class AuthVariable(NamedTuple):
    """What an `env` secret COMPOSER_AUTH holds: `others` is what is not a credential, such as a setting."""

    credentials: tuple[Credential, ...]
    others: Document
    parts: SecretParts

    def __repr__(self) -> str:
        return "AuthVariable(***)"


def parse_variable(text: str) -> AuthVariable:
    """Return what the value of COMPOSER_AUTH holds; MalformedAuthError where Composer would fail on it."""
    document = parse_auth(text, AUTH_VARIABLE)
    for key, method in METHODS.items():
        for content in (document.get(key) or {}).values():
            if not _is_usable(method, content) and not _is_blank(content):
                shape = method.required or ("token" if method.partner else "headers",)
                raise MalformedAuthError(f"{AUTH_VARIABLE}: {key} does not map hosts to {' and '.join(shape)}")
    credentials = list_credentials(document)
    parts = [credential.parts for credential in credentials]
    texts = [text for each in parts for text in each.texts]
    pairs = [pair for each in parts for pair in each.pairs]
    others = {key: value for key, value in document.items() if key not in METHODS}
    leaves = [leaf for key, leaf in list_leaves(others) if re.search(r"(?i)pass|secret|token|auth", key)]
    return AuthVariable(credentials, others, make_parts([*texts, *leaves], pairs=pairs, is_credential=True))


def list_credentials(document: Document) -> tuple[Credential, ...]:
    """Return the credentials of an auth.json that Composer can use, whatever else is in it."""
    found = []
    for key, method in METHODS.items():
        section = document.get(key)
        for host, content in section.items() if isinstance(section, dict) else ():
            if _is_usable(method, content) and not _is_blank(content):
                found.append(Credential(f"{key}.{host}", key, host, content))
    return tuple(found)


def split_secret(kind: SecretType, name: str, text: str) -> SecretParts:
    """Return the secret parts of a value of any type; all of a credential that is malformed is secret."""
    if kind is SecretType.ENV and name == AUTH_VARIABLE:
        with contextlib.suppress(MalformedAuthError):
            return parse_variable(text).parts
    if kind is not SecretType.COMPOSER:
        return split_value(text)
    try:
        return parse_credential(name, text).parts
    except InvalidValueError:
        key, host = split_composer_name(name)
        return _split_malformed(METHODS[key], text, host)


def split_token(name: str, token: str) -> SecretParts:
    """Return the secret parts of a token that Composer was given later, for the host and method in the name."""
    token = token.strip()
    key, host = split_composer_name(name)
    pairs = METHODS[key].list_token_pairs(token, host) if key in METHODS else ()
    return make_parts([token], pairs=pairs, is_credential=True)


def _is_usable(method: Method, content: Any) -> bool:
    """Return whether Composer can use the content, of any shape, as a credential of the method."""
    if method.holds_headers:
        return isinstance(content, list) and bool(content) and all(isinstance(line, str) for line in content)
    if isinstance(content, str):
        return bool(method.partner and content) and (not method.grammar or bool(re.fullmatch(method.grammar, content)))
    fields = method.read_fields(content)
    return bool(method.required) and all(isinstance(fields.get(name), str) for name in method.required)


def _is_blank(content: Any) -> bool:
    """Return whether nothing is in it: Composer bears that until it asks the host."""
    return not content or (isinstance(content, dict) and not any(content.values()))


# --- secret parts -----------------------------------------------------------------------------------


def _find_parts(method: Method, content: Any, host: str) -> SecretParts:
    if method.holds_headers:
        return _find_header_parts(content)
    fields = method.read_fields(content)
    texts = [text for field, text in fields.items() if isinstance(text, str) and field not in method.public]
    pair = method.find_pair(content) if isinstance(content, dict) and len(method.required) == 2 else None
    user, password = pair or ("", "")
    is_beside = password.lower() in PLACEHOLDERS or re.match(_ADDRESS, password) is not None
    if user.lower() not in PLACEHOLDERS and (is_beside or re.match(_TOKEN_PREFIX, user)):
        # The user name is itself the token: beside a placeholder, or a licence key beside the address of its site.
        texts = [user, *(text for text in texts if text != password or not is_beside)]
    return make_parts(texts, pairs=method.list_pairs(content, host), is_credential=True)


def _split_malformed(method: Method, text: str, host: str) -> SecretParts:
    """Return every word, or every text of the JSON but for those that are public in a credential of the method."""
    document = parse_json(text.strip())
    leaves = list(list_leaves(document))
    if method.holds_headers:
        return _find_header_parts([leaf for _, leaf in leaves] or text.splitlines())
    if isinstance(document, dict) and method.required and dict(leaves).keys() >= {*method.required}:
        known = _find_parts(method, dict(leaves), host)
        secret = [leaf for field, leaf in leaves if field not in method.public]
        return make_parts([*known.texts, *secret], pairs=known.pairs, is_credential=True)
    words = [leaf for _, leaf in leaves] or text.split()
    return make_parts(words, pairs=method.list_pairs(words[0], host) if words else (), is_credential=True)


def _find_header_parts(lines: Iterable[str]) -> SecretParts:
    """Return the headers' values, the token after a scheme, and what a Basic header encodes; their names are public."""
    texts: list[str] = []
    pairs: list[Pair] = []
    for line in lines:
        header = (line.partition(":")[2] or line).strip()
        texts.append(header)
        scheme = re.fullmatch(_HEADER_SCHEME, header)
        if scheme:
            texts.append(scheme[2])
        if scheme and scheme[1].lower() == "basic":
            user, _, password = _decode_base64(scheme[2]).partition(":")
            if password:
                texts.append(password)
                pairs.append((user, password))
    return make_parts(texts, pairs=pairs, is_credential=True)


def _decode_base64(text: str) -> str:
    import base64

    try:
        return base64.b64decode(text, validate=True).decode()
    except ValueError:
        return ""


# --- words and JSON ---------------------------------------------------------------------------------


def _from_words(name: str, method: Method, text: str) -> Any:
    if method.holds_headers:
        return _check_headers(name, [line.strip() for line in text.splitlines() if line.strip()])
    words = text.split()
    if method.partner and len(words) == 1:
        return _check_text(name, "the token", words[0])
    if method.takes_words and len(words) == len(method.required):
        return {field: _check_text(name, field, word) for field, word in zip(method.required, words, strict=True)}
    raise _invalid(name, f"has {len(words)} {'word' if len(words) == 1 else 'words'}; it must be {_describe(method)}")


def _from_json(name: str, method: Method, text: str) -> Any:
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise _invalid(name, f"begins like JSON but is not valid JSON; it must be {_describe(method)}") from None
    if isinstance(content, str) and method.partner:
        return _check_text(name, "the token", content)
    if isinstance(content, list) and method.holds_headers:
        return _check_headers(name, content)
    if isinstance(content, dict) and method.required:
        fields = {field.name: field for field in method.fields}
        if {*method.required} <= content.keys() <= fields.keys():
            return {field: _check_field(name, fields[field], value) for field, value in content.items()}
    raise _invalid(name, f"is JSON of the wrong shape; it must be {_describe(method)}")


def _check_field(name: str, field: Field, value: Any) -> Any:
    if field.is_number:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise _invalid(name, f"has a {field.name} that is not a number")
    return value if field.may_be_empty and value == "" else _check_text(name, field.name, value)


def _check_text(name: str, field: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _invalid(name, f"has no text for {field}")
    if re.search(_CONTROL, value):
        raise _invalid(name, f"has control characters in {field}, which an HTTP header cannot carry")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _invalid(name, f"has half a character (a lone surrogate) in {field}") from None
    return value


def _check_headers(name: str, headers: list[Any]) -> list[str]:
    for header in headers:
        if not isinstance(header, str) or not re.fullmatch(_HEADER, header) or re.search(_CONTROL, header):
            raise _invalid(name, "has a line that is not an HTTP header, `Name: value`")
        if header.partition(":")[0].strip().lower() in _OF_THE_REQUEST:
            raise _invalid(name, "has a header of the request itself, such as Host, which no credential may set")
    if not headers:
        raise _invalid(name, "has no header")
    return headers


def _describe(method: Method) -> str:
    shapes = []
    if method.partner:
        shapes.append("one word")
    if method.takes_words and method.required:
        shapes.append(f"{len(method.required)} words, `{' '.join(method.required)}`")
    if method.required:
        shapes.append("JSON with " + ", ".join(f'"{field}"' for field in method.required))
    if method.holds_headers:
        shapes.append("a line `Name: value` for each header, or a JSON list of them")
    return ", or ".join(shapes)


def _invalid(name: str, problem: str) -> InvalidValueError:
    return InvalidValueError(
        f"the value of {name} {problem}", hint="words are split on white space; JSON can hold what words cannot"
    )


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError
