"""What the tests share: the real servers, a home of its own for every test, the real command line, and a search."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import hypothesis
import pytest

from homes import make_home
from searching import Found
from searching import search_tree as _search_tree
from servers import Servers, start_servers
from servers.nginx import MissingToolError

hypothesis.settings.register_profile("short", deadline=None)
hypothesis.settings.register_profile("long", deadline=None, max_examples=2000)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run loops and properties in their whole length")


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.load_profile("long" if config.getoption("--long") else "short")


@pytest.fixture(scope="session")
def rounds(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """`rounds(short, whole)`: how often a loop goes round; the whole number with `--long`, as `make test-long` does."""
    long = request.config.getoption("--long")
    return lambda short, whole: whole if long else short


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The private repositories, started once. A missing program fails the test: what was not run was not shown."""
    try:
        with start_servers() as started:
            yield started
    except MissingToolError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of a child process, complete, with its home and temporary directory below `tmp_path`."""
    return make_home(tmp_path)


class Cli(Protocol):
    """Runs the installed `ic-secrets` in the test's home."""

    def __call__(
        self,
        *arguments: str | Path,
        stdin: bytes = b"",
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        timeout: float = 120,
        check: int | None = None,
    ) -> subprocess.CompletedProcess[bytes]: ...


@pytest.fixture
def cli(home: dict[str, str], tmp_path: Path) -> Cli:
    """`cli("set", "my-site", "TOKEN", stdin=b"…")`: the finished process, its output as bytes.

    `env` adds to the environment of `home`; the working directory is `tmp_path` unless `cwd` names another; with
    `check`, another exit status than that fails the test and shows the output.
    """

    def run(
        *arguments: str | Path,
        stdin: bytes = b"",
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        timeout: float = 120,
        check: int | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        command = [str(Path(sys.executable).parent / "ic-secrets"), *map(str, arguments)]
        done = subprocess.run(
            command, input=stdin, capture_output=True, cwd=cwd or tmp_path, env=home | (env or {}), timeout=timeout
        )
        if check is not None and done.returncode != check:
            pytest.fail(_told(arguments, done), pytrace=True)
        return done

    return run


def _told(arguments: tuple[str | Path, ...], done: subprocess.CompletedProcess[bytes]) -> str:
    command = " ".join(map(str, arguments))
    output = (done.stdout + b"\n" + done.stderr).decode(errors="replace")
    return f"ic-secrets {command} ended with {done.returncode}:\n{output}"


@pytest.fixture(scope="session")
def search_tree() -> Callable[..., list[Found]]:
    """`search_tree(paths, needles)`: every place where a planted value lies, plain or encoded; see `searching`."""
    return _search_tree
