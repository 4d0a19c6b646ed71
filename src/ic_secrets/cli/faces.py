"""Who is told a build's environment, and what `post-build` puts back: shells, programs, later steps on GitHub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..build.prepare import Preparation, list_exposed
from ..build.render import given_value
from ..core.notices import Notice, Notify
from ..masking.needles import derive_all
from ..model.secret import SecretType
from ..model.variables import inherit
from ..two_steps import github, shells
from .output import print_bytes

# Of what the build does not inherit, the settings that are no secret: on GitHub they come back afterwards.
_SECRET_SETTINGS = frozenset({"IC_SECRETS_KEY", "IC_SECRETS_PASSPHRASE"})
# What of the environment a note may hold that stays when all values are gone.
_PLAIN = frozenset({"PATH", "COMPOSER_HOME", "COMPOSER_CACHE_DIR"})


class Shell:
    """A shell that evaluates what is printed."""

    told: Sequence[str] = ()

    def check(self, preparation: Preparation) -> None:
        """Refuse what a shell keeps to itself."""
        shells.check_names(_list_variables(preparation))

    def tell_early(self, environment: Mapping[str, str], preparation: Preparation) -> Mapping[str, Any]:
        """Nothing: it is told when all is done."""
        return {}


class Json(Shell):
    """A program that reads an object."""

    def check(self, preparation: Preparation) -> None:
        """A program takes any name."""


class GitHub:
    """The later steps of a job on GitHub."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._before = environment
        self.told = (github.find_file(environment),)

    def check(self, preparation: Preparation) -> None:
        """Refuse what the runner keeps to itself."""
        github.check_names(_list_variables(preparation))

    def tell_early(self, environment: Mapping[str, str], preparation: Preparation) -> Mapping[str, Any]:
        """Masks first, then the variables; how they are put back."""
        change = github.find_change(self._before, environment)
        values = [given_value(secret).reveal() for secret in preparation.secrets]
        print_bytes(github.render_masks(values, derive_all(list_exposed(preparation.secrets))))
        github.append(self.told[0], github.render_variables({**dict.fromkeys(change.to_unset, ""), **change.to_set}))
        back = dict.fromkeys((*change.to_set, *change.to_unset), "")
        secrets = _list_variables(preparation)
        for name in back:
            if name in inherit(self._before) or _is_setting(name):
                back[name] = self._before.get(name, "") if name not in secrets else ""
        lasting = {name: value if name in _PLAIN or _is_setting(name) else "" for name, value in back.items()}
        return {"github": back, "lasting": {"github": lasting}}


def put_back(back: Mapping[str, str] | None, form: str | None, environment: Mapping[str, str], notify: Notify) -> None:
    """Empty, for the steps to come, what GITHUB_ENV has set, or give it the value that it had."""
    if back is None:
        return
    if form != "github":
        notify(Notice("the variables of later steps keep their values", "post-build --format github empties them"))
        return
    github.append(github.find_file(environment), github.render_variables(back))


def _list_variables(preparation: Preparation) -> tuple[str, ...]:
    """The names of the secrets that become variables, and of what other renderers set."""
    secrets = [secret.name for secret in preparation.secrets if secret.type is SecretType.ENV]
    inherited = inherit(preparation.request.environment)
    return (*secrets, *(name for name in {**preparation.environment, **preparation.paths} if name not in inherited))


def _is_setting(name: str) -> bool:
    return name.startswith("IC_SECRETS_") and name not in _SECRET_SETTINGS
