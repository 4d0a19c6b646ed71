"""What a request is, whether a build may make it, and whether the credential of its host goes along.

Pure, but for what was learnt from answers.
"""

import re
from typing import Literal
from urllib.parse import unquote

from ..composer.credential import Credential
from ..composer.methods import METHODS, map_hosts
from ..composer.repositories import ALIASES
from ..core.records import NamedTuple
from .decisions import SMALL, Head
from .forges import API_HOSTS, FORGES, Forge, Sites, Target, make_sites
from .learning import Base, Learned, make_pattern_below
from .order import Bound, Order
from .placeholders import can_fill, find_placeholders
from .targets import Endpoint, RequestError, Url, parse_absolute, parse_host

# `whole` is what may be asked with the credential, `bare` without; `body` depends on the placeholders in the body,
# `batch` on the operation that the body names, and `ask` on the packages.json of a repository that was not seen yet.
Permission = Literal["whole", "bare", "body", "batch", "ask", "no"]

_WELL_KNOWN = map_hosts()
_READS = frozenset({"GET", "HEAD"})
_GIT = r".*/(?:info/refs|git-upload-pack|git-receive-pack|info/lfs/.+|objects/(?:info/.+|pack/.+|[0-9a-f]{2}/.+))"
# The drivers' endpoints and the archives of a repository.
_OF_REPOSITORIES = frozenset({"root", "api", "files"})


class Request(NamedTuple):
    """A request with what is known of its target.

    `origin` is the host as Composer names it for credentials, `credential` the one for it, if the way there is safe,
    and so are the secrets that are `bound` to the endpoint.
    """

    endpoint: Endpoint
    head: Head
    origin: str
    forge: Forge | None
    target: Target
    credential: Credential | None
    bound: tuple[Bound, ...]

    @property
    def full(self) -> str:
        """The path with the query."""
        return self.head.path + (f"?{self.head.query}" if self.head.query else "")

    @property
    def is_read(self) -> bool:
        """Whether its method changes nothing."""
        return self.head.method in _READS

    @property
    def is_git(self) -> bool:
        """Whether git, or git-lfs, asks."""
        return self.target.shape == "git" or (not self.forge and bool(re.fullmatch(_GIT, self.head.path)))

    @property
    def is_push(self) -> bool:
        """Whether it is a part of `git push`."""
        path = unquote(self.head.path)
        is_announced = path.endswith("/info/refs") and "receive" in unquote(self.head.query)
        return not self.target.is_api and (is_announced or path.endswith("/git-receive-pack"))

    @property
    def is_fetch(self) -> bool:
        """Whether git asks for objects: by its own type of body, which no API takes."""
        kind = self.head.find("content-type").strip().lower()
        return self._is_post_of_git("/git-upload-pack") and kind == "application/x-git-upload-pack-request"

    @property
    def is_batch(self) -> bool:
        """Whether git-lfs asks where its files are."""
        return self._is_post_of_git("/info/lfs/objects/batch")

    def _is_post_of_git(self, end: str) -> bool:
        """Whether it is a POST to a path of that end; that of a file in the API of a forge may have any."""
        is_post = self.head.method == "POST" and self.head.path.endswith(end) and not self.head.query
        return is_post and (not self.forge or self.target.shape == "git")

    @property
    def found(self) -> frozenset[str]:
        """The placeholders in it, those of the body excepted."""
        return find_placeholders(self.full, *(value for name, value in self.head.headers if name[:6] != "proxy-"))

    @property
    def values(self) -> dict[str, str]:
        """The values that may be put into it, by placeholder."""
        return {each.placeholder: each.value for each in self.bound}

    @property
    def has_small_body(self) -> bool:
        """Whether it has a body that placeholders can be found in."""
        length = self.head.find("content-length")
        is_small = length.isdecimal() and 0 < int(length) <= SMALL
        is_chunked = bool(self.head.find("transfer-encoding")) and bool(self.bound)
        is_plain = self.head.find("content-encoding").lower() in {"", "identity"}
        return (is_small or is_chunked) and is_plain and can_fill(self.head.find("content-type"))


class Access:
    """The hosts, the secrets and what the project names of an order."""

    def __init__(self, order: Order) -> None:
        """Take the order of the build."""
        ranks = list(METHODS)
        credentials = sorted(order.credentials, key=lambda each: ranks.index(each.method))
        # A project may add forges, but not make another one of a host that is known: its API has other paths.
        known = {each.host: each.method for each in credentials if each.method in FORGES} | _WELL_KNOWN
        self.sites: Sites = make_sites(order.forges, known)
        self.learned = Learned(order.places, self.sites)
        self._credentials = {
            _make_key(each.host): each._replace(content=METHODS[each.method].replace_token(each.content, ""))
            for each in credentials
        }
        self._bound: dict[str, list[Bound]] = {}
        for bound in order.bound:
            for host in bound.hosts:
                self._bound.setdefault(_make_key(host), []).append(bound)
        aliases = [alias for alias, origin in ALIASES.items() if origin in self._credentials]
        self._with_login = frozenset((*self._credentials, *aliases))
        self._hosts = self._with_login | self._bound.keys()
        self._writable = frozenset(map(_make_key, order.writable))
        self._insecure = frozenset(
            (url.endpoint, make_pattern_below(url.path)) for each in order.insecure if (url := _parse_url(each))
        )
        self.names = {each.placeholder: each.name for each in order.bound}
        has_forges = any(key in self.sites.forges for key in self._credentials)
        self._needs_metadata = has_forges or order.reach is not None

    def intercepts(self, endpoint: Endpoint) -> bool:
        """Return whether TLS is ended for the endpoint."""
        return not self._hosts.isdisjoint(_list_keys(endpoint))

    def read(self, endpoint: Endpoint, head: Head) -> Request:
        """Return the request with what is known of its target."""
        origin, forge, target = self.sites.find(endpoint, head.path)
        keys = (*_list_keys(endpoint), *([API_HOSTS[endpoint.key]] if endpoint.key in API_HOSTS else []))
        credential = next((self._credentials[key] for key in keys if key in self._credentials), None)
        bound = tuple(dict.fromkeys(each for key in _list_keys(endpoint) for each in self._bound.get(key, ())))
        if not self.is_safe(endpoint, head.path):
            credential = None
        return Request(endpoint, head, origin, forge, target, credential, bound if endpoint.is_private else ())

    def is_safe(self, endpoint: Endpoint, path: str) -> bool:
        """Return whether a credential may go that way: a project may allow plain HTTP for its own repositories."""
        if endpoint.is_private:
            return True
        origin, forge, _ = self.sites.find(endpoint, path)
        found = [pattern for place, pattern in self._insecure if place == endpoint and origin not in _WELL_KNOWN]
        return bool(found and forge) or any(re.fullmatch(pattern, path) for pattern in found)

    def permit(self, request: Request) -> Permission:
        """Return whether a build may ask this."""
        endpoint, head = request.endpoint, request.head
        if not self.intercepts(endpoint) or self.is_writable(request):
            return "whole"
        if request.is_push:
            return "no"
        if request.is_read:
            return "whole"
        if self._is_for_bound(endpoint) or (request.bound and not request.found.isdisjoint(request.values)):
            return "bare"
        if request.is_fetch:
            return "whole"
        if request.is_batch:
            return "batch"
        if head.method == "POST" and (endpoint, request.full) in self.learned.posts:
            return "whole" if self.learned.posts[endpoint, request.full] and not request.forge else "bare"
        if request.bound and request.has_small_body:
            return "body"
        return "ask" if head.method == "POST" and self.find_unasked(endpoint) else "no"

    def may_have(self, request: Request) -> tuple[bool, str]:
        """Return whether the credential goes along; if not, the repository that may turn out to be public."""
        head, endpoint, target = request.head, request.endpoint, request.target
        credential = request.credential
        if not credential or self._has_login(request) or METHODS[credential.method].is_bare(head.path, head.query):
            return False, ""
        if not request.forge:
            return True, ""
        if (not request.is_read or request.is_push) and self.is_writable(request):
            return True, ""
        learned = self.learned
        key = (request.origin, target.repository)
        if self._is_known(request) and target.shape in {"git", *_OF_REPOSITORIES}:
            return True, ""
        is_announced = (endpoint, head.path) in learned.archives
        if target.is_api:
            is_below = target.shape == "registry" and learned.find_base(endpoint, head.path) is not None
            is_announced = is_announced and target.shape in {"registry", "api", "files"}
        else:
            is_below = learned.find_base(endpoint, head.path) is not None
        if is_announced or is_below:
            return True, ""
        is_open = target.shape in _OF_REPOSITORIES and request.is_read and key not in learned.public
        return False, target.repository if is_open else ""

    def is_lesson(self, request: Request) -> bool:
        """Return whether the answer's body teaches something that the build will need."""
        endpoint, path = request.endpoint, request.head.path
        if request.head.method != "GET" or not self.intercepts(endpoint) or not self.is_safe(endpoint, path):
            return False
        is_metadata = self._needs_metadata and self.learned.is_metadata(endpoint, path)
        is_known = request.target.shape == "root" and self._is_known(request)
        return self.learned.is_root(endpoint, path) or is_metadata or is_known

    def is_writable(self, request: Request) -> bool:
        """Return whether anything may be asked of the host."""
        return not self._writable.isdisjoint((*_list_keys(request.endpoint), request.origin))

    def find_unasked(self, endpoint: Endpoint) -> Base | None:
        """Return a repository whose packages.json was not seen yet, though it may announce what is asked."""
        bases = (base for base in self.learned.bases if base.endpoint == endpoint and "*" not in base.path)
        return next((base for base in bases if base not in self.learned.asked), None)

    def find_values(self, endpoint: Endpoint) -> dict[str, str]:
        """Return the values of the secrets that are bound to the endpoint, by the names of the secrets."""
        return {each.name: each.value for key in _list_keys(endpoint) for each in self._bound.get(key, ())}

    def _is_known(self, request: Request) -> bool:
        """Return whether it is about a repository that is named, or known to be public."""
        key = (request.origin, request.target.repository)
        return bool(key[1]) and (key in self.learned.named or self.learned.public.get(key, False))

    def _is_for_bound(self, endpoint: Endpoint) -> bool:
        """Return whether the endpoint is intercepted for a bound secret alone."""
        return self._with_login.isdisjoint(_list_keys(endpoint)) and self.intercepts(endpoint)

    def _has_login(self, request: Request) -> bool:
        """Return whether the project's own URL has a login for this."""
        base = self.learned.find_base(request.endpoint, request.head.path)
        path = request.head.path
        return (base is not None and base.has_login) or any(
            endpoint == request.endpoint and (path == each or path.startswith((each + "/", each + ".git")))
            for endpoint, each in self.learned.login_urls
        )


def _make_key(host: str) -> str:
    """Return the host of a secret in the spelling of endpoints."""
    try:
        return parse_host(host.partition("/")[0], "https").key
    except RequestError:
        return host.lower()


def _list_keys(endpoint: Endpoint) -> tuple[str, ...]:
    return endpoint.key, f"{endpoint.key}:{endpoint.port}"


def _parse_url(text: str) -> Url | None:
    try:
        return parse_absolute(text)
    except RequestError:
        return None
