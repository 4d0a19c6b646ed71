"""How Pantheon's API is asked: one request after the other, three a second, tried again, and what a refusal means.

A machine token gives a session, `POST v0/authorize/machine-token`, which each request then carries. What the server
says in words is never shown: it may repeat a value. No redirect is followed: the session would go along.
"""

import email.utils
import json
import os
import re
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from ...client.messages import LARGEST_ANSWER, TransientError
from ...core.files import read_regular
from ...errors import (
    ConfigError,
    StoreDeniedError,
    StoreFormatError,
    StoreReadError,
    StoreUnreachableError,
    StoreUntrustedError,
    StoreWriteError,
)
from ..openbao.client import DEADLINE, TRY, Patience
from ..openbao.lines import LOOPBACK, Address, Line, connect
from .secrets_json import parse_object

HOME = "https://api.pantheon.io"
# The platform allows so many requests in so many seconds.
RATE = 3
WINDOW = 1.0
_PAUSE = 0.25
_LONGEST_PAUSE = 4.0
_LARGEST_TOKEN = 64 << 10
_VARIABLES = ("IC_SECRETS_PANTHEON_TOKEN", "TERMINUS_TOKEN", "TERMINUS_MACHINE_TOKEN", "PANTHEON_MACHINE_TOKEN")
# What a header, and a path, may carry.
_TOKEN = r"[!-~]{1,4096}"
_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

Ask = Callable[[str], str | None]


class Home(NamedTuple):
    """Where the API is: a host, and what its paths begin with."""

    address: Address
    path: str

    def __str__(self) -> str:
        return f"{self.address}{self.path}"


class Reply(NamedTuple):
    """A status, and the JSON object that came with a success; of a failure only whether it names PATCH."""

    status: int
    body: Mapping[str, Any]
    names_patch: bool = False


def parse_home(url: str) -> Home:
    """The setting `pantheon-url`; ConfigError for plain HTTP to anything but this machine."""
    hint = f"it is {HOME} unless IC_SECRETS_PANTHEON_URL says otherwise"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError("pantheon-url names no server", hint=hint) from None
    if not host or parts.username is not None or parts.query or parts.scheme not in {"http", "https"}:
        raise ConfigError("pantheon-url names no server", hint=hint)
    if parts.scheme == "http" and host not in LOOPBACK:
        raise ConfigError(f"{host} is not this machine, so it is not asked without TLS", hint=hint)
    tls = parts.scheme == "https"
    return Home(Address(host, port or (443 if tls else 80), tls), parts.path.rstrip("/"))


def find_token(ask: Ask, environment: Mapping[str, str]) -> str:
    """The machine token: of a variable, else of the file `pantheon-token-file`, plain or as Terminus keeps it."""
    token = next((environment[name].strip() for name in _VARIABLES if environment.get(name)), None)
    path = ask("pantheon-token-file")
    if token is None and path is None:
        raise ConfigError(
            "nothing says who we are to the platform",
            hint="set IC_SECRETS_PANTHEON_TOKEN_FILE, or IC_SECRETS_PANTHEON_TOKEN, to a machine token",
        )
    if token is None and path is not None:
        token = _read_token(path)
    if not re.fullmatch(_TOKEN, token or ""):
        raise ConfigError("the machine token is none: it is empty, or holds what no token does")
    return str(token)


def _read_token(path: str) -> str:
    try:
        data = read_regular(path, _LARGEST_TOKEN)
        text = (data or b"").decode("ascii").strip()
    except (OSError, ValueError):
        raise ConfigError(f"{path}, the file with the machine token, cannot be read") from None
    if data is None:
        raise ConfigError(f"{path}, the file with the machine token, is not there")
    if text.startswith("{"):  # ~/.terminus/cache/tokens/EMAIL
        try:
            return str(parse_object(text, path).get("token") or "")
        except StoreFormatError:
            raise ConfigError(f"{path}, the file with the machine token, is not valid JSON") from None
    return text


class PantheonClient:
    """The API, asked as one machine token. For one thread."""

    def __init__(self, home: Home, token: str, *, deadline: float = DEADLINE, window: float = WINDOW) -> None:
        self._home = home
        self._token = token
        self._session = ""
        self._patience = Patience(deadline)
        self._window = window
        self._asked: deque[float] = deque(maxlen=RATE)
        self._line: Line | None = None

    def __str__(self) -> str:
        return str(self._home)

    def find_site(self, name: str) -> str | None:
        """The id of the site of that name, None where the platform knows none."""
        reply = self.ask("GET", f"/v0/site-names/{quote(name, safe='')}", f"find the site {name}", bearer=True)
        if reply.status == 404:
            return None
        found = reply.body.get("id")
        if not isinstance(found, str) or not re.fullmatch(_ID, found):
            raise StoreFormatError(f"{self} gives no id for the site {name}")
        return found

    def ask(
        self, method: str, path: str, doing: str, body: Mapping[str, Any] | None = None, *, bearer: bool = False
    ) -> Reply:
        """The reply: a success, 400, 404 or 409. `doing` is what errors say that was not done.

        StoreDeniedError for 401 and 403, which are never tried again; StoreUnreachableError where no answer came in
        time.
        """
        if not self._session:
            self._session = self._log_in()
        header = f"Bearer {self._session}" if bearer else self._session
        reply = self._insist(method, path, body, {"Authorization": header}, doing)
        if reply.status in {401, 403}:
            why = "does not know our session (any more)" if reply.status == 401 else "does not let us"
            raise StoreDeniedError(
                f"{self} {why}{' to' if reply.status == 401 else ''} {doing}",
                hint="whoever made the machine token has to be in the site's team, and may have revoked it",
            )
        return self._check(reply, method, doing)

    def close(self) -> None:
        """Let go of the connection and the session; safe to call twice."""
        self._session = ""
        if self._line:
            self._line.close()
            self._line = None

    # --- one request ------------------------------------------------------------------------------------

    def _log_in(self) -> str:
        body = {"machine_token": self._token, "client": "terminus"}
        hint = "is the machine token right, and not revoked?"
        try:
            reply = self._insist("POST", "/v0/authorize/machine-token", body, {}, "log in")
        except StoreUnreachableError as error:
            raise StoreUnreachableError(str(error), hint=hint) from None
        if reply.status in {400, 401, 403, 404}:
            raise StoreDeniedError(f"{self} refuses the machine token", hint=hint)
        session = self._check(reply, "POST", "log in").body.get("session")
        if not isinstance(session, str) or not re.fullmatch(_TOKEN, session):
            raise StoreFormatError(f"{self} gives no session for the machine token")
        return session

    def _check(self, reply: Reply, method: str, doing: str) -> Reply:
        if reply.status < 300 or reply.status in {400, 404, 409}:
            return reply
        if reply.status < 400:
            raise StoreUnreachableError(
                f"{self} sends us elsewhere to {doing}, where we do not go",
                hint="IC_SECRETS_PANTHEON_URL names the API",
            )
        error = StoreReadError if method == "GET" else StoreWriteError
        raise error(f"{self} refuses to {doing}: status {reply.status}")

    def _insist(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str], doing: str
    ) -> Reply:
        """The reply, after as many tries as our patience allows; StoreUnreachableError."""
        pause = _PAUSE
        while True:
            started = time.monotonic()
            wait = pause * (0.5 + os.urandom(1)[0] / 512)  # those who failed together do not come back together
            try:
                reply, told = self._try(method, path, body, headers)
                if reply.status != 429 and reply.status < 500:
                    self._patience.renew()
                    return reply
                failure = "too many requests" if reply.status == 429 else f"status {reply.status}"
                wait = max(wait, told) if reply.status == 429 else wait
            except TransientError as error:
                failure = str(error)
                self._drop()
            if self._patience.find_rest(started) <= wait:
                raise StoreUnreachableError(f"{self} gives no answer to {doing}: {failure}")
            time.sleep(wait)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _try(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> tuple[Reply, float]:
        """A reply, and how many seconds it asks us to wait."""
        self._pace()
        timeout = max(0.05, min(TRY, self._patience.peek()))
        try:
            line = self._connect(timeout)
            sent = {"Accept": "application/json", "User-Agent": "ic-secrets", **headers}
            data = None
            if body is not None:
                data, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
            response = line.send(method, self._home.path + path, data, sent, timeout)
        finally:
            self._asked.append(time.monotonic())  # not before it has arrived
        if response.status >= 300:
            patch = b"PATCH" in response.content
            return Reply(response.status, {}, patch), _parse_wait(response.headers.get("retry-after"))
        if len(response.content) >= LARGEST_ANSWER:
            raise StoreFormatError(f"{self} answers with more than {LARGEST_ANSWER:,} bytes")
        return Reply(response.status, self._parse(response.content, method)), 0.0

    def _parse(self, content: bytes, method: str) -> Mapping[str, Any]:
        """The JSON object; what a write answers is of no account."""
        try:
            return parse_object(content.decode(), str(self))
        except (UnicodeDecodeError, StoreFormatError):
            if method in {"PATCH", "DELETE"} or (method == "POST" and self._session):
                return {}
            raise StoreFormatError(f"{self} answers with something that is no JSON object") from None

    def _pace(self) -> None:
        """Wait until no more than our share of requests has been made within the window."""
        if len(self._asked) == RATE:
            wait = self._asked[0] + self._window - time.monotonic()
            if wait > 0:
                time.sleep(wait)

    def _connect(self, timeout: float) -> Line:
        if self._line is None or not self._line.is_open:
            self._drop()
            try:
                self._line = connect(self._home.address, ssl.create_default_context, timeout)
            except (StoreUnreachableError, StoreUntrustedError) as error:
                hint = "IC_SECRETS_PANTHEON_URL names the API, SSL_CERT_FILE the certificates that are trusted"
                raise type(error)(str(error), hint=hint) from None
        return self._line

    def _drop(self) -> None:
        if self._line:
            self._line.close()
            self._line = None


def _parse_wait(text: str | None) -> float:
    """Retry-After in seconds: a number, or a date (RFC 9110, section 10.2.3)."""
    if not text:
        return 0.0
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
