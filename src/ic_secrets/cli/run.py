"""`ic-secrets run`: the main job."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..build.run import run_build
from ..core.linux import harden
from ..errors import LEAK_FOUND, NOT_STARTED, IcSecretsError, UsageError
from .opening import load_plugins, opened_store
from .output import print_error
from .parsing import Parser, add_store_options, read_settings
from .recording import BuildRecord
from .requesting import add_exposure_options, find_built, make_request, print_notice, split_words


def run_run(words: Sequence[str]) -> int:
    """Run the build; its exit status, or one from 120 on that says what kept it from being a success."""
    try:
        own, command = split_words(list(words))
        arguments = make_parser().read(own)
        if not command:
            raise UsageError("no command to run", hint="ic-secrets run SITE.ENV -- COMMAND...")
        if arguments.dry_run:
            from .planning import show_plan

            return show_plan(arguments, command)
        harden()
        request = make_request(arguments, command)
        plugins = load_plugins(read_settings(arguments, dict(os.environ)))
        with opened_store(arguments, read_only=True, build=find_built(request)) as store:
            record = BuildRecord(store, arguments, str(request.target))
            return run_build(store, request, print_notice, record, plugins)
    except IcSecretsError as error:
        print_error(error)
        return error.exit_status if error.exit_status >= LEAK_FOUND else NOT_STARTED


def make_parser() -> Parser:
    """Its arguments."""
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
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done, as `ic-secrets plan` does")
    parser.add_argument("--no-mask", action="store_true", help="do not mask the output")
    parser.add_argument("--grace", metavar="DURATION", help="between TERM and KILL (10s)")
    parser.add_argument("--allow-background", action="store_true", help="let processes of the build outlive it")
    add_store_options(parser)
    return parser
