"""The project's own workflows and hooks fit the schemas of those who run them, and name actions by commit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import check_jsonschema
import jsonschema
import pytest
import yaml
from pre_commit.clientlib import load_config, load_manifest

ROOT = Path(__file__).parents[2]
SCHEMAS = Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def load(path: Path) -> Any:
    text = path.read_text()
    # YAML 1.1 takes the key `on` for a truth value.
    return yaml.safe_load(re.sub("^on:", '"on":', text, flags=re.MULTILINE))


def load_schema(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.json").read_text())


def test_there_are_workflows_for_tests_documentation_and_releases() -> None:
    assert [path.stem for path in WORKFLOWS] == ["docs", "release", "tests"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_fits_its_schema(path: Path) -> None:
    jsonschema.validate(load(path), load_schema("github-workflows"))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_an_issue_template_fits_its_schema(path: Path) -> None:
    name = "github-issue-config" if path.stem == "config" else "github-issue-forms"
    jsonschema.validate(load(path), load_schema(name))


def test_the_schemas_refuse_what_is_wrong() -> None:
    """So that the tests above can fail."""
    workflow = load(WORKFLOWS[0])
    del workflow["jobs"]["build"]["runs-on"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(workflow, load_schema("github-workflows"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_each_action_is_pinned_to_a_commit_and_each_workflow_may_only_read(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            assert "uses" not in step or re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]), step


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_each_make_target_of_a_workflow_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    steps = [step for job in load(path)["jobs"].values() for step in job["steps"]]
    called = {target for step in steps for target in re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))}
    assert called <= targets


def test_every_supported_python_is_tested() -> None:
    matrix = load(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["check"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.10", "3.11", "3.12", "3.13", "3.14"]


def test_pre_commit_reads_our_configuration_and_the_hook_that_we_offer() -> None:
    hooks = load_config(str(ROOT / ".pre-commit-config.yaml"))["repos"][0]["hooks"]
    assert [hook["id"] for hook in hooks] == ["ruff", "ruff-format", "mypy"]
    assert [hook["id"] for hook in load_manifest(str(ROOT / ".pre-commit-hooks.yaml"))] == ["ic-secrets-scan"]
