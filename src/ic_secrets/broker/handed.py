"""What servers hand out in their answers to a credential: tokens in signed URLs and in Git LFS headers.

The build needs them, and the broker does not store them. Before the build receives one, the broker sends it to the
process that masks the build's output.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ..masking.needles import Needle, derive_needles
from ..masking.parts import make_parts

if TYPE_CHECKING:
    from .decisions import HeaderLines

# Their name in the counts of what was masked.
HANDED_OUT = "handed out by a server"
# A parameter of a signed URL that is as good as a credential for as long as it is valid, and what it is at the least.
_NAMES = r"(?i).*(?:token|sig|secret|credential|key|auth|jwt|pass|policy|hash|session).*|se|st|sv"
_SHORTEST = 8
_LARGEST = 16_384
_END = b"\n"
# The most that are masked in one build: each is looked for in many forms, and a server may send them without an end.
_MOST = 4096


def find_handed_out(headers: HeaderLines, body: bytes = b"") -> tuple[str, ...]:
    """Return what an answer hands out: by where it leads, and in its body, as it came, if it is one of Git LFS."""
    found = [text for name, value in headers if name == "location" for text in _split_url(value)]
    if body:
        from .learning import read_json, unpack  # which our end has no use for, and every build would wait for

        coding = next((value.lower() for name, value in headers if name == "content-encoding"), "")
        found += _find_actions(read_json(unpack(coding, body)))
    return tuple(dict.fromkeys(text for text in found if _SHORTEST <= len(text) <= _LARGEST and "\n" not in text))


def _find_actions(document: Any) -> Iterator[str]:
    """Yield the headers and the signatures of every action (git-lfs, docs/api/batch.md)."""
    objects = document.get("objects") if isinstance(document, dict) else None
    for each in objects if isinstance(objects, list) else ():
        actions = each.get("actions") if isinstance(each, dict) else None
        for action in actions.values() if isinstance(actions, dict) else ():
            if isinstance(action, dict):
                yield from _split_url(action.get("href"))
                header = action.get("header")
                for value in header.values() if isinstance(header, dict) else ():
                    yield from (value, value.partition(" ")[2]) if isinstance(value, str) else ()


def _split_url(url: Any) -> Iterator[str]:
    """Yield the values of the parameters that make a URL a signed one, as they are written and as they are meant."""
    query = url.partition("?")[2].partition("#")[0] if isinstance(url, str) else ""
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if re.fullmatch(_NAMES, name):
            yield from (value, unquote(value))


class Announcer:
    """The broker's end: it sends each text once, and never waits for whoever reads."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._known: set[str] = set()
        self._waiting: deque[bytes] = deque()

    def announce(self, texts: Iterable[str]) -> None:
        """Send the texts that are new, before anything that the loop does next."""
        for text in texts:
            if text not in self._known and len(self._known) < _MOST:
                self._known.add(text)
                self._waiting.append(json.dumps(text).encode() + _END)
        self._send()

    def _send(self) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        while self._waiting:
            try:
                sent = self._connection.send(self._waiting[0])
            except BlockingIOError:
                loop.add_writer(self._connection, self._send)
                return
            except OSError:  # nobody masks the output of this build
                self._waiting.clear()
                break
            self._waiting[0] = self._waiting[0][sent:]
            if not self._waiting[0]:
                self._waiting.popleft()
        loop.remove_writer(self._connection)


class HandedOut:
    """Our end: needles that only become more."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.needles: list[Needle] = []
        self._connection = connection
        self._lock = threading.Lock()
        self._heard = b""

    def refresh(self) -> None:
        """Read what the broker has sent; that costs one system call where it sent nothing."""
        with self._lock, contextlib.suppress(OSError):
            while data := self._connection.recv(65_536):
                *lines, self._heard = (self._heard + data).split(_END)
                for line in lines:
                    text = json.loads(line)
                    self.needles += derive_needles(HANDED_OUT, make_parts([text], is_credential=True))
