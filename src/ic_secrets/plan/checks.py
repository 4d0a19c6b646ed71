"""The registry of checks: each is a function of the facts that yields problems, in the order in which they are shown.

A new check is written in the module of its subject, and listed here. What a run itself refuses or warns of, `plan`
shows as well: it prepares the run by the same steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from . import credentials, project, secrets
from .facts import Facts
from .problem import Problem

Check = Callable[[Facts], Iterable[Problem]]

CHECKS: list[Check] = [
    project.check_manifest,
    credentials.check_repositories,
    credentials.check_committed,
    credentials.check_transport,
    credentials.check_unneeded,
    credentials.check_replaced,
    secrets.check_definitions,
    secrets.check_unbound,
    project.check_paths,
    project.check_variables,
    project.check_php,
]


def find_problems(facts: Facts) -> tuple[Problem, ...]:
    """Ask every check."""
    return tuple(problem for check in CHECKS for problem in check(facts))
