"""What a build is to be, made from the settings: the same for every way to build."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from ..build import BuildRequest
from ..config import Settings
from ..core import Notice
from ..errors import InvalidHostError, UsageError
from ..model import Scope, Target
from ..model.variables import Preserve
from .context import Context

# Protections that a checkout may lower, which a person should know.
_GUARDS = ("no-mask", "leaks", "allow-background", "pristine")
# Where a checkout may say that leaks are known: a path below it that begins with a name.
_PLACE = re.compile(r"(?!.*(?:^|/)\.\.?(?:/|$))[^/*?\[]+(?:/.*)?")


def make_request(
    context: Context,
    target: str | None,
    command: Sequence[str],
    *,
    directory: str | None = None,
    environment: Mapping[str, str] | None = None,
    scope: Scope = Scope.IC,
    leaks_allowed: Sequence[str] = (),
) -> BuildRequest:
    """Return the build that the settings and the arguments describe; UsageError and ConfigError.

    The `directory` is the working directory unless it is named. `environment` is what the build inherits, by default
    the one in which the settings were looked for. `leaks_allowed` replaces the setting, since a path may hold a comma.
    """
    settings = context.settings
    receipt, run_dir = settings.get("receipt").value, settings.get("run-dir").value
    request = BuildRequest(
        target=settings.target(target),
        command=tuple(command),
        directory=directory or os.getcwd(),
        environment=dict(settings.environment if environment is None else environment),
        only=settings.find_names("only"),
        excluded=settings.find_names("except") or frozenset(),
        preserve=_read_preserve(settings),
        pristine=settings.is_on("pristine"),
        mask=not settings.is_on("no-mask"),
        run_dir=run_dir or None,
        grace=settings.get_duration("grace"),
        allow_background=settings.is_on("allow-background"),
        leaks=settings.get("leaks").value,
        leaks_allowed=tuple(leaks_allowed) or settings.leaks_allowed,
        receipt=os.path.abspath(receipt) if receipt else None,
        expiry_warning=settings.get_duration("expiry-warning"),
        scope=scope,
        allowed_names=settings.find_names("allow-env") or frozenset(),
        broker=is_brokered(settings, scope),
        writable=_read_hosts(settings, "allow-write"),
    )
    return _check_lowered(context, request)


def find_built(request: BuildRequest) -> Target | None:
    """Return the target, where it is to be built rather than run."""
    return request.target if request.scope is Scope.IC else None


def _check_lowered(context: Context, request: BuildRequest) -> BuildRequest:
    """Warn of protections that the checkout lowers; ConfigError in a pipeline, where a pull request would."""
    settings = context.settings
    for name in _GUARDS:
        effect = settings.find_lowered(name)
        if effect and settings.is_imposed(name):
            raise settings.refuse_imposed(name, effect)
        if effect:
            context.notify(Notice(f"{settings.get(name).source} {effect}"))
    allowed = settings.get("leaks-allow")
    if allowed.is_of_checkout and allowed.value and request.leaks_allowed == settings.leaks_allowed:
        if settings.is_imposed("leaks-allow"):  # as places, and never all leaks of a secret of that name
            places = [one.removeprefix("./") for one in request.leaks_allowed]
            if not all(map(_PLACE.fullmatch, places)):
                raise settings.refuse_imposed("leaks-allow", "lets leaks pass in places that it does not name")
            request = request._replace(leaks_allowed=tuple(f"./{place}" for place in places))
        context.notify(Notice(f"{allowed.source} lets leaks pass: {', '.join(request.leaks_allowed)}"))
    return request


def _read_hosts(settings: Settings, name: str) -> frozenset[str]:
    found = settings.get(name)
    if not found.value:
        return frozenset()
    from ..model.hosts import parse_hosts

    try:
        return frozenset(parse_hosts(found.value))
    except InvalidHostError as error:
        raise InvalidHostError(f"{found.source}: {error}", hint=error.hint) from None


def is_brokered(settings: Settings, scope: Scope) -> bool:
    """Return whether a broker is wanted; UsageError where an application, which has no credentials, is to have one."""
    found = settings.get("broker")
    if scope is Scope.IC or found.value != "true":
        return found.value == "true"
    if found.layer == "flag":
        raise UsageError(f"--broker is for a build: with --scope {scope.value} there is nothing for a broker to add")
    return False


def _read_preserve(settings: Settings) -> Preserve:
    value = settings.get("preserve-env").value
    if value in {"", "*"}:
        return Preserve(everything=value == "*")
    return Preserve(names=settings.find_names("preserve-env") or frozenset())
