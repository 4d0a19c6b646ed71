"""`ic-secrets mask`: a filter that hides a target's values in what passes."""

from __future__ import annotations

from ..assembly import read_exposed
from ..core.linux import harden
from ..errors import IcSecretsError
from ..masking import Masker, Matcher, derive_all
from ..masking.parts import SHORTEST
from ..process.streams import read_with_silences, write_whole
from . import Call
from .call import read_call
from .output import print_message
from .parser import Parser, add_store_options


def run_mask(call: Call) -> int:
    """Copy stdin to stdout with the values masked. Nothing is read before they are known."""
    arguments, context = read_call(call, make_parser())
    harden()
    exposed = read_exposed(context, context.settings.target(arguments.target), "mask")
    for name in [one.name for one in exposed if one.parts.are_short]:
        print_message("warning", f"{name} has a value, or a part, of less than {SHORTEST} bytes, which is not masked")
    _pass_on(Masker(Matcher(derive_all(exposed))))
    return 0


def make_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser(
        "mask",
        "Copy stdin to stdout, with *** for every value that a build of the target would see (scope ic), in all its\n"
        "encodings. What is held back, since it may be the beginning of a value, appears after 0.1 s of silence.",
        "composer diagnose 2>&1 | ic-secrets mask my-site.dev",
    )
    parser.add_argument("target", metavar="SITE[.ENV]", nargs="?", help="the target (else that of `ic-secrets config`)")
    add_store_options(parser)
    return parser


def _pass_on(masker: Masker) -> None:
    """Let stdin through the masker to stdout; BrokenPipeError when nobody reads there any more."""
    try:
        for data in read_with_silences(0):
            write_whole(1, masker.feed(data) if data else masker.flush_idle())
        write_whole(1, masker.close())
    except BrokenPipeError:
        raise
    except OSError as error:
        raise IcSecretsError(f"stdin cannot be passed on to stdout: {error.strerror}") from None
