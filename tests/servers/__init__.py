"""The private repositories that tests and the demo stand on: real nginx, real git, on loopback.

    with start_servers() as servers:
        project = servers.project(directory, "everything")
        environment["COMPOSER_AUTH"] = servers.composer_auth("basic", "bearer", "git")

Four servers, each on a port of its own: `basic` and `bearer` (Composer repositories behind a password and a token),
`git` (repositories over smart HTTP behind a password) and `public` (a Composer repository for everybody). Their
credentials are random, new for every start, and hold the characters that get credentials wrong; what the servers keep
of them are hashes, so a search of the temporary directories for a value finds none that the servers put there.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from servers import nginx, packages

__all__ = ["AWKWARD_CHARACTERS", "FIXTURES", "Hang", "Request", "Server", "Servers", "start_servers"]

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"

AWKWARD_CHARACTERS = "/@%+\"\\ '$"
"""Every password holds each of these at least once, never first or last."""

_LONGEST_SOCKET_PATH = 107  # sun_path of unix(7), less its NUL


class Request(NamedTuple):
    """One line of the access log. Credentials are never logged, only whether there were any."""

    server: str
    method: str
    path: str
    status: int
    had_authorization: bool


@dataclass(frozen=True, slots=True)
class Server:
    """One private repository: where it is, and what it asks for (`user` and `password`, or `token`, or nothing)."""

    name: str
    port: int
    switches: Path
    hang_listener: socket.socket = field(repr=False)
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT`: the key that Composer looks credentials up by."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The address without a slash at its end."""
        return f"http://{self.host}"

    @property
    def auth(self) -> dict[str, dict[str, Any]]:
        """What an auth.json must hold for this server."""
        if self.password:
            return {"http-basic": {self.host: {"username": self.user, "password": self.password}}}
        return {"bearer": {self.host: self.token}} if self.token else {}

    @property
    def secret_name(self) -> str:
        """The name of a `composer` secret for this server, `METHOD.HOST:PORT`."""
        return f"{'http-basic' if self.password else 'bearer'}.{self.host}"

    @property
    def secret_value(self) -> bytes:
        """The value of that secret: JSON where a password has spaces, else the token alone."""
        if self.password:
            return json.dumps({"username": self.user, "password": self.password}).encode()
        return self.token.encode()

    @property
    def needles(self) -> list[bytes]:
        """What must be found nowhere: the password or token, and the pair as HTTP sends it."""
        if self.password:
            return [self.password.encode(), base64.b64encode(f"{self.user}:{self.password}".encode())]
        return [self.token.encode()] if self.token else []

    @contextlib.contextmanager
    def answering(self, package: str, status: int, *, after_challenge: bool = False) -> Iterator[None]:
        """Within it, a request for `package` (a git repository or a dist file) is answered 401, 403, 404 or 500.

        With `after_challenge`, only a request that brings a credential is; one without gets the usual 401, so that git
        asks its helpers for a credential and has it refused.
        """
        with _switched(self.switches / package, str(status), after_challenge):
            yield

    @contextlib.contextmanager
    def hanging(self, package: str, *, after_challenge: bool = False) -> Iterator[Hang]:
        """Within it, a request for `package` gets no answer; one still waiting at the end is answered 502 or 504."""
        with _switched(self.switches / package, "hang", after_challenge), Hang(self.hang_listener) as hang:
            yield hang


class Hang:
    """Requests that wait for an answer; a test waits for the moment when there is one."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._waiting: list[socket.socket] = []

    def wait_for_request(self, timeout: float = 30) -> None:
        """Return as soon as one more request hangs; TimeoutError after `timeout` seconds."""
        self._listener.settimeout(timeout)
        self._waiting.append(self._listener.accept()[0])

    def __enter__(self) -> Hang:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._waiting.append(self._listener.accept()[0])
        for connection in self._waiting:
            connection.close()


@contextlib.contextmanager
def _switched(directory: Path, answer: str, after_challenge: bool) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    senders = ["credential"] if after_challenge else ["credential", "anonymous"]
    files = [directory / f"{answer}.{sender}" for sender in senders]
    try:
        for file in files:
            file.touch(exist_ok=False)
        yield
    finally:
        for file in files:
            file.unlink(missing_ok=True)


@dataclass(frozen=True)
class Servers:
    """The four servers, and what they were asked for."""

    basic: Server
    bearer: Server
    git: Server
    public: Server
    directory: Path
    control_port: int

    @property
    def all(self) -> tuple[Server, ...]:
        return (self.basic, self.bearer, self.git, self.public)

    @property
    def needles(self) -> list[bytes]:
        """Every value that must be found nowhere."""
        return [needle for server in self.all for needle in server.needles]

    def composer_auth(self, *names: str) -> str:
        """The text of an auth.json, or of COMPOSER_AUTH, for the servers named."""
        merged: dict[str, dict[str, Any]] = {}
        for name in names:
            for method, hosts in getattr(self, name).auth.items():
                merged.setdefault(method, {}).update(hosts)
        return json.dumps(merged)

    def project(self, directory: Path, name: str) -> Path:
        """Copy `fixtures/projects/NAME` to `directory/NAME`, the addresses filled in; gives the copy's path."""
        copy = directory / name
        shutil.copytree(FIXTURES / "projects" / name, copy)
        for file in copy.rglob("*.json"):
            text = file.read_text()
            for server in self.all:
                text = text.replace("{{" + server.name + "}}", server.url)
            file.write_text(text)
        return copy

    def project_with_theme(self, directory: Path) -> Path:
        """Copy the project of which git alone asks a host; a nested install of its theme asks that host by HTTP."""
        project = self.project(directory, "git-only")
        manifest = json.loads((project / "composer.json").read_text())
        manifest["scripts"] = {"post-autoload-dump": "@composer install -d theme --no-interaction"}
        (project / "composer.json").write_text(json.dumps(manifest))
        url = f"{self.git.url}/initech/vault.git/info/refs?service=git-upload-pack"
        patch = {"name": "acme/patch", "version": "1.0.0", "dist": {"type": "file", "url": url}}
        theme = {
            "repositories": [{"type": "package", "package": patch}, {"packagist.org": False}],
            "require": {"acme/patch": "1.0.0"},
            "config": {"secure-http": False},
        }
        (project / "theme").mkdir()
        (project / "theme" / "composer.json").write_text(json.dumps(theme))
        return project

    def mark(self) -> int:
        """A moment, for `requests(since=…)`: every request answered before it is in the log."""
        nginx.ask(self.control_port, "/mark")
        return (self.directory / "access.log").stat().st_size

    def requests(self, since: int = 0) -> list[Request]:
        """The requests answered after the moment `since`, in order; all of them when none is given."""
        end = self.mark()
        with (self.directory / "access.log").open("rb") as log:
            log.seek(since)
            lines = log.read(end - since).splitlines()
        return [_request(json.loads(line)) for line in lines]


def _request(line: dict[str, Any]) -> Request:
    return Request(
        line["server"], line["method"], line["path"], int(line["status"]), line["authorization"] == "credential"
    )


@contextlib.contextmanager
def start_servers() -> Iterator[Servers]:
    """Build the packages, start nginx and git's CGI, and end both; they end too when this process is killed.

    MissingToolError where nginx, fcgiwrap or git is not installed, NginxError where nginx does not start.
    """
    nginx.require_tools()
    with contextlib.ExitStack() as stack:
        # As short as can be, since a socket's path is; and private, since nginx's control files are in it.
        name = tempfile.mkdtemp(prefix="ic-servers-", dir=_short_directory())
        stack.callback(shutil.rmtree, name, ignore_errors=True)
        directory = Path(name)
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(5)]
        ports = [listener.getsockname()[1] for listener in listeners]
        hang = stack.enter_context(_unix_listener(directory / "hang.sock"))
        git = stack.enter_context(_unix_listener(directory / "git.sock"))
        servers = _servers(directory, ports, hang)
        for server in servers.all:
            packages.build(FIXTURES / "packages" / server.name, directory / server.name, server.url)
        nginx.write_configuration(servers)
        stack.enter_context(nginx.running_fcgiwrap(git, directory))
        stack.enter_context(nginx.running_nginx(listeners, directory, servers.control_port))
        yield servers


def _short_directory() -> str | None:
    longest = len(tempfile.gettempdir()) + len("/ic-servers-12345678/hang.sock")
    return None if longest <= _LONGEST_SOCKET_PATH else "/tmp"


def _unix_listener(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(64)
    return listener


def _servers(directory: Path, ports: list[int], hang: socket.socket) -> Servers:
    def server(name: str, port: int, **credential: str) -> Server:
        return Server(name, port, directory / "switches" / name, hang, **credential)

    return Servers(
        server("basic", ports[0], user=f"deploy-{secrets.token_hex(4)}", password=_random_password()),
        server("bearer", ports[1], token=_random_token()),
        server("git", ports[2], user=f"robot-{secrets.token_hex(4)}", password=_random_password()),
        server("public", ports[3]),
        directory,
        ports[4],
    )


def _random_password() -> str:
    """Letters and digits around each awkward character, these in random order."""
    characters = list(AWKWARD_CHARACTERS)
    secrets.SystemRandom().shuffle(characters)
    return secrets.token_hex(2) + "".join(character + secrets.token_hex(2) for character in characters)


def _random_token() -> str:
    """A b64token of RFC 6750, with the characters that JSON and URLs escape."""
    return f"{secrets.token_hex(8)}/{secrets.token_hex(8)}+{secrets.token_hex(8)}="
