"""The receipt of a build: what was exposed, and the proof that it is gone. No value, no part of one.

Its schema is docs/receipt.schema.json.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from .. import __version__
from ..composer.methods import METHODS
from ..composer.minted import MintedTokens
from ..composer.version import ask_composer_version, ask_revision
from ..core.files import read_regular, replace_file
from ..core.notices import Notice, Notify
from ..errors import BuildError, ScrubIncompleteError
from ..model.names import split_composer_name
from ..model.resolve import Definition
from ..model.secret import SecretType
from ..stores.base import Cached
from .prepare import BuildRequest, Preparation

if TYPE_CHECKING:
    from ..git.clones import Residue
    from ..leaks.search import SearchResult

SCHEMA = "ic-secrets.receipt/1"
# The schema's name stands this early in a receipt.
_START_BYTES = 100


class Exposed(Protocol):
    """What a receipt asks of an exposure that has ended."""

    scrubbed: tuple[str, ...]
    hosts_seen: tuple[str, ...]
    mended: tuple[Residue, ...]
    minted: MintedTokens
    failure: ScrubIncompleteError | None

    @property
    def masked(self) -> Mapping[str, int]:
        """How often each secret was masked in the output."""


class Receipt:
    """One build's, from its start."""

    def __init__(self, request: BuildRequest) -> None:
        self._request = request
        self._started = time.time()
        self._notices: list[Notice] = []
        self.versions: Mapping[str, str | None] = {}

    @classmethod
    def resume(
        cls,
        request: BuildRequest,
        started: float,
        versions: Mapping[str, str | None],
        notices: Sequence[Notice],
    ) -> Receipt:
        """That of a build that another process has started."""
        receipt = cls(request)
        receipt._started, receipt._notices, receipt.versions = started, list(notices), versions
        return receipt

    @property
    def started(self) -> float:
        """When the build began, in Unix time."""
        return self._started

    @property
    def notices(self) -> Sequence[Notice]:
        """What was told so far."""
        return self._notices

    def listen(self, notify: Notify) -> Notify:
        """The same `notify`, which also keeps the notice for the receipt."""

        def keep(notice: Notice) -> None:
            self._notices.append(notice)
            notify(notice)

        return keep

    def write(self, document: Mapping[str, Any] | None) -> None:
        """Write it where the request asks for it; BuildError when it cannot be written."""
        path = self._request.receipt
        if path is None or document is None:
            return
        try:
            replace_file(os.path.realpath(path), (json.dumps(document, indent=2) + "\n").encode())
        except OSError as error:
            raise BuildError(f"the receipt {path} cannot be written: {error.strerror}") from None

    def render(
        self, preparation: Preparation, exposure: Exposed, result: SearchResult | None, status: int
    ) -> dict[str, Any]:
        """The document, as its schema describes it."""
        target = self._request.target
        return {
            "schema": SCHEMA,
            "target": {"site": target.site, "environment": target.environment},
            "scope": self._request.scope.value,
            "program": os.path.basename(preparation.program),
            "revision": self.versions.get("revision"),
            "versions": {"ic-secrets": __version__, "composer": self.versions.get("composer")},
            "started": _format(self._started),
            "ended": _format(time.time()),
            "status": status,
            **({"store": preparation.store._asdict()} if preparation.store else {}),
            **({"cached": describe_cached(preparation.cached)} if preparation.cached else {}),
            "secrets": [describe_secret(secret, preparation) for secret in preparation.secrets],
            "minted": sorted({needle.name for needle in exposure.minted.needles}),
            "masked": dict(sorted(exposure.masked.items())),
            "git": {
                "seen_in_arguments": list(exposure.hosts_seen),
                "mended": [{"path": residue.path, "hosts": list(residue.hosts)} for residue in exposure.mended],
            },
            "leaks": _describe_search(result, self._request.leaks),
            "scrub": {
                "complete": exposure.failure is None,
                "paths": [{"path": path, "gone": not os.path.lexists(path)} for path in exposure.scrubbed],
            },
            "notices": [{"level": notice.level, "text": notice.text} for notice in self._notices],
        }


def check_writable(path: str) -> None:
    """BuildError when no receipt can be written there: said before the build rather than after it."""
    path = os.path.realpath(path)
    directory = os.path.dirname(path)
    is_fit = os.path.isfile(path) or not os.path.lexists(path)
    if not is_fit or not os.access(directory, os.W_OK | os.X_OK):
        raise BuildError(f"the receipt {path} cannot be written", hint="--receipt takes a file in a directory of yours")
    start = read_regular(path, _START_BYTES)
    if start and SCHEMA.partition("/")[0].encode() not in start:  # a store, a key or a log would be gone
        raise BuildError(f"{path} is there, and is no receipt", hint="remove it first, or name another file")


def find_versions(preparation: Preparation) -> dict[str, str | None]:
    """The project's git revision and Composer's version, None where there is none to be had."""
    environment = preparation.request.environment
    return {
        "revision": ask_revision(environment, preparation.project),
        "composer": ask_composer_version(environment, preparation.project),
    }


def describe_cached(cached: Cached | None) -> dict[str, Any] | None:
    """Of which time the secrets are that came from the cache, and why the server was not asked; None where it was."""
    if cached is None or cached.moment is None:
        return None
    return {"time": _format(cached.moment), "reason": cached.reason}


def describe_secret(secret: Definition, preparation: Preparation) -> dict[str, Any]:
    """What of a secret is told: its name, type, source and version, and where the build finds it; never its value."""
    destination: dict[str, Any] = {"variable": secret.name}
    if secret.type is SecretType.COMPOSER:
        method, host = split_composer_name(secret.name)
        assert method in METHODS
        destination = {
            "auth_json": host not in preparation.git_alone,
            "git_helper": any(login.name == secret.name for login in preparation.logins),
            "method": method,
            "host": host,
        }
    elif secret.type is SecretType.RUNTIME:
        from .application import SECRETS_FILE, VARIABLE

        destination = {"file": SECRETS_FILE, "named_by": VARIABLE}
    return {
        "name": secret.name,
        "type": secret.type.value,
        "source": secret.source,
        "version": secret.version,
        "destination": destination,
    }


def _describe_search(result: SearchResult | None, mode: str) -> dict[str, Any]:
    if result is None:
        return {"mode": mode, "searched_files": 0, "searched_bytes": 0, "findings": [], "unsearched": []}
    return {
        "mode": mode,
        "searched_files": result.files,
        "searched_bytes": result.size,
        "findings": [
            {
                "path": finding.path,
                "member": finding.member,
                "line": finding.line,
                "offset": finding.offset,
                "where": finding.where,
                "secret": finding.name,
                "encoding": finding.encoding,
            }
            for finding in result.findings
        ],
        "unsearched": [{"path": path, "reason": reason} for path, reason in result.unsearched],
    }


def _format(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
