"""The files of `hooks/`, as the services check them before they run anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import check_jsonschema
import jsonschema
import pytest

from places import (
    HOOKS,
    load,
)

SCHEMAS = Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor"
SCRIPTS = sorted(path for path in HOOKS.rglob("*") if path.is_file() and path.read_bytes()[:2] == b"#!")


@pytest.mark.parametrize(
    ("file", "schema"),
    [
        ("github/action.yml", "github-actions"),
        ("github/workflow.yml", "github-workflows"),
        ("github/separate-steps.yml", "github-workflows"),
        ("gitlab/.gitlab-ci.yml", "gitlab-ci"),
        ("buildkite/pipeline.yml", "buildkite"),
        ("circleci/config.yml", "circle-ci"),
    ],
)
def test_a_configuration_is_as_the_services_published_schema_wants_it(file: str, schema: str) -> None:
    """The schemas are those that the package check-jsonschema brings with it."""
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--schemafile", SCHEMAS / f"{schema}.json", HOOKS / file],
        capture_output=True,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stdout.decode()


def test_the_schemas_refuse_what_is_wrong() -> None:
    """So that the test above can fail."""
    action = load("github/action.yml")
    del action["runs"]["steps"][0]["shell"]
    schema = json.loads((SCHEMAS / "github-actions.json").read_text())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(action, schema)


def test_buildkites_plugin_takes_what_its_example_gives() -> None:
    """Its configuration is a JSON schema."""
    configuration = load("buildkite/plugin.yml")["configuration"]
    (plugin,) = load("buildkite/pipeline.yml")["steps"][0]["plugins"]
    (given,) = plugin.values()
    jsonschema.validate(given, configuration)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"target": "my-site.dev"}, configuration)


def test_precommit_takes_the_manifest_and_the_configuration() -> None:
    """`pre-commit` itself says so; at the root of the repository, where it looks for it, is the same manifest."""
    for command, file in (
        ("validate-manifest", ".pre-commit-hooks.yaml"),
        ("validate-config", ".pre-commit-config.yaml"),
    ):
        path = HOOKS / "pre-commit" / file
        done = subprocess.run([sys.executable, "-m", "pre_commit", command, path], capture_output=True, timeout=60)
        assert done.returncode == 0, done.stdout.decode()
    assert (HOOKS.parent / ".pre-commit-hooks.yaml").samefile(HOOKS / "pre-commit" / ".pre-commit-hooks.yaml")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_executable_and_its_own_shell_can_parse_it(script: Path) -> None:
    """Every file that begins with `#!`."""
    words = script.read_text().splitlines()[0].removeprefix("#!").split()
    assert os.access(script, os.X_OK)
    subprocess.run([*words, "-n", script], check=True, timeout=10)


def test_every_place_has_a_readme_that_names_it_and_its_files() -> None:
    """Short, with every file of the folder in it."""
    folders = {path for path in HOOKS.iterdir() if path.is_dir() and not path.name.startswith("example-")}
    assert len(folders) >= 11
    overview = (HOOKS / "README.md").read_text()
    for folder in folders:
        text = (folder / "README.md").read_text()
        assert f"({folder.name}/)" in overview
        for file in folder.rglob("*"):
            assert file.is_dir() or file.name in text or file.name == "README.md", f"{folder.name}: {file.name}"
