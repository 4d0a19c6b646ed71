"""Make reStructuredText of the docstrings, which are written as plain text with indented examples."""

from __future__ import annotations

import inspect
import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.typing import stringify_annotation

from ic_secrets.errors import IcSecretsError


def setup(app: Sphinx) -> dict[str, bool]:
    """Register what is done to each docstring."""
    app.connect("autodoc-process-docstring", _process)
    app.connect("autodoc-process-signature", _simplify)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _process(app: Sphinx, what: str, name: str, thing: object, options: Any, lines: list[str]) -> None:
    if lines and lines[0].startswith("Alias for field number"):  # what a NamedTuple says of a field without a docstring
        lines.clear()
    lines[:] = _mark_examples(lines)
    if inspect.isclass(thing) and issubclass(thing, IcSecretsError):
        lines += ["", f"Exit status {thing.exit_status}."]
        if thing.hint:
            lines += ["", f"Hint: *{thing.hint}*"]
        lines.append("")


def _simplify(app: Sphinx, what: str, name: str, thing: object, *_: Any) -> tuple[str, str] | None:
    """Leave out the arguments of an error, which are the same for all, and defaults that say nothing."""
    if not inspect.isclass(thing):
        return None
    if issubclass(thing, IcSecretsError):
        return "", ""
    if issubclass(thing, tuple) and hasattr(thing, "_fields"):
        return f"({', '.join(_describe_field(thing, name) for name in thing._fields)})", ""
    return None


def _describe_field(record: Any, name: str) -> str:
    """Show a default only where it is plain: another one can be of the place where the site is built."""
    known = record.__annotations__[name]
    described = f"{name}: {getattr(known, '__forward_arg__', None) or stringify_annotation(known, 'smart')}"
    if name not in record._field_defaults:
        return described
    default = record._field_defaults[name]
    return (
        f"{described} = {default!r}" if isinstance(default, (bool, int, str, tuple, type(None))) else f"{described} = …"
    )


def _mark_examples(lines: list[str]) -> list[str]:
    """Turn each indented block that follows an empty line into a block of code."""
    marked: list[str] = []
    is_code = False
    for line in lines:
        is_indented = line.startswith("    ")
        if is_indented and not is_code and (not marked or not marked[-1].strip()):
            is_python = re.match(r"\s*(from|import|with|@|def|class)\b", line) or "(" in line
            marked += [f".. code-block:: {'python' if is_python else 'text'}", ""]
            is_code = True
        elif line.strip() and not is_indented:
            is_code = False
        marked.append(line)
    return marked
