"""A run that is prepared by the steps of a real one, up to its exposure: nothing is exposed or written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from ..build.prepare import Extensions, NoExtensions, PreparedBuild, prepare
from ..build.receipt import check_writable
from ..build.request import BuildRequest
from ..composer.auth_json import Document, drop_hosts, merge_auth, parse_document
from ..composer.command import is_composer
from ..composer.credential import AUTH_VARIABLE, Credential
from ..composer.home import AUTH_FILE, CONFIG_FILE
from ..composer.precedence import Source, Winner, find_winners, order_sources
from ..composer.project import Project, read_auth
from ..composer.repositories import ARCHIVES, FORGED
from ..composer.version import ask_composer_version, parse_version
from ..core import Notice
from ..core.collector import ErrorCollector
from ..core.records import NamedTuple
from ..errors import IcSecretsError
from ..git import find_logins
from ..model import Owner, Scope
from ..model.resolve import trace
from ..process.directory import choose_parent
from ..stores.base import Store, read_visible_chain
from .facts import Facts, find_access, read_settings
from .isolation import check_mentions
from .online import Question
from .problem import Problem
from .variables import find_variables

# What is planned where no command is named.
_USUAL_COMMAND = ("composer", "install")
# The source of what the broker adds to requests.
_BROKER = "the broker"
# What `plan --online` can ask.
_ASKED = frozenset({"composer", "git"}) | FORGED | ARCHIVES


class DryRun(NamedTuple):
    """What a plan is made of, and what the steps of the run said. It holds values; the facts do not."""

    request: BuildRequest
    prepared: PreparedBuild
    version: str | None
    sources: tuple[Source, ...]
    facts: Facts
    problems: tuple[Problem, ...]

    def __repr__(self) -> str:
        return f"DryRun({self.request.target})"


def try_run(store: Store, request: BuildRequest, extensions: Extensions | None = None) -> DryRun:
    """Prepare the run without an end at its first error. StoreErrors and UnknownSiteError are raised."""
    extensions = extensions or NoExtensions()
    notices: list[Notice] = []
    errors = ErrorCollector()
    is_assumed = not request.command
    request = request._replace(command=request.command or _USUAL_COMMAND)
    prepared = prepare(store, request, notices.append, extensions, errors)
    target, project = request.target, prepared.project
    chain, _ = read_visible_chain(store, Owner.site(target.site), target.environment, request.scope)
    if not errors.errors:
        with errors:
            extensions.check_build(prepared)
    if request.receipt:
        with errors:
            check_writable(request.receipt)
    with errors:
        choose_parent(request.environment, [request.directory, project.directory], request.run_dir)
    problems = (*map(Problem.from_error, errors.errors), *map(Problem.from_notice, notices))
    if request.isolate:
        problems += tuple(check_mentions(prepared))
    traced = trace(target.environment, request.scope, chain)
    definitions = tuple(d for name in traced.values() for d in reversed(name))
    facts = Facts(target, project, definitions, is_composer=is_composer(request.command), is_assumed=is_assumed)
    if request.scope is not Scope.IC:
        return DryRun(request, prepared, None, (), facts, problems)
    version = ask_composer_version(prepared.outside, request.directory)
    sources = _list_sources(prepared, project, version)
    if request.broker:
        sources = _put_broker_last(sources, prepared)
    project = project._replace(sources=project.sources.add_repositories(_read_config(prepared)))
    facts = _add_credentials(facts._replace(project=project), prepared, sources, version)
    return DryRun(request, prepared, version, sources, facts, problems)


def list_questions(dry_run: DryRun) -> tuple[Question, ...]:
    """Return what can be asked of the repositories: each with the credential that it would get."""
    facts, logins = dry_run.facts, {login.host: login for login in dry_run.prepared.secrets.logins}
    questions = []
    for repository, status, *_ in facts.accesses:
        is_asked = repository.kind in _ASKED and repository.transport in {"http", "git", "api"}
        is_plain = repository.url.startswith("http://") and not facts.allows_http
        # Composer would not send it in the clear either; a credential of composer.json's own is not known here, and an
        # installer's variable is for the installer to put in.
        if not is_asked or is_plain or status == "public" or repository.own or facts.find_needs(repository):
            continue
        credential = _find_credential(facts.winners.get(repository.host), dry_run.sources)
        login = logins.get(repository.host)
        if login is None and credential:
            with contextlib.suppress(KeyError, TypeError):  # one of the user's own may have any shape
                login = next(iter(find_logins([credential])), None)
        questions.append(Question(repository, credential, login))
    return tuple(questions)


def _add_credentials(facts: Facts, prepared: PreparedBuild, sources: Sequence[Source], version: str | None) -> Facts:
    """Return the facts with what Composer and git would send, and so with what each repository would get."""
    path = os.path.join(prepared.home.path, AUTH_FILE)
    facts = facts._replace(
        used={secret.name for secret in prepared.secrets},
        variables=find_variables(facts.project, prepared.environment.keys(), sources),
        winners=_find_winners(prepared, sources, () if prepared.request.broker else parse_version(version)),
        git_logins={login.host: login.name for login in prepared.secrets.logins},
        version=parse_version(version),
        user_auth=Source(path, _read_auth(path)),
        settings=read_settings(sources),
        is_brokered=prepared.request.broker,
    )
    repositories = facts.project.sources.list_all() if facts.project.has_manifest else ()
    return facts._replace(accesses=tuple(find_access(each, facts) for each in repositories))


def _list_sources(prepared: PreparedBuild, project: Project, version: str | None) -> tuple[Source, ...]:
    """Return what the build's Composer would read credentials from; the auth.json of its home has the secrets'."""
    home = prepared.home.path
    name = os.path.join(home, CONFIG_FILE)
    section = _read_config(prepared).get("config")
    variable = prepared.environment.get("COMPOSER_AUTH")
    sections: Document = {}
    with contextlib.suppress(IcSecretsError):  # whatever cannot be read has been refused already
        sections = parse_document(variable or "{}", "COMPOSER_AUTH")
    return order_sources(
        (
            Source(name, section if isinstance(section, dict) else {}),
            Source(os.path.join(home, AUTH_FILE), prepared.auth),
        ),
        Source("COMPOSER_AUTH", sections) if variable else None,
        (
            Source(project.manifest_file, project.config),
            Source(project.auth_file, _read_auth(project.auth_file)),
        ),
        parse_version(version),
    )


def _put_broker_last(sources: Sequence[Source], prepared: PreparedBuild) -> tuple[Source, ...]:
    """Return the sources as the broker makes them: its credentials replace whatever else there is for their hosts."""
    hosts = prepared.secrets.hosts
    others = (source._replace(sections=drop_hosts(source.sections, hosts)[0]) for source in sources)
    return (*others, Source(_BROKER, merge_auth({}, prepared.secrets.credentials)))


def _read_config(prepared: PreparedBuild) -> Document:
    return prepared.home_files.get(CONFIG_FILE) or _read_auth(os.path.join(prepared.home.path, CONFIG_FILE))


def _find_winners(prepared: PreparedBuild, sources: Sequence[Source], version: tuple[int, ...]) -> dict[str, Winner]:
    """Return the credential of each host; that of a secret has the secret's name as its source."""
    names = {credential.name for credential in prepared.secrets.credentials}
    auth = os.path.join(prepared.home.path, AUTH_FILE)
    winners = {}
    for host, winner in sorted(find_winners(sources, version).items()):
        name = f"{winner.method}.{host}"
        is_ours = winner.source in {auth, AUTH_VARIABLE, _BROKER} and name in names
        winners[host] = winner._replace(source=name) if is_ours else winner
    return winners


def _find_credential(winner: Winner | None, sources: Sequence[Source]) -> Credential | None:
    """Return what Composer would send, from whichever source it takes it."""
    if winner is None:
        return None
    method, host = winner.method, winner.host
    for source in reversed(sources):
        section = source.sections.get(method)
        if isinstance(section, dict) and host in section:
            return Credential(f"{method}.{host}", method, host, section[host])
    return None


def _read_auth(path: str) -> Document:
    with contextlib.suppress(IcSecretsError):  # whatever cannot be read has been refused already
        return read_auth(path)
    return {}
