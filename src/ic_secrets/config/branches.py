"""The environment of a git branch, as on Pantheon: `dev` for the main one, else the multidev of its name."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..ci.platforms import find_branch as find_built_branch
from ..errors import ConfigError
from ..git.checkout import find_branch

_LONGEST = 11
_MAIN = frozenset({"master", "main"})
# https://docs.pantheon.io/guides/multidev/create-multidev, and the environments that every site has.
_RESERVED = frozenset("master settings team support multidev debug files tags billing dev test live".split())
_HINT = "name the environment: SITE.ENV, or IC_SECRETS_ENV"


def find_environment(directory: str, environment: Mapping[str, str], *, is_ci: bool) -> str:
    """The environment of the branch that is checked out there; ConfigError.

    Where a commit is checked out rather than a branch, the variables of the CI platform name the branch.
    """
    branch = find_branch(directory, environment) or (find_built_branch(environment) if is_ci else None)
    if branch is None:
        raise ConfigError("env is auto, but no git branch is checked out here", hint=_HINT)
    return name_environment(branch)


def name_environment(branch: str) -> str:
    """`main` is dev; else lower case, other characters as hyphens, at most 11; ConfigError for a reserved name."""
    if branch in _MAIN:
        return "dev"
    name = re.sub(r"[^a-z0-9-]", "-", branch.lower()).strip("-")[:_LONGEST].rstrip("-")
    if not name:
        raise ConfigError(f"env is auto, and the branch {branch!r} makes no name of an environment", hint=_HINT)
    if name in _RESERVED:
        raise ConfigError(f"env is auto, but no multidev is called {name}, as the branch {branch!r} is", hint=_HINT)
    return name
