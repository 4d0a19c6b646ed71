"""What would lead a build past the broker, or keep it from trusting the broker: refused before anything is exposed.

Pure. Only what concerns a host of the build's secrets is found; with a `warning` the build goes on.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from ..composer.auth_json import Document
from ..composer.methods import map_hosts
from ..composer.repositories import PackageSources, Repository
from ..core.notices import Notice
from ..core.records import NamedTuple
from .proxies import UnreachableError, find_proxy
from .targets import RequestError, parse_host
from .trust import GitLines

_URL = r"(?i)(https?)://(?:([^/@]*)@)?([^/:]+)(?::([0-9]+))?(/.*)?"
_PORTS = {"http": "80", "https": "443"}
# Options that say whether a certificate is verified: the broker verifies all the same.
_LAX = frozenset({"ssl.verify_peer", "ssl.verify_peer_name", "ssl.allow_self_signed"})
_CERTIFICATES = frozenset({"ssl.local_cert", "ssl.local_pk", "ssl.passphrase"})
_STORE_CERTIFICATE = "store it as a secret, client-certificate.{}, and the broker presents it"
_VERIFIED = "name the authority of the server with SSL_CERT_FILE"


class _Scope(NamedTuple):
    """The URLs that a setting of git is for. A star in the host stands for one label."""

    host: str
    path: str
    user: str


def find_defeats(
    hosts: Collection[str], sources: PackageSources, config: Document, git: GitLines, environment: Mapping[str, str]
) -> tuple[Notice, ...]:
    """Return what is said of a project and a person before a build whose secrets are for these hosts, errors first.

    `config` is that section of composer.json, `git` are the lines of git's configuration.
    """
    proxies = frozenset(value for name, value in environment.items() if name.lower().endswith("_proxy"))
    others = [(key, value) for key, value in git if not (key == "http.proxy" and value in proxies)]
    if not hosts:
        return tuple(_check_proxy({"packagist.org"}, environment))
    found = [
        *_check_proxy(hosts, environment),
        *_check_options(hosts, sources),
        *_check_config(config),
        *_check_git(hosts, others),
    ]
    if environment.get("GIT_SSL_NO_VERIFY"):
        found.append(Notice("GIT_SSL_NO_VERIFY is set, but the broker verifies every certificate", _VERIFIED))
    if environment.get("GIT_SSL_CERT"):
        text = "the client certificate of GIT_SSL_CERT does not reach the hosts of secrets: the broker asks them"
        found.append(Notice(text, _STORE_CERTIFICATE.format("HOST")))
    return tuple(sorted(dict.fromkeys(found), key=lambda notice: notice.level != "error"))


def find_exposed(hosts: Collection[str], insecure: Iterable[str]) -> Iterator[Notice]:
    """Say of which repositories a project allows a credential to be sent over plain HTTP."""
    for url in sorted(insecure):
        match = re.fullmatch(_URL, url)
        if not match:
            continue
        host = match[3].lower() + (f":{match[4]}" if match[4] and match[4] != "80" else "")
        if host in hosts and host not in map_hosts() and not parse_host(host, "http").is_loopback:
            text = f"composer.json has secure-http off: the credential of {host} is sent unencrypted to {url}"
            yield Notice(text, "whoever is on the way can read it: ask that repository by https")


def _check_proxy(hosts: Iterable[str], environment: Mapping[str, str]) -> Iterator[Notice]:
    """The person's own proxy is behind the broker, which speaks HTTP to it."""
    for host in sorted(hosts):
        try:
            find_proxy(environment, parse_host(host.partition("/")[0], "https"))
        except UnreachableError:
            text = f"the proxy on the way to {host} is not an http:// one, and the broker can use no other"
            hint = "name an http:// proxy with https_proxy, or exempt the host with no_proxy"
            yield Notice(text, hint, "error")
            return
        except RequestError:
            continue


def _check_config(config: Document) -> Iterator[Notice]:
    """The broker's authority is named by COMPOSER_CAFILE: what a project says instead is lost, or beats it."""
    for name in ("cafile", "capath"):
        if config.get(name):
            yield Notice(
                f"composer.json sets {name}, which the broker's build cannot keep to",
                "name that file with SSL_CERT_FILE, or in the config.json of your own Composer",
                "error",
            )
    if config.get("disable-tls") is True:
        yield Notice("composer.json sets disable-tls, and a broker needs TLS", "remove it", "error")


def _check_options(hosts: Collection[str], sources: PackageSources) -> Iterator[Notice]:
    places = [*sources.repositories, *sources.patches]
    for package in (*sources.inline, *(sources.locked or ())):
        places += [place for place in (package.archive, package.source) if place]
    for place in places:
        if place.options and place.host in hosts:
            yield from _check_place(place)


def _check_place(place: Repository) -> Iterator[Notice]:
    who = f"the package {place.package}" if place.package else f"the repository {place.url}"
    options = frozenset(place.options)
    if options & _CERTIFICATES:
        text = f"{who} has a client certificate among its options, which ends at the broker"
        yield Notice(text, _STORE_CERTIFICATE.format(place.host) + "; then remove it there", "error")
    for name in sorted(options - _CERTIFICATES - _LAX):
        yield Notice(f"{who} has the option {name}, which would lead past the broker", "remove it", "error")
    if options & _LAX:
        yield Notice(f"{who} does not verify its server, but the broker does", _VERIFIED)


def _check_git(hosts: Collection[str], git: GitLines) -> Iterator[Notice]:
    for key, value in git:
        section, _, rest = key.partition(".")
        subsection, _, name = rest.rpartition(".")
        if section == "http":
            scope = _parse_scope(subsection) if subsection else None
            reached = sorted(hosts) if not subsection else [host for host in hosts if _reaches(scope, host)]
            for host in reached[:1]:
                yield from _check_http(name, value, scope, host, _hide_login(key))
        elif section == "url" and name == "insteadof":
            yield from _check_instead(hosts, subsection, value)


def _check_http(name: str, value: str, scope: _Scope | None, host: str, key: str) -> Iterator[Notice]:
    if name == "proxy" and scope and (len(scope.path) > 1 or scope.user or "*" in scope.host):
        hint = "name the proxy with https_proxy instead"
        yield Notice(f"git's {key} would lead past the broker", hint, "error")
    elif name == "proxy":
        text = f"git's {key} is not used for {host}: the broker uses https_proxy and no_proxy"
        yield Notice(text, "set these, if the host is behind a proxy")
    elif name in {"sslcert", "sslkey"}:
        text = f"the client certificate of git's {key} does not reach {host}: the broker asks it"
        yield Notice(text, _STORE_CERTIFICATE.format(host), "error" if scope else "warning")
    elif name == "sslverify" and value.lower() in {"false", "no", "off", "0", ""}:
        yield Notice(f"git's {key} is off, but the broker verifies every certificate", _VERIFIED)


def _check_instead(hosts: Iterable[str], base: str, prefix: str) -> Iterator[Notice]:
    """A prefix of HTTPS URLs of a host that becomes one of SSH: git would not come to the broker at all."""
    if re.match(r"(?i)https?://", base):
        return
    for host in sorted(hosts):
        url = f"https://{host}/"
        if prefix and (prefix.startswith(url) or url.startswith(prefix)):
            shown = _hide_login(base)
            text = f"git's url.{shown}.insteadOf turns {_hide_login(prefix)} into SSH, which leads past the broker"
            yield Notice(text, "leave it out of the build: GIT_CONFIG_GLOBAL names another configuration", "error")
            return


def _parse_scope(url: str) -> _Scope | None:
    match = re.fullmatch(_URL, url)
    if not match:
        return None
    scheme, user, host, port, path = match.groups()
    suffix = f":{port}" if port and port != _PORTS[scheme.lower()] else ""
    return _Scope(host.lower() + suffix, path or "/", user or "")


def _reaches(scope: _Scope | None, host: str) -> bool:
    pattern = re.escape(scope.host).replace(r"\*", "[^.:]+") if scope else ""
    return bool(re.fullmatch(pattern, host))


def _hide_login(text: str) -> str:
    return re.sub(r"//[^/@]*@", "//", text)
