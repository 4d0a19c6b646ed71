"""The site on Pantheon that a project's files for Lando or DDEV name.

YAML is read as a graph of nodes, and no object is made of it: a tag runs nothing, an alias copies nothing.
Only the site is taken. The environment that these files name is the one from which a database is fetched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import yaml

from ..core.records import NamedTuple
from ..core.yaml_graph import TOO_DEEP, YamlGraphError, compose
from ..errors import ConfigError
from ..model.names import SITE
from .files import read_text

LANDO = ".lando.yml"
DDEV = ".ddev/config.yaml"
_DDEV_PROVIDER = "providers/pantheon.yaml"
# DDEV's template of a provider has this where the site belongs.
_PLACEHOLDER = "yourproject"
_DEEPEST = 40


class Found(NamedTuple):
    """A site, and the file and line that name it."""

    site: str
    path: str
    line: int


def read_site(paths: list[str]) -> Found | None:
    """Return the site that the files of one project name, None without one; ConfigError where they disagree."""
    found = [one for path in paths for one in _find_sites(path)]
    for one in found:
        if not re.fullmatch(SITE, one.site):
            raise ConfigError(f"{one.path}:{one.line}: not a valid site name")
        if one.site != found[0].site:
            raise ConfigError(
                f"{one.path}:{one.line} names a different site than {found[0].path}:{found[0].line}",
                hint="site = in ic-secrets.toml decides",
            )
    return found[0] if found else None


def _find_sites(path: str) -> Iterator[Found]:
    if path.endswith(LANDO):
        root = _read(path)
        recipe, site = _look(root, "recipe"), _look(root, "config", "site")
        if recipe and recipe.value == "pantheon" and site:
            yield Found(site.value, path, site.start_mark.line + 1)
        return
    variables = _look_list(_read(path), "web_environment")
    for node in variables:
        name, _, value = node.value.partition("=")
        if name == "PANTHEON_SITE":
            yield Found(value, path, node.start_mark.line + 1)
    provider = os.path.join(os.path.dirname(path), _DDEV_PROVIDER)
    if os.path.lexists(provider):
        project = _look(_read(provider), "environment_variables", "project")
        site_name = project.value.partition(".")[0] if project else ""
        if project and site_name not in {"", _PLACEHOLDER}:
            yield Found(site_name, provider, project.start_mark.line + 1)


# --- YAML ---------------------------------------------------------------------------------------------


def _read(path: str) -> yaml.Node | None:
    try:
        return compose(read_text(path), deepest=_DEEPEST)
    except YamlGraphError as error:
        place = f":{error.line}:{error.column}" if error.line and error.problem != TOO_DEEP else ""
        raise ConfigError(f"{path}{place}: {error.problem}") from None


def _look(node: yaml.Node | None, *keys: str) -> yaml.ScalarNode | None:
    """Return the scalar below those keys."""
    for key in keys:
        node = _step(node, key)
    return node if isinstance(node, yaml.ScalarNode) and not node.tag.startswith("!") else None


def _look_list(node: yaml.Node | None, key: str) -> list[yaml.ScalarNode]:
    """Return the scalars of the list below the key."""
    found = _step(node, key)
    if not isinstance(found, yaml.SequenceNode):
        return []
    return [one for one in found.value if isinstance(one, yaml.ScalarNode) and not one.tag.startswith("!")]


def _step(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if isinstance(name, yaml.ScalarNode) and name.value == key), None)
