"""One request and its answer, as the rules say: what they allow is sent, streamed both ways, and learnt from."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable

import h11

from ..composer.credential import Credential
from ..core.records import NamedTuple
from .decisions import SMALL, Decision, Head, HeaderLines, Refusal, TokenRequest, Verdict
from .handed import find_handed_out
from .messages import (
    Framing,
    GarbageError,
    Request,
    Response,
    read_body,
    read_response,
    write_answer,
    write_chunk,
    write_response,
)
from .report import Tally
from .rules import Rules
from .streams import BrokenError, SlowError, Stream
from .targets import Endpoint, RequestError
from .upstream import Link, OutOfReachError, UnreachableError, Upstream

# The most of an answer that is kept to learn from it, and of one to a request of our own, in bytes as they come.
_LARGEST_LESSON = 16 << 20
_MOST_INTERIM = 100
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Limits(NamedTuple):
    """How long things may take, in seconds: a client's next request and its head, an answer's start, and a silence.

    A fetch of git may be silent for long before and in its answer, and a build that is suspended reads nothing.
    """

    idle: float = 600.0
    head: float = 60.0
    start: float = 300.0
    silence: float = 300.0
    poll: float = 3600.0


class Services(NamedTuple):
    """What all exchanges share."""

    rules: Rules
    upstream: Upstream
    tally: Tally
    limits: Limits
    turns: dict[str, asyncio.Lock]
    announce: Callable[[Iterable[str]], None]


class _Lesson:
    """What is kept of an answer that teaches, while it is passed on."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self.is_too_large:
            self._pieces.clear()
        else:
            self._pieces.append(piece)

    @property
    def is_too_large(self) -> bool:
        """Whether nothing is kept of it any more."""
        return self._size > _LARGEST_LESSON

    def read(self) -> bytes:
        """Return the body, still packed; b"" where it is too large."""
        return b"".join(self._pieces)


class Exchange:
    """One request of a client."""

    def __init__(self, services: Services, client: Stream, endpoint: Endpoint, request: Request, head: Head) -> None:
        """`endpoint` is the server that the client means, and `head` its request as the rules read it."""
        self._services = services
        self._client = client
        self._endpoint = endpoint
        self._request = request
        self._head = head
        self._is_answered = False
        self._has_body = request.framing.kind != "none"

    async def run(self) -> bool:
        """Answer the request; return whether the client's connection can be used for another one.

        BrokenError where the client has to see that something is missing.
        """
        rules = self._services.rules
        try:
            rules.tick(asyncio.get_running_loop().time())
            decision, body = await self._decide(), None
            if decision.body == "small" and not decision.refusal:
                decision, body = rules.decide_body(decision, self._head, await self._read_small())
            for name in decision.attempts:
                self._services.tally.note_attempt(name, self._endpoint.key)
            if decision.refusal:
                self._services.tally.add(self._endpoint.key, refused=1)
                return await self._refuse(decision.refusal)
            return await self._ask(decision, body)
        except RequestError as error:
            self._services.tally.add(self._endpoint.key, refused=1)
            return await self._refuse(self._word(error.status, error.words))
        except OutOfReachError as error:
            self._services.tally.add(self._endpoint.key, denied=1)
            return await self._refuse(self._word(403, str(error)))
        except UnreachableError as error:
            self._services.tally.note(f"{self._endpoint.key} could not be reached: {error}")
            return await self._refuse(self._word(502, f"{self._endpoint.key}: {error}"))
        except SlowError:
            words = f"{self._endpoint.key} does not answer in time"
            self._services.tally.note(words)
            return await self._refuse(self._word(504, words))
        except BrokenError:
            raise
        except Exception as error:
            words = f"the broker has a fault: {type(error).__name__} in a request to {self._endpoint.key}"
            self._services.tally.note(words)
            return await self._refuse(self._word(500, words))

    # --- the request

    async def _read_small(self) -> bytes:
        if self._request.waits:
            self._client.write(_CONTINUE)
        body = bytearray()
        async for piece in self._read_request():
            body += piece
            if len(body) > SMALL:
                raise RequestError(413, f"the body of a request to {self._endpoint.key} is too large to look into")
        self._has_body = False
        return bytes(body)

    def _read_request(self) -> AsyncIterator[bytes]:
        return read_body(self._client, self._request.framing, self._request.parser, self._services.limits.silence)

    async def _ask(self, decision: Decision, body: bytes | None) -> bool:
        """Send the request and pass the answer on."""
        is_safe = decision.method in _SAFE and not self._has_body and not body
        link, response, pump = await self._send(decision, body, is_safe=is_safe)
        try:
            verdict = self._services.rules.judge(decision, response.status, response.headers)
            better = await self._reconsider(decision, verdict) if is_safe else None
            if better:
                link.stream.abort()
                decision = better
                link, response, pump = await self._send(decision, body, is_safe=True)
                verdict = self._services.rules.judge(decision, response.status, response.headers)
            if verdict.notice:
                self._services.tally.note(verdict.notice, verdict.hint)
            if verdict.action in {"refuse", "renew"} and verdict.refusal:
                link.stream.abort()
                return await self._refuse(verdict.refusal)
            return await self._pass(decision, link, response, pump)
        except BaseException:
            link.stream.abort()
            raise
        finally:
            if pump:
                pump.cancel()

    async def _send(
        self, decision: Decision, body: bytes | None, *, is_safe: bool
    ) -> tuple[Link, Response, asyncio.Task[None] | None]:
        """Send the request; return the connection, the answer's head, and who still sends the body."""
        while True:
            link = await self._services.upstream.open(decision.endpoint, decision.credential, is_safe=is_safe)
            pump = None
            try:
                framing = self._request.framing if self._has_body else _frame(body)
                head, parser = link.write_request(decision.method, decision.target, decision.headers, framing)
                self._client.on_end = link.stream.abort
                names = (decision.secret, *decision.filled)
                sent = len(head) + len(body or b"")
                self._services.tally.add(decision.endpoint.key, *names, requests=1, bytes_out=sent)
                await link.stream.send(head + (body or b""), self._services.limits.silence)
                if self._has_body:
                    pump = asyncio.create_task(self._pump(link, decision.endpoint.key))
                response = await self._await(link, parser, decision)
                if pump and response.status >= 400:
                    pump.cancel()  # it does not want the rest
                return link, response, pump
            except BaseException as error:
                link.stream.abort()
                if pump:
                    pump.cancel()
                if not isinstance(error, BrokenError) or isinstance(error, SlowError):
                    raise
                if not (link.is_reused and is_safe and not self._client.is_ended):
                    raise UnreachableError(str(error)) from None

    async def _await(self, link: Link, parser: h11.Connection, decision: Decision) -> Response:
        """Return the head of the answer; words that come before it are passed on."""
        limits = self._services.limits
        start = limits.poll if decision.purpose == "git" else limits.start
        for _ in range(_MOST_INTERIM):
            response = await read_response(link.stream, parser, decision.method, start, limits.head)
            if link.proxy and response.status == 407:
                raise UnreachableError("the proxy on the way wants another password")
            if response.status >= 200:
                return response
            if response.status == 100 and self._request.waits and self._has_body:
                self._client.write(_CONTINUE)
        raise GarbageError("it sends nothing but interim answers")

    async def _pump(self, link: Link, key: str) -> None:
        """Send the client's body on. Where the server stops reading, its answer says why."""
        chunked = self._request.framing.kind == "chunked"
        try:
            async for piece in self._read_request():
                self._services.tally.add(key, bytes_out=len(piece))
                try:
                    await link.stream.send(write_chunk(piece) if chunked else piece, self._services.limits.silence)
                except BrokenError:
                    return
            if chunked:
                link.stream.write(write_chunk(b""))
            self._has_body = False
        except (BrokenError, RequestError):
            link.stream.abort()

    # --- the answer

    async def _pass(self, decision: Decision, link: Link, response: Response, pump: asyncio.Task[None] | None) -> bool:
        """Pass the answer on; return whether the client's connection can be used again."""
        keeps_alive = self._request.keeps_alive and not self._has_body
        if response.framing.kind == "end" and self._request.version == b"1.0":
            keeps_alive = False
        shown = response._replace(headers=self._services.rules.hide_values(decision, response.headers))
        hider = self._services.rules.find_hider(decision, response.headers)
        if hider and response.framing.kind == "length":  # which may become another one
            shown = shown._replace(framing=Framing("end"))
            keeps_alive = keeps_alive and self._request.version != b"1.0"
        head, chunked = write_response(self._request, shown, keeps_alive=keeps_alive)
        lesson = _Lesson() if decision.learns and response.status == 200 else None
        if not lesson:
            self._services.rules.learn(decision, response.status, response.headers)
        if decision.credential:
            self._services.announce(find_handed_out(response.headers))
        self._is_answered = True
        self._client.write(head)
        key, last = decision.endpoint.key, b""
        self._services.tally.add(key, bytes_in=len(head))
        silence = self._services.limits.poll if decision.purpose == "git" else self._services.limits.silence
        async for piece in read_body(link.stream, response.framing, response.parser, silence):
            self._services.tally.add(key, bytes_in=len(piece))
            if hider and not (piece := hider.feed(piece)):
                continue
            if lesson:
                # The client gets the end of the body when its lesson is learnt: its next request may depend on that.
                lesson.add(piece)
            piece = write_chunk(piece) if chunked else piece
            if lesson:
                piece, last = last, piece
            await self._client.send(piece, self._services.limits.poll)
        if lesson:
            body = lesson.read()
            self._services.rules.learn(decision, response.status, response.headers, body)
            if decision.method == "POST":  # of Git LFS
                self._services.announce(find_handed_out(response.headers, body))
        rest = hider.close() if hider else b""
        last += write_chunk(rest) if chunked and rest else rest
        await self._client.send(last + (write_chunk(b"") if chunked else b""), self._services.limits.poll)
        self._client.on_end = None
        if response.keeps_alive and not self._has_body:
            self._services.upstream.keep(link)
        else:
            link.stream.close()
        return keeps_alive

    async def _refuse(self, refusal: Refusal) -> bool:
        """Answer in the server's place."""
        self._client.on_end = None
        if self._is_answered:
            raise BrokenError(refusal.words)
        keeps_alive = self._request.keeps_alive and not self._has_body
        answer = write_answer(refusal.render(), keeps_alive=keeps_alive, is_head=self._request.method == "HEAD")
        await self._client.send(answer, self._services.limits.silence)
        return keeps_alive

    def _word(self, status: int, words: str) -> Refusal:
        return word_refusal(self._request, status, words)

    # --- requests of our own

    async def _reconsider(self, decision: Decision, verdict: Verdict) -> Decision | None:
        """Return a decision that may have a better answer, if there is one."""
        if verdict.action == "renew":
            return await self._decide()
        return await self._probe(decision) if verdict.action == "help" else None

    async def _decide(self) -> Decision:
        return await self._settle(lambda: self._services.rules.decide(self._endpoint, self._head))

    async def _settle(self, decide: Callable[[], Decision]) -> Decision:
        """Return the decision, once all that has to be asked before is known."""
        rules, turn = self._services.rules, self._take_turn(self._endpoint.key)
        while True:
            async with turn:  # whoever comes while that is asked waits for it too
                decision = decide()
                if decision.first and not decision.first.needs_token and not decision.first.refusal:
                    with contextlib.suppress(UnreachableError):  # nothing is learnt then
                        rules.learn(decision.first, *await self._fetch(decision.first, decision.first.credential))
            if decision.needs_token and decision.credential:
                await self._mint(decision.credential, decide)
            elif not decision.first:
                return decision

    async def _mint(self, credential: Credential, decide: Callable[[], Decision]) -> None:
        """Have the credential's access token minted, once for all who wait for it; UnreachableError."""
        rules = self._services.rules
        async with self._take_turn(credential.name):
            if not decide().needs_token:
                return
            asked = rules.make_token_request(credential)
            status, _, answer = await self._fetch(asked, None)
            token, life = asked.read_answer(answer) if status == 200 else ("", 0.0)
            if not token:
                words = f"no access token for the secret {credential.name}: {asked.endpoint.key} answered {status}"
                self._services.tally.note(words)
                raise RequestError(424, words)
            rules.set_token(credential, token, asyncio.get_running_loop().time() + life)

    def _take_turn(self, name: str) -> asyncio.Lock:
        return self._services.turns.setdefault(name, asyncio.Lock())

    async def _probe(self, decision: Decision) -> Decision | None:
        """Ask whether the repository is public; return the decision that helps if it is."""
        rules = self._services.rules
        try:
            probe = await self._settle(lambda: rules.make_probe(decision))
            status, _, body = await self._fetch(probe, probe.credential)
        except UnreachableError:
            return None
        better = rules.judge_probe(decision, self._head, status, body)
        return await self._decide() if better else None

    async def _fetch(
        self, asked: Decision | TokenRequest, credential: Credential | None
    ) -> tuple[int, HeaderLines, bytes]:
        """Return the status, headers and body of the answer to a request of our own; UnreachableError."""
        method, body = ("POST", asked.body) if isinstance(asked, TokenRequest) else (asked.method, b"")
        name = asked.secret if isinstance(asked, Decision) else ""
        limits, lesson = self._services.limits, _Lesson()
        link = await self._services.upstream.open(asked.endpoint, credential, is_safe=False)
        try:
            head, parser = link.write_request(method, asked.target, asked.headers, _frame(body))
            await link.stream.send(head + body, limits.silence)
            response = await read_response(link.stream, parser, method, limits.start, limits.head)
            async for piece in read_body(link.stream, response.framing, response.parser, limits.silence):
                lesson.add(piece)
                if lesson.is_too_large:
                    raise BrokenError("its answer is too large")
        except BaseException as error:
            link.stream.abort()
            if isinstance(error, BrokenError):
                raise UnreachableError(str(error)) from None
            raise
        finally:
            self._services.tally.add(asked.endpoint.key, name, requests=1)
        if response.keeps_alive:
            self._services.upstream.keep(link)
        else:
            link.stream.close()
        return response.status, response.headers, lesson.read()


def word_refusal(request: Request, status: int, words: str) -> Refusal:
    """Return a refusal in the form that the client prints."""
    is_git = any(value.startswith("git/") for value in request.list("user-agent"))
    return Refusal(status, words, "text" if is_git else "json")


def _frame(body: bytes | None) -> Framing:
    return Framing("length", len(body)) if body else Framing("none")
