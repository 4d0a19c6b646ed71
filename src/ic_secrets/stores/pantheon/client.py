"""How Pantheon's API is asked, on the common client: three requests a second, and what a refusal means.

A machine token gives a session, `POST v0/authorize/machine-token`, which each request then carries. What the server
says in words is never shown: it may repeat a value. No redirect is followed: the session would go along.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from ...client import Address, HttpError, http, parse_address, to_store_error
from ...core.files import read_regular
from ...core.records import NamedTuple
from ...errors import (
    ConfigError,
    StoreDeniedError,
    StoreFormatError,
    StoreReadError,
    StoreUnreachableError,
    StoreWriteError,
)
from .secrets_json import parse_object

if TYPE_CHECKING:
    from ...client import Connection
    from ...client.connection import Reply as HttpReply

HOME = "https://api.pantheon.io"
# The platform allows so many requests in so many seconds.
RATE = 3
WINDOW = 1.0
_LARGEST_TOKEN = 64 << 10
_VARIABLES = ("IC_SECRETS_PANTHEON_TOKEN", "TERMINUS_TOKEN", "TERMINUS_MACHINE_TOKEN", "PANTHEON_MACHINE_TOKEN")
# What a header, and a path, may carry.
_TOKEN = r"[!-~]{1,4096}"
_URL_HINT = f"IC_SECRETS_PANTHEON_URL names the API; the default is {HOME}"
_SERVER_HINT = "IC_SECRETS_PANTHEON_URL names the API, SSL_CERT_FILE the certificates that are trusted"
_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

Ask = Callable[[str], str | None]


class Home(NamedTuple):
    """Where the API is: a host, and what its paths begin with."""

    address: Address
    path: str

    def __str__(self) -> str:
        return f"{self.address}{self.path}"


class Reply(NamedTuple):
    """A status, and the JSON object of a success; of a failure only whether its text names PATCH."""

    status: int
    body: Mapping[str, Any]
    names_patch: bool = False

    def __repr__(self) -> str:
        return f"Reply({self.status})"


def parse_home(url: str) -> Home:
    """Return where the setting `pantheon-url` says that the API is; ConfigError."""
    address = parse_address(url, name="pantheon-url", hint=_URL_HINT)
    parts = urlsplit(url)
    if parts.query:
        raise ConfigError("pantheon-url has a query", hint=_URL_HINT)
    return Home(address, parts.path.rstrip("/"))


def find_token(ask: Ask, environment: Mapping[str, str]) -> str:
    """Return the machine token of a variable, else of the file `pantheon-token-file`, plain or as Terminus keeps it."""
    token = next((environment[name].strip() for name in _VARIABLES if environment.get(name)), None)
    path = ask("pantheon-token-file")
    if token is None and path is None:
        raise ConfigError(
            "no Pantheon machine token configured",
            hint="set IC_SECRETS_PANTHEON_TOKEN_FILE, or IC_SECRETS_PANTHEON_TOKEN, to a machine token",
        )
    if token is None and path is not None:
        token = _read_token(path)
    if not re.fullmatch(_TOKEN, token or ""):
        raise ConfigError("the machine token is empty or malformed")
    return str(token)


def _read_token(path: str) -> str:
    try:
        data = read_regular(path, _LARGEST_TOKEN)
        text = (data or b"").decode("ascii").strip()
    except (OSError, ValueError):
        raise ConfigError(f"{path}, the file with the machine token, cannot be read") from None
    if data is None:
        raise ConfigError(f"{path}, the file with the machine token, does not exist")
    if text.startswith("{"):  # ~/.terminus/cache/tokens/EMAIL
        try:
            return str(parse_object(text, path).get("token") or "")
        except StoreFormatError:
            raise ConfigError(f"{path}, the file with the machine token, is not valid JSON") from None
    return text


class PantheonClient:
    """The API, asked as one machine token. For one thread."""

    def __init__(self, home: Home, token: str, *, timeout: float = http.BUDGET, window: float = WINDOW) -> None:
        self._home = home
        self._token = token
        self._session = ""
        self._http = http.Client([home.address], http.TimeBudget(timeout), find_proxy=http.find_named_proxy)
        self._window = window
        self._asked: deque[float] = deque(maxlen=RATE)

    def __str__(self) -> str:
        return str(self._home)

    def find_site(self, name: str) -> str | None:
        """Return the id of the site, None where the platform does not know it."""
        reply = self.ask("GET", f"/v0/site-names/{quote(name, safe='')}", f"find the site {name}", bearer=True)
        if reply.status == 404:
            return None
        found = reply.body.get("id")
        if not isinstance(found, str) or not re.fullmatch(_ID, found):
            raise StoreFormatError(f"{self} returns no valid id for the site {name}")
        return found

    def ask(
        self, method: str, path: str, doing: str, body: Mapping[str, Any] | None = None, *, bearer: bool = False
    ) -> Reply:
        """Return the reply: a success, 400, 404 or 409. `doing` is the task as errors name it ("read …").

        StoreDeniedError for 403, and for 401 after a new login: a session may end in a long copy.
        StoreUnreachableError where no answer came in time.
        """
        for is_last in (bool(not self._session), True):
            if not self._session:
                self._session = self._log_in()
            header = f"Bearer {self._session}" if bearer else self._session
            reply = self._send(method, path, body, {"Authorization": header}, doing)
            if reply.status != 401 or is_last:
                break
            self._session = ""
        if reply.status in {401, 403}:
            why = "does not accept the session" if reply.status == 401 else "does not allow us"
            raise StoreDeniedError(
                f"{self} {why} to {doing}",
                hint="the owner of the machine token must be in the site's team, and may have revoked the token",
            )
        return self._check(reply, method, doing)

    def close(self) -> None:
        """Close the connection and forget the session; safe to call twice."""
        self._session = ""
        self._http.close()

    # --- one request ------------------------------------------------------------------------------------

    def _log_in(self) -> str:
        body = {"machine_token": self._token, "client": "terminus"}
        hint = "check that the machine token is right and was not revoked"
        try:
            reply = self._send("POST", "/v0/authorize/machine-token", body, {}, "log in")
        except StoreUnreachableError as error:
            raise StoreUnreachableError(str(error), hint=hint) from None
        if reply.status in {400, 401, 403, 404}:
            raise StoreDeniedError(f"{self} refuses the machine token", hint=hint)
        session = self._check(reply, "POST", "log in").body.get("session")
        if not isinstance(session, str) or not re.fullmatch(_TOKEN, session):
            raise StoreFormatError(f"{self} returns no valid session for the machine token")
        return session

    def _check(self, reply: Reply, method: str, doing: str) -> Reply:
        if reply.status < 300 or reply.status in {400, 404, 409}:
            return reply
        if reply.status < 400:
            raise StoreUnreachableError(
                f"{self} redirects the request to {doing}, and redirects are not followed", hint=_URL_HINT
            )
        error = StoreReadError if method == "GET" else StoreWriteError
        raise error(f"{self} refuses to {doing}: status {reply.status}")

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str], doing: str
    ) -> Reply:
        """Return the reply, after as many tries as the budget allows; StoreUnreachableError and its like."""
        from ...client import Request

        sent = {"Accept": "application/json", **headers}
        request = Request(method, self._home.path + path, body, sent)

        def attempt(connection: "Connection") -> "HttpReply":
            self._pace()
            try:
                return connection.exchange(request, self._http.find_timeout())
            finally:
                self._asked.append(time.monotonic())  # not before it has arrived

        try:
            reply = http.fetch(self._http, attempt)
        except HttpError as error:
            raise to_store_error(error, self, _SERVER_HINT, doing) from None
        if reply.status >= 300:
            return Reply(reply.status, {}, b"PATCH" in reply.content)
        return Reply(reply.status, self._parse(reply.content, method))

    def _parse(self, content: bytes, method: str) -> Mapping[str, Any]:
        """Return the JSON object; what a write answers does not matter."""
        try:
            return parse_object(content.decode(), str(self))
        except (UnicodeDecodeError, StoreFormatError):
            if method in {"PATCH", "DELETE"} or (method == "POST" and self._session):
                return {}
            raise StoreFormatError(f"{self} answers with something that is not a JSON object") from None

    def _pace(self) -> None:
        """Wait until no more than our share of requests has been made within the window."""
        if len(self._asked) == RATE:
            wait = self._asked[0] + self._window - time.monotonic()
            if wait > 0:
                time.sleep(wait)
