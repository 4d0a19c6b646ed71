"""Settings, and where each came from: flags, then `IC_SECRETS_*` variables, then defaults."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .errors import ConfigError, MasterKeyError
from .secret import Target

if TYPE_CHECKING:
    from .stores.keysources import Keyholder, KeySource
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
        self._keyholder: Keyholder | None = None

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
        from .stores.keys import holds_key

        found = self.find("key-file")
        if found and holds_key(found.value):
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

    @property
    def key_sources(self) -> "list[KeySource]":
        """Where the master key comes from, in the order in which the sources are asked.

        `--key-file`, IC_SECRETS_KEY, IC_SECRETS_KEY_FILE, IC_SECRETS_KEY_COMMAND, IC_SECRETS_KEY_KEYRING; where none
        of them is set, the default key file.
        """
        from .stores.keysources import KeySource

        found = []
        for name, kind in (
            ("key", "variable"),
            ("key-file", "file"),
            ("key-command", "command"),
            ("key-keyring", "keyring"),
        ):
            setting = self.find(name)
            if setting:
                place = setting.source if kind == "variable" else setting.value
                found.append(KeySource(setting.source, kind, self.key_file.value if kind == "file" else place))
        found.sort(key=lambda source: not source.origin.startswith("--"))
        return found or [KeySource("default", "file", self.key_file.value)]

    @property
    def keyholder(self) -> "Keyholder":
        """What asks the sources for their keys; always the same, so that a person is asked once."""
        if self._keyholder is None:
            from .stores.keysources import Keyholder

            self._keyholder = Keyholder(self._environment, _ask_passphrase)
        return self._keyholder

    def load_keys(self) -> "Sequence[MasterKey]":
        """The master keys, the current one first; MasterKeyError when a source gives none, or two disagree."""
        return self.keyholder.load(self.key_sources)


def _ask_passphrase(prompt: str) -> str:
    """What a person types at the terminal, unseen; MasterKeyError where there is none."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        raise MasterKeyError(
            "the key is locked, and there is no terminal to ask for its passphrase",
            hint="IC_SECRETS_PASSPHRASE_FILE names a file with it",
        ) from None
    from getpass import getpass

    try:
        return getpass(prompt)
    except (EOFError, UnicodeError):
        raise MasterKeyError("no passphrase was typed") from None


def _default_path(kind: str, name: str) -> str:
    import platformdirs

    directory = platformdirs.user_data_dir(_APP) if kind == "data" else platformdirs.user_config_dir(_APP)
    return os.path.join(directory, name)
