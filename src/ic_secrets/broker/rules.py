"""A request's credential or none, whether it is allowed, and what its answer means. Pure, but for what it learns."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from ..composer.credential import Credential
from ..composer.methods import METHODS, Purpose
from ..core.moments import format_time
from ..core.records import NamedTuple
from .access import Access, Request
from .decisions import (
    SMALL as SMALL,
    Answer as Answer,
    Decision as Decision,
    Head as Head,
    HeaderLines as HeaderLines,
    Refusal as Refusal,
    TokenRequest as TokenRequest,
    Verdict as Verdict,
)
from .forges import FORGES
from .headers import ask_plainly, check_headers, clean_headers, merge_headers, set_length
from .learning import unpack
from .order import Order
from .placeholders import (
    Hider,
    UnfitValueError,
    fill_body,
    fill_header,
    fill_target,
    find_placeholders,
    holds_text,
)
from .targets import Endpoint, has_tricks, is_plain, parse_host

# A status with which no Composer asks for a login, tries again or goes to SSH, as it does after 401, 403 and 404.
_FAILED = 424
# The members of a request of git-lfs (docs/api/batch.md).
_BATCH = frozenset("operation transfers ref objects hash_algo".split())
_COOKIES = frozenset({"set-cookie", "set-cookie2"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class _Token(NamedTuple):
    """An access token, and until when it is used."""

    text: str
    end: float

    def __repr__(self) -> str:
        return f"_Token({self.end})"


_NONE = _Token("", math.inf)


class Rules:
    """What a build's order allows, with what its answers taught."""

    def __init__(self, order: Order) -> None:
        """Take the order of the build."""
        self._access = Access(order)
        self._learned = self._access.learned
        self._tokens: dict[str, _Token] = {}
        self._renewed: set[str] = set()
        self.reached = self._learned.reached

    def intercepts(self, endpoint: Endpoint) -> bool:
        """Return whether TLS is ended for the endpoint; else two sockets are joined."""
        return self._access.intercepts(endpoint)

    def decide(self, endpoint: Endpoint, head: Head) -> Decision:
        """Return what becomes of the request."""
        request = self._access.read(endpoint, head)
        refusal = check_headers(endpoint, head.headers) or self._check_path(request)
        if refusal:
            return self._refuse(request, refusal)
        permission = self._access.permit(request)
        if permission == "ask" and (base := self._access.find_unasked(endpoint)):
            self._learned.asked.add(base)
            login = tuple(each for each in head.headers if each[0] == "authorization" and base.has_login)
            first = self.decide(endpoint, Head("GET", base.path, "", _make_headers(endpoint, head.headers) + login))
            return Decision(endpoint, head.method, first=first)
        if permission in {"no", "ask"}:
            return self._refuse(request, _explain(request))
        has_it, repository = (False, "") if permission in {"bare", "body"} else self._access.may_have(request)
        decision = self._compose(request, has_credential=has_it)
        probe = self._access.sites.show_root(request.origin, repository)[1] if repository else ""
        is_small = permission in {"body", "batch"} or (bool(self._access.names) and request.has_small_body)
        return decision._replace(probe=probe, body="small" if is_small and not decision.refusal else "stream")

    def decide_body(self, decision: Decision, head: Head, body: bytes) -> tuple[Decision, bytes]:
        """Return what becomes of a request with a small body, and the body to send."""
        request = self._access.read(decision.endpoint, head)
        permission = self._access.permit(request)
        if permission == "batch":
            if _is_download(body):
                return decision._replace(body="stream", learns=True), body
            return self._refuse(request, _explain(request)), b""
        values = request.values
        found = find_placeholders(body.decode("latin-1"))
        if permission == "body" and found.isdisjoint(values):
            return self._refuse(request, _explain(request)), b""
        try:
            filled = fill_body(head.find("content-type"), body, values)
        except UnfitValueError:
            return self._refuse(request, _explain_unfit(request)), b""
        names, attempts = self._sort_found(found, values)
        headers = set_length(decision.headers, len(filled)) if filled != body else decision.headers
        decision = decision._replace(
            body="stream",
            headers=ask_plainly(headers) if names else headers,
            secret=decision.secret or next(iter(names), ""),
            filled=tuple(dict.fromkeys((*decision.filled, *names))),
            attempts=tuple(dict.fromkeys((*decision.attempts, *attempts))),
        )
        return decision, filled

    def judge(self, decision: Decision, status: int, headers: HeaderLines) -> Verdict:
        """Return what to do with the answer."""
        if status < 400:
            self._renewed.discard(decision.secret)
        found = _read_headers(headers)
        is_spent = found.get("x-ratelimit-remaining") == "0" or "retry-after" in found
        is_limited = status == 429 or (status == 403 and is_spent)
        if decision.probe and (is_limited or status == 404):
            return Verdict("help")
        is_guest = not is_limited and self._may_only_fetch(decision, status)
        if status == 429 or not (is_guest or status in {401, 403}):
            return Verdict()
        host, name = decision.endpoint.key, decision.secret
        words = f"{host} answered {status} to the secret {name}, which may be wrong, expired or not meant for this"
        hint = f"`ic-secrets explain SITE {name}` shows whose it is, `ic-secrets set OWNER {name}` gives it a new value"
        if is_limited:
            words, hint = f"{host} takes no more requests with the secret {name}{_read_reset(found)}", ""
        if not decision.credential:
            return Verdict("pass", None, words, hint) if decision.filled else Verdict()
        if is_guest:  # all is well, unless git fails as well: then that is what is noted
            return Verdict("refuse", Refusal(200, words, "guest"))
        renews = status == 401 and self._forget_token(decision)
        return Verdict("renew" if renews else "refuse", _make_failure(decision, words), words, hint)

    def make_probe(self, decision: Decision) -> Decision:
        """Return the request, with the credential, that says whether the decision's repository is public."""
        host = self._access.sites.show_root(*self._find_repository(decision))[0]
        endpoint = parse_host(host, decision.endpoint.scheme)
        head = Head("GET", decision.probe, "", _make_headers(endpoint, decision.headers))
        return self._compose(self._access.read(endpoint, head), has_credential=True)

    def judge_probe(self, decision: Decision, head: Head, status: int, body: bytes) -> Decision | None:
        """Return the decision with the credential where the answer to the probe says public; else None."""
        origin, repository = self._find_repository(decision)
        is_public = self._learned.add_visibility(origin, repository, body if status == 200 else b"")
        return self.decide(decision.endpoint, head) if is_public else None

    def learn(self, decision: Decision, status: int, headers: HeaderLines, body: bytes = b"") -> None:
        """Remember what the answer taught; `body`, as it came, only where the decision `learns`."""
        found = _read_headers(headers)
        path = decision.target.partition("?")[0]
        if not self._access.is_safe(decision.endpoint, path):
            return  # anybody on the way may have written it
        if status in _REDIRECTS:
            has_secret = self.intercepts(decision.endpoint)
            self._learned.add_redirect(decision.endpoint, path, found.get("location", ""), is_reached=has_secret)
        elif status == 200:
            if decision.credential:
                self._learned.add_links(decision.endpoint, path, found.get("link", ""))
            if decision.learns:
                self._learned.add_answer(decision.endpoint, path, unpack(found.get("content-encoding", ""), body))

    def hide_values(self, decision: Decision, headers: HeaderLines) -> HeaderLines:
        """Return an answer's headers with placeholders in the place of the values that were put into the request.

        A redirect often repeats the query that it was asked with. A session that a credential has opened is as good as
        the credential, also for what we would refuse: neither Composer nor git needs its cookie.
        """
        if decision.credential:
            headers = tuple(each for each in headers if each[0].lower() not in _COOKIES)
        hider = self._make_hider(decision)
        return tuple((name, hider.hide(value)) for name, value in headers) if hider else headers

    def find_hider(self, decision: Decision, headers: HeaderLines) -> Hider | None:
        """Return what does the same in the answer's body; None where nothing was put in, or the body is no text."""
        found = _read_headers(headers)
        is_text = holds_text(found.get("content-type", "")) and "content-encoding" not in found
        return self._make_hider(decision) if is_text else None

    def _make_hider(self, decision: Decision) -> Hider | None:
        values = self._access.find_values(decision.endpoint)
        shown = {holder: values[name] for holder, name in self._access.names.items() if name in decision.filled}
        return Hider(shown) if shown else None

    def make_token_request(self, credential: Credential) -> TokenRequest:
        """Return the request that mints the credential's access token."""
        method = METHODS[credential.method]
        endpoint = parse_host(credential.host, "https")
        body = b"grant_type=client_credentials"
        consumer = credential._replace(content=method.replace_token(credential.content, ""))
        headers = {
            "host": endpoint.key,
            "accept": "application/json",
            "content-type": "application/x-www-form-urlencoded",
            "content-length": str(len(body)),
            "user-agent": "ic-secrets",
        }
        lines = merge_headers(tuple(headers.items()), consumer.make_headers("api", endpoint.key))
        return TokenRequest(endpoint, method.exchange, lines, body)

    def set_token(self, credential: Credential, token: str, end: float = math.inf) -> None:
        """Use the access token for the credential from now until its end, by the clock of `tick`."""
        self._tokens[credential.name] = _Token(token, end)

    def tick(self, now: float) -> None:
        """Forget the access tokens that have come to their end."""
        self._tokens = {name: token for name, token in self._tokens.items() if now < token.end}

    def _forget_token(self, decision: Decision) -> bool:
        """Forget the access token that a server has refused; return whether the request may succeed with another.

        After one that was refused another is minted, but not a third, unless a server takes that.
        """
        credential, name = decision.credential, decision.secret
        if not credential or not METHODS[credential.method].mints:
            return False
        token = self._tokens.get(name)
        if not token or METHODS[credential.method].replace_token(credential.content, token.text) != credential.content:
            return True  # meanwhile it was forgotten because of another request
        if name in self._renewed:
            return False
        del self._tokens[name]
        self._renewed.add(name)
        return True

    def _check_path(self, request: Request) -> Refusal | None:
        """Return why the path is not one; the rules for a forge depend on it, the other hosts' do hardly."""
        path = request.head.path
        if not self.intercepts(request.endpoint):
            return None
        if path.startswith("/") and (is_plain(path) if request.forge else not has_tricks(path)):
            return None
        return Refusal(400, f"the path of a request to {request.endpoint.key} is not written plainly", "text")

    def _compose(self, request: Request, *, has_credential: bool) -> Decision:
        """Return the decision to send the request, with its placeholders filled and the credential if it has one."""
        endpoint, head = request.endpoint, request.head
        values = request.values
        names, attempts = self._sort_found(request.found, values) if self._access.names else ((), ())
        learns = self._access.is_lesson(request)
        is_guarded = request.credential is not None
        headers = clean_headers(endpoint, head.headers, is_guarded=is_guarded, is_lesson=learns)
        try:
            if names:
                headers = tuple((name, fill_header(value, values)) for name, value in ask_plainly(headers))
        except UnfitValueError:
            return self._refuse(request, _explain_unfit(request))
        purpose: Purpose = "git" if request.is_git else "api" if request.target.is_api else "files"
        credential = request.credential if has_credential else None
        if credential:
            method = METHODS[credential.method]
            if method.mints and credential.name not in self._tokens:
                return Decision(endpoint, head.method, None, credential.name, credential, needs_token=True)
            token = self._tokens.get(credential.name, _NONE).text
            credential = credential._replace(content=method.replace_token(credential.content, token))
            ours = credential.make_headers(purpose, endpoint.key)
            headers = merge_headers(headers, ours)
            credential = credential if ours or method.is_certificate else None
        return Decision(
            endpoint,
            head.method,
            secret=credential.name if credential else next(iter(names), ""),
            credential=credential,
            purpose=purpose,
            target=fill_target(request.full, values) if names else request.full,
            headers=headers,
            learns=learns,
            filled=names,
            attempts=attempts,
        )

    def _refuse(self, request: Request, refusal: Refusal) -> Decision:
        attempts = self._sort_found(request.found, request.values)[1]
        return Decision(request.endpoint, request.head.method, refusal=refusal, attempts=attempts)

    def _sort_found(self, found: frozenset[str], values: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names of the secrets whose placeholders are where they belong, and of the others."""
        known = [each for each in sorted(found) if each in self._access.names]
        ours = tuple(self._access.names[each] for each in known if each in values)
        return ours, tuple(self._access.names[each] for each in known if each not in values)

    def _may_only_fetch(self, decision: Decision, status: int) -> bool:
        """Return whether GitLab refused to tell Composer what a project is, to a token that git may still fetch with.

        Deploy tokens and those of jobs are like that, and have a user name.
        """
        _, forge, target = self._access.sites.find(decision.endpoint, decision.target.partition("?")[0])
        is_asked = target.shape == "root" and forge is FORGES["gitlab-token"] and decision.method == "GET"
        if not (decision.credential and is_asked and _is_composer(decision)):
            return False
        fields = METHODS[decision.credential.method].read_fields(decision.credential.content)
        return status in {403, 404} or (status == 401 and "username" in fields)

    def _find_repository(self, decision: Decision) -> tuple[str, str]:
        origin, _, target = self._access.sites.find(decision.endpoint, decision.target.partition("?")[0])
        return origin, target.repository


def _is_download(body: bytes) -> bool:
    """Return whether the body asks git-lfs for downloads, and nothing else, however a server reads it.

    Some take the last of two members, and some take a name in any case. What else it had might be for another API.
    """
    try:
        document = json.loads(body.decode(), object_pairs_hook=_Members)
    except (ValueError, RecursionError):
        return False
    names = [name for name, _ in document] if isinstance(document, _Members) else []
    return len(names) == len(set(names)) and _BATCH.issuperset(names) and ("operation", "download") in document


class _Members(list[tuple[str, Any]]):
    """The members of a JSON object, in their order."""


def _explain(request: Request) -> Refusal:
    host = request.endpoint.key
    if request.is_push or request.is_batch:
        words = f"a build may fetch from {host}, not push to it; --allow-write {host} permits it"
        return Refusal(403, words, "text" if request.is_push else "lfs")
    return Refusal(403, f"{request.head.method} to {host} is not what a build needs; --allow-write {host} permits it")


def _explain_unfit(request: Request) -> Refusal:
    names = ", ".join(each.name for each in request.bound)
    return Refusal(400, f"the value of {names} cannot stand where its placeholder does")


def _make_failure(decision: Decision, words: str) -> Refusal:
    """Return an answer that Composer and git print, and after which Composer does not ask for a login."""
    path = decision.target.partition("?")[0]
    if decision.purpose == "git" and path.endswith("/git-upload-pack"):
        return Refusal(200, words, "result")
    if decision.purpose == "git" and "?service=" in decision.target:
        return Refusal(200, words, "git")
    if decision.purpose == "git":
        return Refusal(_FAILED, words, "lfs" if "/info/lfs/" in path else "text")
    return Refusal(_FAILED, words)


def _read_headers(headers: HeaderLines) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        found[key] = f"{found[key]}, {value.strip()}" if key in found else value.strip()
    return found


def _read_reset(headers: Mapping[str, str]) -> str:
    """Return until when a rate limit is used up, as a part of a sentence; "" where the answer does not say."""
    reset = headers.get("x-ratelimit-reset", "")
    return f" until {format_time(int(reset))}" if re.fullmatch("[0-9]{1,10}", reset) else ""


def _is_composer(decision: Decision) -> bool:
    return any(name == "user-agent" and value.startswith("Composer/") for name, value in decision.headers)


def _make_headers(endpoint: Endpoint, headers: HeaderLines) -> HeaderLines:
    """Return the headers of a request of our own, made in the course of another."""
    agent = next((value for name, value in headers if name == "user-agent"), "ic-secrets")
    return (
        ("host", endpoint.key),
        ("user-agent", agent),
        ("accept", "application/json"),
        ("accept-encoding", "identity"),
    )
