"""Moments: Unix times as text in UTC, and back. A mistake is a UsageError."""

from __future__ import annotations

import re
import time

from ..errors import UsageError
from .durations import parse_duration

# The end of the year 9999, in Unix time.
_LAST_MOMENT = 253_402_300_799


def format_time(seconds: int) -> str:
    """Return a moment in UTC, as ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def format_date(seconds: int) -> str:
    """Return the day of a moment in UTC, for tables; `-` for 0, which a store gives that keeps no times."""
    return format_time(seconds)[:10] if seconds else "-"


def parse_expiry(text: str, now: float) -> int:
    """Return the last second, in Unix time, of a day `YYYY-MM-DD` (UTC), an ISO 8601 time, or a duration from `now` on.

    A time without a zone is UTC. A duration needs its unit: a bare number could be a year. UsageError,
    also for a moment in the past.
    """
    if re.fullmatch(r"\d+(?:\.\d+)?[smhd]", text):
        moment = now + parse_duration(text)
    else:
        moment = _parse_moment(text)
    if moment <= now:
        raise UsageError(f"{text} is in the past", hint="a secret expires in the future")
    if moment > _LAST_MOMENT:
        raise UsageError(f"{text} is after the year 9999")
    return int(moment)


def _parse_moment(text: str) -> float:
    from datetime import datetime, timezone

    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
            text += "T23:59:59Z"
        if not re.fullmatch(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)?", text, re.ASCII):
            raise ValueError
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise UsageError(
            f"{text!r} is not a date", hint="YYYY-MM-DD, a time such as 2027-01-31T18:00Z, or a duration such as 90d"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
