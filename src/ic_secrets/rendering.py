"""What secrets become for a build: files of its private directory, and variables that it gets.

Composer's credentials, the environment and what plugins add all have this one face. A renderer decides
and touches nothing; what it gives is written when the build is exposed.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from .errors import BuildError
from .resolve import Definition
from .secret import SecretType, Target

_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
# Places of the private directory that are Composer's, git's and the build's own.
_OURS = frozenset({"composer", "git", "build"})
# Variables that are Composer's, git's and the loader's own, or that keep values from the build.
_KEPT = frozenset({"PATH", "HOME", "COMPOSER_HOME", "COMPOSER_AUTH"})
_KEPT_PREFIXES = ("IC_SECRETS_", "LD_", "DYLD_", "GIT_CONFIG")


class RenderContext(NamedTuple):
    """What a renderer may look at: the target, the project's directory, the secrets, and what the build inherits.

    The `secrets` are those that are exposed to the build, of the types `env` and `composer`, with their values.
    """

    target: Target
    project: str
    secrets: tuple[Definition, ...]
    environment: Mapping[str, str]


class Rendering(NamedTuple):
    """What one renderer gives.

    `files` are contents by path below the private directory (`npm/npmrc`), each written 0600. `variables` go
    into the build's environment; `paths` are variables too, whose value is the whole path of one of the files
    or of a directory that holds some (`{"NPM_CONFIG_USERCONFIG": "npm/npmrc"}`).
    """

    files: Mapping[str, bytes] = {}
    variables: Mapping[str, str] = {}
    paths: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return f"Rendering({sorted(self.files)}, {sorted({*self.variables, *self.paths})})"


Renderer = Callable[[RenderContext], Rendering]


def render_more(context: RenderContext, renderers: Sequence[tuple[str, Renderer]]) -> Rendering:
    """What the renderers give together, each with the name that it is blamed by.

    BuildError where one gives what no other may: a variable or file that is a secret's or another renderer's, a path
    that leads out of the private directory or into what is ours, a name that is none.
    """
    own = {secret.name for secret in context.secrets if secret.type is SecretType.ENV}
    files: dict[str, bytes] = {}
    variables: dict[str, str] = {}
    paths: dict[str, str] = {}
    for name, render in renderers:
        rendering = render(context)
        for path in rendering.files:
            _check_path(name, path, files)
        files |= rendering.files
        for variable, value in (*rendering.variables.items(), *rendering.paths.items()):
            taken = variable in {*variables, *paths, *own, *_KEPT} or variable.startswith(_KEPT_PREFIXES)
            if taken or not re.fullmatch(_VARIABLE, variable) or "\0" in value:
                raise BuildError(f"{name} may not set the variable {variable!a}")
        variables |= rendering.variables
        for path in rendering.paths.values():
            if not any(each == path or each.startswith(f"{path}/") for each in rendering.files):
                raise BuildError(f"{name} names {path!a}, where it writes no file")
        paths |= rendering.paths
    return Rendering(files, variables, paths)


def _check_path(name: str, path: str, taken: Mapping[str, bytes]) -> None:
    parts = path.split("/")
    if not all(parts) or {".", ".."} & set(parts) or "\0" in path or parts[0] in _OURS or path in taken:
        raise BuildError(f"{name} may not write the file {path!a}")
