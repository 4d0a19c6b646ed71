"""Who runs a command, and from where. None of it can be a value: each fact is taken only in the shape it must have."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..ci import find_job_url
from ..git import find_revision


def describe_origin(environment: Mapping[str, str], directory: str) -> dict[str, Any]:
    """Return `user`, `uid`, `host`, `job` (the CI job's URL) and the directory's `revision`; None if not known."""
    return {
        "user": _find_user(),
        "uid": os.geteuid(),
        "host": os.uname().nodename,
        "job": find_job_url(environment),
        "revision": find_revision(directory, environment),
    }


def _find_user() -> str | None:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except (KeyError, OSError):
        return None
