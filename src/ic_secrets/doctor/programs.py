"""The programs that a build usually needs. It may need others, or none of these, so that none is a must."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..composer.version import ask_composer_version, ask_git_version, ask_php_version
from ..errors import BuildError
from ..process.child import find_program
from .finding import OK, WARN, Finding, Place

# With these Composer makes no directories of its own.
_UNTOUCHED = {"COMPOSER_HOME": "/dev/null", "COMPOSER_CACHE_DIR": "/dev/null"}

Ask = Callable[[Mapping[str, str], str], str | None]


def look_at_git(place: Place) -> Finding:
    """Say which git there is."""
    return _look(place, "git", ask_git_version, "without it no private repository is cloned: apt install git")


def look_at_php(place: Place) -> Finding:
    """Say which PHP there is."""
    return _look(place, "php", ask_php_version, "Composer needs it: apt install php-cli")


def look_at_composer(place: Place) -> Finding:
    """Say which Composer there is."""
    return _look(place, "composer", ask_composer_version, "see https://getcomposer.org/download/")


def _look(place: Place, name: str, ask: Ask, remedy: str) -> Finding:
    try:
        path = find_program(name, place.environment)
    except BuildError as error:
        return Finding(WARN, str(error), remedy)
    version = ask({**place.environment, **_UNTOUCHED}, place.directory)
    if version is None:
        return Finding(WARN, f"{path} does not say its version", f"see what `{name} --version` says", {"path": path})
    return Finding(OK, f"{version}, {path}", facts={"version": version, "path": path})
