"""What code in a build, another user or a server might try with a broker that runs; each with what it would bite."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import re
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from brokers import CANARIES, World
from children import run_unprivileged
from commandline import Cli
from ic_secrets.broker.order import Bound
from ic_secrets.broker.placeholders import make_placeholder
from ic_secrets.broker.process import ask_report, receive_message, send_message
from ic_secrets.broker.report import Report, Traffic
from ic_secrets.two_steps.guard import StartingGuard
from servers.certificates import Authority
from servers.scripted import Connection, Scripted

# --- other users of the machine, who do not know the password

COSTLY = {
    "a line of spaces": b"GET / HTTP/1.1\r\nHost: x\r\nX" + b" " * 60_000 + b"\r\n",
    "empty lines": b"\r\n" * 130_000,
}


@pytest.mark.parametrize("name", COSTLY)
def test_no_stranger_keeps_the_broker_busy(world: World, name: str) -> None:
    server = world.serve(lambda each: each.answer(b"x"))
    broker = world.start(server)
    assert broker.curl(f"https://localhost:{server.port}/").stdout == b"x"
    with broker.connect() as stranger:
        stranger.sendall(COSTLY[name])
        time.sleep(0.1)
        start = time.monotonic()
        assert broker.curl(f"https://localhost:{server.port}/").stdout == b"x"
        assert time.monotonic() - start < 2
        stranger.sendall(b"\r\n\r\n")
        assert re.match(rb"HTTP/1.1 4(00|31) ", stranger.recv(65536)), "the broker has read it"


def test_strangers_that_only_connect_leave_room_for_the_build(world: World) -> None:
    """Whoever knows the password stays, also between two requests."""
    server = world.serve(lambda each: each.answer(b"x"))
    broker = world.start(server)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    try:
        with contextlib.ExitStack() as opened, broker.tunnel(f"localhost:{server.port}") as known:
            strangers = [opened.enter_context(broker.connect()) for _ in range(2100)]
            assert broker.curl(f"https://localhost:{server.port}/").stdout == b"x"
            known.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{server.port}\r\n\r\n".encode())
            assert known.recv(100).startswith(b"HTTP/1.1 200")
            strangers[0].settimeout(5)
            with pytest.raises(ConnectionResetError):
                strangers[0].recv(1)
            strangers[-1].sendall(b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert strangers[-1].recv(100).startswith(b"HTTP/1.1 407")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


# --- code in the build

KEY = "canary-key/4711"
HOLDER = make_placeholder("store", "site:a", "KEY")
REFLECTED = {
    "in the query": ("-G", "--data-urlencode", f"k={HOLDER}"),
    "packed": ("--compressed", "-H", f"X-Key: {HOLDER}"),
    "in a part": ("-r", "0-8", "-H", f"X-Key: {HOLDER}"),
    "in a pair": ("-u", f"user:{HOLDER}"),
    "in a form": ("--data-urlencode", f"k={HOLDER}"),
    "from HTTP/1.0": ("--http1.0", "-H", f"X-Key: {HOLDER}"),
}


def reflect(each: Connection) -> None:
    """Answer with the request, packed or in part as it is asked to."""
    body = each.head + each.read_body()
    lines, status = ["Content-Type: text/html"], "404 Not Found"
    if b"gzip" in each.head.lower():
        body, lines = gzip.compress(body), [*lines, "Content-Encoding: gzip"]
    if b"range:" in each.head.lower():
        body, status = body[body.index(b"canary") :][:9], "206 Partial Content"
    each.answer(body, status, *lines, "X-Seen: " + each.path)


@pytest.mark.parametrize("name", REFLECTED)
def test_a_server_that_repeats_a_request_does_not_show_the_value(world: World, name: str) -> None:
    """As many do in the body of an error, or of a redirect, and in headers."""
    server = world.serve(reflect)
    bound = Bound("KEY", HOLDER, KEY, (f"localhost:{server.port}",))
    broker = world.start(bound=(bound,))
    arguments = ("-i", *REFLECTED[name], f"https://localhost:{server.port}/a")
    shown = broker.curl(*arguments).stdout
    forms = [
        KEY.encode(),
        quote(KEY, safe="").encode(),
        b"canary-key%2f4711",
        b"canary-ke",
        base64.b64encode(f"user:{KEY}".encode())[8:-4],
    ]
    assert any(form in head for form in forms for head in server.heads) or name == "in a form"
    assert not any(form in shown for form in forms)
    assert HOLDER.encode() in shown or name == "in a pair"
    direct = [each.replace(HOLDER, KEY) for each in arguments]
    found = subprocess.run(["curl", "-q", "-sS", "--cacert", str(world.ca), *direct], capture_output=True).stdout
    assert any(form in found for form in forms), "without the broker it is there"


def test_what_a_server_repeats_in_a_large_answer_is_hidden_too(world: World) -> None:
    """In chunks, and to the last byte; a file is passed on as it is."""
    text = b"x" * 40_000 + KEY.encode()

    def answer(each: Connection) -> None:
        kind = "application/zip" if each.path.startswith("/zip") else "application/json"
        each.answer(text, "200 OK", f"Content-Type: {kind}")

    server = world.serve(answer)
    broker = world.start(bound=(Bound("KEY", HOLDER, KEY, (f"localhost:{server.port}",)),))
    url = f"https://localhost:{server.port}"
    assert broker.curl(f"{url}/a?k={HOLDER}").stdout == text.replace(KEY.encode(), HOLDER.encode())
    assert broker.curl(f"{url}/zip?k={HOLDER}").stdout == text
    assert broker.curl(f"{url}/a").stdout == text, "where it was not asked with, it is not looked for"


TRUSTING = 'cat "$EVIL" >>"$SSL_FILE"; curl -sS -o "$OUT/answer" -w "%{http_code}" "$URL"'


@pytest.fixture
def impostor(world: World) -> Scripted:
    """A server in the place of a secret's, with a certificate of an authority that nobody was told of."""
    evil = Authority("evil")
    (world.directory / "evil.pem").write_bytes(evil.certificate)
    return world.serve(context=world.make_context(authority=evil))


@pytest.mark.parametrize("is_told", [False, True])
def test_an_authority_that_the_build_adds_is_not_trusted(
    cli: Cli, world: World, impostor: Scripted, work: Path, is_told: bool
) -> None:
    """Root that turns a name to itself by /etc/hosts would else be sent the credential; without root, a proxy might."""
    cli.cwd = work
    cli("init", check=0)
    name = f"http-basic.localhost:{impostor.port}"
    cli("set", "my-site", name, "--type", "composer", "--scope", "ic", stdin=b"user canary+/4711", check=0)
    own = world.directory / "own.pem"
    own.write_bytes(world.authority.certificate)
    if is_told:  # by the person, before
        own.write_bytes((world.directory / "evil.pem").read_bytes())
    told = {"EVIL": str(world.directory / "evil.pem"), "SSL_FILE": str(own), "SSL_CERT_FILE": str(own)}
    cli.home |= told | {"OUT": str(world.directory), "URL": f"https://localhost:{impostor.port}/"}
    done = cli("run", "--broker", "my-site", "--", "sh", "-c", TRUSTING)
    assert done.stdout == (b"200" if is_told else b"502"), done.stderr
    assert any(canary in head for head in impostor.heads for canary in CANARIES) is is_told


def make_report(answer: Callable[[socket.socket], object], place: Path) -> Report:
    """What is understood of a socket that answers so, in the place of the broker's."""
    with socket.socket(socket.AF_UNIX) as forged:
        forged.bind(str(place))
        forged.listen()

        def serve() -> None:
            asked, _ = forged.accept()
            with asked, contextlib.suppress(OSError):
                receive_message(asked)
                answer(asked)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        report = ask_report(str(place))
        thread.join(30)
        return report


HOST = ["repo.example.org", ["name"], 1, 2, 3, 4, 5]
FORGED: dict[str, Any] = {
    "another message": {"x": 1},
    "no object": 7,
    "no text": {"report": 7},
    "deep": {"report": "[" * 99_999},
    "a text for a number": {
        "report": json.dumps({"hosts": [[*HOST[:-1], "5"]], "attempts": [], "notices": [], "is_lost": False})
    },
    "a number for a name": {
        "report": json.dumps({"hosts": [[1, *HOST[1:]]], "attempts": [], "notices": [], "is_lost": False})
    },
    "a list for a notice": {
        "report": json.dumps({"hosts": [], "attempts": [], "notices": [[[], ""]], "is_lost": False})
    },
    "no count": {"report": json.dumps({"hosts": [], "attempts": [["a", "b", None]], "notices": [], "is_lost": False})},
}


@pytest.mark.parametrize("name", FORGED)
def test_a_report_that_a_build_has_forged_does_not_stop_the_scrub(tmp_path: Path, name: str) -> None:
    """It is asked for before the secrets are removed, by a socket that a build of the same user can replace."""
    report = make_report(lambda asked: send_message(asked, FORGED[name]), tmp_path / "reports")
    assert report == Report(is_lost=True)
    true = Report((Traffic("repo.example.org", ("name",), 1, 2, 3, 4, 5),), (), (("x", "y"),))
    sent = {"report": true.to_json()}
    assert make_report(lambda asked: send_message(asked, sent), tmp_path / "true") == true


def test_a_report_that_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    def send(asked: socket.socket) -> None:
        asked.sendall(struct.pack(">I", 1 << 20))
        for _ in range(300):
            asked.sendall(b" ")
            time.sleep(0.2)

    start = time.monotonic()
    assert make_report(send, tmp_path / "reports").is_lost
    assert time.monotonic() - start < 59


def test_nobody_takes_the_guards_descriptors() -> None:
    """One of them keeps the broker alive, for whoever has it."""

    def look() -> None:
        with StartingGuard() as starting:
            guard = starting.find_id().pid
            with pytest.raises(PermissionError):
                os.listdir(f"/proc/{guard}/fd")
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
            time.sleep(0.2)
            assert os.listdir(f"/proc/{child.pid}/fd"), "as it is with another process"
            child.communicate(b"\n")

    assert run_unprivileged(look) == 0


PROGRAM = """
import os, subprocess, sys
from ic_secrets.build.request import BuildRequest
from ic_secrets.build.run import start_broker
from ic_secrets.model.secret import Target
request = BuildRequest(Target.parse("my-site"), (), "/", {}, broker=sys.argv[1] == "broker")
with start_broker(request):
    sys.exit(subprocess.run(["cat", f"/proc/{os.getpid()}/environ"], capture_output=True).returncode)
"""


@pytest.mark.parametrize(("kind", "status"), [("broker", 1), ("none", 0)])
def test_a_python_program_whose_build_has_a_broker_cannot_be_looked_into(kind: str, status: int) -> None:
    """It holds what the build is not to have."""

    def look() -> None:
        assert subprocess.run([sys.executable, "-c", PROGRAM, kind]).returncode == status

    assert run_unprivileged(look) == 0
