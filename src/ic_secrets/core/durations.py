"""Durations: seconds, or a number and its unit (`30s`, `10m`, `1h`, `7d`)."""

import re

from ..errors import UsageError

PATTERN = r"(\d+(?:\.\d+)?)([smhd]?)"
"""The grammar, for `re.fullmatch` with `re.ASCII`, and for schemas."""

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def is_duration(text: str) -> bool:
    """Return whether the text is a duration."""
    return re.fullmatch(PATTERN, text, re.ASCII) is not None


def parse_duration(text: str) -> float:
    """Return the duration in seconds; UsageError."""
    match = re.fullmatch(PATTERN, text, re.ASCII)
    if not match:
        raise UsageError(f"{text!r} is not a duration", hint="seconds, or a number with s, m, h or d: 30s, 10m, 1h, 7d")
    return float(match[1]) * _UNITS[match[2]]


def format_duration(seconds: float) -> str:
    """Return the time in the largest unit of which there are two or more, rounded down: `36 hours`, `2 days`."""
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size):,} {unit}"
    return f"{int(seconds)} {'second' if int(seconds) == 1 else 'seconds'}"
