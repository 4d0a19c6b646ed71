"""What an isolated build's environment loses and gains, and what its project names beyond what it sees."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence

from ..composer.command import is_composer
from ..composer.project import Project
from ..composer.trees import find_trees
from ..core.records import NamedTuple
from ..errors import IsolationError
from ..git.helper import add_settings
from .outline import is_whole, is_within
from .view import View

# What names an agent, a bus, a display or a terminal's server: each a way out, and none of them is seen inside.
_AGENTS = frozenset(
    """
    SSH_AUTH_SOCK SSH_AGENT_PID GPG_AGENT_INFO GNOME_KEYRING_CONTROL GNOME_KEYRING_PID DBUS_SESSION_BUS_ADDRESS
    DBUS_SESSION_BUS_PID DBUS_SYSTEM_BUS_ADDRESS CONTAINERD_ADDRESS CONTAINERD_NAMESPACE XAUTHORITY DISPLAY
    WAYLAND_DISPLAY XDG_RUNTIME_DIR TMUX STY NOTIFY_SOCKET VSCODE_IPC_HOOK_CLI VSCODE_GIT_IPC_HANDLE
    VSCODE_GIT_ASKPASS_MAIN VSCODE_GIT_ASKPASS_NODE
    """.split()
)
# The same where it is a socket: a server by its name is reached, or not, like any other.
_SERVERS = ("DOCKER_HOST", "CONTAINER_HOST", "BUILDKIT_HOST", "PODMAN_HOST")
_SOCKETS = ("unix:", "fd:", "ssh:", "npipe:", "/")
# Directories to write to, for which every program has a default: those that must exist, and those that are made.
_TEMPORARY = frozenset({"TMPDIR", "TMP", "TEMP", "TEMPDIR"})
_MADE = frozenset({"XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "npm_config_cache"})
# What git reads of a person's settings that a build may need: who they are, and whose checkouts they trust.
_ALL = "safe.directory"
_LAST = ("user.name", "user.email")
# The project is mounted by itself, so the checkout that it is a part of is on another file system, as git sees it.
_ACROSS = "GIT_DISCOVERY_ACROSS_FILESYSTEM"


class Outside(NamedTuple):
    """A directory beside the project that its composer.json names, and that an isolated build does not see."""

    path: str
    is_written: bool
    option: str


def adapt_environment(
    environment: Mapping[str, str], view: View, settings: Iterable[tuple[str, str]] = ()
) -> dict[str, str]:
    """Return the environment for the view; `settings` are git's, as they are read outside, the strongest last."""
    adapted = {name: value for name, value in environment.items() if not _leads_out(name, value, view)}
    if view.home and "HOME" not in adapted:
        adapted["HOME"] = view.home
    adapted.setdefault(_ACROSS, "1")
    return {**adapted, **add_settings(adapted, _choose_settings(settings))}


def furnish_home(place: str, home: str, view: View) -> None:
    """Fill the directory, which stands for the home, with links to what the build sees of that; OSError."""
    real = os.path.realpath(home)
    for path in sorted((*view.readable, *view.writable)):
        if home and path != real and is_within(path, real):
            link = place + path[len(real.rstrip("/")) :]
            os.makedirs(os.path.dirname(link), exist_ok=True)
            with contextlib.suppress(FileExistsError):  # it is in a directory that has its link
                os.symlink(path, link)


def find_outside(project: Project, view: View, environment: Mapping[str, str]) -> tuple[Outside, ...]:
    """Return what composer.json names outside of what the build sees: where Composer writes, and path repositories.

    A directory of packages that does not exist is left out: Composer itself explains that.
    """
    directory = os.path.abspath(project.directory)
    manifest = {"config": project.config, "extra": project.extra}
    written = set(find_trees(manifest, environment, project.directory))
    found = []
    for tree in map(os.path.abspath, project.trees):
        real = os.path.realpath(tree)
        is_written = tree in set(map(os.path.abspath, written))
        is_seen = view.lets_write(real) if is_written else view.shows(real)
        if not is_seen and (is_written or os.path.isdir(real)):
            relative = os.path.relpath(tree, directory)
            is_short = relative.count("..") <= 2 and os.path.realpath(view.directory) == os.path.realpath(directory)
            path = relative if is_short else tree
            found.append(Outside(tree, is_written, f"--allow-path {shlex.quote(path)}{':rw' if is_written else ''}"))
    return tuple(found)


def explain_outside(found: Sequence[Outside], home: str = "") -> tuple[str, str]:
    """Return what to say of them, and what to do."""
    names = ", ".join(each.path for each in found)
    whole = next((each for each in found if is_whole(os.path.realpath(each.path), home)), None)
    if whole:
        return f"composer.json names {whole.path}, which no isolated build sees", "let it name what is needed in there"
    missing = [each.path for each in found if not os.path.isdir(each.path)]
    made = f"make {', '.join(missing)}, then " if missing else ""
    options = " ".join(each.option for each in found)
    return f"composer.json names what the isolated build would not see: {names}", f"{made}{options}"


def check_outside(
    command: Sequence[str], project: Project, view: View, environment: Mapping[str, str]
) -> tuple[str, str] | None:
    """Raise IsolationError where Composer runs and would end halfway for want of what composer.json names.

    Another command may have no need of it: then return what to warn of. None where nothing is missing.
    """
    found = find_outside(project, view, environment)
    if not found:
        return None
    text, hint = explain_outside(found, view.home)
    if is_composer(command):
        raise IsolationError(text, hint=hint)
    return text, hint


def check_arguments(command: Sequence[str], view: View, directory: str) -> tuple[str, str] | None:
    """Say which files that the command names are not seen; IsolationError where Composer runs, None if all are."""
    named = [os.path.normpath(os.path.join(directory, word)) for word in command[1:] if "/" in word]
    unseen = [path for path in dict.fromkeys(named) if os.path.isfile(path) and not _is_seen(path, view)]
    if not unseen:
        return None
    text = f"the command names what the isolated build would not see: {', '.join(unseen)}"
    hint = " ".join(f"--allow-path {shlex.quote(path)}" for path in unseen)
    if is_composer(command):
        raise IsolationError(text, hint=hint)
    return text, hint


def _is_seen(path: str, view: View) -> bool:
    real = os.path.realpath(path)
    return view.shows(real) or is_within(real, "/proc") or any(is_within(real, hidden) for hidden in view.hidden)


def _leads_out(name: str, value: str, view: View) -> bool:
    if name in _AGENTS:
        return True
    if name in _SERVERS:
        return value.startswith(_SOCKETS)
    if name not in _TEMPORARY | _MADE or not value.startswith("/"):
        return False
    path = os.path.normpath(value)
    in_home = bool(view.home) and is_within(path, view.home) and (name in _MADE or path == view.home)
    return not (in_home or path in view.private or view.lets_write(path))


def _choose_settings(settings: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    listed = [(key.lower(), value) for key, value in settings]
    last = {key: value for key, value in listed if key in _LAST}
    return [*((key, value) for key, value in listed if key == _ALL), *last.items()]
