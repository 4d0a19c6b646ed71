"""What leads the programs of a build to the broker: variables, and files of the private directory. Pure.

Each program has names of its own for a proxy and for the authorities that it trusts, and files in which a person may
have said something else: what is rendered here beats them, but for the few things that `defeats` finds.
"""

import os
from collections.abc import Collection, Iterable, Mapping

from ..composer.methods import METHODS
from ..core.records import NamedTuple
from ..git.helper import add_configuration, quote
from .order import Order
from .trust import find_system_bundle

# The directory, in the private one, with all files of it.
PLACE = "broker"
BUNDLE = f"{PLACE}/bundle.pem"
_GIT = f"{PLACE}/gitconfig"
_WGET = f"{PLACE}/wgetrc"
_CURL = f"{PLACE}/curl"
_PHP = f"{PLACE}/php"
_USER = "ics"
# The spellings in which the programs of a build look for a proxy: curl and git in small letters, Guzzle in capitals.
_PROXIES = """http_proxy https_proxy cgi_http_proxy HTTP_PROXY HTTPS_PROXY CGI_HTTP_PROXY
    npm_config_proxy npm_config_https_proxy PIP_PROXY""".split()
# What libcurl also uses, and newer Composers do not: set only where something is to be replaced.
_ALL = ("all_proxy", "ALL_PROXY")
# Variables that exempt hosts from the proxy: the broker applies them itself.
_EXCEPTIONS = frozenset({"no_proxy", "npm_config_noproxy", "npm_config_no_proxy"})
# Where programs look for the authorities that they trust.
_BUNDLES = """COMPOSER_CAFILE SSL_CERT_FILE CURL_CA_BUNDLE GIT_SSL_CAINFO NODE_EXTRA_CA_CERTS npm_config_cafile
    REQUESTS_CA_BUNDLE""".split()
# The same for programs that few builds use.
_RARE_BUNDLES = ("PIP_CERT", "AWS_CA_BUNDLE", "CARGO_HTTP_CAINFO", "DENO_CERT")
# What npm exempts if an .npmrc says something else: it reads no empty variable, and there is no host of that name.
_NPM_EXEMPT = {"npm_config_noproxy": "none.invalid"}
# None of these is secret, so a note may keep their former values.
_OTHERS = ("CURL_HOME", "GIT_HTTP_PROXY_AUTHMETHOD", "NODE_USE_ENV_PROXY", "PHP_INI_SCAN_DIR", "WGETRC")
PLAIN = frozenset({*_BUNDLES, *_RARE_BUNDLES, *_OTHERS, *_EXCEPTIONS, "NO_PROXY"})
# Where git, and Composer with it, asks by HTTPS though a URL names the user of SSH.
_SSH = ("git@{}:", "ssh://git@{}/")


class Lead(NamedTuple):
    """What is added to a build: files by path below the private directory, variables, and those to take out."""

    files: Mapping[str, bytes]
    variables: Mapping[str, str]
    removed: frozenset[str]

    def __repr__(self) -> str:
        return f"Lead({sorted(self.files)}, {sorted(self.variables)})"

    def apply(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of the build."""
        kept = {name: value for name, value in environment.items() if name not in self.removed}
        return {**kept, **self.variables}


def make_neutral(name: str) -> str:
    """Return the value with which programs do as if the variable were not set, for those who cannot unset it.

    An empty one keeps PHP from reading its own directory, and leaves git and OpenSSL without any authority.
    """
    if name in {"GIT_SSL_CAINFO", "SSL_CERT_FILE"}:
        return find_system_bundle()
    return {"PHP_INI_SCAN_DIR": f":{os.devnull}", "GIT_HTTP_PROXY_AUTHMETHOD": "anyauth"}.get(name, "")


def list_hosts(order: Order) -> frozenset[str]:
    """Return the hosts of an order's secrets, as Composer names them."""
    hosts = {credential.host for credential in order.credentials}
    return frozenset(hosts.union(*(bound.hosts for bound in order.bound)))


def make_lead(
    order: Order,
    port: int,
    bundle: bytes,
    directory: str,
    environment: Mapping[str, str],
    wgetrc: bytes = b"",
    curlrc: bytes = b"",
) -> Lead:
    """Return what leads a build with that environment, and that private directory, to the broker at the port.

    The bundle has the authorities of the system, of the person and of the broker; `wgetrc` and `curlrc` are the
    person's own.
    """
    proxy = f"http://{_USER}:{order.password}@127.0.0.1:{port}"
    path = os.path.join(directory, BUNDLE)
    names = [*_PROXIES, *(_ALL if any(name.lower() == "all_proxy" for name in environment) else ())]
    bundles = [*_BUNDLES, *(name for name in _RARE_BUNDLES if name in environment)]
    variables = {
        **dict.fromkeys(names, proxy),
        **dict.fromkeys(bundles, path),
        "GIT_HTTP_PROXY_AUTHMETHOD": "basic",  # else git asks without a password first
        "NODE_USE_ENV_PROXY": "1",
        "PHP_INI_SCAN_DIR": _add_directory(environment.get("PHP_INI_SCAN_DIR"), os.path.join(directory, _PHP)),
        "WGETRC": os.path.join(directory, _WGET),
        **_NPM_EXEMPT,
        **add_configuration(environment, os.path.join(directory, _GIT)),
    }
    files = {
        BUNDLE: bundle,
        f"{_PHP}/ic-secrets.ini": _render_php(path),
        _WGET: _render_wget(wgetrc, proxy, order.password, path),
        _GIT: _render_git(list_hosts(order), _list_forges(order), proxy),
    }
    if curlrc:  # else the variables are enough
        variables["CURL_HOME"] = os.path.join(directory, _CURL)
        files[f"{_CURL}/.curlrc"] = _render_curl(curlrc, proxy, order.password, path)
    return Lead(files, variables, _find_rivals(environment, variables))


def _find_rivals(environment: Mapping[str, str], variables: Mapping[str, str]) -> frozenset[str]:
    """Return the variables that would beat ours: other spellings of them, and exceptions."""
    ours = {name.lower() for name in variables} | _EXCEPTIONS
    return frozenset(name for name in environment if name.lower() in ours and name not in variables)


def _list_forges(order: Order) -> Collection[str]:
    """Return the hosts at which Composer with such a credential goes to HTTPS though a URL names the user of SSH."""
    forged = {name for name, method in METHODS.items() if method.domains or method.hosts}
    hosts = {each.host for each in order.credentials if each.method in forged or each.host in order.forges}
    return sorted(host for host in hosts if ":" not in host)


def _add_directory(inherited: str | None, directory: str) -> str:
    """Add the directory to those that PHP reads. An empty name stands for its own; an empty list disables them all."""
    return directory if inherited == "" else f"{inherited or ''}:{directory}"


def _render_php(bundle: str) -> bytes:
    mark = '"' if "'" in bundle else "'"
    return os.fsencode("".join(f"{name} = {mark}{bundle}{mark}\n" for name in ("openssl.cafile", "curl.cainfo")))


def _render_wget(inherited: bytes, proxy: str, password: str, bundle: str) -> bytes:
    """Return a wgetrc whose last lines, which win, are ours."""
    lines = ["", "use_proxy = on", f"http_proxy = {proxy}", f"https_proxy = {proxy}", "no_proxy ="]
    lines += [f"proxy_user = {_USER}", f"proxy_password = {password}", f"ca_certificate = {bundle}", ""]
    return inherited + os.fsencode("\n".join(lines))


def _render_curl(inherited: bytes, proxy: str, password: str, bundle: str) -> bytes:
    """Return a curlrc, in which the last of two options wins: what it says of proxies beats variables."""
    lines = ["", f"proxy = {quote(proxy)}", f"proxy-user = {quote(f'{_USER}:{password}')}", "proxy-basic"]
    lines += ['preproxy = ""', 'noproxy = ""', f"cacert = {quote(bundle)}", ""]
    return inherited + os.fsencode("\n".join(lines))


def _render_git(hosts: Iterable[str], forges: Iterable[str], proxy: str) -> bytes:
    """Return a configuration that beats a person's own proxy for a host, and has SSH URLs of forges asked by HTTPS."""
    lines = []
    for host in sorted(hosts):
        for scheme in ("https", "http"):
            lines += [f"[http {quote(f'{scheme}://{host}/')}]", f"\tproxy = {quote(proxy)}"]
    for host in forges:
        lines.append(f"[url {quote(f'https://{host}/')}]")
        lines += [f"\tinsteadOf = {quote(form.format(host))}" for form in _SSH]
    return os.fsencode("\n".join([*lines, ""]))
