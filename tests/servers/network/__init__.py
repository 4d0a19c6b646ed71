"""All hosts that a build asks, on loopback: forges, repositories, sellers of plugins, under their real names.

    with start_network() as network:
        environment |= network.environment

One TLS server plays them all, with a certificate from an authority of its own; a real nginx asks for a client
certificate. The way to them is a proxy, the *person's own*, which wants a password; so any name reaches them. What
they know of credentials is in no file.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import socket
import ssl
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from servers import nginx
from servers.certificates import Authority
from servers.network.base import Answer, Asked, Host, basic
from servers.network.bitbucket import Bitbucket
from servers.network.composer import ComposerRepository, make_password
from servers.network.forgejo import Forgejo
from servers.network.gateway import Gateway, running_gateway
from servers.network.github import GitHub
from servers.network.gitlab import GitLab
from servers.network.licences import Licences
from servers.network.tls import running_tls

__all__ = ["CERTIFIED", "Network", "Request", "start_network"]

CERTIFIED = "mtls.example.org"
_KEY_NAME = "X-Api-Key"


class Request(NamedTuple):
    """A request that arrived: the form of the credential that came along, and which values were anywhere in it."""

    method: str
    host: str
    path: str
    sender: str
    status: int
    values: frozenset[str]


@dataclass
class Network:
    """The hosts, and what they were asked. `values` are all credentials by name: none may arrive at another host."""

    directory: Path
    authority: Authority
    github: GitHub
    gitlab: GitLab
    selfhosted: GitLab
    bitbucket: Bitbucket
    forgejo: Forgejo
    basic: ComposerRepository
    bearer: ComposerRepository
    headers: ComposerRepository
    certified: ComposerRepository
    public: ComposerRepository
    licences: Licences
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    lines: list[str] = field(default_factory=list, repr=False)
    passphrase: str = field(default="", repr=False)
    proxy_password: str = field(default_factory=lambda: secrets.token_hex(12), repr=False)
    gateway: Gateway = field(init=False)
    port: int = 0
    requests: list[Request] = field(default_factory=list)

    @property
    def hosts(self) -> dict[str, Host]:
        """Every host by each of its names, but for that of nginx."""
        made = (
            self.github,
            self.gitlab,
            self.selfhosted,
            self.bitbucket,
            self.forgejo,
            self.basic,
            self.bearer,
            self.headers,
            self.public,
            self.licences,
        )
        return {name: host for host in made for name in host.names}

    @property
    def environment(self) -> dict[str, str]:
        """The person's own variables: the proxy with its password, and the authority."""
        path = str(self.directory / "authority.pem")
        proxy = f"http://person:{self.proxy_password}@127.0.0.1:{self.gateway.port}"
        return {"https_proxy": proxy, "http_proxy": proxy, "SSL_CERT_FILE": path, "GIT_SSL_CAINFO": path}

    @property
    def secrets(self) -> dict[str, Any]:
        """The `composer` secrets for the hosts, one of each method, with their values."""
        files = {"local_cert": str(self.directory / "client.pem"), "local_pk": str(self.directory / "client.key")}
        return {
            "http-basic.basic.example.org": {"username": self.user, "password": self.password},
            "bearer.bearer.example.org": self.token,
            "custom-headers.headers.example.org": self.lines,
            f"client-certificate.{CERTIFIED}": {**files, "passphrase": self.passphrase},
            "github-oauth.github.com": self.github.token,
            "gitlab-token.gitlab.com": self.gitlab.token,
            "gitlab-oauth.gitlab.example.org": {"token": self.selfhosted.oauth},
            "bitbucket-oauth.bitbucket.org": dict(
                zip(("consumer-key", "consumer-secret"), self.bitbucket.consumer, strict=True)
            ),
            "forgejo-token.codeberg.org": {"username": self.forgejo.user, "token": self.forgejo.token},
        }

    @property
    def values(self) -> dict[str, str]:
        """Every value that must be found nowhere, by the name of its secret or of what the servers alone know."""
        return {
            "http-basic.basic.example.org": self.password,
            "bearer.bearer.example.org": self.token,
            "custom-headers.headers.example.org": self.lines[0].partition(": ")[2],
            f"client-certificate.{CERTIFIED}": self.passphrase,
            "github-oauth.github.com": self.github.token,
            "gitlab-token.gitlab.com": self.gitlab.token,
            "gitlab-oauth.gitlab.example.org": self.selfhosted.oauth,
            "bitbucket-oauth.bitbucket.org": self.bitbucket.consumer[1],
            "forgejo-token.codeberg.org": self.forgejo.token,
            "access": self.bitbucket.access,
        }

    @property
    def marks(self) -> dict[str, tuple[str, ...]]:
        """By the same names, what a request has that brings such a value: the value itself, or pairs of it."""
        pairs = {
            "http-basic.basic.example.org": [(self.user, self.password)],
            "github-oauth.github.com": [(self.github.token, "x-oauth-basic")],
            "gitlab-token.gitlab.com": [("private-token", self.gitlab.token), ("oauth2", self.gitlab.token)],
            "gitlab-oauth.gitlab.example.org": [("oauth2", self.selfhosted.oauth)],
            "bitbucket-oauth.bitbucket.org": [self.bitbucket.consumer],
            "forgejo-token.codeberg.org": [(self.forgejo.user, self.forgejo.token)],
            "access": [("x-token-auth", self.bitbucket.access)],
        }
        # Of a licence key, the part that looks the same in a URL, a form and JSON.
        keys = {f"licence.{host}": (key[:32],) for host, key in self.licences.keys.items()}
        return keys | {
            name: (value, *(basic(*pair)[1].removeprefix("Basic ") for pair in pairs.get(name, [])))
            for name, value in self.values.items()
        }

    @property
    def needles(self) -> list[bytes]:
        """The values, and the pairs as HTTP sends them."""
        return [mark.encode() for marks in self.marks.values() for mark in marks]

    @property
    def packages(self) -> dict[str, dict[str, str]]:
        """The repository of each package `acme/NAME`, as composer.json names it, one for each method."""
        return {
            "basic": {"type": "composer", "url": "https://basic.example.org"},
            "bearer": {"type": "composer", "url": "https://bearer.example.org"},
            "headers": {"type": "composer", "url": "https://headers.example.org"},
            "mtls": {"type": "composer", "url": f"https://{CERTIFIED}"},
            "github": {"type": "vcs", "url": "https://github.com/acme/github"},
            "gitlab": {"type": "vcs", "url": "https://gitlab.com/acme/gitlab.git"},
            "selfhosted": {"type": "vcs", "url": "https://gitlab.example.org/acme/selfhosted.git"},
            "bitbucket": {"type": "vcs", "url": "https://bitbucket.org/acme/bitbucket.git"},
            "forgejo": {"type": "git", "url": "https://codeberg.org/acme/forgejo.git"},
        }

    def write_project(self, directory: Path, names: Iterable[str] = (), **more: Any) -> Path:
        """Make a project that requires these packages, or those of all methods; `more` goes into its composer.json."""
        chosen = list(names) or list(self.packages)
        manifest = {
            "repositories": [*(self.packages[name] for name in chosen), {"packagist.org": False}],
            "require": {f"acme/{name}": "^1.0" for name in chosen},
            **more,
        }
        directory.mkdir()
        (directory / "composer.json").write_text(json.dumps(manifest, indent=4))
        return directory

    def forget(self) -> None:
        """Take back what a test added, and forget what was asked."""
        self.requests.clear()
        for repository in (self.basic, self.bearer, self.headers, self.public):
            repository.added.clear()
            repository.told.clear()

    def find(self, host: str, path: str = "") -> list[Request]:
        """Return the requests to the host whose path begins so."""
        return [each for each in self.requests if each.host == host and each.path.startswith(path)]

    def respond(self, asked: Asked, raw: str) -> Answer:
        """Answer a request, and note it."""
        host = self.hosts.get(asked.host)
        if not host:
            return Answer(404, b"no such host")
        sender = host.identify(asked)
        answer = host.answer(asked, sender)
        text = raw + asked.body.decode("latin-1")
        values = frozenset(name for name, marks in self.marks.items() if any(mark in text for mark in marks))
        self.requests.append(Request(asked.method, asked.host, asked.path, sender, answer.status, values))
        return answer


@contextlib.contextmanager
def start_network() -> Iterator[Network]:
    """Make the repositories and the certificates, listen, and end."""
    nginx.require_tools()
    with contextlib.ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="ic-network-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        network = _make_network(directory)
        network.port = stack.enter_context(running_tls(_make_context(network), network.respond))
        certified = stack.enter_context(_running_nginx(network))
        network.gateway = Gateway(network.port, {CERTIFIED: certified}, "person", network.proxy_password)
        stack.enter_context(running_gateway(network.gateway))
        yield network


def _make_network(directory: Path) -> Network:
    user, password, token = f"deploy-{secrets.token_hex(4)}", make_password(), secrets.token_urlsafe(24)
    line = f"{_KEY_NAME}: {secrets.token_hex(16)}"
    header = line.partition(": ")[2]
    repositories = {
        "basic": (basic(user, password), "basic"),
        "bearer": (("authorization", f"Bearer {token}"), "bearer"),
        "headers": ((_KEY_NAME.lower(), header), "headers"),
        "mtls": None,
        "public": None,
    }
    made = {
        name: ComposerRepository.make(directory / name, f"{name}.example.org", f"acme/{name}", form)
        for name, form in repositories.items()
    }
    return Network(
        directory,
        Authority(),
        GitHub.make(directory / "github"),
        GitLab.make(directory / "gitlab", "gitlab.com", ("acme/gitlab",)),
        GitLab.make(
            directory / "selfhosted", "gitlab.example.org", ("acme/selfhosted", "acme/registry"), "acme/registry"
        ),
        Bitbucket.make(directory / "bitbucket"),
        Forgejo.make(directory / "forgejo"),
        made["basic"],
        made["bearer"],
        made["headers"],
        made["mtls"],
        made["public"],
        Licences(),
        user,
        password,
        token,
        [line],
        secrets.token_hex(12),
    )


def _make_context(network: Network) -> ssl.SSLContext:
    """Write the certificates, and return the context of the server for all hosts."""
    directory, authority = network.directory, network.authority
    certificate, key = authority.sign([*network.hosts, CERTIFIED])
    (directory / "authority.pem").write_bytes(authority.certificate)
    (directory / "server.pem").write_bytes(certificate + key)
    certificate, key = authority.sign(["a client"], network.passphrase.encode())
    (directory / "client.pem").write_bytes(certificate)
    (directory / "client.key").write_bytes(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem")
    return context


@contextlib.contextmanager
def _running_nginx(network: Network) -> Iterator[int]:
    """The host that wants a client certificate, at the port that this gives."""
    directory = network.directory
    root = network.certified.directory
    index = network.certified._announce()
    (root / "packages.json").write_text(
        json.dumps({name: index[name] for name in ("packages", "metadata-url", "available-packages")})
    )
    (directory / "temp").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as secure, socket.create_server(("127.0.0.1", 0)) as control:
        ports = [listener.getsockname()[1] for listener in (secure, control)]
        section = nginx.certified_section(ports[0], CERTIFIED, directory, root)
        section += nginx.control_section(ports[1])
        (directory / "nginx.conf").write_text(nginx.main_configuration(section))
        with nginx.running_nginx([secure, control], directory, ports[1]):
            yield ports[0]
