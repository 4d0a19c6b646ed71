"""Who may turn the broker on and off, what plan says of it, and which projects are refused with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from commandline import Cli

DOCS = Path(__file__).parents[2] / "docs"
SECRET = "http-basic.repo.example.org"


@pytest.fixture
def store(cli: Cli, work: Path) -> None:
    cli.cwd = work
    cli("init", check=0)
    cli("set", "my-site", SECRET, "--type", "composer", "--scope", "ic", stdin=b"deploy a-canary-password", check=0)


def write_manifest(work: Path, **manifest: Any) -> None:
    repositories = [{"type": "composer", "url": "https://repo.example.org"}, {"packagist.org": False}]
    (work / "composer.json").write_text(json.dumps({"repositories": repositories, **manifest}))


def read_destination(cli: Cli, *options: str, env: dict[str, str] | None = None) -> Any:
    plan = json.loads(cli("plan", "my-site", "--json", *options, env=env).stdout)
    jsonschema.validate(plan, json.loads((DOCS / "plan.schema.json").read_text()))
    return plan["secrets"][0]["destination"]


@pytest.mark.usefixtures("store")
def test_a_flag_a_variable_and_a_checkout_turn_it_on(cli: Cli, work: Path) -> None:
    brokered = {"broker": True, "method": "http-basic", "host": "repo.example.org"}
    assert read_destination(cli) != brokered
    assert read_destination(cli, "--broker") == brokered
    assert read_destination(cli, env={"IC_SECRETS_BROKER": "1"}) == brokered
    (work / "ic-secrets.toml").write_text("broker = true\n")
    assert read_destination(cli) == brokered
    assert read_destination(cli, env={"IC_SECRETS_BROKER": "0"}) != brokered


@pytest.mark.usefixtures("store")
def test_a_checkout_cannot_turn_it_off(cli: Cli, work: Path) -> None:
    (work / "ic-secrets.toml").write_text("broker = false\n")
    done = cli("run", "my-site", "--", "true", check=125)
    assert b"ic-secrets.toml:1: a checkout may turn broker on, not off" in done.stderr
    (work / "ic-secrets.toml").write_text('allow-write = ["repo.example.org"]\n')
    assert b"a checkout may not set allow-write" in cli("run", "my-site", "--", "true", check=125).stderr


@pytest.mark.usefixtures("store")
def test_an_application_has_no_use_for_it(cli: Cli) -> None:
    done = cli("run", "--scope", "web", "--broker", "my-site", "--", "true", check=125)
    assert b"--broker is for a build" in done.stderr


@pytest.mark.usefixtures("store")
def test_a_plan_shows_it_and_whose_credential_each_repository_gets(cli: Cli, work: Path) -> None:
    write_manifest(work)
    (work / "auth.json").write_text(json.dumps({"bearer": {"repo.example.org": "a-projects-own-token"}}))
    plan = json.loads(cli("plan", "my-site", "--broker", "--json", "--", "true").stdout)
    (access,) = [each for each in plan["repositories"] if each["host"] == "repo.example.org"]
    assert (access["status"], access["by"]) == ("covered", SECRET)  # the broker replaces what the project sends
    assert not plan["would_fail"]
    shown = cli("plan", "my-site", "--broker", "--", "true", check=0).stdout.decode()
    rows = [line.split() for line in shown.splitlines()]
    assert any(row[0] == SECRET and row[-1] == "broker" for row in rows if row)


DEFEATS: dict[str, tuple[dict[str, Any], str]] = {
    "authorities of its own": ({"config": {"cafile": "ca.pem"}}, "sets cafile"),
    "no TLS": ({"config": {"disable-tls": True}}, "sets disable-tls"),
    "a proxy for the repository": (
        {
            "repositories": [
                {
                    "type": "composer",
                    "url": "https://repo.example.org",
                    "options": {"http": {"proxy": "tcp://127.0.0.1:1"}},
                }
            ]
        },
        "http.proxy",
    ),
}


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("case", DEFEATS.values(), ids=list(DEFEATS))
def test_a_project_that_would_get_past_it_is_refused_before(
    cli: Cli, work: Path, case: tuple[dict[str, Any], str]
) -> None:
    manifest, words = case
    write_manifest(work, **manifest)
    done = cli("run", "--broker", "my-site", "--", "touch", "started", check=125)
    assert words in done.stderr.decode()
    assert not (work / "started").exists()
    assert words in cli("plan", "--broker", "my-site", "--", "true", check=1).stderr.decode()
    cli("run", "my-site", "--", "touch", "started", check=0)  # without it, they are the project's own affair


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("is_off", [True, False])
def test_a_project_whose_credential_goes_unencrypted_is_named(cli: Cli, work: Path, is_off: bool) -> None:
    repositories = [{"type": "composer", "url": "http://repo.example.org/satis"}]
    write_manifest(work, config={"secure-http": not is_off}, repositories=repositories)
    done = cli("run", "--broker", "my-site", "--", "true", check=0)
    words = b"the credential of repo.example.org is sent unencrypted to http://repo.example.org/satis"
    assert (words in done.stderr) is is_off


@pytest.mark.usefixtures("store")
def test_a_malformed_config_is_named_once(cli: Cli, home: dict[str, str]) -> None:
    place = Path(home["XDG_CONFIG_HOME"], "composer", "config.json")
    place.parent.mkdir(parents=True)
    place.write_text("{")
    for command in (("plan",), ("run", "--receipt", "r.json")):
        done = cli(*command, "--broker", "my-site", "--", "true")
        assert done.returncode in {1, 125}
        assert done.stderr.decode().count(f"error: {place} is not valid JSON") == 1


def test_a_project_is_free_where_no_secret_goes_by_the_broker(cli: Cli, work: Path) -> None:
    cli("init", check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic", stdin=b"a-canary-of-a-token", check=0)
    write_manifest(work, config={"cafile": "ca.pem"})
    cli("run", "--broker", "my-site", "--", "true", cwd=work, check=0)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("host", ["https://repo.example.org", "*.example.org", "repo.example.org:0", "a@b"])
def test_a_host_that_may_be_written_to_is_a_host(cli: Cli, host: str) -> None:
    done = cli("run", "--broker", "--allow-write", host, "my-site", "--", "true", check=125)
    assert done.stderr.startswith(b"error: ")
    cli("run", "--broker", "--allow-write", "repo.example.org", "--allow-write", "a.org:8443,b.org", "my-site", "--",
        "true", check=0)  # fmt: skip
