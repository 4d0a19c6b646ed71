"""Checks of the credentials that repositories would get."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..composer import METHODS
from ..composer.committed import KINDS
from ..composer.methods import drop_default_port
from ..composer.products import find_product
from ..composer.repositories import ARCHIVES
from ..model.resolve import Verdict
from ..model.secret import SecretType, format_scopes
from .facts import Access, Answer, Facts, list_unused
from .problem import Problem

# What does not leave the machine.
_LOOPBACK = r"(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?::\d+)?"


def check_repositories(facts: Facts) -> Iterator[Problem]:
    """Name the repositories that lack a credential, or that reject the one they would get."""
    seen = set()
    for access in facts.accesses:
        host = access.repository.host
        if access.status == "ssh":
            yield Problem("warning", f"{access.repository.url} uses SSH, where no secret applies", access.remedy)
        is_open = access.status in {"missing", "unknown"} and not facts.find_needs(access.repository)
        if access.answer and not is_open:
            yield from _judge_answer(access, access.answer, facts)
        elif is_open and (host, access.status) not in seen:
            seen.add((host, access.status))
            yield _judge_missing(access, facts)


def check_committed(facts: Facts) -> Iterator[Problem]:
    """Name the credentials that composer.json and composer.lock hold themselves."""
    remedy = "store it as a secret instead, and renew it: who has the project has it"
    for file, place in facts.project.sources.committed:
        yield Problem("warning", f"{file} has {KINDS[place.own][0]} {place.host}", remedy)
    config = facts.project.config
    for method in METHODS:
        section = config.get(method)
        for host in section if isinstance(section, dict) else ():
            yield Problem("warning", f"composer.json has {method} for {host} in its config", remedy)
    for setting in dict.fromkeys(need.setting for need in facts.variables.needs):
        if config.get(setting):
            yield Problem("warning", f"composer.json has {setting} in its config", remedy)


def check_transport(facts: Facts) -> Iterator[Problem]:
    """Say where a credential would go in the clear, and where Composer refuses to ask without TLS."""
    private = [access for access in facts.accesses if access.status in {"covered", "own"}]
    if facts.is_tls_disabled and private:
        yield Problem("warning", "disable-tls is on: Composer may send credentials in the clear", "remove the setting")
    is_locked = facts.project.sources.locked is not None
    for access in facts.accesses:
        url, kind = access.repository.url, access.repository.kind
        if not url.startswith("http://") or re.fullmatch(_LOOPBACK, access.repository.host):
            continue
        if not facts.allows_http:
            level = "warning" if is_locked and kind not in ARCHIVES else facts.certain
            yield Problem(level, f"Composer refuses {url}, which is without TLS", "use its https:// URL")
        elif access in private and not facts.is_tls_disabled:
            yield Problem("warning", f"{url} gets its credential in the clear", "use its https:// URL")


def check_unneeded(facts: Facts) -> Iterator[Problem]:
    """Name the credentials that nothing needs, as far as composer.json and composer.lock show."""
    sources = facts.project.sources
    if not facts.project.is_manifest_valid:
        return
    hosts = sources.hosts
    where = "composer.json (there is no composer.lock)" if sources.locked is None else "composer.json and composer.lock"
    for definition in facts.definitions:
        is_used = definition.verdict is Verdict.WON and definition.name in facts.used
        method, _, host = definition.name.partition(".")
        if not is_used or definition.type is not SecretType.COMPOSER or host in hosts:
            continue
        bare = drop_default_port(host)
        if bare and bare in hosts:  # a path repository has a host, too: ""
            text = f"Composer does not send {definition.name} ({definition.source}) to https://{bare}/"
            remedy = f"`ic-secrets set {definition.owner} {method}.{bare} --type composer --scope ic`"
            yield Problem("warning", f"{text}: the URL does not say {host}", remedy)
        else:
            yield Problem("note", f"nothing in {where} needs {definition.name} ({definition.source})")


def check_replaced(facts: Facts) -> Iterator[Problem]:
    """Name the user's own credentials that the build does not see, since a secret is for their host."""
    if not facts.project.is_manifest_valid:
        return
    path, auth = facts.user_auth
    for definition in facts.definitions:
        host = definition.name.partition(".")[2]
        is_used = definition.verdict is Verdict.WON and definition.name in facts.used
        if is_used and definition.type is SecretType.COMPOSER:
            methods = [m for m in METHODS if isinstance(auth.get(m), dict) and host in auth[m]]
            if methods:
                yield Problem("note", f"{path} also has {', '.join(methods)} for {host}; the secret is used instead")


def _is_private(access: Access) -> bool:
    return find_product(access.repository.host, access.repository.url) is not None


def _judge_missing(access: Access, facts: Facts) -> Problem:
    host, answer = access.repository.host, access.answer
    unused = list_unused(host, facts)
    text = f"{access.repository.url} has no credential"
    for definition in unused[:1]:
        if definition.type is not SecretType.COMPOSER:
            reason = f"has the type {definition.type.value}, not composer"
        elif definition.verdict is Verdict.OUT_OF_SCOPE:
            reason = f"has the scope {format_scopes(definition.scopes)}, not ic"
        else:
            reason = "is not used"
        text += f": {definition.name} of {definition.source} {reason}"
    other = facts.winners.get(drop_default_port(host))
    if other:
        text += f": {other.source} is for URLs without the port"
    if access.status == "unknown" and not (answer and answer.outcome == "not found"):
        more = ", or with an SSH key" if access.repository.web_url != access.repository.url else ""
        return Problem("note", f"{text}; that works only if it is public{more}", access.remedy)
    is_asked_for = answer is not None and answer.outcome in {"expired", "refused"}
    if is_asked_for:
        text += ", and it asks for one"
    elif answer:
        text += f", and {_describe(answer)}"
    is_certain = _is_private(access) or bool(unused) or is_asked_for
    return Problem(facts.certain if is_certain else "warning", text, access.remedy)


def _judge_answer(access: Access, answer: Answer, facts: Facts) -> Iterator[Problem]:
    """Say what it means that the repository gave this answer to the credential that it would get."""
    url, by = access.repository.url, access.by or "anonymous requests"
    match answer.outcome:
        case "expired":
            secret = next((d for d in facts.definitions if d.name == by and d.verdict is Verdict.WON), None)
            renew = f"`ic-secrets set {secret.source} {by}` sets a new value" if secret else f"renew it in {by}"
            yield Problem("error", f"{url} rejects {by} (401): it has expired or is wrong", renew)
        case "refused":
            remedy = "ask the owner for read access, or use another credential"
            yield Problem("error", f"{url} refuses {by} (403): it lacks read access", remedy)
        case "not found":
            remedy = "check its URL; some hosts also say this when a credential lacks read access"
            yield Problem("error", f"{url} does not exist for {by} (404)", remedy)
        case "unreachable":
            yield Problem("error", f"{url} cannot be reached: {answer.detail}")
        case "redirected":
            text = f"{url} redirects to {answer.detail}, where its credential is not sent"
            yield Problem("warning", text, "use the final URL in composer.json")
        case "failed" | "not asked":
            yield Problem("note", f"{url} could not be asked: {answer.detail}")


def _describe(answer: Answer) -> str:
    match answer.outcome:
        case "unreachable":
            return f"it cannot be reached: {answer.detail}"
        case "not found":
            return "it does not exist (404)"
        case "redirected":
            return f"it redirects to {answer.detail}"
    return f"it could not be asked: {answer.detail}"
