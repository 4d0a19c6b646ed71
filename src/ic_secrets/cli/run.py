"""`ic-secrets run`: the main job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..assembly import find_built
from ..build import BuildRequest, Extensions, PreparedBuild
from ..build.run import Record, run_build, start_broker
from ..core import Notice, Notify
from ..core.console import printable
from ..core.linux import harden
from ..errors import UsageError
from ..process.streams import write_whole
from ..stores import Store
from . import Call
from .call import make_run_request, read_call, split_command
from .parser import Parser, add_exposure_options, add_isolation, add_store_options

if TYPE_CHECKING:
    from ..broker import StartingBroker


def run_run(call: Call) -> int:
    """Run the build; return its exit status, or one from 120 on that says why it was not a success."""
    own, command = split_command(call.words)
    arguments, context = read_call(call._replace(words=own), make_parser())
    if not command:
        raise UsageError("no command to run", hint="ic-secrets run SITE.ENV -- COMMAND...")
    if arguments.dry_run:
        from .plan import show_plan

        return show_plan(arguments, context, command)
    harden()
    request = make_run_request(arguments, context, command)
    plugins = context.load_plugins()
    with start_broker(request) as broker, context.open_store(read_only=True, build=find_built(request)) as store:
        record = context.make_build_record(store, request.target)
        run = run_build if call.environment.get("GITHUB_ACTIONS") != "true" else _run_on_github
        return run(store, request, context.notify, record, plugins, broker=broker)


def _run_on_github(
    store: Store,
    request: BuildRequest,
    notify: Notify,
    record: Record,
    plugins: Extensions | None,
    broker: StartingBroker | None,
) -> int:
    """Run the build; later steps print, too, so the runner hears of its values, and a leak is an error of the job."""
    from ..ci.platforms import GITHUB
    from ..two_steps.github import announce_masks

    def show(notice: Notice) -> None:
        notify(notice)
        if notice.level == "error":
            write_whole(2, GITHUB.render_error(printable(notice.text)).encode())

    def announce(prepared: PreparedBuild) -> None:
        if request.mask:
            announce_masks(prepared.secrets)

    return run_build(store, request, show, record, plugins, announce, broker)


def make_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser(
        "run",
        "Run a build with the secrets that the site's build may see (scope ic), its output masked; afterwards nothing\n"
        "of them is left. The exit status is the build's own; 125 says that it was not started.\n"
        "--scope web runs the application instead: its runtime secrets are in a file that CUSTOMER_SECRETS_FAKE_FILE\n"
        "names, where Pantheon's PHP SDK and pantheon_get_secret() look for them; no env or composer secret is there.\n"
        "Most options can be kept in ic-secrets.toml; `ic-secrets config` shows what holds.",
        "ic-secrets run my-site.dev -- composer install\n"
        "  ic-secrets run --scope web my-site.dev -- php -S 127.0.0.1:8000 -t web",
    )
    parser.usage = "ic-secrets run [OPTIONS] [SITE[.ENV]] [OPTIONS] -- COMMAND..."
    parser.add_argument("target", metavar="SITE[.ENV]", nargs="?", help="the target (else that of `ic-secrets config`)")
    parser.add_argument("--scope", choices=["ic", "web"], default="ic", help="a build's secrets, or an application's")
    add_exposure_options(parser)
    add_isolation(parser)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done, as `ic-secrets plan` does")
    parser.add_argument("--no-mask", action="store_true", help="do not mask the output")
    parser.add_argument("--grace", metavar="DURATION", help="between TERM and KILL (10s)")
    parser.add_argument("--allow-background", action="store_true", help="let processes of the build outlive it")
    add_store_options(parser)
    return parser
