"""A model of a server's KV engine of version 2, asked over loopback, which decides whose request comes next.

Each writer has a token of its own. A request waits until every writer that still runs has one waiting, and then one of
them is drawn. A writer that is killed is answered by refusals alone: it changes nothing any more, not even back.
"""

from __future__ import annotations

import http.client
import http.server
import json
import random
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

MOUNT = "kv"
Said = tuple[int, dict[str, Any]]
_REFUSED: Said = (403, {"errors": ["permission denied"]})


class Engine:
    """What the engine holds. `limited` are the tokens that may create custom metadata, but not change them."""

    def __init__(self) -> None:
        self.limited: set[str] = set()
        self._keys: dict[str, dict[str, Any]] = {}
        self._moment = 0

    def answer(self, method: str, path: str, body: Mapping[str, Any], token: str) -> Said:
        kind, _, key = path.removeprefix(f"{MOUNT}/").partition("/")
        key, _, query = key.partition("?")
        if kind == "data":
            return self._write(key, body) if method == "POST" else self._read(key, query)
        if method == "LIST":
            return self._list(key.rstrip("/") + "/")
        if method == "DELETE":
            self._keys.pop(key, None)
            return 204, {}
        if method == "POST":
            if key in self._keys and token in self.limited:
                return _REFUSED
            self._make(key)["meta"] = dict(body["custom_metadata"])
            return 204, {}
        found = self._keys.get(key)
        if found is None:
            return 404, {"errors": []}
        states = {str(number): self._state(found, number) for number in found["versions"]}
        content = {"custom_metadata": found["meta"], "versions": states, "current_version": len(states)}
        return 200, {"data": {"created_time": "", "updated_time": "", **content}}

    def _make(self, key: str) -> dict[str, Any]:
        return self._keys.setdefault(key, {"meta": None, "versions": {}})

    def _state(self, found: dict[str, Any], number: int) -> dict[str, Any]:
        created = f"{found['versions'][number][0]:09}"
        state = {"created_time": created, "deletion_time": "", "destroyed": False, "version": number}
        return {**state, "custom_metadata": found["meta"]}

    def _write(self, key: str, body: Mapping[str, Any]) -> Said:
        found = self._keys.get(key) or {"meta": None, "versions": {}}
        if body["options"]["cas"] != len(found["versions"]):
            return 400, {"errors": ["check-and-set parameter did not match the current version"]}
        self._moment += 1
        number = len(found["versions"]) + 1
        found = self._make(key)
        found["versions"][number] = (self._moment, dict(body["data"]))
        return 200, {"data": self._state(found, number)}

    def _read(self, key: str, query: str) -> Said:
        found = self._keys.get(key)
        if not found or not found["versions"]:
            return 404, {"errors": []}
        number = int(query.partition("=")[2] or len(found["versions"]))
        return 200, {"data": {"data": found["versions"][number][1], "metadata": self._state(found, number)}}

    def _list(self, folder: str) -> Said:
        below = [key[len(folder) :] for key in self._keys if key.startswith(folder)]
        names = sorted({first + slash for first, slash, _ in (key.partition("/") for key in below)})
        return (200, {"data": {"keys": names}}) if names else (404, {"errors": []})


class Turns:
    """Whose request comes next: drawn, once every writer that runs has one. `lives` is how many each may still make.

    A writer whose last request is `lost` is killed before it hears what came of it.
    """

    def __init__(self, chance: random.Random) -> None:
        self.lives: dict[str, int] = {}
        self.lost: set[str] = set()
        self.killed: set[str] = set()
        self._chance = chance
        self._running: set[str] = set()
        self._waiting: dict[object, str] = {}
        self._turn: object | None = None
        self._condition = threading.Condition()

    def start(self, token: str) -> None:
        with self._condition:
            self._running.add(token)

    def end(self, token: str) -> None:
        with self._condition:
            self._running.discard(token)
            self._draw()

    def take(self, token: str, work: Callable[[], Said]) -> Said:
        with self._condition:
            if token not in self._running:
                return work()
            if token in self.killed:
                return _REFUSED
            me = object()
            self._waiting[me] = token
            self._draw()
            while self._turn is not me:
                if not self._condition.wait(0.02):  # somebody pauses before the next try
                    self._draw(whole=False)
            self._turn = None
            self._waiting.pop(me)
            said = self._kill(token, work)
            self._draw()
            return said

    def _kill(self, token: str, work: Callable[[], Said]) -> Said:
        left = self.lives.get(token)
        if left is None or left > 0:
            if left:
                self.lives[token] = left - 1
            return work()
        self.killed.add(token)
        if token in self.lost:
            work()
        return _REFUSED

    def _draw(self, *, whole: bool = True) -> None:
        ready = {*self._waiting.values()} >= self._running - self.killed
        if self._turn is None and self._waiting and (ready or not whole):
            self._turn = self._chance.choice(list(self._waiting))
            self._condition.notify_all()


class ModelServer:
    """The model on a port of this machine. `reset` begins a round with an empty engine."""

    def __init__(self) -> None:
        self.engine, self.turns = Engine(), Turns(random.Random(0))
        model = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def handle_one_request(self) -> None:
                line = self.rfile.readline(65537).decode("latin-1").split(" ")
                if len(line) < 3:
                    self.close_connection = True
                    return
                headers = http.client.parse_headers(self.rfile)
                body = json.loads(self.rfile.read(int(headers.get("Content-Length") or 0)) or b"{}")
                self.close_connection = False
                status, found = model.answer(line[0], unquote(line[1].removeprefix("/v1/")), body, dict(headers))
                content = json.dumps(found).encode() if status != 204 else b""
                head = f"HTTP/1.1 {status} OK\r\nContent-Length: {len(content)}\r\n\r\n"
                self.wfile.write(head.encode() + content)
                self.wfile.flush()

        class Listener(http.server.ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                """A client that is gone is not a failure."""

        self._listener = Listener(("127.0.0.1", 0), Handler)
        self.url = f"bao+http://127.0.0.1:{self._listener.server_address[1]}/{MOUNT}"
        threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True).start()

    def reset(self, chance: random.Random) -> None:
        self.engine, self.turns = Engine(), Turns(chance)

    def close(self) -> None:
        self._listener.shutdown()
        self._listener.server_close()

    def answer(self, method: str, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Said:
        token = headers.get("X-Vault-Token") or ""
        if path == "sys/health":
            return 200, {"initialized": True}
        if path.startswith("sys/internal/ui/mounts/"):
            return 200, {"data": {"type": "kv", "options": {"version": "2"}}}
        if path == "auth/token/lookup-self":
            return 200, {"data": {}}
        engine = self.engine
        return self.turns.take(token, lambda: engine.answer(method, path, body, token))
