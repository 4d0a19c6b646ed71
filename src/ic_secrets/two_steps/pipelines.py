"""What runs a build between its two steps: a shell, a program, or later steps of a job on GitHub.

Each says which names it cannot take, and how it is given the build's environment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from ..build import PreparedBuild
from ..ci.platforms import GITHUB
from ..model import SecretType
from ..model.variables import inherit
from . import github, shells
from .shells import Change

# Of what the build does not inherit, the settings that are not secret: on GitHub they come back afterwards.
_SECRET_SETTINGS = frozenset({"IC_SECRETS_KEY", "IC_SECRETS_PASSPHRASE"})
# What a note may keep of the environment when all values are gone.
_PLAIN = frozenset({"PATH", "COMPOSER_HOME", "COMPOSER_CACHE_DIR"})

Restore = Mapping[str, str | None]


class Pipeline(Protocol):
    """What runs the build. `outputs` are the files that it is given values in."""

    name: str
    outputs: tuple[str, ...]

    def check(self, prepared: PreparedBuild) -> None:
        """Raise an IcSecretsError for what it cannot be given; nothing is exposed yet."""

    def publish(self, change: Change, prepared: PreparedBuild) -> Restore:
        """Give it what must be given before the secrets stay exposed; return what it restores afterwards."""


class Shell:
    """A shell, which evaluates what is printed in the end."""

    name = "shell"
    outputs: tuple[str, ...] = ()

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._before = environment

    def check(self, prepared: PreparedBuild) -> None:
        """Raise ReservedNameError for what a shell keeps to itself."""
        shells.check_names(_list_variables(prepared))

    def publish(self, change: Change, prepared: PreparedBuild) -> Restore:
        """Return what each variable was before; nothing is given yet."""
        return {name: self._before.get(name) for name in change.names}


class Program(Shell):
    """A program, which reads a JSON object."""

    name = "program"

    def check(self, prepared: PreparedBuild) -> None:
        """Accept any name."""


class GitHub:
    """The later steps of a job on GitHub Actions: masks on stdout, variables in the file that GITHUB_ENV names."""

    name = "github"

    def __init__(self, environment: Mapping[str, str], write: Callable[[str], None]) -> None:
        """`write` writes to stdout, which the runner reads; ExposureError where there is no such file."""
        self._before = environment
        self._write = write
        self._file = github.find_file(environment)
        self.outputs: tuple[str, ...] = (self._file,)

    def check(self, prepared: PreparedBuild) -> None:
        """Raise ReservedNameError for what the runner keeps to itself."""
        github.check_names(_list_variables(prepared))

    def publish(self, change: Change, prepared: PreparedBuild) -> Restore:
        """Write the masks, then the variables; no secret comes back, nor a key that was there before."""
        password = prepared.order.password if prepared.order else ""  # the runner shows variables at each step
        self._write(github.render_masks(prepared.secrets) + (GITHUB.render_mask(password) if password else ""))
        change = github.leave_out_reserved(change)
        variables = {**dict.fromkeys(change.to_unset, ""), **change.to_set}
        github.append(self._file, github.render_variables(variables))
        secrets = _list_variables(prepared)
        inherited = inherit(self._before)
        return {
            name: self._before.get(name)
            if name not in secrets and (name in inherited or is_plain_setting(name))
            else None
            for name in change.names
        }


def choose_lasting(restore: Restore) -> Restore:
    """Return what of it may be kept when all values are gone; of a proxy, only where it has no login."""
    from ..broker.environment import PLAIN

    def is_plain(name: str, value: str | None) -> bool:
        is_proxy = name.lower().endswith("_proxy") and "@" not in (value or "")
        return name in _PLAIN or name in PLAIN or is_plain_setting(name) or is_proxy

    return {name: value if is_plain(name, value) else None for name, value in restore.items()}


def is_plain_setting(name: str) -> bool:
    """Whether it is a setting of ours that holds no secret."""
    return name.startswith("IC_SECRETS_") and name not in _SECRET_SETTINGS


def _list_variables(prepared: PreparedBuild) -> frozenset[str]:
    """Return the names of the variables that secrets and renderers set."""
    secrets = {secret.name for secret in prepared.secrets if secret.type is SecretType.ENV}
    inherited = inherit(prepared.request.environment)
    return frozenset(secrets | {name for name in {**prepared.environment, **prepared.paths} if name not in inherited})
