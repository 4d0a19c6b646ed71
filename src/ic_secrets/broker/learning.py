"""What the project's files and the answers of its servers say about a build's needs: a small state. Pure but for it."""

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..composer.repositories import ARCHIVES, SCP_URL
from ..core.records import NamedTuple
from .forges import Sites, list_names
from .order import Place
from .targets import Endpoint, RequestError, Url, parse_absolute

_SSH_URL = r"(?i)ssh://(?:[^/@]*@)?([^/:@]+)(?::[0-9]+)?/+(.+)"
# What is unpacked of a body, in bytes.
_LARGEST = 64 << 20
# The most values in it, more or less: each takes many times the memory of its text.
_MOST = 6_000_000
# The most servers that answers add to the reach of an isolated build.
_MOST_REACHED = 64
# The members of a packages.json whose URLs Composer sends a POST to.
_ANNOUNCED = (("notify-batch",), ("notify",), ("security-advisories", "api-url"), ("filter", "api-url"))
# A part of a URL that was hidden when composer.json was read.
_HIDDEN = "***"


class Base(NamedTuple):
    """A composer-type repository: patterns of the paths below it and of its packages.json, whose path is `path`."""

    endpoint: Endpoint
    pattern: str
    root: str
    path: str
    has_login: bool


class Learned:
    """Which repositories are named, what repositories of Composer's announced, and which strangers are public."""

    def __init__(self, places: Iterable[Place], sites: Sites) -> None:
        """Take what composer.json and the lock name."""
        self._sites = sites
        self.bases: list[Base] = []
        self.named: set[tuple[str, str]] = set()
        self.login_urls: set[tuple[Endpoint, str]] = set()
        self.archives: set[tuple[Endpoint, str]] = set()
        self.public: dict[tuple[str, str], bool] = {}
        # Whether the credential goes along, by endpoint and target.
        self.posts: dict[tuple[Endpoint, str], bool] = {}
        self.metadata: set[tuple[Endpoint, tuple[str, ...]]] = set()
        self.asked: set[Base] = set()
        # What an isolated build may connect to as well, since a repository with a secret says that its packages are
        # there. Whoever publishes a package there, or finds a redirect that takes any address, could name a server of
        # theirs: so these are few, never this machine or its network, and reached at that very port.
        self.reached: set[Endpoint] = set()
        for place in places:
            self._add_place(place)

    def find_base(self, endpoint: Endpoint, path: str) -> Base | None:
        """Return the composer-type repository that the path belongs to."""
        found = (each for each in self.bases if each.endpoint == endpoint and re.fullmatch(each.pattern, path))
        return max(found, key=lambda base: len(base.pattern), default=None)

    def is_root(self, endpoint: Endpoint, path: str) -> bool:
        """Return whether the path is that of a packages.json."""
        return any(base.endpoint == endpoint and re.fullmatch(base.root, path) for base in self.bases)

    def is_metadata(self, endpoint: Endpoint, path: str) -> bool:
        """Return whether the answer describes packages of a composer-type repository."""
        if any(each == endpoint and _has_parts(path, parts) for each, parts in self.metadata):
            return True
        return path.endswith(".json") and self.find_base(endpoint, path) is not None

    def add_redirect(self, endpoint: Endpoint, path: str, location: str, *, is_reached: bool = False) -> None:
        """Remember where a named repository, or a packages.json, was moved to.

        With `is_reached` a build may follow, where its packages come from the endpoint.
        """
        url = _parse(_join(endpoint, location))
        if not url:
            return
        origin, _, target = self._sites.find(endpoint, path)
        is_named = self._is_named(origin, target.repository)
        if is_named:
            self._add_alias(origin, url)
        has_packages = is_named or (endpoint, path) in self.archives or any(b.endpoint == endpoint for b in self.bases)
        if is_reached and has_packages:
            self._add_reached(url)
        for base in [each for each in self.bases if each.endpoint == endpoint and re.fullmatch(each.root, path)]:
            if url.endpoint.host == endpoint.host:
                moved = base._replace(endpoint=url.endpoint, root=_make_pattern(url.path), path=url.path)
                if moved not in self.bases:
                    self.bases.append(moved)

    def add_links(self, endpoint: Endpoint, path: str, header: str) -> None:
        """Remember the id of a named repository by the next page's address."""
        origin, _, target = self._sites.find(endpoint, path)
        if self._is_named(origin, target.repository):
            for location in re.findall(r"<([^<>]*)>", header):
                if url := _parse(_join(endpoint, location)):
                    self._add_alias(origin, url)

    def add_answer(self, endpoint: Endpoint, path: str, body: bytes) -> None:
        """Remember what the body of a good answer says."""
        document = read_json(body)
        if not isinstance(document, dict):
            return
        origin, forge, target = self._sites.find(endpoint, path)
        if forge and target.shape == "root" and self._is_named(origin, target.repository):
            self.named |= {(origin, name) for name in list_names(forge, document)}
        for base in self.bases:
            if base.endpoint == endpoint and re.fullmatch(base.root, path):
                self._add_announcements(base, document)
        if endpoint.is_private and self.is_metadata(endpoint, path):
            for text in _list_urls(document):
                self._add_package(text)

    def add_visibility(self, origin: str, repository: str, body: bytes) -> bool:
        """Remember, and return, whether the answer to a probe says that the repository is public."""
        document = read_json(body)
        is_public = isinstance(document, dict) and self._sites.forges[origin].is_public(document)
        self.public[origin, repository] = is_public
        if is_public:
            for name in list_names(self._sites.forges[origin], document):
                self.public[origin, name] = True
        return is_public

    def _is_named(self, origin: str, repository: str) -> bool:
        return bool(repository) and ((origin, repository) in self.named or self.public.get((origin, repository), False))

    def _add_alias(self, origin: str, url: Url) -> None:
        found, _, target = self._sites.find(url.endpoint, url.path)
        if found == origin and target.shape in {"root", "api", "files", "git"} and target.repository:
            self.named.add((origin, target.repository))

    def _add_place(self, place: Place) -> None:
        url = _parse(place.url)
        if not url:
            return
        if place.kind == "composer":
            self.bases.append(_make_base(url, place.has_login))
            return
        if place.has_login:
            self.login_urls.add((url.endpoint, url.path.rstrip("/").removesuffix(".git")))
        if place.kind in ARCHIVES:
            self.archives.add((url.endpoint, url.path))
        named = self._sites.find_named(url.endpoint, url.path)
        if named[1]:
            self.named.add(named)

    def _add_package(self, text: str) -> None:
        url = _parse(text)
        if url:
            self._add_reached(url)
        if url and self._sites.find(url.endpoint, url.path)[1]:
            self.archives.add((url.endpoint, url.path))
            named = self._sites.find_named(url.endpoint, url.path)
            if named[1]:
                self.named.add(named)

    def _add_reached(self, url: Url) -> None:
        if len(self.reached) < _MOST_REACHED:
            self.reached.add(url.endpoint)

    def _add_announcements(self, base: Base, document: dict[str, Any]) -> None:
        """Remember what a packages.json announces; a POST to another host than its own never has a credential."""
        self.asked.add(base)
        for names in _ANNOUNCED:
            value: Any = document
            for name in names:
                value = value.get(name) if isinstance(value, dict) else None
            url = _parse(_join(base.endpoint, value)) if isinstance(value, str) and value else None
            if url:
                self._add_reached(url)
                target = url.path + (f"?{url.query}" if url.query else "")
                self.posts[url.endpoint, target] = url.endpoint == base.endpoint
        for mirror in _iterate(document.get("mirrors")):
            value = mirror.get("dist-url") if isinstance(mirror, dict) else None
            if isinstance(value, str) and (url := _parse(value)):
                self._add_reached(url)
        for name in ("metadata-url", "providers-url", "providers-lazy-url"):
            value = document.get(name)
            url = _parse(_join(base.endpoint, value)) if isinstance(value, str) and value else None
            if url:
                self._add_reached(url)
            if url and url.endpoint == base.endpoint:
                self.metadata.add((url.endpoint, tuple(re.split(r"%[a-z]+%|%25[a-z]+%25", url.path))))


def _make_base(url: Url, has_login: bool) -> Base:
    """Return what Composer makes of the URL of a repository (`ComposerRepository::getPackagesJsonUrl`)."""
    root = url.path if ".json" in url.path else url.path.rstrip("/") + "/packages.json"
    return Base(url.endpoint, make_pattern_below(url.path), _make_pattern(root), root, has_login)


def make_pattern_below(path: str) -> str:
    """Return the pattern of the paths of a repository."""
    return _make_pattern(re.sub(r"/[^/]+\.json$", "", path).rstrip("/")) + r"(?:/.*)?"


def _has_parts(path: str, parts: Sequence[str]) -> bool:
    """Return whether the path has the parts in their order, with something between any two.

    In time that grows with the path alone, as it would not with a pattern that a server made.
    """
    first, *others = parts
    if not others or not path.startswith(first):
        return path == first
    position = len(first)
    for part in others[:-1]:
        position = path.find(part, position + 1) + len(part)
        if position < len(part):
            return False
    return path.endswith(others[-1]) and position < len(path) - len(others[-1])


def _make_pattern(path: str) -> str:
    return re.escape(path).replace(re.escape(_HIDDEN), r"[^/]+")


def _join(endpoint: Endpoint, location: str) -> str:
    """Return the URL; Composer puts the scheme and host before a path, and takes all else as it is."""
    return f"{endpoint.scheme}://{endpoint.key}{location}" if location.startswith("/") else location


def _parse(text: str) -> Url | None:
    """Return the parts of a URL; git asks by https also where one of SSH is written (`environment`)."""
    ssh = re.fullmatch(SCP_URL, text) or re.fullmatch(_SSH_URL, text)
    try:
        return parse_absolute(f"https://{ssh[1]}/{ssh[2]}" if ssh else text.partition("#")[0])
    except RequestError:
        return None


def unpack(encoding: str, body: bytes) -> bytes:
    """Return the body as it was before the server packed it; b"" where it cannot be read."""
    if encoding.lower() not in {"gzip", "x-gzip"}:
        return body
    try:
        return zlib.decompressobj(wbits=31).decompress(body, _LARGEST)
    except zlib.error:
        return b""


def read_json(body: bytes) -> Any:
    """Parse the JSON; return None if it is malformed or would take too much memory."""
    if sum(map(body.count, (b"[", b"{", b","))) > _MOST:
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _list_urls(document: dict[str, Any]) -> Iterator[str]:
    """Yield the URLs of the archives and sources of all packages."""
    packages = document.get("packages")
    for versions in _iterate(packages):
        for version in _iterate(versions):
            for kind in ("dist", "source"):
                place = version.get(kind) if isinstance(version, dict) else None
                if isinstance(place, dict) and isinstance(place.get("url"), str):
                    yield place["url"]


def _iterate(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
