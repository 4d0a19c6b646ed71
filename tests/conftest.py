"""What the tests share: the real servers, a home of its own for every test, the real command line, and a search."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from broker_sites import BrokerSite
from commandline import Cli
from homes import make_home
from searching import Found, search_tree as _search_tree
from servers import Servers, start_servers
from servers.network import Network, start_network
from servers.nginx import MissingToolError

hypothesis.settings.register_profile("short", deadline=None)
hypothesis.settings.register_profile("long", deadline=None, max_examples=2000)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run loops and properties in their whole length")


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.load_profile("long" if config.getoption("--long") else "short")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by its folder."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if folder in {"commands", "integration", "composers"}:
            item.add_marker(folder)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """A test that hangs fails, and shows where."""

    def give_up(*_: object) -> None:
        pytest.fail(f"the test took more than {limit} seconds")

    limit = 3600 if item.config.getoption("--long") else 300
    previous = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(limit)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


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


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """The hosts that stand for the internet, started once."""
    try:
        with start_network() as started:
            yield started
    except MissingToolError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of a child process, complete, with its home and temporary directory below `tmp_path`."""
    return make_home(tmp_path)


@pytest.fixture
def cli(home: dict[str, str], tmp_path: Path) -> Cli:
    """`cli("list", "my-site")` runs the installed `ic-secrets` in the test's home; `cli.start(…)` only starts it."""
    return Cli(home, tmp_path)


@pytest.fixture(scope="session")
def search_tree() -> Callable[..., list[Found]]:
    """`search_tree(paths, needles)`: every place where a planted value lies, plain or encoded; see `searching`."""
    return _search_tree


@pytest.fixture
def private(home: dict[str, str]) -> Iterator[Path]:
    """Where private directories are made: a place of the test's own, on a tmpfs as at a user's."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="ic-secrets-test-") as directory:
        home["IC_SECRETS_RUN_DIR"] = directory
        yield Path(directory)


@pytest.fixture
def site(cli: Cli, network: Network, tmp_path: Path, private: Path) -> Iterator[BrokerSite]:
    """A site whose builds go through a broker to the network; afterwards no value was where it must not be."""
    network.forget()
    site = BrokerSite(cli, network, tmp_path)
    yield site
    site.assert_values_stayed_at_home()
    assert list(private.iterdir()) == []


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A working directory without a project."""
    path = tmp_path / "work"
    path.mkdir()
    return path
