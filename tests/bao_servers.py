"""A real OpenBao server, in dev mode on a free port of this machine, and what asks it as its administrator."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = "root"
PROGRAM = Path(sys.executable).parent / "bao"


class Server:
    """One that runs. `url(mount)` is a store on it. Nodes of one cluster count what they make together."""

    def __init__(self, port: int, count: Iterator[int] | None = None) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.root = ROOT
        self._count = count or itertools.count(1)

    def url(self, mount: str) -> str:
        return f"bao+{self.address}/{mount}"

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        token: str | None = None,
        more: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """What it answers; urllib's HTTPError where it refuses."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"X-Vault-Token": self.root if token is None else token, **(more or {})}
        request = urllib.request.Request(f"{self.address}/v1/{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            content = response.read()
        return dict(json.loads(content)) if content else {}

    def status(self, method: str, path: str, token: str, body: Mapping[str, Any] | None = None) -> int:
        """The status of its answer."""
        try:
            self.ask(method, path, body, token)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        return 200

    def pass_on(self, method: str, path: str, body: bytes, token: str) -> tuple[int, bytes]:
        """The answer to somebody else's request, as it is."""
        with contextlib.closing(http.client.HTTPConnection(self.address.removeprefix("http://"), timeout=10)) as line:
            line.request(method, f"/v1/{path}", body or None, {"X-Vault-Token": token} if token else {})
            response = line.getresponse()
            return response.status, response.read()

    def mount(self, version: str = "2") -> str:
        """The name of a new, empty engine for keys and values."""
        name = f"ic-{next(self._count)}"
        self.ask("POST", f"sys/mounts/{name}", {"type": "kv", "options": {"version": version}})
        end = time.monotonic() + 10
        while version == "2" and self.status("GET", f"{name}/config", self.root) != 200:  # it upgrades itself
            if time.monotonic() > end:
                raise AssertionError(f"{name} does not get ready")
        return name

    def token(self, policy: str, **more: Any) -> str:
        """A new token with that policy, in HCL, alone (and the default one)."""
        name = f"policy-{next(self._count)}"
        self.ask("PUT", f"sys/policies/acl/{name}", {"policy": policy})
        made = self.ask("POST", "auth/token/create", {"policies": [name], **more})
        return str(made["auth"]["client_token"])


@contextlib.contextmanager
def running(*more: str) -> Iterator[Server]:
    """A server for the time of the block, with further words on its command line."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [str(PROGRAM), "server", "-dev", f"-dev-root-token-id={ROOT}", f"-dev-listen-address=127.0.0.1:{port}"]
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    process = subprocess.Popen(
        [*words, "-dev-no-store-token", *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    server = Server(port)
    try:
        _wait(server, process)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            server.status("GET", "sys/health", ROOT)  # 400 where it speaks TLS, and is ready to
            return
        time.sleep(0.02)
    raise AssertionError("the OpenBao server does not start")


Fault = Callable[[str, str], "tuple[int, dict[str, Any]] | None"]


class Way:
    """What stands between a client and the server: passes all on, but for what `fault` answers in its place.

    `fault(method, path)` gives a status and a body, or None to pass it on; status 0 breaks the connection, and one
    below 0 passes the request on and then breaks it, so that the answer is lost. `seen` are the requests that came.
    """

    def __init__(self, server: Server, fault: Fault) -> None:
        self.seen: list[tuple[str, str]] = []
        self.connections = 0
        way = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def setup(self) -> None:
                super().setup()
                way.connections += 1

            def handle_one_request(self) -> None:
                line = self.rfile.readline(65537).decode("latin-1").split(" ")
                if len(line) < 3:
                    self.close_connection = True
                    return
                headers = http.client.parse_headers(self.rfile)
                body = self.rfile.read(int(headers.get("Content-Length") or 0))
                method, path = line[0], line[1].removeprefix("/v1/")
                way.seen.append((method, path))
                made = fault(method, path)
                if made is None or made[0] < 0:
                    status, content = server.pass_on(method, path, body, headers.get("X-Vault-Token", ""))
                else:
                    status, content = made[0], json.dumps(made[1]).encode()
                self.close_connection = made is not None and made[0] <= 0
                if self.close_connection:
                    return
                head = (
                    f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
                )
                self.wfile.write(head.encode() + content)
                self.wfile.flush()

        class Listener(http.server.ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: object) -> None:
                """A client that is gone is not a failure."""

        self._listener = Listener(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._listener.server_address[1]}"
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.02,))

    def __enter__(self) -> Way:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown()
        self._thread.join()
        self._listener.server_close()
