"""How an OpenBao server is asked, on the common client: which node may answer, and what a refusal means.

A read is answered by the active node. A standby may give an old answer, or none for what was acknowledged a moment ago:
on a standby we go to the node that it calls the leader, and what is absent is so only where the active node said it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from ...client import Address, http, parse_address
from ...client.errors import (
    CertificateError,
    DemandedCertificateError,
    HttpError,
    InvalidReplyError,
    TransientError,
    UnansweredError,
    UnavailableError,
    to_store_error,
)
from ...core.records import NamedTuple
from ...errors import ConfigError, StoreDeniedError, StoreFormatError, StoreMissingError, StoreUntrustedError

if TYPE_CHECKING:
    from ...client import Connection

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_PORT = 8200
_URL_HINT = "it is bao+https://HOST:8200/MOUNT"
_TRUST_HINT = "BAO_CACERT names a file with the certificate of who signed it"
_WRITE_HINT = (
    "`ic-secrets bao policy SITE --for manage` prints the policy that it needs; beside a build's policy it does not "
    "help, whose paths are more specific"
)
# No node stops being the active one, and becomes it again, within so many seconds.
_TERM = 0.5
# Statuses of a node's health: https://openbao.org/api-docs/system/health/.
_ACTIVE, _NOT_INITIALIZED, _SEALED = 200, 501, 503
_STANDBY = frozenset({429, 472, 473})
# What a server answers outside of namespaces only.
_ROOT_PATHS = frozenset({"sys/health", "sys/leader"})
# With these the server always sends an object.
_EXPLAINED = frozenset({200, 403, 404})


class Request(NamedTuple):
    """A method, a path below `/v1/`, unquoted, and a body."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    # Whether what it uses up may be used up when no answer came, so that it is never sent again.
    is_once: bool = False

    def __repr__(self) -> str:
        return f"Request({self.method} {self.path})"


class Answer(NamedTuple):
    """A status and the JSON object that came with it; `errors` is what the server says of a failure."""

    status: int
    body: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Answer({self.status})"

    @property
    def errors(self) -> str:
        """Return its messages as one line."""
        said = self.body.get("errors")
        found = said if isinstance(said, list) else ()
        return " ".join(" ".join(str(one).split()) for one in found)[:300]


def get_object(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the object under the key, {} for none, and for anything else."""
    value = found.get(key)
    return value if isinstance(value, dict) else {}


def split_store_url(url: str) -> tuple[str, str]:
    """Return the server's URL, and the mount; ConfigError."""
    scheme, _, rest = url.partition("://")
    host, _, mount = rest.partition("/")
    mount = mount.strip("/")
    parts = mount.split("/")
    if not all(part.replace("-", "").replace("_", "").isalnum() and part.isascii() for part in parts):
        raise ConfigError("the store's URL does not name a mount", hint=_URL_HINT)
    return f"{scheme.lower().removeprefix('bao+')}://{host}", mount


def parse_nodes(url: str) -> list[Address]:
    """Return the nodes that `SCHEME://HOST:PORT,HOST:PORT` names; ConfigError."""
    scheme, _, hosts = url.partition("://")
    return [_parse_node(f"{scheme}://{host}") for host in hosts.split(",")]


def _parse_node(url: str, name: str = "the store's URL", hint: str = _URL_HINT) -> Address:
    return parse_address(url, name=name, hint=hint, port=_PORT)


class BaoClient:
    """A server, or several nodes of one, asked with one token. Threads may use it side by side."""

    def __init__(
        self, url: str, *, timeout: float = http.BUDGET, namespace: str = "", trust: http.Trust = http.SYSTEM_TRUST
    ) -> None:
        self._http = http.Client(
            parse_nodes(url), http.TimeBudget(timeout), trust=trust, find_proxy=http.find_named_proxy
        )
        self._namespace = {"X-Vault-Namespace": namespace} if namespace else {}
        self.token = ""

    def __str__(self) -> str:
        return str(self._http)

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        token: str | None = None,
        is_once: bool = False,
    ) -> Answer:
        """Return the answer to one request: 2xx, 400, 404 or 413. A 404 is the active node's.

        StoreDeniedError for 403, StoreUnreachableError where no answer came in time, StoreUntrustedError where
        another's did. `token` is used in place of our own, and where it is empty none. See `Request.is_once`.
        """
        request = Request(method, path, body, is_once)
        return self._check(request, self._insist(request, self.token if token is None else token), token)

    def ask_all(self, requests: Sequence[Request], *, is_lenient: bool = False) -> list[Answer]:
        """Return the answers to all of them, asked side by side; with `is_lenient`, refusals (403) among them.

        The first error is raised when all have ended.
        """

        def ask(request: Request) -> Answer:
            answer = self._insist(request, self.token)
            return answer if is_lenient and answer.status == 403 else self._check(request, answer, None)

        return self.run_all(ask, requests)

    def run_all(self, work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
        """Return what the work gives for each item, as `client.http.Client.run_all` does."""
        return self._http.run_all(work, items)

    def limit(self, most: float) -> None:
        """Wait for a failing server no longer than so many seconds from here on."""
        self._http.budget.limit(most)

    def close(self) -> None:
        """Close the connections; safe to call twice."""
        self._http.close()

    # --- one request ------------------------------------------------------------------------------------

    def _insist(self, request: Request, token: str) -> Answer:
        try:
            return self._http.insist(lambda: self._try(request, token))
        except HttpError as error:
            hints = {
                CertificateError: _TRUST_HINT,
                DemandedCertificateError: "BAO_CLIENT_CERT names its file, and BAO_CLIENT_KEY that of its key",
                UnavailableError: "check the store's URL",
            }
            raise to_store_error(error, self, hints.get(type(error), "")) from None

    def _try(self, request: Request, token: str) -> Answer:
        with self._http.connection(self._find_leader) as connection:
            answer = self._exchange_once(connection, request, token)
            if answer.status == 404:  # is it the active node's word, given while it was active?
                before = connection.checked_at
                self._require_active(connection)
                if connection.checked_at - before > _TERM:
                    answer = self._exchange(connection, request, token)
            if answer.status == 503:
                self._require_active(connection)
            if answer.status in {307, 429} or answer.status >= 500:
                raise TransientError(f"status {answer.status}")
        return answer

    def _exchange_once(self, connection: "Connection", request: Request, token: str) -> Answer:
        """Return the answer; UnansweredError where the request must not be sent again and may have been done."""
        try:
            answer = self._exchange(connection, request, token)
        except TransientError as error:
            if request.is_once:
                raise UnansweredError(str(error)) from None
            raise
        if request.is_once and answer.status >= 500:
            raise UnansweredError(f"status {answer.status}")
        return answer

    def _exchange(self, connection: "Connection", request: Request, token: str = "") -> Answer:
        from ...client.connection import Request as HttpRequest

        headers = {"X-Vault-Request": "true"} | ({"X-Vault-Token": token} if token else {})
        if request.path not in _ROOT_PATHS:
            headers |= self._namespace
        target = f"/v1/{quote(request.path, safe='/?=')}"
        timeout = self._http.find_timeout(is_last=request.is_once)
        reply = connection.exchange(HttpRequest(request.method, target, request.body, headers), timeout)
        body = reply.parse_object()
        if not body and reply.status in _EXPLAINED:  # a machine in between said that
            raise InvalidReplyError(f"status {reply.status} without what the server sends with it")
        return Answer(reply.status, body or {})

    def _find_leader(self, connection: "Connection") -> Address | None:
        """Return the node that is to be asked in place of this one; None where it is the active one."""
        if self._is_active(connection):
            return None
        leader = self._exchange(connection, Request("GET", "sys/leader")).body.get("leader_address")
        if not leader:
            raise TransientError("it is a standby, and knows no active node")
        hint = "its api_addr must begin with https:"
        found = _parse_node(str(leader), f"the leader's address that {connection.address} gives", hint)
        if connection.address.tls and not found.tls:
            raise StoreUntrustedError(f"{connection.address} redirects to {found}, without TLS", hint=hint)
        return found

    def _require_active(self, connection: "Connection") -> None:
        if not self._is_active(connection):
            raise TransientError("it is a standby")

    def _is_active(self, connection: "Connection") -> bool:
        """Whether the node is the active one; HttpError where it is neither that nor a standby."""
        health = self._exchange(connection, Request("GET", "sys/health"))
        if health.status == _ACTIVE:
            connection.checked_at = time.monotonic()
        elif health.status == _NOT_INITIALIZED:
            raise UnavailableError(f"{connection.address} is not initialized", "run `bao operator init`, once")
        elif health.status == _SEALED and health.body.get("sealed"):
            raise UnavailableError(f"{connection.address} is sealed", "ask whoever holds its keys to unseal it")
        elif health.status not in _STANDBY:
            raise TransientError(f"its health has the status {health.status}")
        return health.status == _ACTIVE

    # --- what an answer means ---------------------------------------------------------------------------

    def _check(self, request: Request, answer: Answer, token: str | None) -> Answer:
        if answer.status == 403:
            raise self._explain_refusal(request, is_ours=token is None)
        if answer.status == 404 and "no handler for route" in answer.errors:
            mount = request.path.partition("/")[0]
            raise StoreMissingError(
                f"{self} has nothing mounted at {mount}/",
                hint=f"check the store's URL; `bao secrets enable -path={mount} -version=2 kv` mounts a store",
            )
        if answer.status not in {200, 204, 400, 404, 413}:
            raise StoreUntrustedError(f"{self} answers {request.path} with the status {answer.status}")
        return answer

    def _explain_refusal(self, request: Request, *, is_ours: bool) -> StoreDeniedError:
        if is_ours and self._insist(Request("GET", "auth/token/lookup-self"), self.token).status == 403:
            return StoreDeniedError(
                f"{self} does not accept the token: it expired, was revoked, or belongs to another server",
                hint="log in again; check BAO_TOKEN, ~/.vault-token, and the file that an agent writes",
            )
        verb = {"LIST": "list", "GET": "read", "DELETE": "delete"}.get(request.method, "write")
        refused = f"{self} does not allow the token to {verb} {request.path}"
        if request.path.endswith("/record") and verb in {"write", "delete"}:
            return StoreDeniedError(
                refused, hint="whoever administers the server makes and deletes sites, and says what they belong to"
            )
        hint = "" if verb in {"list", "read"} else _WRITE_HINT
        return StoreDeniedError(refused, hint=hint or StoreDeniedError.hint)


class Mount:
    """The KV engine below one mount of a server, by the paths of `layout`."""

    def __init__(self, client: BaoClient, name: str) -> None:
        self.client = client
        self.name = name
        self.is_checked = False

    def check(self) -> None:
        """StoreFormatError where the engine is not of version 2, in which nothing would be what it seems."""
        if self.is_checked:
            return
        answer = self.client.ask("GET", f"sys/internal/ui/mounts/{self.name}")
        found = get_object(answer.body, "data")
        if found.get("type") != "kv" or get_object(found, "options").get("version") != "2":
            what = "KV version 1" if found.get("type") in {"kv", "generic"} else str(found.get("type"))
            raise StoreFormatError(
                f"{self.client} has {what} at {self.name}/, and a store needs KV version 2",
                hint=f"`bao kv enable-versioning {self.name}` makes it one",
            )
        self.is_checked = True

    def get_data_path(self, path: str) -> str:
        """Return where the server has the data of that path."""
        return f"{self.name}/data/{path}"

    def get_metadata_path(self, path: str) -> str:
        """Return where the server has its metadata, and lists folders."""
        return f"{self.name}/metadata/{path}"
