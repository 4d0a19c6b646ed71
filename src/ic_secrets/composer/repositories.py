"""Where a project takes its packages from: the one reader of composer.json and composer.lock. Pure.

Whatever another program wrote into these files can be read: what lacks the expected shape counts as absent.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..core.records import NamedTuple
from .auth_json import Document
from .committed import KINDS, find_option, has_token, hide_tokens, list_connection_options
from .methods import map_hosts

if TYPE_CHECKING:
    from .products import Need

# Whose credential Composer sends to these (`Url::getOrigin`).
ALIASES = {"api.github.com": "github.com", "codeload.github.com": "github.com", "api.bitbucket.org": "bitbucket.org"}
# Where composer.lock keeps the options of the repository that a package comes from.
_OPTIONS = "transport-options"
_URL = r"(?i)([a-z][a-z0-9+.-]*)://([^/?#]+)([^?#]*)"
_LIKE_A_HOST = r"(?i)(?:[\w-]+(?:\.[\w-]+)+\.?|localhost|\[[0-9a-f:.]+\])(?::[0-9]+)?"
_SSH = r"(?i)(?:ssh://)?(?:git@)?([\w.-]+)[:/].*"
# As git and Composer's drivers of forges know it; `ssh://` is never asked by HTTP.
SCP_URL = r"git@([^:/@]+):/?(.+)"
# Composer's types of a repository for which it looks for a driver, and thus for the API of a forge.
FORGED = frozenset({"vcs", "github", "gitlab", "git-bitbucket", "forgejo"})
# What Packagist is called among the repositories of composer.json.
_PACKAGIST_NAMES = ("packagist.org", "packagist")
# A project with more repositories, patches or packages is not looked into further.
_MOST_REPOSITORIES = 1_000
_MOST_PACKAGES = 5_000
# Types that are not Composer's: of single archives.
ARCHIVES = frozenset({"download", "package", "patch"})
# `{%VARIABLE}` in a URL, as ffraenz/private-composer-installer replaces it; VERSION is the package's own.
_PLACEHOLDER = r"\{%(?!(?i:VERSION)\})([A-Za-z_][A-Za-z0-9_]*)\}"


class Repository(NamedTuple):
    """Somewhere that packages come from. `transport` is `http`, `api` (of a forge), `git`, `ssh` or `local`.

    `url` is without a login, a query and what seems to be a token; `kind` is Composer's type, or `download` for a host
    of the lock file. `own` is the kind of its own credential, of `committed.KINDS`. `placeholders` are the variables
    that an installer puts into the URL. It may be the place of one `package` alone. `query` is that of the URL where it
    seems to hold no credential. `options` are the names of those that say how its server is reached and trusted.
    """

    kind: str
    url: str
    host: str
    transport: str
    own: str = ""
    package: str = ""
    placeholders: tuple[str, ...] = ()
    query: str = ""
    options: tuple[str, ...] = ()

    @property
    def has_login(self) -> bool:
        """Whether its URL has a login."""
        return self.own == "login"

    @property
    def web_url(self) -> str:
        """The URL by which it takes a credential: Composer asks forges so even where an SSH URL is written."""
        match = re.fullmatch(SCP_URL, self.url)
        return f"https://{match[1].lower()}/{match[2]}" if match else self.url


_PACKAGIST = Repository("composer", "https://repo.packagist.org", "repo.packagist.org", "http")


class Package(NamedTuple):
    """A package, and where its archive (with the hosts of its mirrors) and its sources are.

    `requires` are the names of the packages that it needs. It `is_public` on Packagist.
    """

    name: str
    archive: Repository | None
    mirrors: frozenset[str]
    source: Repository | None
    requires: frozenset[str]
    is_public: bool

    @property
    def origin(self) -> Repository | None:
        """Where Composer takes it from: its archive, or its source where it has none."""
        place = self.archive or self.source
        return place if place and place.host else None


class PackageSources(NamedTuple):
    """All places that a project's packages come from.

    `repositories` are those of composer.json in its order, and Packagist unless it is turned off. `inline` are the
    packages that composer.json describes itself; `locked` those of composer.lock, None where there is no such file.
    `patches` are those that a plugin downloads. `forges` are the hosts that Composer asks by an API rather than by git,
    each with its method (`map_hosts`).
    """

    repositories: tuple[Repository, ...]
    inline: tuple[Package, ...]
    locked: tuple[Package, ...] | None
    required: frozenset[str]
    forges: Mapping[str, str]
    patches: tuple[Repository, ...] = ()

    def list_all(self) -> tuple[Repository, ...]:
        """Return the repositories, then one place for each further host of patches and of packages.

        Those are a `patch` and a `download`; packages on Packagist do not count.
        """
        found = dict.fromkeys(self.repositories)
        known = {repository.host for repository in found}
        origins = [package.origin for package in self.locked or () if package.origin and not package.is_public]
        for place in (*origins, *self.patches):
            if place.host not in known:
                found[place] = None
                known.add(place.host)
        return tuple(found)

    def add_repositories(self, config: Document) -> "PackageSources":
        """Return them with the repositories of the user's config.json, which may also be Packagist's mirror."""
        more = read_sources(config, None)
        has_packagist = _PACKAGIST in self.repositories and _PACKAGIST in more.repositories
        joined = [each for each in (*self.repositories, *more.repositories) if each != _PACKAGIST]
        repositories = dict.fromkeys([*joined, _PACKAGIST] if has_packagist else joined)
        return self._replace(repositories=tuple(repositories), inline=(*self.inline, *more.inline))

    @property
    def hosts(self) -> frozenset[str]:
        """Every host that may be asked, those of public packages included: GitHub counts even those requests."""
        from .products import PACKAGIST

        hosts = {repository.host for repository in self.list_all()}
        for package in self.locked or ():
            hosts |= package.mirrors | ({package.origin.host} if package.origin else set())
        return frozenset(hosts | {"github.com"} if self.locked is None and hosts & PACKAGIST else hosts)

    @property
    def committed(self) -> tuple[tuple[str, Repository], ...]:
        """The places whose own credentials are secret, each with the file that has them, once for a host and kind."""
        places = [("composer.json", place) for place in self.repositories]
        places += [("composer.json", package.source) for package in self.inline if package.source]
        places += [("composer.json", patch) for patch in self.patches]
        for package in self.locked or ():
            places += [("composer.lock", place) for place in (package.archive, package.source) if place]
        found: dict[tuple[str, str], tuple[str, Repository]] = {}
        for file, place in places:
            if place.own and KINDS[place.own][1]:
                found.setdefault((place.host, place.own), (file, place))
        return tuple(found.values())

    @property
    def needs(self) -> "tuple[Need, ...]":
        """What installing the packages needs besides credentials."""
        from .products import Need, find_needs

        locked = self.locked or ()
        names = self.required | {package.name for package in locked}
        installed = [*locked, *(package for package in self.inline if package.name in names)]
        names |= {name for package in installed for name in package.requires}
        found = [need for name in sorted(names) for need in find_needs(name, names)]
        places = [*self.repositories, *(package.origin for package in installed if package.origin)]
        for place in places:
            if place.package in {"", *names}:
                found += [Need(place.package or place.url, (name,), is_placeholder=True) for name in place.placeholders]
        return tuple(dict.fromkeys(found))


def read_sources(manifest: Document, lock: Document | None, patches: Iterable[str] = ()) -> PackageSources:
    """Read a composer.json, and its composer.lock where there is one; `patches` are URLs."""
    forges = map_hosts(manifest.get("config"))
    repositories: list[Repository] = []
    inline: list[Package] = []
    entries = list(islice(iterate_entries(manifest), _MOST_REPOSITORIES))
    for entry in entries:
        if str(entry.get("type")) == "package":
            described = entry.get("package")
            described = described[:_MOST_REPOSITORIES] if isinstance(described, list) else [described]
            found = list(_read_packages(described, "package", forges))
            repositories += [package.origin for package in found if package.origin]
            inline += found
        elif isinstance(entry.get("url"), str):
            repository = make_repository(str(entry.get("type")), entry["url"], forges)
            repositories.append(_add_options(repository, entry.get("options")))
    if not any(_turns_packagist_off(each) for each in (*entries, manifest.get("repositories"))):
        repositories.append(_PACKAGIST)
    locked = None
    if lock is not None:
        sections = [lock.get("packages"), lock.get("packages-dev")]
        packages = [package for section in sections if isinstance(section, list) for package in section]
        locked = tuple(_read_packages(packages[:_MOST_PACKAGES], "download", forges))
    required = [manifest.get("require"), manifest.get("require-dev")]
    names = frozenset(name.lower() for section in required if isinstance(section, dict) for name in section)
    downloads = tuple(make_repository("patch", url, forges) for url in islice(patches, _MOST_REPOSITORIES))
    return PackageSources(tuple(dict.fromkeys(repositories)), tuple(inline), locked, names, forges, downloads)


def make_repository(kind: str, url: str, forges: Collection[str]) -> Repository:
    """Make the repository of that Composer type and URL; `forges` are the hosts that Composer asks by an API."""
    shown, has_login = (url, False) if kind in {"path", "artifact"} else _drop_login(url)
    placeholders = tuple(re.findall(_PLACEHOLDER, url))
    is_ssh = url.lower().startswith("ssh:") or ("://" not in url and "@" in url.partition("/")[0])
    ssh = re.fullmatch(_SSH, shown) if is_ssh and kind not in {"path", "artifact"} else None
    match = re.match(_URL, shown)
    if ssh:
        host = ssh[1].lower()
        return Repository(kind, shown, host, _find_ssh_transport(kind, host, shown, forges))
    if not match or match[1].lower() not in {"http", "https"}:
        return Repository(kind, shown, "", "local")
    host = match[2].lower()
    transport = "http"
    if kind == "git" or kind in FORGED:
        transport = "api" if kind in FORGED and host in forges else "git"
    path = hide_tokens(match[3], is_archive=kind in ARCHIVES)
    query = shown[match.end() :].lstrip("?").partition("#")[0]
    is_token = path != match[3] or has_token(query)
    own = "login" if has_login else "token" if is_token else ""
    shown = f"{match[1].lower()}://{host}{path}"
    query = "" if own else query
    return Repository(kind, shown, ALIASES.get(host, host), transport, own, "", placeholders, query)


def _add_options(repository: Repository, options: Any) -> Repository:
    if not options:
        return repository
    return repository._replace(own=repository.own or find_option(options), options=list_connection_options(options))


def _find_ssh_transport(kind: str, host: str, url: str, forges: Collection[str]) -> str:
    """Return how Composer asks at an SSH URL: it goes to the API of a forge, and git to https where SSH fails."""
    if host not in forges or not re.fullmatch(SCP_URL, url):
        return "ssh"
    return "api" if kind in FORGED and host != "bitbucket.org" else "git"


def _drop_login(url: str) -> tuple[str, bool]:
    """Return the URL without the login before its host, and whether it had one. The user `git` alone is not one.

    A password may hold what would end it, so it goes up to the last @ where what comes before is no host. Where it is
    one, and there was a login, a path with another @ is dropped: it may be the rest of the password.
    """
    scheme, mark, rest = url.partition("://") if "://" in url.partition("@")[0] else ("", "", url)
    authority, path = re.match(r"([^/?#]*)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    login, at, host = authority.rpartition("@")
    is_url = bool(mark) or re.fullmatch(r"[^/]{2,}:.*", authority) is not None
    if "@" in path and is_url and not re.fullmatch(_LIKE_A_HOST, host):
        login, at, host = rest.rpartition("@")
        path = ""
    if not at or (login == "git" and scheme.lower() not in {"http", "https"}):
        return url, False
    return f"{scheme}{mark}{host}{'' if '@' in path else path}", True


def _read_packages(entries: Iterable[Any], kind: str, forges: Collection[str]) -> Iterator[Package]:
    for entry in entries:
        if isinstance(entry, dict):
            dist, source = _read_place(entry.get("dist")), _read_place(entry.get("source"))
            mirrors = dist.get("mirrors")
            urls = [each.get("url") for each in mirrors if isinstance(each, dict)] if isinstance(mirrors, list) else []
            name, require, options = str(entry.get("name")).lower(), entry.get("require"), entry.get(_OPTIONS)
            places = {}
            for type_, place in ((kind, dist), ("git", source)):
                if place:
                    made = _add_options(make_repository(type_, place["url"], forges), options)
                    places[type_] = made._replace(kind=kind, package=name)
            yield Package(
                name=name,
                archive=places.get(kind),
                mirrors=frozenset(make_repository(kind, url, forges).host for url in urls if isinstance(url, str)),
                source=places.get("git"),
                requires=frozenset(require) if isinstance(require, dict) else frozenset(),
                is_public="packagist.org" in str(entry.get("notification-url")),
            )


def _read_place(place: Any) -> Document:
    """Return a `dist` or `source`; an empty one where it is not somewhere that Composer would ask."""
    is_place = isinstance(place, dict) and isinstance(place.get("url"), str) and place.get("type") != "path"
    return place if is_place else {}


def iterate_entries(manifest: Document) -> Iterator[Document]:
    """Yield the entries of `repositories`, which is a list or a map."""
    repositories = manifest.get("repositories")
    if isinstance(repositories, dict):
        repositories = list(repositories.values())
    yield from (entry for entry in (repositories if isinstance(repositories, list) else []) if isinstance(entry, dict))


def _turns_packagist_off(entry: Any) -> bool:
    """Return whether an entry, or the map of all entries, turns Packagist off or puts a mirror in its place."""
    if not isinstance(entry, dict):
        return False
    named = [entry[name] for name in _PACKAGIST_NAMES if name in entry]
    return entry.get("name") in _PACKAGIST_NAMES or any(each is False or isinstance(each, dict) for each in named)
