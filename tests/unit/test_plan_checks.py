"""The mistakes that keep a secret from a build are named, each with what to type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ic_secrets.composer.project import read_project
from ic_secrets.model.resolve import Definition, Verdict
from ic_secrets.model.secret import Owner, Scope, SecretType, Target
from ic_secrets.plan.checks import CHECKS
from ic_secrets.plan.facts import Facts
from ic_secrets.plan.problem import Problem
from ic_secrets.plan.project import check_manifest
from ic_secrets.plan.secrets import check_unbound
from ic_secrets.plan.variables import find_variables

BUILD = frozenset({Scope.IC})
WEB = frozenset({Scope.WEB})
COMMAND = ("composer", "install")


def define(name: str, kind: SecretType, scopes: frozenset[Scope] = BUILD, environment: str | None = None) -> Definition:
    verdict = Verdict.WON if Scope.IC in scopes else Verdict.OUT_OF_SCOPE
    verdict = Verdict.OTHER_ENVIRONMENT if environment else verdict
    return Definition(Owner.site("my-site"), environment, name, kind, scopes, None, 1, 0, 0, None, verdict)


def find(directory: Path, *definitions: Definition, environment: dict[str, str] | None = None) -> list[Problem]:
    """What every check but that of a missing composer.json finds."""
    project = read_project(COMMAND, str(directory), {})
    facts = Facts(
        Target.parse("my-site.dev"), project, definitions, variables=find_variables(project, environment or {})
    )
    return [problem for check in CHECKS if check is not check_manifest for problem in check(facts)]


DEFINITIONS = {
    "env without ic": (define("KEY", SecretType.ENV, WEB), "warning", "its scope is web, not ic"),
    "composer without ic": (define("bearer.a.org", SecretType.COMPOSER, WEB), "warning", "its scope is web, not ic"),
    "runtime with ic": (define("KEY", SecretType.RUNTIME), "note", "no build gets the type runtime"),
    "a name that is none": (define("MY-KEY", SecretType.ENV), "error", "cannot be the name of a variable"),
    "an override on live": (define("KEY", SecretType.ENV, BUILD, "live"), "note", "no build sees the override"),
    "an override on test": (define("KEY", SecretType.ENV, BUILD, "test"), "note", "no build sees the override"),
}


@pytest.mark.parametrize("case", DEFINITIONS)
def test_a_secret_that_no_build_reads_is_named(case: str, tmp_path: Path) -> None:
    definition, level, text = DEFINITIONS[case]
    (found,) = find(tmp_path, definition)
    assert (found.level, text in found.text) == (level, True)
    assert found.remedy


def test_with_a_broker_the_variables_that_the_build_still_holds_are_named() -> None:
    held, bound = define("PLAIN", SecretType.ENV), define("BOUND", SecretType.ENV)._replace(hosts=("a.example.org",))
    whole = define("COMPOSER_AUTH", SecretType.ENV)
    names = {"PLAIN", "BOUND", "COMPOSER_AUTH"}
    facts = Facts(Target.parse("my-site.dev"), read_project(COMMAND, "/", {}), (held, bound, whole), names)
    assert not list(check_unbound(facts))
    (found,) = check_unbound(facts._replace(is_brokered=True))
    assert (found.level, "PLAIN:" in found.text, "BOUND" in found.text) == ("note", True, False)


@pytest.mark.parametrize(
    "definition",
    [
        define("KEY", SecretType.ENV),
        define("KEY", SecretType.RUNTIME, WEB),
        define("KEY", SecretType.ENV, BUILD, "pr-1"),
        define("KEY", SecretType.RUNTIME, WEB, "live"),
    ],
    ids=["env", "runtime", "multidev", "runtime-on-live"],
)
def test_what_is_as_it_should_be_is_not_named(definition: Definition, tmp_path: Path) -> None:
    assert find(tmp_path, definition) == []


PHP = {
    "php_version: 7.4": ["pantheon.yml"],
    "api_version: 1\nphp_version: '7.4' # old": ["pantheon.yml"],
    "php_version: 8.0": [],
    "php_version: 8.3": [],
    "php_version: 10.0": [],
    "api_version: 1": ["pantheon.upstream.yml"],
}


@pytest.mark.parametrize("text", PHP, ids=[text.replace("\n", " ") for text in PHP])
def test_an_old_php_is_named_with_its_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "pantheon.yml").write_text(text)
    (tmp_path / "pantheon.upstream.yml").write_text("php_version: 7.3\n")
    assert [found.text.split()[0] for found in find(tmp_path)] == PHP[text]


PLACEHOLDER = {"type": "zip", "url": "https://a.org/x.zip?key={%PLUGIN_KEY}&v={%VERSION}"}
ARCHIVE = {"type": "package", "package": {"name": "a/b", "dist": PLACEHOLDER}}
MANIFESTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "an installer": ({"require": {"pivvenit/acf-pro-installer": "*"}}, ["ACF_PRO_KEY"]),
    "another": ({"require-dev": {"philippbaschke/acf-pro-installer": "*"}}, ["ACF_PRO_KEY"]),
    "a package": ({"require": {"junaidbhura/gravityforms": "*"}}, ["GRAVITY_FORMS_KEY"]),
    "a placeholder": ({"require": {"a/b": "1"}, "repositories": [ARCHIVE]}, ["PLUGIN_KEY"]),
    "one that nothing requires": ({"repositories": [ARCHIVE]}, []),
    "none": ({"require": {"monolog/monolog": "*"}}, []),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_an_installer_without_its_key_is_an_error(case: str, tmp_path: Path) -> None:
    manifest, keys = MANIFESTS[case]
    (tmp_path / "composer.json").write_text(json.dumps(manifest))
    found = find(tmp_path)
    assert [each.remedy.split()[3] for each in found] == keys
    assert {each.level for each in found} <= {"error"}
    assert find(tmp_path, environment=dict.fromkeys(keys, "x")) == []
    (tmp_path / ".env").write_text("".join(f"{key}=x\n" for key in keys))
    assert find(tmp_path) == []


def test_a_key_of_the_wrong_scope_is_told_with_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "composer.json").write_text('{"require": {"pivvenit/acf-pro-installer": "*"}}')
    errors = [each for each in find(tmp_path, define("ACF_PRO_KEY", SecretType.ENV, WEB)) if each.level == "error"]
    assert ["with the type env and the scope web" in each.text for each in errors] == [True]
