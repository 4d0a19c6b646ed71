"""Settings, and where each came from.

In this order: flags, `IC_SECRETS_*` variables, the project's ic-secrets.toml, the person's own configuration, the files
of Lando or DDEV, defaults. A checkout's files come with every pull request, so they decide about its own build alone.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ..core import parse_duration
from ..core.files import find_upward
from ..core.records import NamedTuple
from ..errors import ConfigError, MasterKeyError, UsageError
from ..model import Target
from ..model.names import NEVER_BUILT, name_variable

if TYPE_CHECKING:
    from ..keys import Keyholder, KeySource, MasterKey

_APP = "ic-secrets"
_PROJECT_FILE = "ic-secrets.toml"
# Settings that say where the master key comes from, and the kind of each source.
_KEY_SOURCES = (("key", "variable"), ("key-file", "file"), ("key-command", "command"), ("key-keyring", "keyring"))
_NOT_GIVEN = "the job of a fork gets no secrets, and that of an unprotected branch no protected variables"
_DEFAULTS = {"audit": "warn", "leaks": "fail", "grace": "10s", "expiry-warning": "14d"}
# The platform's directories: (variable, default below the home directory).
_LINUX_DIRECTORIES = {
    "config": ("XDG_CONFIG_HOME", ".config"),
    "data": ("XDG_DATA_HOME", ".local/share"),
    "cache": ("XDG_CACHE_HOME", ".cache"),
}


class Setting(NamedTuple):
    """A value and its source: `--flag`, a variable's name, `FILE:LINE`, or `default`.

    The layers: `flag`, `variable`, `project` (the checkout's file), `person`, `found` (Lando or DDEV) and `default`.
    """

    value: str
    source: str
    layer: str = "default"

    @property
    def is_of_checkout(self) -> bool:
        """Whether the author of a pull request decides it."""
        return self.layer in {"project", "found"}


class Settings:
    """The settings of one command. Files are read once, and only when they are needed."""

    def __init__(
        self,
        environment: Mapping[str, str],
        flags: Mapping[str, str | None] | None = None,
        directory: str | None = None,
    ) -> None:
        """`flags` are values by name (`store`, `key-file`, `no-plugins`), None where a flag was not given.

        The project is searched for upward from `directory`, by default the working directory.
        """
        self.environment = environment
        self._flags = flags or {}
        self._keyholder: Keyholder | None = None
        self._directory = directory
        self._filed: Mapping[str, Setting] | None = None
        self._own: Mapping[str, Setting] = {}

    def find(self, name: str) -> Setting | None:
        """Return the setting if somebody set it, None where only a default is left; ConfigError for a bad file."""
        flag = self._flags.get(name)
        if flag:
            return Setting(_expand_home(name, flag), f"--{name}", "flag")
        return self.find_variable(name) or self._read_files().get(name)

    def find_variable(self, name: str) -> Setting | None:
        """Return the setting of its variable, None where that is unset or empty."""
        variable = name_variable(name)
        value = self.environment.get(variable)
        return Setting(_expand_home(name, value), variable, "variable") if value else None

    def get(self, name: str) -> Setting:
        """Return the setting, or its default; ConfigError for a value that it cannot have."""
        found = self.find(name) or Setting(_DEFAULTS.get(name, ""), "default")
        if found.layer != "variable":
            return found
        from .catalogue import SETTINGS, describe_values, read_variable

        known = SETTINGS[name]
        if known.kind not in {"flag", "mode", "choice"}:
            return found
        value = read_variable(known, found.value)
        if value is None:
            raise ConfigError(f"{found.source} is {found.value!r}", hint=f"it takes {describe_values(known)}")
        return found._replace(value=value)

    def is_on(self, name: str) -> bool:
        """Return whether a flag is on; ConfigError."""
        return self.get(name).value == "true"

    def find_value(self, name: str) -> str | None:
        """Return the value of a setting if somebody set it, else None; ConfigError."""
        found = self.find(name)
        return found.value if found else None

    def get_duration(self, name: str) -> float:
        """Return the setting in seconds; UsageError for a flag that is not a duration, else ConfigError."""
        found = self.get(name)
        with _blaming(found):
            return parse_duration(found.value)

    def find_names(self, name: str) -> frozenset[str] | None:
        """Return a list of names as a set, None where nobody set one.

        An empty list, which would mean all, is a UsageError for a flag, else a ConfigError.
        """
        found = self.find(name)
        if found is None:
            return None
        from .catalogue import split_names

        with _blaming(found):
            return split_names(found.value)

    def list_values(self, name: str) -> list[str]:
        """Return what anybody sets it to, whether or not it holds in the end."""
        flag = Setting(self._flags.get(name) or "", f"--{name}")
        found = (flag, self.find_variable(name), self._read_files().get(name), self._own.get(name))
        return [setting.value for setting in found if setting and setting.value]

    def replace_flags(self, **flags: str) -> "Settings":
        """Return the same settings with other flags; what was read of files is not read again."""
        other = Settings(self.environment, {**self._flags, **flags}, self._directory)
        other._filed, other._own, other._keyholder = self._read_files(), self._own, self.keyholder
        return other

    # --- files --------------------------------------------------------------------------------------

    @property
    def project_file(self) -> str | None:
        """The project's ic-secrets.toml, if there is one. Its directory is the project's root."""
        directory = self._find_directory()
        found = find_upward(directory, [_PROJECT_FILE]) if directory else []
        return found[0] if found else None

    @property
    def person_file(self) -> tuple[str, bool]:
        """The person's own configuration, and whether it exists; ConfigError if one is named that does not.

        /dev/null means no configuration.
        """
        named = self.environment.get("IC_SECRETS_CONFIG")
        path = (
            os.path.abspath(os.path.expanduser(named))
            if named
            else _default_path(self.environment, "config", "config.toml")
        )
        is_there = os.path.lexists(path)
        if named and not is_there:
            raise ConfigError(f"IC_SECRETS_CONFIG names {path}, which does not exist")
        return path, is_there and path != os.devnull

    def _read_files(self) -> Mapping[str, Setting]:
        if self._filed is None:
            filed: dict[str, Setting] = {}
            person, is_there = self.person_file
            for path, layer in ((person if is_there else None, "person"), (self.project_file, "project")):
                if path:
                    from .catalogue import is_weaker
                    from .files import read_config

                    for name, (value, line) in read_config(path, checkout=layer == "project").items():
                        if name not in filed or not is_weaker(name, value, filed[name].value):
                            filed[name] = Setting(value, f"{path}:{line}" if line else path, layer)
                if layer == "person":
                    self._own = dict(filed)
            self._filed = filed
        return self._filed

    def _find_directory(self) -> str | None:
        try:
            return self._directory or os.getcwd()
        except OSError:  # it is gone
            return None

    # --- single settings ------------------------------------------------------------------------------

    @property
    def store(self) -> Setting:
        """The store's URL or path."""
        return self.find("store") or Setting(f"sqlite:{_default_path(self.environment, 'data', 'store.db')}", "default")

    @property
    def key_file(self) -> Setting:
        """The file that holds the master key."""
        from ..keys.master import holds_key

        found = self.find("key-file")
        if found and holds_key(found.value):
            raise MasterKeyError(
                f"{found.source} holds a key, not the path of its file", hint="IC_SECRETS_KEY takes the key itself"
            )
        return found or Setting(_default_path(self.environment, "config", "key"), "default")

    @property
    def audit(self) -> str:
        """What happens when the log cannot be written, in a command that only reads: `required`, `warn` or `off`."""
        return self.get("audit").value

    @property
    def audit_file(self) -> str | None:
        """The audit log: beside an embedded store unless it is named; None where the store has no place for one."""
        from ..stores.registry import EMBEDDED, split_url

        found = self.find("audit-file")
        if found:
            return os.path.abspath(found.value)
        scheme, path = split_url(self.store.value)
        return f"{os.path.realpath(path)}.audit" if scheme == EMBEDDED else None

    @property
    def leaks_allowed(self) -> tuple[str, ...]:
        """The leaks that are known: names of secrets, or globs of paths."""
        return tuple(filter(None, self.get("leaks-allow").value.split(",")))

    @property
    def cache_directory(self) -> str:
        """Where secrets of servers are kept, sealed, for as long as the setting `cache` allows."""
        return _default_path(self.environment, "cache", "secrets")

    @property
    def own_directories(self) -> list[str]:
        """The directories in which ic-secrets keeps what is the person's: configuration, stores and caches."""
        return [os.path.dirname(_default_path(self.environment, kind, "any")) for kind in _LINUX_DIRECTORIES]

    @property
    def site(self) -> Setting | None:
        """The site of the settings, else the one that Lando or DDEV name; ConfigError."""
        site = self.find("site")
        directory = None if site else self._find_directory()
        found = find_upward(directory, (".lando.yml", ".ddev/config.yaml")) if directory else []
        if found:
            from .projects import read_site

            said = read_site(found)
            site = Setting(said.site, f"{said.path}:{said.line}", "found") if said else None
        return site

    @property
    def plugins(self) -> Setting | None:
        """The plugins that the person names, separated by commas, or None.

        None with `--no-plugins` and with an IC_SECRETS_PLUGINS that is set but empty, whatever a file says.
        """
        is_off = self._flags.get("no-plugins") or self.environment.get("IC_SECRETS_PLUGINS") == ""
        return None if is_off else self.find("plugins")

    def target(self, text: str | None) -> Target:
        """Return the target of the command line, else the site and environment of the settings; ConfigError.

        In a pipeline a checkout may not choose its site: a pull request could name somebody else's.
        """
        if text:
            return Target.parse(text)
        site = self.site
        if not site:
            raise ConfigError("no site named", hint="name it as SITE.ENV, or set IC_SECRETS_SITE")
        if site.is_of_checkout and self._is_ci:
            raise ConfigError(
                f"only {site.source} names the site, and in a pipeline (CI is set) a checkout may not",
                hint="name it as SITE.ENV, or set IC_SECRETS_SITE: a pull request could name somebody else's site",
            )
        if "." in site.value:
            return Target.parse(site.value)
        environment = self.find("env")
        if environment is None:
            return Target.parse(site.value)
        name = environment.value
        if name in NEVER_BUILT and self.is_imposed("env"):
            raise self.refuse_imposed("env", f"chooses {name}")
        if name == "auto":
            from .branches import find_environment

            name = find_environment(self._find_directory() or os.sep, self.environment, is_ci=self._is_ci)
        return Target.parse(f"{site.value}.{name}")

    def find_lowered(self, name: str) -> str:
        """Return the effect of a protection that a checkout makes weaker than it finds it, "" where it does not."""
        found = self.get(name)
        if not found.is_of_checkout:
            return ""
        from .catalogue import SETTINGS

        guards = SETTINGS[name].guards
        order = list(guards)
        before = self._own[name].value if name in self._own else _DEFAULTS.get(name, "false")
        return guards[found.value] if order.index(found.value) > order.index(before) else ""

    def is_imposed(self, name: str) -> bool:
        """Return whether a checkout alone chooses the value for a pipeline; a person's own file may choose it too."""
        return self._is_ci and self.is_of_checkout_alone(name)

    def is_of_checkout_alone(self, name: str) -> bool:
        """Return whether a checkout chooses the value, and no person's own file chooses the same."""
        found, own = self.get(name), self._own.get(name)
        return found.is_of_checkout and (own is None or own.value != found.value)

    def refuse_imposed(self, name: str, effect: str) -> ConfigError:
        """Return the error for a value that a checkout may not choose for a pipeline."""
        return ConfigError(
            f"{self.get(name).source} {effect}, and in a pipeline (CI is set) a checkout may not",
            hint=f"{name_variable(name)}, set where the pipeline is defined, allows it",
        )

    @property
    def _is_ci(self) -> bool:
        from ..ci import is_pipeline

        return is_pipeline(self.environment)

    @property
    def key_sources(self) -> "list[KeySource]":
        """Where the master key comes from: the sources in the order in which they are tried.

        `--key-file`, IC_SECRETS_KEY, IC_SECRETS_KEY_FILE, IC_SECRETS_KEY_COMMAND, IC_SECRETS_KEY_KEYRING; if none
        of them is set, those of the person's file; if that names none, the default key file.
        """
        from ..keys import KeySource

        found: list[KeySource] = []
        filed: list[KeySource] = []
        for name, kind in _KEY_SOURCES:
            setting = self.find(name)
            if setting:
                place = setting.source if kind == "variable" else setting.value
                source = KeySource(setting.source, kind, self.key_file.value if kind == "file" else place)
                (filed if setting.layer == "person" else found).append(source)
        found.sort(key=lambda source: not source.origin.startswith("--"))
        return found or filed or [KeySource("default", "file", self.key_file.value)]

    @property
    def keyholder(self) -> "Keyholder":
        """What reads keys from the sources; one for all, so that a person is asked for a passphrase once."""
        if self._keyholder is None:
            from ..keys import Keyholder
            from .passphrase import ask_passphrase

            self._keyholder = Keyholder(self.environment, ask_passphrase)
        return self._keyholder

    def load_keys(self) -> "Sequence[MasterKey]":
        """Return the master keys, the current one first; MasterKeyError if a source has none, or two disagree."""
        sources = self.key_sources
        if sources[0].origin == "default":
            self._refuse_missing_key(sources[0].place)
        return self.keyholder.load(sources)

    def _refuse_missing_key(self, path: str) -> None:
        """Raise MasterKeyError where the key was meant to come from the pipeline, and there is no default key file."""
        variables = [name_variable(name) for name, _ in _KEY_SOURCES]
        empty = next((variable for variable in variables if self.environment.get(variable) == ""), None)
        if (empty or self._is_ci) and not os.path.lexists(path):
            what = f"{empty} is empty" if empty else f"{variables[0]} is not set"
            raise MasterKeyError(f"{what}, and there is no key file {path}", hint=_NOT_GIVEN)


def _expand_home(name: str, value: str) -> str:
    """Return the value with `~` as the home where the setting is of paths, as in a file."""
    if "~" not in value:
        return value
    from .catalogue import SETTINGS
    from .files import expand_home

    return expand_home(SETTINGS[name], value) if name in SETTINGS else value


@contextlib.contextmanager
def _blaming(setting: Setting) -> Iterator[None]:
    """Turn a UsageError in the block into a ConfigError that names the setting's source, unless that is a flag."""
    try:
        yield
    except UsageError as error:
        if setting.layer == "flag":
            raise
        raise ConfigError(f"{setting.source}: {error}", hint=error.hint) from None


def _default_path(environment: Mapping[str, str], kind: str, name: str) -> str:
    variable, usual = _LINUX_DIRECTORIES[kind]
    named = environment.get(variable, "")
    if sys.platform == "linux" and (not named or os.path.isabs(named)):  # platformdirs says the same, and takes long
        return os.path.join(named or os.path.join(os.path.expanduser("~"), usual), _APP, name)
    import platformdirs

    find = {"config": platformdirs.user_config_dir, "data": platformdirs.user_data_dir}
    return os.path.join(find.get(kind, platformdirs.user_cache_dir)(_APP), name)
