"""Read untrusted JSON: a few megabytes can hold millions of values, so their number is bounded before they are made."""

import json
from typing import Any, NoReturn

# Of a person's file or a composer.json, and of a list of packages: a composer.lock has some fifty for each.
MOST_VALUES = 20_000
MOST_LOCKED_VALUES = 100_000


class TooManyValuesError(ValueError):
    """The text has more values than any file of its kind."""


def parse(text: str, most: int = MOST_VALUES) -> Any:
    """Return what the text says; TooManyValuesError, or ValueError for what is not JSON, or nested too deeply."""
    if sum(map(text.count, ",[{")) > most:
        raise TooManyValuesError(f"more than {most:,} values")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")
