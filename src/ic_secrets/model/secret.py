"""The records of the model: secrets, their values, owners and targets (rules 1, 2 and 4). Pure."""

import enum
from typing import NoReturn

from ..core.records import NamedTuple
from ..errors import InvalidNameError, InvalidValueError
from .names import check_environment, check_site_name

MAX_VALUE_BYTES = 16_384
# The end of the year 9999, in Unix time: no later moment has a date that everything can read.
MAX_TIME = 253_402_300_800
REDACTED = "***"


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
# The hosts that an `env` secret is bound to, in order; none for any other. `hosts` has their grammar.
Hosts = tuple[str, ...]


def format_scopes(scopes: Scopes) -> str:
    """Return the scopes in their one canonical order, as users type them: `ic,user`."""
    return ",".join(scope.value for scope in Scope if scope in scopes)


class SecretValue:
    """A value of at most 16,384 bytes of UTF-8 (rule 4), which only `reveal()` shows.

    repr, str, format and tracebacks show `***`, and pickle refuses, so that no log, error or dump shows it by accident.
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
        """Return the value that `data` holds; InvalidValueError when that is not UTF-8, or too long."""
        if len(data) > MAX_VALUE_BYTES:
            raise InvalidValueError(f"the value has {len(data):,} bytes; at most {MAX_VALUE_BYTES:,} are allowed")
        try:
            return cls(data.decode())
        except UnicodeDecodeError:
            raise InvalidValueError("the value is not valid UTF-8") from None

    def reveal(self) -> str:
        """Return the plain text. Only masking, composer, exposure, stores and the `get` command call this."""
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
        raise TypeError("a SecretValue must not be pickled or copied out of its process")


class Owner(NamedTuple):
    """A site or an organization. `str()` gives it as the command line takes it."""

    kind: str
    name: str

    @classmethod
    def site(cls, name: str) -> "Owner":
        """Return the site of that name as an owner; InvalidNameError."""
        return cls("site", check_site_name(name))

    @classmethod
    def organization(cls, name: str) -> "Owner":
        """Return the organization of that name as an owner; InvalidNameError."""
        return cls("organization", check_site_name(name, "organization"))

    @property
    def is_site(self) -> bool:
        """Whether this is a site rather than an organization."""
        return self.kind == "site"

    def __str__(self) -> str:
        return self.name if self.is_site else f"org:{self.name}"


class Target(NamedTuple):
    """A site and one of its environments, written `my-site.dev`."""

    site: str
    environment: str = "dev"

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Return the target that `SITE[.ENV]` names; ENV is `dev` by default. InvalidNameError."""
        site, _, environment = text.partition(".")
        check_site_name(site)
        return cls(site, check_environment(environment) if "." in text else "dev")

    def __str__(self) -> str:
        return f"{self.site}.{self.environment}"


class Secret(NamedTuple):
    """A secret's base value, as its owner holds it.

    `id` identifies this very base: an override belongs to it, and a new secret of the same name has another.
    `value` is None when the store was not asked for it, or does not give it. Times are Unix seconds; `version`
    counts the values that the secret has had, from 1. Type and scopes never change; the hosts may.
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
    hosts: Hosts = ()


class Override(NamedTuple):
    """Another value of a secret, for one environment of its owner.

    `base` is the id of the `Secret` that it overrides, on this owner or on the site's primary organization; its type,
    scopes and hosts are those of that base. Without the base it is inert (rule 6).
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
    """A site in a store: its primary organization, and those that only support it (rule 5)."""

    name: str
    organization: str | None = None
    supporting: tuple[str, ...] = ()


def parse_owner(text: str) -> tuple[Owner, str | None]:
    """Return the owner and the environment, if any, that `SITE[.ENV]` or `org:ORG[.ENV]` names; InvalidNameError."""
    name, dot, environment = text.partition(".")
    organization = name.removeprefix("org:")
    owner = Owner.site(name) if organization == name else Owner.organization(organization)
    return owner, check_environment(environment) if dot else None


def parse_scopes(text: str) -> Scopes:
    """Return the scopes that `S[,S...]` names; InvalidNameError for an unknown scope or an empty list."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    known = {scope.value: scope for scope in Scope}
    for word in words:
        if word not in known:
            raise InvalidNameError(f"{word!r} is not a scope", hint=f"the scopes are {', '.join(known)}")
    if not words:
        raise InvalidNameError("a secret needs at least one scope", hint=f"the scopes are {', '.join(known)}")
    return frozenset(known[word] for word in words)


def parse_type(text: str) -> SecretType:
    """Return the type of that name; InvalidNameError."""
    try:
        return SecretType(text)
    except ValueError:
        known = ", ".join(kind.value for kind in SecretType)
        raise InvalidNameError(f"{text!r} is not a type", hint=f"the types are {known}") from None
