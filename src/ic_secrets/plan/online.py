"""Ask repositories whether they accept their credential: `plan --online`.

A Composer repository gets a HEAD of its packages.json, an archive a HEAD, a git repository a `git ls-remote`. A
credential goes to its own host alone, in a header or by a helper; never into arguments or a file, and never along with
a redirect to another host.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..client.errors import CertificateError, HttpError, TlsError, UnavailableError
from ..composer import METHODS, Credential
from ..composer.repositories import ARCHIVES, Repository
from ..core.linux import end_by_term
from ..core.records import NamedTuple
from ..errors import BuildError
from ..git import Login
from ..model.variables import inherit
from ..process import find_program
from .facts import Answer

if TYPE_CHECKING:
    import ssl

TIMEOUT = 10.0
# So many are asked at once.
_THREADS = 16
# Servers that know no HEAD, or do not allow it, say one of these.
_NO_HEAD = frozenset({403, 405, 501})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 10
_BY_STATUS = {401: "expired", 403: "refused", 404: "not found"}
# What git says, in the locale C, and what it means.
_GIT_MESSAGES = (
    ("could not read username", "expired", ""),
    ("authentication failed", "expired", ""),
    ("returned error: 401", "expired", ""),
    ("returned error: 403", "refused", ""),
    ("not found", "not found", ""),
    ("could not resolve host", "unreachable", "its name cannot be resolved"),
    ("connection refused", "unreachable", "it refuses connections"),
    ("failed to connect", "unreachable", "it refuses connections"),
    ("couldn't connect", "unreachable", "it refuses connections"),
    ("timed out", "unreachable", "it does not answer"),
    ("certificate", "unreachable", "its certificate is not trusted"),
    ("ssl", "unreachable", "the TLS handshake failed"),
    ("tls", "unreachable", "the TLS handshake failed"),
)
_HELPER = '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" "$ASKED_USER" "$ASKED_PASSWORD"; }; f'

# The user's own helpers, which are asked but never learn what became of it; without our entries of the configuration.
_USERS_HELPERS = '!f() {{ test "$1" != get || GIT_CONFIG_COUNT={} git credential fill; }}; f'


class Question(NamedTuple):
    """A repository, and the credential that it would get: a `login` for git, else Composer's; None for none."""

    repository: Repository
    credential: Credential | None = None
    login: Login | None = None

    @property
    def is_for_git(self) -> bool:
        """Whether git would ask it."""
        return self.repository.transport in {"git", "api"}


def ask_all(
    questions: Sequence[Question],
    environment: Mapping[str, str],
    progress: Callable[[int], object] = lambda done: None,
    timeout: float = TIMEOUT,
) -> dict[Repository, Answer]:
    """Ask all of them at once; one that does not answer in `timeout` seconds is unreachable.

    `progress` gets how many have answered.
    """
    waiting: queue.SimpleQueue[Question] = queue.SimpleQueue()
    answered: queue.SimpleQueue[tuple[Repository, Answer]] = queue.SimpleQueue()
    for question in questions:
        waiting.put(question)

    def work() -> None:
        while True:
            try:
                question = waiting.get_nowait()
            except queue.Empty:
                return
            answered.put((question.repository, ask(question, environment, timeout)))

    for _ in range(min(_THREADS, len(questions))):
        # Resolving a name has no time limit: such a thread is left behind, and ends with the process.
        threading.Thread(target=work, daemon=True).start()
    rounds = -(-len(questions) // _THREADS)
    deadline = time.monotonic() + rounds * (timeout + 1)
    silent = Answer("unreachable", f"no answer within {timeout:g} seconds")
    answers = dict.fromkeys((question.repository for question in questions), silent)
    for done in range(1, len(questions) + 1):
        try:
            repository, answer = answered.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        answers[repository] = answer
        progress(done)
    return answers


def ask(question: Question, environment: Mapping[str, str], timeout: float = TIMEOUT) -> Answer:
    """Ask the repository. Raises nothing: a message of an error might hold a credential."""
    try:
        if question.credential and METHODS[question.credential.method].mints and not question.login:
            return Answer("not asked", "Composer would first exchange its credential for a token")
        if question.is_for_git:
            return _ask_git(question.repository.web_url, question.login, environment, timeout)
        return _ask_http(question, timeout)
    except Exception as error:
        return Answer("failed", type(error).__name__)


# --- HTTP -------------------------------------------------------------------------------------------


def _ask_http(question: Question, timeout: float) -> Answer:
    repository, credential = question.repository, question.credential
    url, is_archive = repository.url, repository.kind in ARCHIVES
    if not is_archive and not url.endswith(".json"):
        url = f"{url.rstrip('/')}/packages.json"
    headers = credential.make_headers("files" if is_archive else "api", url.split("/")[2]) if credential else {}
    url += f"?{repository.query}" if repository.query else ""
    end = time.monotonic() + timeout
    status = 0
    for method in ("HEAD", "GET"):
        try:
            status = _fetch_status(method, url, headers, credential, end)
        except _RedirectedError as error:
            # An archive is often somewhere else, at a URL of its own that needs no credential.
            return Answer("ok") if is_archive else Answer("redirected", str(error))
        except HttpError as error:
            return Answer("unreachable", _explain(error, timeout))
        if 200 <= status < 300:
            return Answer("ok")
        if status not in _NO_HEAD:
            break
    return Answer(_BY_STATUS.get(status, "failed"), f"status {status}")


class _RedirectedError(Exception):
    """The reply leads to another host, which is the text, or away from TLS; the request is not sent there."""


def _fetch_status(method: str, url: str, headers: Mapping[str, str], credential: Credential | None, end: float) -> int:
    """Return the status of the reply, after redirects within the host; HttpError, _RedirectedError."""
    from urllib.parse import urljoin, urlsplit

    from ..client import Address
    from ..client.connection import Request, connect
    from ..client.proxies import find_proxy

    for _ in range(_MOST_REDIRECTS):
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        address = Address(parts.hostname or "", parts.port or (443 if tls else 80), tls)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        left = max(end - time.monotonic(), 0.01)
        connection = connect(address, lambda: _make_context(credential), left, find_proxy(address))
        request = Request(method, target, headers=headers)
        try:
            reply = connection.exchange(request, max(end - time.monotonic(), 0.01), reads_content=False)
        finally:
            connection.close()
        location = reply.headers.get("location")
        if reply.status not in _REDIRECTS or not location:
            break
        url = urljoin(url, location)
        new = urlsplit(url)
        if new.netloc.lower() != parts.netloc.lower() or (tls and new.scheme != "https"):
            raise _RedirectedError(new.hostname or "")
    return reply.status


def _make_context(credential: Credential | None) -> ssl.SSLContext:
    import ssl

    context = ssl.create_default_context()
    if credential and credential.method == "client-certificate":
        content = credential.content
        context.load_cert_chain(content["local_cert"], content.get("local_pk"), content.get("passphrase") or "")
    return context


def _explain(error: HttpError, timeout: float) -> str:
    kinds = {
        CertificateError: "its certificate is not trusted",
        TlsError: "the TLS handshake failed",
        UnavailableError: "its name cannot be resolved",
    }
    texts = {"timed out": f"no answer within {timeout:g} seconds", "connection refused": "it refuses connections"}
    return kinds.get(type(error)) or texts.get(str(error)) or str(error)


# --- git --------------------------------------------------------------------------------------------


def _ask_git(url: str, login: Login | None, environment: Mapping[str, str], timeout: float) -> Answer:
    try:
        program = find_program("git", environment)
    except BuildError:
        return Answer("not asked", "git is not installed")
    command = [program, "-c", "core.askPass=", "ls-remote", "--quiet", url, "HEAD"]
    with contextlib.suppress(BuildError):  # where we are killed, it ends git with all that git has started
        command = [find_program("timeout", environment), "--kill-after=1", f"{timeout + 1:g}", *command]
    process = subprocess.Popen(
        command,
        env=_make_environment(url, login, environment),
        cwd=os.sep,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=end_by_term,
    )
    try:
        _, output = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return Answer("unreachable", f"no answer within {timeout:g} seconds")
    if process.returncode == 0:
        return Answer("ok")
    text = output.decode(errors="replace").lower()
    for message, outcome, detail in _GIT_MESSAGES:
        if message in text.replace(url.lower(), ""):
            return Answer(outcome, detail)
    return Answer("failed", "git failed")


def _make_environment(url: str, login: Login | None, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of git: no prompts, and a helper for the one host that takes the login from variables."""
    own = inherit(environment)
    own |= {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "SSH_ASKPASS": "", "LC_ALL": "C", "LANGUAGE": "C"}
    scheme, _, rest = url.partition("://")
    key = f"credential.{scheme}://{rest.partition('/')[0]}.helper"
    count = own.get("GIT_CONFIG_COUNT", "")
    number = int(count) if count.isdecimal() else 0
    helper = _HELPER if login else _USERS_HELPERS.format(number)
    # The empty one resets the list: the user's own would save a password that is taken, and erase one that is not.
    for value in ("", helper):
        own |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        number += 1
    own["GIT_CONFIG_COUNT"] = str(number)
    return own | ({"ASKED_USER": login.username, "ASKED_PASSWORD": login.password} if login else {})
