"""The kinds of stores, one record for each scheme: whoever needs to know something about a kind asks here.

A store that comes with a plugin is found by its opener alone; it has the defaults of a record.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..core.records import NamedTuple
from ..errors import ConfigError
from ..model.names import name_variable

if TYPE_CHECKING:
    from ..keys.sealing import MasterKey
    from .base import Store
    from .names import Names

# The scheme of a path without one.
EMBEDDED = "sqlite"


class StoreRequest(NamedTuple):
    """What an opener is given: the URL of a store, and its `path`, which is the part after the scheme.

    A store that needs master keys gets them from `load_keys`, its settings by their names from `ask`, and tokens from
    the `environment`. A store that is opened `read_only` is never written.
    """

    url: str
    path: str
    load_keys: "Callable[[], Sequence[MasterKey]]"
    read_only: bool = False
    ask: Callable[[str], str | None] = lambda _: None
    environment: Mapping[str, str] = os.environ


StoreOpener = Callable[[StoreRequest], "Store"]


class Scheme(NamedTuple):
    """A kind of store: `url` shows people how its URLs are written, `summary` says what it is.

    `create` opens a store to copy to, creating it if it does not exist; None if that kind cannot be copied to.
    `is_path` says that a path follows the scheme, which a configuration file may give relative to itself. `settings`
    are those that only this kind takes. What a build gets from a store that `can_be_cached` may be kept for when it
    does not answer. `read_names` and `read_key_id` read what a store at a path shows without its key.
    """

    name: str
    url: str
    summary: str
    open: StoreOpener
    create: StoreOpener | None = None
    is_path: bool = False
    is_read_only: bool = False
    can_be_cached: bool = False
    has_policies: bool = False
    settings: tuple[str, ...] = ()
    read_names: "Callable[[str], Names] | None" = None
    read_key_id: Callable[[str], str] | None = None


def split_url(url: str) -> tuple[str, str]:
    """Return the scheme and the rest; a path without a scheme is that of an embedded store."""
    scheme, colon, rest = url.partition(":")
    if colon and scheme.replace("+", "").replace("-", "").isalnum() and "/" not in scheme:
        return scheme.lower(), rest
    return EMBEDDED, url


def find_scheme(url: str) -> Scheme | None:
    """Return the record of the URL's scheme; None where it is not one of ours."""
    return SCHEMES.get(split_url(url)[0])


def open_store(
    url: str,
    load_keys: "Callable[[], Sequence[MasterKey]]",
    *,
    read_only: bool = False,
    create: bool = False,
    find_opener: Callable[[str], StoreOpener | None] | None = None,
    ask: Callable[[str], str | None] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> "Store":
    """Open the store that the URL names, which the caller closes; a bare path is an embedded store.

    ConfigError for an unknown scheme. `load_keys` is called only by a store that needs keys, and again by one that was
    rotated meanwhile; `find_opener` only for a scheme that is not ours. Settings come from `ask`; without it, from
    their variables. Tokens come from the `environment`. With `create` the store is to be copied to, and is made where
    there is none.
    """
    name, path = split_url(url)
    scheme = SCHEMES.get(name)
    opener = scheme.open if scheme else find_opener(name) if find_opener else None
    if opener is None:
        raise ConfigError(f"unknown store scheme {name}:", hint=f"the schemes are {list_urls(SCHEMES.values())}")
    if create:
        opener = scheme.create if scheme else None
        if opener is None:
            known = [each for each in SCHEMES.values() if each.create]
            raise ConfigError(f"a store cannot be copied to {name}:", hint=f"copy to {list_urls(known)}")
    return opener(StoreRequest(url, path, load_keys, read_only, ask or read_variables(environment), environment))


def list_urls(schemes: Iterable[Scheme]) -> str:
    """Return how the URLs of these kinds are written, for a hint."""
    return ", ".join(each.url for each in schemes)


def read_variables(environment: Mapping[str, str]) -> Callable[[str], str | None]:
    """Return a function that finds a setting, by its name, in its variable alone."""
    return lambda name: environment.get(name_variable(name)) or None


def _lazy(module: str, function: str) -> Callable[[Any], Any]:
    """Return a function of that module of ours, which is imported when the function is called."""

    def call(argument: object) -> Any:
        return vars(import_module(f".{module}", __package__))[function](argument)

    return call


_BAO = Scheme(
    "bao+https",
    "bao+https://HOST:8200/MOUNT",
    "an OpenBao server",
    _lazy("openbao.store", "open_request"),
    create=_lazy("openbao.store", "open_request"),
    can_be_cached=True,
    has_policies=True,
    settings=(
        *("bao-token-file", "bao-role-id", "bao-secret-id-file", "bao-wrapped-secret-id-file", "bao-jwt-file"),
        *("bao-role", "bao-audience", "bao-kubernetes-role", "bao-auth-mount", "bao-timeout", "cache"),
    ),
)
SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme(
            EMBEDDED,
            "sqlite:PATH",
            "the embedded store",
            _lazy("embedded.store", "open_request"),
            create=_lazy("embedded.store", "create_request"),
            is_path=True,
            read_names=_lazy("names", "read_embedded"),
            read_key_id=_lazy("embedded.store", "read_master_id"),
        ),
        Scheme(
            "sealed",
            "sealed:FILE",
            "a sealed file",
            _lazy("sealed_file", "open_request"),
            is_path=True,
            is_read_only=True,
            read_names=_lazy("names", "read_sealed"),
            read_key_id=_lazy("sealed_file", "read_key_id"),
        ),
        _BAO,
        _BAO._replace(name="bao+http", url="bao+http://localhost:8200/MOUNT", summary="an OpenBao server on loopback"),
        Scheme(
            "pantheon-file",
            "pantheon-file:PATH?site=SITE",
            "a site's `secrets.json`",
            _lazy("pantheon.file", "open_request"),
            create=_lazy("pantheon.file", "create_request"),
            is_path=True,
        ),
        Scheme(
            "pantheon",
            "pantheon:SITE",
            "Pantheon Secrets",
            _lazy("pantheon.store", "open_request"),
            create=_lazy("pantheon.store", "create_request"),
            settings=("pantheon-token-file", "pantheon-url", "pantheon-timeout"),
        ),
    )
}
