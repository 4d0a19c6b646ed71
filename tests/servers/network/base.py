"""What every host of the network is: it has names, knows credentials by their form, and answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

Headers = dict[str, str]


class Asked(NamedTuple):
    """A request as it arrived. Names of headers are in lower case; a header that came twice is joined by a comma."""

    method: str
    host: str
    path: str
    query_string: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.query_string, keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        """The body, where it is a form or JSON."""
        if self.headers.get("content-type", "").startswith("application/json"):
            return dict(json.loads(self.body or b"{}"))
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


class Answer(NamedTuple):
    """A status, a body (bytes as they are, anything else as JSON) and further headers."""

    status: int
    body: Any = b""
    headers: Mapping[str, str] = {}

    def render(self) -> tuple[bytes, Headers]:
        """Return the body, and the headers with its type."""
        if isinstance(self.body, bytes):
            return self.body, {"Content-Type": "application/octet-stream", **self.headers}
        return json.dumps(self.body).encode(), {"Content-Type": "application/json", **self.headers}


@dataclass
class Host:
    """Something with names that answers.

    `forms` are the credentials that it knows: a header with its value, and what that form is called. Nothing of them is
    in a file.
    """

    names: tuple[str, ...] = ()
    forms: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)

    def identify(self, asked: Asked) -> str:
        """Return the form of the credential that came along; `wrong` where it is not known, empty for none."""
        given = {(name, value) for name, value in asked.headers.items() if name in _CARRIERS or name in self._own}
        known = [self.forms[each] for each in given if each in self.forms]
        return known[0] if known and len(given) == 1 else "wrong" if given else ""

    def answer(self, asked: Asked, sender: str) -> Answer:
        """Answer a request of that sender."""
        raise NotImplementedError

    @property
    def _own(self) -> set[str]:
        return {name for name, _ in self.forms}


_CARRIERS = frozenset({"authorization", "private-token", "job-token"})


def basic(user: str, password: str) -> tuple[str, str]:
    """Return the header of basic authentication."""
    return "authorization", f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


NOT_FOUND = Answer(404, {"message": "Not Found"})
