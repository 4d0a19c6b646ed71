"""One request and its answer, as the rules say: what they allow is sent, streamed both ways, and learnt from."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator

import h11

from ..composer.credential import Credential
from ..core.records import NamedTuple
from .messages import (
    Framing,
    Request,
    Response,
    read_body,
    read_response,
    write_answer,
    write_chunk,
    write_response,
)
from .report import Tally
from .rules import SMALL, Decision, Head, Refusal, Rules, TokenRequest
from .streams import BrokenError, SlowError, Stream
from .targets import Endpoint, RequestError
from .upstream import Link, UnreachableError, Upstream

# The most of an answer that is kept to learn from it, in bytes, as it comes and unpacked.
_LARGEST_LESSON = 16 << 20
_LARGEST_UNPACKED = 64 << 20
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
    minting: dict[str, asyncio.Lock]


class _Lesson:
    """What is kept of an answer that teaches, while it is passed on."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= _LARGEST_LESSON:
            self._pieces.append(piece)
        else:
            self._pieces.clear()

    def read(self, coding: str) -> bytes:
        """Return the body as it was before the server packed it; b"" where it is too large, or packed otherwise."""
        body = b"".join(self._pieces)
        if not coding or coding == "identity":
            return body
        if coding not in ("gzip", "x-gzip"):
            return b""
        unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            found = unpacker.decompress(body, _LARGEST_UNPACKED)
        except zlib.error:
            return b""
        return found if unpacker.eof else b""


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
            decision = rules.decide(self._endpoint, self._head)
            while decision.first:
                await self._consult(decision.first)
                decision = rules.decide(self._endpoint, self._head)
            body = None
            if decision.body == "small" and not decision.refusal:
                body = await self._read_small()
                decision, body = rules.decide_body(decision, self._head, body)
            if decision.needs_token and decision.credential:
                await self._mint(decision.credential)
                decision = self._decide_again(body)
            self._note(decision)
            if decision.refusal:
                self._services.tally.add(self._endpoint.key, refused=1)
                return await self._refuse(decision.refusal)
            return await self._ask(decision, body)
        except RequestError as error:
            self._services.tally.add(self._endpoint.key, refused=1)
            return await self._refuse(self._word(error.status, error.words))
        except UnreachableError as error:
            return await self._refuse(self._word(502, f"{self._endpoint.key}: {error}"))
        except SlowError:
            return await self._refuse(self._word(504, f"{self._endpoint.key} does not answer in time"))
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

    def _note(self, decision: Decision) -> None:
        for name in decision.attempts:
            self._services.tally.note_attempt(name, self._endpoint.key)

    async def _ask(self, decision: Decision, body: bytes | None) -> bool:
        """Send the request and pass the answer on."""
        is_safe = decision.method in _SAFE and not self._has_body and not body
        link, response, pump = await self._send(decision, body, is_safe=is_safe)
        try:
            verdict = self._services.rules.judge(decision, response.status, response.headers)
            if verdict.action == "help" and is_safe:
                better = await self._probe(decision)
                if better:
                    link.stream.abort()
                    decision = better
                    link, response, pump = await self._send(decision, body, is_safe=True)
                    verdict = self._services.rules.judge(decision, response.status, response.headers)
            if verdict.notice:
                self._services.tally.note(verdict.notice)
            if verdict.action == "refuse" and verdict.refusal:
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
                self._services.tally.add(
                    decision.endpoint.key, decision.secret, requests=1, bytes_out=len(head) + len(body or b"")
                )
                await link.stream.send(head + (body or b""), self._services.limits.silence)
                if self._has_body:
                    pump = asyncio.create_task(self._pump(link, decision.endpoint.key))
                return link, await self._await(link, parser, decision), pump
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
        while True:
            response = await read_response(link.stream, parser, decision.method, start, limits.head)
            if link.proxy and response.status == 407:
                raise UnreachableError("the proxy on the way wants another password")
            if response.status >= 200:
                return response
            if response.status == 100 and self._request.waits and self._has_body:
                self._client.write(_CONTINUE)

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
        response = response._replace(headers=self._services.rules.hide_values(decision, response.headers))
        head, chunked = write_response(self._request, response, keeps_alive=keeps_alive)
        lesson = _Lesson() if decision.learns and response.status == 200 else None
        if not lesson:
            self._services.rules.learn(decision, response.status, response.headers)
        self._is_answered = True
        self._client.write(head)
        size, last = len(head), b""
        silence = self._services.limits.poll if decision.purpose == "git" else self._services.limits.silence
        async for piece in read_body(link.stream, response.framing, response.parser, silence):
            size += len(piece)
            if lesson:
                # The client gets the end of the body when its lesson is learnt: its next request may depend on that.
                lesson.add(piece)
            piece = write_chunk(piece) if chunked else piece
            if lesson:
                piece, last = last, piece
            await self._client.send(piece, self._services.limits.poll)
        if lesson:
            coding = next((value for name, value in response.headers if name == "content-encoding"), "").lower()
            self._services.rules.learn(decision, response.status, response.headers, lesson.read(coding))
        await self._client.send(last + (write_chunk(b"") if chunked else b""), self._services.limits.poll)
        self._services.tally.add(decision.endpoint.key, bytes_in=size)
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

    async def _fetch(
        self, asked: Decision | TokenRequest, method: str, credential: Credential | None, largest: int = 1 << 20
    ) -> tuple[Response, bytes]:
        """Return the answer to a request of our own, and its body up to that size."""
        body = asked.body if isinstance(asked, TokenRequest) else b""
        link = await self._services.upstream.open(asked.endpoint, credential, is_safe=False)
        limits = self._services.limits
        try:
            head, parser = link.write_request(method, asked.target, asked.headers, _frame(body))
            await link.stream.send(head + body, limits.silence)
            response = await read_response(link.stream, parser, method, limits.start, limits.head)
            found = bytearray()
            async for piece in read_body(link.stream, response.framing, response.parser, limits.silence):
                found += piece
                if len(found) > largest:
                    break
        except BrokenError as error:
            raise UnreachableError(str(error)) from None
        finally:
            link.stream.abort()
        return response, bytes(found)

    async def _consult(self, decision: Decision) -> None:
        """Ask what has to be known before the client's request can be decided."""
        rules = self._services.rules
        if not decision.refusal and not decision.needs_token:
            response, body = await self._fetch(decision, decision.method, decision.credential, _LARGEST_LESSON)
            rules.learn(decision, response.status, response.headers, body)

    async def _probe(self, decision: Decision) -> Decision | None:
        """Ask whether the repository is public; return the decision that helps if it is."""
        rules = self._services.rules
        try:
            probe = rules.make_probe(decision)
            if probe.needs_token and probe.credential:
                await self._mint(probe.credential)
                probe = rules.make_probe(decision)
            response, body = await self._fetch(probe, probe.method, probe.credential)
        except UnreachableError:
            return None
        return rules.judge_probe(decision, self._head, response.status, body)

    async def _mint(self, credential: Credential) -> None:
        """Have the credential's access token minted, once for all who wait for it."""
        rules = self._services.rules
        async with self._services.minting.setdefault(credential.name, asyncio.Lock()):
            if rules.has_token(credential):
                return
            asked = rules.make_token_request(credential)
            response, answer = await self._fetch(asked, "POST", credential)
            try:
                token = json.loads(answer)["access_token"] if response.status == 200 else None
            except (ValueError, KeyError, TypeError):
                token = None
            if not isinstance(token, str) or not token:
                words = f"{asked.endpoint.key} gives no access token for {credential.name} (status {response.status})"
                self._services.tally.note(words)
                raise UnreachableError(words)
            rules.set_token(credential, token)

    def _decide_again(self, body: bytes | None) -> Decision:
        decision = self._services.rules.decide(self._endpoint, self._head)
        if body is not None and decision.body == "small":
            decision, _ = self._services.rules.decide_body(decision, self._head, body)
        return decision


def word_refusal(request: Request, status: int, words: str) -> Refusal:
    """Return a refusal in the form that the client prints."""
    is_git = any(value.startswith("git/") for value in request.list("user-agent"))
    return Refusal(status, words, "text" if is_git else "json")


def _frame(body: bytes | None) -> Framing:
    return Framing("length", len(body)) if body else Framing("none")
