"""The store that the settings name, opened for one command."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..config.settings import Setting, Settings
from ..errors import ConfigError, IcSecretsError, MasterKeyError
from ..model.secret import Target
from ..stores.base import SERVERS, Store, identify, open_store, split_url, take_notices
from .output import print_message
from .parsing import read_duration, read_settings

if TYPE_CHECKING:
    from ..keys.sealing import MasterKey
    from ..plugins.manager import Plugins
    from ..stores.base import StoreOpener
    from ..stores.cache import TargetCache
    from ..stores.rollback import FindIdentity


@contextlib.contextmanager
def opened_store(
    arguments: argparse.Namespace,
    *,
    read_only: bool = False,
    load_keys: Callable[[], Sequence[MasterKey]] | None = None,
    build: Target | None = None,
) -> Iterator[Store]:
    """The store, closed afterwards; every StoreError and MasterKeyError that opening it can raise.

    `build` is the target that is to be built: its secrets may come from the cache where a server cannot be reached.
    An older copy than `--min-generation` or the state file allows is a StoreRolledBackError at once.
    """
    settings = read_settings(arguments, dict(os.environ))
    url, keys, finder = settings.store.value, load_keys or settings.load_keys, make_finder(settings)
    ask = make_ask(settings)

    def open_it() -> Store:
        return open_store(url, keys, read_only=read_only, find_opener=finder, ask=ask)

    cache = _find_cache(settings, build) if build else None
    with checked(_cache_it(open_it, cache) if cache else open_it, settings, read_only=read_only) as store:
        yield store


@contextlib.contextmanager
def checked(open_it: Callable[[], Store], settings: Settings, *, read_only: bool) -> Iterator[Store]:
    """The store, closed afterwards; one that is older than the settings allow is a StoreRolledBackError at once."""
    check = make_age_check(settings)
    store = open_it()
    try:
        if check:
            check(store.url, lambda: identify(store))
        yield store
        state = settings.find("state-file")
        if state and not read_only:
            _update_state(store, state.value)
    finally:
        for text in take_notices(store):
            print_message("warning", text)
        store.close()


def make_age_check(settings: Settings) -> Callable[[str, FindIdentity], None] | None:
    """What refuses a store that is older than the settings allow; None where they allow any. ConfigError."""
    minimum, state = settings.find("min-generation"), settings.find("state-file")
    if not minimum and not state:
        return None
    from ..stores.rollback import check_minimum, check_state

    least = _parse_generation(minimum) if minimum else 0

    def check(url: str, find: FindIdentity) -> None:
        if minimum:
            check_minimum(url, find(), least, minimum.source)
        if state:
            check_state(url, find, state.value)

    return check


def load_plugins(settings: Settings) -> Plugins | None:
    """The plugins that the person names, None where none is named; PluginError for the first that is broken."""
    setting = settings.plugins
    if setting is None:
        return None
    from ..plugins.manager import load
    from . import COMMANDS

    return load(setting.value, setting.source, tuple(COMMANDS))


def make_finder(settings: Settings) -> Callable[[str], StoreOpener | None]:
    """What finds who opens a kind of store that is none of ours. Plugins are loaded only when one is asked for."""

    def find_opener(scheme: str) -> StoreOpener | None:
        plugins = load_plugins(settings)
        return plugins.find_opener(scheme) if plugins else None

    return find_opener


def make_ask(settings: Settings) -> Callable[[str], str | None]:
    """What says a setting by its name, for stores that have settings of their own."""

    def ask(name: str) -> str | None:
        found = settings.find(name)
        return found.value if found else None

    return ask


def _find_cache(settings: Settings, target: Target) -> TargetCache | None:
    """The cache of that target, None where the settings want none; MasterKeyError where there is no key to seal it."""
    if split_url(settings.store.value)[0] not in SERVERS or not settings.find("cache"):
        return None
    duration = read_duration(settings, "cache")
    if not duration:
        return None
    from ..stores.cache import TargetCache

    missing = [each for each in settings.key_sources if each.kind == "file" and not os.path.lexists(each.place)]
    if missing:
        raise MasterKeyError(
            f"there is no key file {missing[0].place}, and `cache` keeps nothing unsealed",
            hint="`ic-secrets key new` makes one; without the setting `cache` a server needs none",
        )
    namespace = os.environ.get("BAO_NAMESPACE") or os.environ.get("VAULT_NAMESPACE") or ""
    place = (settings.store.value, namespace)
    return TargetCache(settings.cache_directory, place, target, settings.load_keys(), duration)


def _cache_it(open_it: Callable[[], Store], cache: TargetCache) -> Callable[[], Store]:
    from ..stores.cache import open_store

    return lambda: open_store(open_it, cache)


def _parse_generation(setting: Setting) -> int:
    if not (setting.value.isascii() and setting.value.isdigit() and len(setting.value) <= 18):
        raise ConfigError(
            f"{setting.source} is {setting.value!r}, which is no generation",
            hint="a whole number; `ic-secrets run --receipt FILE` writes down the store's",
        )
    return int(setting.value)


def _update_state(store: Store, path: str) -> None:
    """Remember what was written. It is in the store already, so a failure is told and changes no outcome."""
    from ..stores.rollback import update_state

    try:
        update_state(store, path)
    except IcSecretsError as error:
        print_message("warning", f"the store was written, but {error}", error.hint)
