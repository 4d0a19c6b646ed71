"""Repositories of Composer's own type, behind a credential of any form, with what they announce for POSTs."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from servers import packages
from servers.network.base import Answer, Asked, Host

_ADVISORY = {
    "advisoryId": "PKSA-1",
    "title": "A hole",
    "link": "https://example.org/1",
    "cve": None,
    "affectedVersions": "<1.1.0",
    "sources": [{"name": "Fixtures", "remoteId": "1"}],
    "reportedAt": "2024-01-01 00:00:00",
    "composerRepository": "fixtures",
}


@dataclass
class ComposerRepository(Host):
    """A repository with one package of its own and what else is `added` to its metadata.

    It announces where it wants to be told of installs, and where it is asked for advisories and for its filter of
    malware: `told` are those of which it was.
    """

    directory: Path = field(default_factory=Path)
    package: str = ""
    added: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    challenge: str = 'Basic realm="private"'

    @classmethod
    def make(
        cls, directory: Path, host: str, package: str, form: tuple[tuple[str, str], str] | None
    ) -> ComposerRepository:
        tree = directory / "trees" / package
        tree.mkdir(parents=True)
        manifest = {"name": package, "description": "A package", "license": "proprietary"}
        (tree / "composer.json").write_text(json.dumps(manifest))
        root = directory / host
        packages.build(directory / "trees", root, f"https://{host}")
        return cls((host,), dict([form] if form else []), root, package)

    def answer(self, asked: Asked, sender: str) -> Answer:
        if self.forms and sender in {"", "wrong"}:
            return Answer(401, {"message": "Unauthenticated"}, {"WWW-Authenticate": self.challenge})
        match asked.path.strip("/").split("/"):
            case ["packages.json"]:
                return Answer(200, self._announce())
            case ["p2", vendor, name]:
                return self._describe(f"{vendor}/{name.removesuffix('.json')}")
            case ["dist", *path] if (self.directory / "dist").joinpath(*path).is_file():
                file = (self.directory / "dist").joinpath(*path)
                return Answer(200, file.read_bytes(), {"Content-Type": "application/zip", "ETag": f'"{file.name}"'})
            case ["downloads" | "advisories" | "filter" as what] if asked.method == "POST":
                self.told.append(what)
                return Answer(200, self._tell(what, unquote(asked.body.decode())))
            case ["account"]:
                return Answer(200, {"method": asked.method})
        return Answer(404, {"message": "Not Found"})

    def _announce(self) -> dict[str, Any]:
        return {
            "packages": [],
            "metadata-url": "/p2/%package%.json",
            "available-packages": [self.package, *self.added],
            "notify-batch": "/downloads",
            "security-advisories": {"metadata": False, "api-url": f"https://{self.names[0]}/advisories"},
            "filter": {
                "metadata": True,
                "lists": {"malware": {"enabled": True}},
                "api-url": f"https://{self.names[0]}/filter",
            },
        }

    def _describe(self, name: str) -> Answer:
        if name in self.added:
            return Answer(200, {"packages": {name: self.added[name]}})
        file = self.directory / "p2" / f"{name}.json"
        if not file.is_file():
            return Answer(404, {"message": "Not Found"})
        versions = json.loads(file.read_text())["packages"][name]
        notice = {"notification-url": f"https://{self.names[0]}/downloads"}
        return Answer(200, {"packages": {name: [{**version, **notice} for version in versions]}})

    def _tell(self, what: str, names: str) -> dict[str, Any]:
        if what == "advisories":
            found = [{**_ADVISORY, "packageName": self.package}]
            return {"advisories": {self.package: found} if self.package in names else {}}
        return {"filter": {}} if what == "filter" else {"status": "success"}


def make_password() -> str:
    """A password with the characters that get credentials wrong."""
    return f"{secrets.token_hex(6)}/@%+\"\\ '${secrets.token_hex(6)}"
