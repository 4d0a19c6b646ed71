"""`ic-secrets scrub`: what dead runs left."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..exposure import sweep
from .output import print_json, print_message
from .parsing import Parser, add_json


def run_scrub(words: Sequence[str]) -> int:
    """Remove the private directories that no living run owns; safe at any time, any number of times."""
    parser = Parser("scrub", "Remove what a dead run left; a living run is never touched.", "ic-secrets scrub")
    parser.add_argument("--run-dir", metavar="DIR", help="look there too")
    add_json(parser)
    arguments = parser.read(words)
    removed = sweep(dict(os.environ), arguments.run_dir or os.environ.get("IC_SECRETS_RUN_DIR"))
    if arguments.json:
        print_json("scrub", {"removed": list(removed)})
    else:
        for path in removed:
            print_message("", f"removed {path}")
    return 0
