"""The receipt of a build: what was exposed, and the proof that it is gone. It contains no value, nor a part of one.

Its schema is docs/receipt.schema.json.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..composer.version import ask_composer_version, ask_revision
from ..core.files import read_start, replace_file
from ..core.notices import Notice, Notify
from ..errors import BuildError
from ..model.secret import SecretType
from ..stores.base import Cached
from .prepare import PreparedBuild
from .render import SECRETS_FILE, SECRETS_VARIABLE
from .request import BuildRequest
from .secrets import BuildSecret

if TYPE_CHECKING:  # what searches is loaded while the build runs, not before
    from ..broker import Report
    from ..git.clones import Residue
    from ..leaks.findings import SearchResult
    from .expose import Exposure

SCHEMA = "ic-secrets.receipt/1"
# The schema's name stands this early in a receipt.
_START_BYTES = 100


class Receipt:
    """One build's, from its start. `document` is the receipt itself, once the build is over."""

    def __init__(self, request: BuildRequest) -> None:
        self.started = time.time()
        self.notices: list[Notice] = []
        self.versions: Mapping[str, str | None] = {}
        self.document: dict[str, Any] | None = None
        self._request = request

    def listen(self, notify: Notify) -> Notify:
        """Return the same `notify`, which also keeps the notice for the receipt."""

        def keep(notice: Notice) -> None:
            if notice.level != "note":  # the receipt itself says what was done
                self.notices.append(notice)
            notify(notice)

        return keep

    def write(self) -> None:
        """Write it where the request asks for it; BuildError when it cannot be written."""
        path = self._request.receipt
        if path is None or self.document is None:
            return
        try:
            replace_file(os.path.realpath(path), (json.dumps(self.document, indent=2) + "\n").encode())
        except OSError as error:
            raise BuildError(f"the receipt {path} cannot be written: {error.strerror}") from None

    def render(
        self, exposure: Exposure, mended: Sequence[Residue], result: SearchResult | None, status: int
    ) -> dict[str, Any]:
        """Make the document, as its schema describes it, of an exposure that has been scrubbed."""
        from .places import PlaceNames

        prepared, target = exposure.prepared, self._request.target
        preserved = prepared.preserved
        store, cached = prepared.loaded.store, prepared.loaded.cached
        find_place = PlaceNames(exposure).find
        self.document = {
            "schema": SCHEMA,
            "target": {"site": target.site, "environment": target.environment},
            "scope": self._request.scope.value,
            "program": os.path.basename(prepared.program),
            "revision": self.versions.get("revision"),
            "versions": {"ic-secrets": __version__, "composer": self.versions.get("composer")},
            "started": _format(self.started),
            "ended": _format(time.time()),
            "status": status,
            **({"store": store._asdict()} if store else {}),
            **({"cached": describe_cached(cached)} if cached else {}),
            "secrets": [
                *(describe_secret(secret, prepared) for secret in prepared.secrets if secret.name not in preserved),
                *prepared.unseen,
            ],
            "preserved": list(preserved),
            "minted": sorted({needle.name for needle in exposure.minted.needles}),
            "masked": dict(sorted(exposure.masked.items())),
            "git": {
                "seen_in_arguments": list(exposure.hosts_seen),
                "mended": [
                    {"path": residue.path, "place": find_place(residue.path), "hosts": list(residue.hosts)}
                    for residue in mended
                ],
            },
            **({"isolation": {"mode": prepared.isolation.ability.mode}} if prepared.isolation else {}),
            **({"broker": _describe_traffic(exposure.report)} if exposure.report else {}),
            "leaks": _describe_search(result, self._request.leaks, find_place),
            "scrub": {
                "complete": exposure.failure is None,
                "paths": [{"path": path, "gone": not os.path.lexists(path)} for path in exposure.scrubbed],
            },
            "notices": [{"level": notice.level, "text": notice.text} for notice in self.notices],
        }
        return self.document


def check_writable(path: str) -> None:
    """Raise BuildError when no receipt can be written there: before the build rather than after it."""
    path = os.path.realpath(path)
    directory = os.path.dirname(path)
    is_fit = os.path.isfile(path) or not os.path.lexists(path)
    if not is_fit or not os.access(directory, os.W_OK | os.X_OK):
        raise BuildError(f"the receipt {path} cannot be written", hint="--receipt takes a file in a directory of yours")
    start = read_start(path, _START_BYTES)
    if start and SCHEMA.partition("/")[0].encode() not in start:  # a store, a key or a log would be gone
        raise BuildError(f"{path} exists and is not a receipt", hint="remove it first, or name another file")


def find_versions(prepared: PreparedBuild) -> dict[str, str | None]:
    """Find the project's git revision and Composer's version; None for one that is not known."""
    environment, directory = prepared.outside, prepared.project.directory
    return {
        "revision": ask_revision(environment, directory),
        "composer": ask_composer_version(environment, directory),
    }


def describe_cached(cached: Cached | None) -> dict[str, Any] | None:
    """Describe when cached secrets were read, and why the server was not asked; None where it was."""
    if cached is None or cached.moment is None:
        return None
    return {"time": _format(cached.moment), "reason": cached.reason}


def describe_secret(secret: BuildSecret, prepared: PreparedBuild) -> dict[str, Any]:
    """Describe a secret by its name, type, source and version, and where the build finds it; never by its value."""
    return {
        "name": secret.name,
        "type": secret.type.value,
        "source": secret.source,
        "version": secret.version,
        "destination": _describe_destination(secret, prepared),
    }


def _describe_destination(secret: BuildSecret, prepared: PreparedBuild) -> dict[str, Any]:
    if secret.type is SecretType.RUNTIME:
        return {"file": SECRETS_FILE, "named_by": SECRETS_VARIABLE}
    if secret.name in prepared.placeholders:
        return {"broker": True, "variable": secret.name, "hosts": list(secret.hosts)}
    credentials = [secret.credential] if secret.credential else secret.variable.credentials if secret.variable else None
    if credentials is None:
        return {"variable": secret.name}
    names = {credential.name for credential in credentials}
    exposed = {
        "auth_json": bool(names),
        "git_helper": any(login.name in names for login in prepared.secrets.logins),
    }
    where = {"broker": True} if prepared.request.broker else exposed
    if secret.credential:
        return {**where, "method": secret.credential.method, "host": secret.credential.host}
    return {**where, "hosts": sorted({credential.host for credential in credentials})}


def _describe_traffic(report: Report) -> dict[str, Any]:
    return {
        "hosts": [{**traffic._asdict(), "secrets": list(traffic.secrets)} for traffic in report.hosts],
        "attempts": [attempt._asdict() for attempt in report.attempts],
        "notices": [words for words, _ in report.notices],
        "lost": report.is_lost,
    }


def _describe_search(result: SearchResult | None, mode: str, find_place: Callable[[str], str]) -> dict[str, Any]:
    if result is None:
        return {"mode": mode, "searched_files": 0, "searched_bytes": 0, "findings": [], "unsearched": []}
    return {
        "mode": mode,
        "searched_files": result.files,
        "searched_bytes": result.size,
        "findings": [
            {
                "path": finding.path,
                "place": find_place(finding.path),
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
