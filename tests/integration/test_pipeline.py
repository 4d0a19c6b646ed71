"""ic-secrets as a plugin of a pipeline in Python, and a plugin of ic-secrets, installed and run as users would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from searching import Found
from servers import Server, Servers

ROOT = Path(__file__).parent.parent.parent
PIPELINE = ROOT / "hooks/example-pipeline/pipeline.py"
INSTALL = ("composer", "install", "--no-interaction", "--no-progress", "--no-ansi")
WAYS = pytest.mark.parametrize("way", ["hooks", "wrap"])
Search = Callable[..., list[Found]]


@pytest.fixture
def store(cli: Any, servers: Servers, private: Path) -> None:
    """A store whose site `my-site` has a credential for each private server."""
    cli("init", check=0)
    for server in (servers.basic, servers.bearer, servers.git):
        give(cli, server)


def give(cli: Any, server: Server) -> None:
    words = ("set", "my-site", server.secret_name, "--type", "composer", "--scope", "ic")
    cli(*words, stdin=server.secret_value, check=0)


def run_pipeline(cli: Any, way: str, project: Path, *command: str) -> subprocess.CompletedProcess[bytes]:
    words = [sys.executable, str(PIPELINE), way, "my-site.dev", str(project), "--", *command]
    return subprocess.run(words, env=cli.home, cwd=project.parent, capture_output=True, timeout=120)


def assert_nothing_left(tmp_path: Path, private: Path, servers: Servers, search_tree: Search) -> None:
    assert list(private.iterdir()) == []
    assert search_tree([tmp_path, Path("/dev/shm")], servers.needles) == []


@WAYS
def test_a_build_of_a_pipeline_gets_its_secrets_and_leaves_none(
    cli: Any, store: None, servers: Servers, tmp_path: Path, private: Path, search_tree: Search, way: str
) -> None:
    project = servers.project(tmp_path, "everything")
    done = run_pipeline(cli, way, project, *INSTALL)
    assert done.returncode == 0, done.stderr.decode()
    installed = {p["name"] for p in json.loads((project / "vendor/composer/installed.json").read_text())["packages"]}
    assert installed >= {"acme/checkout", "globex/reports", "initech/vault"}
    assert way == "wrap" or b"built with 3 secrets, 0 left behind" in done.stdout
    assert_nothing_left(tmp_path, private, servers, search_tree)


@WAYS
def test_a_build_of_a_pipeline_that_fails_keeps_its_status(
    cli: Any, store: None, servers: Servers, tmp_path: Path, private: Path, search_tree: Search, way: str
) -> None:
    project = servers.project(tmp_path, "everything")
    cli("delete", "my-site", servers.bearer.secret_name, check=0)
    done = run_pipeline(cli, way, project, *INSTALL)
    assert done.returncode in {100, 255}, done.stderr.decode()
    assert_nothing_left(tmp_path, private, servers, search_tree)


@WAYS
def test_a_pipeline_that_is_killed_leaves_nothing(
    cli: Any, store: None, servers: Servers, tmp_path: Path, private: Path, search_tree: Search, way: str
) -> None:
    project = servers.project(tmp_path, "everything")
    words = [sys.executable, str(PIPELINE), way, "my-site.dev", str(project), "--", *INSTALL]
    with (
        servers.git.hanging("initech/vault", after_challenge=True) as hang,
        subprocess.Popen(
            words, env=cli.home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        ) as process,
    ):
        hang.wait_for_request()
        assert list(private.iterdir()) != []
        os.killpg(process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while list(private.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert list(private.iterdir()) == []
    # What composer had stored by then is its cache: no credential is in it.
    assert_nothing_left(tmp_path, private, servers, search_tree)


@WAYS
def test_a_leak_fails_a_build_that_succeeded(
    cli: Any, store: None, servers: Servers, tmp_path: Path, private: Path, way: str
) -> None:
    project = servers.project(tmp_path, "public-only")
    done = run_pipeline(cli, way, project, "sh", "-c", 'cp "$COMPOSER_HOME/auth.json" kept.json')
    assert done.returncode == 1
    assert b"error: the build left secrets behind in " in done.stderr
    assert list(private.iterdir()) == []


@WAYS
def test_a_build_that_cannot_be_started_is_not(cli: Any, store: None, tmp_path: Path, work: Path, way: str) -> None:
    words = [sys.executable, str(PIPELINE), way, "my-sitt", str(work), "--", "touch", "ran"]
    done = subprocess.run(words, env=cli.home, capture_output=True)
    assert (done.returncode, done.stderr) == (1, b"error: the store has no site my-sitt\n")
    assert not (work / "ran").exists()


def test_the_example_plugin_works_when_it_is_installed_and_named(
    cli: Any, private: Path, tmp_path: Path, work: Path, search_tree: Search
) -> None:
    fresh = tmp_path / "fresh"
    subprocess.run([sys.executable, "-m", "venv", str(fresh)], check=True)
    install = [str(fresh / "bin/pip"), "install", "--quiet", str(ROOT), str(ROOT / "hooks/example-plugin")]
    done = subprocess.run(install, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    program = str(fresh / "bin/ic-secrets")

    def run(*words: str, stdin: bytes = b"", plugins: str = "npmrc") -> subprocess.CompletedProcess[bytes]:
        environment = cli.home | {"IC_SECRETS_PLUGINS": plugins}
        return subprocess.run([program, *words], input=stdin, env=environment, cwd=work, capture_output=True)

    assert run("init").returncode == 0
    token, password = b"a-canary-of-a-token", b"a-canary-of-a-password"
    for name, value in (("bearer.npm.example.org", token), ("http-basic.repo.example.org", b"deploy " + password)):
        assert run("set", "my-site", name, "--type", "composer", "--scope", "ic", stdin=value).returncode == 0
    (Path(cli.home["HOME"]) / ".npmrc").write_text("fund=false\n")

    done = run("run", "my-site", "--", "sh", "-c", 'cat "$NPM_CONFIG_USERCONFIG" "$NETRC"')
    assert done.stdout.decode().splitlines() == [
        "fund=false",
        "//npm.example.org/:_authToken=***",
        "machine repo.example.org login deploy password ***",
    ]
    listed = json.loads(run("plugins", "--json").stdout)["plugins"]
    assert [(one["name"], one["active"], one["distribution"], one["version"]) for one in listed] == [
        ("npmrc", True, "ic-secrets-npmrc", "1.0.0")
    ]
    assert run("run", "my-site", "--", "printenv", "NETRC", plugins="").returncode == 1
    assert list(private.iterdir()) == []
    assert search_tree([work, Path(cli.home["HOME"]), Path("/dev/shm")], [token, password]) == []
