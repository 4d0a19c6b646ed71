"""What the checks of a plan are asked about, and which credential each repository would get. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from ..composer.methods import METHODS, choose_method, map_hosts
from ..composer.precedence import Source, Winner
from ..composer.project import Project
from ..composer.repositories import Repository
from ..model.resolve import Definition, Verdict
from ..model.secret import SecretType, Target

# Hosts that give everything to everybody.
PUBLIC = frozenset(
    """
    packagist.org repo.packagist.org packages.drupal.org git.drupalcode.org ftp.drupal.org wpackagist.org
    asset-packagist.org downloads.wordpress.org downloads.w.org
    """.split()
)


class Answer(NamedTuple):
    """What a repository said when it was asked; `detail` says more, in words.

    The `outcome` is ok, expired, refused, not found, unreachable, redirected, failed or not asked.
    """

    outcome: str
    detail: str = ""


class Access(NamedTuple):
    """A repository, and what it would get: `status` is covered, own, public, local, ssh, missing or unknown.

    `by` is the secret's name, or the source of the user's or project's own credential. `remedy` says what to type
    where there is none. `answer` is what the repository said, where it was asked.
    """

    repository: Repository
    status: str
    by: str = ""
    remedy: str = ""
    answer: Answer | None = None

    def learn(self, answer: Answer) -> Access:
        """Return it with the answer: what answers without a credential is public, what wants one is not."""
        access = self._replace(answer=answer)
        if self.status in {"missing", "unknown"}:
            if answer.outcome == "ok":
                return access._replace(status="public", remedy="")
            if answer.outcome in {"expired", "refused"}:
                return access._replace(status="missing")
        return access


class Facts(NamedTuple):
    """What is known of a planned run, without any value.

    `definitions` are all that the target's owners have; `used` and `variables` are the names of the secrets that the
    build gets and of its variables. `winners` and `git_logins` say by host what Composer and git would send. `version`
    is Composer's, () where it is not known. `user_auth` is the user's own auth.json. The command `is_assumed` where
    nobody named one. `accesses` has every repository of the project.
    """

    target: Target
    project: Project
    definitions: Sequence[Definition] = ()
    used: Collection[str] = ()
    variables: Collection[str] = ()
    winners: Mapping[str, Winner] = {}
    git_logins: Mapping[str, str] = {}
    version: tuple[int, ...] = ()
    user_auth: Source = Source("", {})
    is_composer: bool = True
    is_assumed: bool = False
    accesses: tuple[Access, ...] = ()

    @property
    def certain(self) -> str:
        """The level of what makes Composer fail: certain only where Composer itself is the command."""
        return "error" if self.is_composer else "warning"


def find_access(repository: Repository, facts: Facts) -> Access:
    """Find what the repository would get."""
    winner, login = facts.winners.get(repository.host), facts.git_logins.get(repository.host)
    if repository.transport == "local":
        return Access(repository, "local")
    if repository.transport == "ssh":
        return Access(repository, "ssh", remedy="use its https:// URL: Composer never sends a credential over SSH")
    if repository.has_login:
        return Access(repository, "own", "its URL")
    if repository.transport == "git" and login:
        return Access(repository, "covered", login)
    if winner:
        return Access(repository, "covered" if winner.source in facts.used else "own", winner.source)
    if repository.host in PUBLIC:
        return Access(repository, "public")
    is_open = repository.host in map_hosts() or repository.kind == "download"
    return Access(repository, "unknown" if is_open else "missing", remedy=_suggest(repository.host, facts))


def list_unused(host: str, facts: Facts) -> list[Definition]:
    """List the definitions that are named like a credential for the host and that the build does not get."""
    named = (definition.name.partition(".") for definition in facts.definitions)
    pairs = zip(facts.definitions, named, strict=True)
    return [d for d, (method, _, rest) in pairs if rest == host and method in METHODS and d.name not in facts.used]


def _suggest(host: str, facts: Facts) -> str:
    """Return the command that would set the credential; first the one that removes what is in its way."""
    unused = list_unused(host, facts)
    if unused and (unused[0].verdict is Verdict.OUT_OF_SCOPE or unused[0].type is not SecretType.COMPOSER):
        owner, name = unused[0].owner, unused[0].name
        return (
            f"`ic-secrets delete {owner} {name}`, since type and scopes never change, then "
            f"`ic-secrets set {owner} {name} --type composer --scope ic`"
        )
    method = choose_method(host, facts.project.sources.forges, facts.version)
    return f"`ic-secrets set {facts.target.site} {method}.{host} --type composer --scope ic`"
