"""A project of ten repositories of which three lack credentials: said before the build, and without a trace."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jsonschema
import pytest

from commandline import PROGRAM
from searching import Found
from servers import Servers
from servers.answers import AnswerServer, start_answers
from watching import ArgumentWatch

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "plan.schema.json").read_text())
COMMAND = ("my-site.dev", "--", "composer", "install")


@pytest.fixture
def strangers() -> Iterator[list[AnswerServer]]:
    """Three hosts that nobody has a credential for, and one that the user has an expired one for."""
    with ExitStack() as stack:
        yield [stack.enter_context(start_answers()) for _ in range(4)]


@pytest.fixture
def project(
    cli: Any, servers: Servers, strangers: list[AnswerServer], tmp_path: Path, home: dict[str, str], private: Path
) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    urls = [servers.basic.url, servers.bearer.url, servers.public.url, *(f"{each.url}/401" for each in strangers)]
    repositories: list[Any] = [{"type": "composer", "url": url} for url in urls]
    for package in ("initech/vault", "initech/ledger"):
        repositories.append({"type": "git", "url": f"{servers.git.url}/{package}.git"})
    repositories += [{"type": "path", "url": "modules/*"}, {"packagist.org": False}]
    (path / "composer.json").write_text(json.dumps({"repositories": repositories, "config": {"secure-http": False}}))
    composer_home = Path(home["XDG_CONFIG_HOME"]) / "composer"
    composer_home.mkdir(parents=True)
    own = {"bearer": {strangers[3].host: "a-token-of-the-user"}, "http-basic": servers.basic.auth["http-basic"]}
    (composer_home / "auth.json").write_text(json.dumps(own))
    cli("init", check=0)
    for server in (servers.basic, servers.bearer, servers.git):
        words = ("set", "my-site", server.secret_name, "--type", "composer", "--scope", "ic,user")
        cli(*words, stdin=server.secret_value, check=0)
    return path


def plan(cli: Any, project: Path, *options: str, check: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cli("plan", "--json", *options, *COMMAND, cwd=project, check=check).stdout)
    jsonschema.validate(found, SCHEMA)
    return found


def statuses(document: dict[str, Any]) -> list[str]:
    return [repository["status"] for repository in document["repositories"]]


def test_the_three_that_lack_a_credential_are_found_and_the_hints_set_them(
    cli: Any, project: Path, strangers: list[AnswerServer]
) -> None:
    """The one that everybody may read looks alike, without being asked."""
    document = plan(cli, project, check=0)
    missing = ["missing"] * 3
    assert statuses(document) == ["covered", "covered", "missing", *missing, "own", "covered", "covered", "local"]
    for repository in document["repositories"]:
        if repository["status"] == "missing":
            program, *words = shlex.split(repository["remedy"].strip("`"))
            assert program == "ic-secrets"
            cli(*words, stdin=b"deploy canary-of-a-password", check=0)
    assert "missing" not in statuses(plan(cli, project, check=0))
    assert not any(server.seen for server in strangers), "nobody is asked"


def test_asked_each_says_whether_it_takes_its_credential(
    cli: Any, project: Path, servers: Servers, strangers: list[AnswerServer]
) -> None:
    document = plan(cli, project, "--online", check=1)
    missing = ["missing"] * 3
    assert statuses(document) == ["covered", "covered", "public", *missing, "own", "covered", "covered", "local"]
    answers = [repository["answer"] and repository["answer"]["outcome"] for repository in document["repositories"]]
    assert answers == ["ok", "ok", "ok", *["expired"] * 4, "ok", "ok", None]
    errors = [problem["text"] for problem in document["problems"] if problem["level"] == "error"]
    assert sorted(server.host for server in strangers if any(server.host in text for text in errors)) == sorted(
        server.host for server in strangers
    )
    assert not [seen for server in strangers[:3] for seen in server.seen if "uthorization" in seen]


def test_a_wrong_credential_is_told_from_one_that_may_not_read(cli: Any, project: Path, servers: Servers) -> None:
    cli("set", "my-site.dev", servers.bearer.secret_name, stdin=b"an-expired-token", check=0)
    with servers.git.answering("initech/vault", 403, after_challenge=True):
        document = plan(cli, project, "--online", check=1)
    answers = {each["url"]: each["answer"]["outcome"] for each in document["repositories"] if each["answer"]}
    assert answers[servers.bearer.url] == "expired"
    assert answers[f"{servers.git.url}/initech/vault.git"] == "refused"
    assert answers[f"{servers.git.url}/initech/ledger.git"] == "ok"
    hints = [problem["remedy"] for problem in document["problems"]]
    assert f"`ic-secrets set my-site.dev {servers.bearer.secret_name}` sets a new value" in hints


@pytest.mark.parametrize("options", [(), ("--online",)], ids=["offline", "online"])
def test_a_plan_shows_writes_and_exposes_no_value(
    cli: Any,
    project: Path,
    servers: Servers,
    tmp_path: Path,
    home: dict[str, str],
    private: Path,
    search_tree: Callable[..., list[Found]],
    options: tuple[str, ...],
) -> None:
    """Not in arguments either, and not one of the scope `user`."""
    (Path(home["XDG_CONFIG_HOME"]) / "composer" / "auth.json").unlink()
    before = {path for path in tmp_path.rglob("*") if path.name != "store.db.audit"}
    password = servers.git.password
    with ArgumentWatch([password.encode(), quote(password, safe="").encode()]) as watch:
        shown = cli("plan", *options, *COMMAND, cwd=project)
        as_json = cli("plan", "--json", *options, *COMMAND, cwd=project)
    output = shown.stdout + shown.stderr + as_json.stdout + as_json.stderr
    assert [needle for needle in servers.needles if needle in output] == []
    assert watch.seen == set()
    assert {path for path in tmp_path.rglob("*") if path.name != "store.db.audit"} == before
    assert list(private.iterdir()) == []
    assert search_tree([tmp_path, Path("/dev/shm")], servers.needles) == []
    logged = json.loads(cli("audit", "--json", "--command", "plan", check=0).stdout)["entries"]
    assert bool(logged) == bool(options), "logged where credentials are sent"


def on_terminal(words: Sequence[str], project: Path, environment: dict[str, str], *, errors: bool) -> str:
    """What the command shows on a terminal of 80 columns; `errors` says whether stderr is one, too."""
    ours, theirs = pty.openpty()
    terminal = environment | {"COLUMNS": "80", "TERM": "xterm"}
    stderr = theirs if errors else subprocess.DEVNULL
    with subprocess.Popen([PROGRAM, *words], cwd=project, env=terminal, stdout=theirs, stderr=stderr) as child:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # which the end of a terminal is
            while part := os.read(ours, 65536):
                shown += part
        child.wait()
    os.close(ours)
    return shown.decode()


@pytest.mark.parametrize("colour", [True, False], ids=["colour", "NO_COLOR"])
def test_on_a_terminal_of_80_columns_no_table_is_wider(project: Path, home: dict[str, str], colour: bool) -> None:
    environment = home | ({} if colour else {"NO_COLOR": "1"})
    shown = on_terminal(("plan", *COMMAND), project, environment, errors=False)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    first, last = lines.index(""), len(lines) - 1
    assert [line for line in lines[first:last] if len(line) > 80] == []
    assert lines[last].startswith("the run would start")
    assert ("\x1b[32m" in shown) == colour


def test_on_a_terminal_a_line_tells_how_many_were_asked(project: Path, home: dict[str, str]) -> None:
    shown = on_terminal(("plan", "--online", *COMMAND), project, home, errors=True)
    assert [f"asked {done} of 9 repositories" in shown for done in range(10)] == [True] * 10
    assert shown.index("asked 9 of 9") < shown.index("would run")
