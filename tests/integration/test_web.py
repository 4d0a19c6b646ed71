"""An application at home: PHP's own server answers with what the platform would give it, until it is ended."""

from __future__ import annotations

import http.client
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from commandline import Cli
from searching import Found

VALUE = "a-canary-of-the-application"
PAGE = """<?php
$secrets = json_decode(file_get_contents(getenv('CUSTOMER_SECRETS_FAKE_FILE')), true)['Secrets'];
error_log('the key is ' . $secrets['STRIPE_KEY']['Value']);
echo strlen($secrets['STRIPE_KEY']['Value']), ' ', count($secrets);
"""


def ask(port: int) -> str:
    """The page, as soon as the server answers."""
    until = time.monotonic() + 30
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read().decode()
        except ConnectionRefusedError:
            assert time.monotonic() < until
        finally:
            connection.close()


def test_a_server_answers_with_its_secret_until_it_is_ended(
    cli: Cli, work: Path, private: Path, tmp_path: Path, search_tree: Callable[..., list[Found]]
) -> None:
    cli("init", check=0)
    cli("set", "my-site", "STRIPE_KEY", "--type", "runtime", "--scope", "web", stdin=VALUE.encode(), check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic,web", stdin=b"a-canary-of-builds", check=0)
    (work / "index.php").write_text(PAGE)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = ("php", "-S", f"127.0.0.1:{port}", "-t", str(work))
    with cli.start("run", "--scope", "web", "my-site.dev", "--", *command, cwd=work) as running:
        assert ask(port) == f"{len(VALUE)} 1"
        running.send_signal(signal.SIGTERM)
        stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGTERM
    assert b"the key is ***" in stdout + stderr
    assert VALUE.encode() not in stdout + stderr
    assert list(private.iterdir()) == []
    assert search_tree([tmp_path, Path("/dev/shm")], [VALUE.encode(), b"a-canary-of-builds"]) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
