"""One TCP connection, with TLS over it from when that is asked for.

It holds little in either direction: whoever sends waits for whoever reads. TLS is that of `ssl.MemoryBIO` rather than
of asyncio's transports, which do not say whether a stream was ended or cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable
from typing import cast

# One buffer takes what any socket has, and is empty again before the next one is read.
_BUFFER = memoryview(bytearray(256 << 10))
# How much a stream holds, in bytes, before its sender has to wait; a TLS record holds 16 KiB.
_HIGH = 256 << 10
_RECORD = 16 << 10
# How long, in seconds, a closed stream may take to send the rest, and a client to hear that it is not listened to.
_CLOSING = 30.0
_LINGERING = 2.0


class BrokenError(Exception):
    """The other side is gone, or its TLS is broken; the text is a short reason."""


class SlowError(BrokenError):
    """The other side took too long."""


class Stream(asyncio.BufferedProtocol):
    """One connection. `on_end` is called when the other side sends no more."""

    def __init__(self, accept: Callable[[Stream], object] | None = None) -> None:
        """`accept` is called when it is connected."""
        self.on_end: Callable[[], object] | None = None
        self.is_ended = False
        self._accept = accept
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._is_lost = self._is_full = self._is_held = False
        self._failure = ""
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._tls: ssl.SSLObject | None = None
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._is_shaking = False

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(_HIGH)
        with contextlib.suppress(OSError):  # asyncio does it for the sockets alone that it makes itself
            self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._accept:
            self._accept(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        if self._tls:
            self._in.write(_BUFFER[:nbytes])
            self._decrypt()
        else:
            self._add(bytes(_BUFFER[:nbytes]))
        _wake(self._reader)
        if self._size > _HIGH and not self._is_held:
            self._is_held = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        if self._tls:
            self._in.write_eof()
            self._decrypt()
        self._end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        if exc:
            self._failure = self._failure or "the connection broke"
        self._end()
        _wake(self._writer)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        _wake(self._writer)

    # --- reading

    async def read(self, timeout: float | None = None) -> bytes:
        """Return what has come, at least a byte; b"" where the other side ended its sending properly.

        BrokenError, a SlowError where nothing comes within so many seconds.
        """
        while not self._pieces:
            if self._failure:
                raise BrokenError(self._failure)
            if self.is_ended:
                return b""
            await self._wait(timeout)
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if self._is_held and not self._is_lost:
            self._is_held = False
            self._transport.resume_reading()
        return data

    def unread(self, data: bytes) -> None:
        """Put back what was read too far."""
        if data:
            self._pieces.appendleft(data)
            self._size += len(data)

    @property
    def is_fresh(self) -> bool:
        """Whether nothing has come that was not read, not even an end: it can be used for another request."""
        return not (self._pieces or self.is_ended or self._failure)

    # --- writing

    def write(self, data: bytes) -> None:
        """Send it, as soon as the other side takes it; BrokenError."""
        if self._is_lost or self._transport.is_closing():
            raise BrokenError(self._failure or "the connection was closed")
        if not data:
            return
        if self._tls:
            try:
                self._tls.write(data)
            except ssl.SSLError:
                raise BrokenError("the TLS connection broke") from None
            self._flush()
        else:
            self._transport.write(data)

    async def send(self, data: bytes, timeout: float | None = None) -> None:
        """Send it, and wait until there is room for more; BrokenError."""
        self.write(data)
        while self._is_full:
            if self._is_lost:
                raise BrokenError("the connection was closed")
            self._writer = asyncio.get_running_loop().create_future()
            await _wait_for(self._writer, timeout)

    def write_end(self) -> None:
        """Say that nothing more will be sent, and go on reading."""
        if not self._is_lost and not self._transport.is_closing():
            self._transport.write_eof()

    # --- TLS

    async def start_tls(self, context: ssl.SSLContext, host: str | None, timeout: float) -> None:
        """Speak TLS from now on, to the server of that name; None makes us the server.

        BrokenError; ssl.SSLCertVerificationError where the server's certificate is not trusted.
        """
        for piece in self._pieces:
            self._in.write(piece)
        self._pieces.clear()
        self._size = 0
        tls = context.wrap_bio(self._in, self._out, server_side=host is None, server_hostname=host)
        self._tls, self._is_shaking = tls, True
        end = asyncio.get_running_loop().time() + timeout
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
            except ssl.SSLCertVerificationError:
                self._flush()
                raise
            except ssl.SSLError as error:
                self._flush()
                raise BrokenError(f"no TLS: {_explain(error)}") from None
            if self.is_ended:
                raise BrokenError(self._failure or "the connection was closed instead of TLS")
            await self._wait(end - asyncio.get_running_loop().time())
        self._is_shaking = False
        self._flush()
        self._decrypt()

    # --- the end

    def close(self) -> None:
        """Send what is written, and end it; one that does not take the rest is cut off after a while."""
        if self._is_lost or self._transport.is_closing():
            return
        self._say_goodbye()
        self._transport.close()
        asyncio.get_running_loop().call_later(_CLOSING, self.abort)

    def abort(self) -> None:
        """Cut it off by a reset, so that the other side sees that something is missing, however a body ends."""
        if not self._is_lost:
            with contextlib.suppress(OSError):
                raw = self._transport.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    async def linger(self) -> None:
        """End it so that a client that still sends reads our answer: the kernel drops that where data is not read."""
        if self._is_lost or self._transport.is_closing():
            return
        self._say_goodbye()
        loop = asyncio.get_running_loop()
        end = loop.time() + _LINGERING
        with contextlib.suppress(BrokenError, OSError):
            self._transport.write_eof()
            while loop.time() < end and await self.read(end - loop.time()):
                pass
        self.close()

    def _say_goodbye(self) -> None:
        if self._tls and not self._is_shaking:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            self._flush()

    # --- inside

    def _decrypt(self) -> None:
        if self._is_shaking or not self._tls:
            return
        try:
            while piece := self._tls.read(_RECORD):
                self._add(piece)
            self._end()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._end()
        except ssl.SSLError as error:
            self._failure = self._failure or f"the TLS connection broke: {_explain(error)}"
            self._end()
        self._flush()

    def _flush(self) -> None:
        if self._out.pending and not self._is_lost:
            self._transport.write(self._out.read())

    def _add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)

    def _end(self) -> None:
        is_new, self.is_ended = not self.is_ended, True
        _wake(self._reader)
        if is_new and self.on_end:
            self.on_end()

    async def _wait(self, timeout: float | None) -> None:
        self._reader = asyncio.get_running_loop().create_future()
        await _wait_for(self._reader, timeout)


def _explain(error: ssl.SSLError) -> str:
    """Return the reason in words: OpenSSL's own are a name with underscores."""
    return (error.reason or "cut off").replace("_", " ").lower()


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter and not waiter.done():
        waiter.set_result(None)


async def _wait_for(waiter: asyncio.Future[None], timeout: float | None) -> None:
    """Wait; unlike `asyncio.wait_for` without a task of its own, since this is done for each piece of a body."""
    if timeout is None:
        await waiter
        return
    late = asyncio.get_running_loop().call_later(max(timeout, 0), _fail, waiter)
    try:
        await waiter
    finally:
        late.cancel()


def _fail(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(SlowError("it took too long"))
