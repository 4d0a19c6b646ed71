"""How an OpenBao server is asked: connections that are kept, requests side by side, retries, and what a refusal means.

A read is answered by the active node. A standby may give an old answer, or none for what was acknowledged a moment ago:
on a standby we go to the node that it calls the leader, and what is absent is so only where the active node said it.
"""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...client.messages import StrangeAnswerError, TransientError
from ...core.durations import is_duration, parse_duration
from ...errors import (
    ConfigError,
    StoreDeniedError,
    StoreFormatError,
    StoreMissingError,
    StoreUnreachableError,
    StoreUntrustedError,
)
from .lines import LOOPBACK, Address, Answer, Line, Request, connect, parse_address, parse_addresses

if TYPE_CHECKING:
    from ssl import SSLContext

# One try, and all the time that a command waits for a server that does not answer as it should, in seconds.
TRY = 2.0
DEADLINE = 30.0
_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
# Connections side by side. A server on this machine shares its processors with us: more of them only get in its way.
_CONNECTIONS = 8
_CONNECTIONS_AT_HOME = 3
# No node stops being the active one, and becomes it again, within so many seconds.
_TERM = 0.5
_STANDBY = frozenset({429, 472, 473})


def split_store_url(url: str) -> tuple[str, str]:
    """The server's URL, and the mount; ConfigError."""
    scheme, _, rest = url.partition("://")
    host, _, mount = rest.partition("/")
    mount = mount.strip("/")
    parts = mount.split("/")
    if not all(part.replace("-", "").replace("_", "").isalnum() and part.isascii() for part in parts):
        raise ConfigError("the store's URL names no mount", hint="it is bao+https://HOST:8200/MOUNT")
    return f"{scheme.lower().removeprefix('bao+')}://{host}", mount


def parse_deadline(setting: str, text: str | None) -> float:
    """What that setting says, in seconds; ConfigError."""
    if not text:
        return DEADLINE
    if not is_duration(text):
        raise ConfigError(f"{setting} is {text!r}, which is not a duration", hint="seconds, or 30s, 10m")
    return parse_duration(text)


class Patience:
    """How long a command waits, in all, for a server that fails: the time from a try that fails to the next answer."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._since: float | None = None
        self._lock = threading.Lock()

    def find_rest(self, started: float) -> float:
        """Seconds that are left, now that a try has failed which began at that time (of the monotonic clock)."""
        with self._lock:
            self._since = started if self._since is None else self._since
            return self._left - (time.monotonic() - self._since)

    def peek(self) -> float:
        """Seconds that are left."""
        with self._lock:
            return self._left if self._since is None else self._left - (time.monotonic() - self._since)

    def renew(self) -> None:
        """The server has answered."""
        with self._lock:
            if self._since is not None:
                self._left -= time.monotonic() - self._since
                self._since = None

    def cut(self, most: float) -> None:
        """Leave no more than so many seconds."""
        with self._lock:
            spent = 0.0 if self._since is None else time.monotonic() - self._since
            self._left = min(self._left, spent + most)


class Client:
    """A server, or several nodes of one, asked with one token. Threads may use it side by side."""

    def __init__(self, url: str, *, deadline: float = DEADLINE, namespace: str = "", ca_file: str = "") -> None:
        self._homes = parse_addresses(url)
        self._home = self._address = self._homes[0]
        self._patience = Patience(deadline)
        self._ca_file = ca_file
        self._context: SSLContext | None = None
        self._free: list[Line] = []
        self._lock = threading.Lock()
        self._headers = {"X-Vault-Request": "true"} | ({"X-Vault-Namespace": namespace} if namespace else {})
        self.token = ""

    def __str__(self) -> str:
        return " or ".join(map(str, self._homes))

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, token: str | None = None) -> Answer:
        """The answer to one request: 2xx, 400 or 404. A 404 is the active node's.

        StoreDeniedError for 403, StoreUnreachableError where no answer came before the deadline, StoreUntrustedError
        where another's did. `token` is used in place of our own, and where it is empty none.
        """
        request = Request(method, path, body)
        return self._check(request, self._insist(request, self.token if token is None else token), token)

    def ask_all(self, requests: Sequence[Request], *, is_lenient: bool = False) -> list[Answer]:
        """The answers to all of them, asked side by side; with `is_lenient`, refusals (403) among them.

        The first error is raised when all have ended.
        """
        answers: dict[int, Answer] = {}
        failures: list[BaseException] = []
        numbers = iter(range(len(requests)))

        def work() -> None:
            while True:
                with self._lock:
                    number = next(numbers, None)
                if number is None or failures:
                    return
                try:
                    answer = self._insist(requests[number], self.token)
                    is_told = is_lenient and answer.status == 403
                    answers[number] = answer if is_told else self._check(requests[number], answer, None)
                except BaseException as error:
                    failures.append(error)
                    if not isinstance(error, Exception):  # a signal is to end us: nobody waits for the others
                        raise

        most = _CONNECTIONS_AT_HOME if self._home.host in LOOPBACK else _CONNECTIONS
        others = [threading.Thread(target=work, daemon=True) for _ in range(min(most, len(requests)) - 1)]
        for thread in others:
            thread.start()
        work()
        for thread in others:
            thread.join()
        if failures:
            raise failures[0]
        return [answers[number] for number in range(len(requests))]

    def hurry(self, most: float) -> None:
        """Wait for no failing server longer than so many seconds from here on."""
        self._patience.cut(most)

    def close(self) -> None:
        """Let go of the connections; safe to call twice."""
        with self._lock:
            lines, self._free = self._free, []
        for line in lines:
            line.close()

    # --- one request ------------------------------------------------------------------------------------

    def _insist(self, request: Request, token: str) -> Answer:
        """The answer, after as many tries as our patience allows; StoreUnreachableError."""
        pause, failed = _PAUSE, 0
        while True:
            asked, started = self._address, time.monotonic()
            try:
                answer = self._try(request, token)
            except (TransientError, StoreUnreachableError) as error:
                is_final = isinstance(error, StoreUnreachableError)
                if is_final and len(self._homes) == 1:
                    raise
                failed += 1
                self._leave(asked)
                # Between half of it and the whole: many builds that failed together do not come back together.
                wait = pause * (0.5 + os.urandom(1)[0] / 512)
                if self._patience.find_rest(started) <= wait:
                    if is_final:
                        raise
                    kind = StoreUntrustedError if isinstance(error, StrangeAnswerError) else StoreUnreachableError
                    raise kind(f"{self} gives no answer: {error}") from None
            else:
                self._patience.renew()
                return answer
            if failed % len(self._homes) == 0:  # the next node may be well: it is asked at once
                time.sleep(wait)
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _leave(self, asked: Address) -> None:
        """Ask another node from now on, unless that is so already."""
        with self._lock:
            if self._address == asked:
                at = self._homes.index(asked) + 1 if asked in self._homes else 0
                self._address = self._homes[at % len(self._homes)]

    def _try(self, request: Request, token: str) -> Answer:
        line = self._take()
        healthy = False
        try:
            answer = self._exchange(line, request, token)
            if answer.status == 404:  # is it the active node's word, given while it was active?
                since = line.active_at
                self._require_active(line)
                if line.active_at - since > _TERM:
                    answer = self._exchange(line, request, token)
            if answer.status == 307:
                raise TransientError("it sends us to another node")
            if answer.status == 429 or answer.status >= 500:
                if answer.status == 503:
                    self._require_active(line)
                raise TransientError(f"status {answer.status}")
            healthy = True
            return answer
        finally:
            if healthy:
                with self._lock:
                    self._free.append(line)
            else:
                line.close()

    def _take(self) -> Line:
        """A kept connection to the node that we ask, else a new one to a node that is active."""
        with self._lock:
            address = self._address
            while self._free:
                line = self._free.pop()
                if line.address == address and line.is_open:
                    return line
                line.close()
        for _ in range(2):
            line = connect(address, self._tls, self._find_timeout())
            try:
                leader = self._require_active(line, follow=True)
            except BaseException:
                line.close()
                raise
            if leader is None:
                return line
            line.close()
            self._address = address = leader
        raise TransientError("no node says that it is the active one")

    def _tls(self) -> "SSLContext":
        import ssl

        if self._context is None:
            try:
                self._context = ssl.create_default_context(cafile=self._ca_file or None)
            except OSError as error:
                raise ConfigError(f"{self._ca_file} holds no certificates: {error.strerror}") from None
        return self._context

    def _exchange(self, line: Line, request: Request, token: str) -> Answer:
        headers = self._headers | ({"X-Vault-Token": token} if token else {})
        return line.exchange(request, headers, self._find_timeout())

    def _find_timeout(self) -> float:
        """Of one try, in seconds: it leaves time for another, perhaps of another node."""
        return max(0.05, min(TRY, self._patience.peek() / 2))

    def _require_active(self, line: Line, *, follow: bool = False) -> Address | None:
        """None where the node is active; else where the leader is (with `follow`), or an error."""
        address = line.address
        health = self._exchange(line, Request("GET", "sys/health"), "")
        if health.status == 200:
            line.active_at = time.monotonic()
            return None
        if health.status == 501:
            raise StoreUnreachableError(f"{address} is not initialized", hint="`bao operator init` does that, once")
        if health.status == 503 and health.body.get("sealed"):
            raise StoreUnreachableError(f"{address} is sealed", hint="whoever holds its keys has to unseal it")
        if health.status not in _STANDBY:
            raise TransientError(f"its health has the status {health.status}")
        leader = self._exchange(line, Request("GET", "sys/leader"), "").body.get("leader_address") if follow else None
        if not leader:
            raise TransientError("it is a standby, and knows no active node")
        found = parse_address(str(leader))
        if address.tls and not found.tls:
            raise StoreUntrustedError(
                f"{address} sends us to {found}, without TLS", hint="its api_addr is to begin https:"
            )
        return found

    # --- what an answer means ---------------------------------------------------------------------------

    def _check(self, request: Request, answer: Answer, token: str | None) -> Answer:
        if answer.status == 403:
            raise self._explain_refusal(request, own=token is None)
        if answer.status == 404 and "no handler for route" in answer.errors:
            mount = request.path.partition("/")[0]
            raise StoreMissingError(
                f"{self._home} has nothing mounted at {mount}/",
                hint=f"look at the store's URL; `bao secrets enable -path={mount} -version=2 kv` mounts a store",
            )
        if answer.status not in {200, 204, 400, 404, 413}:
            raise StoreUntrustedError(f"{self._home} answers {request.path} with the status {answer.status}")
        return answer

    def _explain_refusal(self, request: Request, *, own: bool) -> StoreDeniedError:
        if own and self._insist(Request("GET", "auth/token/lookup-self"), self.token).status == 403:
            return StoreDeniedError(
                f"{self._home} does not know our token (any more): it expired, was revoked, or is none of its own",
                hint="log in again; BAO_TOKEN and ~/.vault-token hold tokens, and so may an agent's file",
            )
        verb = {"LIST": "list", "GET": "read", "DELETE": "delete"}.get(request.method, "write")
        return StoreDeniedError(f"{self._home} does not let us {verb} {request.path}")


class Mount:
    """The KV engine below one mount of a server, by the paths of `layout`."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name
        self.is_checked = False

    def check(self) -> None:
        """StoreFormatError where the engine is none of version 2, in which nothing would be what it seems."""
        if self.is_checked:
            return
        answer = self.client.ask("GET", f"sys/internal/ui/mounts/{self.name}")
        found = answer.body.get("data") or {}
        if found.get("type") != "kv" or (found.get("options") or {}).get("version") != "2":
            what = "KV version 1" if found.get("type") in {"kv", "generic"} else str(found.get("type"))
            raise StoreFormatError(
                f"{self.client} has {what} at {self.name}/, and a store needs KV version 2",
                hint=f"`bao kv enable-versioning {self.name}` makes it one",
            )
        self.is_checked = True

    def data(self, path: str) -> str:
        """Where the server has the data of that path."""
        return f"{self.name}/data/{path}"

    def metadata(self, path: str) -> str:
        """Where the server has its metadata, and lists folders."""
        return f"{self.name}/metadata/{path}"
