"""A server that answers as its path says, and notes each request with its headers: `/401/…`, `/to/URL`, `/lead`, …"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class AnswerServer(ThreadingHTTPServer):
    """`seen` are the requests, each its method, path and headers in one text; `lead` is where `/lead/…` leads."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[str] = []
        self.lead = ""
        self.over = threading.Event()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"


class _Handler(BaseHTTPRequestHandler):
    server: AnswerServer

    def do_HEAD(self) -> None:
        self.server.seen.append(f"{self.command} {self.path}\n{self.headers}")
        word = self.path.split("/")[1]
        if word == "hang":
            self.server.over.wait(30)
        elif word in {"to", "lead"}:
            self.send_response(302)
            self.send_header("Location", self.server.lead if word == "lead" else self.path.removeprefix("/to/"))
            self.end_headers()
        else:
            refused = word in {"nohead", "hidehead"} and self.command == "HEAD"
            status = 403 if word == "hidehead" else 405
            self.send_response(status if refused else int(word) if word.isdecimal() else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()

    def log_request(self, *_: object) -> None:
        """Nothing is printed."""


@contextlib.contextmanager
def start_answers() -> Iterator[AnswerServer]:
    with AnswerServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()
