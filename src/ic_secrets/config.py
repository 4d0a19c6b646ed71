"""Settings, and where each came from: flags, then `IC_SECRETS_*` variables, then defaults."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .errors import ConfigError, MasterKeyError
from .secret import Target

if TYPE_CHECKING:
    from .stores.sealing import MasterKey

_APP = "ic-secrets"
_AUDIT_MODES = ("required", "warn", "off")


class Setting(NamedTuple):
    """A value and its source: `--flag`, a variable's name, or `default`."""

    value: str
    source: str


class Settings:
    """The settings of one command. Defaults are worked out only when they are asked for."""

    def __init__(self, environment: Mapping[str, str], flags: Mapping[str, str | None] | None = None) -> None:
        """`flags` are values by name (`store`, `key-file`), None where a flag was not given."""
        self._environment = environment
        self._flags = flags or {}

    def find(self, name: str) -> Setting | None:
        """The setting as the user gave it, None where only a default is left."""
        flag = self._flags.get(name)
        if flag:
            return Setting(flag, f"--{name}")
        variable = f"IC_SECRETS_{name.replace('-', '_').upper()}"
        value = self._environment.get(variable)
        return Setting(value, variable) if value else None

    @property
    def store(self) -> Setting:
        """The store's URL or path."""
        return self.find("store") or Setting(f"sqlite:{_default_path('data', 'store.db')}", "default")

    @property
    def key_file(self) -> Setting:
        """The file that holds the master key."""
        found = self.find("key-file")
        if found and found.value.startswith("ic-secrets-key-"):
            raise MasterKeyError(
                f"{found.source} holds a key, not the path of its file", hint="IC_SECRETS_KEY takes the key itself"
            )
        return found or Setting(_default_path("config", "key"), "default")

    @property
    def audit(self) -> str:
        """`required`, `warn` or `off`: what a log that cannot be written does to a command that changes nothing."""
        found = self.find("audit") or Setting("warn", "default")
        if found.value not in _AUDIT_MODES:
            raise ConfigError(f"{found.source} is {found.value!r}", hint=f"it takes {', '.join(_AUDIT_MODES)}")
        return found.value

    @property
    def audit_file(self) -> str | None:
        """The audit log: beside an embedded store, unless it is named. None where a store has no place for one."""
        from .stores import split_url

        found = self.find("audit-file")
        if found:
            return os.path.abspath(found.value)
        scheme, path = split_url(self.store.value)
        return f"{os.path.realpath(path)}.audit" if scheme == "sqlite" else None

    def target(self, text: str | None) -> Target:
        """The target that the command line names, else IC_SECRETS_SITE and IC_SECRETS_ENV; ConfigError."""
        if text:
            return Target.parse(text)
        site = self.find("site")
        if not site:
            raise ConfigError("no site is named", hint="name it as SITE.ENV, or set IC_SECRETS_SITE")
        if "." in site.value:
            return Target.parse(site.value)
        environment = self.find("env")
        return Target.parse(f"{site.value}.{environment.value}" if environment else site.value)

    def load_keys(self) -> "Sequence[MasterKey]":
        """The master key, from IC_SECRETS_KEY or the key file; MasterKeyError when two disagree."""
        from .stores.keys import load_key_file
        from .stores.sealing import MasterKey

        held = self._environment.get("IC_SECRETS_KEY")
        named = self.find("key-file")
        if not held:
            return [load_key_file(self.key_file.value)]
        key = MasterKey.parse(held)
        if named and load_key_file(self.key_file.value).id != key.id:
            raise MasterKeyError(
                f"IC_SECRETS_KEY and {named.source} hold different keys", hint="unset the one that is not meant"
            )
        return [key]


def _default_path(kind: str, name: str) -> str:
    import platformdirs

    directory = platformdirs.user_data_dir(_APP) if kind == "data" else platformdirs.user_config_dir(_APP)
    return os.path.join(directory, name)
