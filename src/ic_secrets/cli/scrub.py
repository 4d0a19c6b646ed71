"""`ic-secrets scrub`: what dead runs and unwrapped builds left, and caches whose time is over."""

from __future__ import annotations

import os
import time

from ..assembly import Context
from ..composer import ComposerHome
from ..errors import IcSecretsError
from ..git import find_residue, mend
from ..process.directory import sweep
from . import Call
from .call import find_run_dir, read_call
from .output import print_json, print_message
from .parser import Parser, add_json


def run_scrub(call: Call) -> int:
    """Remove the private directories that no living run owns, and credentials from the configuration of clones.

    Looks at Composer's cache and the project in the working directory; safe at any time, any number of
    times. Secrets of a server are kept for as long as the setting `cache` says, where it is not set no longer.
    """
    arguments, context = read_call(call, make_parser())
    swept = sweep(call.environment, find_run_dir(arguments, context))
    removed, failed = _sweep_caches(context, is_all=arguments.cache)
    removed += swept.removed
    failed += [f"{path} cannot be removed: {reason}" for path, reason in swept.failed]
    mended = []
    for residue in find_residue(ComposerHome.find(call.environment).cache, [os.getcwd()]):
        try:
            mend(residue)
            mended.append(residue)
        except OSError as error:
            failed.append(f"{residue.path} holds a credential and cannot be mended: {error.strerror}")
    if arguments.json:
        clones = [{"path": residue.path, "hosts": list(residue.hosts)} for residue in mended]
        print_json("scrub", {"removed": removed, "mended": clones, "failed": failed})
    else:
        for path in removed:
            print_message("", f"removed {path}")
        for residue in mended:
            print_message("", f"took the credential for {', '.join(residue.hosts)} out of {residue.path}")
    for text in failed:
        print_message("error", text)
    return 1 if failed else 0


def _sweep_caches(context: Context, *, is_all: bool) -> tuple[list[str], list[str]]:
    """Return the caches that were removed, and what went wrong with others."""
    from ..stores.cache_files import CacheDirectory

    settings, now, duration = context.settings, time.time(), 0.0
    if not is_all:
        try:
            duration = settings.get_duration("cache") if settings.find("cache") else 0.0
        except IcSecretsError as error:
            print_message("warning", f"{error}: no cache was looked at", error.hint)
            return [], []
    swept = CacheDirectory(settings.cache_directory).sweep(lambda kept: not duration or not 0 <= now - kept <= duration)
    return list(swept.removed), [f"{path} cannot be removed: {reason}" for path, reason in swept.failed]


def make_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser(
        "scrub",
        "Remove what a dead run left (a living one is never touched), and take credentials out of the git\n"
        "configuration of Composer's cache and of the project in this directory. What is kept of a server's secrets\n"
        "goes when it is older than the setting `cache` allows, or where that is not set.",
        "ic-secrets scrub",
    )
    parser.add_argument("--run-dir", metavar="DIR", help="look for private directories there too")
    parser.add_argument("--cache", action="store_true", help="remove all that is kept of servers' secrets")
    add_json(parser)
    return parser
