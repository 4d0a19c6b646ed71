"""`ic-secrets scrub`: what dead runs and unwrapped builds left."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..directory import sweep
from ..overlay import ComposerHome
from ..vcs import find_residue, mend
from .output import print_json, print_message
from .parsing import Parser, add_json


def run_scrub(words: Sequence[str]) -> int:
    """Remove the private directories that no living run owns, and credentials from the configuration of clones.

    Looks at Composer's cache and the project in the working directory; safe at any time, any number of
    times.
    """
    arguments = make_parser().read(words)
    environment = dict(os.environ)
    swept = sweep(environment, arguments.run_dir or environment.get("IC_SECRETS_RUN_DIR"))
    failed = [f"{path} cannot be removed: {reason}" for path, reason in swept.failed]
    mended = []
    for residue in find_residue(ComposerHome.find(environment).cache, [os.getcwd()]):
        try:
            mend(residue)
            mended.append(residue)
        except OSError as error:
            failed.append(f"{residue.path} holds a credential and cannot be mended: {error.strerror}")
    if arguments.json:
        clones = [{"path": residue.path, "hosts": list(residue.hosts)} for residue in mended]
        print_json("scrub", {"removed": list(swept.removed), "mended": clones, "failed": failed})
    else:
        for path in swept.removed:
            print_message("", f"removed {path}")
        for residue in mended:
            print_message("", f"took the credential for {', '.join(residue.hosts)} out of {residue.path}")
    for text in failed:
        print_message("error", text)
    return 1 if failed else 0


def make_parser() -> Parser:
    """Its arguments."""
    parser = Parser(
        "scrub",
        "Remove what a dead run left (a living one is never touched), and take credentials out of the git\n"
        "configuration of Composer's cache and of the project in this directory.",
        "ic-secrets scrub",
    )
    parser.add_argument("--run-dir", metavar="DIR", help="look for private directories there too")
    add_json(parser)
    return parser
