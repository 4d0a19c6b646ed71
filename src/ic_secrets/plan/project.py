"""Checks of the project: its composer.json, the variables that its packages need, its version of PHP."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from ..composer.repositories import PackageSources
from ..core.files import read_regular
from ..model.resolve import Verdict
from ..model.secret import Scope, SecretType, format_scopes
from .facts import Facts
from .problem import Problem

# Installers and packages that read a licence key from a variable.
_KEYS = {
    "pivvenit/acf-pro-installer": "ACF_PRO_KEY",
    "philippbaschke/acf-pro-installer": "ACF_PRO_KEY",
    "junaidbhura/advanced-custom-fields-pro": "ACF_PRO_KEY",
    "junaidbhura/gravityforms": "GRAVITY_FORMS_KEY",
}
_DOTENV_LINE = r"(?m)^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*\S"
_PHP_VERSION = r"(?m)^php_version:[ \t]*['\"]?(\d+)\.(\d+)"
_OLDEST_PHP = (8, 0)
# Such files have a few lines.
_LARGEST = 1 << 20


def check_manifest(facts: Facts) -> Iterator[Problem]:
    """Say where composer.json is missing or malformed."""
    path = facts.project.manifest_file
    if not facts.project.has_manifest:
        level = "warning" if facts.is_assumed else facts.certain
        yield Problem(level, f"there is no {path}", "run it where the project is checked out")
    elif not facts.project.is_manifest_valid:
        yield Problem(facts.certain, f"{path} is not valid JSON", "`composer validate` shows where")


def check_variables(facts: Facts) -> Iterator[Problem]:
    """Name the variables that installing the packages needs, and that neither the build nor the project's .env has."""
    known = {*facts.variables, *re.findall(_DOTENV_LINE, _read(os.path.join(facts.project.directory, ".env")))}
    for variable, package in _list_variables(facts.project.sources).items():
        if variable in known:
            continue
        here = (d for d in facts.definitions if d.verdict is not Verdict.OTHER_ENVIRONMENT)
        found = next((d for d in here if d.name == variable), None)
        text = f"{package} needs the variable {variable}"
        remedy = f"`ic-secrets set {found.owner if found else facts.target.site} {variable} --type env --scope ic`"
        if found and found.type is SecretType.ENV and Scope.IC in found.scopes:
            yield Problem("warning", f"{text}, which is left out", "include it: see --only and --except")
            continue
        if found:
            kind, scopes = found.type.value, format_scopes(found.scopes)
            text += f": {found.source} has it with the type {kind} and the scope {scopes}"
            remedy = f"`ic-secrets delete {found.owner} {variable}`, since type and scopes never change, then {remedy}"
        yield Problem(facts.certain, text, remedy)


def check_php(facts: Facts) -> Iterator[Problem]:
    """Say where the platform's PHP is too old for secrets."""
    for name in ("pantheon.yml", "pantheon.upstream.yml"):
        match = re.search(_PHP_VERSION, _read(os.path.join(facts.project.directory, name)))
        if match:
            if (int(match[1]), int(match[2])) < _OLDEST_PHP:
                text = f"{name} has php_version {match[1]}.{match[2]}: below 8.0 the platform gives builds no secrets"
                yield Problem("warning", text, "set php_version to 8.0 or newer")
            return


def _list_variables(sources: PackageSources) -> dict[str, str]:
    """Return the variables that installing needs, each with the package that needs it."""
    locked = sources.locked or ()
    names = sources.required | {package.name for package in locked}
    needing = [*locked, *(package for package in sources.inline if package.name in names)]
    found = {variable: package.name for package in needing for variable in package.placeholders}
    return found | {_KEYS[name]: name for name in sorted(names & _KEYS.keys())}


def _read(path: str) -> str:
    """Return the text; an empty one where it cannot be read."""
    try:
        return (read_regular(path, _LARGEST) or b"").decode(errors="replace")
    except OSError:
        return ""
