"""What an isolated build may reach beyond its own, and what of ours it must never see."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from ..build import BuildRequest
from ..composer.project import read_project
from ..config import SETTINGS, Settings
from ..config.catalogue import WRITABLE
from ..core import Notice
from ..core.files import is_below
from ..errors import ConfigError, UsageError
from ..stores.registry import find_scheme, split_url
from .context import Context
from .request import read_hosts

# What names a file beside the settings: a passphrase, the keys of a client of a server.
_VARIABLES = ("IC_SECRETS_PASSPHRASE_FILE", "BAO_CLIENT_KEY", "VAULT_CLIENT_KEY")
# Where the clients of the servers that hold secrets keep their tokens, below the home.
_TOKENS = (".vault-token", ".terminus")


def arrange_isolation(context: Context, request: BuildRequest, *, is_run: bool) -> BuildRequest:
    """Return the request with what an isolated build may reach, and what it may not see; ConfigError, UsageError."""
    settings = context.settings
    isolate, background = settings.get("isolate"), settings.get("allow-background")
    if not is_run:
        raise ConfigError(
            f"{isolate.source} wants the build isolated, and only `ic-secrets run` isolates one",
            hint="use `ic-secrets run SITE.ENV -- COMMAND`; IC_SECRETS_ISOLATE=0 goes without",
        )
    if request.allow_background:
        kind = UsageError if background.layer == "flag" else ConfigError
        raise kind(
            f"{background.source} cannot be kept with {isolate.source}: a process that outlives an isolated build "
            "dies with it",
            hint="leave one of the two out",
        )
    _warn_of_place(context, request.directory)
    return request._replace(
        reachable=_read_reachable(context, request),
        allowed_paths=_read_paths(context, request),
        concealed=list_concealed(settings),
    )


def _warn_of_place(context: Context, directory: str) -> None:
    """Say that the store is where the build writes: a file that it puts beside it, SQLite takes for its own journal."""
    for path in _find_store(context.settings.store.value)[:1]:
        if is_below(path, directory):
            text = f"the store {path} is in the project: an isolated build cannot read it, but can damage it"
            context.notify(Notice(text, "keep it outside of the project"))


def _read_reachable(context: Context, request: BuildRequest) -> frozenset[str]:
    """Return the further hosts; of a checkout's own, only those of its repositories."""
    settings = context.settings
    hosts = read_hosts(settings, "allow-host")
    if not hosts or not settings.is_of_checkout_alone("allow-host"):
        return hosts
    sources = read_project(request.command, request.directory, request.environment).sources
    own = {repository.host for repository in sources.repositories}
    _ignore(context, "allow-host", sorted(hosts - own), "allows hosts that its repositories do not have")
    return hosts & own


def _read_paths(context: Context, request: BuildRequest) -> tuple[str, ...]:
    """Return the further paths, made absolute; of a checkout's own, only those inside of it."""
    settings = context.settings
    found = settings.get("allow-path")
    paths = [_make_absolute(path, request.directory) for path in found.value.split(",") if path]
    if not settings.is_of_checkout_alone("allow-path"):
        return tuple(paths)
    root = os.path.dirname(settings.project_file or "")
    outside = [path for path in paths if not _is_inside(path, root)]
    _ignore(context, "allow-path", outside, "allows paths beside the checkout, or that git runs programs from")
    return tuple(path for path in paths if path not in outside)


def _make_absolute(path: str, directory: str) -> str:
    """Return the path, relative to the directory, and `:rw` if it has that; UsageError for no path at all."""
    place = path.removesuffix(WRITABLE)
    if not place:
        raise UsageError(f"{path!r} is not a path", hint="--allow-path PATH, or PATH:rw")
    absolute = os.path.normpath(os.path.join(directory, os.path.expanduser(place)))
    return absolute + path[len(place) :]


def _is_inside(path: str, root: str) -> bool:
    """Return whether a checkout may allow its path: below itself, and `.git` never to be written to."""
    place = os.path.realpath(path.removesuffix(WRITABLE))
    if not is_below(place, root):
        return False
    is_of_git = ".git" in place.split(os.sep) or os.path.lexists(os.path.join(place, ".git"))
    return not (path.endswith(WRITABLE) and is_of_git)


def _ignore(context: Context, name: str, ignored: Iterable[str], effect: str) -> None:
    """Say what is ignored of a checkout's setting; ConfigError in a pipeline."""
    words = ", ".join(ignored)
    if not words:
        return
    settings = context.settings
    if settings.is_imposed(name):
        raise settings.refuse_imposed(name, f"{effect} ({words})")
    hint = f"allow it yourself, if you trust it: --{name}, or your own configuration"
    context.notify(
        Notice(f"{settings.get(name).source} {effect}; a checkout may not, so this is ignored: {words}", hint)
    )


# --- what belongs to us ------------------------------------------------------------------------------------


def list_concealed(settings: Settings) -> tuple[str, ...]:
    """Return the files and directories that no isolated build may see, there or not, absolute and sorted.

    The stores with what lies beside them, the keys, the tokens of servers, the audit log, state files, caches and the
    person's configuration: whatever any of the settings names, though it may not hold in the end.
    """
    environment = settings.environment
    home = environment.get("HOME") or os.path.expanduser("~")
    named = [environment[name] for name in _VARIABLES if environment.get(name)]
    named += [os.path.join(home, name) for name in _TOKENS]
    named += [settings.person_file[0], settings.audit_file or ""]
    for name, known in SETTINGS.items():
        for value in settings.list_values(name):
            if known.kind == "path" and not known.is_shown:
                named.append(value)
            elif known.kind == "plugins":
                named += [word for word in value.split(",") if "/" in word]
            elif known.kind == "store":
                named += _find_store(value)
    given = {os.path.abspath(os.path.expanduser(path)) for path in named if path}
    files = given | {os.path.realpath(path) for path in given}
    beside = {found for path in files for found in _list_beside(path)}
    return tuple(sorted({*files, *beside, *settings.own_directories} - {os.devnull}))


def _find_store(url: str) -> list[str]:
    """Return the paths of a store that is a file, and of the journal that SQLite makes beside it."""
    path = split_url(url)[1].partition("?")[0]
    scheme = find_scheme(url)
    is_path = scheme.is_path if scheme else path.startswith("/") and not path.startswith("//")
    return [path, f"{os.path.realpath(path)}-journal"] if is_path and path else []


def _list_beside(path: str) -> list[str]:
    """Return what is made of a file beside it: `key.ID`, `store.db.audit`, `store.db.new`, `store.db-journal`."""
    directory, name = os.path.split(path)
    with contextlib.suppress(OSError):
        return [
            os.path.join(directory, each) for each in os.listdir(directory) if each.startswith((f"{name}.", f"{name}-"))
        ]
    return []
