"""What a person who does not know the commands yet is told to type: it works."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commandline import Cli


@pytest.mark.parametrize(
    "words", [("run", "my-site", "composer", "install"), ("plan", "my-site", "composer", "install", "--no-dev")]
)
def test_a_build_without_its_dashes_learns_where_they_go(cli: Cli, words: tuple[str, ...]) -> None:
    told = cli(*words).stderr.decode()
    assert f"hint: `--` goes before the command: ic-secrets {words[0]} SITE.ENV -- COMMAND..." in told


@pytest.mark.parametrize("words", [("set",), ("site", "delete"), ("site",)], ids=" ".join)
def test_help_takes_a_command(cli: Cli, words: tuple[str, ...]) -> None:
    assert cli("help", *words, check=0).stdout == cli(*words, "--help", check=0).stdout
    assert b"'sett' is not a command" in cli("help", "sett", check=2).stderr


def test_no_hint_of_a_sealed_file_is_to_write_to_it(cli: Cli) -> None:
    """It is written to by an export from the store that it came from."""
    cli("init", check=0)
    cli("site", "set", "my-site", check=0)
    cli("export", "my-site", "-o", "my.sealed", check=0)
    composer = {"repositories": [{"type": "composer", "url": "https://repo.example.org"}], "require": {"a/b": "*"}}
    (cli.cwd / "composer.json").write_text(json.dumps(composer))
    sealed = {"IC_SECRETS_STORE": "sealed:my.sealed"}
    told = cli("run", "other", "--", "true", env=sealed, check=125).stderr.decode()
    assert "site set" not in told
    assert "ic-secrets export" in told
    told = cli("plan", "my-site", "--", "composer", "install", env=sealed).stderr.decode()
    sets = [line for line in told.splitlines() if "`ic-secrets set my-site http-basic.repo.example.org" in line]
    assert sets
    assert all("; sealed:my.sealed is only read: write to the store that it came from, " in line for line in sets)


def test_a_new_organization_is_announced_by_whatever_makes_it(cli: Cli) -> None:
    """By an import and a copy as by `set`: a typing mistake makes one, too. One that is known is not announced."""
    cli("init", check=0)
    (cli.cwd / "a.env").write_text("KEY=canary-of-it\n")
    words = ("import", "org:agnecy", "a.env", "--type", "env", "--scope", "ic")
    announced = "made the organization agnecy, which was not known before"
    assert announced not in cli(*words, "--dry-run", check=0).stderr.decode()
    assert announced in cli(*words, check=0).stderr.decode()
    assert announced not in cli(*words, check=0).stderr.decode()
    site = ("import", "my-sitee", "a.env", "--type", "env", "--scope", "ic")
    assert "made the site my-sitee, which was not known before" in cli(*site, check=0).stderr.decode()
    cli("set", "org:beta", "KEY", "--type", "env", "--scope", "ic", stdin=b"v", check=0)
    told = cli("copy", "--to", "copies.db", check=0).stderr.decode()
    assert "made the organizations agnecy, beta, which were not known before" in told
    assert "not known before" not in cli("copy", "--to", "copies.db", check=0).stderr.decode()


def test_a_key_with_the_port_of_https_says_where_it_is_sent(cli: Cli) -> None:
    """`http-basic.HOST:443` is right for a URL that names the port, and never used for one that does not."""
    cli("init", check=0)
    cli("site", "set", "my-site", check=0)
    words = ("set", "my-site", "http-basic.repo.example.org:443", "--type", "composer", "--scope", "ic")
    told = cli(*words, stdin=b"user password-of-it", check=0).stderr.decode()
    assert "only where the URL itself says repo.example.org:443" in told
    assert "the name is http-basic.repo.example.org" in told

    def plan(url: str) -> str:
        composer = {"repositories": [{"type": "composer", "url": url}], "require": {"a/b": "*"}}
        (cli.cwd / "composer.json").write_text(json.dumps(composer))
        return cli("plan", "my-site", "--", "composer", "install").stderr.decode()

    told = plan("https://repo.example.org")
    assert (
        "warning: Composer does not send http-basic.repo.example.org:443 (my-site) to https://repo.example.org/" in told
    )
    told = plan("https://repo.example.org:443")
    assert "http-basic" not in told
    cli("delete", "my-site", "http-basic.repo.example.org:443", check=0)
    cli(*[word.removesuffix(":443") for word in words], stdin=b"user password-of-it", check=0)
    told = plan("https://repo.example.org:443")
    assert "has no credential: http-basic.repo.example.org is for URLs without the port" in told


@pytest.mark.parametrize("file", [".env", "auth.json"])
def test_a_store_that_begins_with_a_refused_file_leaves_nothing(cli: Cli, file: str) -> None:
    """Neither store, key, log nor directories; what the hint names is an option of `init`."""
    content = {".env": "A=${B}\nC=c\n", "auth.json": '{"bearer": {"https://h.example/": "x", "h.example": "canary"}}'}
    (cli.cwd / file).write_text(content[file])
    words = ("init", "my-site", "--from", file, "--scope", "ic", *(("--type", "env") if file == ".env" else ()))
    before = _list_files(cli)
    told = cli(*words, check=1).stderr.decode()
    assert "--skip-refused brings in the rest" in told
    assert _list_files(cli) == before
    told = cli(*words, "--skip-refused", check=1).stderr.decode()
    assert "made the store" in told
    assert len(json.loads(cli("list", "my-site", "--json", check=0).stdout)["secrets"]) == 1


def _list_files(cli: Cli) -> set[Path]:
    return {path for path in cli.cwd.rglob("*") if path.is_file() or path.name == "ic-secrets"}
