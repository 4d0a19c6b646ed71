"""A Forgejo, as codeberg.org is one."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path

from servers.network.base import NOT_FOUND, Answer, Asked, Host, basic
from servers.network.git import Repository, build_repositories, describe_file, serve_git


@dataclass
class Forgejo(Host):
    """A server that knows a user and a token."""

    names: tuple[str, ...] = ("codeberg.org",)
    user: str = "robot"
    token: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)
    repositories: dict[str, Repository] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.forms = {
            basic(self.user, self.token): "basic",
            ("authorization", f"token {self.token}"): "token",
        }

    @classmethod
    def make(cls, directory: Path, names: tuple[str, ...] = ("acme/forgejo",)) -> Forgejo:
        return cls(repositories=build_repositories(directory, names))

    def answer(self, asked: Asked, sender: str) -> Answer:
        is_api = asked.path.startswith("/api/v1/repos/")
        words = asked.path.removeprefix("/api/v1/repos").strip("/").split("/")
        repository = self.repositories.get("/".join(words[:2]).removesuffix(".git"))
        if sender == "wrong":
            return Answer(401, {"message": "invalid username, password or token"})
        if not is_api:
            if not sender:
                return Answer(401, b"Unauthorized", {"WWW-Authenticate": 'Basic realm="Gitea"'})
            return serve_git(repository, asked, "robot") if repository else Answer(404, b"Not Found")
        return self._show(repository, words[2:], asked) if repository and sender else NOT_FOUND

    def _show(self, repository: Repository, rest: list[str], asked: Asked) -> Answer:
        url = f"https://{self.names[0]}/{repository.name}"
        match rest:
            case []:
                return Answer(
                    200,
                    {
                        "id": repository.number,
                        "full_name": repository.name,
                        "html_url": url,
                        "clone_url": f"{url}.git",
                        "ssh_url": f"git@{self.names[0]}:{repository.name}.git",
                        "private": repository.is_private,
                        "default_branch": "main",
                        "has_issues": False,
                        "archived": False,
                    },
                )
            case ["contents", *path]:
                content = repository.read_file(asked.query.get("ref", "main"), "/".join(path))
                return Answer(200, describe_file(content)) if content else NOT_FOUND
            case ["git", "commits", commit]:
                date = repository.find_date(commit)
                return Answer(200, {"sha": commit, "commit": {"committer": {"date": date}}}) if date else NOT_FOUND
            case ["tags"]:
                return Answer(200, [{"name": n, "commit": {"sha": s}} for n, s in repository.list_refs("tags")])
            case ["branches"]:
                return Answer(200, [{"name": n, "commit": {"id": s}} for n, s in repository.list_refs("heads")])
            case ["archive", name]:
                archive = repository.make_archive(name.removesuffix(".zip"))
                return Answer(200, archive, {"Content-Type": "application/zip"}) if archive else NOT_FOUND
        return NOT_FOUND
