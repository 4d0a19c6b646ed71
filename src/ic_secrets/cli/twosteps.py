"""`ic-secrets pre-build` and `post-build`: the job of `run` in two steps, for pipelines that cannot wrap a build."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from .. import github, shells
from ..environment import inherit
from ..errors import NOT_STARTED, ExposureError, IcSecretsError, ScrubbedMeanwhileError, UsageError
from ..handover import find_handover
from ..linux import harden
from ..notices import Notice, Notify
from ..preparation import NoExtensions, Preparation, list_exposed
from ..secret import SecretType
from ..twosteps import Term, abandon_build, begin_build, end_build
from .opening import load_plugins, opened_store
from .output import print_error, print_message
from .parsing import Parser, add_store_options, parse_duration, read_settings
from .recording import BuildRecord, ResumedRecord
from .requesting import add_exposure_options, make_request, print_notice

_FORMATS = ("sh", "fish", "github", "json")
_FAILED = {"sh": f"(exit {NOT_STARTED})\n", "fish": f"sh -c 'exit {NOT_STARTED}'\n"}
# Of what the build does not inherit, the settings that are no secret: on GitHub they come back afterwards.
_SECRET_SETTINGS = frozenset({"IC_SECRETS_KEY", "IC_SECRETS_PASSPHRASE"})
_NOTHING = "there is nothing to end here: no pre-build, or its guard has scrubbed it already"
_UNMASKED = Notice(
    "nothing masks the output of a build between pre-build and post-build",
    "`ic-secrets run SITE.ENV -- COMMAND` masks it, and ends with the build: use it where the pipeline can",
)


def run_pre_build(words: Sequence[str]) -> int:
    """Expose a site's secrets, tell the pipeline, leave a guard; 0, or 125 and nothing is exposed.

    However it fails, what it prints makes the shell that evaluates it fail.
    """
    is_done = False
    try:
        arguments = make_pre_parser().read(words)
        harden()
        text = _expose(arguments)
        is_done = True
        _print_or_abandon(text, arguments)
        return 0
    except SystemExit:  # --help
        is_done = True
        raise
    except IcSecretsError as error:
        print_error(error)
        return NOT_STARTED
    finally:
        if not is_done:
            _print(_FAILED.get(_guess_format(words), ""))


def run_post_build(words: Sequence[str]) -> int:
    """Scrub what pre-build exposed, and look for what is left; the status that `run` would give.

    Without a pre-build, or called once more, it gives 0 and says so.
    """
    status = 1
    arguments = make_post_parser().read(words)
    own = _parse_status(arguments.status)
    harden()
    try:
        status = _end(arguments, own)
    except ScrubbedMeanwhileError:
        print_message("", _NOTHING)
        status = own
    except IcSecretsError as error:
        print_error(error)
        status = own or error.exit_status
    finally:
        if arguments.format == "sh":
            _print(shells.render_sh_end(status))
        elif arguments.format == "fish":
            _print(shells.render_fish_end(status))
    return status


class _Shell:
    """A shell that evaluates what is printed."""

    told: Sequence[str] = ()

    def check(self, preparation: Preparation) -> None:
        """Refuse what a shell keeps to itself."""
        shells.check_names(_list_variables(preparation))

    def tell_early(self, environment: Mapping[str, str], preparation: Preparation) -> Mapping[str, Any]:
        """Nothing: it is told when all is done."""
        return {}


class _Json(_Shell):
    """A program that reads an object."""

    def check(self, preparation: Preparation) -> None:
        """A program takes any name."""


class _GitHub:
    """The later steps of a job on GitHub."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._before = environment
        self.told = (github.find_file(environment),)

    def check(self, preparation: Preparation) -> None:
        """Refuse what the runner keeps to itself."""
        github.check_names(_list_variables(preparation))

    def tell_early(self, environment: Mapping[str, str], preparation: Preparation) -> Mapping[str, Any]:
        """Masks first, then the variables; how they are put back."""
        change = github.find_change(self._before, environment)
        _print(github.render_masks(list_exposed(preparation.secrets)))
        github.append(self.told[0], github.render_variables({**dict.fromkeys(change.to_unset, ""), **change.to_set}))
        back = dict.fromkeys((*change.to_set, *change.to_unset), "")
        secrets = _list_variables(preparation)
        for name in back:
            is_setting = name.startswith("IC_SECRETS_") and name not in _SECRET_SETTINGS
            if name in inherit(self._before) or is_setting:
                back[name] = self._before.get(name, "") if name not in secrets else ""
        return {"github": back}


def _expose(arguments: argparse.Namespace) -> str:
    """What is to be printed."""
    environment = dict(os.environ)
    request = make_request(arguments, ())
    face = _GitHub(environment) if arguments.format == "github" else _Json() if arguments.format == "json" else _Shell()
    term = Term(parse_duration(arguments.ttl), _parse_pid(arguments.until_pid))
    if term.ttl <= 0:
        raise UsageError("--ttl has no time", hint="a duration such as 30m or 2h")
    plugins = load_plugins(read_settings(arguments, dict(os.environ)))
    with opened_store(arguments, read_only=True) as store:
        record = BuildRecord(store, arguments, str(request.target), "pre-build")
        after = begin_build(store, request, term, face, print_notice, record, plugins)
    if arguments.format != "github":
        print_notice(_UNMASKED)
    change = shells.Change.find(environment, after)
    if arguments.format == "json":
        content = {"schema": "ic-secrets.pre-build/1", "set": change.to_set, "unset": change.to_unset}
        return json.dumps(content, indent=2) + "\n"
    if arguments.format == "github":
        return ""
    render = shells.render_fish if arguments.format == "fish" else shells.render_sh
    return render(change, environment)


def _print_or_abandon(text: str, arguments: argparse.Namespace) -> None:
    """Whoever was to be told and is gone has no use for it: then nothing stays exposed."""
    try:
        _print(text)
    except OSError as error:
        abandon_build(make_request(arguments, ()), print_notice)
        raise ExposureError(f"the result cannot be printed: {error.strerror}") from None


def _end(arguments: argparse.Namespace, own: int) -> int:
    environment = dict(os.environ)
    run_dir = arguments.run_dir or environment.get("IC_SECRETS_RUN_DIR")
    handover = find_handover(os.getcwd(), environment, run_dir)
    if handover is None:
        print_message("", _NOTHING)
        return own
    record = ResumedRecord(handover.record)
    receipt = arguments.receipt and os.path.abspath(arguments.receipt)
    try:
        listeners = _Listeners(arguments)
        status = end_build(handover, print_notice, record, status=own, receipt=receipt, extensions=listeners)
    finally:
        _put_back(handover.notes.get("github"), arguments.format, environment, print_notice)
    print_message("", f"the secrets of {handover.state['target']} are gone")
    return status


class _Listeners(NoExtensions):
    """The plugins that the person names now. They are loaded when the scrub is over, so that none can keep it back."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments

    def tell_receipt(self, receipt: Mapping[str, Any]) -> None:
        """Load them, and let them see it; ConfigError, PluginError."""
        plugins = load_plugins(read_settings(self._arguments, dict(os.environ)))
        if plugins:
            plugins.tell_receipt(receipt)


def _put_back(back: Mapping[str, str] | None, form: str | None, environment: Mapping[str, str], notify: Notify) -> None:
    """Empty, for the steps to come, what GITHUB_ENV has set, or give it the value that it had."""
    if back is None:
        return
    if form != "github":
        notify(Notice("the variables of later steps keep their values", "post-build --format github empties them"))
        return
    github.append(github.find_file(environment), github.render_variables(back))


def _list_variables(preparation: Preparation) -> tuple[str, ...]:
    """The names of the secrets that become variables, and of what other renderers set."""
    secrets = [secret.name for secret in preparation.secrets if secret.type is SecretType.ENV]
    inherited = inherit(preparation.request.environment)
    return (*secrets, *(name for name in {**preparation.environment, **preparation.paths} if name not in inherited))


def make_pre_parser() -> Parser:
    """Its arguments."""
    parser = Parser(
        "pre-build",
        "Expose the secrets that the site's build may see (scope ic), as `run` does, and leave a guard that scrubs\n"
        "them when post-build says so, after --ttl, or when --until-pid ends. For pipelines that cannot wrap their\n"
        "build: nothing but GitHub masks the output of what comes between, so use `run` where you can.\n\n"
        "What is printed holds the values. sh, fish: code for eval. github: masks; the variables go to GITHUB_ENV, a\n"
        "file of the runner. json: one object. A pre-build that fails prints what makes eval fail, and gives 125.",
        'eval "$(ic-secrets pre-build my-site.dev)" && composer install; eval "$(ic-secrets post-build --format sh)"',
    )
    parser.add_argument("target", metavar="SITE[.ENV]", nargs="?", help="the target (IC_SECRETS_SITE, IC_SECRETS_ENV)")
    parser.add_argument("--format", choices=_FORMATS, default="sh", help="who is told the environment (sh)")
    parser.add_argument("--ttl", metavar="DURATION", default="1h", help="how long the secrets stay at the most (1h)")
    parser.add_argument("--until-pid", metavar="PID", help="scrub when that process ends: the pipeline's, or $$")
    add_exposure_options(parser)
    add_store_options(parser)
    return parser


def make_post_parser() -> Parser:
    """Its arguments."""
    parser = Parser(
        "post-build",
        "End what pre-build began in this checkout: scrub, look for what the build left behind, write the receipt.\n"
        "It needs neither store nor key. The status is as of `run`: 120 for a leak, 121 for an incomplete scrub; 0\n"
        "too where there was no pre-build, or post-build was there before.",
        'eval "$(ic-secrets post-build --format sh)"',
    )
    parser.add_argument("--format", choices=_FORMATS[:3], help="put back the environment of that shell, or of GitHub")
    parser.add_argument("--receipt", metavar="FILE", help="write what was exposed, and the proof that it is gone")
    parser.add_argument(
        "--status", metavar="N", default="0", help="the build's own exit status, which wins where not 0"
    )
    parser.add_argument("--run-dir", metavar="DIR", help="the one that pre-build was given")
    return parser


def _parse_status(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 255):
        raise UsageError(f"{text!r} is no exit status", hint="a number from 0 to 255: $?")
    return int(text)


def _parse_pid(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 31):
        raise UsageError(f"{text!r} is no process id", hint="a number, such as $$")
    return int(text)


def _guess_format(words: Sequence[str]) -> str:
    """The format, of words that may be no command."""
    form = "sh"
    for before, word in zip(["", *words], words, strict=False):
        if word.startswith("--format="):
            form = word.partition("=")[2]
        elif before == "--format":
            form = word
    return form if form in _FORMATS else "sh"


def _print(text: str) -> None:
    """Bytes on stdout, at once; OSError."""
    sys.stdout.flush()
    data = os.fsencode(text)
    while data:
        data = data[os.write(1, data) :]
