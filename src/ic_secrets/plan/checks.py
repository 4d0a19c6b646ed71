"""What a run would do, and what would fail: every step of a build up to the exposure, and nothing after it.

`make_plan` calls what `run` calls (`preparation.prepare` and the checks that follow), only that an error ends nothing.
So the plan and the run cannot disagree. Nothing is exposed or written, and no record holds a value.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..build.credentials import Project, read_auth, read_project
from ..build.prepare import BuildRequest, Extensions, NoExtensions, Preparation, list_exposed, prepare
from ..build.receipt import check_writable, describe_secret
from ..build.render import COMPOSER
from ..composer.auth import LOAD_ORDER, Credential, Document, is_composer, parse_document, parse_version
from ..composer.home import AUTH_FILE, CONFIG_FILE
from ..composer.precedence import Source, Winner, find_winners, order_sources
from ..composer.repositories import (
    Answer,
    Circumstances,
    Found,
    Need,
    Repository,
    cover,
    find_faults,
    find_unneeded,
    learn,
    list_hosts,
    list_repositories,
)
from ..composer.version import ask_composer_version
from ..core.notices import Notice
from ..core.refusals import attempt, passes
from ..errors import IcSecretsError
from ..git.helper import find_logins
from ..model.resolve import Definition, Verdict, trace
from ..model.secret import Owner, Scope, SecretType, Target, format_scopes, split_composer_name
from ..model.variables import inherit
from ..process.directory import choose_parent
from ..stores.base import Cached, Identity, Store, read_visible_chain
from .online import Question
from .pitfalls import find_pitfalls

# What is planned where no command is named.
USUAL_COMMAND = ("composer", "install")


class Problem(NamedTuple):
    """Something that a person should know. At `error` the run would fail; else it is a `warning` or a `note`."""

    level: str
    text: str
    remedy: str = ""


class Row(NamedTuple):
    """One definition of a secret that could matter to the target, what becomes of it, and why.

    `state` is `used`, `unused` (the build gets it, and goes by something else), `dropped` or `refused`. A
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
    destination: Mapping[str, Any] | None


class Plan(NamedTuple):
    """A run as it would be. `winners` are what Composer would send to each host that it has a credential for.

    `files` are paths below the private directory, `variables` the names of those that the build gets beyond what it
    inherits. `composer` is the installed one's version. `cached` is as in `Preparation`.
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
    needs: tuple[Need, ...]
    files: tuple[str, ...]
    variables: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def would_fail(self) -> bool:
        """Whether the run would not succeed, for all that is known."""
        return any(problem.level == "error" for problem in self.problems)


class Draft(NamedTuple):
    """What a plan is made of. It holds values; the plan does not."""

    request: BuildRequest
    preparation: Preparation
    project: Project
    definitions: tuple[Definition, ...]
    sources: tuple[Source, ...]
    version: str | None
    needs: tuple[Need, ...]
    problems: tuple[Problem, ...]
    is_assumed: bool

    def __repr__(self) -> str:
        return f"Draft({self.request.target})"


def make_draft(store: Store, request: BuildRequest, extensions: Extensions | None = None) -> Draft:
    """Prepare the run without an end at its first error. StoreErrors and UnknownSiteError are raised."""
    extensions = extensions or NoExtensions()
    problems: list[Problem] = []

    def refuse(error: IcSecretsError) -> None:
        problems.append(Problem("error", str(error), error.hint))

    def notify(notice: Notice) -> None:
        problems.append(Problem(notice.level, notice.text, notice.hint))

    is_assumed = not request.command
    request = request._replace(command=request.command or USUAL_COMMAND)
    preparation = prepare(store, request, notify, extensions, refuse)
    target = request.target
    chain, _ = read_visible_chain(store, Owner.site(target.site), target.environment, request.scope)
    if not problems or all(problem.level != "error" for problem in problems):
        passes(refuse, extensions.check_build, preparation)
    if request.receipt:
        passes(refuse, check_writable, request.receipt)
    passes(refuse, choose_parent, request.environment, [request.directory, preparation.project], request.run_dir)
    project = read_project(request.command, request.directory, request.environment)
    is_build = request.scope is Scope.IC
    version = ask_composer_version(request.environment, request.directory) if is_build else None
    traced = trace(request.target.environment, request.scope, chain)
    definitions = tuple(d for name in traced.values() for d in reversed(name))
    sources = _list_sources(preparation, project, version) if is_build else ()
    draft = Draft(request, preparation, project, definitions, sources, version, (), tuple(problems), is_assumed)
    if not is_build or not os.path.exists(project.manifest_file):
        return draft
    at = describe(draft)
    return draft._replace(needs=tuple(cover(each, at) for each in list_repositories(project.manifest, project.lock)))


def list_questions(draft: Draft) -> tuple[Question, ...]:
    """The repositories that can be asked whether they take what they would get, each with that."""
    winners = _list_winners(draft)
    logins = {login.host: login for login in draft.preparation.logins}
    questions = []
    for need in draft.needs:
        repository = need.repository
        is_asked = repository.kind in {"composer", "vcs", "git"} and repository.transport in {"http", "git", "api"}
        is_open = repository.url.startswith("http://") and draft.project.config.get("secure-http") is not False
        # Composer would not send it in the clear either; a login in the URL is not known here.
        if not is_asked or is_open or need.status == "public" or repository.has_login:
            continue
        credential = _find_credential(winners.get(repository.host), draft)
        login = logins.get(repository.host)
        if login is None and credential:
            with contextlib.suppress(KeyError, TypeError):  # one of the user's own may have any shape
                login = next(iter(find_logins([credential])), None)
        questions.append(Question(repository, credential, login))
    return tuple(questions)


def make_plan(draft: Draft, answers: Mapping[Repository, Answer] | None = None) -> Plan:
    """The plan, without a value. `answers` are what the repositories said, where they were asked."""
    preparation = draft.preparation
    given = _name_known_hosts(draft, answers or {})
    needs = tuple(learn(need, given[need.repository]) if need.repository in given else need for need in draft.needs)
    problems = list(draft.problems)
    if draft.request.scope is Scope.IC:  # what Composer needs is no business of an application's
        problems += [Problem(*each) for each in (*_judge_needs(draft, needs), *_find_pitfalls(draft))]
    inherited = inherit(draft.request.environment)
    changed = {name for name, value in preparation.environment.items() if inherited.get(name) != value}
    problems.sort(key=lambda problem: ("error", "warning", "note").index(problem.level))
    hide = _make_hider(preparation)
    return Plan(
        target=draft.request.target,
        project=hide(preparation.project),
        command=tuple(hide(word) for word in draft.request.command),
        is_assumed=draft.is_assumed,
        scope=draft.request.scope,
        composer=draft.version,
        store=preparation.store,
        cached=preparation.cached,
        rows=_make_rows(draft),
        winners=tuple(_list_winners(draft).values()),
        needs=tuple(n._replace(repository=n.repository._replace(url=hide(n.repository.url))) for n in needs),
        files=tuple(sorted(preparation.files)),
        variables=tuple(sorted({*changed, *preparation.paths})),
        problems=tuple(dict.fromkeys(problem._replace(text=hide(problem.text)) for problem in problems)),
    )


def _name_known_hosts(draft: Draft, answers: Mapping[Repository, Answer]) -> dict[Repository, Answer]:
    """The answers without the name of a host that the project does not: who answers could put anything there."""
    known = {need.repository.host for need in draft.needs}
    return {
        repository: answer._replace(detail="another host")
        if answer.outcome == "redirected" and answer.detail not in known
        else answer
        for repository, answer in answers.items()
    }


def _make_hider(preparation: Preparation) -> Callable[[str], str]:
    """What masks values in words that come from elsewhere: a command, a directory, or a URL may hold one.

    Those of all that was read, for whoever asks what a run would do has not asked to see what it would be denied.
    """
    from ..masking.masker import mask_text
    from ..masking.matcher import Matcher
    from ..masking.needles import derive_all

    known = [definition for definition in preparation.loaded if definition.value is not None]
    matcher = Matcher(derive_all(list_exposed(known)))
    return lambda text: mask_text(text, matcher)


# --- the secrets ------------------------------------------------------------------------------------


def _make_rows(draft: Draft) -> tuple[Row, ...]:
    winners = _list_winners(draft)
    chosen = {definition.name: definition for definition in draft.definitions if definition.verdict is Verdict.WON}
    return tuple(
        _make_row(definition, draft, chosen, winners)
        for definition in draft.definitions
        if definition.verdict is not Verdict.OTHER_ENVIRONMENT
    )


def _make_row(
    definition: Definition, draft: Draft, chosen: Mapping[str, Definition], winners: Mapping[str, Winner]
) -> Row:
    used = next((secret for secret in draft.preparation.secrets if secret.name == definition.name), None)
    destination = None
    if definition.verdict is not Verdict.WON:
        state, reason = "dropped", _explain_drop(definition, chosen, draft.request.scope)
    elif used is None:
        state, reason = _explain_absence(definition, draft.request)
    else:
        destination = describe_secret(used, draft.preparation)["destination"]
        reason = _explain_disuse(used, draft, winners)
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
        return "dropped", f"{_name_reader(request.scope)} gets nothing of the type {definition.type.value}"
    if definition.name in request.excluded:
        return "dropped", "left out by --except"
    if request.only is not None and definition.name not in request.only:
        return "dropped", "left out by --only"
    return "refused", "it cannot become what its type says"


def _name_reader(scope: Scope) -> str:
    return "a build" if scope is Scope.IC else "an application"


def _explain_disuse(secret: Definition, draft: Draft, winners: Mapping[str, Winner]) -> str:
    """Why the build has the secret and goes by something else; empty where it goes by the secret."""
    request = draft.request
    if secret.type is SecretType.RUNTIME:
        return ""
    if secret.type is SecretType.ENV:
        is_set = secret.name in inherit(request.environment, pristine=request.pristine)
        return "is set already, and preserved" if is_set and request.preserve.keeps(secret.name) else ""
    method, host = split_composer_name(secret.name)
    winner = winners.get(host)
    if host in draft.preparation.git_alone or (winner and (winner.source, winner.method) == (secret.name, method)):
        return ""
    if winner is None:
        return f"Composer {draft.version} does not know {method}"
    if winner.source.startswith(f"{winner.method}."):
        return f"Composer uses {winner.source} alone"
    return f"{winner.method} of {winner.source} beats it"


# --- the project ------------------------------------------------------------------------------------


def describe(draft: Draft) -> Circumstances:
    """What the project's needs are matched with."""
    return Circumstances(
        target=draft.request.target,
        winners=_list_winners(draft),
        git_logins={login.host: login.name for login in draft.preparation.logins},
        used={secret.name for secret in draft.preparation.secrets},
        definitions=draft.definitions,
        config=draft.project.config,
        version=parse_version(draft.version),
        is_composer=is_composer(draft.request.command),
    )


def _judge_needs(draft: Draft, needs: Sequence[Need]) -> list[Found]:
    """What of the project's needs goes wrong, and what nothing needs."""
    project = draft.project
    if not os.path.exists(project.manifest_file):
        level = "error" if is_composer(draft.request.command) and not draft.is_assumed else "warning"
        return [Found(level, f"there is no {project.manifest_file}", "run it where the project is checked out")]
    if not project.manifest and not passes(_ignore, read_auth, project.manifest_file):
        level = "error" if is_composer(draft.request.command) else "warning"
        return [Found(level, f"{project.manifest_file} is not valid JSON", "`composer validate` shows where")]
    at = describe(draft)
    hosts = list_hosts((need.repository for need in needs), project.lock)
    unneeded = find_unneeded(hosts, at, has_lock=project.lock is not None)
    return [*find_faults(needs, at), *unneeded, *_find_replaced(draft)]


def _find_credential(winner: Winner | None, draft: Draft) -> Credential | None:
    """What Composer would send, from whichever source it takes it."""
    if winner is None:
        return None
    method, host = winner.method, winner.host
    for source in reversed(draft.sources):
        section = source.sections.get(method)
        if isinstance(section, dict) and host in section:
            return Credential(f"{method}.{host}", method, host, section[host])
    return None


def _find_replaced(draft: Draft) -> Iterator[Found]:
    """The user's own credentials that the build does not see, since a secret is for their host."""
    path = os.path.join(draft.preparation.home.path, AUTH_FILE)
    auth: Document = attempt(_ignore, lambda: read_auth(path), {})
    for secret in _list_credentials(draft.preparation):
        host = split_composer_name(secret.name)[1]
        methods = [m for m in LOAD_ORDER if isinstance(auth.get(m), dict) and host in auth[m]]
        if methods:
            yield Found("note", f"{path} also has {', '.join(methods)} for {host}; the secret is used instead")


def _find_pitfalls(draft: Draft) -> list[Found]:
    return list(
        find_pitfalls(
            draft.request.target,
            draft.definitions,
            draft.project,
            draft.preparation.environment,
            is_composer=is_composer(draft.request.command),
        )
    )


# --- the sources of credentials ---------------------------------------------------------------------


def _list_sources(preparation: Preparation, project: Project, version: str | None) -> tuple[Source, ...]:
    """What the build's Composer would read credentials from; the auth.json of its home has those of the secrets."""
    home = preparation.home.path
    auth = parse_document(preparation.files[f"{COMPOSER}/{AUTH_FILE}"].decode(), AUTH_FILE)
    name = os.path.join(home, CONFIG_FILE)
    copied = preparation.files.get(f"{COMPOSER}/{CONFIG_FILE}")
    empty: Document = {}
    config = parse_document(copied.decode(), name) if copied else attempt(_ignore, lambda: read_auth(name), empty)
    section = config.get("config")
    variable = preparation.environment.get("COMPOSER_AUTH")
    sections: Document = attempt(_ignore, lambda: parse_document(variable or "{}", "COMPOSER_AUTH"), {})
    return order_sources(
        (
            Source(name, section if isinstance(section, dict) else {}),
            Source(os.path.join(home, AUTH_FILE), auth),
        ),
        Source("COMPOSER_AUTH", sections) if variable else None,
        (
            Source(project.manifest_file, project.config),
            Source(project.auth_file, attempt(_ignore, lambda: read_auth(project.auth_file), {})),
        ),
        parse_version(version),
    )


def _ignore(error: IcSecretsError) -> None:
    """What cannot be read has been refused already."""


def _list_credentials(preparation: Preparation) -> Sequence[Definition]:
    return [secret for secret in preparation.secrets if secret.type is SecretType.COMPOSER]


def _list_winners(draft: Draft) -> dict[str, Winner]:
    """The credential of each host; that of a secret has the secret's name as its source."""
    names = {secret.name for secret in _list_credentials(draft.preparation)}
    auth = os.path.join(draft.preparation.home.path, AUTH_FILE)
    winners = {}
    for host, winner in sorted(find_winners(draft.sources, parse_version(draft.version)).items()):
        name = f"{winner.method}.{host}"
        is_ours = winner.source == auth and name in names
        winners[host] = winner._replace(source=name) if is_ours else winner
    return winners
