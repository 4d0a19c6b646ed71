"""Messages on stderr and JSON on stdout; how an error becomes a message and an exit status."""

from __future__ import annotations

import os
import sys
from typing import Any

from ..core.console import format_message
from ..errors import LEAK_FOUND, IcSecretsError

REDACTED_VALUE = "[REDACTED]"


def print_error(error: IcSecretsError) -> None:
    """Print `error: …`, and `hint: …` if there is something to do."""
    print_message("error", str(error), error.hint)


def print_message(level: str, text: str, hint: str = "") -> None:
    """Print a line of that level on stderr, and its hint below; the text alone for an empty level.

    A stderr that cannot be written changes no outcome.
    """
    try:
        print(format_message(level, text, sys.stderr), file=sys.stderr)
        if hint:
            print(format_message("hint", hint, sys.stderr), file=sys.stderr)
        sys.stderr.flush()
    except OSError:
        silence(2)


def print_bytes(text: str) -> None:
    """Write the text to stdout as it is, at once; OSError."""
    sys.stdout.flush()
    data = os.fsencode(text)
    while data:
        data = data[os.write(1, data) :]


def silence(stream: int) -> None:
    """Send what is still buffered for the stream to /dev/null: Python would fail on it again when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def report(error: Exception, failure: int, *, is_debug: bool) -> int:
    """Print the error that ended a command, and return the exit status: `failure` where it has no special one."""
    if isinstance(error, IcSecretsError):
        print_error(error)
        return error.exit_status if failure == 1 or error.exit_status >= LEAK_FOUND else failure
    if isinstance(error, OSError):
        silence(1)
        if isinstance(error, BrokenPipeError):  # our reader is gone
            return 141  # 128+SIGPIPE
        print_message("error", f"cannot go on: {error.strerror or type(error).__name__}")
    else:
        _print_unexpected(error, is_debug=is_debug)
    return failure


def _print_unexpected(error: Exception, *, is_debug: bool) -> None:
    """Report a fault of ours. Its message may hold anything, so only its kind and place are shown."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    for frame in frames if is_debug else ():
        print_message("", f"  {frame.filename}:{frame.lineno} in {frame.name}")
    hint = "IC_SECRETS_DEBUG=1 shows where it comes from; please report it"
    print_message("error", f"an unexpected {type(error).__name__}{place}", hint)


def print_json(schema: str, content: dict[str, Any]) -> None:
    """Print one JSON object on stdout, with its schema's name and version: `ic-secrets.list/1`."""
    import json

    text = json.dumps({"schema": f"ic-secrets.{schema}/1", **content}, indent=2)
    print(text.replace("##", "\\u0023#"))  # no text in it is a command to a CI platform (`##vso[…]`)
