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
MODES = ("best", "bubblewrap", "landlock")
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
    is_run: bool = False,
) -> BuildRequest:
    """Return the build that the settings and the arguments describe; UsageError and ConfigError.

    The `directory` is the working directory unless it is named. `environment` is what the build inherits, by default
    the one in which the settings were looked for. `leaks_allowed` replaces the setting, since a path may hold a comma.
    Only what `is_run` by us from beginning to end can be isolated.
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
        writable=read_hosts(settings, "allow-write"),
    )
    request = _check_lowered(context, request)
    isolate = find_isolation(settings, scope)
    if not isolate:
        _refuse_alone(settings)
        return request
    from .isolating import arrange_isolation

    return arrange_isolation(context, request._replace(isolate=isolate), is_run=is_run)


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


def read_hosts(settings: Settings, name: str) -> frozenset[str]:
    """Return the hosts of a setting; InvalidHostError names where a wrong one comes from."""
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
    if find_isolation(settings, scope):
        return True
    found = settings.get("broker")
    if scope is Scope.IC or found.value != "true":
        return found.value == "true"
    if found.layer == "flag":
        raise UsageError(f"--broker is for a build: with --scope {scope.value} there is nothing for a broker to add")
    return False


def find_isolation(settings: Settings, scope: Scope) -> str:
    """Return how the build is to be isolated, "" where it is not; UsageError where that is not for a build."""
    found = settings.get("isolate")
    if found.value in {"", "false"}:
        return ""
    if found.layer == "flag" and found.value not in MODES:
        raise UsageError(f"--isolate takes {' or '.join(MODES[1:])}", hint="without a value it is the best there is")
    if scope is Scope.IC:
        return found.value
    if found.layer == "flag":
        raise UsageError(f"--isolate is for a build, which --scope {scope.value} is not")
    return ""


def _refuse_alone(settings: Settings) -> None:
    """Raise UsageError for an option that only an isolated build has."""
    for name in ("allow-host", "allow-path"):
        if settings.get(name).layer == "flag":
            raise UsageError(f"--{name} is for an isolated build", hint="add --isolate, or leave it out")


def _read_preserve(settings: Settings) -> Preserve:
    value = settings.get("preserve-env").value
    if value in {"", "*"}:
        return Preserve(everything=value == "*")
    return Preserve(names=settings.find_names("preserve-env") or frozenset())
