"""The registry of formats: each is one record, which reads and writes, from the module of its subject."""

from __future__ import annotations

import os

from ...errors import UsageError
from . import auth, definitions, dotenv, pantheon
from .base import Format

# The format with no plain text. Its files are stores; `sealed` reads and writes them.
SEALED = "sealed"
_SEALED_ENDING = ".sealed"

FORMATS: dict[str, Format] = {
    each.name: each for each in (pantheon.FORMAT, auth.FORMAT, dotenv.FORMAT, definitions.YAML, definitions.TOML)
}


def list_formats() -> list[str]:
    """List the names of all formats."""
    return [SEALED, *FORMATS]


def guess_format(path: str) -> str:
    """Return the format that the file's name suggests; UsageError where it suggests none."""
    name = os.path.basename(path)
    if name.endswith(_SEALED_ENDING):
        return SEALED
    for form in FORMATS.values():
        if name.endswith(form.endings) or (form is dotenv.FORMAT and name.startswith(".env.")):
            return form.name
    raise UsageError("the file's name suggests no format", hint=f"--format names one: {', '.join(list_formats())}")
