"""The one HTTP client for every server that we ask: kept connections, retries, and one budget of time for all tries.

`Client.insist` runs an attempt until it succeeds; an attempt asks on a `Client.connection` and raises TransientError
where the next try may succeed. 429 and 5xx are such failures (`check_status`); 400 and 403 never are.
"""

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from ..core.durations import is_duration, parse_duration
from ..core.records import NamedTuple
from ..errors import ConfigError
from .addresses import LOOPBACK, Address
from .errors import TransientError, UnavailableError

if TYPE_CHECKING:
    from ssl import SSLContext

    from .connection import Connection, Proxy, Reply

# One try, and all the time that a command waits for a server that does not answer as it should, in seconds.
TRY = 2.0
BUDGET = 30.0
_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
# Connections side by side. A server on this machine shares its processors with us: more of them only get in its way.
_CONNECTIONS = 8
_CONNECTIONS_AT_HOME = 3

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def parse_timeout(setting: str, text: str | None) -> float:
    """Return what that setting says, in seconds; ConfigError."""
    if not text:
        return BUDGET
    if not is_duration(text):
        raise ConfigError(f"{setting} is {text!r}, which is not a valid duration", hint="seconds, or 30s, 10m")
    return parse_duration(text)


class TimeBudget:
    """How long a command waits, in all, for a server that fails: from a try that fails to the next success."""

    def __init__(self, seconds: float = BUDGET) -> None:
        self._left = seconds
        self._since: float | None = None
        self._lock = threading.RLock()  # a signal's handler may come in between

    def spend(self, started: float) -> float:
        """Return the seconds that are left, now that a try failed which began then (of the monotonic clock)."""
        with self._lock:
            self._since = started if self._since is None else self._since
            return self._left - (time.monotonic() - self._since)

    def peek(self) -> float:
        """Return the seconds that are left."""
        with self._lock:
            return self._left if self._since is None else self._left - (time.monotonic() - self._since)

    def stop(self) -> None:
        """Spend nothing from here on: the server has answered."""
        with self._lock:
            if self._since is not None:
                self._left -= time.monotonic() - self._since
                self._since = None

    def limit(self, most: float) -> None:
        """Leave no more than so many seconds."""
        with self._lock:
            spent = 0.0 if self._since is None else time.monotonic() - self._since
            self._left = min(self._left, spent + most)


class Trust(NamedTuple):
    """Who signed the server's certificate, and the certificate that we show: files, "" for the system's, and none.

    `ca_path` is a directory of such files.
    """

    ca_file: str = ""
    ca_path: str = ""
    certificate: str = ""
    key: str = ""

    def make_context(self) -> "SSLContext":
        """Return what TLS connections are made with; ConfigError."""
        import ssl

        path = self.ca_path
        try:
            if not self.ca_file and path:
                files = [os.path.join(path, name) for name in sorted(os.listdir(path))]
            else:
                files = [self.ca_file] if self.ca_file else []
            path = next(iter(files), path)
            context = ssl.create_default_context(cafile=path or None)
            for path in files[1:]:
                context.load_verify_locations(path)
        except OSError as error:
            raise ConfigError(f"{path} does not hold certificates: {error.strerror}") from None
        if self.certificate or self.key:
            try:
                context.load_cert_chain(self.certificate, self.key or None, password="")
            except (OSError, ValueError):
                raise ConfigError(
                    f"{self.certificate or self.key} is not a certificate that we can show",
                    hint="BAO_CLIENT_CERT names its file, BAO_CLIENT_KEY that of its key, without a passphrase",
                ) from None
        return context


SYSTEM_TRUST = Trust()


class Client:
    """A server, or several nodes of one that are tried in turn. Threads may use it side by side."""

    def __init__(
        self,
        nodes: Sequence[Address],
        budget: TimeBudget,
        *,
        trust: Trust = SYSTEM_TRUST,
        find_proxy: "Callable[[Address], Proxy | None] | None" = None,
    ) -> None:
        """`find_proxy` says which proxy, if any, leads to a node."""
        self.nodes = nodes
        self.address = nodes[0]
        self.budget = budget
        self._trust = trust
        self._find_proxy = find_proxy
        self._try = TRY
        self._context: SSLContext | None = None
        self._kept: list[Connection] = []
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return " or ".join(map(str, self.nodes))

    def close(self) -> None:
        """Close the connections that are kept; safe to call twice."""
        with self._lock:
            kept, self._kept = self._kept, []
        for connection in kept:
            connection.close()

    def find_timeout(self, *, is_last: bool = False) -> float:
        """Return the seconds for one try, which leave time for another node where there are several.

        A server that is slow gets more with each try. One that `is_last` has all that is left.
        """
        left = self.budget.peek()
        return max(0.05, left if is_last else min(self._try, left if len(self.nodes) == 1 else left / 2))

    def insist(self, attempt: Callable[[], _Result]) -> _Result:
        """Return what the attempt returns, after as many tries as the budget allows; HttpError.

        Where there are several nodes, each is tried before we pause. What is raised beside TransientError and
        UnavailableError is raised at once, the latter too where there is one node.
        """
        pause, failed = _PAUSE, 0
        while True:
            asked, started = self.address, time.monotonic()
            try:
                result = attempt()
            except (TransientError, UnavailableError) as error:
                if isinstance(error, UnavailableError) and len(self.nodes) == 1:
                    raise
                failed += 1
                # Threads fail side by side: it is twice what was waited, not twice for each of them.
                self._try = max(self._try, 2 * (time.monotonic() - started))
                self._leave(asked)
                # Between half of it and the whole: many builds that failed together do not come back together.
                wait = max(pause * (0.5 + os.urandom(1)[0] / 512), getattr(error, "wait", 0.0))
                if self.budget.spend(started) <= wait:
                    raise
            else:
                self.budget.stop()
                return result
            if failed % len(self.nodes) == 0:  # the next node may be well: it is asked at once
                time.sleep(wait)
                pause = min(pause * 2, _LONGEST_PAUSE)

    @contextlib.contextmanager
    def connection(self, find_leader: "Callable[[Connection], Address | None] | None" = None) -> "Iterator[Connection]":
        """Give a connection to the node that is asked now, which is kept where the block ends well; HttpError.

        `find_leader` looks at a new connection, and names the node that is to be asked in its place, if any.
        """
        connection = self._take() or self._connect(find_leader)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        with self._lock:
            self._kept.append(connection)

    def run_all(self, work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
        """Return what the work gives for each item, done side by side; the first error when all have ended."""
        most = _CONNECTIONS_AT_HOME if self.nodes[0].host in LOOPBACK else _CONNECTIONS
        return _run_side_by_side(work, items, most)

    def _take(self) -> "Connection | None":
        with self._lock:
            while self._kept:
                connection = self._kept.pop()
                if connection.address == self.address and connection.is_open:
                    return connection
                connection.close()
        return None

    def _connect(self, find_leader: "Callable[[Connection], Address | None] | None") -> "Connection":
        from .connection import connect

        address = self.address
        for _ in range(2):
            proxy = self._find_proxy(address) if self._find_proxy else None
            connection = connect(address, self._make_context, self.find_timeout(), proxy)
            try:
                leader = find_leader(connection) if find_leader else None
            except BaseException:
                connection.close()
                raise
            if leader is None:
                return connection
            connection.close()
            self.address = address = leader
        raise TransientError("no node says that it is the active one")

    def _leave(self, asked: Address) -> None:
        """Ask another node from now on, unless that is so already."""
        with self._lock:
            if self.address == asked:
                at = self.nodes.index(asked) + 1 if asked in self.nodes else 0
                self.address = self.nodes[at % len(self.nodes)]

    def _make_context(self) -> "SSLContext":
        if self._context is None:
            self._context = self._trust.make_context()
        return self._context


def find_named_proxy(address: Address) -> "Proxy | None":
    """Return the proxy that the environment names for the server; this machine is asked without one."""
    if address.host in LOOPBACK or not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from .proxies import find_proxy  # which takes long to import

    return find_proxy(address)


def check_status(reply: "Reply") -> None:
    """TransientError for a status that another try may change."""
    if reply.status == 429:
        raise TransientError("too many requests", _parse_wait(reply.headers.get("retry-after")))
    if reply.status >= 500:
        raise TransientError(f"status {reply.status}")


def fetch(client: Client, attempt: Callable[["Connection"], "Reply"]) -> "Reply":
    """Return the reply of an attempt on a connection of the client, tried again as `check_status` says; HttpError."""

    def ask() -> "Reply":
        with client.connection() as connection:
            reply = attempt(connection)
        check_status(reply)
        return reply

    return client.insist(ask)


def _run_side_by_side(work: Callable[[_Item], _Result], items: Sequence[_Item], most: int) -> list[_Result]:
    results: dict[int, _Result] = {}
    failures: list[BaseException] = []
    lock = threading.Lock()
    numbers = iter(range(len(items)))

    def run() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None or failures:
                return
            try:
                results[number] = work(items[number])
            except BaseException as error:
                failures.append(error)
                if not isinstance(error, Exception):  # a signal is to end us: nobody waits for the others
                    raise

    others = [threading.Thread(target=run, daemon=True) for _ in range(min(most, len(items)) - 1)]
    for thread in others:
        thread.start()
    run()
    for thread in others:
        thread.join()
    if failures:
        raise failures[0]
    return [results[number] for number in range(len(items))]


def _parse_wait(text: str | None) -> float:
    """Return Retry-After in seconds: a number, or a date (RFC 9110, section 10.2.3); 0 for anything else."""
    if not text:
        return 0.0
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return float(text)
    import email.utils

    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
