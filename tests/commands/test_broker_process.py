"""The broker's process: it ends with its owner however that ends, and nobody can look into it."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from brokers import CANARIES, CANARY, PASSWORD, World
from children import run_unprivileged
from ic_secrets.broker.order import Order
from ic_secrets.broker.process import StartingBroker, ask_report
from ic_secrets.broker.report import Report
from servers.scripted import Connection

NEEDLES = [*CANARIES, CANARY.encode(), PASSWORD.encode()]


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def wait_for_end(pid: int, limit: float = 5.0) -> float:
    """How long it took until the process was gone."""
    start = time.monotonic()
    while is_running(pid):
        assert time.monotonic() < start + limit, "it still runs"
        time.sleep(0.002)
    return time.monotonic() - start


OWNER = """
import sys, time
from ic_secrets.broker.order import Order
from ic_secrets.broker.process import StartingBroker
starting = StartingBroker()
running = starting.take(Order(password="x")) if sys.argv[1] == "running" else None
if running:
    import socket
    socket.create_connection(("127.0.0.1", running.port)).close()
print(starting.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("moment", ["starting", "running"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_when_its_owner_is_killed(moment: str, number: signal.Signals) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, moment], stdout=subprocess.PIPE)
    assert owner.stdout
    with owner:
        pid = int(owner.stdout.readline())
        assert is_running(pid)
        owner.send_signal(number)
        owner.wait()
        wait_for_end(pid)


def test_it_ends_at_once_in_the_middle_of_its_work(world: World) -> None:
    def script(each: Connection) -> None:
        each.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            each.send(bytes(1 << 20))

    server = world.serve(script)
    broker = world.start(server)
    curl = subprocess.Popen(
        ["curl", "-s", "--cacert", str(broker.bundle), "-o", os.devnull, f"https://localhost:{server.port}/"],
        env=broker.environment,
    )
    while not server.heads:
        time.sleep(0.01)
    broker.running.broker.release()
    assert wait_for_end(broker.pid) < 1
    assert curl.wait(30) != 0


def test_signals_of_the_terminal_do_not_end_it(world: World) -> None:
    server = world.serve(lambda each: each.answer(b"x"))
    broker = world.start(server)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        os.kill(broker.pid, number)
    assert os.getsid(broker.pid) == broker.pid
    assert broker.curl(f"https://localhost:{server.port}/").stdout == b"x"


def test_finish_returns_when_it_is_gone(world: World) -> None:
    server = world.serve(lambda each: each.answer(b"x"))
    broker = world.start(server)
    broker.curl(f"https://localhost:{server.port}/")
    report = broker.running.finish()
    assert not is_running(broker.pid)
    assert report.hosts[0].requests == 1
    assert Report.from_json(report.to_json()) == report


def test_a_broker_that_died_is_said_in_the_report(world: World) -> None:
    broker = world.start()
    os.kill(broker.pid, signal.SIGKILL)
    assert broker.running.finish().is_lost


def test_one_without_an_order_is_ended() -> None:
    with StartingBroker() as starting:
        assert is_running(starting.pid)
    assert not is_running(starting.pid)


def test_nobody_can_look_into_it(world: World) -> None:
    """Not another process of the same user, nor anybody by its arguments and environment, nor in a core dump."""
    server = world.serve(lambda each: each.answer(b"x"))
    broker = world.start(server)
    broker.curl(f"https://localhost:{server.port}/")
    process = Path(f"/proc/{broker.pid}")
    assert process.joinpath("comm").read_text() == "ic-secrets-brk\n"
    assert process.joinpath("environ").read_bytes() == b""
    assert not any(needle in process.joinpath("cmdline").read_bytes() for needle in NEEDLES)
    assert resource.prlimit(broker.pid, resource.RLIMIT_CORE) == (0, 0)
    opened = {os.readlink(each) for each in process.joinpath("fd").iterdir()}
    assert {each for each in opened if each.startswith("/")} == {os.devnull}  # not even a file without a name


def test_another_process_of_the_same_user_cannot_read_its_memory() -> None:
    def look() -> None:
        with StartingBroker() as starting:
            running = starting.take(Order(password="x"))
            for name in ("environ", "mem", "maps", "fd/0", "fd/3"):
                with pytest.raises(PermissionError):
                    Path(f"/proc/{running.pid}/{name}").read_bytes()
            child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={"A": "b"})
            time.sleep(0.2)
            assert Path(f"/proc/{child.pid}/environ").read_bytes() == b"A=b\0"  # as a process is otherwise
            child.communicate(b"\n")

    assert run_unprivileged(look) == 0


def test_it_accepts_on_a_socket_that_it_is_given(world: World) -> None:
    server = world.serve(tls=False)
    with socket.create_server(("127.0.0.1", 0)) as listener, StartingBroker() as starting:
        port = listener.getsockname()[1]
        running = starting.take(Order(password=PASSWORD), listener)
        listener.close()
        assert running.port == port
        environment = {"http_proxy": f"http://x:{PASSWORD}@127.0.0.1:{port}", "PATH": os.environ["PATH"]}
        found = subprocess.run(
            ["curl", "-sS", f"http://localhost:{server.port}/"], env=environment, capture_output=True
        )
        assert found.stdout.startswith(b"GET / HTTP/1.1")


def test_one_that_was_handed_on_reports_to_whoever_asks_its_socket(world: World, tmp_path: Path) -> None:
    server = world.serve(tls=False)
    path = tmp_path / "reports"
    with socket.socket(socket.AF_UNIX) as reports, StartingBroker() as starting:
        reports.bind(str(path))
        reports.listen()
        running = starting.take(Order(password=PASSWORD), reports=reports)
        held = os.dup(starting.descriptor)
        starting.release()
    pid = running.pid
    environment = {"http_proxy": f"http://x:{PASSWORD}@127.0.0.1:{running.port}", "PATH": os.environ["PATH"]}
    for number in range(3):
        subprocess.run(["curl", "-sS", f"http://localhost:{server.port}/"], env=environment, check=True)
        assert ask_report(str(path)).hosts[0].requests == number + 1
    assert is_running(pid)
    os.close(held)
    wait_for_end(pid)
    assert ask_report(str(path)).is_lost


def test_a_large_file_does_not_make_it_grow(world: World) -> None:
    """Nor one that is sent, in chunks, packed or not."""
    size, piece = 60, os.urandom(1 << 20)

    def script(each: Connection) -> None:
        if each.method == "POST":
            each.read_body()
        each.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (size << 20))
        for _ in range(size):
            each.send(piece)

    server, other = world.serve(script), world.serve(script)
    broker = world.start(server, writable=frozenset({f"localhost:{server.port}"}))
    for each, bundle in ((server, broker.bundle), (other, world.ca)):
        found = broker.curl(
            "--cacert", str(bundle), "-o", os.devnull, "-w", "%{size_download}", f"https://localhost:{each.port}/"
        )
        assert found.stdout == b"%d" % (size << 20), found.stderr
        assert broker.read_status("VmHWM") < 60_000
    zeros = world.directory / "zeros"
    with zeros.open("wb") as file:
        file.truncate(20 << 20)
    broker.curl("-T", str(zeros), "-X", "POST", "-o", os.devnull, f"https://localhost:{server.port}/", "-H", "Expect:")
    assert broker.read_status("VmHWM") < 60_000
    assert [each.bytes_in >> 20 for each in broker.running.finish().hosts].count(size) >= 1
