"""Configuration files: the project's ic-secrets.toml, which comes with every pull request, and the person's own.

A mistake is reported with its file and line; the content of a file is never shown, since it may be any file at all.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from shlex import quote

from ..core import toml_text
from ..core.files import is_below, read_with_status
from ..core.records import NamedTuple
from ..errors import ConfigError
from ..model.names import name_variable
from .catalogue import SEPARATOR, SETTINGS, WRITABLE, Known, as_text, describe_values

_LARGEST = 64 << 10
# What people may look for here, and where it belongs.
_ELSEWHERE = {
    "key": "a key does not belong in a configuration file: see key-file and key-command",
    "passphrase": "a passphrase does not belong in a configuration file: IC_SECRETS_PASSPHRASE_FILE names its file",
}


class Entry(NamedTuple):
    """A setting in a file, as a variable would hold it, and its line (0 where that is not known)."""

    value: str
    line: int


def read_config(path: str, *, checkout: bool) -> Mapping[str, Entry]:
    """Return the settings of the file, relative paths made absolute from it; ConfigError with file and line."""
    text = _read_checkout(path) if checkout else _read_own(path)
    try:
        content = toml_text.parse(text)
    except toml_text.TomlError as error:
        place = "".join(f":{number}" for number in (error.line, error.column) if number)
        raise ConfigError(f"{path}{place}: {error}") from None
    return {name: _read_entry(name, value, text, path, checkout=checkout) for name, value in content.items()}


def read_text(path: str) -> str:
    """Return the text of a small file of the checkout itself; ConfigError. Symbolic links are refused."""
    return _read_checkout(path)


def _read_checkout(path: str) -> str:
    if os.path.islink(path):
        raise ConfigError(f"{path} is a symbolic link", hint="a checkout's configuration is read from its own files")
    return _read(path)[0]


def _read_own(path: str) -> str:
    """Read the person's file. It can name commands that print keys, so whoever can write it has the keys."""
    text, found = _read(path)
    if found.st_uid not in {os.geteuid(), 0}:
        raise ConfigError(f"{path} is owned by another user", hint="chown it to yourself if you trust it")
    if found.st_mode & 0o022:
        raise ConfigError(f"{path} is writable by others", hint=f"chmod go-w {quote(path)}")
    return text


def _read(path: str) -> tuple[str, os.stat_result]:
    try:
        content = read_with_status(path, _LARGEST)
    except OSError as error:
        if error.errno == errno.EFBIG:
            hint = "is it a configuration file?"
            raise ConfigError(f"{path} is larger than {_LARGEST >> 10} KiB", hint=hint) from None
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if content is None:
        raise ConfigError(f"{path} is not a regular file")
    try:
        return content[0].decode(), content[1]
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8") from None


# --- entries ----------------------------------------------------------------------------------------


def _read_entry(name: str, value: object, text: str, path: str, *, checkout: bool) -> Entry:
    line = toml_text.find_line(name, text)
    place = f"{path}:{line}" if line else path
    known = SETTINGS.get(name)
    if known is None:
        raise ConfigError(f"{place}: {name!r} is not a setting", hint=_suggest(name, checkout=checkout))
    if checkout and not known.checkout:
        raise ConfigError(
            f"{place}: a checkout may not set {name}",
            hint="its files come with every pull request: set it in your own configuration (`ic-secrets config` names "
            f"the file) or as {name_variable(name)}",
        )
    given = as_text(known, value)
    if given is None:
        raise ConfigError(f"{place}: not a valid value for {name}", hint=f"it takes {describe_values(known)}")
    if checkout and known.protects and given not in known.protects:
        raise ConfigError(
            f"{place}: a checkout may {f'turn {name} on, not off' if given == 'false' else f'not weaken {name}'}",
            hint=f"leave that line out; {name_variable(name)}=0 turns it off",
        )
    given = _make_absolute(known, given, os.path.dirname(path))
    if checkout and known.kind == "path" and not is_below(given, os.path.dirname(path)):
        raise ConfigError(f"{place}: a checkout may set {name} only to a path below itself")
    return Entry(given, line)


def _make_absolute(known: Known, value: str, directory: str) -> str:
    """Return the value with its paths made absolute: `~` is the home, others are relative to the file."""
    return _change_paths(known, value, lambda path: os.path.normpath(os.path.join(directory, os.path.expanduser(path))))


def expand_home(known: Known, value: str) -> str:
    """Return the value with the `~` of its paths replaced by the home."""
    return _change_paths(known, value, os.path.expanduser)


def _change_paths(known: Known, value: str, change: Callable[[str], str]) -> str:
    if known.kind == "path":
        return change(value)
    if known.kind == "plugins":
        return SEPARATOR.join(change(one) if "/" in one else one for one in value.split(SEPARATOR))
    if known.kind == "paths":
        parts = [(one.removesuffix(WRITABLE), WRITABLE * one.endswith(WRITABLE)) for one in value.split(SEPARATOR)]
        return SEPARATOR.join(change(path) + suffix for path, suffix in parts)
    if known.kind == "store":
        from ..stores.registry import find_scheme, split_url

        scheme, path = find_scheme(value), split_url(value)[1]
        if scheme and scheme.is_path:
            return value.removesuffix(path) + change(path)
    return value


def _suggest(name: str, *, checkout: bool) -> str:
    from difflib import get_close_matches

    if name in _ELSEWHERE:
        return _ELSEWHERE[name]
    known = [one for one, setting in SETTINGS.items() if setting.checkout or not checkout]
    close = get_close_matches(name.replace("_", "-"), known, n=1)
    return f"did you mean {close[0]}?" if close else "`ic-secrets config` lists the settings"
