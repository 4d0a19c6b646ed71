"""Bitbucket's cloud: it mints access tokens, and serves repositories to whoever has one, or a token for the API."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path

from servers.network.base import Answer, Asked, Host, basic
from servers.network.git import Repository, build_repositories, serve_git

_API = "https://api.bitbucket.org/2.0/repositories"
_REFUSED = Answer(401, {"type": "error"}, {"WWW-Authenticate": 'Basic realm="Bitbucket"'})
_NOT_FOUND = Answer(404, {"type": "error", "error": {"message": "Not Found"}})


@dataclass
class Bitbucket(Host):
    """bitbucket.org and api.bitbucket.org: the consumer, the token that it mints for it, and an e-mail's API token."""

    names: tuple[str, ...] = ("bitbucket.org", "api.bitbucket.org")
    consumer: tuple[str, str] = field(
        default_factory=lambda: (f"key-{secrets.token_hex(8)}", f"consumer-{secrets.token_hex(16)}"), repr=False
    )
    access: str = field(default_factory=lambda: f"{secrets.token_hex(16)}/{secrets.token_hex(8)}+=", repr=False)
    api: tuple[str, str] = field(
        default_factory=lambda: ("robot@example.org", f"ATATT3x{secrets.token_hex(24)}"), repr=False
    )
    repositories: dict[str, Repository] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.forms = {
            basic(*self.consumer): "consumer",
            ("authorization", f"Bearer {self.access}"): "access",
            basic("x-token-auth", self.access): "access-git",
            basic(*self.api): "api",
            basic("x-bitbucket-api-token-auth", self.api[1]): "api-git",
        }

    @classmethod
    def make(cls, directory: Path) -> Bitbucket:
        return cls(repositories=build_repositories(directory, ["acme/bitbucket"]))

    def answer(self, asked: Asked, sender: str) -> Answer:
        if asked.path == "/site/oauth2/access_token":
            is_right = asked.method == "POST" and sender == "consumer"
            if not is_right or asked.form.get("grant_type") != "client_credentials":
                return _REFUSED
            return Answer(200, {"access_token": self.access, "token_type": "bearer", "expires_in": 7200})
        if asked.host == "api.bitbucket.org":
            words = asked.path.removeprefix("/2.0/repositories/").split("/")
            repository = self.repositories.get("/".join(words[:2]))
            if sender not in {"access", "api"}:
                return _REFUSED
            return self._show(repository, words[2:]) if repository else _NOT_FOUND
        words = asked.path.strip("/").split("/")
        repository = self.repositories.get("/".join(words[:2]).removesuffix(".git"))
        if sender in {"", "wrong", "consumer"} or not repository:
            return _REFUSED
        if words[2:3] == ["get"]:
            archive = repository.make_archive(words[3].removesuffix(".zip"))
            return Answer(200, archive, {"Content-Type": "application/zip"}) if archive else _NOT_FOUND
        return serve_git(repository, asked, "robot") if sender.endswith("-git") else _REFUSED

    def _show(self, repository: Repository, rest: list[str]) -> Answer:
        base = f"{_API}/{repository.name}"
        url = f"https://bitbucket.org/{repository.name}"
        match rest:
            case []:
                links = {
                    "branches": {"href": f"{base}/refs/branches"},
                    "tags": {"href": f"{base}/refs/tags"},
                    "html": {"href": url},
                    "clone": [{"name": "https", "href": f"{url}.git"}],
                }
                about = {"scm": "git", "website": "", "has_issues": False, "mainbranch": {"name": "main"}}
                return Answer(200, {**about, "links": links})
            case ["refs", "branches" | "tags" as kind]:
                refs = repository.list_refs({"branches": "heads", "tags": "tags"}[kind])
                return Answer(200, {"values": [{"name": n, "target": {"hash": s}, "heads": []} for n, s in refs]})
            case ["src", commit, *path]:
                content = repository.read_file(commit, "/".join(path))
                return Answer(200, content) if content else _NOT_FOUND
            case ["commit", commit]:
                date = repository.find_date(commit)
                return Answer(200, {"date": date}) if date else _NOT_FOUND
        return _NOT_FOUND
