"""A kind of store is one record of `stores.registry`, which every command asks: shown by adding a made-up one."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from commandline import Cli
from ic_secrets.config.catalogue import SETTINGS
from ic_secrets.stores.registry import SCHEMES, find_scheme, split_url

# The command line with one scheme more, which keeps what an embedded store keeps.
PROGRAM = """
import sys
from ic_secrets import cli
from ic_secrets.stores import registry
embedded = registry.SCHEMES["sqlite"]
registry.SCHEMES["memo"] = embedded._replace(name="memo", url="memo:PATH", summary="a made-up store")
sys.exit(cli.main(sys.argv[1:]))
"""
Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def run(cli: Cli) -> Run:
    """Runs a command that knows the made-up scheme, in a home with a store of one secret."""
    cli("init", check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic,user", stdin=b"value", check=0)

    def run(*words: str, status: int = 0, **env: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-c", PROGRAM, *words]
        done = subprocess.run(command, capture_output=True, env={**cli.home, **env}, cwd=cli.cwd)
        assert done.returncode == status, done.stderr
        return done

    return run


def test_a_scheme_is_known_to_every_command_by_its_record(run: Run, cli: Cli, home: dict[str, str]) -> None:
    store = f"{home['XDG_DATA_HOME']}/ic-secrets/store.db"
    run("copy", store, "memo:copy.db")
    assert (cli.cwd / "copy.db").exists()
    assert b"TOKEN" in run("list", "my-site", "--store", "memo:copy.db").stdout
    assert run("get", "my-site", "TOKEN", "--store", "memo:copy.db").stdout == b"value\n"
    line = "ic-secrets get --store memo:copy.db "
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_SHELL": "fish", "_ARGCOMPLETE_STDOUT_FILENAME": "/dev/fd/1"}
    done = run(**asked, COMP_LINE=line, COMP_POINT=str(len(line)), _ARGCOMPLETE_IFS="\n")
    assert b"my-site" in done.stdout
    assert b"opens it" in run("key", "show", "--store", "memo:copy.db").stdout
    run("diff", store, "memo:copy.db")
    for words in (("list", "my-site", "--store", "typo:x"), ("copy", store, "typo:x")):
        assert b"unknown store scheme typo:\nhint: the schemes are sqlite:PATH" in run(*words, status=1).stderr
        assert b"memo:PATH" in run(*words, status=1).stderr


def test_a_path_of_a_scheme_is_seen_from_the_file_that_names_it(run: Run, home: dict[str, str]) -> None:
    config = Path(home["XDG_CONFIG_HOME"]) / "ic-secrets" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    for given, shown in (
        ("memo:sub/s.db", "memo:{}/sub/s.db"),
        ("sub/s.db", "{}/sub/s.db"),
        ("other:s.db", "other:s.db"),
    ):
        config.write_text(f'store = "{given}"\n')
        assert shown.format(config.parent).encode() in run("config").stdout


def test_a_store_that_is_only_read_is_not_copied_to(run: Run, home: dict[str, str]) -> None:
    done = run("copy", f"{home['XDG_DATA_HOME']}/ic-secrets/store.db", "sealed:all.sealed", status=1)
    assert b"error: a store cannot be copied to sealed:" in done.stderr
    assert b"memo:PATH" in done.stderr
    assert b"sealed:FILE" not in done.stderr


def test_each_record_can_be_used() -> None:
    """Its functions are there, under the names that the record gives them; its settings are in the catalogue."""
    for name, scheme in SCHEMES.items():
        assert scheme.name == name == split_url(scheme.url)[0]
        assert find_scheme(scheme.url) is scheme
        assert scheme.is_read_only == (scheme.create is None)
        assert set(scheme.settings) <= set(SETTINGS)
        for function in (scheme.open, scheme.create, scheme.read_names, scheme.read_key_id):
            if function:
                with pytest.raises(Exception) as caught:  # noqa: PT011 - anything but a missing function will do
                    function(None)  # type: ignore[arg-type]
                assert not isinstance(caught.value, (ImportError, KeyError))


def test_the_page_about_stores_shows_every_scheme() -> None:
    page = Path(__file__).parents[2].joinpath("docs/stores/index.md").read_text()
    shown = set(re.findall(r"`([^`]+)`", page))
    assert {scheme.url for scheme in SCHEMES.values()} <= shown
