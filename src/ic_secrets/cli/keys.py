"""`ic-secrets key new|show|rotate`: master keys, of which nothing but the ids is ever shown."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..assembly import Context
from ..config import Settings
from ..core.console import print_table
from ..core.records import NamedTuple
from ..errors import ConfigError, MasterKeyError, StoreError, UsageError
from ..stores.registry import EMBEDDED, find_scheme, split_url
from . import Call
from .call import choose_action, read_call
from .output import print_json, print_message
from .parser import BARE, Parser, add_json, add_store_options

if TYPE_CHECKING:
    from ..keys import Keyholder, KeySource, MasterKey
    from ..stores.embedded.store import LocalStore

ACTIONS = {
    "new": "make a master key",
    "show": "the ids of the configured keys, and of the store's",
    "rotate": "put the store under a new master key",
}


def run_key(call: Call) -> int:
    """Run the action that the first word names."""
    chosen = choose_action(call, "key", ACTIONS, "ic-secrets key rotate")
    if chosen is None:
        return 0
    action, call = chosen
    return {"new": _new, "show": _show, "rotate": _rotate}[action](call)


def make_parser(action: str) -> Parser:
    """Return the parser of an action."""
    return {"new": _make_new_parser, "show": _make_show_parser, "rotate": _make_rotate_parser}[action]()


# --- new --------------------------------------------------------------------------------------------


def _new(call: Call) -> int:
    """Make a random key where none is; nothing is ever overwritten."""
    from ..keys import MasterKey
    from ..keys.master import create_key_file
    from ..keys.passphrase import lock

    arguments, context = read_call(call, _make_new_parser())
    if arguments.keyring and arguments.key_file:
        raise UsageError("a key is made in a file or in the keyring, not in both")
    settings = context.settings
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


def _make_new_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser(
        "key new",
        "Make a random master key, in a file of yours alone, or in the system's keyring. With --passphrase it is\n"
        "locked by one: IC_SECRETS_PASSPHRASE, the file that IC_SECRETS_PASSPHRASE_FILE names, or what you type.",
        "ic-secrets key new --key-file ci.key",
    )
    parser.add_argument("--key-file", metavar="FILE", help="the file to make (IC_SECRETS_KEY_FILE)")
    parser.add_argument("--passphrase", action="store_true", help="lock the key by a passphrase")
    parser.add_optional("keyring", "ENTRY", "make the entry SERVICE[/USER] of the keyring instead of a file")
    add_json(parser)
    return parser


def _choose_passphrase(holder: Keyholder, key_id: str) -> str:
    """Ask for the passphrase, typed twice where a person types it."""
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
    from ..keys.sources import read_keyring, write_keyring

    if read_keyring(place) is not None:
        raise MasterKeyError(f"the keyring has an entry {place} already", hint="it was left as it is; name another")
    write_keyring(place, text)


# --- show -------------------------------------------------------------------------------------------


def _show(call: Call) -> int:
    """Print ids: of the keys that each source gives, and of the key that the store is sealed with."""
    arguments, context = read_call(call, _make_show_parser())
    settings = context.settings
    holder = settings.keyholder
    found = [_describe_source(holder, source) for source in settings.key_sources]
    store = _describe_store(settings, holder, found)
    if arguments.json:
        sources = [{"source": str(each.source), "keys": each.keys, "problem": each.problem} for each in found]
        print_json("key-show", {"sources": sources, "store": settings.store.value, **store._asdict()})
    else:
        _print_keys(settings, found, store)
    return 1 if store.opens is False else 0


def _make_show_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser(
        "key show",
        "The ids of the configured keys, by source, which of them opens the store, and how many data keys that has.\n"
        "No key is shown, and nobody is asked for a passphrase. The status is 1 where none of them opens it.",
        "ic-secrets key show",
    )
    add_store_options(parser)
    add_json(parser)
    return parser


def _print_keys(settings: Settings, found: Sequence[_Found], store: _Seal) -> None:
    rows = [
        [
            str(each.source),
            key["id"],
            "locked by a passphrase" if key["locked"] else "",
            _tell(key["id"], store.store_key),
        ]
        for each in found
        for key in each.keys
    ]
    if rows:
        print_table(["SOURCE", "KEY", "", "STORE"], rows)
    for each in found:
        if each.problem:
            print_message("warning", each.problem)
    if store.problem:
        print_message("error" if store.opens is False else "warning", store.problem)
    elif store.opens is False:
        name = settings.store.value
        print_message("error", f"{name} is sealed with the key {store.store_key}, which no source gives")
    elif store.data_keys:
        print_message("", f"the store has {store.data_keys} data key{'s' if store.data_keys > 1 else ''}")


class _Found(NamedTuple):
    """A source, its keys (`id`, `locked`), or why it gives none."""

    source: KeySource
    keys: list[dict[str, Any]]
    problem: str | None


class _Seal(NamedTuple):
    """The key that the store says it is sealed with, whether a configured one opens it, and why it is not known.

    `data_keys` are known of a store that was opened, for which nobody is asked for a passphrase.
    """

    store_key: str | None = None
    data_keys: int | None = None
    problem: str | None = None
    opens: bool | None = None


def _tell(key_id: str, store_key: str | None) -> str:
    return "opens it" if key_id == store_key else "" if store_key is None else "does not open it"


def _describe_source(holder: Keyholder, source: KeySource) -> _Found:
    try:
        return _Found(source, [{"id": key_id, "locked": locked} for key_id, locked in holder.list_ids(source)], None)
    except MasterKeyError as error:
        return _Found(source, [], str(error))


def _describe_store(settings: Settings, holder: Keyholder, found: Sequence[_Found]) -> _Seal:
    url = settings.store.value
    scheme, path = find_scheme(url), split_url(url)[1]
    if not scheme or not scheme.read_key_id:
        return _Seal(problem=f"{url} does not show which key it is sealed with")
    try:
        store_key = scheme.read_key_id(path)
    except StoreError as error:
        return _Seal(problem=str(error))
    fitting = [(each, key) for each in found for key in each.keys if key["id"] == store_key]
    plain = [each.source for each, _ in fitting if not any(key["locked"] for key in each.keys)]
    if not plain or scheme.name != EMBEDDED:
        return _Seal(store_key, opens=bool(fitting))
    from ..stores.embedded import store as local

    try:
        with local.open_store(path, holder.read(plain[0]), read_only=True) as store:
            return _Seal(store_key, store.data_keys, opens=True)
    except StoreError as error:
        return _Seal(store_key, problem=str(error), opens=False)


# --- rotate -----------------------------------------------------------------------------------------


class _Outcome(NamedTuple):
    """The ids of the old and the new key, and where the old one is kept."""

    old: str
    new: str
    kept: list[dict[str, str]]


def _rotate(call: Call) -> int:
    """Put the store under a new key, which is safe where the old one was before anything depends on it."""
    arguments, context = read_call(call, _make_rotate_parser())
    settings = context.settings
    sources = settings.key_sources
    rigid = [source for source in sources if not source.is_writable]
    if rigid and not arguments.to_file:
        raise MasterKeyError(
            f"a new key cannot be put where {rigid[0]} has its own",
            hint="--to-file FILE makes it there; then change where the old one is set",
        )
    rotate = _rotate_to_file if arguments.to_file else _rotate_in_place
    outcome = rotate(arguments, context, sources)
    if arguments.json:
        print_json("key-rotate", outcome._asdict())
        return 0
    for kept in outcome.kept:
        print_message("", f"the old key {kept['id']} is kept in {kept['place']}, for older copies of the store")
    print_message("", f"the store is sealed with the key {outcome.new}; {outcome.old} opens nothing of it any more")
    for source in sources if arguments.to_file else ():
        print_message("", f"{source} still gives the old key: let it give the one in {arguments.to_file}")
    return 0


def _make_rotate_parser() -> Parser:
    """Return the parser of its arguments."""
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
    return parser


def _rotate_in_place(arguments: argparse.Namespace, context: Context, sources: Sequence[KeySource]) -> _Outcome:
    """Rotate so that the new key is where the old one was when this returns.

    What is read and written of the sources is so within a transaction of the store, whose one write lock
    keeps every other rotation out; and the new key is safe before the store depends on it.
    """
    from ..keys import MasterKey

    holder = context.settings.keyholder
    with _opened(context, lambda: holder.load(sources)) as store:
        with context.recorded(store, command="key rotate"):
            keys = holder.load(sources)
            # Two keys mean a rotation that was cut off: before its commit, or after it.
            new = keys[0] if len(keys) > 1 else MasterKey.generate()
            olds = [key for key in keys if key != new]
            if store.rotate(new):
                for source in sources:
                    holder.replace(source, lambda held: [new, *(key for key in held if key != new)])
        with store.transaction():
            if store.master_id != new.id:  # the next rotation has taken over
                return _Outcome(olds[0].id, new.id, [])
            kept = [
                {"id": old.id, "place": holder.retire(source, old)}
                for source in (() if arguments.discard_old else sources)
                for old in olds
            ]
            for source in sources:
                holder.replace(source, lambda held: [key for key in held if key not in olds])
    return _Outcome(olds[0].id, new.id, kept)


def _rotate_to_file(arguments: argparse.Namespace, context: Context, sources: Sequence[KeySource]) -> _Outcome:
    """Rotate so that the new key is in a file of its own before the store depends on it; sources stay as they are."""
    from ..keys import MasterKey
    from ..keys.master import create_key_file, load_key_file

    holder = context.settings.keyholder

    def load_all() -> Sequence[MasterKey]:
        is_made = os.path.lexists(arguments.to_file)
        return (*holder.load(sources), *(load_key_file(arguments.to_file, holder.unlock) if is_made else ()))

    with _opened(context, load_all) as store:
        olds = holder.load(sources)
        if not os.path.lexists(arguments.to_file):
            text = holder.format([MasterKey.generate()], like=sources[0])
            create_key_file(arguments.to_file, text.rstrip())
        new = load_key_file(arguments.to_file, holder.unlock)[0]
        if new in olds:
            raise MasterKeyError(f"{arguments.to_file} holds the old key", hint="name a file that is not there yet")
        with context.recorded(store, command="key rotate"):
            store.rotate(new)
    return _Outcome(olds[0].id, new.id, [])


@contextlib.contextmanager
def _opened(context: Context, load_keys: Callable[[], Sequence[MasterKey]]) -> Iterator[LocalStore]:
    from ..stores.embedded.store import LocalStore

    with context.open_store(load_keys=load_keys) as store:
        if not isinstance(store, LocalStore):
            raise ConfigError("only an embedded store has a key that could be rotated")
        yield store
