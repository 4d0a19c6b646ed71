"""The environment of a git branch, as on Pantheon: `dev` for the main branch, else a multidev named after it."""

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
    """Return the environment of the branch that is checked out in the directory; ConfigError.

    Where a commit is checked out rather than a branch, the variables of the CI platform name the branch.
    """
    branch = find_branch(directory, environment) or (find_built_branch(environment) if is_ci else None)
    if branch is None:
        raise ConfigError("env is auto, but no git branch is checked out here", hint=_HINT)
    return name_environment(branch)


def name_environment(branch: str) -> str:
    """Return the environment of a branch: dev for the main one, else its name in lower case, cut to 11 characters.

    Other characters become hyphens; ConfigError for a reserved name.
    """
    if branch in _MAIN:
        return "dev"
    name = re.sub(r"[^a-z0-9-]", "-", branch.lower()).strip("-")[:_LONGEST].rstrip("-")
    if not name:
        raise ConfigError(f"env is auto, and the branch {branch!r} does not give a valid environment name", hint=_HINT)
    if name in _RESERVED:
        raise ConfigError(
            f"env is auto, but the branch {branch!r} would be the reserved environment {name}", hint=_HINT
        )
    return name
