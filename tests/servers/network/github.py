"""GitHub, as far as Composer and git ask it: the API, the downloads that it signs, and the repositories.

To the letter of its documentation: a private repository that is asked bare is 404; a bare request for a public one is
counted (60 an hour, here none are left); pages after the first, and renamed repositories, are named by a number.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path

from servers.network.base import NOT_FOUND, Answer, Asked, Host, basic
from servers.network.git import Repository, build_repositories, describe_file, serve_git

_API = "https://api.github.com"
_PAGE = 100
_LIMITED = {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "4000000000"}
_UNLIMITED = {"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "4990", "X-RateLimit-Reset": "4000000000"}
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="GitHub"'}


@dataclass
class GitHub(Host):
    """github.com, api.github.com and codeload.github.com.

    `token` is the one that it knows; `renamed` are old names of repositories; `is_limited` says that bare requests are
    used up; `hook` is what only a token sees that a build does not need.
    """

    names: tuple[str, ...] = ("github.com", "api.github.com", "codeload.github.com")
    token: str = field(default_factory=lambda: f"ghp_{secrets.token_hex(18)}", repr=False)
    hook: str = field(default_factory=lambda: f"hook-{secrets.token_hex(12)}", repr=False)
    signature: str = field(default_factory=lambda: secrets.token_hex(14).upper(), repr=False)
    repositories: dict[str, Repository] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    is_limited: bool = True

    def __post_init__(self) -> None:
        self.forms = {
            ("authorization", f"token {self.token}"): "token",
            ("authorization", f"Bearer {self.token}"): "token",
            basic(self.token, "x-oauth-basic"): "git",
            basic("x-access-token", self.token): "git",
        }

    @classmethod
    def make(cls, directory: Path) -> GitHub:
        """Make it with its repositories: `github`, `many` (with 120 tags), `renamed`, `hidden`, and `open` to all."""
        names = ["acme/github", "acme/many", "acme/renamed", "acme/hidden", "acme/open"]
        found = build_repositories(directory, names, public=["acme/open"])
        found["acme/many"].add_tags(118)
        return cls(repositories=found, renamed={"acme/old": "acme/renamed"})

    def answer(self, asked: Asked, sender: str) -> Answer:
        if asked.host == "codeload.github.com":
            return self._answer_download(asked, sender)
        if asked.host == "github.com":
            return self._answer_git(asked, sender)
        if sender == "wrong":
            return Answer(401, {"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"})
        answer = self._answer_api(asked, sender)
        return answer._replace(headers={**(_UNLIMITED if sender else _LIMITED), **answer.headers})

    def _answer_api(self, asked: Asked, sender: str) -> Answer:
        if asked.method not in {"GET", "HEAD"}:
            return Answer(201, {"id": 1}) if sender else NOT_FOUND
        first, *words = asked.path.strip("/").split("/")
        if first == "repositories" and words:
            found = next((each for each in self.repositories.values() if str(each.number) == words[0]), None)
            rest = words[1:]
        else:
            name, rest = "/".join(words[:2]), words[2:]
            if name in self.renamed:
                number = self.repositories[self.renamed[name]].number
                tail = "".join(f"/{word}" for word in rest) + (f"?{asked.query_string}" if asked.query_string else "")
                url = f"{_API}/repositories/{number}{tail}"
                return (
                    Answer(301, {"message": "Moved Permanently", "url": url}, {"Location": url})
                    if sender
                    else NOT_FOUND
                )
            found = self.repositories.get(name) if first == "repos" else None
        if not found or (found.is_private and not sender):
            return NOT_FOUND
        if not sender and self.is_limited:
            return Answer(403, {"message": "API rate limit exceeded for 127.0.0.1."})
        return self._show(found, rest, asked)

    def _show(self, repository: Repository, rest: list[str], asked: Asked) -> Answer:
        owner, name = repository.name.split("/")
        match rest:
            case []:
                return Answer(
                    200,
                    {
                        "id": repository.number,
                        "name": name,
                        "full_name": repository.name,
                        "private": repository.is_private,
                        "owner": {"login": owner},
                        "html_url": f"https://github.com/{repository.name}",
                        "clone_url": f"https://github.com/{repository.name}.git",
                        "url": f"{_API}/repos/{repository.name}",
                        "default_branch": "main",
                        "has_issues": False,
                        "archived": False,
                    },
                )
            case ["contents", *path]:
                content = repository.read_file(asked.query.get("ref", "main"), "/".join(path))
                return Answer(200, describe_file(content)) if content else NOT_FOUND
            case ["commits", commit]:
                date = repository.find_date(commit)
                return Answer(200, {"sha": commit, "commit": {"committer": {"date": date}}}) if date else NOT_FOUND
            case ["tags"]:
                return self._list_tags(repository, asked)
            case ["git", "refs", "heads"]:
                refs = repository.list_refs("heads")
                return Answer(200, [{"ref": f"refs/heads/{ref}", "object": {"sha": sha}} for ref, sha in refs])
            case ["zipball", commit]:
                place = f"https://codeload.github.com/{repository.name}/legacy.zip/{commit}"
                sign = f"?token={self.signature}" if repository.is_private else ""
                return Answer(302, b"", {"Location": place + sign})
            case ["hooks"]:
                return Answer(200, [{"config": {"secret": self.hook}}])
        return NOT_FOUND

    def _list_tags(self, repository: Repository, asked: Asked) -> Answer:
        size = min(int(asked.query.get("per_page", 30)), _PAGE)
        page = int(asked.query.get("page", 1))
        tags = repository.list_refs("tags")
        last = -(-len(tags) // size)
        links = {"next": page + 1, "last": last} if page < last else {}
        base = f"{_API}/repositories/{repository.number}/tags?per_page={size}"
        link = ", ".join(f'<{base}&page={number}>; rel="{name}"' for name, number in links.items())
        shown = [{"name": name, "commit": {"sha": sha}} for name, sha in tags[(page - 1) * size : page * size]]
        return Answer(200, shown, {"Link": link} if link else {})

    def _answer_download(self, asked: Asked, sender: str) -> Answer:
        """Its URL is signed where that is needed; a credential beside the signature is refused, as by S3."""
        owner, name, _, commit = asked.path.strip("/").split("/")
        repository = self.repositories.get(f"{owner}/{name}")
        if sender:
            return Answer(400, b"Only one auth mechanism allowed")
        if not repository or (repository.is_private and asked.query.get("token") != self.signature):
            return Answer(404, b"404: Not Found")
        archive = repository.make_archive(commit)
        return Answer(200, archive, {"Content-Type": "application/zip"}) if archive else Answer(404)

    def _answer_git(self, asked: Asked, sender: str) -> Answer:
        name = "/".join(asked.path.strip("/").split("/")[:2]).removesuffix(".git")
        repository = self.repositories.get(self.renamed.get(name, name))
        is_known = sender == "git"
        if name in self.renamed and is_known:
            rest = asked.path.partition(name)[2].removeprefix(".git")
            url = f"https://github.com/{self.renamed[name]}.git{rest}?{asked.query_string}"
            return Answer(301, b"", {"Location": url})
        writes = "git-receive-pack" in asked.path + asked.query_string
        if not is_known and (not repository or repository.is_private or writes):
            return Answer(401, b"Repository not found.", _CHALLENGE)
        return serve_git(repository, asked, "robot" if is_known else "") if repository else Answer(404, b"Not Found")
