"""Checks of the secrets themselves: mistakes that keep them from a build without any error of their own.

They follow the platform's guide to Secrets and Integrated Composer (https://docs.pantheon.io/guides/secrets).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..composer.credential import AUTH_VARIABLE
from ..model.names import NEVER_BUILT
from ..model.resolve import Definition, Verdict
from ..model.secret import Scope, SecretType, format_scopes
from .facts import Facts
from .problem import Problem

_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"


def check_definitions(facts: Facts) -> Iterator[Problem]:
    """Name the definitions that no build can get, though they look as if they were meant for builds."""
    for definition in facts.definitions:
        yield from _check_name(definition)
        if definition.environment is None:
            yield from _check_scope(definition)
        else:
            yield from _check_environment(definition, facts)


def check_unbound(facts: Facts) -> Iterator[Problem]:
    """Name the variables whose values a build gets in spite of its broker."""
    if not facts.is_brokered:
        return
    names = [
        each.name
        for each in facts.definitions
        if each.verdict is Verdict.WON and each.type is SecretType.ENV and each.name in facts.used and not each.hosts
    ]
    if names := [name for name in dict.fromkeys(names) if name != AUTH_VARIABLE]:
        text = f"the build itself gets the value of {', '.join(names)}: bound to hosts, it would get a placeholder"
        yield Problem("note", text, f"`ic-secrets set OWNER {names[0]} --hosts HOST` binds it")


def _check_name(definition: Definition) -> Iterator[Problem]:
    if definition.type is SecretType.ENV and not re.fullmatch(_VARIABLE, definition.name):
        text = f"{definition.name} of {definition.source} cannot be the name of a variable"
        yield Problem("error", text, "an env name has letters, digits and _")


def _check_scope(definition: Definition) -> Iterator[Problem]:
    owner, name, kind = definition.owner, definition.name, definition.type.value
    again = f"`ic-secrets delete {owner} {name}`, then `ic-secrets set {owner} {name} --type {{}} --scope ic`"
    is_for_builds = definition.type is not SecretType.RUNTIME
    if is_for_builds and Scope.IC not in definition.scopes:
        scopes = format_scopes(definition.scopes)
        reason = f"no build can read it: its scope is {scopes}, not ic"
        yield Problem("warning", f"{name} of {definition.source} has the type {kind}, but {reason}", again.format(kind))
    if not is_for_builds and Scope.IC in definition.scopes:
        text = f"{name} of {definition.source} has the scope ic, but no build gets the type runtime"
        yield Problem("note", text, again.format("env"))


def _check_environment(definition: Definition, facts: Facts) -> Iterator[Problem]:
    is_elsewhere = (
        definition.verdict is Verdict.OTHER_ENVIRONMENT and definition.environment != facts.target.environment
    )
    if is_elsewhere and definition.environment in NEVER_BUILT and definition.type is not SecretType.RUNTIME:
        yield Problem(
            "note",
            f"no build sees the override {definition.source} {definition.name}: builds run for dev and multidevs",
            f"`ic-secrets set {definition.owner} {definition.name}` sets the value that builds get",
        )
