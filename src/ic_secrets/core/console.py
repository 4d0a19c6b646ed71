"""The terminal: colour, width, tables and progress bars. rich is imported only when one of those is drawn."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TextIO

_LONGEST = 4_000
_COLOURS = {"error": "31", "warning": "33", "hint": "36"}


def format_message(level: str, text: str, stream: TextIO) -> str:
    """Return `level: text` in one line, coloured on a terminal; the text alone without a level. A long one is cut."""
    more = len(text) - _LONGEST
    text = printable(f"{text[:_LONGEST]}… ({more:,} more characters)" if more > 0 else text)
    if not level:
        return text
    if stream.isatty() and not os.environ.get("NO_COLOR"):
        return f"\x1b[{_COLOURS.get(level, '0')}m{level}:\x1b[0m {text}"
    return f"{level}: {text}"


def printable(text: str) -> str:
    """Return the text in one line that neither a terminal nor a CI platform takes for a command.

    A checkout or a server may have made any part of it, so everything that is printed passes here.
    Any encoding can print the result.
    """
    shown = "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)
    # `::set-output` at the beginning of a line; `##[group]`, `##vso[task.setvariable]`, `##teamcity[…]` anywhere.
    shown = re.sub(r"#(?=#\w*\[)", r"\\x23", re.sub(r"^(\s*):(?=:)", r"\1\\x3a", shown))
    return shown.encode(errors="backslashreplace").decode()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], styles: Mapping[str, str] | None = None) -> None:
    """Print a table that fits the terminal, or plain aligned columns elsewhere. `styles` are those of whole cells."""
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
    """Return how many columns the terminal has, as tables see it."""
    from rich.console import Console

    return Console().width


@contextlib.contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int, int], object]]:
    """Show a bar while the block runs, if stderr is a terminal. What is yielded takes how much of how much is done."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)
