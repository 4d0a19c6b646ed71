"""`ic-secrets key new|show|rotate`: master keys, of which nothing but the ids is ever shown."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..config import Settings
from ..errors import ConfigError, MasterKeyError, StoreError, UsageError
from ..stores import split_url
from .opening import opened_store
from .output import print_json, print_message, print_table
from .parsing import BARE, Parser, add_json, add_store_options, read_settings
from .recording import recorded

if TYPE_CHECKING:
    from ..stores.keysources import Keyholder, KeySource
    from ..stores.local import LocalStore
    from ..stores.sealing import MasterKey

_ACTIONS = {
    "new": "make a master key",
    "show": "the ids of the configured keys, and of the store's",
    "rotate": "put the store under a new master key",
}


def run_key(words: Sequence[str]) -> int:
    """Do the action that the first word names."""
    action = words[0] if words else ""
    if action in {"-h", "--help"}:
        print("usage: ic-secrets key ACTION ...\n")
        print("\n".join(f"  {name:<7} {summary}" for name, summary in _ACTIONS.items()))
        print("\nexample:\n  ic-secrets key rotate")
        return 0
    actions: dict[str, Callable[[Sequence[str]], int]] = {"new": _new, "show": _show, "rotate": _rotate}
    if action not in actions:
        raise UsageError(
            f"there is no action {action!r}" if action else "no action is named",
            hint=f"ic-secrets key {'|'.join(_ACTIONS)}",
        )
    return actions[action](words[1:])


# --- new --------------------------------------------------------------------------------------------


def _new(words: Sequence[str]) -> int:
    """Make a random key where none is; nothing is ever overwritten."""
    from ..stores.keys import create_key_file
    from ..stores.locking import lock
    from ..stores.sealing import MasterKey

    parser = Parser(
        "key new",
        "Make a random master key, in a file of yours alone, or in the system's keyring. With --passphrase it is\n"
        "locked by one: IC_SECRETS_PASSPHRASE, the file that IC_SECRETS_PASSPHRASE_FILE names, or what you type.",
        "ic-secrets key new --key-file ci.key",
    )
    parser.add_argument("--key-file", metavar="FILE", help="the file to make (IC_SECRETS_KEY_FILE)")
    parser.add_argument("--passphrase", action="store_true", help="lock the key by a passphrase")
    parser.add_optional(
        "keyring", metavar="ENTRY", help="make the entry SERVICE[/USER] of the keyring instead of a file"
    )
    add_json(parser)
    arguments = parser.read(words)
    settings = Settings(dict(os.environ), {"key-file": arguments.key_file})
    key = MasterKey.generate()
    text = lock(key, _choose_passphrase(settings.keyholder, key.id)) if arguments.passphrase else key.format()
    if arguments.keyring:
        place = _name_entry(settings, arguments.keyring)
        _create_entry(place, text)
    else:
        place = settings.key_file.value
        create_key_file(place, text)
    if arguments.json:
        print_json("key-new", {"id": key.id, "place": place, "locked": arguments.passphrase})
    else:
        print_message("", f"made the key {key.id} in {place}: keep a copy elsewhere, nothing else opens its stores")
    return 0


def _choose_passphrase(holder: Keyholder, key_id: str) -> str:
    """The passphrase, typed twice where a person types it."""
    first = holder.find_passphrase(key_id)
    if not first:
        raise MasterKeyError("the passphrase is empty")
    if holder.find_passphrase(f"{key_id}, again") != first:
        raise MasterKeyError("the two passphrases are not the same")
    return first


def _name_entry(settings: Settings, given: str) -> str:
    if given != BARE:
        return given
    found = settings.find("key-keyring")
    if found is None:
        raise UsageError("no entry of the keyring is named", hint="--keyring=SERVICE[/USER], or IC_SECRETS_KEY_KEYRING")
    return found.value


def _create_entry(place: str, text: str) -> None:
    from ..stores.keysources import read_keyring, write_keyring

    if read_keyring(place) is not None:
        raise MasterKeyError(f"the keyring has an entry {place} already", hint="it was left as it is; name another")
    write_keyring(place, text)


# --- show -------------------------------------------------------------------------------------------


def _show(words: Sequence[str]) -> int:
    """Print ids: of the keys that each source gives, and of the key that the store is sealed with."""
    parser = Parser(
        "key show",
        "The ids of the configured keys, by source, and the id of the key that opens the store. No key is shown, and\n"
        "nobody is asked for a passphrase. The status is 1 where no configured key is the store's.",
        "ic-secrets key show",
    )
    add_store_options(parser)
    add_json(parser)
    arguments = parser.read(words)
    settings = read_settings(arguments, dict(os.environ))
    keys = [_describe_source(settings.keyholder, source) for source in settings.key_sources]
    ids = {key["id"] for found in keys for key in found["keys"]}
    store_key, problem = _find_store_key(settings)
    if arguments.json:
        content = {"sources": keys, "store": settings.store.value, "store_key": store_key, "problem": problem}
        print_json("key-show", {**content, "opens": store_key in ids})
        return 0 if store_key in ids or store_key is None else 1
    rows = [
        [found["source"], key["id"], "locked by a passphrase" if key["locked"] else "", _tell(key["id"], store_key)]
        for found in keys
        for key in found["keys"]
    ]
    if rows:
        print_table(["SOURCE", "KEY", "", "STORE"], rows)
    for found in keys:
        if found["problem"]:
            print_message("warning", found["problem"])
    if problem:
        print_message("warning", problem)
    elif store_key not in ids:
        print_message("error", f"{settings.store.value} is sealed with the key {store_key}, which no source gives")
    return 0 if store_key in ids or store_key is None else 1


def _tell(key_id: str, store_key: str | None) -> str:
    return "opens it" if key_id == store_key else "" if store_key is None else "does not open it"


def _describe_source(holder: Keyholder, source: KeySource) -> dict[str, Any]:
    try:
        keys = [{"id": key_id, "locked": locked} for key_id, locked in holder.list_ids(source)]
        return {"source": str(source), "keys": keys, "problem": None}
    except MasterKeyError as error:
        return {"source": str(source), "keys": [], "problem": str(error)}


def _find_store_key(settings: Settings) -> tuple[str | None, str | None]:
    """The id of the store's key, or why there is none to tell."""
    scheme, path = split_url(settings.store.value)
    if scheme != "sqlite":
        return None, f"{settings.store.value} does not tell its key"
    from ..stores import local

    try:
        return local.read_master_id(path), None
    except StoreError as error:
        return None, str(error)


# --- rotate -----------------------------------------------------------------------------------------


def _rotate(words: Sequence[str]) -> int:
    """Put the store under a new key, which is safe where the old one was before anything depends on it."""
    parser = Parser(
        "key rotate",
        "Put the store under a new master key: all of it is verified, and in one transaction the data keys are\n"
        "wrapped anew and one more is made for what is set from then on. The old key then opens nothing of it. A key\n"
        "file (or keyring entry) gets the new key, and holds both while the rotation is under way, so that builds go\n"
        "on; the old key is kept beside it, for older copies of the store. Run it again where it was cut off.",
        "ic-secrets key rotate",
    )
    parser.add_argument("--to-file", metavar="FILE", help="take the new key from there; it is made where it is not")
    parser.add_argument("--discard-old", action="store_true", help="keep the old key nowhere")
    add_store_options(parser)
    add_json(parser)
    arguments = parser.read(words)
    settings = read_settings(arguments, dict(os.environ))
    sources = settings.key_sources
    rigid = [source for source in sources if not source.is_writable]
    if rigid and not arguments.to_file:
        raise MasterKeyError(
            f"a new key cannot be put where {rigid[0]} has its own",
            hint="--to-file FILE makes it there; then change where the old one is set",
        )
    if arguments.to_file:
        old, new = _rotate_to_file(arguments, settings)
    else:
        with _only_rotation(sources):
            old, new = _rotate_in_place(arguments, settings.keyholder, sources)
    if arguments.json:
        print_json("key-rotate", {"old": old, "new": new})
    else:
        print_message("", f"the store is sealed with the key {new}; {old} opens nothing of it any more")
        for source in rigid:
            print_message("", f"{source} still gives the old key: let it give the one in {arguments.to_file}")
    return 0


def _rotate_in_place(arguments: argparse.Namespace, holder: Keyholder, sources: Sequence[KeySource]) -> tuple[str, str]:
    """The ids of the old and the new key, which is where the old one was when this returns."""
    from ..stores.sealing import MasterKey

    keys = holder.load(sources)
    with _opened(arguments, lambda: keys) as store:
        current = next(key for key in keys if key.id == store.master_id)
        # Two keys tell of a rotation that was cut off: before its commit, or after it.
        is_done = current == keys[0] and len(keys) > 1
        new = keys[0] if len(keys) > 1 else MasterKey.generate()
        olds = [key for key in keys if key != new]
        if not is_done:
            for source in sources:
                source.write([new, *olds], holder.passphrase)
            with recorded(store, arguments, command="key rotate"):
                store.rotate(new)
    for source in sources:
        if not arguments.discard_old:
            for old in olds:
                retired = source.retire(old, holder.passphrase)
                print_message("", f"the old key {old.id} is kept in {retired}, for older copies of the store")
        source.write([new], holder.passphrase)
    return olds[0].id, new.id


def _rotate_to_file(arguments: argparse.Namespace, settings: Settings) -> tuple[str, str]:
    from ..stores.keys import create_key_file, load_key_file
    from ..stores.sealing import MasterKey

    if not os.path.lexists(arguments.to_file):
        create_key_file(arguments.to_file, MasterKey.generate().format())
    holder = settings.keyholder
    new = load_key_file(arguments.to_file, holder.unlock)[0]
    olds = holder.load(settings.key_sources)
    if new in olds:
        raise MasterKeyError(f"{arguments.to_file} holds the old key", hint="name a file that is not there yet")
    with _opened(arguments, lambda: (*olds, new)) as store:
        if store.master_id != new.id:
            with recorded(store, arguments, command="key rotate"):
                store.rotate(new)
    return olds[0].id, new.id


@contextlib.contextmanager
def _opened(arguments: argparse.Namespace, load_keys: Callable[[], Sequence[MasterKey]]) -> Iterator[LocalStore]:
    from ..stores.local import LocalStore

    with opened_store(arguments, load_keys=load_keys) as store:
        if not isinstance(store, LocalStore):
            raise ConfigError("only an embedded store has a key that could be rotated")
        yield store


@contextlib.contextmanager
def _only_rotation(sources: Sequence[KeySource]) -> Iterator[None]:
    """Let no other rotation write the same key files meanwhile."""
    directories = {os.path.dirname(os.path.abspath(source.place)) for source in sources if source.kind == "file"}
    with contextlib.ExitStack() as stack:
        for directory in sorted(directories):
            try:
                descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                raise MasterKeyError(f"{directory} cannot be read: {error.strerror}") from None
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
