"""Whole builds with a broker: in one step, in two, from Python; whatever ends them, it ends too."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from commandline import PROGRAM, Cli
from ic_secrets import open_build
from searching import search_tree
from servers.answers import AnswerServer, start_answers

DOCS = Path(__file__).parents[2] / "docs"
PASSWORD = "a-canary-password-of-a-repository"
KEY = "a-canary-licence-key-0123"
# Says what the build was given, asks the server, and leaves what it can read for the test to search.
LOOK = """
env >"$OUT/environment"; cp -r "$COMPOSER_HOME/.." "$OUT/private" 2>"$OUT/errors"; echo "$https_proxy"
curl -sS -o "$OUT/answer" -w '%{http_code}\\n' "$URL/packages.json?key=$KEY"
"""


@pytest.fixture
def server() -> Iterator[AnswerServer]:
    with start_answers() as started:
        yield started


@pytest.fixture
def site(cli: Cli, server: AnswerServer, work: Path) -> Cli:
    """A site with a credential for the server, and a key that is bound to it; the build writes to OUT."""
    cli.cwd = work
    cli("init", check=0)
    name = f"http-basic.{server.host}"
    cli("set", "my-site", name, "--type", "composer", "--scope", "ic", stdin=f"deploy {PASSWORD}".encode(), check=0)
    cli("set", "my-site", "KEY", "--type", "env", "--scope", "ic", "--hosts", server.host, stdin=KEY.encode(), check=0)
    (work.parent / "out").mkdir()
    cli.home |= {"URL": server.url, "OUT": str(work.parent / "out")}
    return cli


def find_values(*paths: Path) -> list[str]:
    """Return which of the two values are below the paths, in any encoding."""
    return sorted(value for value in (PASSWORD, KEY) if search_tree(paths, [value.encode()]))


def find_port(proxy: str) -> int:
    return int(proxy.strip().rstrip("/").rpartition(":")[2])


def is_listening(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def wait_until_gone(port: int, limit: float = 5.0) -> None:
    end = time.monotonic() + limit
    while is_listening(port):
        assert time.monotonic() < end, "the broker still accepts connections"
        time.sleep(0.01)


def check_receipt(receipt: dict[str, Any], server: AnswerServer, requests: int) -> None:
    jsonschema.validate(receipt, json.loads((DOCS / "receipt.schema.json").read_text()))
    (traffic,) = receipt["broker"]["hosts"]
    assert (traffic["host"], traffic["requests"], traffic["refused"]) == (server.host, requests, 0)
    assert set(traffic["secrets"]) == {"KEY", f"http-basic.{server.host}"}
    where = {secret["name"]: secret["destination"] for secret in receipt["secrets"]}
    assert where["KEY"] == {"broker": True, "variable": "KEY", "hosts": [server.host]}
    assert where[f"http-basic.{server.host}"] == {"broker": True, "method": "http-basic", "host": server.host}


def test_a_build_uses_its_credentials_and_holds_none(site: Cli, server: AnswerServer, work: Path) -> None:
    out = Path(site.home["OUT"])
    done = site("run", "--broker", "--receipt", "r.json", "my-site", "--", "sh", "-c", LOOK, check=0)
    assert done.stdout.splitlines()[-1] == b"200"
    (asked,) = server.seen
    assert f"/packages.json?key={KEY}" in asked
    assert "Authorization: Basic" in asked or "authorization: Basic" in asked
    assert find_values(out) == []
    assert "KEY=ics_" in (out / "environment").read_text()
    check_receipt(json.loads((work / "r.json").read_text()), server, 1)
    line = f"note: the build used 2 secrets without holding any of them: 1 request to {server.host}\n"
    assert line.encode() in done.stderr
    assert b"ics:***@127.0.0.1" in done.stdout  # what else could be tried with the password is masked, too

    # The same build without it: so the search does see what there is.
    shutil.rmtree(out)
    out.mkdir()
    site("run", "--leaks", "off", "my-site", "--", "sh", "-c", LOOK, check=0)
    assert find_values(out) == sorted([KEY, PASSWORD])


def test_a_broker_that_is_killed_under_a_build_is_named_and_nothing_is_claimed(site: Cli, work: Path) -> None:
    kill = 'pkill -KILL -P "$PPID" -f "broker[.]service"; curl -sS "$URL"'
    done = site("run", "--broker", "--receipt", "r.json", "my-site", "--", "sh", "-c", kill)
    assert done.returncode in {7, 56}
    (line,) = [each for each in done.stderr.splitlines() if b"broker" in each]
    assert line.startswith(b"warning: the broker ended before the build: what it did is not known")
    receipt = json.loads((work / "r.json").read_text())
    jsonschema.validate(receipt, json.loads((DOCS / "receipt.schema.json").read_text()))
    assert receipt["broker"]["lost"]


def test_what_cannot_be_reached_is_named_though_no_program_says_why(site: Cli, work: Path) -> None:
    site("set", "my-site", "bearer.127.0.0.1:1", "--type", "composer", "--scope", "ic", stdin=b"a-token-1", check=0)
    script = 'for port in 1 2 2; do curl -s "https://127.0.0.1:$port/"; done; exit 0'
    done = site("run", "--broker", "--receipt", "r.json", "my-site", "--", "sh", "-c", script, check=0)
    words = [f"127.0.0.1:{port} could not be reached: connection refused" for port in (1, 2)]
    assert done.stderr.decode().splitlines()[:2] == [f"warning: {each}" for each in words]
    assert json.loads((work / "r.json").read_text())["broker"]["notices"] == words


def test_a_build_that_is_refused_everywhere_does_not_flood_the_log(site: Cli) -> None:
    script = "for port in $(seq 1 30); do curl -s https://127.0.0.1:$port/; done; exit 0"
    done = site("run", "--broker", "my-site", "--", "sh", "-c", script, check=0)
    lines = done.stderr.decode().splitlines()
    assert len([each for each in lines if "connection refused" in each]) == 20
    assert "warning: the broker has 10 more such warnings" in lines


def test_a_build_that_asked_for_nothing_reads_as_one(site: Cli) -> None:
    done = site("run", "--broker", "my-site", "--", "true", check=0)
    assert done.stderr == b"note: the build used no secret through the broker\n"


def test_a_placeholder_stays_the_same_from_build_to_build(site: Cli) -> None:
    shown = [site("run", "--broker", "my-site", "--", "sh", "-c", 'echo "$KEY"', check=0).stdout for _ in range(2)]
    assert shown[0] == shown[1]
    site("set", "my-site", "KEY", stdin=b"another-value-of-the-key", check=0)
    assert site("run", "--broker", "my-site", "--", "sh", "-c", 'echo "$KEY"', check=0).stdout == shown[0]


def test_the_broker_says_what_it_refused_and_where_a_placeholder_went(site: Cli, work: Path) -> None:
    with start_answers() as other:
        script = f'curl -sS -X DELETE "$URL/x"; curl -sS "{other.url}/?k=$KEY"'
        done = site("run", "--broker", "my-site", "--", "sh", "-c", script, check=0)
        assert KEY not in "".join(other.seen)
    assert b"the broker refused 1 request" in done.stderr
    assert f"the placeholder of KEY was sent to {other.host}".encode() in done.stderr
    host = site.home["URL"].partition("//")[2]
    done = site("run", "--broker", "--allow-write", host, "my-site", "--", "sh", "-c", script, check=0)
    assert b"the broker refused" not in done.stderr


def test_what_a_server_hands_out_is_masked_where_it_is_printed(site: Cli) -> None:
    """Composer's -vvv prints where codeload.github.com is asked, and with which token."""
    script = 'curl -sS -i "$URL/to/https://files.example.org/x.zip?expires=1&token=%s"'
    token = "AN7CanaryHandedOut0123456789"
    done = site("run", "--broker", "my-site", "--", "sh", "-c", f'out=$({script % token}); echo "$out"', check=0)
    assert b"https://files.example.org/x.zip?expires=1&token=***" in done.stdout
    assert token.encode() not in done.stdout
    plain = site("run", "my-site", "--", "sh", "-c", script % token, check=0)
    assert token.encode() in plain.stdout  # without a credential of ours, it is nothing that was handed out


STEPS = """
eval "$("$PROGRAM" pre-build --broker my-site --receipt r.json)" || exit 1
{look}
eval "$("$PROGRAM" post-build --format sh)"; echo "status $?"; echo "left ${{COMPOSER_CAFILE:-nothing}}"
"""


def test_in_two_steps_the_guard_keeps_it(site: Cli, server: AnswerServer, work: Path) -> None:
    script = STEPS.format(look=LOOK)
    environment = site.home | {"PROGRAM": str(PROGRAM)}
    done = subprocess.run(["sh", "-c", script], cwd=work, env=environment, capture_output=True, text=True, timeout=120)
    proxy, status, end, left = done.stdout.splitlines()[-4:]
    assert (status, end, left) == ("200", "status 0", "left nothing"), done.stderr
    assert find_values(Path(site.home["OUT"])) == []  # the whole private directory is in it
    check_receipt(json.loads((work / "r.json").read_text()), server, 1)
    assert not is_listening(find_port(proxy))


def test_the_guard_ends_it_when_its_time_is_up(site: Cli, work: Path) -> None:
    printed = site("pre-build", "--broker", "--ttl", "1s", "--format", "json", "my-site", check=0).stdout
    port = find_port(json.loads(printed)["set"]["https_proxy"])
    wait_until_gone(port, 20)
    site("post-build", check=121)


@pytest.fixture
def here(site: Cli, work: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The same site, which the environment of this very process names."""
    for name in [name for name in os.environ if name.startswith(("IC_SECRETS_", "XDG_"))]:
        monkeypatch.delenv(name)
    for name, value in site.home.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.chdir(work)
    return site


def test_from_python_too(here: Cli, server: AnswerServer) -> None:
    with open_build("my-site", broker=True, writable=[server.host]) as build:
        assert not {KEY, PASSWORD} & set(build.env.values())
        proxy = build.env["https_proxy"]
        assert "***" in build.mask(f"it goes by {proxy}")
        done = subprocess.run(["sh", "-c", LOOK], env=build.env, capture_output=True, text=True)
        build.status = done.returncode
    assert done.stdout.splitlines()[-1] == "200"
    assert build.receipt is not None
    check_receipt(build.receipt, server, 1)
    assert not is_listening(find_port(proxy))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_ends_with_the_build_whatever_ends_that(site: Cli, private: Path, number: signal.Signals) -> None:
    with site.start("run", "--broker", "my-site", "--", "sh", "-c", 'echo "$https_proxy" >"$OUT/p.new"; '
                    'mv "$OUT/p.new" "$OUT/proxy"; exec sleep 600') as started:  # fmt: skip
        place = Path(site.home["OUT"], "proxy")
        end = time.monotonic() + 60
        while not place.exists() and time.monotonic() < end:
            time.sleep(0.01)
        port = find_port(place.read_text())
        assert is_listening(port)
        started.send_signal(number)
        started.communicate(timeout=60)
        wait_until_gone(port)
    end = time.monotonic() + 5
    while list(private.iterdir()) and time.monotonic() < end:
        time.sleep(0.01)
    assert list(private.iterdir()) == []


def test_killed_at_any_moment_it_leaves_neither_broker_nor_file(
    site: Cli, private: Path, rounds: Any, server: AnswerServer
) -> None:
    """From the first file of the private directory on, and before: at moments that go through the whole start."""
    site.home |= {"PYTHONPATH": str(private)}
    number = rounds(10, 300)
    with site.start("run", "--broker", "my-site", "--", "sh", "-c", 'touch "$OUT/begun"; sleep 600') as started:
        while not Path(site.home["OUT"], "begun").exists():
            time.sleep(0.01)
        assert len(find_brokers(site)) == 1  # so one that was left would be seen
        started.kill()
        started.communicate(timeout=60)
    for turn in range(number):
        with site.start("run", "--broker", "my-site", "--", "sh", "-c", 'curl -sS "$URL/x"; exec sleep 600') as started:
            time.sleep(0.8 * turn / number)  # the moment is what is tried
            started.kill()
            started.communicate(timeout=60)
        end = time.monotonic() + 10
        while (list(private.iterdir()) or find_brokers(site)) and time.monotonic() < end:
            time.sleep(0.02)
        assert (list(private.iterdir()), find_brokers(site)) == ([], [])


def find_brokers(site: Cli) -> list[str]:
    """The broker processes of this test's ic-secrets, those that only start as well: by what their arguments hold."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            arguments = path.read_text()
            if "ic_secrets.broker.service" in arguments and site.home["PYTHONPATH"] in arguments:
                found.append(path.parent.name)
    return found


def test_a_run_dir_whose_path_is_too_long_for_a_socket_is_named(site: Cli, tmp_path: Path) -> None:
    place = tmp_path / ("x" * 120)
    place.mkdir()
    done = site("pre-build", "--broker", "--run-dir", str(place), "--format", "json", "my-site", check=125)
    assert b"the broker cannot report" in done.stderr
    assert b"shorter --run-dir" in done.stderr
    assert list(place.iterdir()) == []
