"""Findings as SARIF 2.1.0, the format of code-scanning pages (OASIS, docs.oasis-open.org/sarif/sarif/v2.1.0)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from .. import __version__
from ..leaks import Finding

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def render(findings: Sequence[Finding], base: str) -> dict[str, Any]:
    """Return one run, with a rule for each secret; locations below the directory `base` are relative to it."""
    names = sorted({finding.name for finding in findings})
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "ic-secrets",
                        "version": __version__,
                        "rules": [_render_rule(name) for name in names],
                    }
                },
                "results": [_render_result(finding, names.index(finding.name), base) for finding in findings],
            }
        ],
    }


def _render_rule(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "shortDescription": {"text": f"The value of {name} lies in a file"},
        "help": {"text": "Remove it there, and change the secret: whoever had the file may have read it."},
        "defaultConfiguration": {"level": "error"},
    }


def _render_result(finding: Finding, index: int, base: str) -> dict[str, Any]:
    place = {"content": "here", "name": "in the name", "link": "in what the link points to"}[finding.where]
    inside = f", inside of the archive, in {_readable(finding.member)}" if finding.member else ""
    location: dict[str, Any] = {"artifactLocation": {"uri": _make_uri(finding.path, base)}}
    if finding.where == "content" and not finding.member:
        at = {"byteOffset": finding.offset} if finding.line is None else {"startLine": finding.line}
        location["region"] = at
    return {
        "ruleId": finding.name,
        "ruleIndex": index,
        "level": "error",
        "message": {"text": f"The value of {finding.name} lies {place}{inside} ({finding.encoding})."},
        "locations": [{"physicalLocation": location}],
    }


def _make_uri(path: str, base: str) -> str:
    """Return a relative reference below `base`, else a URL (RFC 3986, RFC 8089)."""
    absolute = os.path.abspath(path)
    relative = os.path.relpath(absolute, base)
    if relative == os.pardir or relative.startswith(os.pardir + os.sep):
        return "file://" + quote(os.fsencode(absolute))
    return quote(os.fsencode(relative))


def _readable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
