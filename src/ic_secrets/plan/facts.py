"""What the checks of a plan are asked about, and which credential each repository would get. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from shlex import quote

from ..composer import Project
from ..composer.methods import METHODS, choose_method, map_hosts
from ..composer.precedence import Source, Winner
from ..composer.products import Need, find_product, is_public
from ..composer.repositories import ARCHIVES, FORGED, Repository
from ..core.records import NamedTuple
from ..model import Scope, SecretType, Target
from ..model.resolve import Definition, Verdict
from .variables import Variables

# Their credentials make Composer take their host for such a forge.
_FORGES = ("github-", "gitlab-", "forgejo-")


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

    `definitions` are all that the target's owners have; `used` are the names of the secrets that the build gets, and
    `variables` what is there for installers. `winners` and `git_logins` say by host what Composer and git would send.
    `version` is Composer's, () where it is not known. `user_auth` is the user's own auth.json. The command `is_assumed`
    where nobody named one. `accesses` has every repository of the project.
    """

    target: Target
    project: Project
    definitions: Sequence[Definition] = ()
    used: Collection[str] = ()
    variables: Variables = Variables()
    winners: Mapping[str, Winner] = {}
    git_logins: Mapping[str, str] = {}
    version: tuple[int, ...] = ()
    user_auth: Source = Source("", {})
    is_composer: bool = True
    is_assumed: bool = False
    accesses: tuple[Access, ...] = ()
    settings: Mapping[str, bool] = {}
    is_brokered: bool = False

    @property
    def certain(self) -> str:
        """The level of what makes Composer fail: certain only where Composer itself is the command."""
        return "error" if self.is_composer else "warning"

    @property
    def allows_http(self) -> bool:
        """Whether Composer asks where there is no TLS."""
        return not self.settings.get("secure-http", True) or self.is_tls_disabled

    @property
    def is_tls_disabled(self) -> bool:
        """Whether Composer's protection of connections is off."""
        return self.settings.get("disable-tls", False)

    def find_needs(self, repository: Repository) -> tuple[Need, ...]:
        """Return the variables that an installer of the repository's package, or of the repository, would take."""
        subjects = {repository.package or repository.url} if repository.package or repository.placeholders else ()
        return tuple(need for need in self.variables.needs if need.package in subjects)


def read_settings(sources: Iterable[Source]) -> dict[str, bool]:
    """Return Composer's settings for TLS as it reads them (`Config::get`); `sources` has the strongest last."""
    names = ("secure-http", "disable-tls")
    found = {name: source.sections[name] for source in sources for name in names if name in source.sections}
    return {name: value != "false" and bool(value) for name, value in found.items()}


def find_access(repository: Repository, facts: Facts) -> Access:
    """Find what the repository would get."""
    winner, login = facts.winners.get(repository.host), facts.git_logins.get(repository.host)
    if repository.transport == "local":
        return Access(repository, "local")
    if repository.own:
        file = "composer.lock" if repository.kind == "download" else "composer.json"
        return Access(repository, "own", "its URL" if repository.own in {"login", "token"} else file)
    needs = facts.find_needs(repository)
    if needs:
        return _find_variables(repository, needs, facts)
    is_forge = winner and winner.method.startswith(_FORGES) and repository.kind in FORGED
    if repository.transport == "ssh" and not (is_forge and repository.web_url != repository.url):
        return Access(repository, "ssh", remedy="use its https:// URL: Composer never sends a credential over SSH")
    if repository.transport == "git" and login:
        return Access(repository, "covered", login)
    if winner:
        return Access(repository, "covered" if winner.source in facts.used else "own", winner.source)
    if is_public(repository.host):
        return Access(repository, "public")
    is_open = repository.host in map_hosts() or repository.kind in ARCHIVES
    is_open = is_open and find_product(repository.host, repository.url) is None
    return Access(repository, "unknown" if is_open else "missing", remedy=_suggest(repository, facts))


def _find_variables(repository: Repository, needs: Sequence[Need], facts: Facts) -> Access:
    """Say what an installer would put into the URL of a package; what it lacks is the subject of another check."""
    places = [facts.variables.find(need) for need in needs]
    if not all(places):
        return Access(repository, "missing", remedy=suggest_variable(needs[places.index("")].names[-1], facts))
    is_ours = all(place.removeprefix("$") in facts.used for place in places)
    by = ", ".join(dict.fromkeys(place.removeprefix("$") for place in places))
    return Access(repository, "covered" if is_ours else "own", by)


def suggest_variable(name: str, facts: Facts) -> str:
    """Return the command that would set the variable; first the one that removes what is in its way."""
    here = (d for d in facts.definitions if d.verdict is not Verdict.OTHER_ENVIRONMENT)
    found = next((d for d in here if d.name == name), None)
    remedy = f"`ic-secrets set {found.owner if found else facts.target.site} {name} --type env --scope ic`"
    if found and not (found.type is SecretType.ENV and Scope.IC in found.scopes):
        remedy = f"`ic-secrets delete {found.owner} {name}`, since type and scopes never change, then {remedy}"
    return remedy


def list_unused(host: str, facts: Facts) -> list[Definition]:
    """List the definitions that are named like a credential for the host and that the build does not get."""
    named = (definition.name.partition(".") for definition in facts.definitions)
    pairs = zip(facts.definitions, named, strict=True)
    return [d for d, (method, _, rest) in pairs if rest == host and method in METHODS and d.name not in facts.used]


def _suggest(repository: Repository, facts: Facts) -> str:
    """Return the command that would set the credential; first the one that removes what is in its way."""
    host = repository.host
    unused = list_unused(host, facts)
    if unused and (unused[0].verdict is Verdict.OUT_OF_SCOPE or unused[0].type is not SecretType.COMPOSER):
        owner, name = unused[0].owner, unused[0].name
        return (
            f"`ic-secrets delete {owner} {name}`, since type and scopes never change, then "
            f"`ic-secrets set {owner} {name} --type composer --scope ic`"
        )
    product = find_product(host, repository.url)
    method = product.method if product else choose_method(host, facts.project.sources.forges, facts.version)
    command = f"`ic-secrets set {facts.target.site} {quote(f'{method}.{host}')} --type composer --scope ic`"
    return f"{command}, with the value `{product.value}` of {product.name}" if product else command
