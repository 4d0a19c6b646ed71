"""A request's credential or none, whether it is allowed, and what its answer means. Pure."""

import json
from collections.abc import Mapping
from typing import Literal

from ..composer.credential import Credential
from ..composer.methods import Purpose
from ..core.records import NamedTuple
from .order import Order
from .targets import Endpoint

HeaderLines = tuple[tuple[str, str], ...]
# The most of a body that is read whole.
SMALL = 64 << 10


class Head(NamedTuple):
    """A request but for its body: the path and query as they were written, names of headers in lower case."""

    method: str
    path: str
    query: str
    headers: HeaderLines

    def find(self, name: str) -> str:
        """Return the first header of that (lower-case) name; "" for none."""
        return next((value for key, value in self.headers if key == name), "")


class Answer(NamedTuple):
    """An answer of our own."""

    status: int
    reason: str
    headers: HeaderLines
    body: bytes


class Refusal(NamedTuple):
    """Why something is not done, and how to say so: `json` for Composer, `text` for git, `git` inside its protocol."""

    status: int
    words: str
    form: Literal["json", "text", "git"] = "json"

    def render(self) -> Answer:
        """Return the answer that has the words where the client prints them."""
        words = f"ic-secrets: {self.words}"
        if self.form == "git":
            line = f"ERR {words}\n".encode()
            body = b"%04x" % (len(line) + 4) + line
            kind = "application/x-git-upload-pack-advertisement"
        else:
            body = json.dumps({"warning": words}).encode() if self.form == "json" else words.encode() + b"\n"
            kind = "application/json" if self.form == "json" else "text/plain; charset=utf-8"
        headers = (("content-type", kind), ("content-length", str(len(body))), ("cache-control", "no-store"))
        return Answer(self.status, words, headers, body)


class Decision(NamedTuple):
    """What becomes of a request.

    Where there is a `refusal`, there is no `target` (path and query, with placeholders filled) and nothing is sent. A
    `small` body is read whole (up to SMALL) and shown to `Rules.decide_body` first. `credential` goes along, by the
    `headers` that are to be sent, or, where it is a client certificate, by the connection; `secret` is its name, or
    that of a bound secret that was filled in. With `needs_token` nothing is sent either: its access token must be
    minted first (`make_token_request`, `set_token`), then the request is decided again. `probe` is the path that says
    whether a repository that nobody named is public. Where it `learns`, the body of a good answer teaches: it is read
    whole. `attempts` are placeholders that came to a host that is not theirs.
    """

    endpoint: Endpoint
    method: str
    refusal: Refusal | None = None
    secret: str = ""
    credential: Credential | None = None
    purpose: Purpose = "files"
    target: str = ""
    headers: HeaderLines = ()
    body: Literal["stream", "small"] = "stream"
    needs_token: bool = False
    probe: str = ""
    learns: bool = False
    attempts: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Decision({self.method} {self.endpoint.key}, {self.secret or None}, {self.refusal})"


class Verdict(NamedTuple):
    """What to do with an answer: `pass` it on, `help` by asking whether the repository is public, or `refuse`.

    With `refuse` the client gets the `refusal` in its place; `notice` is a line for the receipt.
    """

    action: Literal["pass", "help", "refuse"] = "pass"
    refusal: Refusal | None = None
    notice: str = ""


class TokenRequest(NamedTuple):
    """The POST that exchanges a credential for an access token; its JSON answer has `access_token`, `expires_in`."""

    endpoint: Endpoint
    target: str
    headers: HeaderLines
    body: bytes


class Rules:
    """What a build's order allows, with what its answers taught."""

    def __init__(self, order: Order) -> None:
        """Take the order of the build."""
        self._order = order

    def intercepts(self, endpoint: Endpoint) -> bool:
        """Return whether TLS is ended for the endpoint; else two sockets are joined."""
        raise NotImplementedError

    def decide(self, endpoint: Endpoint, head: Head) -> Decision:
        """Return what becomes of the request."""
        raise NotImplementedError

    def decide_body(self, decision: Decision, head: Head, body: bytes) -> tuple[Decision, bytes]:
        """Return what becomes of a request with a small body, and the body to send."""
        raise NotImplementedError

    def judge(self, decision: Decision, status: int, headers: HeaderLines) -> Verdict:
        """Return what to do with the answer."""
        raise NotImplementedError

    def make_probe(self, decision: Decision) -> Decision:
        """Return the request, with the credential, that says whether the decision's repository is public."""
        raise NotImplementedError

    def judge_probe(self, decision: Decision, head: Head, status: int, body: bytes) -> Decision | None:
        """Return the decision with the credential where the answer to the probe says public; else None."""
        raise NotImplementedError

    def learn(self, decision: Decision, status: int, headers: HeaderLines, body: bytes = b"") -> None:
        """Remember what the answer taught; `body` only where the decision `learns`."""
        raise NotImplementedError

    def make_token_request(self, credential: Credential) -> TokenRequest:
        """Return the request that mints the credential's access token."""
        raise NotImplementedError

    def set_token(self, credential: Credential, token: str) -> None:
        """Use the access token for the credential from now on; "" forgets it."""
        raise NotImplementedError


def merge_headers(headers: HeaderLines, ours: Mapping[str, str]) -> HeaderLines:
    """Return the headers with ours in the place of those of the same names."""
    names = {name.lower() for name in ours}
    kept = tuple((name, value) for name, value in headers if name not in names)
    return kept + tuple((name.lower(), value) for name, value in ours.items())
