"""The store of many machines: an OpenBao server (or one that speaks the same protocol), a KV version 2 engine.

`bao+https://HOST:8200/MOUNT`. Its paths are those of `layout`, and `client` asks the server.
A token may see less than everything: what is read and may not be seen is an error, never an absence. Only a value that
may not be read back is None.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from ...client.http import Trust, parse_timeout
from ...composer.methods import check_name
from ...errors import NotReadableError, StoreBusyError, UnknownSecretError, UnknownSiteError
from ...model.names import SITE, check_environment, check_site_name
from ...model.resolve import Holdings, check_base, choose_hosts, find_base
from ...model.secret import Hosts, Override, Owner, Scope, Secret, Site
from ..base import Place, Store, Write
from ..registry import StoreRequest
from . import layout
from .client import BaoClient, Mount, split_store_url
from .login import Ask, Session, log_in, log_out
from .reading import Selection, list_locations, list_locations_of, read_name, read_owners
from .transaction import Transaction

# How long a write is tried again where somebody else's came in between, in seconds, and the longest pause before that.
_PATIENCE = 30.0
_PAUSE = 1.0
# How often a site is read that is changed meanwhile.
_READINGS = 3
_Result = TypeVar("_Result")


def open_store(url: str, ask: Ask, environment: Mapping[str, str]) -> "BaoStore":
    """Open the store of the URL, and log in; ConfigError, StoreDeniedError, StoreUnreachableError.

    `ask` gives the settings by their names in the catalogue; `environment` holds the tokens.
    """

    def get(name: str) -> str:
        return environment.get(f"BAO_{name}") or environment.get(f"VAULT_{name}") or ""

    address, mount = split_store_url(url)
    client = BaoClient(
        address,
        timeout=parse_timeout("bao-timeout", ask("bao-timeout")),
        namespace=get("NAMESPACE"),
        trust=Trust(get("CACERT"), get("CAPATH"), get("CLIENT_CERT"), get("CLIENT_KEY")),
    )
    try:
        session = log_in(client, ask, environment)
    except BaseException:
        client.close()
        raise
    client.token = session.token
    return BaoStore(url, client, mount, session)


def open_request(request: StoreRequest) -> "BaoStore":
    """Open the store of the URL, with the errors of `open_store`."""
    return open_store(request.url, request.ask, request.environment)


class BaoStore(Store):
    """A mount of a server, as one token sees it."""

    has_hosts = True

    def __init__(self, url: str, client: BaoClient, mount: str, session: Session) -> None:
        """Use `open_store` instead."""
        self.url = url
        self._client = client
        self._session = session
        self._mount = Mount(client, mount)
        self._transaction = Transaction(self._mount)
        self._depth = 0

    # --- sites ------------------------------------------------------------------------------------------

    def site(self, name: str) -> Site:
        with self._reading():
            return self._site(name)

    def sites(self) -> Iterator[Site]:
        with self._reading():
            names = self._transaction.list_named(layout.SITES, SITE)
            nodes = self._transaction.get([layout.get_record_path(name) for name in names])
            found = [layout.make_site(name, node) for name, node in zip(names, nodes, strict=True) if node]
        return iter(found)

    def owners(self) -> Iterator[Owner]:
        sites = [Owner("site", site.name) for site in self.sites()]
        with self._reading():
            organizations = [
                Owner("organization", name) for name in self._transaction.list_named(layout.ORGANIZATIONS, SITE)
            ]
        return iter(sites + organizations)

    def set_site(self, site: Site) -> None:
        check_site_name(site.name)
        for organization in (site.organization, *site.supporting):
            if organization is not None:
                check_site_name(organization, "organization")
        self._write_whole(lambda: self._write_site(site))

    def delete_site(self, name: str) -> int:
        return self._write_whole(lambda: self._delete_site(name))

    # --- secrets ----------------------------------------------------------------------------------------

    def read(
        self, owner: Owner, *, environment: str | None = None, scope: Scope | None = None, values: bool = True
    ) -> Holdings:
        with self._reading():
            return read_owners(self._transaction, [owner], Selection(environment, scope, values))[0]

    def read_chain(
        self, owner: Owner, *, environment: str | None = None, scope: Scope | None = None, values: bool = False
    ) -> tuple[Holdings, ...]:
        """As every store: after the site's record, one wave of lists and one of reads.

        For a build (`ic`, of an environment) or an application (`web`) nothing is asked that it does not get.
        """
        is_narrow = environment is not None and scope in {Scope.IC, Scope.WEB}
        selection = Selection(environment, scope, values, is_narrow)
        for _ in range(_READINGS):
            with self._reading():
                organization = self._site(owner.name).organization if owner.is_site else None
                owners = [owner, *([Owner("organization", organization)] if organization else [])]
                found = read_owners(self._transaction, owners, selection)
                # What went with the site meanwhile is not the organization's to replace.
                record = layout.get_record_path(owner.name)
                if not organization or self._depth or not self._transaction.has_changed(record):
                    return found
        raise StoreBusyError(f"{record} was changed while it was read", hint="repeat the command")

    def put(self, place: Place, write: Write) -> bool:
        check_site_name(place.owner.name, "site" if place.owner.is_site else "organization")
        if place.environment is None:
            return self._write_whole(lambda: self._put_base(place, write))
        check_environment(place.environment)
        return self._write_whole(lambda: self._put_override(place, write))

    def bind(self, owner: Owner, name: str, hosts: Hosts) -> None:
        self._write_whole(lambda: self._bind(Place(owner, None, name), hosts))

    def delete(self, place: Place) -> int:
        return self._write_whole(lambda: self._delete(place))

    # --- transactions -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """As every store. The server writes path by path: others may see a part of it while it is being written."""
        if not self._depth:
            self._transaction.clear()
        size = self._transaction.size
        self._depth += 1
        try:
            yield
        except BaseException:
            self._transaction.cut(size)
            raise
        finally:
            self._depth -= 1
            if not self._depth and not self._transaction.size:
                self._transaction.clear()
        if not self._depth:
            self._transaction.commit()

    def snapshot(self) -> contextlib.AbstractContextManager[None]:
        """As every store; a server has no such thing, so each read is of its own moment."""
        return contextlib.nullcontext()

    def take_notices(self) -> tuple[str, ...]:
        return self._transaction.take_notices()

    def close(self) -> None:
        """Revoke the token that was made for us, and let go of the connections."""
        log_out(self._client, self._session)
        self._client.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Read everything anew, unless in a transaction."""
        if not self._depth:
            self._transaction.clear()
        yield

    def _write_whole(self, work: Callable[[], _Result]) -> _Result:
        """Do the work in a transaction, and repeat it where somebody else wrote in between: many take their turns."""
        end, longest = time.monotonic() + _PATIENCE, 0.02
        while True:
            try:
                with self.transaction():
                    return work()
            except StoreBusyError:
                if self._depth or time.monotonic() > end:
                    raise
            longest = min(longest * 2, _PAUSE)
            time.sleep(longest * int.from_bytes(os.urandom(2), "big") / 65536)

    # --- reading ----------------------------------------------------------------------------------------

    def _site(self, name: str) -> Site:
        check_site_name(name)
        node = self._transaction.get([layout.get_record_path(name)])[0]
        if node is None:
            raise UnknownSiteError(f"{self.url} does not know the site {name}")
        return layout.make_site(name, node)

    def _read_name_chain(self, owner: Owner, name: str) -> list[Holdings]:
        chain = [read_name(self._transaction, owner, name)]
        if owner.is_site:
            record = self._transaction.get([layout.get_record_path(owner.name)])[0]
            organization = layout.make_site(owner.name, record).organization if record else None
            if organization:
                chain.append(read_name(self._transaction, Owner("organization", organization), name))
        return chain

    # --- writing ----------------------------------------------------------------------------------------

    def _delete_site(self, name: str) -> int:
        record = self._transaction.get([layout.get_record_path(name)])[0]
        paths = list_locations(self._transaction, [Owner("site", name)], Selection())[0]
        nodes = self._transaction.get([path for path, _ in paths], is_lenient=True)
        if record is None and not any(nodes):  # with values, but no record, it is what a killed deletion left
            self._site(name)
        for path, _ in ((layout.get_record_path(name), None), *paths):
            self._transaction.delete(path)
        return sum(node is not None for node in nodes)

    def _delete(self, place: Place) -> int:
        owner, environment, name = place
        places = list_locations_of(self._transaction, owner, name)
        places = [(path, where) for path, where in places if environment in (None, where)]
        nodes = self._transaction.get([path for path, _ in places], is_lenient=True)
        found = [(path, where, node) for (path, where), node in zip(places, nodes, strict=True) if node is not None]
        bases = {node.meta.get("id") for _, where, node in found if where is None}
        # An override of the organization's secret stays; one that another tool wrote goes.
        paths = [path for path, _, node in found if not bases or node.meta.get("id") in {*bases, None}]
        if not paths:
            raise UnknownSecretError(f"there is no secret {place}")
        for path in paths:
            self._transaction.delete(path)
        return len(paths)

    def _write_site(self, site: Site) -> None:
        path = layout.get_record_path(site.name)
        node, data = self._transaction.get([path])[0], layout.render_site(site)
        if node is None or not data.items() <= node.data.items():
            self._transaction.put(path, data)

    def _put_base(self, place: Place, write: Write) -> bool:
        owner, _, name = place
        chain = self._read_name_chain(owner, name)
        kind, scopes = check_base(name, chain, write.type, write.scopes)
        check_name(kind, name)
        old = chain[0].secrets[0] if chain[0].secrets else None
        if owner.is_site and self._transaction.get([layout.get_record_path(owner.name)])[0] is None:
            self._write_site(Site(owner.name))
        write = write._replace(type=kind, scopes=scopes, hosts=choose_hosts(kind, write.hosts, old))
        self._write(place, write, old, old.id if old else os.urandom(16).hex())
        return old is None

    def _bind(self, place: Place, hosts: Hosts) -> None:
        """Write the value once more, with other hosts: the server takes a secret whole or not at all."""
        held = read_name(self._transaction, place.owner, place.name)
        if not held.secrets:
            raise UnknownSecretError(f"there is no secret {place}")
        old = held.secrets[0]
        hosts = choose_hosts(old.type, hosts, None)
        if old.value is None:
            raise NotReadableError(
                f"the store does not give the value of {place}, with which its hosts are written",
                hint="set the value too, along with the hosts",
            )
        times = (old.created, old.changed)
        self._write(place, Write(old.value, old.type, old.scopes, old.expires, times, hosts), old, old.id)

    def _put_override(self, place: Place, write: Write) -> bool:
        owner, environment, name = place
        assert environment is not None
        chain = self._read_name_chain(owner, name)
        base = find_base(environment, name, chain, write.type, write.scopes, write.hosts)
        old = next((one for one in chain[0].overrides if one.environment == environment), None)
        kept = old
        if old and old.base != base.id:  # it is inert: its custom metadata stay as they are, so it goes
            self._transaction.delete(layout.locate(owner, environment, name, old.scopes))
            kept = None
        self._write(place, write._replace(type=base.type, scopes=base.scopes, hosts=None), kept, base.id)
        return old is None

    def _write(self, place: Place, write: Write, old: Secret | Override | None, identity: str) -> None:
        """Write it in the place of `old`, with its type and scopes, which are known by now."""
        assert write.type is not None
        assert write.scopes is not None
        now = int(time.time())
        created, changed = write.times or (now, now)
        if old:
            created = old.created
            changed = changed if write.times else max(changed, old.changed)
        path = layout.locate(*place, write.scopes)
        self._transaction.get([path])
        self._transaction.put(path, layout.make_data(identity, write, created, changed))
