"""A server's store that goes on for a while where the server cannot be reached: a build gets what it got last.

What a build of a target reads is kept in a sealed file (`sealed`) under the person's master key: the site's record, and
of the site and its primary organization what that build sees, nothing else. The file's store id is made of the store's
URL, the namespace and the target, its generation is the time at which the server was asked, and its MAC binds both.

A cache never outlives an answer: one that gives the secrets replaces it, any other removes it. It is opened only where
there was no answer at all, and only for as long after the last one as the person allows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from hashlib import sha256

from ..core.durations import format_duration
from ..errors import IcSecretsError, StoreError, StoreUnreachableError, StoreUntrustedError, UnknownSiteError
from ..keys.sealing import MasterKey, encode
from ..model.resolve import Holdings
from ..model.secret import Hosts, Override, Owner, Scope, Secret, Site, Target
from . import sealed_file as sealed
from .base import Cached, Place, Store, Write
from .cache_files import CacheDirectory


class TargetCache:
    """What one store on a server gave the builds of one target."""

    def __init__(
        self,
        directory: str,
        place: Sequence[str],
        target: Target,
        keys: Sequence[MasterKey],
        duration: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`place` is the store's URL and whatever else says which it is; `duration` is in seconds.

        The first of the keys seals, any of them opens.
        """
        self.url = place[0]
        self.target = target
        self.duration = duration
        self._directory = CacheDirectory(directory)
        self._identity = sha256(encode("ic-secrets/1 cache", *place, str(target))).hexdigest()[:32]
        self._keys = keys
        self._clock = clock

    @property
    def path(self) -> str:
        """Return the path of the file."""
        return self._directory.locate(self._identity)

    def now(self) -> int:
        """Return the time, in whole seconds."""
        return int(self._clock())

    def keep(self, chain: Sequence[Holdings], moment: int) -> str:
        """Keep what the server gave at that time; why it could not be, or nothing. What others left is swept."""
        site = Site(self.target.site, chain[1].owner.name if len(chain) > 1 else None)
        try:
            data = sealed.render(self._keys[0], self._identity, moment, [site], map(_take_values, chain))
            self._directory.write(self._identity, data, moment)
        except (OSError, IcSecretsError) as error:
            return _name_fault(error)
        self._directory.sweep(lambda kept: not 0 <= moment - kept <= self.duration)
        return ""

    def recall(self, error: StoreUnreachableError) -> tuple[Store, int]:
        """Return what was kept, and of when; else the error, with the reason why there is nothing to go on with."""
        try:
            data = self._directory.read(self._identity)
            store = None if data is None else sealed.parse(self.path, data, lambda: self._keys)
        except (OSError, StoreError) as fault:
            raise _explain(error, f"the cache cannot be used either: {_name_fault(fault)}") from None
        if store is None:
            raise _explain(error, f"the cache has nothing of {self.target}: a build that reaches the server fills it")
        if store.store_id != self._identity:
            raise _explain(error, f"the cache cannot be used either: {self.path} is another one's")
        age = self.now() - store.generation
        if age < 0:
            raise _explain(error, f"the cache of {self.target} is of a time to come: was the clock put back?")
        if age > self.duration:
            self.forget()
            allowed = format_duration(self.duration)
            raise _explain(
                error, f"the cache of {self.target} was {format_duration(age)} old; `cache` allows {allowed}"
            )
        return store, store.generation

    def forget(self) -> str:
        """Remove what was kept; why it could not be, or nothing."""
        try:
            self._directory.remove(self._identity)
        except OSError as error:
            return _name_fault(error)
        return ""


def open_store(open_server: Callable[[], Store], cache: TargetCache) -> CachedStore:
    """Open the server's store, with that cache; whatever `open_server` raises where the cache is of no help."""
    try:
        return CachedStore(open_server(), cache)
    except StoreUnreachableError as error:
        store = CachedStore(None, cache)
        store.fall_back(error)
        return store
    except StoreError as error:
        _forget(cache, error)
        raise


class CachedStore(Store):
    """A server's store. `read_chain` alone ever answers from the cache, and then `cached` says so."""

    def __init__(self, server: Store | None, cache: TargetCache) -> None:
        """`open_store` is the way here. Without a server `fall_back` is to be called at once."""
        self.cached: Cached | None = None
        self._server = server
        self._cache = cache
        self._kept: Store | None = None
        self._error = StoreUnreachableError("the server was not reached")
        self.url = cache.url
        self.has_hosts = server is None or server.has_hosts

    def fall_back(self, error: StoreUnreachableError) -> None:
        """Go on with what was kept; the error where that cannot be."""
        self._kept, moment = self._cache.recall(error)
        self._error = error
        self.cached = Cached(moment, str(error))

    def read_chain(
        self, owner: Owner, *, environment: str | None = None, scope: Scope | None = None, values: bool = False
    ) -> tuple[Holdings, ...]:
        """As every store. Once the cache was asked, the server is not asked again."""
        target = self._cache.target
        is_builds = values and (owner, environment, scope) == (Owner.site(target.site), target.environment, Scope.IC)
        if self._kept is None:
            moment = self._cache.now()
            try:
                chain = self._reach().read_chain(owner, environment=environment, scope=scope, values=values)
            except StoreUnreachableError as error:
                self.fall_back(error)
            except (StoreError, UnknownSiteError) as error:
                if is_builds:
                    _forget(self._cache, error)
                raise
            else:
                fault = self._cache.keep(chain, moment) if is_builds else ""
                self.cached = Cached(None, fault) if fault else self.cached
                return chain
        if self._kept is None or owner != Owner.site(target.site):
            raise self._error
        return self._kept.read_chain(owner, environment=environment, scope=scope, values=values)

    # --- the server alone ---------------------------------------------------------------------------------

    def site(self, name: str) -> Site:
        return self._reach().site(name)

    def sites(self) -> Iterator[Site]:
        return self._reach().sites()

    def owners(self) -> Iterator[Owner]:
        return self._reach().owners()

    def set_site(self, site: Site) -> None:
        self._reach().set_site(site)

    def delete_site(self, name: str) -> int:
        return self._reach().delete_site(name)

    def read(
        self, owner: Owner, *, environment: str | None = None, scope: Scope | None = None, values: bool = True
    ) -> Holdings:
        return self._reach().read(owner, environment=environment, scope=scope, values=values)

    def put(self, place: Place, write: Write) -> bool:
        return self._reach().put(place, write)

    def bind(self, owner: Owner, name: str, hosts: Hosts) -> None:
        self._reach().bind(owner, name, hosts)

    def delete(self, place: Place) -> int:
        return self._reach().delete(place)

    def transaction(self) -> AbstractContextManager[None]:
        return self._reach().transaction()

    def snapshot(self) -> AbstractContextManager[None]:
        """As every store; what was kept is of one moment."""
        return self._server.snapshot() if self._server else nullcontext()

    def close(self) -> None:
        if self._server:
            self._server.close()

    def _reach(self) -> Store:
        if self._server is None:
            raise self._error
        return self._server


def _forget(cache: TargetCache, error: IcSecretsError) -> None:
    """Remove the cache, since the server's answer was that error; where it cannot be, the error says that too.

    Who cannot prove to be the server, or stands in its way, has no say in it.
    """
    if isinstance(error, StoreUntrustedError):
        return
    fault = cache.forget()
    if fault:
        error.hint = f"remove {cache.path}, which could not be removed: {fault}"


def _take_values(held: Holdings) -> Holdings:
    """Return what was opened of it: what the build sees."""

    def is_opened(item: Secret | Override) -> bool:
        return item.value is not None

    return held._replace(
        secrets=tuple(filter(is_opened, held.secrets)), overrides=tuple(filter(is_opened, held.overrides))
    )


def _explain(error: StoreUnreachableError, reason: str) -> StoreUnreachableError:
    return StoreUnreachableError(str(error), hint=reason)


def _name_fault(error: OSError | IcSecretsError) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
