"""Which hosts a project needs, and for what, by its composer.json and composer.lock. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .auth import Document

_URL = r"(?i)[a-z][a-z0-9+.-]*://(?:[^/@]*@)?([^/?#]+)"
# What Composer asks by an API rather than by git, whatever a project configures.
API_HOSTS = frozenset({"github.com", "gitlab.com", "bitbucket.org", "codeberg.org"})
_PUBLIC = frozenset({"repo.packagist.org", "packagist.org"})


class Needs:
    """The hosts that a project asks by git, and those that it asks by HTTP itself."""

    def __init__(self) -> None:
        self.git: set[str] = set()
        self.http: set[str] = set()
        self.is_complete = False

    @property
    def git_alone(self) -> frozenset[str]:
        """The hosts that git alone needs, as far as that can be known.

        Without a lock file a private repository may name downloads on any host: then none.
        """
        return frozenset(self.git - self.http) if self.is_complete else frozenset()


def read_needs(manifest: Document, lock: Document | None) -> Needs:
    """What composer.json (and composer.lock, where there is one) needs."""
    needs = Needs()
    config = manifest.get("config")
    apis = API_HOSTS | list_strings(config, "github-domains", "gitlab-domains")
    for repository in iterate_repositories(manifest):
        host = _host(repository.get("url"))
        kind = str(repository.get("type"))
        if host and kind in {"git", "vcs"} and not (kind == "vcs" and host in apis):
            needs.git.add(host)
        elif host:
            needs.http.add(host)
        if kind == "package":
            _add_packages(needs, repository.get("package"))
    if lock is not None:
        _add_packages(needs, lock.get("packages"))
        _add_packages(needs, lock.get("packages-dev"))
    needs.is_complete = lock is not None or not needs.http - _PUBLIC
    return needs


def _add_packages(needs: Needs, packages: Any) -> None:
    for package in packages if isinstance(packages, list) else [packages]:
        if not isinstance(package, dict):
            continue
        source, dist = package.get("source"), package.get("dist")
        if isinstance(source, dict) and source.get("type") == "git":
            needs.git |= _hosts(source)
        if isinstance(dist, dict):
            needs.http |= _hosts(dist)


def _hosts(place: Document) -> set[str]:
    mirrors = place.get("mirrors")
    urls = (
        [place.get("url"), *(m.get("url") for m in mirrors if isinstance(m, dict))]
        if isinstance(mirrors, list)
        else [place.get("url")]
    )
    return {host for url in urls if (host := _host(url))}


def iterate_repositories(manifest: Document) -> Iterator[Document]:
    """The entries of `repositories` that are some; `{"packagist.org": false}` has neither type nor URL."""
    repositories = manifest.get("repositories")
    if isinstance(repositories, dict):
        repositories = list(repositories.values())
    for repository in repositories if isinstance(repositories, list) else []:
        if isinstance(repository, dict):
            yield repository


def list_strings(section: Any, *names: str) -> frozenset[str]:
    """The texts in the lists of those names."""
    lists = [section.get(name) for name in names] if isinstance(section, dict) else []
    return frozenset(one for values in lists if isinstance(values, list) for one in values if isinstance(one, str))


def _host(url: Any) -> str | None:
    match = re.match(_URL, url) if isinstance(url, str) else None
    return match[1].lower() if match else None
