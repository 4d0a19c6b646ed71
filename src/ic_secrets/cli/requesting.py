"""What a build is to be, from the flags and the other settings: the same for every command that exposes secrets."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence

from ..build.prepare import BuildRequest
from ..config.settings import Settings
from ..core.notices import Notice, Notify
from ..errors import ConfigError, UsageError
from ..model.secret import Scope, Target
from ..model.variables import Preserve
from .output import print_message
from .parsing import Parser, choose_leaks, read_duration, read_settings, split_names

# What a checkout may say of its build, and a person should know: the value, and what it does.
_TELLING = {"no-mask": ("true", "turns masking off"), "leaks": ("off", "turns the search for leaks off")}


def make_request(
    arguments: argparse.Namespace,
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    notify: Notify | None = None,
) -> BuildRequest:
    """The build of this command, in the directory of the arguments, else in this one; UsageError and ConfigError.

    `environment` is what the build inherits, else this process's, which is where settings are looked for.
    """
    settings = read_settings(arguments, dict(os.environ))
    receipt, run_dir = settings.get("receipt").value, settings.get("run-dir").value
    request = BuildRequest(
        target=settings.target(arguments.target),
        command=tuple(command),
        directory=getattr(arguments, "directory", None) or os.getcwd(),
        environment=dict(os.environ if environment is None else environment),
        only=_read_names(settings, "only"),
        excluded=_read_names(settings, "except") or frozenset(),
        preserve=_read_preserve(settings),
        pristine=settings.is_on("pristine"),
        mask=not settings.is_on("no-mask"),
        run_dir=run_dir or None,
        grace=read_duration(settings, "grace"),
        allow_background=settings.is_on("allow-background"),
        leaks=settings.get("leaks").value,
        leaks_allowed=choose_leaks(arguments, settings),
        receipt=os.path.abspath(receipt) if receipt else None,
        expiry_warning=read_duration(settings, "expiry-warning"),
        scope=Scope(getattr(arguments, "scope", Scope.IC.value)),
    )
    _tell_what_a_checkout_lowers(settings, request, notify or print_notice)
    return request


def find_built(request: BuildRequest) -> Target | None:
    """The target, where it is to be built rather than run."""
    return request.target if request.scope is Scope.IC else None


def _tell_what_a_checkout_lowers(settings: Settings, request: BuildRequest, notify: Notify) -> None:
    for name, (value, effect) in _TELLING.items():
        found = settings.get(name)
        if found.is_of_checkout and found.value == value:
            notify(Notice(f"{found.source} {effect}"))
    allowed = settings.get("leaks-allow")
    if allowed.is_of_checkout and allowed.value and tuple(allowed.value.split(",")) == request.leaks_allowed:
        notify(Notice(f"{allowed.source} lets leaks pass: {', '.join(request.leaks_allowed)}"))


def add_exposure_options(parser: Parser) -> None:
    """The options of every command that exposes secrets to a build."""
    parser.add_argument("--only", metavar="N,..", help="expose these secrets alone")
    parser.add_argument("--except", metavar="N,..", dest="excluded", help="expose all but these")
    parser.add_optional("preserve-env", metavar="A,B", help="variables already set win (all of them, or =A,B)")
    parser.add_argument("--pristine", action="store_true", help="pass on only PATH, HOME, TERM and their like")
    parser.add_argument("--run-dir", metavar="DIR", help="make the private directory there")
    parser.add_argument("--leaks", choices=["fail", "warn", "off"], help="what a leak does (fail)")
    parser.add_argument("--leaks-allow", metavar="NAME|GLOB", action="append", default=[], help="a leak that is known")
    parser.add_argument("--min-generation", metavar="N", help="refuse an older copy of the store than its generation N")
    parser.add_argument("--receipt", metavar="FILE", help="write what was exposed, and the proof that it is gone")


def split_words(words: list[str]) -> tuple[list[str], list[str]]:
    """What is ours, and the command behind the first `--`."""
    if "--" in words:
        at = words.index("--")
        return words[:at], words[at + 1 :]
    return words, []


def print_notice(notice: Notice) -> None:
    """Tell it on stderr."""
    print_message(notice.level, notice.text, notice.hint)


def _read_names(settings: Settings, name: str) -> frozenset[str] | None:
    """The names, None where nobody gave any; an empty list of them would otherwise mean all."""
    found = settings.find(name)
    if found is None:
        return None
    try:
        return split_names(found.value)
    except UsageError as error:
        if found.layer == "flag":
            raise
        raise ConfigError(f"{found.source}: {error}", hint=error.hint) from None


def _read_preserve(settings: Settings) -> Preserve:
    found = settings.get("preserve-env")
    if found.value in {"", "*"}:
        return Preserve(everything=found.value == "*")
    return Preserve(names=_read_names(settings, "preserve-env") or frozenset())
