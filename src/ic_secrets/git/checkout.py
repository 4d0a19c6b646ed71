"""The commit and the branch that are checked out. Whatever does not look like one is not returned."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..core.files import read_regular

_HEX = frozenset("0123456789abcdef")
# What git writes as HEAD if references are not kept in files (gitrepository-layout, "reftable").
_NOT_IN_FILES = "refs/heads/.invalid"
_BRANCH = "ref: refs/heads/"
_SMALL = 4096
_LARGE = 16 << 20


def find_revision(directory: str, environment: Mapping[str, str]) -> str | None:
    """Return the commit that is checked out in the directory; None if no commit is.

    git itself is started only if references are not kept in files: it takes longer than all the rest.
    """
    try:
        place = find_repository(os.path.abspath(directory))
        head = _read(os.path.join(place, "HEAD")) if place else ""
        if not place or _check(head):
            return _check(head)
        reference = head.removeprefix("ref: ")
        if reference == _NOT_IN_FILES:
            from ..composer.version import ask_revision

            return _check(ask_revision(environment, directory))
        if not reference.startswith("refs/") or ".." in reference:
            return None
        common = os.path.join(place, _read(os.path.join(place, "commondir")))
        loose = os.path.join(common, reference)
        if os.path.realpath(loose) != os.path.join(os.path.realpath(common), reference):
            return None  # through a link any file of forty digits, such as a token, would pass for a commit
        return _check(_read(loose)) or _find_packed(common, reference)
    except (OSError, ValueError):
        return None


def find_branch(directory: str, environment: Mapping[str, str]) -> str | None:
    """Return the branch that is checked out in the directory; None if that is a commit, or nothing."""
    try:
        place = find_repository(os.path.abspath(directory))
        head = _read(os.path.join(place, "HEAD")) if place else ""
    except (OSError, ValueError):
        return None
    if head == f"ref: {_NOT_IN_FILES}":
        from ..composer.version import ask_branch

        return ask_branch(environment, directory)
    return head.removeprefix(_BRANCH) if head.startswith(_BRANCH) else None


def find_repository(directory: str) -> str | None:
    """Return the repository's own directory for the working tree that the directory is in; OSError."""
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
    return _check(before.rpartition(b"\n")[2].decode(errors="replace")) if found else None


def _check(text: str | None) -> str | None:
    """Return the text if it is the name of a commit, in SHA-1 or SHA-256."""
    return text if text and len(text) in {40, 64} and _HEX.issuperset(text) else None


def _read(path: str) -> str:
    """Return the text of a small file; empty if it does not exist or is a link."""
    if os.path.islink(path):
        return ""
    return (read_regular(path, _SMALL) or b"").decode(errors="replace").strip()
