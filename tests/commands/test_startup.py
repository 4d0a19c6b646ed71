"""What a command imports: each module more is time that every build waits, so what is not needed is not loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import ic_secrets
from commandline import Cli

SOURCE = Path(ic_secrets.__file__).parent

# Costly, and nothing that starting a build needs.
HEAVY = {
    "asyncio",
    "dataclasses",
    "importlib.metadata",
    "inspect",
    "pathlib",
    "platformdirs",
    "pluggy",
    "random",
    "rich",
    "shutil",
    "subprocess",
    "ic_secrets.keys.passphrase",
    "tempfile",
    "tomllib",
    "yaml",
    "ic_secrets.stores.cache_files",
    "ic_secrets.stores.cache",
    "ic_secrets.config.catalogue",
    "ic_secrets.config.files",
}
MATCHER = {"hyperscan", "urllib.parse", "ic_secrets.masking.masker", "ic_secrets.masking.matcher"}
SEARCH = {"ic_secrets.leaks.archives", "ic_secrets.leaks.search"}


def imports(cli: Cli, *words: str, stdin: bytes = b"", cwd: Path | None = None) -> set[str]:
    """The modules that the command imports, by what Python tells of each."""
    done = cli(*words, stdin=stdin, cwd=cwd, env={"PYTHONPROFILEIMPORTTIME": "1"}, check=0)
    lines = [line for line in done.stderr.decode().splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.fixture
def site(cli: Cli, tmp_path: Path) -> Cli:
    """A store that the environment names, as in a pipeline: to look for the usual places is work, too."""
    cli.home |= {"IC_SECRETS_STORE": str(tmp_path / "store.db"), "IC_SECRETS_KEY_FILE": str(tmp_path / "key")}
    cli("init", check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic", stdin=b"a-canary-of-a-token", check=0)
    name = "http-basic.repo.example.org"
    cli("set", "my-site", name, "--type", "composer", "--scope", "ic", stdin=b"deploy a-canary-of-a-word", check=0)
    return cli


def test_a_build_that_prints_and_changes_nothing_loads_no_matcher(site: Cli, private: Path, work: Path) -> None:
    """The directory that the private one is in is searched too, so it must be one that nobody else writes to."""
    del site.home["IC_SECRETS_RUN_DIR"]  # to understand that would be work
    loaded = imports(site, "run", "--run-dir", str(private), "my-site", "--", "true", cwd=work)
    assert "ic_secrets.build.run" in loaded
    assert loaded & (HEAVY | MATCHER | SEARCH) == set()


def test_a_store_without_a_server_has_no_cache(site: Cli, work: Path) -> None:
    site.home["IC_SECRETS_CACHE"] = "1h"
    loaded = imports(site, "run", "my-site", "--", "true", cwd=work)
    assert loaded & {"ic_secrets.stores.cache_files", "ic_secrets.stores.cache"} == set()


def test_a_build_that_prints_loads_the_matcher_and_no_search(site: Cli, work: Path) -> None:
    loaded = imports(site, "run", "my-site", "--leaks", "off", "--", "echo", "hello", cwd=work)
    assert loaded >= MATCHER
    assert loaded & (HEAVY | SEARCH) == set()


def test_a_build_with_a_broker_loads_little_of_what_the_broker_itself_needs(site: Cli, work: Path) -> None:
    loaded = imports(site, "run", "--broker", "--leaks", "off", "my-site", "--", "true", cwd=work)
    assert "ic_secrets.broker.process" in loaded
    theirs = {f"ic_secrets.broker.{name}" for name in ("authority", "learning", "proxy", "rules", "service")}
    assert (
        loaded & (HEAVY - {"subprocess"} | SEARCH | theirs | {"glob", "h11", "html.entities", "http", "ssl"}) == set()
    )


@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_help_needs_next_to_nothing(cli: Cli, words: list[str]) -> None:
    loaded = imports(cli, *words)
    assert (
        loaded & (HEAVY | MATCHER | SEARCH | {"argparse", "sqlite3", "cryptography", "ic_secrets.stores.base"}) == set()
    )


@pytest.mark.parametrize("words", [["--help"], ["list", "my-site"], ["run", "my-site", "--", "true"]])
def test_where_no_plugin_is_named_none_is_looked_for(site: Cli, work: Path, words: list[str]) -> None:
    loaded = imports(site, *words, cwd=work)
    assert loaded & {"pluggy", "importlib.metadata", "ic_secrets.plugins.manager", "ic_secrets.hookspecs"} == set()


def test_a_command_that_needs_no_plugin_loads_none_that_is_named(site: Cli, work: Path) -> None:
    site.home["IC_SECRETS_PLUGINS"] = str(work / "not-there.py")
    loaded = imports(site, "list", "my-site", cwd=work)
    assert loaded & {"pluggy", "importlib.metadata", "ic_secrets.plugins.manager"} == set()


def test_no_record_on_the_way_of_a_build_has_its_annotations_postponed(site: Cli, work: Path) -> None:
    """`typing.NamedTuple` compiles each annotation that is a string: twice the time for some eighty records."""
    source = Path(ic_secrets.__file__).parent.parent
    loaded = [
        name for name in imports(site, "run", "my-site", "--", "true", cwd=work) if name.startswith("ic_secrets.")
    ]
    files = [source.joinpath(*name.split(".")).with_suffix(".py") for name in loaded]
    texts = {file.name: file.read_text() for file in files if file.exists()}
    assert len(texts) > 30
    postponed = "from __future__ import annotations"
    assert not [name for name, text in texts.items() if "(NamedTuple)" in text and postponed in text]


def test_to_import_a_room_loads_none_of_its_modules() -> None:
    rooms = [path.parent.name for path in SOURCE.glob("*/__init__.py") if "make_face(" in path.read_text()]
    code = f"import sys; [__import__(f'ic_secrets.{{room}}') for room in {rooms!r}]; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    loaded = {name for name in done.stdout.split() if name.startswith("ic_secrets.") and name.count(".") > 1}
    assert (len(rooms) > 15, loaded) == (True, {"ic_secrets.core.faces"})
