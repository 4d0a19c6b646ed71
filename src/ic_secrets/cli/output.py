"""What people and programs are shown: messages on stderr, results on stdout, never a value unasked."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import IcSecretsError

REDACTED_VALUE = "[REDACTED]"
_COLOURS = {"error": "31", "warning": "33", "hint": "36"}


def print_error(error: IcSecretsError) -> None:
    """`error: …`, and `hint: …` where there is something to do."""
    print_message("error", str(error), error.hint)


def print_message(level: str, text: str, hint: str = "") -> None:
    """A line of that level on stderr, and its hint below; text alone for an empty level.

    A stderr that takes nothing changes no outcome.
    """
    try:
        print(_line(level, text), file=sys.stderr)
        if hint:
            print(_line("hint", hint), file=sys.stderr)
        sys.stderr.flush()
    except OSError:
        silence(2)


def print_bytes(text: str) -> None:
    """The text on stdout as it is, at once; OSError."""
    sys.stdout.flush()
    data = os.fsencode(text)
    while data:
        data = data[os.write(1, data) :]


def silence(stream: int) -> None:
    """Let what is still buffered for the stream go nowhere: Python would fail on it once more when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def print_unexpected(error: Exception) -> None:
    """A fault of ours. Its message may hold anything, so only its kind and place are shown."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    if os.environ.get("IC_SECRETS_DEBUG") == "1":
        for frame in frames:
            print_message("", f"  {frame.filename}:{frame.lineno} in {frame.name}")
    print_message(
        "error",
        f"an unexpected {type(error).__name__}{place}",
        "IC_SECRETS_DEBUG=1 shows the way to it; please report it",
    )


def print_json(schema: str, content: dict[str, Any]) -> None:
    """One JSON object on stdout, with its schema's name and version: `ic-secrets.list/1`."""
    import json

    print(json.dumps({"schema": f"ic-secrets.{schema}/1", **content}, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], styles: Mapping[str, str] | None = None) -> None:
    """A table that fits the terminal; plain aligned columns where stdout is none. `styles` are those of whole cells."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    table = Table(box=box.SIMPLE_HEAD if terminal else None, pad_edge=terminal, header_style="bold")
    for column in columns:
        table.add_column(Text(column), overflow="fold", no_wrap=not terminal)
    for row in rows:
        table.add_row(*(Text(printable(cell), (styles or {}).get(cell, "")) for cell in row))
    width = None if terminal else 10_000
    Console(width=width, highlight=False, emoji=False).print(table)


def find_width() -> int:
    """How many columns the terminal has, as tables see it."""
    from rich.console import Console

    return Console().width


def format_time(seconds: int) -> str:
    """A moment in UTC, as ISO 8601."""
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def format_date(seconds: int) -> str:
    """The day of a moment in UTC, for tables; a store that keeps no times says 0."""
    return format_time(seconds)[:10] if seconds else "-"


def _line(level: str, text: str) -> str:
    text = printable(text)
    if not level:
        return text
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        return f"\x1b[{_COLOURS.get(level, '0')}m{level}:\x1b[0m {text}"
    return f"{level}: {text}"


def printable(text: str) -> str:
    """The text in one line that no terminal takes for commands, and any encoding can print."""
    shown = "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)
    return shown.encode(errors="backslashreplace").decode()
