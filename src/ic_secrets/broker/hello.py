"""The server name at the start of a TLS connection (RFC 8446 4.1.2, RFC 6066 3). Pure; the bytes are anybody's."""

_LARGEST = 32 << 10
_LARGEST_RECORD = 1 << 14
_RECORD_HEAD = 5
_HANDSHAKE = 0x16
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_HOST_NAME = 0


class HelloError(Exception):
    """The bytes do not begin a TLS connection."""


def find_server_name(data: bytes) -> str | None:
    """Return the server name, "" where none is said, None where more bytes have to come; HelloError."""
    message = bytearray()
    position = 0
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4], "big"):
        head = data[position : position + _RECORD_HEAD]
        if head[:1] not in {b"", bytes([_HANDSHAKE])} or head[1:2] not in {b"", b"\3"}:
            raise HelloError
        size = int.from_bytes(head[3:5], "big")
        if len(head) == _RECORD_HEAD and not 0 < size <= _LARGEST_RECORD:
            raise HelloError
        end = position + _RECORD_HEAD + size
        if len(head) < _RECORD_HEAD or len(data) < end:
            if len(data) > _LARGEST:
                raise HelloError
            return None
        message += data[position + _RECORD_HEAD : end]
        position = end
        if message[0] != _CLIENT_HELLO or (len(message) >= 4 and int.from_bytes(message[1:4], "big") > _LARGEST):
            raise HelloError
    return _read_hello(_Reader(bytes(message[4 : 4 + int.from_bytes(message[1:4], "big")])))


class _Reader:
    """Reads fields one after the other; HelloError where one is cut off."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __bool__(self) -> bool:
        return self._position < len(self._data)

    def read(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._data):
            raise HelloError
        piece = self._data[self._position : end]
        self._position = end
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.read(size), "big")

    def vector(self, size: int) -> bytes:
        """Read what is preceded by its length, a number of that size."""
        return self.read(self.number(size))


def _read_hello(hello: _Reader) -> str:
    hello.read(2 + 32)  # version, random
    hello.vector(1)  # session
    hello.vector(2)  # ciphers
    hello.vector(1)  # compressions
    extensions = _Reader(hello.vector(2) if hello else b"")
    found = []
    while extensions:
        kind, body = extensions.number(2), extensions.vector(2)
        if kind == _SERVER_NAME:
            found.append(body)
    if hello or len(found) > 1:
        raise HelloError
    return _read_names(_Reader(_Reader(found[0]).vector(2))) if found else ""


def _read_names(names: _Reader) -> str:
    kind, name = names.number(1), names.vector(2)
    if names or kind != _HOST_NAME or not name.isascii():
        raise HelloError
    return name.decode()
