"""A plugin's store, whose faults are reported under the plugin's name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from ..errors import IcSecretsError
from ..model import Holdings
from ..model.secret import Hosts, Override, Owner, Scope, Secret, Site
from ..stores import Identity, Place, Store, Write
from .faults import contain_faults


class PluginStore(Store):
    """A store that passes each call to a plugin's; it raises our own errors as they are, others as PluginError."""

    def __init__(
        self,
        store: Store,
        plugin: str,
        contain: Callable[..., contextlib.AbstractContextManager[None]] = contain_faults,
    ) -> None:
        self._store = store
        self._plugin = plugin
        self._contain = contain
        with self._call("its attributes"):
            self.url, self.only_site = store.url, store.only_site
            self.has_organizations, self.master_id = store.has_organizations, store.master_id
            self.has_hosts = store.has_hosts

    def _call(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return self._contain(self._plugin, f"as a store, in {doing}", IcSecretsError)

    def site(self, name: str) -> Site:
        with self._call("site"):
            return self._store.site(name)

    def sites(self) -> Iterator[Site]:
        with self._call("sites"):
            return iter(list(self._store.sites()))

    def owners(self) -> Iterator[Owner]:
        with self._call("owners"):
            return iter(list(self._store.owners()))

    def set_site(self, site: Site) -> None:
        with self._call("set_site"):
            self._store.set_site(site)

    def delete_site(self, name: str) -> int:
        with self._call("delete_site"):
            return self._store.delete_site(name)

    def read(
        self, owner: Owner, *, environment: str | None = None, scope: Scope | None = None, values: bool = True
    ) -> Holdings:
        with self._call("read"):
            return self._store.read(owner, environment=environment, scope=scope, values=values)

    def read_chain(
        self, owner: Owner, *, environment: str | None = None, scope: Scope | None = None, values: bool = False
    ) -> tuple[Holdings, ...]:
        with self._call("read_chain"):
            chain = self._store.read_chain(owner, environment=environment, scope=scope, values=values)
            self.cached = self._store.cached
            return chain

    def put(self, place: Place, write: Write) -> bool:
        if write.hosts and not self.has_hosts:
            self.refuse_hosts(place)
        with self._call("put"):
            return self._store.put(place, write)

    def bind(self, owner: Owner, name: str, hosts: Hosts) -> None:
        with self._call("bind"):
            self._store.bind(owner, name, hosts)

    def delete(self, place: Place) -> int:
        with self._call("delete"):
            return self._store.delete(place)

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        return self._enter("transaction", self._store.transaction)

    def snapshot(self) -> contextlib.AbstractContextManager[None]:
        return self._enter("snapshot", self._store.snapshot)

    def close(self) -> None:
        with self._call("close"):
            self._store.close()

    def identify(self) -> Identity | None:
        with self._call("identify"):
            return self._store.identify()

    def check_supported(self, item: Secret | Override) -> None:
        super().check_supported(item)
        with self._call("check_supported"):
            self._store.check_supported(item)

    def take_notices(self) -> tuple[str, ...]:
        with self._call("take_notices"):
            return self._store.take_notices()

    @contextlib.contextmanager
    def _enter(self, name: str, make: Callable[[], contextlib.AbstractContextManager[None]]) -> Iterator[None]:
        with self._call(name):
            context = make()
            context.__enter__()
        try:
            yield
        except BaseException as error:
            with self._call(name), contextlib.suppress(type(error)):  # the block's own error is raised below
                context.__exit__(type(error), error, error.__traceback__)
            raise
        with self._call(name):
            context.__exit__(None, None, None)
