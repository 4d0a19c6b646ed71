"""A repository that is asked with its credential says what became of it, and nobody else ever sees that."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ic_secrets.composer.credential import Credential
from ic_secrets.composer.repositories import Repository
from ic_secrets.core.linux import list_processes_with
from ic_secrets.git.helper import Login
from ic_secrets.plan.facts import Answer
from ic_secrets.plan.online import Question, ask, ask_all
from servers.answers import AnswerServer, start_answers

CANARY = "canary-of-a-token"


@pytest.fixture
def server() -> Iterator[AnswerServer]:
    with start_answers() as started:
        yield started


def question(url: str, kind: str = "composer") -> Question:
    host = url.split("/")[2]
    transport = "http" if kind == "composer" else "git"
    credential = Credential(f"bearer.{host}", "bearer", host, CANARY)
    return Question(Repository(kind, url, host, transport), credential, Login("x", host, "deploy", CANARY))


@pytest.mark.parametrize("kind", ["composer", "git"])
@pytest.mark.parametrize(
    ("path", "outcome"),
    [("401", "expired"), ("403", "refused"), ("404", "not found"), ("500", "failed")],
)
def test_expired_refused_and_missing_are_distinguished(
    server: AnswerServer, kind: str, path: str, outcome: str
) -> None:
    assert ask(question(f"{server.url}/{path}/x", kind), os.environ).outcome == outcome


@pytest.mark.parametrize("path", ["", "/nohead", "/hidehead", "/nohead/packages.json", "/to//nohead"])
def test_what_takes_the_credential_is_ok(server: AnswerServer, path: str) -> None:
    assert ask(question(server.url + path), os.environ) == Answer("ok")
    assert all(f"Bearer {CANARY}" in seen for seen in server.seen)


@pytest.mark.parametrize("kind", ["composer", "git"])
def test_a_redirect_to_another_host_does_not_take_the_credential_along(server: AnswerServer, kind: str) -> None:
    with start_answers() as other:
        outcome = ask(question(f"{server.url}/to/{other.url}/401/x", kind), os.environ).outcome
    assert outcome == ("redirected" if kind == "composer" else "expired")
    assert not [seen for seen in other.seen if CANARY in seen or "uthorization" in seen]


@pytest.mark.parametrize("path", ["/x.zip", "/nohead/x.zip", "/hidehead/x.zip", "/to//x.zip"])
def test_an_archive_is_asked_at_its_own_url(server: AnswerServer, path: str) -> None:
    asked = question(server.url + path)
    repository = asked.repository._replace(kind="download", query="version=1")
    assert ask(asked._replace(repository=repository), os.environ) == Answer("ok")
    assert f"{path}?version=1\n" in server.seen[0]
    assert all(f"Bearer {CANARY}" in seen for seen in server.seen)


def test_an_archive_that_is_somewhere_else_is_ok_and_no_credential_goes_there(server: AnswerServer) -> None:
    with start_answers() as other:
        asked = question(f"{server.url}/to/{other.url}/x.zip")
        assert ask(asked._replace(repository=asked.repository._replace(kind="download")), os.environ) == Answer("ok")
    assert other.seen == []


def test_a_credential_that_is_exchanged_first_is_not_taken_for_a_refused_one(server: AnswerServer) -> None:
    content = {"consumer-key": "key", "consumer-secret": CANARY}
    credential = Credential(f"bitbucket-oauth.{server.host}", "bitbucket-oauth", server.host, content)
    asked = question(f"{server.url}/401/x", "git")._replace(credential=credential, login=None)
    assert ask(asked, os.environ).outcome == "not asked"
    assert server.seen == []


def test_a_repository_is_asked_through_the_proxy_of_the_environment(
    server: AnswerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And directly where no_proxy names its host."""
    with start_answers() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert ask(question("http://repo.example.org/401"), os.environ).outcome == "ok"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert ask(question(f"{server.url}/401"), os.environ).outcome == "expired"
    assert [seen.partition("\n")[0] for seen in proxy.seen] == ["HEAD http://repo.example.org:80/401/packages.json"]


def test_redirects_have_an_end(server: AnswerServer) -> None:
    server.lead = "/lead/again.json"
    assert ask(question(f"{server.url}/lead/x"), os.environ) == Answer("failed", "status 302")


@pytest.mark.parametrize("kind", ["composer", "git"])
def test_what_cannot_be_reached_is_unreachable(kind: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/x"
        answer = ask(question(url, kind), os.environ)
    assert answer == Answer("unreachable", "it refuses connections")
    assert ask(question("http://no-such-host.invalid/x", kind), os.environ).outcome == "unreachable"


@pytest.mark.parametrize("kind", ["composer", "git"])
def test_what_speaks_no_tls_is_unreachable(server: AnswerServer, kind: str) -> None:
    answer = ask(question(f"https://{server.host}/x", kind), os.environ)
    assert answer.outcome == "unreachable"
    assert "TLS" in answer.detail


@pytest.mark.parametrize("kind", ["composer", "git"])
def test_one_that_does_not_answer_is_given_up(server: AnswerServer, kind: str) -> None:
    answer = ask(question(f"{server.url}/hang", kind), os.environ, timeout=0.5)
    assert answer == Answer("unreachable", "no answer within 0.5 seconds")


def test_all_are_asked_at_once(server: AnswerServer) -> None:
    questions = [question(f"{server.url}/hang/{number}") for number in range(12)]
    progress: list[int] = []
    start = time.monotonic()
    answers = ask_all(questions, os.environ, progress=progress.append, timeout=1)
    assert time.monotonic() - start < 4
    assert {answer.outcome for answer in answers.values()} == {"unreachable"}
    assert progress == list(range(1, 13))


@pytest.mark.parametrize(
    "content", [None, {"token": 1}, "a\r\nb", "snowman \u2603"], ids=["null", "map", "line", "wide"]
)
def test_a_credential_that_is_none_raises_nothing_and_is_not_shown(server: AnswerServer, content: Any) -> None:
    asked = question(server.url)
    asked = asked._replace(credential=Credential("n", "bearer", server.host, content))
    assert repr(content) not in repr(ask(asked, os.environ))


# --- the user's own helpers, and our end ----------------------------------------------------------------


def test_the_users_helpers_are_asked_and_never_learn_the_outcome(server: AnswerServer, tmp_path: Path) -> None:
    """A password that a repository refuses stays saved, and no other is asked for."""
    saved = tmp_path / "credentials"
    saved.write_text(server.url.replace("://", f"://deploy:{CANARY}@") + "\n")
    (tmp_path / ".gitconfig").write_text(f"[credential]\n\thelper = store --file={saved}\n")
    before = saved.read_bytes()
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    asked = question(f"{server.url}/401/x", "git")._replace(login=None, credential=None)
    assert ask(asked, environment).outcome == "expired"
    assert len(server.seen) == 2  # once more with the password that was found, which is refused
    assert saved.read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["TERM", "KILL"])
def test_git_ends_with_who_asked(number: signal.Signals) -> None:
    """It has the password in its environment, and waits for a server that says nothing."""
    marker = f"asked-by-{os.getpid()}-{number}"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        program = (
            "import os, threading\n"
            "from ic_secrets.composer.repositories import Repository\n"
            "from ic_secrets.git.helper import Login\n"
            "from ic_secrets.plan.online import Question, ask_all\n"
            f"repository = Repository('git', 'http://{host}/x', '{host}', 'git')\n"
            f"question = Question(repository, None, Login('x', '{host}', 'deploy', '{marker}'))\n"
            "ask_all([question], os.environ, timeout=60)\n"
        )
        with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL) as process:
            connection, _ = silent.accept()
            with connection:
                assert list_processes_with(marker.encode())
                process.send_signal(number)
                process.wait(20)
                end = time.monotonic() + 20
                while list_processes_with(marker.encode()):
                    assert time.monotonic() < end, "git goes on"
                    time.sleep(0.02)
