"""A GitLab, that of gitlab.com or one's own: the API of projects, a registry of packages, and the repositories."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from servers.network.base import Answer, Asked, Host, basic
from servers.network.git import Repository, build_repositories, serve_git

_NOT_FOUND = Answer(404, {"message": "404 Project Not Found"})
_PAGE = 100


def _make_token(prefix: str) -> str:
    return f"{prefix}{secrets.token_urlsafe(15)}"


@dataclass
class GitLab(Host):
    """A server that knows a personal token, one of OAuth, one of a CI job, and a deploy token with its user name.

    With `registry`, a package of that name is in its package registry, for which a job's token is enough.
    """

    token: str = field(default_factory=lambda: _make_token("glpat-"), repr=False)
    oauth: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    job: str = field(default_factory=lambda: _make_token("glcbt-64_"), repr=False)
    deploy: tuple[str, str] = field(default_factory=lambda: ("gitlab+deploy-7", _make_token("gldt-")), repr=False)
    variable: str = field(default_factory=lambda: f"variable-{secrets.token_hex(12)}", repr=False)
    repositories: dict[str, Repository] = field(default_factory=dict)
    registry: str = ""

    def __post_init__(self) -> None:
        self.forms = {
            ("private-token", self.token): "private-token",
            ("authorization", f"Bearer {self.oauth}"): "oauth",
            ("job-token", self.job): "job-token",
            basic("gitlab-ci-token", self.job): "job",
            basic(*self.deploy): "deploy",
            basic("oauth2", self.oauth): "oauth",
            basic("oauth2", self.token): "git",
            basic("private-token", self.token): "git",
        }

    @classmethod
    def make(cls, directory: Path, host: str, names: tuple[str, ...], registry: str = "") -> GitLab:
        return cls((host,), repositories=build_repositories(directory, names), registry=registry)

    def answer(self, asked: Asked, sender: str) -> Answer:
        if not asked.path.startswith("/api/v4/"):
            return self._answer_git(asked, sender)
        if sender == "wrong":
            return Answer(401, {"message": "401 Unauthorized"})
        words = [unquote(word) for word in asked.path.removeprefix("/api/v4/").split("/")]
        if words[0] == "group":
            return self._answer_registry(asked, words, sender)
        found = self._find(words[1]) if words[0] == "projects" and len(words) > 1 else None
        if not found or not sender:
            return _NOT_FOUND
        return self._show(found, words[2:], asked)

    def _find(self, name: str) -> Repository | None:
        return next((each for each in self.repositories.values() if name in {each.name, str(each.number)}), None)

    def _show(self, repository: Repository, rest: list[str], asked: Asked) -> Answer:
        host = self.names[0]
        match rest:
            case []:
                return Answer(
                    200,
                    {
                        "id": repository.number,
                        "path_with_namespace": repository.name,
                        "default_branch": "main",
                        "visibility": "private",
                        "issues_enabled": False,
                        "archived": False,
                        "web_url": f"https://{host}/{repository.name}",
                        "http_url_to_repo": f"https://{host}/{repository.name}.git",
                        "ssh_url_to_repo": f"git@{host}:{repository.name}.git",
                        "runners_token": self.variable,
                    },
                )
            case ["repository", "tags" | "branches" as kind]:
                return self._list_refs(repository, kind, asked)
            case ["repository", "files", path, "raw"]:
                content = repository.read_file(asked.query["ref"], path)
                return Answer(200, content) if content else _NOT_FOUND
            case ["repository", "archive.zip"] | ["packages", "composer", "archives", _, _]:
                archive = repository.make_archive(asked.query["sha"])
                return Answer(200, archive, {"Content-Type": "application/zip"}) if archive else _NOT_FOUND
            case ["variables"]:
                return Answer(200, [{"key": "KEY", "value": self.variable}])
        return _NOT_FOUND

    def _list_refs(self, repository: Repository, kind: str, asked: Asked) -> Answer:
        """Its next links have the number of the project."""
        size = min(int(asked.query.get("per_page", 20)), _PAGE)
        page = int(asked.query.get("page", 1))
        refs = repository.list_refs({"tags": "tags", "branches": "heads"}[kind])
        base = f"https://{self.names[0]}/api/v4/projects/{repository.number}/repository/{kind}?per_page={size}"
        link = {"Link": f'<{base}&page={page + 1}>; rel="next"'} if page * size < len(refs) else {}
        shown = [
            {"name": name, "commit": {"id": sha, "committed_date": repository.find_date(sha)}}
            for name, sha in refs[(page - 1) * size : page * size]
        ]
        return Answer(200, shown, link)

    def _answer_registry(self, asked: Asked, words: list[str], sender: str) -> Answer:
        """The registry of a group: `group/ID/-/packages/composer/…`, its archives at the project's."""
        repository = self.repositories.get(self.registry)
        if not sender or not repository:
            return Answer(401, {"message": "401 Unauthorized"}, {"WWW-Authenticate": 'Basic realm="GitLab Packages"'})
        base = f"/api/v4/group/{words[1]}/-/packages/composer"
        match words[5:]:
            case ["packages.json"]:
                url = f"{base}/p2/%package%.json"
                return Answer(200, {"packages": [], "metadata-url": url, "available-packages": [self.registry]})
            case ["p2", _, _]:
                return Answer(200, {"packages": {self.registry: self._list_versions(repository)}})
        return _NOT_FOUND

    def _list_versions(self, repository: Repository) -> list[dict[str, object]]:
        base = f"https://{self.names[0]}/api/v4/projects/{repository.number}/packages/composer/archives"
        return [
            {
                "name": self.registry,
                "version": version,
                "dist": {"type": "zip", "url": f"{base}/{self.registry}.zip?sha={sha}", "reference": sha, "shasum": ""},
            }
            for version, sha in repository.list_refs("tags")
        ]

    def _answer_git(self, asked: Asked, sender: str) -> Answer:
        name = "/".join(asked.path.strip("/").split("/")[:2]).removesuffix(".git")
        repository = self.repositories.get(name)
        if sender in {"", "wrong"}:
            return Answer(401, b"HTTP Basic: Access denied", {"WWW-Authenticate": 'Basic realm="GitLab"'})
        return serve_git(repository, asked, "robot") if repository else Answer(404, b"Not Found")
