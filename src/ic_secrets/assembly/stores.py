"""Stores opened for one command: no older than the settings allow, and from a cache where a server does not answer."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..config import Setting, Settings
from ..core import Notice, Notify
from ..errors import ConfigError, IcSecretsError, MasterKeyError
from ..model import Target
from ..stores import Store, find_scheme, open_store

if TYPE_CHECKING:
    from ..keys import MasterKey
    from ..plugins import Plugins
    from ..stores import StoreOpener
    from ..stores.cache import TargetCache
    from ..stores.rollback import FindIdentity

LoadKeys = Callable[[], "Sequence[MasterKey]"]
LoadPlugins = Callable[[], "Plugins | None"]


@contextlib.contextmanager
def open_configured(
    settings: Settings,
    notify: Notify,
    load_plugins: LoadPlugins,
    *,
    read_only: bool = False,
    load_keys: LoadKeys | None = None,
    build: Target | None = None,
) -> Iterator[Store]:
    """Open the store of the settings for the time of the block; every StoreError and MasterKeyError.

    `build` is the target that is to be built: its secrets may come from the cache where a server cannot be reached.
    An older copy than `min-generation` or the state file allows is a StoreRolledBackError at once.
    """
    url, keys = settings.store.value, load_keys or settings.load_keys

    def open_it() -> Store:
        return open_by_settings(url, keys, settings, load_plugins, read_only=read_only)

    cache = _find_cache(settings, build) if build else None
    with guard(_open_cached(open_it, cache) if cache else open_it, settings, notify, read_only=read_only) as store:
        yield store


def open_by_settings(
    url: str,
    load_keys: LoadKeys,
    settings: Settings,
    load_plugins: LoadPlugins,
    *,
    read_only: bool = False,
    create: bool = False,
) -> Store:
    """Open the store of that URL, which the caller closes; a plugin is loaded only for a scheme that is not ours."""

    def find_opener(scheme: str) -> StoreOpener | None:
        plugins = load_plugins()
        return plugins.find_opener(scheme) if plugins else None

    return open_store(
        url,
        load_keys,
        read_only=read_only,
        create=create,
        find_opener=find_opener,
        ask=settings.find_value,
        environment=settings.environment,
    )


@contextlib.contextmanager
def guard(
    open_it: Callable[[], Store], settings: Settings, notify: Notify, *, read_only: bool, is_configured: bool = True
) -> Iterator[Store]:
    """Open a store by that function for the time of the block; one that is too old is a StoreRolledBackError at once.

    `min-generation` is that of the settings' own store (`is_configured`), and says nothing about another.
    """
    check = make_age_check(settings, has_minimum=is_configured)
    with contextlib.closing(open_it()) as store:
        try:
            if check:
                check(store.url, store.identify)
            yield store
            state = settings.find("state-file")
            if state and not read_only:
                _update_state(store, state.value, notify)
        finally:
            for text in store.take_notices():
                notify(Notice(text))


def make_age_check(settings: Settings, *, has_minimum: bool = True) -> Callable[[str, FindIdentity], None] | None:
    """Return what refuses a store that is older than the settings allow; None where they allow any. ConfigError."""
    minimum, state = settings.find("min-generation") if has_minimum else None, settings.find("state-file")
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


def _find_cache(settings: Settings, target: Target) -> TargetCache | None:
    """Return the target's cache, None where the settings want none; MasterKeyError without a key to seal it."""
    scheme = find_scheme(settings.store.value)
    if not scheme or not scheme.can_be_cached or not settings.find("cache"):
        return None
    duration = settings.get_duration("cache")
    if not duration:
        return None
    from ..stores.cache import TargetCache

    missing = [each for each in settings.key_sources if each.kind == "file" and not os.path.lexists(each.place)]
    if missing:
        raise MasterKeyError(
            f"there is no key file {missing[0].place}, and `cache` keeps nothing unsealed",
            hint="`ic-secrets key new` makes one; without the setting `cache` a server needs none",
        )
    environment = settings.environment
    namespace = environment.get("BAO_NAMESPACE") or environment.get("VAULT_NAMESPACE") or ""
    place = (settings.store.value, namespace)
    return TargetCache(settings.cache_directory, place, target, settings.load_keys(), duration)


def _open_cached(open_it: Callable[[], Store], cache: TargetCache) -> Callable[[], Store]:
    from ..stores.cache import open_store

    return lambda: open_store(open_it, cache)


def _parse_generation(setting: Setting) -> int:
    if not (setting.value.isascii() and setting.value.isdigit() and len(setting.value) <= 18):
        raise ConfigError(
            f"{setting.source} is {setting.value!r}, which is not a generation",
            hint="a whole number; `ic-secrets run --receipt FILE` writes down the store's",
        )
    return int(setting.value)


def _update_state(store: Store, path: str, notify: Notify) -> None:
    """Remember what was written. It is in the store already, so a failure changes no outcome."""
    from ..stores.rollback import update_state

    try:
        update_state(store, path)
    except IcSecretsError as error:
        notify(Notice(f"the store was written, but {error}", error.hint))
