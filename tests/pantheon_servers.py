"""A small server that keeps to the protocol of Pantheon's API, its rate limit included, and tells what it was asked."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote

TOKEN = "machine-token-canary-1"
SESSION = "session-canary:2"
RATE = 3


class Asked(NamedTuple):
    """A request: when it came (of the monotonic clock), and what was answered."""

    at: float
    method: str
    path: str
    authorization: str | None
    status: int


class Fault(NamedTuple):
    """What a request is answered with in place of the truth; status 0 closes the connection without a word."""

    status: int
    body: bytes = b"{}"
    headers: tuple[tuple[str, str], ...] = ()
    path: str = ""  # only requests whose path has that in it
    after: bool = False  # what was asked is done first, and only the answer is lost


class Secret(NamedTuple):
    """One that an owner holds."""

    type: str
    value: str
    scopes: tuple[str, ...]
    env: dict[str, str]


class Platform:
    """Sites with their secrets, and those of the organization of all of them."""

    def __init__(self, window: float = 1.0) -> None:
        self.window = window
        self.lock = threading.Lock()
        self.ids: dict[str, str] = {}
        self.secrets: dict[str, dict[str, Secret]] = {}
        self.lent: dict[str, Secret] = {}
        self.faults: list[Fault] = []
        self.asked: list[Asked] = []
        self.url = ""

    def add_site(self, name: str) -> dict[str, Secret]:
        """A site; what it holds is in the map that is given."""
        self.ids[name] = str(uuid.uuid4())
        return self.secrets.setdefault(self.ids[name], {})

    def find_most_in_a_window(self) -> int:
        """The most requests that came within any window of the rate limit."""
        times = [one.at for one in self.asked]
        return max((sum(start <= one < start + self.window for one in times) for start in times), default=0)

    def environment(self) -> dict[str, str]:
        """What points a command here."""
        return {
            "IC_SECRETS_STORE": "pantheon:",
            "IC_SECRETS_PANTHEON_URL": self.url,
            "IC_SECRETS_PANTHEON_TOKEN": TOKEN,
        }

    # --- the protocol -----------------------------------------------------------------------------------

    def answer(self, method: str, path: str, authorization: str | None, body: Any) -> tuple[int, Any]:
        """A status and what goes with it."""
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts == ["v0", "authorize", "machine-token"]:
            good = isinstance(body, dict) and body.get("machine_token") == TOKEN and body.get("client")
            return (200, {"session": SESSION, "expires_at": 2_000_000_000}) if good else (401, "invalid token")
        if (authorization or "").removeprefix("Bearer ") != SESSION:
            return 401, "unauthorized"
        if parts[:2] == ["v0", "site-names"] and method == "GET" and len(parts) == 3:
            site_id = self.ids.get(parts[2])
            return (200, {"id": site_id}) if site_id else (404, "no such site")
        if parts[:3] == ["customer-secrets", "v1", "sites"] and parts[3] in self.secrets and parts[4] == "secrets":
            return self._answer_secrets(method, parts[3], parts[5:], body)
        return 404, "not found"

    def _answer_secrets(self, method: str, site_id: str, rest: list[str], body: Any) -> tuple[int, Any]:
        held = self.secrets[site_id]
        if method == "GET" and rest == ["showall"]:
            return 200, self._show_all(site_id)
        if method == "POST" and not rest:
            if body["name"] in held:
                return 400, f"secret exists, use PATCH to change {body['value']}"
            held[body["name"]] = Secret(body["type"], body["value"], tuple(body["scopes"]), {})
            return 200, {"name": body["name"]}
        if len(rest) != 1:
            return 404, "not found"
        known = held.get(rest[0])
        if method == "PATCH" and "env" in body:
            return self._patch_override(held, known, rest[0], body)
        if known is None:
            return 404, "no such secret"
        if method == "PATCH":
            held[rest[0]] = known._replace(value=body["value"])
            return 200, None
        if method == "DELETE":
            del held[rest[0]]
            return 204, None
        return 405, "no such method"

    def _patch_override(self, held: dict[str, Secret], known: Secret | None, name: str, body: Any) -> tuple[int, Any]:
        if known is None and name not in self.lent:
            return 404, "no such secret"
        if known is None:
            known = held[name] = self.lent[name]._replace(value="", env={})
        if body["value"] is None:
            known.env.pop(body["env"], None)
            if not known.env and not known.value:
                del held[name]
        else:
            known.env[body["env"]] = body["value"]
        return 200, None

    def _show_all(self, site_id: str) -> dict[str, Any]:
        entries = {}
        for name in sorted({*self.secrets[site_id], *self.lent}):
            own, lent = self.secrets[site_id].get(name), self.lent.get(name)
            shown = own or lent
            assert shown is not None
            given = "user" in shown.scopes
            entries[name] = {
                "Type": shown.type,
                "Value": own.value if own and given and own.value else None,
                "Scopes": list(shown.scopes),
                "EnvValues": {env: value if given else None for env, value in (own.env if own else {}).items()},
                "OrgValues": {"default": lent.value if given else None} if lent else {},
            }
        return {"SiteID": site_id, "Secrets": entries or [], "Count": len(entries), "Version": "", "Scopes": []}


@contextlib.contextmanager
def running(window: float = 1.0) -> Iterator[Platform]:
    """One on a free port of this machine, with a site `my-site`."""
    platform = Platform(window)
    platform.add_site("my-site")

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Nothing."""

        def handle_any(self) -> None:
            now = time.monotonic()
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            with platform.lock:
                status, content, headers = self._decide(now, body)
                sent = self.headers.get("Authorization")
                platform.asked.append(Asked(now, self.command, self.path, sent, status))
            if not status:
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(content)

        def _decide(self, now: float, body: Any) -> tuple[int, bytes, tuple[tuple[str, str], ...]]:
            if sum(one.at > now - platform.window for one in platform.asked) >= RATE:
                return 429, b"too many", ()
            fault = next((one for one in platform.faults if one.path in self.path), None)
            if fault:
                platform.faults.remove(fault)
            if fault is None or fault.after:
                status, content = platform.answer(self.command, self.path, self.headers.get("Authorization"), body)
            if fault:
                return fault.status, fault.body, fault.headers
            return status, b"" if content is None else json.dumps(content).encode(), ()

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that went away is not a failure."""

    server = Quiet(("127.0.0.1", 0), Handler)
    platform.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield platform
    finally:
        server.shutdown()
        server.server_close()
