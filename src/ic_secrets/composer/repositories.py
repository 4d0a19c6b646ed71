"""What a project needs credentials for, and whether it has them. Pure.

The repositories of composer.json, and the hosts that composer.lock downloads from besides, each matched with what
Composer and git would send there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..model.resolve import Definition, Verdict
from ..model.secret import SecretType, Target, format_scopes
from .auth import METHODS, Document
from .needs import API_HOSTS, iterate_repositories, list_strings
from .precedence import Winner

# Hosts that give everything to everybody.
PUBLIC = frozenset(
    """
    packagist.org repo.packagist.org packages.drupal.org git.drupalcode.org ftp.drupal.org wpackagist.org
    asset-packagist.org downloads.wordpress.org downloads.w.org
    """.split()
)
# Hosts that give nothing without a credential.
PRIVATE = frozenset(
    """
    repo.packagist.com repo.magento.com connect.advancedcustomfields.com nova.laravel.com composer.deliciousbrains.com
    composer.fluxui.dev satis.spatie.be
    """.split()
)
_ALIASES = {"api.github.com": "github.com", "codeload.github.com": "github.com", "api.bitbucket.org": "bitbucket.org"}
_URL = r"(?i)([a-z][a-z0-9+.-]*)://([^/?#]+)([^?#]*)"
_SSH = r"(?i)(?:ssh://)?(?:git@)?([\w.-]+)[:/].*"
_FORGEJO = (2, 9)


class Repository(NamedTuple):
    """Somewhere that packages come from. `transport` is `http`, `api` (of a forge), `git`, `ssh` or `local`.

    `url` is without a login and a query; `kind` is Composer's type, or `download` for a host of the lock file.
    """

    kind: str
    url: str
    host: str
    transport: str
    has_login: bool = False


class Answer(NamedTuple):
    """What a repository said; `detail` says more, in words.

    The `outcome` is ok, expired, refused, not found, unreachable, redirected, failed or not asked.
    """

    outcome: str
    detail: str = ""


class Need(NamedTuple):
    """A repository, and what it gets: `status` is covered, own, public, local, ssh, missing or unknown.

    `by` is the secret's name, or the source of the user's or project's own credential. `remedy` says what to type
    where there is none. `answer` is what it said, where it was asked.
    """

    repository: Repository
    status: str
    by: str = ""
    remedy: str = ""
    answer: Answer | None = None


class Found(NamedTuple):
    """A problem, as `plan.Problem`."""

    level: str
    text: str
    remedy: str = ""


class Circumstances(NamedTuple):
    """What needs are matched with: who wins for each host, the secrets that git gets, and all definitions."""

    target: Target
    winners: Mapping[str, Winner]
    git_logins: Mapping[str, str]
    used: Collection[str]
    definitions: Sequence[Definition]
    config: Document
    version: tuple[int, ...]
    is_composer: bool


def list_repositories(manifest: Document, lock: Document | None) -> tuple[Repository, ...]:
    """Those of composer.json in its order, Packagist unless it is turned off, and what the lock file adds."""
    apis = API_HOSTS | list_strings(manifest.get("config"), "github-domains", "gitlab-domains")
    found = []
    for entry in iterate_repositories(manifest):
        kind = str(entry.get("type"))
        if kind == "package":
            packages = entry.get("package")
            for package in packages if isinstance(packages, list) else [packages]:
                found += _list_downloads(package, "package", apis)
        elif isinstance(entry.get("url"), str):
            found.append(_make_repository(kind, entry["url"], apis))
    if not _is_packagist_off(manifest):
        found.append(Repository("composer", "https://repo.packagist.org", "repo.packagist.org", "http"))
    known = {repository.host for repository in found}
    for package in list_packages(lock):
        if "packagist.org" not in str(package.get("notification-url")):
            further = [each for each in _list_downloads(package, "download", apis) if each.host not in known]
            found += further
            known |= {each.host for each in further}
    return tuple(dict.fromkeys(found))


def list_hosts(repositories: Iterable[Repository], lock: Document | None) -> frozenset[str]:
    """Every host that may be asked, those of public packages included: GitHub counts even those requests."""
    hosts = {repository.host for repository in repositories}
    for package in list_packages(lock):
        hosts |= {each.host for each in _list_downloads(package, "download", API_HOSTS)}
    return frozenset(hosts | {"github.com"} if "repo.packagist.org" in hosts and lock is None else hosts)


def cover(repository: Repository, at: Circumstances) -> Need:
    """What the repository would get."""
    winner, login = at.winners.get(repository.host), at.git_logins.get(repository.host)
    if repository.transport == "local":
        return Need(repository, "local")
    if repository.transport == "ssh":
        return Need(repository, "ssh", remedy="use its https:// URL: an ssh one never gets a credential of Composer's")
    if repository.has_login:
        return Need(repository, "own", "its URL")
    if repository.transport == "git" and login:
        return Need(repository, "covered", login)
    if winner:
        return Need(repository, "covered" if winner.source in at.used else "own", winner.source)
    if repository.host in PUBLIC:
        return Need(repository, "public")
    remedy = suggest(repository.host, at)
    is_open = repository.host in API_HOSTS or repository.kind == "download"
    return Need(repository, "unknown" if is_open else "missing", remedy=remedy)


def learn(need: Need, answer: Answer) -> Need:
    """The need after the repository was asked: what answers without a credential is public, what wants one is not."""
    need = need._replace(answer=answer)
    if need.status in {"missing", "unknown"}:
        if answer.outcome == "ok":
            return need._replace(status="public", remedy="")
        if answer.outcome in {"expired", "refused"}:
            return need._replace(status="missing")
    return need


def suggest(host: str, at: Circumstances) -> str:
    """The command that would set the credential; first the one that removes what is in its way."""
    method = _choose_method(host, at)
    wrong = next((d for d in at.definitions if _is_for(d, host) and d.name not in at.used), None)
    if (wrong and wrong.verdict is Verdict.OUT_OF_SCOPE) or (wrong and wrong.type is not SecretType.COMPOSER):
        return (
            f"`ic-secrets delete {wrong.owner} {wrong.name}`, since type and scopes never change, then "
            f"`ic-secrets set {wrong.owner} {wrong.name} --type composer --scope ic`"
        )
    return f"`ic-secrets set {at.target.site} {method}.{host} --type composer --scope ic`"


def find_faults(needs: Iterable[Need], at: Circumstances) -> Iterator[Found]:
    """What of the needs goes wrong, or may."""
    told = set()
    for need in needs:
        host = need.repository.host
        if need.repository.has_login:
            yield Found("warning", f"composer.json has a login in the URL of {host}", "keep it as a secret instead")
        if need.status == "ssh":
            yield Found("warning", f"{need.repository.url} is asked by SSH, which no secret is for", need.remedy)
        if need.answer and need.status not in {"missing", "unknown"}:
            yield from _judge_answer(need, need.answer, at)
        elif need.status in {"missing", "unknown"} and (host, need.status) not in told:
            told.add((host, need.status))
            yield _judge(need, at)


def find_unneeded(hosts: Collection[str], at: Circumstances, *, has_lock: bool) -> Iterator[Found]:
    """The credentials that nothing needs, as far as composer.json and composer.lock tell."""
    for definition in at.definitions:
        if definition.verdict is not Verdict.WON or definition.name not in at.used:
            continue
        if definition.type is SecretType.COMPOSER and definition.name.partition(".")[2] not in hosts:
            where = "composer.json and composer.lock" if has_lock else "composer.json (there is no composer.lock)"
            yield Found("note", f"nothing in {where} needs {definition.name} ({definition.source})")


def _judge(need: Need, at: Circumstances) -> Found:
    host = need.repository.host
    wrong = [d for d in at.definitions if _is_for(d, host) and d.name not in at.used]
    text = f"{need.repository.url} has no credential"
    for definition in wrong[:1]:
        if definition.type is not SecretType.COMPOSER:
            what = f"has the type {definition.type.value}, not composer"
        elif definition.verdict is Verdict.OUT_OF_SCOPE:
            what = f"has the scope {format_scopes(definition.scopes)}, without ic"
        else:
            what = "is not used"
        text += f": {definition.name} of {definition.source} {what}"
    if need.status == "unknown":
        return Found("note", f"{text}; that is right only if it is public", need.remedy)
    has_asked = need.answer is not None and need.answer.outcome in {"expired", "refused"}
    if need.answer and not has_asked:
        text += f", and {_tell(need.answer)}"
    elif has_asked:
        text += ", and it asks for one"
    is_certain = (host in PRIVATE or bool(wrong) or has_asked) and at.is_composer
    return Found("error" if is_certain else "warning", text, need.remedy)


def _judge_answer(need: Need, answer: Answer, at: Circumstances) -> Iterator[Found]:
    """What it means that the repository said so to the credential that it would get."""
    url, by = need.repository.url, need.by or "what it needs not"
    secret = next((d for d in at.definitions if d.name == by and d.verdict is Verdict.WON), None)
    renew = f"`ic-secrets set {secret.source} {by}` sets a new value" if secret else f"renew it in {by}"
    if answer.outcome == "expired":
        yield Found("error", f"{url} does not take {by} (401): it has expired, or is wrong", renew)
    elif answer.outcome == "refused":
        remedy = "ask its owner for the right to read it, or take another credential"
        yield Found("error", f"{url} refuses {by} (403): it may not read this", remedy)
    elif answer.outcome == "not found":
        remedy = "look at its URL; some hosts say so too where a credential may not read"
        yield Found("error", f"{url} is not there for {by} (404)", remedy)
    elif answer.outcome == "unreachable":
        yield Found("error", f"{url} cannot be reached: {answer.detail}")
    elif answer.outcome == "redirected":
        text = f"{url} leads on to {answer.detail}, where its credential is not sent"
        yield Found("warning", text, "name the place that it leads to in composer.json")
    elif answer.outcome in {"failed", "not asked"}:
        yield Found("note", f"{url} could not be asked: {answer.detail}")


def _tell(answer: Answer) -> str:
    if answer.outcome == "unreachable":
        return f"it cannot be reached: {answer.detail}"
    return {"not found": "there is nothing (404)", "redirected": f"it leads on to {answer.detail}"}.get(
        answer.outcome, f"it could not be asked: {answer.detail}"
    )


def _is_for(definition: Definition, host: str) -> bool:
    method, _, rest = definition.name.partition(".")
    return rest == host and method in METHODS


def _choose_method(host: str, at: Circumstances) -> str:
    if host == "github.com" or host in list_strings(at.config, "github-domains"):
        return "github-oauth"
    if host == "gitlab.com" or host in list_strings(at.config, "gitlab-domains"):
        return "gitlab-token"
    if host == "bitbucket.org":
        return "bitbucket-oauth"
    if host == "codeberg.org" and not (at.version and at.version[:2] < _FORGEJO):
        return "forgejo-token"
    return "http-basic"


def _make_repository(kind: str, url: str, apis: Collection[str]) -> Repository:
    shown, has_login = _drop_login(url)
    is_ssh = url.lower().startswith("ssh:") or ("://" not in url and "@" in url.partition("/")[0])
    ssh = re.fullmatch(_SSH, shown) if is_ssh and kind not in {"path", "artifact"} else None
    match = re.match(_URL, shown)
    if ssh:
        return Repository(kind, shown, ssh[1].lower(), "ssh")
    if not match or match[1].lower() not in {"http", "https"}:
        return Repository(kind, shown, "", "local")
    host = match[2].lower()
    transport = "http"
    if kind in {"git", "vcs"}:
        transport = "api" if kind == "vcs" and host in apis else "git"
    shown = f"{match[1].lower()}://{host}{match[3]}"
    return Repository(kind, shown, _ALIASES.get(host, host), transport, has_login)


def _drop_login(url: str) -> tuple[str, bool]:
    """The URL without the login before its host, and whether it had one. The user `git` alone says nothing.

    A password may hold what would end it, so one that goes on after a slash is no part of the path.
    """
    scheme, mark, rest = url.rpartition("://") if "://" in url.partition("@")[0] else ("", "", url)
    authority, path = re.match(r"([^/?#]*)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    login, at, host = authority.rpartition("@")
    is_cut = not at and bool(mark) and "@" in path and bool(re.search(r":(?![0-9]*$)", authority))
    if is_cut:
        login, at, host = rest.rpartition("@")
        path = ""
    if not at or (login == "git" and scheme.lower() not in {"http", "https"}):
        return url, False
    return f"{scheme}{mark}{host}{path}", True


def _list_downloads(package: Any, kind: str, apis: Collection[str]) -> list[Repository]:
    """Where the package comes from: its archive, or its source where it has none."""
    if not isinstance(package, dict):
        return []
    for part, transport in (("dist", kind), ("source", "git")):
        place = package.get(part)
        if isinstance(place, dict) and isinstance(place.get("url"), str) and place.get("type") != "path":
            repository = _make_repository(transport, place["url"], apis)
            return [repository._replace(kind=kind)] if repository.host else []
    return []


def list_packages(lock: Document | None) -> Iterator[Document]:
    """What the lock file installs, for development too."""
    for section in ("packages", "packages-dev"):
        packages = (lock or {}).get(section)
        yield from (one for one in (packages if isinstance(packages, list) else []) if isinstance(one, dict))


def _is_packagist_off(manifest: Document) -> bool:
    repositories = manifest.get("repositories")
    entries = [repositories] if isinstance(repositories, dict) else repositories
    return any(
        isinstance(entry, dict) and entry.get(name) is False
        for entry in (entries if isinstance(entries, list) else [])
        for name in ("packagist.org", "packagist")
    )
