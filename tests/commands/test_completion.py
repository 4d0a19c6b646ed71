"""Completion: what is offered where, without a key and without a plugin, and what real shells make of it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from commandline import PROGRAM, Cli
from local_stores import raw
from screen import Screen

TARGETS = ["my-site.dev", "my-site.test", "my-site.live", "my-site.org-env", "my-site.pr-17"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """A store with two sites, an organization and overrides, of which the key is gone."""
    from homes import make_home

    path = tmp_path_factory.mktemp("completion")
    home = make_home(path) | {"PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
    cli = Cli(home | {"IC_SECRETS_STORE": str(path / "store.db"), "IC_SECRETS_KEY_FILE": str(path / "key")}, path)
    cli("init", check=0)
    cli("site", "set", "my-site", "--org", "agency", check=0)
    cli("site", "set", "other", check=0)
    for owner, name in (("org:agency", "SHARED"), ("my-site", "TOKEN"), ("other", "OTHERS")):
        cli("set", owner, name, "--type", "env", "--scope", "ic", stdin=b"a-canary", check=0)
    cli(
        "set",
        "my-site",
        "http-basic.repo.example.org:8443",
        "--type",
        "composer",
        "--scope",
        "ic",
        stdin=b"a b",
        check=0,
    )
    cli("set", "my-site.pr-17", "TOKEN", stdin=b"a-canary", check=0)
    cli("set", "org:agency.org-env", "SHARED", stdin=b"a-canary", check=0)
    cli("export", "my-site", "--format", "sealed", "-o", path / "my.sealed", check=0)
    (path / "key").unlink()
    return cli


def complete(cli: Cli, line: str, **env: str) -> list[str]:
    """Return what is offered for the last word of the line, which may be empty, as a script of argcomplete asks."""
    line = f"ic-secrets {line}"
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_SHELL": "fish", "_ARGCOMPLETE_SUPPRESS_SPACE": "1"}
    asked |= {"COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_STDOUT_FILENAME": "/dev/fd/1"}
    done = cli(env={**asked, "_ARGCOMPLETE_IFS": "\n", **env}, check=0)
    return done.stdout.decode().splitlines()


CASES = {
    "commands": ("comp", ["completion"]),
    "an unknown command": ("bogus ", []),
    "actions": ("site ", ["set", "list", "show", "delete"]),
    "actions of keys": ("key ro", ["rotate"]),
    "options of an action": ("site set my-site --no-", ["--no-org", "--no-supporting", "--no-plugins"]),
    "sites": ("run ", ["my-site", "other"]),
    "a whole site": ("run my-site", ["my-site", *TARGETS]),
    "environments": ("run my-site.", TARGETS),
    "the command of a run": ("run my-site.dev ", ["--"]),
    "options": ("run my-site --pr", ["--preserve-env", "--pristine"]),
    "one that repeats": ("scan --leaks-allow x --leaks-a", ["--leaks-allow"]),
    "choices": ("run --leaks ", ["fail", "warn", "off"]),
    "choices behind =": ("run --leaks=w", ["--leaks=warn"]),
    "a value is no positional": ("run --leaks off my-site.p", ["my-site.pr-17"]),
    "an optional value takes no word": ("run --preserve-env ot", ["other"]),
    "owners": ("set o", ["other", "org:agency"]),
    "an organization's environments": ("set org:agency.o", ["org:agency.org-env"]),
    "names": ("get my-site.dev ", ["SHARED", "TOKEN", "http-basic.repo.example.org:8443"]),
    "names of an organization": ("get org:agency ", ["SHARED"]),
    "names to delete": ("delete my-site S", []),
    "names in a list": ("run my-site --only SHARED,T", ["SHARED,TOKEN"]),
    "organizations": ("site set new --org ", ["agency"]),
    "types": ("set my-site NEW --type e", ["env"]),
    "scopes in a list": ("set my-site NEW --scope ic,", ["ic,web", "ic,user"]),
    "commands in the log": ("audit --command post", ["post-build"]),
    "shells": ("completion ", ["bash", "zsh", "fish"]),
    "past --no-plugins": ("--no-plugins site sh", ["show"]),
    "a target to scan": ("scan oth", ["other"]),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_offered(site: Cli, case: str) -> None:
    line, expected = CASES[case]
    assert complete(site, line) == expected


@pytest.mark.parametrize(
    "line", ["list --store ./st", "run --receipt ./st", "scan ./st", "run my-site -- composer ./st"]
)
def test_files_are_offered_where_a_file_is_wanted(site: Cli, line: str) -> None:
    assert sorted(complete(site, line)) == ["./store.db", "./store.db.audit"]


def test_the_command_of_a_run_is_a_program(site: Cli) -> None:
    assert "ic-secrets" in complete(site, "run my-site -- ic-")


def test_a_store_that_is_named_on_the_line_is_looked_at(site: Cli) -> None:
    sealed = f"sealed:{site.cwd}/my.sealed"
    assert complete(site, f"run --store {sealed} ", IC_SECRETS_STORE="/dev/null") == ["my-site"]
    assert complete(site, f"run --store={sealed} my-site.") == TARGETS
    assert complete(site, f"get --store {sealed} my-site S") == ["SHARED"]


@pytest.mark.parametrize(
    "store", ["/no/such/store", "/etc/passwd", "bao+https://localhost/x", "sealed:/etc/passwd", "x:y"]
)
def test_what_cannot_be_read_offers_nothing_and_tells_nothing(site: Cli, store: str) -> None:
    assert complete(site, "run ", IC_SECRETS_STORE=store) == []


def test_a_name_that_means_something_to_a_shell_is_not_offered(site: Cli, tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    store.write_bytes((site.cwd / "store.db").read_bytes())
    store.chmod(0o600)
    with raw(str(store)) as database:
        database.execute("UPDATE secrets SET name = '$(touch owned)' WHERE name = 'OTHERS'")
        database.execute("UPDATE secrets SET name = 'A' || char(27) || '[2J' WHERE name = 'SHARED'")
    assert complete(site, "get other ", IC_SECRETS_STORE=str(store)) == []
    assert complete(site, "get org:agency ", IC_SECRETS_STORE=str(store)) == []


def test_neither_key_nor_plugin_is_loaded_and_it_is_quick(site: Cli) -> None:
    log = (site.cwd / "store.db.audit").read_bytes()
    environment = {"IC_SECRETS_PLUGINS": "/no/such/plugin.py", "_ARGCOMPLETE": "1", "COMP_POINT": "23"}
    environment |= {"COMP_LINE": "ic-secrets run my-site.", "_ARGCOMPLETE_STDOUT_FILENAME": "/dev/null"}
    words = [sys.executable, "-X", "importtime", "-c", "from ic_secrets.cli import start; start()"]
    done = subprocess.run(words, env=site.home | environment, cwd=site.cwd, capture_output=True, timeout=60)
    loaded = {line.rpartition(b"|")[2].strip().decode() for line in done.stderr.splitlines() if b"import time:" in line}
    assert "ic_secrets.stores.names" in loaded
    unwanted = {"pluggy", "rich", "hyperscan", "yaml", "cryptography.hazmat.primitives.ciphers.aead"}
    assert loaded & (unwanted | {"ic_secrets.keys.sealing", "ic_secrets.keys.master"}) == set()
    assert (site.cwd / "store.db.audit").read_bytes() == log
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        complete(site, "get my-site ")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.15


# --- in real shells ---------------------------------------------------------------------------------


LINES = {
    "run my-site.p": ["my-site.pr-17"],
    "get org:agency ": ["SHARED"],
    "set org:ag": ["org:agency"],
    "run --leaks=w": ["--leaks=warn"],
    "get my-site http": ["http-basic.repo.example.org:8443"],
    "site ": ["delete", "list", "set", "show"],
}


BREAKS = "$' \\t\\n\"\\'><=;|&(:'"  # bash's own COMP_WORDBREAKS


@pytest.mark.parametrize("line", LINES)
def test_bash_completes(site: Cli, line: str) -> None:
    """What bash puts in the place of the word: where that holds = or :, what follows the last of these."""
    words = f"ic-secrets {line}"
    script = f"""
        eval "$(ic-secrets completion bash)"
        COMP_WORDBREAKS={BREAKS}; COMP_LINE={words!r} COMP_POINT={len(words)} COMP_TYPE=9
        _python_argcomplete_ic-secrets ic-secrets; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], env=site.home, cwd=site.cwd, capture_output=True, timeout=60)
    begun = line.split(" ")[-1]
    cut = max(begun.rfind("="), begun.rfind(":")) + 1
    assert sorted(done.stdout.decode().split()) == [word[cut:] for word in LINES[line]], done.stderr


@pytest.mark.parametrize("line", LINES)
def test_fish_completes(site: Cli, line: str) -> None:
    script = f"ic-secrets completion fish | source; complete -C {f'ic-secrets {line}'!r}"
    done = subprocess.run(["fish", "-Nc", script], env=site.home, cwd=site.cwd, capture_output=True, timeout=60)
    assert done.stderr == b""
    assert sorted(row.partition("\t")[0] for row in done.stdout.decode().splitlines()) == LINES[line]


@pytest.fixture
def zsh(site: Cli) -> Iterator[Screen]:
    """zsh at a prompt, as a person has it who has put our line into .zshrc."""
    screen = Screen(["zsh", "-f"], site.home | {"PS1": "> ", "TERM": "dumb"}, site.cwd)
    screen.wait_for("> ")
    screen.type("autoload -Uz compinit; compinit -uD; eval \"$(ic-secrets completion zsh)\"; echo rea''dy\n")
    screen.wait_for("ready")
    yield screen
    screen.close()


@pytest.mark.parametrize("line", [line for line, words in LINES.items() if len(words) == 1])
def test_zsh_completes(zsh: Screen, line: str) -> None:
    """The word is completed on the line, which is then run."""
    zsh.type(f"ic-secrets {line}\t")
    zsh.type("\x01printf '<%s>' \n")  # in front of the line
    zsh.wait_for(f"<{LINES[line][0]}>")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shells_take_the_scripts(site: Cli, tmp_path: Path, shell: str) -> None:
    script = tmp_path / "script"
    script.write_bytes(site("completion", shell, check=0).stdout)
    subprocess.run([shell, "-n", script], check=True, timeout=60)


def test_a_program_of_the_working_directory_is_never_run(site: Cli, tmp_path: Path) -> None:
    """`./ic-secrets` of a checkout is not what answers, whatever is typed."""
    program = tmp_path / "ic-secrets"
    program.write_text(f"#!{sys.executable}\nopen('owned', 'w')\n")
    program.chmod(0o700)
    line = "./ic-secrets run "
    script = f"""eval "$(ic-secrets completion bash)"; COMP_LINE='{line}' COMP_POINT={len(line)} COMP_TYPE=9
        _python_argcomplete_ic-secrets ./ic-secrets"""
    subprocess.run(["bash", "-c", script], env=site.home, cwd=tmp_path, check=True, timeout=60)
    assert not (tmp_path / "owned").exists()
