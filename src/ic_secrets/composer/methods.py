"""Composer's ways to authenticate: one record each, which everything else asks.

To add a method, add its record to `METHODS`, in the place where Composer loads it (`BaseIO::loadConfiguration`).
Words and JSON are those of `composer config --auth` and of Composer's auth.json schema
(https://getcomposer.org/doc/articles/authentication-for-private-packages.md), headers those of the newest Composer's
`AuthHelper`, git's logins those of `Util\\Git`. Pure.
"""

import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from ..core.records import NamedTuple
from ..errors import InvalidNameError
from ..model.names import check_secret_name, split_composer_name
from ..model.secret import SecretType

# What a request is for: the API of a repository or forge, a file to download, or a git fetch.
Purpose = Literal["api", "files", "git"]
Headers = dict[str, str]
# A user name and a password.
Pair = tuple[str, str]

_GITHUB_API = "api.github.com"
# What git needs as the user name with a password that begins so, where a host wants another than its API
# (https://support.atlassian.com/bitbucket-cloud/docs/using-api-tokens/).
_GIT_USERS = (("bitbucket.org", "ATATT", "x-bitbucket-api-token-auth"),)
# Words in the place of a password that tell GitLab that the user name is the token; Composer swaps them for git.
_SWAPPED_WORDS = frozenset({"oauth2", "private-token", "gitlab-ci-token"})
# The parameters of a URL that is signed, as S3, Google Cloud Storage and Azure hand them out: a server that is sent a
# login as well refuses both.
_SIGNATURE = (
    r"(?:^|&)(?:X-Amz-Signature|X-Goog-Signature)=|(?:^|&)(?:AWSAccessKeyId|GoogleAccessId|se)=.*&(?:Signature|sig)="
)
# What any other host takes.
_FALLBACK = "http-basic"


class Field(NamedTuple):
    """A member of a method's JSON. One that is not secret, such as a user name, may be shown by itself."""

    name: str
    is_secret: bool = True
    is_required: bool = True
    is_number: bool = False
    may_be_empty: bool = False


class Method(NamedTuple):
    """One way to authenticate.

    The required fields are also the words of the short form, in that order, if it `takes_words`. A method with a
    `partner` takes a bare token as well, of the `grammar` if that is given: Composer keeps the partner where a password
    would be. `mints` is the optional field for the token that
    Composer exchanges the credential for, and the user name that git gets with that token. `holds_headers` means that
    the content is a list of header lines. `hosts`, and those listed in the project's setting `domains`, are where
    Composer expects this method. Before `merged_since` a source's hosts replace those of all weaker sources. `headers`
    makes what is sent from the content, the host that it is for and the host that is asked; by default, and where it
    returns None, the pair is sent by basic authentication. Nothing is sent to the `bare` paths. `exchange` is the path
    where the token that it `mints` is asked for.
    """

    name: str
    since: tuple[int, int]
    fields: tuple[Field, ...] = ()
    takes_words: bool = True
    partner: str = ""
    mints: Pair | None = None
    holds_headers: bool = False
    grammar: str = ""
    hosts: tuple[str, ...] = ()
    domains: str = ""
    merged_since: tuple[int, int] = (1, 0)
    headers: Callable[[Any, str, str], Headers | None] | None = None
    bare: str = ""
    exchange: str = ""

    @property
    def is_certificate(self) -> bool:
        """Whether it goes along by the connection, not by a header."""
        return any(field.name == "local_cert" for field in self.fields)

    @property
    def required(self) -> tuple[str, ...]:
        """The names of the required fields."""
        return tuple(field.name for field in self.fields if field.is_required)

    @property
    def public(self) -> frozenset[str]:
        """The names of the fields that are not secret by themselves."""
        return frozenset(field.name for field in self.fields if not field.is_secret)

    def read_fields(self, content: Any) -> Mapping[str, Any]:
        """Return the content's fields by name; a bare token is the field `token`."""
        if isinstance(content, str):
            return {"token": content}
        return content if isinstance(content, dict) else {}

    def find_pair(self, content: Any) -> Pair | None:
        """Return the user name and password as which Composer keeps the content; None for headers and certificates."""
        fields = self.read_fields(content)
        if len(self.required) == 2 and fields.keys() >= {*self.required}:
            return fields[self.required[0]], fields[self.required[1]]
        return (fields["token"], self.partner) if self.partner and "token" in fields else None

    def find_login(self, content: Any, host: str) -> Pair | None:
        """Return the user name and password that git gets for the host; None if git gets no login."""
        pair = None if self.mints else self.find_pair(content)
        if pair and pair[1] in _SWAPPED_WORDS:
            return pair[::-1]
        for name, start, user in _GIT_USERS if pair else ():
            if host == name and pair and pair[1].startswith(start):
                return user, pair[1]
        return pair

    def list_pairs(self, content: Any, host: str) -> tuple[Pair, ...]:
        """Return every user name and password that go together: in a URL, or in a header of basic authentication."""
        pairs = (self.find_pair(content), self.find_login(content, host), self._find_minted(content))
        return tuple(dict.fromkeys(pair for pair in pairs if pair))

    def list_token_pairs(self, token: str, host: str) -> tuple[Pair, ...]:
        """Return the pairs of a token that Composer was given by the server for such a credential."""
        return ((self.mints[1], token),) if self.mints else self.list_pairs(token, host)

    def is_bare(self, path: str, query: str) -> bool:
        """Return whether a request for it takes no credential: it is open to all, or its query is a signature."""
        return bool(self.bare and re.fullmatch(self.bare, path)) or bool(re.search(_SIGNATURE, query, re.IGNORECASE))

    def replace_token(self, content: Any, token: str) -> Any:
        """Return the content with that token as the one that it was exchanged for; "" for none."""
        if not self.mints:
            return content
        fields = {name: value for name, value in self.read_fields(content).items() if name in self.required}
        return fields | {self.mints[0]: token} if token else fields

    def _find_minted(self, content: Any) -> Pair | None:
        fields = self.read_fields(content)
        return (self.mints[1], fields[self.mints[0]]) if self.mints and self.mints[0] in fields else None

    def make_headers(self, content: Any, origin: str, purpose: Purpose, host: str) -> Headers:
        """Return the headers that Composer, or git for it, sends to `host` with the credential of `origin`."""
        if purpose == "git":
            pair = self._find_minted(content) or self.find_login(content, origin)
        else:
            headers = self.headers(content, origin, host) if self.headers else None
            if headers is not None:
                return headers
            pair = self.find_pair(content)
        return {"Authorization": "Basic " + _encode_basic(pair)} if pair else {}

    def merges_hosts(self, version: tuple[int, ...]) -> bool:
        """Return whether a Composer of that version merges several sources host by host; () is taken for a new one."""
        return not version or version[:2] >= self.merged_since

    def is_known(self, version: tuple[int, ...]) -> bool:
        """Return whether a Composer of that version knows the method; () knows every one."""
        return not version or version[:2] >= self.since


def check_name(kind: SecretType, name: str) -> str:
    """Return the name, or raise InvalidNameError: the grammar depends on the type (rule 10)."""
    check_secret_name(kind, name)
    if kind is SecretType.COMPOSER and split_composer_name(name)[0] not in METHODS:
        raise InvalidNameError(
            f"{name!r} does not begin with a method of Composer's", hint=f"the methods are {', '.join(METHODS)}"
        )
    return name


def drop_default_port(host: str) -> str:
    """Return the host of `HOST:443`, "" for any other.

    Composer takes it for another: it sends the credential of `HOST:443` to URLs that name the port, and to no others
    (Composer\\Util\\Url::getOrigin).
    """
    return host.removesuffix(":443") if host.endswith(":443") else ""


def map_hosts(config: object = None) -> dict[str, str]:
    """Return the method that Composer expects for each host of a forge; `config` is the section of composer.json."""
    section = config if isinstance(config, dict) else {}
    hosts: dict[str, str] = {}
    for method in METHODS.values():
        domains = section.get(method.domains) if method.domains else None
        named = [name for name in domains if isinstance(name, str)] if isinstance(domains, list) else []
        hosts |= dict.fromkeys((*named, *method.hosts), method.name)
    return hosts


def imply_domains(credentials: Iterable[tuple[str, str]], config: object = None) -> dict[str, list[str]]:
    """Return the lists of domains that Composer extends when it has such credentials, pairs of a method and a host.

    Each begins with what `config`, the section of a config.json, has there, and with the hosts that Composer knows.
    """
    section = config if isinstance(config, dict) else {}
    implied: dict[str, list[str]] = {}
    for name, host in credentials:
        key = METHODS[name].domains
        known = [each for method in METHODS.values() if method.domains == key for each in method.hosts]
        if key and host not in known:
            given = section.get(key)
            names = implied.get(key) or [*known, *(given if isinstance(given, list) else [])]
            implied[key] = list(dict.fromkeys([*names, host]))
    return implied


def choose_method(host: str, hosts: Mapping[str, str], version: tuple[int, ...] = ()) -> str:
    """Return the method that a Composer of that version expects for the host, where `hosts` are from `map_hosts`."""
    method = hosts.get(host, _FALLBACK)
    return method if METHODS[method].is_known(version) else _FALLBACK


def _encode_basic(pair: Pair) -> str:
    return binascii.b2a_base64(":".join(pair).encode(), newline=False).decode()


def _make_bearer(content: Any, _origin: str, _host: str) -> Headers:
    return {"Authorization": f"Bearer {content if isinstance(content, str) else content['token']}"}


def _make_github(content: Any, origin: str, host: str) -> Headers | None:
    """Send nothing with downloads from github.com and codeload.github.com, and a pair to a GitHub elsewhere."""
    if origin != "github.com":
        return None
    return {"Authorization": f"token {content}"} if host == _GITHUB_API else {}


def _make_bitbucket(content: Any, _origin: str, _host: str) -> Headers | None:
    """Send the token that the consumer was exchanged for; the consumer itself asks for one."""
    return {"Authorization": f"Bearer {content['access-token']}"} if "access-token" in content else None


def _make_gitlab(content: Any, _origin: str, _host: str) -> Headers | None:
    if isinstance(content, str):
        return {"PRIVATE-TOKEN": content}
    return {"JOB-TOKEN": content["token"]} if content["username"] == "gitlab-ci-token" else None


def _split_lines(content: Any, _origin: str, _host: str) -> Headers:
    lines = (line.partition(":") for line in content)
    return {name.strip(): value.strip() for name, _, value in lines}


_TOKEN = Field("token")
_USERNAME = Field("username", is_secret=False)

# In the order in which Composer loads them: when several know one host, the last one wins.
METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "bitbucket-oauth",
            (1, 0),
            (
                Field("consumer-key", is_secret=False),
                Field("consumer-secret"),
                Field("access-token", is_required=False),
                Field("access-token-expiration", is_secret=False, is_required=False, is_number=True),
            ),
            mints=("access-token", "x-token-auth"),
            hosts=("bitbucket.org",),
            headers=_make_bitbucket,
            exchange="/site/oauth2/access_token",
            bare=r"/[^/]+/[^/]+/downloads(?:/.*)?",
        ),
        Method(
            "github-oauth",
            (1, 0),
            partner="x-oauth-basic",
            grammar=r"[.A-Za-z0-9_-]+",  # Composer dies of any other token, whatever the command
            hosts=("github.com",),
            domains="github-domains",
            headers=_make_github,
        ),
        Method(
            "gitlab-oauth",
            (1, 0),
            (
                _TOKEN,
                Field("refresh-token", is_required=False),
                Field("expires-at", is_secret=False, is_required=False, is_number=True),
            ),
            takes_words=False,
            partner="oauth2",
            domains="gitlab-domains",
            headers=_make_bearer,
        ),
        Method(
            "gitlab-token",
            (1, 3),
            (_USERNAME, _TOKEN),
            partner="private-token",
            hosts=("gitlab.com",),
            domains="gitlab-domains",
            headers=_make_gitlab,
        ),
        Method("forgejo-token", (2, 9), (_USERNAME, _TOKEN), hosts=("codeberg.org",), domains="forgejo-domains"),
        # Either may be empty: `:TOKEN` is a login on Azure DevOps.
        Method("http-basic", (1, 0), (_USERNAME._replace(may_be_empty=True), Field("password", may_be_empty=True))),
        Method("bearer", (1, 10), partner="bearer", headers=_make_bearer),
        Method("custom-headers", (2, 9), holds_headers=True, merged_since=(2, 11), headers=_split_lines),
        Method(
            "client-certificate",
            (2, 9),
            (
                Field("local_cert", is_secret=False),
                Field("local_pk", is_secret=False, is_required=False),
                Field("passphrase", is_required=False, may_be_empty=True),
            ),
            takes_words=False,
        ),
    )
}
