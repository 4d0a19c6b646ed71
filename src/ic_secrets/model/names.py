"""The names of sites, organizations, environments and secrets, and the grammar of each (rule 10). Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..errors import InvalidNameError

if TYPE_CHECKING:
    from .secret import SecretType

SITE = r"[a-z0-9][a-z0-9-]{0,62}"
ENVIRONMENT = r"[a-z0-9-]{1,11}"
# The environments that every site of the platform has; the others are multidevs.
PERMANENT = ("dev", "test", "live")
# The platform never builds for these, but deploys what was built for dev (rule 12).
NEVER_BUILT = frozenset({"test", "live"})
# The longest name of an env or composer secret that a store takes; the grammar of both is otherwise unbounded.
_MAX_NAME = 300
HOST = r"(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*|\[[0-9a-f:.]+\])"
PORT = r"(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
# By type: the grammar, what any other name is, and the hint.
_GRAMMARS = {
    "env": (
        r"[A-Za-z_][A-Za-z0-9_]*",
        "not a valid environment variable name",
        "letters, digits and _, not beginning with a digit",
    ),
    "composer": (
        # Which methods there are is known to `composer.methods`.
        rf"[a-z][a-z0-9-]*\.{HOST}(?::{PORT})?",
        "not a Composer auth key",
        "METHOD.HOST[:PORT] in lower case, without scheme or path, such as http-basic.repo.example.org",
    ),
    "runtime": (
        r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,128}",
        "not a valid runtime secret name",
        "up to 128 letters, digits, dots, hyphens and _, but not . or ..",
    ),
}


def check_site_name(name: str, what: str = "site") -> str:
    """Return the name of a site or an `organization`, or raise InvalidNameError."""
    if not re.fullmatch(SITE, name):
        raise InvalidNameError(
            f"{name!r} is not a valid {what} name",
            hint="lower case letters, digits and hyphens, at most 63, not beginning with a hyphen",
        )
    return name


def check_environment(name: str) -> str:
    """Return the name of an environment, or raise InvalidNameError."""
    if not re.fullmatch(ENVIRONMENT, name):
        raise InvalidNameError(
            f"{name!r} is not a valid environment name", hint="lower case letters, digits and hyphens, at most 11"
        )
    return name


def check_secret_name(kind: SecretType, name: str) -> str:
    """Return the name of a secret of that type, or raise InvalidNameError.

    Of a Composer auth key this is the grammar alone; `composer.methods.check_name` knows the methods as well.
    """
    if len(name) > _MAX_NAME:
        raise InvalidNameError(f"a name of {len(name)} characters is too long", hint=f"at most {_MAX_NAME}")
    grammar, problem, hint = _GRAMMARS[kind.value]
    if not re.fullmatch(grammar, name):
        raise InvalidNameError(f"{name!r} is {problem}", hint=hint)
    return name


def is_possible_name(name: str) -> bool:
    """Return whether a secret of some type could have that name, for commands that do not name a type."""
    return len(name) <= _MAX_NAME and any(re.fullmatch(grammar, name) for grammar, _, _ in _GRAMMARS.values())


def split_composer_name(name: str) -> tuple[str, str]:
    """Return the method and the host of a Composer auth key: `http-basic` and `a.org:8443`."""
    method, _, host = name.partition(".")
    return method, host


def name_variable(setting: str) -> str:
    """Return the environment variable of a setting: `key-file` is IC_SECRETS_KEY_FILE."""
    return f"IC_SECRETS_{setting.replace('-', '_').upper()}"
