"""Checks of the project: its composer.json, the variables that its packages need, its version of PHP."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from ..model.resolve import Verdict
from ..model.secret import Scope, SecretType, format_scopes
from .facts import Facts, suggest_variable
from .problem import Problem
from .variables import read_text

_PHP_VERSION = r"(?m)^php_version:[ \t]*['\"]?(\d+)\.(\d+)"
_OLDEST_PHP = (8, 0)


def check_manifest(facts: Facts) -> Iterator[Problem]:
    """Say where composer.json is missing or malformed."""
    path = facts.project.manifest_file
    if not facts.project.has_manifest:
        level = "warning" if facts.is_assumed else facts.certain
        yield Problem(level, f"there is no {path}", "run it where the project is checked out")
    elif not facts.project.is_manifest_valid:
        yield Problem(facts.certain, f"{path} is not valid JSON, or too large", "`composer validate` shows where")


def check_paths(facts: Facts) -> Iterator[Problem]:
    """Name the path repositories that are not there; of one with a pattern or a variable nobody can be sure."""
    sources = facts.project.sources
    for repository in sources.repositories:
        path = os.path.join(facts.project.directory, repository.url)
        is_plain = repository.kind == "path" and not re.search(r"[*?\[{$%~\0]", repository.url)
        if is_plain and not os.path.isdir(path):
            level = facts.certain if sources.locked is None else "warning"
            yield Problem(
                level, f"the path repository {repository.url} does not exist", "check it out beside the project"
            )


def check_variables(facts: Facts) -> Iterator[Problem]:
    """Name the variables that installing the packages needs, and that no place where installers look has."""
    for need in facts.variables.needs:
        if facts.variables.find(need):
            continue
        name = need.names[-1]
        here = (d for d in facts.definitions if d.verdict is not Verdict.OTHER_ENVIRONMENT)
        found = next((d for d in here if d.name in need.names), None)
        text = f"{need.package} needs the variable {' or '.join(need.names[::-1])}"
        if found and found.type is SecretType.ENV and Scope.IC in found.scopes:
            yield Problem("warning", f"{text}, which is left out", "include it: see --only and --except")
            continue
        if found:
            name, kind, scopes = found.name, found.type.value, format_scopes(found.scopes)
            text += f": {found.source} has it with the type {kind} and the scope {scopes}"
        # Some vendors give a download without the site's URL.
        level = "warning" if name.endswith("_URL") and not need.is_placeholder else facts.certain
        yield Problem(level, text, suggest_variable(name, facts))


def check_php(facts: Facts) -> Iterator[Problem]:
    """Say where the platform's PHP is too old for secrets."""
    for name in ("pantheon.yml", "pantheon.upstream.yml"):
        match = re.search(_PHP_VERSION, read_text(os.path.join(facts.project.directory, name)))
        if match:
            if (int(match[1]), int(match[2])) < _OLDEST_PHP:
                text = f"{name} has php_version {match[1]}.{match[2]}: below 8.0 the platform gives builds no secrets"
                yield Problem("warning", text, "set php_version to 8.0 or newer")
            return
