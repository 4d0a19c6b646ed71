"""`ic-secrets run`: the main job."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from ..build import run_build
from ..environment import Preserve
from ..errors import LEAK_FOUND, NOT_STARTED, IcSecretsError, UsageError
from ..linux import harden
from ..preparation import EXPIRY_WARNING, BuildRequest, Notice
from .opening import opened_store
from .output import print_error, print_message
from .parsing import BARE, Parser, add_store_options, parse_duration, read_duration, read_settings, split_names
from .recording import BuildRecord


def run_run(words: Sequence[str]) -> int:
    """Run the build; its exit status, or one from 120 on that says what kept it from being a success."""
    try:
        own, command = _split(list(words))
        arguments = _make_parser().read(own)
        if not command:
            raise UsageError("no command to run", hint="ic-secrets run SITE.ENV -- COMMAND...")
        harden()
        check_empty(arguments)
        request = make_request(arguments, command)._replace(
            mask=not arguments.no_mask,
            grace=parse_duration(arguments.grace),
            allow_background=arguments.allow_background,
        )
        with opened_store(arguments, read_only=True) as store:
            return run_build(store, request, print_notice, BuildRecord(store, arguments, str(request.target)))
    except IcSecretsError as error:
        print_error(error)
        return error.exit_status if error.exit_status >= LEAK_FOUND else NOT_STARTED


def check_empty(arguments: argparse.Namespace) -> None:
    """UsageError for an empty argument, which would otherwise mean something else than was meant."""
    for option in ("only", "excluded", "run_dir", "receipt", "store", "key_file", "min_generation", "target"):
        if getattr(arguments, option) == "":
            raise UsageError("an argument is empty", hint="is a variable of the pipeline not set?")


def add_exposure_options(parser: Parser) -> None:
    """The options of every command that exposes secrets to a build."""
    parser.add_argument("--only", metavar="N,..", help="expose these secrets alone")
    parser.add_argument("--except", metavar="N,..", dest="excluded", help="expose all but these")
    parser.add_optional("preserve-env", metavar="A,B", help="variables already set win (all of them, or =A,B)")
    parser.add_argument("--pristine", action="store_true", help="pass on only PATH, HOME, TERM and their like")
    parser.add_argument("--run-dir", metavar="DIR", help="make the private directory there")
    parser.add_argument("--leaks", choices=["fail", "warn", "off"], default="fail", help="what a leak does (fail)")
    parser.add_argument("--leaks-allow", metavar="NAME|GLOB", action="append", default=[], help="a leak that is known")
    parser.add_argument("--min-generation", metavar="N", help="refuse an older copy of the store than its generation N")
    parser.add_argument("--receipt", metavar="FILE", help="write what was exposed, and the proof that it is gone")


def _make_preserve(given: str | None) -> Preserve:
    """What --preserve-env says."""
    if given is None:
        return Preserve()
    return Preserve(everything=True) if given == BARE else Preserve(names=split_names(given))


def print_notice(notice: Notice) -> None:
    """Tell it on stderr."""
    print_message(notice.level, notice.text, notice.hint)


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """What is ours, and the command behind the first `--`."""
    if "--" in words:
        at = words.index("--")
        return words[:at], words[at + 1 :]
    return words, []


def _make_parser() -> Parser:
    parser = Parser(
        "run",
        "Run a build with the secrets that the site's build may see (scope ic), its output masked; afterwards nothing\n"
        "of them is left. The exit status is the build's own; 125 says that it was not started.",
        "ic-secrets run my-site.dev -- composer install",
    )
    parser.usage = "ic-secrets run [OPTIONS] [SITE[.ENV]] [OPTIONS] -- COMMAND..."
    parser.add_argument("target", metavar="SITE[.ENV]", nargs="?", help="the target (IC_SECRETS_SITE, IC_SECRETS_ENV)")
    add_exposure_options(parser)
    parser.add_argument("--no-mask", action="store_true", help="do not mask the output")
    parser.add_argument("--grace", metavar="DURATION", default="10s", help="between TERM and KILL (10s)")
    parser.add_argument("--allow-background", action="store_true", help="let processes of the build outlive it")
    add_store_options(parser)
    return parser


def make_request(arguments: argparse.Namespace, command: Sequence[str]) -> BuildRequest:
    """What the options of `add_exposure_options` and those of the store ask for."""
    environment = dict(os.environ)
    settings = read_settings(arguments, environment)
    return BuildRequest(
        target=settings.target(arguments.target),
        command=tuple(command),
        directory=os.getcwd(),
        environment=environment,
        only=None if arguments.only is None else split_names(arguments.only),
        excluded=frozenset() if arguments.excluded is None else split_names(arguments.excluded),
        preserve=_make_preserve(arguments.preserve_env),
        pristine=arguments.pristine,
        run_dir=arguments.run_dir or environment.get("IC_SECRETS_RUN_DIR") or None,
        leaks=arguments.leaks,
        leaks_allowed=tuple(arguments.leaks_allow),
        receipt=arguments.receipt and os.path.abspath(arguments.receipt),
        expiry_warning=read_duration(settings, "expiry-warning", EXPIRY_WARNING),
    )
