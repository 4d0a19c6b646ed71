"""Who runs a command, and from where: for the audit log. Nothing of it can be a value.

What comes from the environment or the checkout is taken only in the shape that it must have.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..ci.platforms import find_job_url
from ..core.files import read_regular

_HEX = frozenset("0123456789abcdef")
# What git writes as HEAD where references are not kept in files (gitrepository-layout, "reftable").
_NOT_IN_FILES = "refs/heads/.invalid"
_BRANCH = "ref: refs/heads/"
_SMALL = 4096
_LARGE = 16 << 20


def describe_origin(environment: Mapping[str, str], directory: str) -> dict[str, Any]:
    """`user`, `uid`, `host`, `job` (the CI job's URL) and `revision` of the directory; None for what is not known."""
    return {
        "user": _find_user(),
        "uid": os.geteuid(),
        "host": os.uname().nodename,
        "job": find_job_url(environment),
        "revision": find_revision(directory, environment),
    }


def find_revision(directory: str, environment: Mapping[str, str]) -> str | None:
    """The git commit that is checked out there; None where there is none.

    git itself is started only where references are not kept in files: it takes longer than all else here.
    """
    try:
        place = _find_repository(os.path.abspath(directory))
        head = _read(os.path.join(place, "HEAD")) if place else ""
        if not place or _checked(head):
            return _checked(head)
        reference = head.removeprefix("ref: ")
        if reference == _NOT_IN_FILES:
            from ..composer.version import ask_revision

            return _checked(ask_revision(environment, directory))
        if not reference.startswith("refs/") or ".." in reference:
            return None
        common = os.path.join(place, _read(os.path.join(place, "commondir")))
        loose = os.path.join(common, reference)
        if os.path.realpath(loose) != os.path.join(os.path.realpath(common), reference):
            return None  # through a link any file of forty digits, such as a token, would pass for a commit
        return _checked(_read(loose)) or _find_packed(common, reference)
    except (OSError, ValueError):
        return None


def find_branch(directory: str, environment: Mapping[str, str]) -> str | None:
    """The git branch that is checked out there; None where a commit is, or nothing."""
    try:
        place = _find_repository(os.path.abspath(directory))
        head = _read(os.path.join(place, "HEAD")) if place else ""
    except (OSError, ValueError):
        return None
    if head == f"ref: {_NOT_IN_FILES}":
        from ..composer.version import ask_branch

        return ask_branch(environment, directory)
    return head.removeprefix(_BRANCH) if head.startswith(_BRANCH) else None


def _find_user() -> str | None:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except (KeyError, OSError):
        return None


def _find_repository(directory: str) -> str | None:
    """The repository's own directory, for this working tree."""
    while True:
        path = os.path.join(directory, ".git")
        if os.path.isdir(path):
            return path
        if os.path.isfile(path):
            return os.path.join(directory, _read(path).removeprefix("gitdir: "))
        parent = os.path.dirname(directory)
        if parent == directory:
            return None
        directory = parent


def _find_packed(common: str, reference: str) -> str | None:
    path = os.path.join(common, "packed-refs")
    data = b"" if os.path.islink(path) else read_regular(path, _LARGE) or b""
    before, found, _ = data.partition(f" {reference}\n".encode())
    return _checked(before.rpartition(b"\n")[2].decode(errors="replace")) if found else None


def _checked(text: str | None) -> str | None:
    """The text if it is a commit's name, in SHA-1 or SHA-256."""
    return text if text and len(text) in {40, 64} and _HEX.issuperset(text) else None


def _read(path: str) -> str:
    """The text of a small file, empty where there is none, or but a link to one."""
    if os.path.islink(path):
        return ""
    return (read_regular(path, _SMALL) or b"").decode(errors="replace").strip()
