"""Where master keys come from: files, variables, commands and the system's keyring.

A source gives text that holds a key, or several while a rotation is under way. Every source that is
named is asked, and what it gives must agree with the others: two that share no key are two opinions on
which store this is, and neither is believed.
"""

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..core.records import NamedTuple
from ..errors import MasterKeyError
from .master import holds_key, is_locked, parse_keys, read_key_file, read_passphrase_file, replace_key_file
from .sealing import MasterKey

if TYPE_CHECKING:
    import subprocess

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
        """Return the text that holds its keys; MasterKeyError."""
        if self.kind == "file":
            return read_key_file(self.place)
        if self.kind == "variable":
            return environment[self.place]
        return _run(self, environment) if self.kind == "command" else _read_entry(self.place)

    @property
    def is_writable(self) -> bool:
        """Return whether a rotation can put the new key where the old one was."""
        return self.kind in {"file", "keyring"}

    def write(self, text: str, before: str | None = None) -> None:
        """Put the text there, in the place of `before` where that is given; MasterKeyError."""
        if self.kind == "file":
            replace_key_file(self.place, text, before)
        else:
            write_keyring(self.place, text)

    def __str__(self) -> str:
        if self.kind == "variable":
            return self.place
        return f"the key file {self.place}" if self.origin == "default" else self.origin


class Keyholder:
    """Asks the sources for their keys, and a person once for each passphrase that locks some.

    A file or a keyring's entry is read each time, since a rotation changes it.
    """

    def __init__(self, environment: Mapping[str, str], ask: Callable[[str], str]) -> None:
        """`ask` prompts a person; it may raise MasterKeyError without a terminal."""
        self._environment = environment
        self._ask = ask
        self._passphrases: dict[str, str] = {}  # by the id of a key that they have opened
        self._texts: dict[KeySource, str] = {}

    def load(self, sources: Sequence[KeySource]) -> tuple[MasterKey, ...]:
        """Return the keys of all of them, each once, those of the first source first; MasterKeyError."""
        found = [(source, self.read(source)) for source in sources]
        first, keys = found[0]
        for source, others in found[1:]:
            if not set(keys) & set(others):
                raise MasterKeyError(
                    f"{first} and {source} hold different keys", hint="unset the one that is not meant"
                )
        return tuple(dict.fromkeys(key for _, keys in found for key in keys))

    def read(self, source: KeySource) -> tuple[MasterKey, ...]:
        """Return the keys of one source; MasterKeyError."""
        place = f"the key file {source.place}" if source.kind == "file" else str(source)
        return parse_keys(self._read_text(source), place, self.unlock)

    def replace(self, source: KeySource, change: Callable[[Sequence[MasterKey]], Sequence[MasterKey]]) -> None:
        """Give the source other keys than it has, locked if those are; MasterKeyError where it has others by then."""
        text = self._read_text(source)
        keys = parse_keys(text, str(source), self.unlock)
        changed = tuple(change(keys))
        if changed != keys:
            source.write(self.format(changed, like=source), before=text)

    def retire(self, source: KeySource, key: MasterKey) -> str:
        """Keep a key that is no longer current beside the source's; where. MasterKeyError."""
        beside = source._replace(place=f"{source.place}.{key.id}")
        beside.write(self.format([key], like=source))
        return beside.place

    def format(self, keys: Sequence[MasterKey], *, like: KeySource) -> str:
        """Return the keys as text, locked by the same passphrase if those of the source, which were read, are."""
        from .passphrase import lock

        locked = [key_id for key_id, is_under_passphrase in self.list_ids(like) if is_under_passphrase]
        if not locked:
            return "".join(key.format() + "\n" for key in keys)
        passphrase = self._passphrases[locked[0]]
        self._passphrases |= {key.id: passphrase for key in keys}
        return "".join(lock(key, passphrase) + "\n" for key in keys)

    def list_ids(self, source: KeySource) -> list[tuple[str, bool]]:
        """Return the ids of its keys, and whether each is locked; nobody is asked for a passphrase. MasterKeyError."""
        from .passphrase import read_id

        words = self._read_text(source).split() or [""]
        return [(read_id(word), True) if is_locked(word) else (MasterKey.parse(word).id, False) for word in words]

    def unlock(self, text: str) -> MasterKey:
        """Return the key that the text locks; MasterKeyError."""
        from .passphrase import read_id, unlock

        key_id = read_id(text)
        for known in {*self._passphrases.values()}:
            with contextlib.suppress(MasterKeyError):
                key = unlock(text, known)
                self._passphrases[key_id] = known
                return key
        passphrase = self.find_passphrase(key_id)
        key = unlock(text, passphrase)
        self._passphrases[key_id] = passphrase
        return key

    def find_passphrase(self, key_id: str) -> str:
        """Return the passphrase that the environment has, or a person; MasterKeyError."""
        held = self._environment.get("IC_SECRETS_PASSPHRASE")
        if held:
            return held
        path = self._environment.get("IC_SECRETS_PASSPHRASE_FILE")
        if path:
            return read_passphrase_file(os.path.expanduser(path))
        return self._ask(f"passphrase of the key {key_id}: ")

    def _read_text(self, source: KeySource) -> str:
        if source.is_writable:
            return source.read(self._environment)
        if source not in self._texts:
            self._texts[source] = source.read(self._environment)
        return self._texts[source]


def read_keyring(place: str) -> str | None:
    """Return what the entry SERVICE[/USER] of the keyring holds, None where it has no such entry; MasterKeyError."""
    found = _use_keyring(place, lambda keyring, service, user: keyring.get_password(service, user))
    return None if found is None else str(found)


def write_keyring(place: str, text: str) -> None:
    """Put the text into the entry SERVICE[/USER] of the system's keyring; MasterKeyError."""
    _use_keyring(place, lambda keyring, service, user: keyring.set_password(service, user, text))


def _run(source: KeySource, environment: Mapping[str, str]) -> str:
    """Return what the command prints: split as a shell would, but run without one."""
    import shlex
    import subprocess

    try:
        words = shlex.split(source.place)
    except ValueError:
        words = []
    if not words:
        raise MasterKeyError(
            f"{source.origin} is not a command", hint="a program and its arguments, quoted as for a shell"
        )
    if holds_key(words[0]):
        raise MasterKeyError(f"{source.origin} holds a key, not a command", hint="IC_SECRETS_KEY takes the key itself")
    name = f"{source.origin}: {words[0]}"
    try:
        process = subprocess.Popen(words, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "a NUL in its words"
        raise MasterKeyError(f"{name} cannot be run: {reason}") from None
    with process:
        try:
            printed = _collect(process)
        except subprocess.TimeoutExpired:
            raise MasterKeyError(f"{name} printed no key within {_PATIENCE:.0f} seconds") from None
        finally:
            process.kill()  # nothing happens where it has ended
    if len(printed) > _LONGEST:
        raise MasterKeyError(f"{name} printed more than a key")
    if process.returncode:
        raise MasterKeyError(f"{name} ended with status {process.returncode}")
    try:
        return printed.decode("ascii")
    except UnicodeDecodeError:
        raise MasterKeyError(f"{name} did not print a master key") from None


def _collect(process: "subprocess.Popen[bytes]") -> bytes:
    """Return what the process prints until it ends, or a little more than a key; TimeoutExpired."""
    import select
    import subprocess

    assert process.stdout
    deadline = time.monotonic() + _PATIENCE
    printed = b""
    while len(printed) <= _LONGEST:
        if not select.select([process.stdout], [], [], max(deadline - time.monotonic(), 0))[0]:
            raise subprocess.TimeoutExpired(process.args, _PATIENCE)
        data = os.read(process.stdout.fileno(), _LONGEST)
        if not data:
            process.wait(max(deadline - time.monotonic(), 0))
            break
        printed += data
    return printed


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
    if holds_key(place):
        raise MasterKeyError("a key was given in place of the name of a keyring entry")
    service, _, user = place.partition("/")
    try:
        return use(keyring, service, user or _DEFAULT_USER)
    except Exception as error:  # a backend raises what it likes, and its message may hold anything
        raise MasterKeyError(
            f"the keyring cannot be used: {type(error).__name__}", hint="`keyring diagnose` shows its backend"
        ) from None
