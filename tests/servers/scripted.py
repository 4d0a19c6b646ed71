"""A small server that answers as a test says, down to the last byte; over TLS or not."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

LIMIT = 60.0


class Connection:
    """One connection of a client, and the request that it is about."""

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer
        self.head = b""
        self._rest = bytearray()

    @property
    def method(self) -> str:
        return self.head.split(b" ", 1)[0].decode()

    @property
    def path(self) -> str:
        return self.head.split(b" ", 2)[1].decode()

    def read_head(self) -> bool:
        """Read the next request's head; return whether there is one."""
        while b"\r\n\r\n" not in self._rest:
            data = self.peer.recv(65536)
            if not data:
                return False
            self._rest += data
        self.head = self._take(self._rest.index(b"\r\n\r\n") + 4)
        return True

    def read_body(self) -> bytes:
        """Return the body of the request."""
        if re.search(rb"(?i)\r\ntransfer-encoding: *chunked\r\n", self.head):
            body = b""
            while size := int(self._read_line(), 16):
                body += self._read(size + 2)[:-2]
            self._read_line()
            return body
        length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)\r\n", self.head)
        return self._read(int(length[1])) if length else b""

    def send(self, data: bytes) -> None:
        self.peer.sendall(data)

    def end(self) -> None:
        """Say, over TLS, that nothing more will be sent."""
        assert isinstance(self.peer, ssl.SSLSocket)
        self.peer = self.peer.unwrap()

    def drain(self) -> None:
        """Read on until the client hangs up, as servers do that have answered too early for it."""
        while self.peer.recv(65536):
            pass

    def answer(self, body: bytes = b"", status: str = "200 OK", *lines: str) -> None:
        """Send a whole answer."""
        head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines))
        self.send(f"{head}\r\n".encode() + (b"" if self.method == "HEAD" else body))

    def _read_line(self) -> bytes:
        while b"\r\n" not in self._rest:
            self._fill()
        return self._take(self._rest.index(b"\r\n") + 2)[:-2]

    def _read(self, size: int) -> bytes:
        while len(self._rest) < size:
            self._fill()
        return self._take(size)

    def _take(self, size: int) -> bytes:
        data = bytes(self._rest[:size])
        del self._rest[:size]
        return data

    def _fill(self) -> None:
        data = self.peer.recv(65536)
        if not data:
            raise ConnectionError("the request was cut off")
        self._rest += data


class Scripted:
    """The server. `heads` are the requests that reached it, `bodies` what the script read with `read_body`."""

    def __init__(self, script: Callable[[Connection], object], context: ssl.SSLContext | None, host: str) -> None:
        """`script` answers one request; where it returns False the connection is closed."""
        self.heads: list[bytes] = []
        self.connections = 0
        self._script = script
        self._context = context
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def paths(self) -> list[str]:
        """The targets of the requests that reached it."""
        return [head.split(b" ", 2)[1].decode("latin-1") for head in self.heads]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        self.connections += 1
        with contextlib.suppress(OSError):
            peer.settimeout(LIMIT)
            if self._context:
                peer = self._context.wrap_socket(peer, server_side=True)
        self._open.add(peer)
        with peer, contextlib.suppress(OSError):
            connection = Connection(peer)
            while connection.read_head():
                self.heads.append(connection.head)
                if self._script(connection) is False:
                    break
        self._open.discard(peer)


@contextlib.contextmanager
def run_scripted(
    script: Callable[[Connection], object], context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> Iterator[Scripted]:
    """Within it, the server listens."""
    server = Scripted(script, context, host)
    try:
        yield server
    finally:
        server.close()
