"""What the tests on real servers share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commandline import PROGRAM
from homes import make_home
from places import Job
from searching import Found
from servers import Servers


@pytest.fixture
def job(cli: Any, servers: Servers, tmp_path: Path, private: Path) -> Job:
    """A checkout whose sealed file holds what its build needs, on a machine that has never seen the store."""
    checkout = servers.project(tmp_path, "basic-only")
    cli("init", "--store", "pipeline.db", "--key-file", "pipeline.key", check=0)
    cli("init", check=0)
    words = ("set", "my-site", servers.basic.secret_name, "--type", "composer", "--scope", "ic")
    cli(*words, stdin=servers.basic.secret_value, check=0)
    export = ("export", "my-site", "--format", "sealed", "--seal-key-file", "pipeline.key")
    cli(*export, "-o", checkout / "secrets.sealed", check=0)
    key = (tmp_path / "pipeline.key").read_text().strip()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = make_home(tmp_path / "job") | {"CI": "true", "IC_SECRETS_RUN_DIR": str(private)}
    environment["PATH"] = f"{PROGRAM.parent}:{environment['PATH']}"
    return Job(checkout, scratch, key, environment)


@pytest.fixture
def assert_nothing_left(
    tmp_path: Path, private: Path, servers: Servers, search_tree: Callable[..., list[Found]]
) -> Callable[[], None]:
    """No private directory, and no value of a secret in any file."""

    def check() -> None:
        assert list(private.iterdir()) == []
        assert search_tree([tmp_path, Path("/dev/shm")], servers.basic.needles) == []

    return check


@pytest.fixture(params=["bubblewrap", "landlock"])
def isolated(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The options of a build that is isolated in either way."""
    return (f"--isolate={request.param}", "--leaks", "off")
