"""What Composer takes for Bitbucket, on loopback: it mints an access token, and serves a repository to whoever has it.

    with start_bitbucket() as bitbucket:
        environment |= bitbucket.environment

Composer asks bitbucket.org and api.bitbucket.org, wherever it runs. So this is a proxy that ends TLS itself, with a
certificate from an authority of its own, and answers in their place: the token endpoint, the repository API, the
downloads, and git by plain files. Consumer and token are random; they are in no file.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import shutil
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from servers import packages
from servers.certificates import Authority

__all__ = ["Bitbucket", "Request", "start_bitbucket"]

HOSTS = ("bitbucket.org", "api.bitbucket.org")
PACKAGE = "acme/widget"
URL = f"https://bitbucket.org/{PACKAGE}.git"
_API = f"https://api.bitbucket.org/2.0/repositories/{PACKAGE}"


class Request(NamedTuple):
    """One request. `sender` is what its credential was: `consumer`, `token`, `wrong`, or empty where it had none."""

    host: str
    path: str
    sender: str
    status: int


@dataclass(frozen=True)
class Bitbucket:
    """The server: the consumer that it knows, the token that it mints for it, and what it was asked."""

    port: int
    directory: Path
    consumer_key: str = field(default_factory=lambda: f"key-{secrets.token_hex(8)}")
    consumer_secret: str = field(default_factory=lambda: f"consumer-{secrets.token_hex(16)}", repr=False)
    token: str = field(
        default_factory=lambda: f"{secrets.token_hex(8)}/{secrets.token_hex(8)}+{secrets.token_hex(8)}=", repr=False
    )
    requests: list[Request] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead Composer and git here, and make them trust the authority."""
        authority = str(self.directory / "authority.pem")
        return {
            "https_proxy": f"http://127.0.0.1:{self.port}",
            "SSL_CERT_FILE": authority,
            "GIT_SSL_CAINFO": authority,
        }

    @property
    def secret_name(self) -> str:
        """The name of the `composer` secret."""
        return "bitbucket-oauth.bitbucket.org"

    @property
    def secret_value(self) -> bytes:
        """The value of that secret."""
        return f"{self.consumer_key} {self.consumer_secret}".encode()

    @property
    def auth(self) -> dict[str, Any]:
        """What an auth.json holds for this server before anything is minted."""
        consumer = {"consumer-key": self.consumer_key, "consumer-secret": self.consumer_secret}
        return {"bitbucket-oauth": {"bitbucket.org": consumer}}

    @property
    def needles(self) -> list[bytes]:
        """What must be found nowhere: the consumer's secret and the token."""
        return [self.consumer_secret.encode(), self.token.encode()]

    @property
    def mints(self) -> int:
        """How often the token was given out."""
        return sum(request.path == "/site/oauth2/access_token" and request.status == 200 for request in self.requests)

    @property
    def repository(self) -> Path:
        """The bare repository."""
        return self.directory / "git" / f"{PACKAGE}.git"


@contextlib.contextmanager
def start_bitbucket() -> Iterator[Bitbucket]:
    """Make the repository and the certificates, listen, and end."""
    with tempfile.TemporaryDirectory(prefix="ic-bitbucket-") as name:
        directory = Path(name)
        _build_repository(directory)
        authority = Authority()
        (directory / "authority.pem").write_bytes(authority.certificate)
        (directory / "server.pem").write_bytes(b"".join(authority.sign(HOSTS)))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "server.pem")
        with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
            server.daemon_threads = True
            bitbucket = Bitbucket(server.server_port, directory)
            server.bitbucket, server.tls = bitbucket, context  # type: ignore[attr-defined]
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield bitbucket
            finally:
                server.shutdown()
                thread.join()


class _Handler(BaseHTTPRequestHandler):
    """One connection to the proxy: a CONNECT, then requests to that host."""

    protocol_version = "HTTP/1.1"
    timeout = 30
    host = ""

    def do_CONNECT(self) -> None:
        host = self.path.rpartition(":")[0]
        if self.host or host not in HOSTS:
            self._answer(403)
            return
        self.send_response_only(200, "connected")
        self.end_headers()
        try:
            self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)  # type: ignore[attr-defined]
        except (OSError, ssl.SSLError):
            self.close_connection = True
            return
        self.host = host
        self.rfile = self.connection.makefile("rb", -1)
        self.wfile = self.connection.makefile("wb", 0)
        self.close_connection = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.host != "bitbucket.org" or self.path != "/site/oauth2/access_token":
            self._answer(404)
        elif self._sender() != "consumer" or body != b"grant_type=client_credentials":
            self._answer(401)
        else:
            self._answer(200, {"access_token": self._bitbucket.token, "token_type": "bearer", "expires_in": 7200})

    def do_GET(self) -> None:
        if self._sender() != "token":
            self._answer(401)
            return
        path = urlsplit(self.path).path
        content = self._find_in_api(path) if self.host == "api.bitbucket.org" else self._find_on_site(path)
        self._answer(404 if content is None else 200, content)

    def _find_in_api(self, path: str) -> Any:
        """The repository API, as far as Composer asks it."""
        what = path.removeprefix(f"/2.0/repositories/{PACKAGE}").strip("/").split("/")
        match what:
            case [""]:
                return {
                    "scm": "git",
                    "website": "",
                    "has_issues": False,
                    "mainbranch": {"name": "main"},
                    "links": {
                        "branches": {"href": f"{_API}/refs/branches"},
                        "tags": {"href": f"{_API}/refs/tags"},
                        "html": {"href": f"https://bitbucket.org/{PACKAGE}"},
                        "clone": [{"name": "https", "href": URL}],
                    },
                }
            case ["refs", "branches"]:
                return {"values": [{"name": n, "target": {"hash": h}, "heads": []} for n, h in self._refs("heads")]}
            case ["refs", "tags"]:
                return {"values": [{"name": n, "target": {"hash": h}} for n, h in self._refs("tags")]}
            case ["src", commit, "composer.json"]:
                return self._git("show", f"{commit}:composer.json")
            case ["commit", commit]:
                return {"date": self._git("log", "-1", "--format=%cI", commit).decode().strip()}
        return None

    def _find_on_site(self, path: str) -> bytes | None:
        """A download, or a file of the repository for git, which then needs no program here."""
        if path.startswith(f"/{PACKAGE}/get/") and path.endswith(".zip"):
            commit = path.rpartition("/")[2].removesuffix(".zip")
            return self._git("archive", "--format=zip", f"--prefix=acme-widget-{commit[:12]}/", commit)
        file = self._bitbucket.repository / path.removeprefix(f"/{PACKAGE}.git/")
        is_ours = path.startswith(f"/{PACKAGE}.git/") and ".." not in path
        return file.read_bytes() if is_ours and file.is_file() else None

    def _refs(self, kind: str) -> list[list[str]]:
        lines = self._git("for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", f"refs/{kind}")
        return [line.split() for line in lines.decode().splitlines()]

    def _git(self, *arguments: str) -> bytes:
        command = ["git", "-C", str(self._bitbucket.repository), *arguments]
        return subprocess.run(command, check=True, capture_output=True).stdout

    def _sender(self) -> str:
        """Whose credential the request brings; git sends the token as a password."""
        given = self.headers.get("Authorization", "")
        known = {
            _basic(self._bitbucket.consumer_key, self._bitbucket.consumer_secret): "consumer",
            _basic("x-token-auth", self._bitbucket.token): "token",
            f"Bearer {self._bitbucket.token}": "token",
        }
        return known.get(given, "wrong") if given else ""

    def _answer(self, status: int, content: Any = None) -> None:
        self._bitbucket.requests.append(Request(self.host, urlsplit(self.path).path, self._sender(), status))
        body = content if isinstance(content, bytes) else json.dumps(content or {"type": "error"}).encode()
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="Bitbucket"')
        self.send_header(
            "Content-Type", "application/octet-stream" if isinstance(content, bytes) else "application/json"
        )
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @property
    def _bitbucket(self) -> Bitbucket:
        return self.server.bitbucket  # type: ignore[attr-defined, no-any-return]

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """`requests` is the log."""


def _basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def _build_repository(directory: Path) -> None:
    source = directory / "trees" / PACKAGE
    source.mkdir(parents=True)
    manifest = {"name": PACKAGE, "description": "A package on Bitbucket", "license": "proprietary"}
    (source / "composer.json").write_text(json.dumps(manifest))
    (source / "widget.php").write_text("<?php\n")
    packages.build(directory / "trees", directory / "git", "")
    shutil.rmtree(directory / "trees")
    subprocess.run(["git", "-C", str(directory / "git" / f"{PACKAGE}.git"), "update-server-info"], check=True)
