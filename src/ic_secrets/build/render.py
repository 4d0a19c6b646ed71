"""What secrets become for a build: files of its private directory, and variables that it gets.

Composer's home, the environment, the application's file and what plugins add all have this one face. A renderer
decides and touches nothing; what it gives is written when the build is exposed.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from ..composer.credential import split_secret
from ..errors import BuildError
from ..masking.needles import Exposed, derive_all
from ..model.resolve import Definition
from ..model.secret import Scope, SecretType, SecretValue, Target

# The directory, in the private one, that is the build's Composer home.
COMPOSER = "composer"
# Of a file's name, in bytes (NAME_MAX).
_LONGEST = 255
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
# Places of the private directory that are Composer's, git's, the application's and the build's own.
_OURS = frozenset({COMPOSER, "git", "application", "build"})
# Variables that are Composer's, git's and the loader's own, or that keep values from the build.
_KEPT = frozenset({"PATH", "HOME", "COMPOSER_HOME", "COMPOSER_AUTH"})
_KEPT_PREFIXES = ("IC_SECRETS_", "LD_", "DYLD_", "GIT_CONFIG")


class RenderContext(NamedTuple):
    """What a renderer may look at: the target, the project's directory, the secrets, and what the build inherits.

    The `secrets` are those that are exposed, with their values: to a build (the scope `ic`) of the types `env` and
    `composer`, to an application (`web`) of the type `runtime`. A renderer sees the environment as those before it have
    made it.
    """

    target: Target
    project: str
    secrets: tuple[Definition, ...]
    environment: Mapping[str, str]
    scope: Scope = Scope.IC


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


def render_all(
    context: RenderContext, ours: Sequence[Renderer], others: Sequence[tuple[str, Renderer]] = ()
) -> Rendering:
    """What the renderers give together: ours, then others', each of these with the name that it is blamed by.

    BuildError where another one gives what it may not: a variable or file that is a secret's or another renderer's, a
    path that leads out of the private directory or into what is ours, a name that is none.
    """
    whole = Rendering()
    for name, render in (*((None, render) for render in ours), *others):
        rendering = render(context)
        if name:
            _check_rendering(name, rendering, whole, context)
        whole = Rendering(
            {**whole.files, **rendering.files},
            {**whole.variables, **rendering.variables},
            {**whole.paths, **rendering.paths},
        )
        context = context._replace(environment={**context.environment, **rendering.variables})
    return whole


def given_value(secret: Definition) -> SecretValue:
    """The value; BuildError where the store does not give it."""
    if secret.value is None:
        raise BuildError(f"the store does not give the value of {secret.name} ({secret.source})")
    return secret.value


def _check_rendering(name: str, rendering: Rendering, before: Rendering, context: RenderContext) -> None:
    for path in rendering.files:
        if not _is_free(path, {*before.files, *(each for each in rendering.files if each != path)}):
            raise BuildError(f"{name} may not write the file {_hide_values(path, context)!a}")
    secrets = {secret.name for secret in context.secrets if secret.type is SecretType.ENV}
    taken = {*before.variables, *before.paths, *secrets, *_KEPT}
    for variable, value in (*rendering.variables.items(), *rendering.paths.items()):
        is_taken = variable in taken or variable.startswith(_KEPT_PREFIXES)
        if is_taken or not re.fullmatch(_VARIABLE, variable) or "\0" in value or not _is_text(value):
            raise BuildError(f"{name} may not set the variable {_hide_values(variable, context)!a}")
    for path in rendering.paths.values():
        if not any(each == path or each.startswith(f"{path}/") for each in rendering.files):
            raise BuildError(f"{name} names {_hide_values(path, context)!a}, where it writes no file")


def _is_free(path: str, taken: Collection[str]) -> bool:
    """Whether a file can be there: below the directory, under a name that a file system takes, in nobody's place."""
    parts = path.split("/")
    is_name = _is_text(path) and "\0" not in path and all(0 < len(part.encode()) <= _LONGEST for part in parts)
    if not is_name or {".", ".."} & set(parts) or parts[0] in _OURS:
        return False
    return not any(path == other or path.startswith(f"{other}/") or other.startswith(f"{path}/") for other in taken)


def _is_text(text: str) -> bool:
    """Whether it can be written in UTF-8: half a character cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _hide_values(text: str, context: RenderContext) -> str:
    """What a renderer named, with the values masked: it has seen them."""
    from ..masking.masker import mask_text
    from ..masking.matcher import Matcher

    exposed = [
        Exposed(secret.name, split_secret(secret.type, secret.name, given_value(secret).reveal()))
        for secret in context.secrets
    ]
    return mask_text(text, Matcher(derive_all(exposed)))
