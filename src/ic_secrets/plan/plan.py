"""The plan: what a run would do, and what would fail. No record in it holds a value.

It is made of a dry run, which takes the steps that `run` takes, so that the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..build import BuildRequest, BuildSecret, PreparedBuild
from ..build.receipt import describe_secret
from ..composer.credential import split_secret
from ..composer.precedence import Winner
from ..composer.repositories import Repository
from ..core.records import NamedTuple
from ..model.names import split_composer_name
from ..model.resolve import Definition, Verdict
from ..model.secret import Scope, SecretType, Target, format_scopes
from ..model.variables import inherit
from ..stores.base import Cached, Identity
from .checks import find_problems
from .dry_run import DryRun
from .facts import Access, Answer
from .isolation import PlannedIsolation, plan_isolation
from .problem import LEVELS, Problem


class Row(NamedTuple):
    """One definition of a secret that could matter to the target, what becomes of it, and why.

    `state` is `used`, `unused` (the build gets it, but uses something else), `dropped` or `refused`. A
    `destination` is as in a receipt (docs/receipt.schema.json); only what the build gets has one.
    """

    name: str
    type: str
    scopes: tuple[str, ...]
    source: str
    version: int
    expires: int | None
    state: str
    reason: str
    destination: Mapping[str, object] | None


class Plan(NamedTuple):
    """A run as it would be. `winners` are what Composer would send to each host that it has a credential for.

    `files` are paths below the private directory, `variables` the names of those that the build gets beyond what it
    inherits. `composer` is the installed one's version. `cached` is as in `build.prepare.Loaded`.
    """

    target: Target
    project: str
    command: tuple[str, ...]
    is_assumed: bool
    scope: Scope
    composer: str | None
    store: Identity | None
    cached: Cached | None
    rows: tuple[Row, ...]
    winners: tuple[Winner, ...]
    accesses: tuple[Access, ...]
    files: tuple[str, ...]
    variables: tuple[str, ...]
    problems: tuple[Problem, ...]
    isolation: PlannedIsolation | None = None

    @property
    def would_fail(self) -> bool:
        """Whether the run would not succeed, for all that is known."""
        return any(problem.level == "error" for problem in self.problems)


def make_plan(dry_run: DryRun, answers: Mapping[Repository, Answer] | None = None) -> Plan:
    """Make the plan. `answers` are what the repositories said, where they were asked."""
    request, prepared, facts = dry_run.request, dry_run.prepared, dry_run.facts
    given = _name_known_hosts(facts.accesses, answers or {})
    accesses = tuple(a.learn(given[a.repository]) if a.repository in given else a for a in facts.accesses)
    problems = dry_run.problems
    if request.scope is Scope.IC:  # an application has nothing to do with what Composer needs
        problems += find_problems(facts._replace(accesses=accesses))
    hide = _make_hider(prepared)
    return Plan(
        target=request.target,
        project=hide(prepared.project.directory),
        command=tuple(hide(word) for word in request.command),
        is_assumed=facts.is_assumed,
        scope=request.scope,
        composer=dry_run.version,
        store=prepared.loaded.store,
        cached=prepared.loaded.cached,
        rows=_make_rows(dry_run),
        winners=tuple(facts.winners.values()),
        accesses=tuple(a._replace(repository=a.repository._replace(url=hide(a.repository.url))) for a in accesses),
        files=prepared.file_names,
        variables=prepared.added_variables,
        problems=tuple(
            dict.fromkeys(
                problem._replace(text=hide(problem.text))
                for problem in sorted(problems, key=lambda problem: LEVELS.index(problem.level))
            )
        ),
        isolation=plan_isolation(prepared),
    )


def _name_known_hosts(accesses: tuple[Access, ...], answers: Mapping[Repository, Answer]) -> dict[Repository, Answer]:
    """Return the answers without the name of a host that the project lacks: a server could put anything there."""
    known = {access.repository.host for access in accesses}
    return {
        repository: answer._replace(detail="another host")
        if answer.outcome == "redirected" and answer.detail not in known
        else answer
        for repository, answer in answers.items()
    }


def _make_hider(prepared: PreparedBuild) -> Callable[[str], str]:
    """Return what masks values in words that come from elsewhere: a command, a directory, or a URL may hold one.

    It knows the values of all that was read, also of what the run would not get.
    """
    from ..masking import Exposed, Matcher, derive_all, mask_text

    known = [
        Exposed(each.name, split_secret(each.type, each.name, each.value.reveal()))
        for each in prepared.loaded.definitions
        if each.value is not None
    ]
    matcher = Matcher(derive_all(known))
    return lambda text: mask_text(text, matcher)


def _make_rows(dry_run: DryRun) -> tuple[Row, ...]:
    definitions = dry_run.facts.definitions
    chosen = {definition.name: definition for definition in definitions if definition.verdict is Verdict.WON}
    return tuple(_make_row(d, dry_run, chosen) for d in definitions if d.verdict is not Verdict.OTHER_ENVIRONMENT)


def _make_row(definition: Definition, dry_run: DryRun, chosen: Mapping[str, Definition]) -> Row:
    used = next((secret for secret in dry_run.prepared.secrets if secret.name == definition.name), None)
    destination = None
    if definition.verdict is not Verdict.WON:
        state, reason = "dropped", _explain_drop(definition, chosen, dry_run.request.scope)
    elif used is None:
        state, reason = _explain_absence(definition, dry_run.request)
    else:
        destination = describe_secret(used, dry_run.prepared)["destination"]
        reason = _explain_disuse(used, dry_run)
        state = "unused" if reason else "used"
    return Row(
        name=definition.name,
        type=definition.type.value,
        scopes=tuple(format_scopes(definition.scopes).split(",")),
        source=definition.source,
        version=definition.version,
        expires=definition.expires,
        state=state,
        reason=reason,
        destination=destination,
    )


def _explain_drop(definition: Definition, chosen: Mapping[str, Definition], scope: Scope) -> str:
    winner = chosen.get(definition.name)
    better = winner.source if winner else "another"
    scopes = format_scopes(definition.scopes)
    return {
        Verdict.OVERRIDDEN: f"{better} replaces it",
        Verdict.SHADOWED: f"{better} beats it",
        Verdict.OUT_OF_SCOPE: f"its scope is {scopes}; {_name_reader(scope)} reads {scope.value}",
        Verdict.INERT: "the secret that it belonged to is gone",
    }[definition.verdict]


def _explain_absence(definition: Definition, request: BuildRequest) -> tuple[str, str]:
    if (definition.type is SecretType.RUNTIME) is (request.scope is Scope.IC):
        return "dropped", f"{_name_reader(request.scope)} never gets the type {definition.type.value}"
    if definition.name in request.excluded:
        return "dropped", "left out by --except"
    if request.only is not None and definition.name not in request.only:
        return "dropped", "left out by --only"
    return "refused", "its name or value does not fit its type"


def _name_reader(scope: Scope) -> str:
    return "a build" if scope is Scope.IC else "an application"


def _explain_disuse(secret: BuildSecret, dry_run: DryRun) -> str:
    """Say why the build has the secret but uses something else; return an empty text where it uses the secret."""
    request = dry_run.request
    if secret.type is SecretType.RUNTIME:
        return ""
    if secret.type is SecretType.ENV:
        is_set = secret.name in inherit(request.environment, pristine=request.pristine)
        return "already set, and preserved" if is_set and request.preserve.keeps(secret.name) else ""
    method, host = split_composer_name(secret.name)
    winner = dry_run.facts.winners.get(host)
    is_used = winner is not None and (winner.source, winner.method) == (secret.name, method)
    if is_used:
        return ""
    if winner is None:
        return f"Composer {dry_run.version} does not know {method}"
    if winner.source.startswith(f"{winner.method}."):
        return f"Composer uses {winner.source} alone"
    return f"{winner.method} of {winner.source} beats it"
