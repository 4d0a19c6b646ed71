"""Find plugins: entry points of installed distributions, and files, as the person names them.

Nothing is imported from a checkout: not from the working directory, and not by a path that depends on it.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from shlex import quote
from typing import TYPE_CHECKING

from ..core.records import NamedTuple
from ..errors import PluginError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "ic_secrets"


class Origin(NamedTuple):
    """Where a plugin comes from: a file, or an entry point of a distribution."""

    name: str
    file: str | None = None
    distribution: str | None = None
    version: str | None = None
    entry: EntryPoint | None = None

    def __str__(self) -> str:
        if self.file:
            return f"{self.name} ({self.file})"
        return f"{self.name} ({self.distribution} {self.version})" if self.distribution else self.name


def load_origin(origin: Origin) -> object:
    """Import or run the plugin and return it; raise whatever that raises."""
    if origin.entry is None:
        return _run_file(str(origin.file))
    before = sys.path[:]
    sys.path[:] = _search_path()
    try:
        plugin: object = origin.entry.load()
    finally:
        sys.path[:] = before
    return plugin


def find_named(value: str, source: str) -> list[Origin]:
    """Find each plugin of the setting; PluginError for one that is not found, or found twice."""
    words = [word.strip() for word in value.split(",") if word.strip()]
    return [_find_file(word, source) if _is_path(word) else _find_entry(word) for word in words]


def list_installed() -> list[Origin]:
    """Return every installed plugin, sorted by name, without importing any."""
    from importlib.metadata import distributions

    path = _search_path()
    found: dict[tuple[str, str], Origin] = {}
    for distribution in distributions(path=path):
        for entry in distribution.entry_points:
            if entry.group == GROUP:
                title = str(distribution.metadata["Name"])
                # Of two copies of a distribution Python imports the first.
                found.setdefault((title, entry.name), Origin(entry.name, None, title, str(distribution.version), entry))
    return sorted(found.values(), key=lambda origin: (origin.name, origin.distribution or ""))


def _search_path() -> list[str]:
    """Return Python's path without the working directory, which may be a checkout, and what depends on it."""
    here = os.path.realpath(os.getcwd())
    return [path for path in sys.path if os.path.isabs(path) and os.path.realpath(path) != here]


def _find_entry(name: str) -> Origin:
    found = [origin for origin in list_installed() if origin.name == name]
    if not found:
        raise PluginError(f"the plugin {name} is not installed", hint="`ic-secrets plugins` lists the installed ones")
    if len(found) > 1:
        owners = " and ".join(f"{origin.distribution} {origin.version}" for origin in found)
        raise PluginError(f"{owners} both provide a plugin {name}", hint="uninstall one of them")
    return found[0]


def _is_path(word: str) -> bool:
    return "/" in word or word.startswith("~") or word.endswith(".py")


def _find_file(word: str, source: str) -> Origin:
    path = os.path.expanduser(word)
    if not os.path.isabs(path):
        file, _, line = source.rpartition(":")
        if not (os.path.isabs(file) and line.isdigit()):
            raise PluginError(
                f"{source} names a plugin by a path that depends on the working directory, which may be a checkout",
                hint="write the whole path, or one that begins with ~/",
            )
        path = os.path.join(os.path.dirname(file), path)
    path = os.path.normpath(path)
    if not os.path.isfile(path):
        raise PluginError(f"the plugin {path} does not exist")
    return Origin(os.path.splitext(os.path.basename(path))[0], path)


def _run_file(path: str) -> object:
    """Run the file and return its module. It is compiled here, so that nothing is written beside it."""
    from types import ModuleType

    module = ModuleType(f"ic_secrets_plugin_{re.sub('[^A-Za-z0-9_]', '_', os.path.basename(path)[:-3])}")
    module.__file__ = path
    code = compile(_read_own(path), path, "exec", dont_inherit=True)
    sys.modules[module.__name__] = module
    exec(code, module.__dict__)  # noqa: S102
    return module


def _read_own(path: str) -> bytes:
    """Return the file's bytes; PluginError where somebody else may have written them: they run where the key is."""
    with open(path, "rb") as file:
        found = os.fstat(file.fileno())
        if found.st_uid not in {os.geteuid(), 0}:
            raise PluginError(f"{path} belongs to another user", hint="if you trust it, chown it to yourself")
        if stat.S_IMODE(found.st_mode) & 0o022:
            raise PluginError(f"{path} is writable by others", hint=f"chmod go-w {quote(path)}")
        return file.read()
