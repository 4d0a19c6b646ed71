"""One server for all hosts: it ends TLS for whatever name it is asked for, and hands each request to its host."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from servers.network.base import Answer, Asked

Respond = Callable[[Asked, str], Answer]


class TlsServer(ThreadingHTTPServer):
    """Each connection is of one name, that of its TLS; a request with another Host is answered 421."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, context: ssl.SSLContext, respond: Respond) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.context = context
        self.respond = respond
        context.sni_callback = _note_name

    def get_request(self) -> tuple[ssl.SSLSocket, Any]:
        connection, address = super().get_request()
        return self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is not worth a word."""


def _note_name(connection: Any, name: str | None, _context: object) -> None:
    connection.asked_name = name or ""


class _Handler(BaseHTTPRequestHandler):
    server: TlsServer
    protocol_version = "HTTP/1.1"
    timeout = 60
    disable_nagle_algorithm = True
    wbufsize = -1

    def setup(self) -> None:
        super().setup()
        self.request.do_handshake()
        self.name = getattr(self.request, "asked_name", "")

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        body = self._read_body()
        path, _, query = self.path.partition("?")
        headers: dict[str, str] = {}
        for name, value in self.headers.items():
            headers[name.lower()] = f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
        asked = Asked(self.command, self.name, path, query, headers, body)
        host = headers.get("host", "").removesuffix(":443").lower()
        raw = f"{self.requestline}\r\n{self.headers}"
        answer = self.server.respond(asked, raw) if host == self.name else Answer(421, b"Misdirected Request")
        content, more = answer.render()
        if answer.status == 200 and headers.get("if-none-match") == more.get("ETag", "?"):
            answer, content = Answer(304), b""
        self.send_response(answer.status)
        for name, value in more.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _read_body(self) -> bytes:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
            self.wfile.flush()
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(pieces)

    def handle_expect_100(self) -> bool:
        return True

    def log_message(self, *_: object) -> None:
        """The network has the log."""


@contextlib.contextmanager
def running_tls(context: ssl.SSLContext, respond: Respond) -> Iterator[int]:
    """Within it, the server listens at the port that it gives."""
    with TlsServer(context, respond) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
