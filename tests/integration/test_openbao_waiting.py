"""Waiting for a server: no longer than was said, and no signal waits for it."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from bao_servers import ROOT, Way, running
from commandline import Cli

Serve = Callable[[socket.socket], None]


def say_nothing(line: socket.socket) -> None:
    """It waits for the other side to go."""
    while line.recv(4096):
        pass


def drip(line: socket.socket) -> None:
    """One byte after the other of an answer that never ends, each well within the time of a read."""
    line.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    line.settimeout(0.2)
    while True:
        try:
            if not line.recv(4096):
                return
        except TimeoutError:
            line.sendall(b"a")


def hang_up(line: socket.socket) -> None:
    line.recv(4096)


SERVERS = [say_nothing, drip, hang_up]


class Listener:
    """A server of that kind on a free port; `wait` returns when somebody has asked it something."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.url = f"bao+http://127.0.0.1:{self._sock.getsockname()[1]}/ic"
        self._asked = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def wait(self) -> None:
        assert self._asked.wait(30)

    def close(self) -> None:
        self._sock.close()

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._sock.accept()
            except OSError:
                return
            self._asked.set()
            threading.Thread(target=self._answer, args=(line,), daemon=True).start()

    def _answer(self, line: socket.socket) -> None:
        with closing(line):
            try:
                self._serve(line)
            except OSError:
                return


@pytest.fixture(params=SERVERS, ids=lambda serve: serve.__name__)
def listener(request: pytest.FixtureRequest, cli: Cli) -> Iterator[Listener]:
    with closing(Listener(request.param)) as listener:
        cli.home |= {"IC_SECRETS_STORE": listener.url, "BAO_TOKEN": "any"}
        yield listener


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=["TERM", "INT", "HUP"])
def test_a_signal_ends_a_run_that_waits_for_its_store(listener: Listener, cli: Cli, number: signal.Signals) -> None:
    """At once, with its status, and with nothing started."""
    with cli.start("run", "my-site", "--", "touch", "started") as process:
        listener.wait()
        sent = time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        took = time.monotonic() - sent
    assert (process.returncode, errors) == (128 + number, b"")
    assert took < 5  # of the thirty seconds that it would wait
    assert not (cli.cwd / "started").exists()


@pytest.mark.parametrize("words", [("run", "my-site", "--", "true"), ("list", "my-site"), ("plan", "my-site")])
def test_no_command_waits_longer_than_was_said(listener: Listener, cli: Cli, words: tuple[str, ...]) -> None:
    """However many requests it makes."""
    cli.home["IC_SECRETS_BAO_TIMEOUT"] = "1s"
    started = time.monotonic()
    done = cli(*words)
    assert time.monotonic() - started < 10
    assert done.returncode == (125 if words[0] == "run" else 1)
    assert b"does not answer" in done.stderr
    assert done.stderr.count(b"error: ") == 1


def test_a_signal_ends_a_run_whose_store_falls_silent(cli: Cli) -> None:
    """In the middle of what it reads side by side: no thread that goes on waiting is waited for."""
    asked, over = threading.Semaphore(0), threading.Event()

    def fault(method: str, _: str) -> None:
        if method == "LIST":
            asked.release()
            over.wait(60)

    with running() as server:
        mount = server.mount()
        cli.home |= {"IC_SECRETS_STORE": server.url(mount), "BAO_TOKEN": ROOT}
        cli("site", "set", "my-site", "--org", "agency", check=0)
        with Way(server, fault) as way:
            cli.home["IC_SECRETS_STORE"] = f"bao+{way.address}/{mount}"
            with cli.start("run", "my-site", "--", "touch", "started") as process:
                assert all(asked.acquire(timeout=30) for _ in range(3))  # so many connections are in use
                sent = time.monotonic()
                process.send_signal(signal.SIGTERM)
                _, errors = process.communicate(timeout=60)
                took = time.monotonic() - sent
            over.set()
    assert (process.returncode, errors) == (143, b"")
    assert took < 5
    assert not (cli.cwd / "started").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=["TERM", "INT", "HUP"])
@pytest.mark.parametrize("is_there", [False, True])
def test_a_signal_in_the_middle_of_an_import_leaves_nothing_of_it(
    cli: Cli, number: signal.Signals, is_there: bool
) -> None:
    """What was written is taken back, also after a second signal; then the signal does what it would have done."""
    asked, go_on = threading.Event(), threading.Event()

    def fault(method: str, path: str) -> None:
        if method == "POST" and path.endswith("/KEY_5") and "/data/" in path:
            asked.set()
            go_on.wait(60)

    (cli.cwd / "a.env").write_text("".join(f"KEY_{n}=value-{n}\n" for n in range(9)))
    with running() as server:
        mount = server.mount()
        cli.home |= {"IC_SECRETS_STORE": server.url(mount), "BAO_TOKEN": ROOT}
        if is_there:
            (cli.cwd / "b.env").write_text("KEY_1=before\n")
            cli("import", "my-site", "b.env", "--type", "env", "--scope", "ic", check=0)
        with Way(server, fault) as way:
            cli.home["IC_SECRETS_STORE"] = f"bao+{way.address}/{mount}"
            with cli.start("import", "my-site", "a.env", "--type", "env", "--scope", "ic") as process:
                assert asked.wait(30)
                process.send_signal(number)
                time.sleep(0.1)
                process.send_signal(number)
                go_on.set()
                process.communicate(timeout=60)
        cli.home["IC_SECRETS_STORE"] = server.url(mount)
        done = cli("list", "my-site", "--json")
        assert process.returncode == (130 if number == signal.SIGINT else -number)
        assert done.returncode == (0 if is_there else 1)
        assert done.stdout.count(b"KEY_") == (1 if is_there else 0), done.stdout
        left = server.status("LIST", f"{mount}/metadata/sites/my-site/ic/base", ROOT)
        assert left == (200 if is_there else 404)
