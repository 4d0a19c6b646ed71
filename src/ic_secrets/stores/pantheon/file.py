"""One site's secrets.json as a store: what `terminus secret:site:local-generate` writes, and Pantheon's PHP SDK reads.

`pantheon-file:PATH[?site=NAME][&org=NAME]`. The file holds the site's id alone. Where the URL names the site, it is
that one and no other. Else a file that ic-secrets wrote is of the site whose name gives its id; one of the platform's,
whose ids are random, is of the site that it is asked for, as with `import` and the SDK.
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
from .documents import DocumentStore, Step
from .secrets_json import derive_id, find_secrets, is_derived, parse_object, render, render_document

# Some thousands of the longest values.
_LARGEST = 64 << 20
_QUERY = r"((?:site|org)=[^&=?]*(?:&(?:site|org)=[^&=?]*)?)"
_HINT = "pantheon-file:PATH?site=NAME says it"


def open_store(url: str) -> "PantheonFile":
    """The store that the URL names; ConfigError, StoreMissingError, StoreReadError, StoreFormatError."""
    path, site, organization = split_file_url(url)
    store = PantheonFile(url, path, site, organization)
    store.load()
    return store


def create(url: str) -> "PantheonFile":
    """A store at a place where none is, of the site that the URL names; ConfigError, StoreWriteError."""
    path, site, _ = split_file_url(url)
    if site is None:
        raise ConfigError("the store's URL does not say which site the new file is of", hint=_HINT)
    try:
        make_private_directory(os.path.dirname(os.path.abspath(path)))
        with contextlib.suppress(FileExistsError), new_file(path) as partial, open(partial, "wb") as file:
            file.write((render(site, {}, []) + "\n").encode())
    except OSError as error:
        raise StoreWriteError(f"{path} cannot be made: {error.strerror}") from None
    return open_store(url)


def open_request(request: StoreRequest) -> "PantheonFile":
    """Open the file of the URL, with the errors of `open_store`."""
    return open_store(request.url)


def create_request(request: StoreRequest) -> "PantheonFile":
    """Open the file of the URL to copy to it, made where there is none; ConfigError where it names no site."""
    path, site, _ = split_file_url(request.url)
    if site is None:
        raise ConfigError("`copy` has to know which site the file is of", hint="pantheon-file:PATH?site=NAME")
    return open_store(request.url) if os.path.lexists(path) else create(request.url)


def split_file_url(url: str) -> tuple[str, str | None, str | None]:
    """The path, and the site and the organization if the URL names them; ConfigError, InvalidNameError."""
    rest = url.partition(":")[2]
    found = re.fullmatch(rf"(.+)\?{_QUERY}", rest, re.DOTALL)
    path, query = (found[1], found[2]) if found else (rest, "")
    said = dict(part.split("=") for part in query.split("&") if part)
    if not path or len(said) != len([part for part in query.split("&") if part]):
        raise ConfigError("the store's URL names no file", hint="it is pantheon-file:PATH?site=NAME")
    site, organization = said.get("site"), said.get("org")
    if site is not None:
        check_site_name(site)
    if organization is not None:
        check_site_name(organization, "organization")
    return path, site, organization


class PantheonFile(DocumentStore):
    """The file. Written whole at the end of a transaction, which keeps its directory locked meanwhile."""

    _naming_hint = _HINT

    def __init__(self, url: str, path: str, site: str | None, organization: str | None) -> None:
        """`open_store` is the way here."""
        super().__init__(url, site, organization=organization, is_withheld=False)
        self._path = path

    def _is_of(self, site: str, document: Mapping[str, Any]) -> bool:
        """Whether the file can be of the site of that name."""
        site_id = document.get("SiteID")
        if site == self.only_site:
            return True
        return self.only_site is None and (not is_derived(site_id) or derive_id(site) == site_id)

    def load(self) -> dict[str, Any]:
        """The document as it is on disk; StoreReadError, StoreFormatError."""
        document = parse_object(self._read(), self._path)
        find_secrets(document)
        return document

    # --- the file ---------------------------------------------------------------------------------------

    def _load(self, site: str) -> dict[str, Any]:
        document = self.load()
        if not self._is_of(site, document):
            hint = f"it is of {self.only_site}" if self.only_site else "its SiteID is that of another name"
            raise UnknownSiteError(f"{self._path} is not of the site {site}", hint=hint)
        return document

    def _read(self) -> str:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise StoreMissingError(
                f"there is no file {self._path}",
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
                    raise StoreFormatError(f"{self._path} is no regular file")
                data = file.read(_LARGEST + 1)
        except OSError as error:
            raise StoreReadError(f"{self._path} cannot be read: {error.strerror}") from None
        if len(data) > _LARGEST:
            raise StoreFormatError(f"{self._path} is larger than a file of secrets can be")
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
                raise StoreBusyError(f"the directory of {self._path} stays locked by another process") from None
            raise StoreWriteError(f"{self._path} cannot be written: {error.strerror}") from None
        with unlock:
            yield

    def _save(self, steps: Sequence[Step]) -> None:
        if len({step.site for step in steps}) > 1:
            raise NoPlaceError(f"{self._path} is of one site", hint=_HINT)
        document = self._document(steps[0].site)
        secrets = find_secrets(document)
        document["Count"] = len(secrets)
        told = document.get("Scopes")
        known = list(told) if isinstance(told, list) else []
        listed = [raw.get("Scopes") for raw in secrets.values() if isinstance(raw, dict)]
        found = {scope for scopes in listed if isinstance(scopes, list) for scope in scopes if isinstance(scope, str)}
        document["Scopes"] = known + sorted(scope for scope in found if scope not in known)
        try:
            replace_private(self._path, (render_document(document) + "\n").encode())
        except OSError as error:
            raise StoreWriteError(f"{self._path} cannot be written: {error.strerror}") from None
        except UnicodeEncodeError:
            raise StoreFormatError(f"{self._path} holds half a character (a lone surrogate)") from None
