"""One site's secrets.json as a store: what `terminus secret:site:local-generate` writes, and Pantheon's PHP SDK reads.

`pantheon-file:PATH[?site=NAME][&org=NAME]`. The file holds the site's id, not its name. Where the URL does not
name the site, a file that ic-secrets wrote belongs to the site whose name gives its id; one of the platform's, whose
ids are random, is read as that of any site, as `import` and the SDK do.
"""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...core.new_files import locked_directory, make_private_directory, new_file, replace_private
from ...errors import (
    ConfigError,
    NoPlaceError,
    StoreBusyError,
    StoreFormatError,
    StoreMissingError,
    StoreReadError,
    StoreWriteError,
    UnknownSiteError,
)
from ...model.names import check_site_name
from ..registry import StoreRequest
from .base import SecretsJsonStore, Step
from .secrets_json import derive_id, find_secrets, is_derived, parse_object, render, render_document

# Some thousands of the longest values.
_LARGEST = 64 << 20
_QUERY = r"((?:site|org)=[^&=?]*(?:&(?:site|org)=[^&=?]*)?)"
_HINT = "name it: pantheon-file:PATH?site=NAME"


def open_store(url: str) -> "PantheonFile":
    """Open the store of the URL; ConfigError, StoreMissingError, StoreReadError, StoreFormatError."""
    path, site, organization = split_file_url(url)
    store = PantheonFile(url, path, site, organization)
    store.load()
    return store


def create(url: str) -> "PantheonFile":
    """Open the file of the site in the URL, and create it first if it does not exist; ConfigError, StoreWriteError."""
    path, site, _ = split_file_url(url)
    if site is None:
        raise ConfigError("the store's URL does not name the site of the new file", hint=_HINT)
    try:
        make_private_directory(os.path.dirname(os.path.abspath(path)))
        with contextlib.suppress(FileExistsError), new_file(path) as partial, open(partial, "wb") as file:
            file.write((render(site, {}, []) + "\n").encode())
    except OSError as error:
        raise StoreWriteError(f"{path} cannot be created: {error.strerror}") from None
    return open_store(url)


def open_request(request: StoreRequest) -> "PantheonFile":
    """Open the file of the URL, with the errors of `open_store`."""
    return open_store(request.url)


def create_request(request: StoreRequest) -> "PantheonFile":
    """Open the file of the URL to copy to it, creating it if it does not exist; ConfigError where it names no site."""
    path, site, _ = split_file_url(request.url)
    if site is None:
        raise ConfigError("`copy` has to know which site the file is of", hint="pantheon-file:PATH?site=NAME")
    return open_store(request.url) if os.path.lexists(path) else create(request.url)


def split_file_url(url: str) -> tuple[str, str | None, str | None]:
    """Return the path, and the site and organization if the URL names them; ConfigError, InvalidNameError."""
    rest = url.partition(":")[2]
    found = re.fullmatch(rf"(.+)\?{_QUERY}", rest, re.DOTALL)
    path, query = (found[1], found[2]) if found else (rest, "")
    said = dict(part.split("=") for part in query.split("&") if part)
    if not path or len(said) != len([part for part in query.split("&") if part]):
        raise ConfigError("the store's URL does not name a file", hint="it is pantheon-file:PATH?site=NAME")
    site, organization = said.get("site"), said.get("org")
    if site is not None:
        check_site_name(site)
    if organization is not None:
        check_site_name(organization, "organization")
    return path, site, organization


class PantheonFile(SecretsJsonStore):
    """A secrets.json file, written whole at the end of a transaction, which locks its directory meanwhile."""

    _naming_hint = _HINT

    def __init__(self, url: str, path: str, site: str | None, organization: str | None) -> None:
        """Use `open_store` instead."""
        super().__init__(url, site, organization=organization, is_withheld=False)
        self._path = path
        self._text = ""

    def _is_of(self, site: str, document: Mapping[str, Any]) -> bool:
        """Return whether the file can belong to the site of that name."""
        site_id = document.get("SiteID")
        if site == self.only_site:
            return True
        return self.only_site is None and (not is_derived(site_id) or derive_id(site) == site_id)

    def load(self) -> dict[str, Any]:
        """Return the document as it is on disk; StoreReadError, StoreFormatError."""
        self._text = self._read()
        document = parse_object(self._text, self._path)
        find_secrets(document)
        return document

    # --- the file ---------------------------------------------------------------------------------------

    def _load(self, site: str) -> dict[str, Any]:
        document = self.load()
        if not self._is_of(site, document):
            hint = f"it belongs to {self.only_site}" if self.only_site else "its SiteID belongs to another name"
            raise UnknownSiteError(f"{self._path} does not belong to the site {site}", hint=hint)
        return document

    def _read(self) -> str:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise StoreMissingError(
                f"{self._path} does not exist",
                hint="`ic-secrets export SITE --format pantheon --plaintext -o FILE` makes one, "
                "or `terminus secret:site:local-generate`",
            ) from None
        except OSError as error:
            is_link = error.errno == errno.ELOOP
            why = "it is a symbolic link, which is not followed" if is_link else error.strerror
            raise StoreReadError(f"{self._path} cannot be read: {why}") from None
        try:
            with open(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise StoreFormatError(f"{self._path} is not a regular file")
                data = file.read(_LARGEST + 1)
        except OSError as error:
            raise StoreReadError(f"{self._path} cannot be read: {error.strerror}") from None
        if len(data) > _LARGEST:
            raise StoreFormatError(f"{self._path} is too large for a file of secrets")
        try:
            return data.decode().removeprefix("\ufeff")
        except UnicodeDecodeError:
            raise StoreFormatError(f"{self._path} is not UTF-8") from None

    @contextlib.contextmanager
    def _begin(self) -> Iterator[None]:
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(locked_directory(os.path.dirname(os.path.abspath(self._path))))
                unlock = stack.pop_all()
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise StoreBusyError(f"another process keeps the directory of {self._path} locked") from None
            raise StoreWriteError(f"{self._path} cannot be written: {error.strerror}") from None
        with unlock:
            yield

    def _save(self, steps: Sequence[Step]) -> None:
        if len({step.site for step in steps}) > 1:
            raise NoPlaceError(f"{self._path} belongs to one site", hint=_HINT)
        document = self._document(steps[0].site)
        secrets = find_secrets(document)
        document["Count"] = len(secrets)
        scopes = document.get("Scopes")
        known = list(scopes) if isinstance(scopes, list) else []
        listed = [raw.get("Scopes") for raw in secrets.values() if isinstance(raw, dict)]
        found = {scope for scopes in listed if isinstance(scopes, list) for scope in scopes if isinstance(scope, str)}
        document["Scopes"] = known + sorted(scope for scope in found if scope not in known)
        if self._read() != self._text:
            raise StoreBusyError(
                f"{self._path} was changed by another program meanwhile, and is left as it is",
                hint="repeat the command",
            )
        try:
            replace_private(self._path, (render_document(document) + "\n").encode())
        except OSError as error:
            raise StoreWriteError(f"{self._path} cannot be written: {error.strerror}") from None
        except UnicodeEncodeError:
            raise StoreFormatError(f"{self._path} contains half a character (a lone surrogate)") from None
