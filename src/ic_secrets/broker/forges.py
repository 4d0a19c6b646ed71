"""The forges' own paths: which of them a build needs, and which repository each one is about. Pure.

The endpoints are those of Composer's drivers (`Repository\\Vcs`) and of git. A path is matched after it was decoded
once, segment by segment, and in one spelling: the API begins with `/api`, also where it has a host of its own.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal
from urllib.parse import quote, unquote

from ..composer.repositories import ALIASES
from ..core.records import NamedTuple
from .targets import Endpoint

Shape = Literal["root", "api", "registry", "files", "git", ""]

_NAME = r"(?!\.{1,2}/)[^/\0]+"
_PAIR = rf"(?P<repository>{_NAME}/{_NAME})"
# GitLab has groups in groups; in its API the slashes of a project are encoded, here shown as \0.
_PROJECT = r"(?P<repository>[^/]+)"
_TREE = rf"(?P<repository>{_NAME}(?:/{_NAME})+?)"
_GIT = r"(?:\.git)?/(?:info/refs|git-upload-pack|git-receive-pack|HEAD|objects/.+|info/lfs(?:/.+)?|gitlab-lfs/.+)"


class Forge(NamedTuple):
    """What a forge's paths are: patterns, of which those with a `repository` are about one.

    `root` tells what the repository is and `api` are the other endpoints of the drivers; `registry` are those of the
    API that only a repository of Composer's, or a package, names by their URL; `files` and `git` are paths of the
    website. `api_area` is where everything but these stays without a credential. `is_public` and `names` read the JSON
    at `root`; a number among the names is an id. `aliased` is put before a path where the API has a host of its own,
    and `own` stands before the path of `show_root` where it has not.
    """

    root: str
    api: str
    registry: str
    files: str
    git: str
    api_area: str
    is_public: Callable[[Mapping[str, Any]], bool]
    names: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    show_root: Callable[[str], str]
    aliased: str = ""
    own: str = ""


class Target(NamedTuple):
    """What a path on a forge is: of which shape, and of which repository, in lower case ("" for none)."""

    shape: Shape
    repository: str = ""
    is_api: bool = False


def _is_open(repository: Mapping[str, Any]) -> bool:
    return repository.get("private") is False and repository.get("visibility", "public") == "public"


def _show_pair(repository: str, prefix: str) -> str:
    return f"{prefix}/{quote(repository)}"


_GITHUB = Forge(
    root=rf"/api/v3/(?:repos/{_PAIR}|repositories/(?P<id>[0-9]+))",
    api=r"/(?:contents/.+|commits/[^/]+|tags|branches|git/refs(?:/.+)?|(?:zip|tar)ball(?:/.+)?)",
    registry=rf"/api/v3/repos/{_PAIR}/releases/assets/[0-9]+",
    files=rf"/{_PAIR}/archive/.+",
    git=rf"/{_PAIR}{_GIT}",
    api_area=r"/api/",
    is_public=_is_open,
    names=lambda found: (found.get("full_name"), found.get("id")),
    show_root=lambda name: f"/repositories/{name[1:]}" if name.startswith("#") else _show_pair(name, "/repos"),
    aliased="/api/v3",
    own="/api/v3",
)
_GITLAB = Forge(
    root=rf"/api/v4/projects/{_PROJECT}",
    api=r"/repository/(?:branches|tags)(?:/[^/]+)?|/repository/files/[^/]+/raw|/repository/archive(?:\.[a-z0-9.]+)?",
    registry=r"/api/v4/(?:groups?|projects)/[^/]+/(?:-/)?(?:packages/.+|jobs/artifacts/.+|jobs/[0-9]+/artifacts(?:/.+)?)",
    files=rf"/{_TREE}/(?:-/archive/.+|repository/archive(?:\.[a-z0-9.]+)?)",
    git=rf"/{_TREE}{_GIT}",
    api_area=r"/api/",
    is_public=lambda found: found.get("visibility") == "public",
    names=lambda found: (found.get("path_with_namespace"), found.get("id")),
    show_root=lambda name: "/api/v4/projects/" + quote(name.removeprefix("#"), safe=""),
)
_BITBUCKET = Forge(
    root=rf"/api/2\.0/repositories/{_PAIR}",
    api=r"/(?:src(?:/.+)?|commit/[^/]+|refs(?:/.+)?)",
    registry=rf"/api/2\.0/repositories/{_PAIR}/downloads/.+",
    files=rf"/{_PAIR}/(?:get|downloads)/.+",
    git=rf"/{_PAIR}{_GIT}",
    api_area=r"/!?api/",
    is_public=lambda found: found.get("is_private") is False,
    names=lambda found: (found.get("full_name"),),
    show_root=lambda name: _show_pair(name, "/2.0/repositories"),
    aliased="/api",
)
_FORGEJO = Forge(
    root=rf"/api/v1/repos/{_PAIR}",
    api=r"/(?:contents/.+|git/commits/[^/]+|tags|branches|archive/.+)",
    registry=r"(?!)",
    files=rf"/{_PAIR}/archive/.+",
    git=rf"/{_PAIR}{_GIT}",
    api_area=r"/api/(?!packages/)",
    is_public=_is_open,
    names=lambda found: (found.get("full_name"),),
    show_root=lambda name: _show_pair(name, "/api/v1/repos"),
)
# By the method that Composer expects for a host (`methods.map_hosts`).
FORGES: Mapping[str, Forge] = {
    "github-oauth": _GITHUB,
    "gitlab-oauth": _GITLAB,
    "gitlab-token": _GITLAB,
    "bitbucket-oauth": _BITBUCKET,
    "forgejo-token": _FORGEJO,
}
# The hosts of an API that takes the credential of another host.
API_HOSTS = {host: origin for host, origin in ALIASES.items() if host.startswith("api.")}


class Sites(NamedTuple):
    """Which hosts are forges, each by the name under which Composer keeps its credential."""

    forges: Mapping[str, Forge]
    prefixes: Mapping[str, tuple[str, ...]]

    def find(self, endpoint: Endpoint, path: str) -> tuple[str, Forge | None, Target]:
        """Return the origin whose credential is for the endpoint, its forge if it is one, and what the path is."""
        origin = API_HOSTS.get(endpoint.key, endpoint.key)
        forge = self.forges.get(origin)
        if not forge:
            return origin, None, Target("")
        return origin, forge, find_target(forge, endpoint.key, path, self.prefixes.get(origin, ()))

    def find_named(self, endpoint: Endpoint, path: str) -> tuple[str, str]:
        """Return the origin and the repository that a URL of composer.json or the lock names; "" for none."""
        trimmed = path.rstrip("/").removesuffix(".git")
        for each in (path, f"{trimmed}/info/refs"):
            origin, _, target = self.find(endpoint, each)
            if target.repository:
                return origin, target.repository
        return origin, ""

    def show_root(self, origin: str, repository: str) -> tuple[str, str]:
        """Return the host and the path that describe a repository."""
        forge = self.forges[origin]
        for host, alias in API_HOSTS.items():
            if alias == origin:
                return host, forge.show_root(repository)
        return origin, next(iter(self.prefixes.get(origin, ())), "") + forge.own + forge.show_root(repository)


def make_sites(methods: Mapping[str, str], known: Mapping[str, str]) -> Sites:
    """Return the forges among these hosts, which may have a path (`gitlab.example.org/git`), each with its method.

    That of a `known` host is what it is there.
    """
    forges: dict[str, Forge] = {}
    prefixes: dict[str, tuple[str, ...]] = {}
    for text, named in {**methods, **known}.items():
        host, slash, path = text.lower().partition("/")
        method = known.get(host, named)
        if method in FORGES:
            forges[host] = FORGES[method]
            prefixes[host] = (*prefixes.get(host, ()), *([slash + path.rstrip("/")] if path else []))
    return Sites(forges, prefixes)


def find_target(forge: Forge, host: str, path: str, prefixes: tuple[str, ...] = ()) -> Target:
    """Return what the path is; `prefixes` are the paths below which the forge may be installed on its host."""
    text = "/".join(unquote(part).replace("/", "\0") for part in path.split("/"))
    text = forge.aliased + text if host in API_HOSTS else text
    whole = text
    for prefix in prefixes:
        text = text.removeprefix(prefix) if text.startswith(prefix + "/") else text
    # An owner may be called `api` where the API has a host of its own; a server may read an encoded slash as one.
    area = "/!" if host in API_HOSTS.values() else forge.api_area
    is_web = not any(re.match(area, each.replace("\0", "/")) for each in (whole, text))
    website: tuple[tuple[Shape, str], ...] = (("files", forge.files), ("git", forge.git))
    api: tuple[tuple[Shape, str], ...] = (
        ("root", forge.root + "/?"),
        ("api", forge.root + f"(?:{forge.api})/?"),
        ("registry", forge.registry),
    )
    patterns = website if is_web else api
    for shape, pattern in patterns:
        if match := re.fullmatch(pattern, text, re.DOTALL):
            return Target(shape, _name_repository(match), not is_web)
    return Target("", "", not is_web)


def list_names(forge: Forge, answer: Any) -> Iterator[str]:
    """Yield the names of the repository that the JSON at its root describes."""
    for name in forge.names(answer) if isinstance(answer, dict) else ():
        if isinstance(name, str):
            yield name.lower()
        elif isinstance(name, int) and not isinstance(name, bool):
            yield f"#{name}"


def _name_repository(match: "re.Match[str]") -> str:
    groups = match.groupdict()
    name = (groups.get("repository") or "").replace("\0", "/").lower().removesuffix(".git")
    number = groups.get("id") or (name if re.fullmatch(r"[0-9]+", name) else "")
    return f"#{number}" if number else name
