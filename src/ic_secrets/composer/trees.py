"""The directories beside the project's own that Composer writes to, or takes packages from. Pure."""

import os.path
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .auth_json import Document
from .repositories import iterate_entries

# Which a variable of the environment overrides (`Config::get`), and which only composer.json names.
_CONFIGURED = {"vendor-dir": "COMPOSER_VENDOR_DIR", "bin-dir": "COMPOSER_BIN_DIR", "archive-dir": "", "data-dir": ""}
_VARIABLE = r"\$(?:\{(\w+)\}|(\w+))"
# Where a path stops being one: `{$name}` of an installer, the wildcards of a path repository.
_PATTERN = re.compile(r"[*?\[{]")


def find_trees(manifest: Document, environment: Mapping[str, str], directory: str) -> tuple[str, ...]:
    """Return the directories that composer.json and the environment name, and that are not below the project's.

    Of a path with a pattern it is the directory above the pattern.
    """
    trees: dict[str, None] = {}
    for path in _list_paths(manifest, environment):
        expanded = expand_path(path, environment)
        start = _PATTERN.split(expanded, maxsplit=1)[0]
        fixed = start if start == expanded or start.endswith("/") else os.path.dirname(start)
        tree = os.path.normpath(os.path.join(directory, fixed))
        if not f"{tree}/".startswith(f"{os.path.normpath(directory)}/"):
            trees[tree] = None
    return tuple(trees)


def _list_paths(manifest: Document, environment: Mapping[str, str]) -> Iterator[str]:
    config, extra = _get_section(manifest, "config"), _get_section(manifest, "extra")
    paths: list[Any] = [environment.get(variable) or config.get(name) for name, variable in _CONFIGURED.items()]
    paths += _get_section(extra, "installer-paths")
    paths += (entry.get("url") for entry in iterate_entries(manifest) if entry.get("type") in {"path", "artifact"})
    yield from (path for path in paths if path and isinstance(path, str) and "\0" not in path)


def _get_section(document: Document, name: str) -> Document:
    section = document.get(name)
    return section if isinstance(section, dict) else {}


def expand_path(path: str, environment: Mapping[str, str]) -> str:
    """Return the path with the home and variables in it replaced, as `Platform::expandPath` does."""
    if path == "~" or path.startswith("~/"):
        path = environment.get("HOME", "~") + path[1:]
    return re.sub(_VARIABLE, lambda found: environment.get(found[1] or found[2], found[0]), path)
