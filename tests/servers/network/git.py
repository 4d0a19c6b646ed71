"""Repositories of a host: made of trees, read for an API, and served over smart HTTP by git's own program."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers import packages
from servers.network.base import Answer, Asked

_IDENTITY = dict.fromkeys(["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"], "Fixtures")
_IDENTITY |= dict.fromkeys(["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"], "fixtures@example.org")
_ENVIRONMENT = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull} | _IDENTITY


@dataclass(frozen=True)
class Repository:
    """A bare repository, its full name (`acme/one`), and the number by which a forge knows it."""

    name: str
    number: int
    root: Path
    is_private: bool = True

    @property
    def path(self) -> Path:
        return self.root / f"{self.name}.git"

    def list_refs(self, kind: str) -> list[tuple[str, str]]:
        """Return the names and commits below `refs/KIND`, as forges list tags: the newest name first."""
        lines = self.run("for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", f"refs/{kind}").decode()
        return [(name, commit) for name, commit in map(str.split, reversed(lines.splitlines()))]

    def read_file(self, commit: str, path: str) -> bytes | None:
        return self._try("show", f"{commit}:{path}")

    def find_date(self, commit: str) -> str | None:
        found = self._try("log", "-1", "--format=%cI", commit)
        return found.decode().strip() if found else None

    def make_archive(self, commit: str) -> bytes | None:
        return self._try("archive", "--format=zip", f"--prefix={self.name.replace('/', '-')}-{commit[:7]}/", commit)

    def add_tags(self, number: int) -> None:
        """Give the main branch's commit so many further tags."""
        commit = self.run("rev-parse", "main").decode().strip()
        lines = "".join(f"create refs/tags/0.{each}.0 {commit}\n" for each in range(number))
        self.run("update-ref", "--stdin", stdin=lines.encode())

    def run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        command = ["git", "-C", str(self.path), *arguments]
        return subprocess.run(command, check=True, input=stdin, capture_output=True, env=_ENVIRONMENT).stdout

    def _try(self, *arguments: str) -> bytes | None:
        try:
            return self.run(*arguments)
        except subprocess.CalledProcessError:
            return None


def describe_file(content: bytes) -> dict[str, Any]:
    """Return a file as GitHub and Forgejo show it."""
    return {"type": "file", "encoding": "base64", "content": base64.encodebytes(content).decode()}


def build_repositories(root: Path, names: Sequence[str], public: Collection[str] = ()) -> dict[str, Repository]:
    """Make the repositories in `root`, each with a package of its name; return them by these."""
    trees = root / "trees"
    for name in names:
        tree = trees / name
        tree.mkdir(parents=True)
        manifest = {"name": name, "description": "A package", "license": "proprietary"}
        (tree / "composer.json").write_text(json.dumps(manifest))
    packages.build(trees, root / "git", "")
    return {name: Repository(name, 1000 + each, root / "git", name not in public) for each, name in enumerate(names)}


def serve_git(repository: Repository, asked: Asked, user: str) -> Answer:
    """Answer a request for the repository, `/OWNER/NAME.git/…`; a push is taken from whoever is somebody."""
    environment = _ENVIRONMENT | {
        "GIT_PROJECT_ROOT": str(repository.root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": asked.path,
        "QUERY_STRING": asked.query_string,
        "REQUEST_METHOD": asked.method,
        "CONTENT_TYPE": asked.headers.get("content-type", ""),
        "CONTENT_LENGTH": str(len(asked.body)),
        "GIT_PROTOCOL": asked.headers.get("git-protocol", ""),
        "HTTP_CONTENT_ENCODING": asked.headers.get("content-encoding", ""),
        "REMOTE_USER": user,
        "REMOTE_ADDR": "127.0.0.1",
    }
    done = subprocess.run(["git", "http-backend"], env=environment, input=asked.body, capture_output=True)
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    lines = (line.partition(": ") for line in head.decode().splitlines())
    headers = {name: value for name, _, value in lines}
    status = int(headers.pop("Status", "200").split()[0]) if head else 500
    return Answer(status, body, headers)
