"""Where master keys come from: files, variables, commands and the system's keyring.

A source gives text that holds a key, or several while a rotation is under way. Every source that is
named is asked, and what it gives must agree with the others: two that share no key are two opinions on
which store this is, and neither is believed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import MasterKeyError
from . import locking
from .keys import load_key_file, parse_keys, read_key_file, replace_key_file
from .sealing import MasterKey

# A person may have to touch a device before a command gives a key, in seconds.
_PATIENCE = 60.0
_LONGEST = 4096
_DEFAULT_USER = "master-key"


class KeySource(NamedTuple):
    """One source: what names it (a flag, a variable, `default`), its kind, and the file, command or entry.

    The kinds are `file`, `variable`, `command` and `keyring`. The `place` of a variable is its name.
    """

    origin: str
    kind: str
    place: str

    def read(self, environment: Mapping[str, str]) -> str:
        """The text that holds its keys; MasterKeyError."""
        if self.kind == "file":
            return read_key_file(self.place)
        if self.kind == "variable":
            return environment[self.place]
        return _run(self, environment) if self.kind == "command" else _read_entry(self.place)

    @property
    def is_writable(self) -> bool:
        """Whether a rotation can put the new key where the old one was."""
        return self.kind in {"file", "keyring"}

    def write(self, keys: Sequence[MasterKey], passphrase: str | None) -> None:
        """Put these keys there, the current one first, locked where there is a passphrase; MasterKeyError."""
        text = "\n".join(key.format() if passphrase is None else locking.lock(key, passphrase) for key in keys) + "\n"
        if self.kind == "file":
            replace_key_file(self.place, text)
        else:
            write_keyring(self.place, text)

    def retire(self, key: MasterKey, passphrase: str | None) -> str:
        """Keep a key that is no longer current beside the new one; where. MasterKeyError."""
        beside = self._replace(place=f"{self.place}.{key.id}")
        beside.write([key], passphrase)
        return beside.place

    def __str__(self) -> str:
        if self.kind == "variable":
            return self.place
        return f"the key file {self.place}" if self.origin == "default" else self.origin


class Keyholder:
    """Asks the sources for their keys, and for the passphrase of locked ones, once."""

    def __init__(self, environment: Mapping[str, str], ask: Callable[[str], str]) -> None:
        """`ask` prompts a person; it may raise MasterKeyError where there is none."""
        self._environment = environment
        self._ask = ask
        self.passphrase: str | None = None

    def load(self, sources: Sequence[KeySource]) -> tuple[MasterKey, ...]:
        """The keys of all of them, each once, those of the first source first; MasterKeyError."""
        found = [(source, self.read(source)) for source in sources]
        first, keys = found[0]
        for source, others in found[1:]:
            if not set(keys) & set(others):
                raise MasterKeyError(
                    f"{first} and {source} hold different keys", hint="unset the one that is not meant"
                )
        return tuple(dict.fromkeys(key for _, keys in found for key in keys))

    def read(self, source: KeySource) -> tuple[MasterKey, ...]:
        """The keys of one source; MasterKeyError."""
        if source.kind == "file":
            return load_key_file(source.place, self.unlock)
        return parse_keys(source.read(self._environment), str(source), self.unlock)

    def list_ids(self, source: KeySource) -> list[tuple[str, bool]]:
        """The ids of its keys, and whether each is locked; nobody is asked for a passphrase. MasterKeyError."""
        words = source.read(self._environment).split() or [""]
        return [
            (locking.read_id(word), True) if locking.is_locked(word) else (MasterKey.parse(word).id, False)
            for word in words
        ]

    def unlock(self, text: str) -> MasterKey:
        """The key that the text locks; MasterKeyError."""
        if self.passphrase is None:
            self.passphrase = self.find_passphrase(locking.read_id(text))
        return locking.unlock(text, self.passphrase)

    def find_passphrase(self, key_id: str) -> str:
        """The passphrase that the environment has, or a person; MasterKeyError."""
        held = self._environment.get("IC_SECRETS_PASSPHRASE")
        if held:
            return held
        path = self._environment.get("IC_SECRETS_PASSPHRASE_FILE")
        if path:
            return _read_passphrase(path)
        return self._ask(f"passphrase of the key {key_id}: ")


def read_keyring(place: str) -> str | None:
    """What the entry SERVICE[/USER] of the system's keyring holds, None where there is none; MasterKeyError."""
    found = _use_keyring(place, lambda keyring, service, user: keyring.get_password(service, user))
    return None if found is None else str(found)


def write_keyring(place: str, text: str) -> None:
    """Put the text into the entry SERVICE[/USER] of the system's keyring; MasterKeyError."""
    _use_keyring(place, lambda keyring, service, user: keyring.set_password(service, user, text))


def _read_passphrase(path: str) -> str:
    text = read_key_file(path).removesuffix("\n")
    if not text:
        raise MasterKeyError(f"the passphrase file {path} is empty")
    return text


def _run(source: KeySource, environment: Mapping[str, str]) -> str:
    """What the command prints: split as a shell would, but run without one."""
    import shlex
    import subprocess

    try:
        words = shlex.split(source.place)
    except ValueError:
        words = []
    if not words:
        raise MasterKeyError(
            f"{source.origin} is no command", hint="a program and its arguments, quoted as for a shell"
        )
    try:
        done = subprocess.run(
            words, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired:
        raise MasterKeyError(f"{source.origin}: {words[0]} gave no key within {_PATIENCE:.0f} seconds") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "a NUL in its words"
        raise MasterKeyError(f"{source.origin}: {words[0]} cannot be run: {reason}") from None
    if done.returncode:
        raise MasterKeyError(f"{source.origin}: {words[0]} ended with status {done.returncode}")
    try:
        return done.stdout[: _LONGEST + 1].decode("ascii")
    except UnicodeDecodeError:
        raise MasterKeyError(f"{source.origin}: what {words[0]} printed is no master key") from None


def _read_entry(place: str) -> str:
    found = read_keyring(place)
    if found is None:
        hint = f"`ic-secrets key new --keyring={place}` makes it"
        raise MasterKeyError(f"the keyring has no entry {place}", hint=hint)
    return found


def _use_keyring(place: str, use: Callable[[Any, str, str], Any]) -> Any:
    try:
        import keyring
    except ImportError:
        raise MasterKeyError("the package keyring is not installed", hint="pip install 'ic-secrets[keyring]'") from None
    service, _, user = place.partition("/")
    try:
        return use(keyring, service, user or _DEFAULT_USER)
    except Exception as error:  # a backend raises what it likes, and its message may hold anything
        raise MasterKeyError(
            f"the keyring cannot be used: {type(error).__name__}", hint="`keyring diagnose` shows its backend"
        ) from None
