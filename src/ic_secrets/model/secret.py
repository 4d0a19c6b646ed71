"""The words of the product: secrets, their values, owners and targets, and the grammar of each.

Rules 1, 2, 4 and 10 of the model live here. Nothing in this module reads a clock, a file or the
environment.
"""

import enum
import re
from typing import NamedTuple, NoReturn

from ..errors import InvalidNameError, InvalidValueError

MAX_VALUE_BYTES = 16_384
# The end of the year 9999, in Unix time: no later moment has a date that everything can read.
MAX_TIME = 253_402_300_800
REDACTED = "***"

# The methods of `composer config --auth METHOD.HOST`, in the order in which Composer loads them. client-certificate is
# taken by auth.json only.
COMPOSER_METHODS = (
    "bitbucket-oauth",
    "github-oauth",
    "gitlab-oauth",
    "gitlab-token",
    "forgejo-token",
    "http-basic",
    "bearer",
    "custom-headers",
    "client-certificate",
)

_ENV_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_RUNTIME_NAME = r"[A-Za-z0-9._-]{1,128}"
_HOST = r"(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*|\[[0-9a-f:.]+\])"
_COMPOSER_NAME = rf"({'|'.join(COMPOSER_METHODS)})\.({_HOST}(?::[0-9]{{1,5}})?)"
SITE = r"[a-z0-9][a-z0-9-]{0,62}"
ENVIRONMENT = r"[a-z0-9-]{1,11}"
# The longest env or composer name that a store takes; the grammar of both is otherwise unbounded.
_MAX_NAME = 300


class SecretType(enum.Enum):
    """What a secret is for. A secret has exactly one type (rule 1)."""

    RUNTIME = "runtime"
    ENV = "env"
    COMPOSER = "composer"


class Scope(enum.Enum):
    """Who may read a secret. A secret has one scope or more (rule 2)."""

    IC = "ic"
    WEB = "web"
    USER = "user"


Scopes = frozenset[Scope]


def format_scopes(scopes: Scopes) -> str:
    """The scopes in their one canonical order, as users type them: `ic,user`."""
    return ",".join(scope.value for scope in Scope if scope in scopes)


class SecretValue:
    """A value that shows itself only to `reveal()`.

    repr, str, format, tracebacks and pickle give `***` or refuse, so that no log, error or dump
    shows it by accident. At most 16,384 bytes of UTF-8 (rule 4).
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise InvalidValueError("the value is not valid UTF-8") from None
        if size > MAX_VALUE_BYTES:
            raise InvalidValueError(f"the value has {size:,} bytes; at most {MAX_VALUE_BYTES:,} are allowed")
        self._text = text

    @classmethod
    def from_bytes(cls, data: bytes) -> "SecretValue":
        """The value that `data` holds as UTF-8; InvalidValueError when it is none, or too long."""
        if len(data) > MAX_VALUE_BYTES:
            raise InvalidValueError(f"the value has {len(data):,} bytes; at most {MAX_VALUE_BYTES:,} are allowed")
        try:
            return cls(data.decode())
        except UnicodeDecodeError:
            raise InvalidValueError("the value is not valid UTF-8") from None

    def reveal(self) -> str:
        """The plain text. Only mask, composer, exposure, stores and the `get` command call this."""
        return self._text

    def __repr__(self) -> str:
        return f"SecretValue({REDACTED})"

    def __str__(self) -> str:
        return REDACTED

    def __format__(self, spec: str) -> str:
        return format(REDACTED, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretValue):
            return NotImplemented
        from hmac import compare_digest

        return compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SecretValue is not to be pickled or copied out of its process")


class Owner(NamedTuple):
    """A site or an organization. `str()` gives it as the command line takes it."""

    kind: str
    name: str

    @classmethod
    def site(cls, name: str) -> "Owner":
        """The owner that a site is; InvalidNameError when the name cannot be one."""
        return cls("site", check_site_name(name))

    @classmethod
    def organization(cls, name: str) -> "Owner":
        """The owner that an organization is; InvalidNameError when the name cannot be one."""
        return cls("organization", check_site_name(name, "organization"))

    @property
    def is_site(self) -> bool:
        """Whether this is a site, not an organization."""
        return self.kind == "site"

    def __str__(self) -> str:
        return self.name if self.is_site else f"org:{self.name}"


class Target(NamedTuple):
    """A site and one of its environments, written `my-site.dev`."""

    site: str
    environment: str = "dev"

    @classmethod
    def parse(cls, text: str) -> "Target":
        """`SITE[.ENV]`; without ENV it is `dev`."""
        site, _, environment = text.partition(".")
        check_site_name(site)
        return cls(site, check_environment(environment) if "." in text else "dev")

    def __str__(self) -> str:
        return f"{self.site}.{self.environment}"


class Secret(NamedTuple):
    """A secret's base value, as its owner holds it.

    `id` is the identity of this very base: an override belongs to it, and a new secret of the same
    name has another. `value` is None where the store was not asked for it, or does not give it.
    Times are Unix seconds, UTC; `version` counts the values that it has had, from 1.
    """

    id: str
    owner: Owner
    name: str
    type: SecretType
    scopes: Scopes
    value: SecretValue | None
    version: int = 1
    created: int = 0
    changed: int = 0
    expires: int | None = None


class Override(NamedTuple):
    """Another value of a secret for one environment of its owner.

    `base` is the id of the `Secret` that it was set over, on this owner or on the site's primary
    organization; type and scopes are those of that base. Without that base it is inert (rule 6).
    """

    base: str
    owner: Owner
    environment: str
    name: str
    type: SecretType
    scopes: Scopes
    value: SecretValue | None
    version: int = 1
    created: int = 0
    changed: int = 0
    expires: int | None = None


class Site(NamedTuple):
    """A site of the store: its primary organization, and those that only support it (rule 5)."""

    name: str
    organization: str | None = None
    supporting: tuple[str, ...] = ()


def parse_owner(text: str) -> tuple[Owner, str | None]:
    """`OWNER[.ENV]`, where OWNER is `SITE` or `org:ORG`: the owner and the environment, if named."""
    name, dot, environment = text.partition(".")
    organization = name.removeprefix("org:")
    owner = Owner.site(name) if organization == name else Owner.organization(organization)
    return owner, check_environment(environment) if dot else None


def parse_scopes(text: str) -> Scopes:
    """`S[,S...]`; InvalidNameError for an empty list or a word that is no scope."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    known = {scope.value: scope for scope in Scope}
    for word in words:
        if word not in known:
            raise InvalidNameError(f"{word!r} is no scope", hint=f"the scopes are {', '.join(known)}")
    if not words:
        raise InvalidNameError("a secret needs one scope or more", hint=f"the scopes are {', '.join(known)}")
    return frozenset(known[word] for word in words)


def parse_type(text: str) -> SecretType:
    """The type of that name; InvalidNameError for anything else."""
    try:
        return SecretType(text)
    except ValueError:
        known = ", ".join(kind.value for kind in SecretType)
        raise InvalidNameError(f"{text!r} is no type", hint=f"the types are {known}") from None


def check_site_name(name: str, what: str = "site") -> str:
    """The name itself, or InvalidNameError: `[a-z0-9][a-z0-9-]{0,62}`."""
    if not re.fullmatch(SITE, name):
        raise InvalidNameError(
            f"{name!r} is no name of {'an' if what[0] in 'aeiou' else 'a'} {what}",
            hint="lower case letters, digits and hyphens, at most 63",
        )
    return name


def check_environment(name: str) -> str:
    """The name itself, or InvalidNameError: `[a-z0-9-]{1,11}`."""
    if not re.fullmatch(ENVIRONMENT, name):
        raise InvalidNameError(
            f"{name!r} is no name of an environment", hint="lower case letters, digits and hyphens, at most 11"
        )
    return name


def check_secret_name(kind: SecretType, name: str) -> str:
    """The name itself, or InvalidNameError: the grammar depends on the type (rule 10)."""
    if len(name) > _MAX_NAME:
        raise InvalidNameError(f"a name of {len(name)} characters is too long", hint=f"at most {_MAX_NAME}")
    if kind is SecretType.ENV and not re.fullmatch(_ENV_NAME, name):
        raise InvalidNameError(
            f"{name!r} is no name of an environment variable", hint="letters, digits and _, no digit first"
        )
    if kind is SecretType.COMPOSER and not re.fullmatch(_COMPOSER_NAME, name):
        raise InvalidNameError(
            f"{name!r} is no Composer auth key",
            hint="METHOD.HOST[:PORT] in lower case, without scheme or path, such as http-basic.repo.example.org; "
            f"METHOD is one of {', '.join(COMPOSER_METHODS)}",
        )
    if kind is SecretType.RUNTIME and not re.fullmatch(_RUNTIME_NAME, name):
        raise InvalidNameError(
            f"{name!r} is no name of a runtime secret", hint="up to 128 letters, digits, dots, hyphens and _"
        )
    return name


def is_possible_name(name: str) -> bool:
    """Whether some type could have a secret of that name (for commands that name no type)."""
    return len(name) <= _MAX_NAME and any(
        re.fullmatch(pattern, name) for pattern in (_ENV_NAME, _COMPOSER_NAME, _RUNTIME_NAME)
    )


def split_composer_name(name: str) -> tuple[str, str]:
    """Method and host of a Composer auth key: `http-basic.a.org:8443` is (`http-basic`, `a.org:8443`)."""
    method, _, host = check_secret_name(SecretType.COMPOSER, name).partition(".")
    return method, host
