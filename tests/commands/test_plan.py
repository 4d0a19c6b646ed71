"""A plan says what the run then does: whatever refuses the run is among the plan's errors, and nothing else is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from commandline import Cli
from servers.answers import start_answers


class Case(NamedTuple):
    """A way to run, and the files (below the working directory) and variables that are there."""

    options: tuple[str, ...] = ()
    command: tuple[str, ...] = ("true",)
    files: tuple[tuple[str, str], ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    secret: tuple[str, str, str] = ("TOKEN", "env", "canary-value")


MALFORMED = '{"bearer": {"a.org": "canary'
REFUSED = {
    "no such program": Case(command=("no-such-program",)),
    "no program": Case(command=("./data",), files=(("data", "x"),)),
    "an unknown secret": Case(options=("--only", "OTHER")),
    "a malformed auth.json of the project": Case(files=(("auth.json", MALFORMED),)),
    "a malformed auth.json of the user": Case(files=(("../home/.config/composer/auth.json", MALFORMED),)),
    "a malformed config.json of the user": Case(files=(("../home/.config/composer/config.json", MALFORMED),)),
    "a malformed COMPOSER_AUTH": Case(environment=(("COMPOSER_AUTH", MALFORMED),)),
    "a run directory in the project": Case(options=("--run-dir", ".")),
    "a receipt that cannot be written": Case(options=("--receipt", "nowhere/receipt.json")),
    "a log that cannot be written": Case(
        environment=(("IC_SECRETS_AUDIT", "required"), ("IC_SECRETS_AUDIT_FILE", "/nowhere/log"))
    ),
    "a plugin's veto": Case(
        files=(
            (
                "../veto.py",
                "from ic_secrets import hookimpl\nfrom ic_secrets.errors import VetoError\n\n\n@hookimpl\n"
                "def ic_secrets_before_expose(plan):\n    raise VetoError('not on a Friday')\n",
            ),
        ),
        environment=(("IC_SECRETS_PLUGINS", "{work}/../veto.py"),),
    ),
    "a plugin's fault": Case(
        files=(
            (
                "../broken.py",
                "from ic_secrets import hookimpl\nfrom ic_secrets.build.render import Rendered\n\n\n@hookimpl\n"
                "def ic_secrets_render_secrets(context):\n    return Rendered(variables={'PATH': 'x'})\n",
            ),
        ),
        environment=(("IC_SECRETS_PLUGINS", "{work}/../broken.py"),),
    ),
}
STARTED = {
    "all is well": Case(),
    "a build that fails": Case(command=("false",)),
    "an override of the project": Case(
        files=(("auth.json", '{"bearer": {"a.org": "x"}}'),), secret=("http-basic.a.org", "composer", "deploy canary-a")
    ),
    "an application": Case(options=("--scope", "web")),
}


def prepare(case: Case, cli: Cli, work: Path) -> dict[str, str]:
    cli("init", check=0)
    name, kind, value = case.secret
    cli("set", "my-site", name, "--type", kind, "--scope", "ic,user", stdin=value.encode(), check=0)
    for path, text in case.files:
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_text(text)
    return {name: value.format(work=work) if "{work}" in value else value for name, value in case.environment}


def plan(case: Case, cli: Cli, work: Path, environment: dict[str, str]) -> tuple[int, list[str]]:
    """The exit status, and the errors."""
    done = cli("plan", "--json", *case.options, "my-site.dev", "--", *case.command, cwd=work, env=environment)
    assert b"canary" not in done.stdout + done.stderr
    problems = json.loads(done.stdout)["problems"]
    return done.returncode, [problem["text"] for problem in problems if problem["level"] == "error"]


@pytest.mark.parametrize("case", REFUSED)
def test_what_refuses_the_run_is_the_plans_error(case: str, cli: Cli, work: Path) -> None:
    environment = prepare(REFUSED[case], cli, work)
    status, errors = plan(REFUSED[case], cli, work, environment)
    words = ("run", *REFUSED[case].options, "my-site.dev", "--", *REFUSED[case].command)
    done = cli(*words, cwd=work, env=environment)
    assert done.returncode in {125, 126, 127}
    (said,) = [line.removeprefix("error: ") for line in done.stderr.decode().splitlines() if line.startswith("error: ")]
    assert status == 1
    assert len(errors) == 1
    assert said.startswith(errors[0])


@pytest.mark.parametrize("case", STARTED)
def test_what_starts_has_no_error(case: str, cli: Cli, work: Path) -> None:
    environment = prepare(STARTED[case], cli, work)
    assert plan(STARTED[case], cli, work, environment) == (0, [])
    words = ("run", *STARTED[case].options, "my-site.dev", "--", *STARTED[case].command)
    assert cli(*words, cwd=work, env=environment).returncode in {0, 1}


def test_a_dry_run_is_the_plan(cli: Cli, work: Path) -> None:
    prepare(Case(), cli, work)
    words = ("my-site.dev", "--", "sh", "-c", "echo never > ran")
    planned, dry = cli("plan", *words, cwd=work, check=0), cli("run", "--dry-run", *words, cwd=work, check=0)
    assert (planned.stdout, planned.stderr) == (dry.stdout, dry.stderr)
    assert list(work.iterdir()) == []


def test_a_plan_shows_no_value_that_was_read(cli: Cli) -> None:
    """Neither one that the build is denied, nor one of the application, wherever it stands."""
    cli("init", check=0)
    for name, kind in (("DENIED", "env"), ("APPLICATION", "runtime")):
        cli("set", "my-site", name, "--type", kind, "--scope", "ic", stdin=f"canary-of-{name}".encode(), check=0)
    directory = cli.cwd / "canary-of-DENIED"
    directory.mkdir()
    words = ("my-site", "--except", "DENIED", "--", "composer", "install", "-d", directory, "canary-of-APPLICATION")
    for more in ((), ("--json",)):
        done = cli("plan", *more, *words)
        assert b"DENIED" in done.stdout
        assert b"canary-of" not in done.stdout + done.stderr, done.stdout


def make_project(cli: Cli, url: str) -> None:
    """A project with that repository alone, which Composer may ask in the clear."""
    manifest = {
        "repositories": [{"type": "composer", "url": url}, {"packagist.org": False}],
        "config": {"secure-http": False},
    }
    (cli.cwd / "composer.json").write_text(json.dumps(manifest))


def test_no_server_puts_a_value_into_a_plan(cli: Cli) -> None:
    """A redirect to a host that is called like the secret, in lower case, as names of hosts are."""
    with start_answers() as server:
        cli("init", check=0)
        words = ("set", "my-site", f"bearer.{server.host}", "--type", "composer", "--scope", "ic")
        cli(*words, stdin=b"Canary-Of-A-Token", check=0)
        server.lead = "http://canary-of-a-token.example.org/"
        make_project(cli, f"{server.url}/lead/x")
        for more in ((), ("--json",)):
            done = cli("plan", "--online", *more, "my-site")
            assert b"another host" in done.stdout + done.stderr
            assert b"canary" not in (done.stdout + done.stderr).lower()
    assert any("Canary-Of-A-Token" in seen for seen in server.seen)


def test_a_repository_with_a_login_of_its_own_is_not_asked(cli: Cli) -> None:
    """Asked without it, it would seem to refuse."""
    with start_answers() as server:
        cli("init", check=0)
        cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic", stdin=b"any-value", check=0)
        make_project(cli, server.url.replace("://", "://deploy:canary-of-a-login@") + "/401/x")
        done = cli("plan", "--online", "my-site", check=0)
        assert b"canary" not in done.stdout + done.stderr
    assert server.seen == []


def test_the_hosts_that_my_lock_downloads_from_are_asked(cli: Cli) -> None:
    """Each with the credential that it would get; one that wants one is missing, and an open one is public."""
    with start_answers() as private, start_answers() as closed, start_answers() as public:
        cli("init", check=0)
        words = ("set", "my-site", f"bearer.{private.host}", "--type", "composer", "--scope", "ic")
        cli(*words, stdin=b"canary-of-a-token", check=0)
        manifest = {"repositories": [{"packagist.org": False}], "config": {"secure-http": False}}
        (cli.cwd / "composer.json").write_text(json.dumps(manifest))
        urls = [f"{private.url}/hidehead/x.zip?version=1", f"{closed.url}/401/x.zip", f"{public.url}/x.zip"]
        packages = [{"name": f"acme/{n}", "dist": {"type": "zip", "url": url}} for n, url in enumerate(urls)]
        (cli.cwd / "composer.lock").write_text(json.dumps({"packages": packages}))
        done = cli("plan", "--online", "--json", "my-site", check=1)
    found = [(each["status"], each["answer"]["outcome"]) for each in json.loads(done.stdout)["repositories"]]
    assert found == [("covered", "ok"), ("missing", "expired"), ("public", "ok")]
    assert [seen.split()[0] for seen in private.seen] == ["HEAD", "GET"]
    assert all("/hidehead/x.zip?version=1" in seen and "canary" in seen for seen in private.seen)
    assert not [seen for seen in closed.seen + public.seen if "canary" in seen]


def test_a_check_is_added_in_one_place(cli: Cli) -> None:
    """A made-up one, put into the registry: the table, the document and the exit status know it."""
    cli("init", check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic", stdin=b"any-value", check=0)
    program = (
        "from ic_secrets import cli\n"
        "from ic_secrets.plan.checks import CHECKS\n"
        "from ic_secrets.plan.problem import Problem\n"
        "CHECKS.append(lambda facts: [Problem('error', f'{facts.target} is made up', 'make it real')])\n"
        "cli.start()\n"
    )
    shown, described = (
        subprocess.run(
            [sys.executable, "-c", program, "plan", *more, "my-site", "--", "true"],
            env=cli.home,
            cwd=cli.cwd,
            capture_output=True,
        )
        for more in ((), ("--json",))
    )
    assert (shown.returncode, described.returncode) == (1, 1)
    assert b"error: my-site.dev is made up\nhint: make it real\n" in shown.stderr
    expected = {"level": "error", "text": "my-site.dev is made up", "remedy": "make it real"}
    assert expected in json.loads(described.stdout)["problems"]
