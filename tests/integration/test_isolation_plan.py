"""What `plan --isolate` foresees of an isolated build, as this machine would isolate it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from commandline import Cli

SCRIPTS = {"post-install-cmd": ["curl -s https://hooks.example.net/done", "npm ci"]}
HOOKS, NPM = "hooks.example.net", "registry.npmjs.org"


@pytest.fixture
def project(cli: Cli, work: Path) -> Path:
    cli("init", check=0)
    words = ("my-site", "http-basic.repo.example.org", "--type", "composer", "--scope", "ic")
    cli("set", *words, stdin=b"deploy canary-word", check=0)
    repository = {"type": "composer", "url": "https://repo.example.org"}
    (work / "composer.json").write_text(json.dumps({"repositories": [repository], "scripts": SCRIPTS}))
    return work


def plan(cli: Cli, project: Path, *options: str, check: int = 0, env: dict[str, str] | None = None) -> Any:
    words = ("my-site.dev", "--", "composer", "install")
    return json.loads(cli("plan", *options, "--json", *words, cwd=project, env=env, check=check).stdout)


def list_missed(found: Any) -> list[Any]:
    return [problem for problem in found["problems"] if "would not reach" in problem["text"]]


def test_a_plan_says_by_what_a_build_would_be_isolated_and_what_it_would_reach(cli: Cli, project: Path) -> None:
    found = plan(cli, project, "--isolate=bubblewrap")["isolation"]
    assert found["mode"] == "bubblewrap"
    assert found["version"][:2] == "0."
    assert {"repo.example.org", "packagist.org", "github.com"} <= set(found["hosts"])
    assert {HOOKS, NPM}.isdisjoint(found["hosts"])
    assert str(project) in found["writable"]
    said = cli("plan", "--isolate", "my-site.dev", "--", "composer", "install", cwd=project, check=0).stdout.decode()
    assert f"isolated by bubblewrap {found['version']}, it would reach {len(found['hosts'])} servers:" in said
    assert plan(cli, project)["isolation"] is None
    assert list_missed(plan(cli, project)) == []


def test_servers_that_scripts_name_are_foreseen_with_the_option_to_add(cli: Cli, project: Path) -> None:
    (problem,) = list_missed(plan(cli, project, "--isolate"))
    assert problem["level"] == "warning"
    assert f"{HOOKS} (the script post-install-cmd), {NPM} (where npm downloads from)" in problem["text"]
    options = problem["remedy"].removeprefix("if it needs to: ").split()
    assert options == ["--allow-host", HOOKS, "--allow-host", NPM]
    found = plan(cli, project, "--isolate", *options)
    assert list_missed(found) == []
    assert {HOOKS, NPM} <= set(found["isolation"]["hosts"])


def test_what_a_checkout_allows_beyond_its_own_is_said_and_does_not_hold(cli: Cli, project: Path) -> None:
    own = 'isolate = true\nallow-host = ["repo.example.org", "evil.example"]\nallow-path = ["/etc:rw"]\n'
    (project / "ic-secrets.toml").write_text(own)
    found = plan(cli, project, env={"CI": ""})
    assert "evil.example" not in found["isolation"]["hosts"]
    assert "/etc" not in found["isolation"]["writable"]
    said = " ".join(problem["text"] for problem in found["problems"])
    shown = cli("plan", "my-site.dev", cwd=project, env={"CI": ""}).stderr.decode() + said
    assert "evil.example" in shown
    assert "/etc:rw" in shown


def test_what_cannot_isolate_is_the_plans_error(cli: Cli, project: Path, tmp_path: Path) -> None:
    """As it is the run's: with the same words."""
    (tmp_path / "bin").mkdir()
    broken = tmp_path / "bin" / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    env = {"PATH": f"{broken.parent}:{cli.home['PATH']}"}
    found = plan(cli, project, "--isolate=bubblewrap", check=1, env=env)
    (error,) = [problem for problem in found["problems"] if problem["level"] == "error"]
    assert found["isolation"] is None
    done = cli("run", "--isolate=bubblewrap", "my-site.dev", "--", "composer", "install", cwd=project, env=env)
    assert done.returncode == 125
    assert f"error: {error['text']}\n".encode() in done.stderr
