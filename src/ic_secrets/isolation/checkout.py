"""What a build sees of git's own directories. It may read those of its project, and write to none.

Whoever runs git next in the project would run what a build wrote there: hooks, `core.fsmonitor`. A checkout can have a
`.git` that leads anywhere, so what it leads to is shown only if that is a repository which in turn names the checkout.
"""

from __future__ import annotations

import contextlib
import os
import re

from ..core.files import read_regular
from ..errors import IsolationError
from .outline import Outline, is_within

_SMALL = 4_096
_LARGEST_CONFIG = 1 << 20
_HEAD = r"ref: refs/\S+|[0-9a-f]{40,64}"
_WORKTREE = r'(?im)^[ \t]*worktree[ \t]*=[ \t]*"?([^"\n]*?)"?[ \t]*$'
_GIT = ".git"


def show_checkout(outline: Outline) -> None:
    """Protect the project's `.git`, and show what it leads to, or the one of the checkout that it is in.

    A `.git` that was allowed to be written is left so. IsolationError for one that leads to somewhere else.
    """
    path = os.path.join(outline.project, _GIT)
    is_allowed = path in outline.writable
    if os.path.islink(path) and os.path.exists(path):
        if os.path.realpath(path) not in outline.writable:
            raise IsolationError(
                f"{path} is a link, which a build could replace by a repository with hooks of its own",
                hint=f"if it may: --allow-path {os.path.realpath(path)}:rw",
            )
    elif os.path.isdir(path):
        outline.protected |= {} if is_allowed else {path: None}
    elif os.path.isfile(path):
        outline.protected |= {} if is_allowed else {path: None}
        _show_named(outline, path, is_writable=is_allowed)
    else:
        _show_above(outline)


def find_repositories(path: str) -> tuple[str, ...] | None:
    """Return the real directories that a `.git` file leads to: its own, and the one that it shares with others.

    None where that does not exist, () where it is not a repository of ours that names this checkout: a worktree's has
    the path of the `.git` file, a submodule's that of the checkout.
    """
    place = _resolve(path, _read(path).removeprefix("gitdir: "))
    if not os.path.isdir(place):
        return None
    shared = _read(os.path.join(place, "commondir"))
    if shared:
        common = os.path.realpath(os.path.join(place, shared))
        back = os.path.realpath(os.path.join(place, _read(os.path.join(place, "gitdir"))))
        is_named = back == os.path.realpath(path) and os.path.dirname(place) == os.path.join(common, "worktrees")
        return (place, common) if is_named and _has_head(place) and _is_repository(common) and _is_ours(place) else ()
    config = _read(os.path.join(place, "config"), _LARGEST_CONFIG)
    trees = [os.path.realpath(os.path.join(place, found)) for found in re.findall(_WORKTREE, config)]
    is_named = trees[-1:] == [os.path.realpath(os.path.dirname(path))]
    return (place,) if is_named and _is_repository(place) else ()


def _show_named(outline: Outline, path: str, *, is_writable: bool) -> None:
    found = find_repositories(path)
    if found == ():
        place = _resolve(path, _read(path).removeprefix("gitdir: "))
        if not outline.sees(place):
            raise IsolationError(
                f"{path} names {place}, which is not a repository of yours with this checkout",
                hint=f"if the build may read that: --allow-path {place}",
            )
    for place in found or ():
        if is_writable or not outline.sees(place):
            outline.show(place, writable=is_writable)
        if not is_writable and outline.writes(place):
            outline.protected[place] = None


def _show_above(outline: Outline) -> None:
    """Show the repository of the nearest checkout above, but not that of a home."""
    directory = os.path.dirname(outline.project)
    while directory != "/" and not (outline.home and is_within(outline.home, directory)):
        path = os.path.join(directory, _GIT)
        if os.path.lexists(path):
            if os.path.isfile(path) and not os.path.islink(path) and _is_ours(path):
                found = find_repositories(path)
                for place in (path, *found) if found else ():
                    outline.show(place)
            elif not os.path.islink(path) and _is_repository(path):
                outline.show(path)
            return
        directory = os.path.dirname(directory)


def _is_repository(place: str) -> bool:
    """Return whether the real directory is a git repository of ours."""
    parts = all(os.path.isdir(os.path.join(place, name)) for name in ("objects", "refs"))
    return parts and _has_head(place) and _is_ours(place)


def _has_head(place: str) -> bool:
    return re.fullmatch(_HEAD, _read(os.path.join(place, "HEAD"))) is not None


def _is_ours(path: str) -> bool:
    with contextlib.suppress(OSError):
        return os.lstat(path).st_uid in {0, os.geteuid()}
    return False


def _resolve(path: str, place: str) -> str:
    return os.path.realpath(os.path.join(os.path.dirname(path), place))


def _read(path: str, limit: int = _SMALL) -> str:
    """Return the text of a small file without its final newline, or "" if it cannot be read."""
    with contextlib.suppress(OSError):
        text = (read_regular(path, limit, through_links=False) or b"").decode(errors="surrogateescape").strip()
        return "" if "\0" in text else text
    return ""
