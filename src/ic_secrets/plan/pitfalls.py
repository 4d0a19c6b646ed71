"""The mistakes that keep secrets from a build without any error of their own.

They follow the platform's pages on what goes wrong with Secrets and Integrated Composer
(https://docs.pantheon.io/guides/secrets): each is told with what to type.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ..build.credentials import Project
from ..composer.auth import Document
from ..composer.needs import iterate_repositories
from ..composer.repositories import Found, list_packages
from ..core.files import read_regular
from ..model.resolve import Definition, Verdict
from ..model.secret import Scope, SecretType, Target, format_scopes

# Installers and packages that read a licence key from a variable.
_KEYS = {
    "pivvenit/acf-pro-installer": "ACF_PRO_KEY",
    "philippbaschke/acf-pro-installer": "ACF_PRO_KEY",
    "junaidbhura/advanced-custom-fields-pro": "ACF_PRO_KEY",
    "junaidbhura/gravityforms": "GRAVITY_FORMS_KEY",
}
# `{%VARIABLE}` in a URL, as ffraenz/private-composer-installer replaces it.
_PLACEHOLDER = r"\{%([A-Za-z_][A-Za-z0-9_]*)\}"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
_PHP = r"(?m)^php_version:[ \t]*['\"]?(\d+)\.(\d+)"
_OLDEST_PHP = (8, 0)
# Such files have a few lines.
_LARGEST = 1 << 20


def find_pitfalls(
    target: Target,
    definitions: Sequence[Definition],
    project: Project,
    environment: Mapping[str, str],
    *,
    is_composer: bool,
) -> Iterator[Found]:
    """All of them; `environment` is that of the build."""
    for definition in definitions:
        yield from _check_definition(definition, target)
    yield from _check_keys(target, definitions, project, environment, is_composer=is_composer)
    yield from _check_php(project.directory)


def _check_definition(definition: Definition, target: Target) -> Iterator[Found]:
    owner, name = definition.owner, definition.name
    again = f"`ic-secrets delete {owner} {name}`, then `ic-secrets set {owner} {name} --type T --scope ic`"
    is_base = definition.environment is None
    if definition.type is SecretType.ENV and not re.fullmatch(_VARIABLE, name):
        yield Found(
            "error", f"{name} of {definition.source} can be no variable", "an env name has letters, digits and _"
        )
    is_for_builds = definition.type is not SecretType.RUNTIME
    if is_base and is_for_builds and Scope.IC not in definition.scopes:
        kind, scopes = definition.type.value, format_scopes(definition.scopes)
        yield Found(
            "warning",
            f"{name} of {definition.source} has the type {kind}, and no build reads it: its scope is {scopes}, not ic",
            again.replace("T --scope", f"{kind} --scope"),
        )
    if is_base and not is_for_builds and Scope.IC in definition.scopes:
        yield Found(
            "note",
            f"{name} of {definition.source} has the scope ic, and no build reads it: it has the type runtime",
            again.replace("--type T", "--type env"),
        )
    is_elsewhere = definition.verdict is Verdict.OTHER_ENVIRONMENT and definition.environment != target.environment
    if definition.environment in {"test", "live"} and is_elsewhere and is_for_builds:
        yield Found(
            "note",
            f"the override {definition.source} {name} is seen by no build: those run for dev and multidevs",
            f"`ic-secrets set {owner} {name}` sets the value that builds get",
        )


def _check_keys(
    target: Target,
    definitions: Sequence[Definition],
    project: Project,
    environment: Mapping[str, str],
    *,
    is_composer: bool,
) -> Iterator[Found]:
    known = {*environment, *_list_dotenv(project.directory)}
    for variable, package in _list_variables(project).items():
        if variable in known:
            continue
        here = (d for d in definitions if d.verdict is not Verdict.OTHER_ENVIRONMENT)
        wrong = next((d for d in here if d.name == variable), None)
        if wrong and wrong.type is SecretType.ENV and Scope.IC in wrong.scopes:
            yield Found("warning", f"{package} needs the variable {variable}, which is left out", "do not leave it out")
            continue
        text = f"{package} needs the variable {variable}"
        if wrong:
            text += (
                f": {wrong.source} has it with the type {wrong.type.value} and the scope {format_scopes(wrong.scopes)}"
            )
        owner = wrong.owner if wrong else target.site
        remedy = f"`ic-secrets set {owner} {variable} --type env --scope ic`"
        if wrong:
            remedy = f"`ic-secrets delete {owner} {variable}`, since type and scopes never change, then {remedy}"
        yield Found("error" if is_composer else "warning", text, remedy)


def _list_variables(project: Project) -> dict[str, str]:
    """The variables that installing needs, each with the package that needs it."""
    found: dict[str, str] = {}
    names = {*_required(project.manifest, "require"), *_required(project.manifest, "require-dev")}
    for package in list_packages(project.lock):
        names.add(str(package.get("name")))
        found |= dict.fromkeys(_list_placeholders(package), str(package.get("name")))
    for entry in iterate_repositories(project.manifest):
        inline = entry.get("package")
        for each in inline if isinstance(inline, list) else [inline]:
            if isinstance(each, dict) and str(each.get("name")) in names:
                found |= dict.fromkeys(_list_placeholders(each), str(each.get("name")))
    return found | {_KEYS[name]: name for name in sorted(names & _KEYS.keys())}


def _list_placeholders(package: Document) -> list[str]:
    dist = package.get("dist")
    names = re.findall(_PLACEHOLDER, str(dist.get("url"))) if isinstance(dist, dict) else []
    return [name for name in names if name != "VERSION"]  # which is the package's own


def _required(manifest: Document, section: str) -> Collection[str]:
    required: Any = manifest.get(section)
    return required.keys() if isinstance(required, dict) else ()


def _list_dotenv(directory: str) -> list[str]:
    """The names in the project's .env, which such installers read too."""
    return re.findall(rf"(?m)^\s*(?:export\s+)?({_VARIABLE})\s*=\s*\S", _read(os.path.join(directory, ".env")))


def _check_php(directory: str) -> Iterator[Found]:
    for name in ("pantheon.yml", "pantheon.upstream.yml"):
        match = re.search(_PHP, _read(os.path.join(directory, name)))
        if match:
            if (int(match[1]), int(match[2])) < _OLDEST_PHP:
                yield Found(
                    "warning",
                    f"{name} has php_version {match[1]}.{match[2]}: below 8.0 the platform gives a build no secrets",
                    "set php_version to 8.0 or newer",
                )
            return


def _read(path: str) -> str:
    """The text; empty where there is none that can be read."""
    try:
        return (read_regular(path, _LARGEST) or b"").decode(errors="replace")
    except OSError:
        return ""
