"""What the broker decides about a request and its answer: the records that rules and proxy share. Pure."""

import json
import math
from http import HTTPStatus
from typing import Literal

from ..composer.credential import Credential
from ..composer.methods import Purpose
from ..core.records import NamedTuple
from .targets import Endpoint

HeaderLines = tuple[tuple[str, str], ...]
Form = Literal["json", "text", "git", "result", "lfs", "guest"]
_KINDS: dict[Form, str] = {
    "json": "application/json",
    "guest": "application/json",
    "lfs": "application/vnd.git-lfs+json",
    "text": "text/plain; charset=utf-8",
    "git": "application/x-git-upload-pack-advertisement",
    "result": "application/x-git-upload-pack-result",
}
# How long before its end, in seconds, an access token is minted anew.
_MARGIN = 60.0
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
    """Why something is not done, and how to say so.

    `json` is for Composer, `text` for git, `git` and `result` are inside git's protocol (the status is 200 then), `lfs`
    is for git-lfs, and `guest` sends Composer from GitLab's API to git without a question.
    """

    status: int
    words: str
    form: Form = "json"

    def render(self) -> Answer:
        """Return the answer that has the words where the client prints them."""
        words = f"ic-secrets: {self.words}"
        kind = _KINDS[self.form]
        if self.form in {"git", "result"}:
            line = f"ERR {words}\n".encode()
            body = b"%04x" % (len(line) + 4) + line
        elif self.form == "text":
            body = words.encode() + b"\n"
        else:
            shown = {"visibility": "private", "permissions": {}} if self.form == "guest" else {}
            body = json.dumps(shown | {"message" if self.form == "lfs" else "warning": words}).encode()
        headers = (("content-type", kind), ("content-length", str(len(body))), ("cache-control", "no-store"))
        return Answer(self.status, HTTPStatus(self.status).phrase, headers, body)


class Decision(NamedTuple):
    """What becomes of a request.

    Where there is a `refusal`, there is no `target` (path and query, with placeholders filled) and nothing is sent. A
    `small` body is read whole (up to SMALL) and shown to `Rules.decide_body` first. `credential` goes along, by the
    `headers` that are to be sent, or, where it is a client certificate, by the connection; `secret` is its name, or
    that of a bound secret that was filled in. With `needs_token` nothing is sent either: its access token must be
    minted first (`make_token_request`, `set_token`), then the request is decided again. `probe` is the path that says
    whether a repository that nobody named is public. With `first`, that request is to be made before, its answer to be
    learnt from, and then this one decided again: it is the packages.json that says whether a POST is expected. Where it
    `learns`, the body of a good answer teaches `Rules.learn`. `filled` are the names of the bound secrets that were put
    in, `attempts` those whose placeholders came to a host that is not theirs. Of the headers, Content-Length and
    `Transfer-Encoding: chunked` stay as they came, with the length of a body that was filled.
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
    first: "Decision | None" = None
    learns: bool = False
    filled: tuple[str, ...] = ()
    attempts: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Decision({self.method} {self.endpoint.key}, {self.secret or None}, {self.refusal})"


class Verdict(NamedTuple):
    """What to do with an answer: `pass` it on, `help` by asking whether the repository is public, or `refuse`.

    `renew` is `refuse` for a request that may succeed if it is decided again: its access token was forgotten. With both
    the client gets the `refusal` in its place; `notice` is a line for the receipt, with its `hint`.
    """

    action: Literal["pass", "help", "renew", "refuse"] = "pass"
    refusal: Refusal | None = None
    notice: str = ""
    hint: str = ""


class TokenRequest(NamedTuple):
    """The POST that exchanges a credential for an access token; its JSON answer has `access_token`, `expires_in`."""

    endpoint: Endpoint
    target: str
    headers: HeaderLines
    body: bytes

    @staticmethod
    def read_answer(body: bytes) -> tuple[str, float]:
        """Return the access token, or "", and for how many seconds it is to be used: it ends a little later."""
        try:
            document = json.loads(body)
            token, life = document["access_token"], float(document.get("expires_in") or math.inf)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return "", 0.0
        life = life - min(_MARGIN, life / 2) if 0 < life < math.inf else math.inf
        return (token, life) if isinstance(token, str) else ("", 0.0)
