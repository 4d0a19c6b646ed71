"""`ic-secrets pre-build` and `post-build`: the job of `run` in two steps, for pipelines that cannot wrap a build."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ..assembly import Context, find_built, make_request
from ..audit import ResumedRecord
from ..build.prepare import NoExtensions
from ..build.request import BuildRequest
from ..core import Notice, parse_duration
from ..core.linux import harden
from ..core.records import NamedTuple
from ..errors import (
    NOT_STARTED,
    SCRUB_INCOMPLETE,
    SIGNAL_BASE,
    EndedError,
    ExposureError,
    IcSecretsError,
    NotEndedError,
    ScrubbedMeanwhileError,
    UsageError,
)
from ..process.directory import find_enclosing, find_owner, remove_dead
from ..two_steps import Term, abandon_build, begin_build, end_build, github, shells
from ..two_steps.handover import Handover, Note, find_handover, find_inside, find_note, list_handovers
from ..two_steps.locks import find_holder
from ..two_steps.pipelines import GitHub, Pipeline, Program, Shell
from ..two_steps.shells import Change
from . import Call
from .call import find_run_dir, print_notice, read_call
from .output import print_bytes, print_error, print_message
from .parser import Parser, add_exposure_options, add_store_options
from .signals import raising_signals

_FORMATS = ("sh", "fish", "github", "json")
# With `set -e` too, a build that fails reaches post-build, and its status is kept.
_EXAMPLE = """code=0; eval "$(ic-secrets pre-build my-site.dev)" && composer install || code=$?
  eval "$(ic-secrets post-build --format sh --status $code)\""""
_NOTHING = "there is nothing to end here: no pre-build, or its guard has scrubbed it already"
_UNMASKED = Notice(
    "nothing masks the output of a build between pre-build and post-build",
    "`ic-secrets run SITE.ENV -- COMMAND` masks it, and ends with the build: use it where the pipeline can",
)


def run_pre_build(call: Call) -> int:
    """Expose a site's secrets for the pipeline and leave a guard; return 0, or 125 when nothing is exposed.

    However it fails, what it prints makes the shell that evaluates it fail.
    """
    is_done = False
    request = None
    try:
        with raising_signals():
            arguments, context = read_call(call, make_pre_parser())
            harden()
            request = make_request(context, arguments.target, (), leaks_allowed=arguments.leaks_allow)
            text = _expose(arguments, context, request)
            is_done = True
            _print_or_abandon(text, request)
        return 0
    except SystemExit:  # --help
        is_done = True
        raise
    except EndedError:
        if request:
            abandon_build(request, print_notice)
        raise ExposureError("a signal ended it; nothing is exposed") from None
    finally:
        if not is_done:
            print_bytes(_fail(_guess_format(call.words, "sh"), NOT_STARTED))


def run_post_build(call: Call) -> int:
    """Scrub what pre-build exposed, and look for what is left; return the status that `run` would give.

    Without a pre-build, or called once more, it gives 0 and says so. However it fails, what it prints makes the
    shell that evaluates it fail.
    """
    form = _guess_format(call.words, "")
    ending = _Ending(1)
    own: int | None = None
    try:
        with raising_signals():
            arguments, context = read_call(call, make_post_parser())
            own = _parse_status(arguments.status)
            harden()
            ending = _end(arguments, context, own)
    except SystemExit:  # --help
        form = ""
        raise
    except EndedError as ended:
        print_message("error", "a signal ended it", "`ic-secrets post-build` can be called again")
        ending = _Ending(SIGNAL_BASE + ended.number)
    except IcSecretsError as error:
        print_error(error)
        ending = _Ending(own or error.exit_status)
    finally:
        print_bytes(_fail(form, ending.status) if own is None else _render_end(form, ending))
    return ending.status


class _Ending(NamedTuple):
    """How a build was ended: the status, and of which target and checkout it was, None where there was none to end.

    `receipt` is the file that was written, `change` what restores the environment of before.
    """

    status: int
    target: str | None = None
    checkout: str | None = None
    receipt: str | None = None
    change: Change = Change({}, ())


def _fail(form: str, status: int) -> str:
    """Return what fails where it is evaluated, and changes nothing."""
    return {"sh": f"(exit {status})\n", "fish": f"sh -c 'exit {status}'\n"}.get(form, "")


def _render_end(form: str, ending: _Ending) -> str:
    """Return what is printed when everything is over."""
    if form == "json":
        fields = {name: value for name, value in ending._asdict().items() if name != "change"}
        return json.dumps({"schema": "ic-secrets.post-build/1", **fields}, indent=2) + "\n"
    render = {"sh": shells.render_sh_end, "fish": shells.render_fish_end}.get(form)
    return render(ending.change, ending.status) if render else ""


def _expose(arguments: argparse.Namespace, context: Context, request: BuildRequest) -> str:
    """Expose the secrets; return what is to be printed."""
    environment = context.settings.environment
    pipeline = _make_pipeline(arguments.format, environment)
    term = Term(parse_duration(arguments.ttl), _parse_pid(arguments.until_pid))
    if term.ttl <= 0:
        raise UsageError("--ttl must be longer than zero", hint="a duration such as 30m or 2h")
    plugins = context.load_plugins()
    with context.open_store(read_only=True, build=find_built(request)) as store:
        record = context.make_build_record(store, request.target, "pre-build")
        change = begin_build(store, request, term, pipeline, context.notify, record, plugins)
    if arguments.format != "github":
        print_notice(_UNMASKED)
    if arguments.format == "json":
        content = {"schema": "ic-secrets.pre-build/1", "set": change.to_set, "unset": change.to_unset}
        return json.dumps(content, indent=2) + "\n"
    if arguments.format == "github":
        return ""
    return shells.render_fish(change) if arguments.format == "fish" else shells.render_sh(change)


def _make_pipeline(form: str, environment: Mapping[str, str]) -> Pipeline:
    if form == "github":
        return GitHub(environment, print_bytes)
    return Program(environment) if form == "json" else Shell(environment)


def _print_or_abandon(text: str, request: BuildRequest) -> None:
    """Print the result; where nobody reads it any more, nothing stays exposed."""
    try:
        print_bytes(text)
    except OSError as error:
        abandon_build(request, print_notice)
        raise ExposureError(f"the result cannot be printed: {error.strerror}") from None


def _end(arguments: argparse.Namespace, context: Context, own: int) -> _Ending:
    environment = context.settings.environment
    run_dir = find_run_dir(arguments, context)
    directory = _find_directory()
    note = find_note(None, environment, run_dir)
    handover = None if note else find_handover(directory, environment, run_dir)
    if handover:
        try:
            return _finish(handover, arguments, context, own)
        except ScrubbedMeanwhileError:
            handover.guard.dismiss()
    note = note or find_note(directory, environment, run_dir)
    if note:
        return _finish_late(note, arguments, context, own)
    _check_others(directory, environment)
    inside = find_inside(environment)
    if inside:  # Composer makes its home anew where it is gone
        with contextlib.suppress(OSError):
            remove_dead(inside)
    elsewhere = ", ".join(other.checkout for other in list_handovers(environment, run_dir))
    hint = f"the secrets of a pre-build are exposed for {elsewhere}: post-build there takes them away"
    if find_enclosing(environment.get("COMPOSER_HOME") or ""):
        print_message("", _NOTHING, "this environment is still that of a build: start a new shell")
    else:
        print_message("", _NOTHING, hint if elsewhere else "")
    return _Ending(own)


def _finish(handover: Handover, arguments: argparse.Namespace, context: Context, own: int) -> _Ending:
    environment = context.settings.environment
    record = ResumedRecord(handover.record, environment, context.notify)
    place = _find_directory() or handover.directory
    receipt = arguments.receipt and os.path.abspath(os.path.join(place, arguments.receipt))
    try:
        listeners = _Listeners(context)
        status = end_build(handover, print_notice, record, status=own, receipt=receipt, extensions=listeners)
    finally:
        _restore_later_steps(handover, arguments.format, environment)
    print_message("", f"the secrets of {handover.target} are gone")
    change = Change.to(handover.restore)
    return _Ending(status, handover.target, handover.checkout, receipt or handover.receipt, change)


def _finish_late(note: Note, arguments: argparse.Namespace, context: Context, own: int) -> _Ending:
    """Report that the guard was first: nothing is left to scrub, and what the build left behind is not known."""
    status = own or SCRUB_INCOMPLETE
    receipt = arguments.receipt or note.receipt
    unwritten = f", and the receipt {receipt} was not written" if receipt else ""
    print_message(
        "error",
        f"the secrets of {note.target} were scrubbed before post-build came, since their time was up, or an earlier "
        f"post-build was killed: no leak was searched for{unwritten}",
        f"pre-build takes a longer --ttl; `ic-secrets scan {note.target} {shlex.quote(note.checkout)}` searches now",
    )
    note.remove()
    environment = context.settings.environment
    try:
        ResumedRecord(note.record, environment, context.notify).end(status, None)
    finally:
        _restore_later_steps(note, arguments.format, environment)
    return _Ending(status, note.target, note.checkout, None, Change.to(note.restore))


def _restore_later_steps(build: Handover | Note, form: str | None, environment: Mapping[str, str]) -> None:
    """Empty the variables that GITHUB_ENV set for the steps to come, or give each the value that it had."""
    if build.pipeline != "github":
        return
    if form != "github":
        hint = "post-build --format github empties them"
        print_notice(Notice("the variables of later steps keep their values", hint))
        return
    from ..broker.environment import make_neutral

    before = {name: value or make_neutral(name) for name, value in build.restore.items()}
    github.append(github.find_file(environment), github.render_variables(before))


def _find_directory() -> str | None:
    """Return the working directory; None where it is gone."""
    try:
        return os.getcwd()
    except OSError:
        return None


def _check_others(directory: str | None, environment: Mapping[str, str]) -> None:
    """Raise NotEndedError where a build is not over and cannot be ended from here."""
    inside = find_enclosing(environment.get("COMPOSER_HOME") or "")
    owner = find_owner(inside) if inside else None
    if inside and owner not in {None, os.geteuid()}:
        raise NotEndedError(f"the secrets in {inside} are those of user {owner}")
    holder = find_holder(directory) if directory else None
    if holder and holder[1] != os.geteuid():
        raise NotEndedError(f"{holder[0]} has the secrets of a pre-build by user {holder[1]}")
    if holder:
        raise NotEndedError(
            f"{holder[0]} has the secrets of a pre-build, but they are not found",
            hint="name the --run-dir that it was given, or call post-build where its environment is",
        )


class _Listeners(NoExtensions):
    """The plugins that the person names now. They are loaded when the scrub is over, so that none can keep it back."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def show_receipt(self, receipt: Mapping[str, Any]) -> None:
        """Load them, and show it to them; ConfigError, PluginError."""
        plugins = self._context.load_plugins()
        if plugins:
            plugins.show_receipt(receipt)


def make_pre_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser(
        "pre-build",
        "Expose the secrets that the site's build may see (scope ic), as `run` does, and leave a guard that scrubs\n"
        "them when post-build says so, after --ttl, or when --until-pid ends. For pipelines that cannot wrap their\n"
        "build: nothing but GitHub masks the output of what comes between, so use `run` where you can.\n\n"
        "What is printed holds the values. sh, fish: code for eval. github: masks; the variables go to GITHUB_ENV, a\n"
        "file of the runner. json: one object. A pre-build that fails prints what makes eval fail, and gives 125.\n"
        "post-build is to be called whether the build failed or not, with its status.",
        _EXAMPLE,
    )
    parser.add_argument("target", metavar="SITE[.ENV]", nargs="?", help="the target (IC_SECRETS_SITE, IC_SECRETS_ENV)")
    parser.add_argument("--format", choices=_FORMATS, default="sh", help="what reads the environment (sh)")
    parser.add_argument("--ttl", metavar="DURATION", default="1h", help="how long the secrets stay at the most (1h)")
    parser.add_argument("--until-pid", metavar="PID", help="scrub when that process ends: the pipeline's, or $$")
    add_exposure_options(parser)
    add_store_options(parser)
    return parser


def make_post_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser(
        "post-build",
        "End what pre-build began in this checkout: scrub, look for what the build left behind, write the receipt.\n"
        "It needs neither store nor key. The status is as of `run`: 120 for a leak, 121 for an incomplete scrub; 0\n"
        "too where there was no pre-build, or post-build was there before.",
        _EXAMPLE,
    )
    parser.add_argument(
        "--format", choices=_FORMATS, help="restore the shell's or GitHub's environment; json: report it"
    )
    parser.add_argument("--receipt", metavar="FILE", help="write what was exposed, and the proof that it is gone")
    parser.add_argument(
        "--status", metavar="N", default="0", help="the build's own exit status, which wins where not 0"
    )
    parser.add_argument("--run-dir", metavar="DIR", help="the one that pre-build was given")
    return parser


def _parse_status(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 255):
        raise UsageError(f"{text!r} is not an exit status", hint="a number from 0 to 255: $?")
    return int(text)


def _parse_pid(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 31):
        raise UsageError(f"{text!r} is not a process id", hint="a number, such as $$")
    return int(text)


def _guess_format(words: Sequence[str], default: str) -> str:
    """Return the format that the words name, though they may not be a valid command."""
    form = default
    for before, word in zip(["", *words], words, strict=False):
        if word.startswith("--format="):
            form = word.partition("=")[2]
        elif before == "--format":
            form = word
    return form if form in _FORMATS else default
