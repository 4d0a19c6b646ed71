"""`open_build` and the hooks for pipelines: the same build as `run`, from Python."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pluggy
import pytest

import ic_secrets
from children import run_in_child
from commandline import Cli
from ic_secrets import open_build, plugin
from ic_secrets.build.request import BuildRequest
from ic_secrets.build.run import Build
from ic_secrets.errors import BuildError, ConfigError, IcSecretsError, LeakFoundError, UnknownSiteError, VetoError
from ic_secrets.model.secret import Target

CANARY = "a-canary-of-a-value-in-the-api"


@pytest.fixture
def site(cli: Cli, private: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """A store with one `env` secret of `my-site`, which the environment of this very process names."""
    cli("init", check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic", stdin=CANARY.encode(), check=0)
    for name in [name for name in os.environ if name.startswith(("IC_SECRETS_", "XDG_"))]:
        monkeypatch.delenv(name)
    for name, value in cli.home.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CI", raising=False)  # where a checkout does not name its site
    monkeypatch.chdir(work)
    return cli


def test_a_block_builds_with_the_secrets_and_leaves_none(site: Cli, private: Path) -> None:
    with open_build("my-site.dev") as build:
        assert list(private.iterdir()) != []
        done = subprocess.run(["sh", "-c", 'printf "%s" "$TOKEN"; exit 3'], env=build.env, capture_output=True)
        build.status = done.returncode
        assert build.mask(f"it printed {done.stdout.decode()}") == "it printed ***"
        assert CANARY not in repr(build)
    assert done.stdout.decode() == CANARY
    assert build.receipt is not None
    assert (build.receipt["status"], [one["name"] for one in build.receipt["secrets"]]) == (3, ["TOKEN"])
    assert list(private.iterdir()) == []


def test_the_environment_is_that_of_run(site: Cli, work: Path) -> None:
    with open_build("my-site") as build:
        mine = build.env
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    done = site("run", "--no-mask", "my-site", "--", sys.executable, "-c", code, check=0)
    theirs = json.loads(done.stdout)
    ephemeral = {"COMPOSER_HOME", "_", "PYTEST_CURRENT_TEST", "LC_CTYPE"}
    assert {n for n in theirs if n not in ephemeral} <= set(mine)
    assert mine["TOKEN"] == theirs["TOKEN"] == CANARY
    assert not any(name.startswith("IC_SECRETS_") for name in mine)


def test_what_the_block_raises_goes_through_and_the_receipt_says_that_it_failed(
    site: Cli, private: Path, tmp_path: Path
) -> None:
    with pytest.raises(subprocess.CalledProcessError), open_build("my-site", receipt=tmp_path / "receipt") as build:
        subprocess.run(["sh", "-c", 'echo "$TOKEN" > kept; exit 7'], env=build.env, check=True)
    receipt = json.loads((tmp_path / "receipt").read_text())
    assert receipt == build.receipt
    assert (receipt["status"], [one["secret"] for one in receipt["leaks"]["findings"]]) == (1, ["TOKEN"])
    assert list(private.iterdir()) == []


def test_a_leak_is_an_error_where_the_block_succeeded(site: Cli) -> None:
    with pytest.raises(LeakFoundError, match="left a secret behind in 1 place"), open_build("my-site") as build:
        subprocess.run(["sh", "-c", 'echo "$TOKEN" > kept'], env=build.env, check=True)
    assert build.receipt is not None
    assert build.receipt["status"] == 120


def test_a_leak_is_only_told_where_that_is_wanted(site: Cli, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ic_secrets"), open_build("my-site", leaks="warn") as build:
        subprocess.run(["sh", "-c", 'echo "$TOKEN" > kept'], env=build.env, check=True)
    assert "TOKEN was left behind in " in caplog.text
    assert CANARY not in caplog.text


def test_a_build_that_cannot_be_started_runs_no_block(site: Cli, private: Path) -> None:
    for target, error in (("my-sitt", UnknownSiteError), (None, ConfigError)):
        with pytest.raises(error), open_build(target):
            pytest.fail("the block was run")
    assert list(private.iterdir()) == []


def test_what_is_not_given_comes_from_the_projects_settings(site: Cli, work: Path, tmp_path: Path) -> None:
    """Those of the project that is named, not of the working directory."""
    site("set", "my-site", "OTHER", "--type", "env", "--scope", "ic", stdin=b"another-value", check=0)
    site("set", "my-site.topic", "TOKEN", stdin=b"the value of topic", check=0)
    project = tmp_path / "project"
    project.mkdir()
    subprocess.run(["git", "init", "-q", "-b", "topic"], cwd=project, check=True)
    lines = ['site = "my-site"', 'env = "auto"', 'except = ["OTHER"]', 'leaks = "warn"', 'receipt = "r.json"']
    (project / "ic-secrets.toml").write_text("\n".join(lines))
    with open_build(project=project) as build:
        (project / "leak").write_text(build.env["TOKEN"])
    assert build.env["TOKEN"] == "the value of topic"
    assert "OTHER" not in build.env
    assert json.loads((project / "r.json").read_text())["leaks"]["findings"] != []


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"excluded": "TOKEN"}, TypeError),
        ({"only": "TOKEN"}, TypeError),
        ({"only": []}, ValueError),
        ({"leaks_allowed": "vendor"}, TypeError),
        ({"leaks": "fial"}, ValueError),
        ({"project": "/nonexistent"}, BuildError),
        ({"only": ["UNKNOWN"]}, IcSecretsError),
    ],
    ids=lambda value: str(value),
)
def test_an_argument_that_makes_no_sense_exposes_nothing(
    site: Cli, private: Path, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error), open_build("my-site", **options):
        pytest.fail("the block was run")
    assert list(private.iterdir()) == []


@pytest.mark.parametrize(("given", "status"), [(-9, 137), (0, 0), (255, 255), (None, None), (True, None), (256, None)])
def test_the_status_is_what_a_shell_would_say(site: Cli, private: Path, given: Any, status: int | None) -> None:
    with contextlib.ExitStack() as stack:
        if status is None:
            stack.enter_context(pytest.raises((TypeError, ValueError)))
        with open_build("my-site") as build:
            build.status = given
    assert build.receipt is not None
    assert build.receipt["status"] == (1 if status is None else status)
    assert list(private.iterdir()) == []


def test_plugins_have_their_say(site: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "veto.py"
    path.write_text(
        "from ic_secrets import hookimpl\nfrom ic_secrets.errors import VetoError\n"
        "@hookimpl\ndef ic_secrets_before_expose(plan): raise VetoError('no')\n"
    )
    monkeypatch.setenv("IC_SECRETS_PLUGINS", str(path))
    with pytest.raises(VetoError, match="the plugin veto does not allow this build: no"), open_build("my-site"):
        pytest.fail("the block was run")


def test_the_package_has_what_it_names_and_imports_it_late() -> None:
    assert all(hasattr(ic_secrets, name) for name in ic_secrets.__all__)
    with pytest.raises(AttributeError):
        ic_secrets.nothing  # noqa: B018
    code = "import sys, ic_secrets; assert not {'pluggy', 'ic_secrets.api'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- a pipeline's manager ---


@pytest.mark.parametrize("project", ["one_pipeline", "another"])
def test_any_manager_gets_the_hooks(site: Cli, work: Path, private: Path, project: str) -> None:
    manager = pluggy.PluginManager(project)
    plugin.register(manager)
    manager.check_pending()
    environment = manager.hook.ic_secrets_before_build(target="my-site.dev", project=str(work))
    assert environment["TOKEN"] == CANARY
    receipt = manager.hook.ic_secrets_after_build(status=0)
    assert (receipt["target"], receipt["status"]) == ({"site": "my-site", "environment": "dev"}, 0)
    assert manager.hook.ic_secrets_after_build(status=0) is None
    assert list(private.iterdir()) == []


def test_one_build_at_a_time(site: Cli, work: Path, private: Path) -> None:
    manager = pluggy.PluginManager("pipeline")
    plugin.register(manager)
    manager.hook.ic_secrets_before_build(target="my-site", project=str(work))
    with pytest.raises(BuildError, match="already open"):
        manager.hook.ic_secrets_before_build(target="my-site", project=str(work))
    manager.hook.ic_secrets_after_build(status=1)
    assert list(private.iterdir()) == []


def test_a_wrapper_gives_a_build_hook_its_secrets_and_takes_them_back(site: Cli, work: Path) -> None:
    manager = pluggy.PluginManager("pipeline")
    spec, implement = pluggy.HookspecMarker("pipeline"), pluggy.HookimplMarker("pipeline")

    class Specs:
        @spec(firstresult=True)
        def build(self, target: str, project: str, environment: dict[str, str]) -> int:
            """Build."""

    class Builder:
        seen = ""

        @implement
        def build(self, environment: dict[str, str]) -> int:
            self.seen = environment["TOKEN"]
            return 5

    builder = Builder()
    manager.add_hookspecs(Specs)
    manager.register(builder)
    plugin.wrap(manager, "build", receipt=str(work / "receipt"))
    variables = {"PATH": os.environ["PATH"], "MINE": "x"}
    assert manager.hook.build(target="my-site", project=str(work), environment=variables) == 5
    assert builder.seen == CANARY
    assert variables == {"PATH": os.environ["PATH"], "MINE": "x"}
    assert json.loads((work / "receipt").read_text())["status"] == 5
    with pytest.raises(TypeError, match="no argument place"):
        plugin.wrap(manager, "build", project="place")


def test_a_forked_child_that_leaves_the_block_scrubs_nothing_of_its_parents(site: Cli, private: Path) -> None:
    child = 0
    try:
        with open_build("my-site.dev") as build:
            child = os.fork()
            if child == 0:
                sys.exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            assert list(private.iterdir()) != []
    except SystemExit:
        os._exit(7)
    assert build.receipt is not None
    assert list(private.iterdir()) == []


def test_a_failure_in_a_forked_child_is_not_recorded_as_one_of_the_build(tmp_path: Path) -> None:
    """The record is the parent's, where the build goes on."""
    recorded = tmp_path / "recorded"

    class Record:
        path = None

        def fail(self, error: BaseException) -> None:
            recorded.write_text(str(error))

    build = Build(BuildRequest(Target("my-site", "dev"), (), str(tmp_path), {}), lambda notice: None, Record())
    block = build.recorded()
    block.__enter__()

    def child() -> None:
        assert not block.__exit__(ValueError, ValueError("the child's"), None)

    assert run_in_child(child) == 0
    assert not recorded.exists()
    assert not block.__exit__(ValueError, ValueError("the parent's"), None)
    assert recorded.read_text() == "the parent's"
