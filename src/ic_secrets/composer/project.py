"""The project that is built, as Composer reads it: composer.json, composer.lock and auth.json."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from itertools import islice

from ..core.files import read_regular
from ..core.json_text import MOST_LOCKED_VALUES, MOST_VALUES
from ..core.records import NamedTuple
from ..errors import BuildError, MalformedAuthError
from ..masking.parts import SecretParts
from .auth_json import Document, parse_auth, parse_document
from .command import find_project
from .committed import find_logins
from .foreign_home import find_foreign_home
from .home import AUTH_FILE, expand_setting
from .repositories import PackageSources, iterate_entries, read_sources
from .trees import find_trees

# A lock file of a very large project has a few megabytes.
_LARGEST = 8 << 20
_MOST_LOGINS = 1_000
_SECTIONS = ("config", "extra")
# What names further files: keys of `extra`, and a package that has a file of its own.
_INCLUDING = frozenset({"merge-plugin", "patches", "patches-file", "composer-patches", "cweagans/composer-patches"})


class Project(NamedTuple):
    """A project and its files, as far as they exist and can be read.

    `auth_file` and `manifest_file` are the paths of its auth.json and composer.json; `config` and `extra` are the
    latter's sections. `sources` are what its packages come from. `caches` are the directories that it names as
    Composer's cache, `cache` the one without a kind; `trees` those beside its own that Composer writes to, or takes
    packages from.
    `logins` are what is secret in its URLs with a login.
    `foreign_home` is what gives Composer a home of its own in the build.
    `identity` is the device and number of its own directory, whatever name that gets.
    """

    directory: str
    auth_file: str = ""
    manifest_file: str = ""
    has_manifest: bool = False
    is_manifest_valid: bool = False
    sources: PackageSources = PackageSources((), (), None, frozenset(), {})
    config: Document = {}  # noqa: RUF012 -- nobody writes to it
    cache: str = ""
    caches: tuple[str, ...] = ()
    extra: Document = {}  # noqa: RUF012 -- nor to this
    trees: tuple[str, ...] = ()
    identity: tuple[int, ...] = ()
    foreign_home: tuple[str, ...] = ()
    logins: tuple[SecretParts, ...] = ()


def read_project(command: Sequence[str], directory: str, environment: Mapping[str, str]) -> Project:
    """Read the project in which the command works when it is started in the directory.

    A malformed composer.json is Composer's to explain: its own message says where.
    """
    start, directory = directory, find_project(command, directory)
    manifest_file = os.path.join(directory, environment.get("COMPOSER") or "composer.json")
    auth_file = os.path.join(os.path.dirname(os.path.realpath(manifest_file)), AUTH_FILE)
    has_manifest = os.path.exists(manifest_file)
    manifest = read_leniently(manifest_file)
    config, extra = (section if isinstance(section := (manifest or {}).get(name), dict) else {} for name in _SECTIONS)
    lock = read_lock(manifest_file) or {} if os.path.exists(find_lock(manifest_file)) else None
    sources = _read_sources(manifest or {}, lock, directory)
    named = [path if isinstance(path := config.get(name), str) else "" for name in ("cache-dir", "cache-vcs-dir")]
    caches = [os.path.join(directory, expand_setting(path, environment)) if path else "" for path in named]
    return Project(
        directory=directory,
        auth_file=auth_file,
        manifest_file=manifest_file,
        has_manifest=has_manifest,
        is_manifest_valid=has_manifest and manifest is not None,
        sources=sources,
        config=config,
        cache=caches[0],
        caches=tuple(filter(None, caches)),
        extra=extra,
        identity=identify(directory) or (),
        foreign_home=find_foreign_home(manifest or {}, sources, command, start),
        trees=find_trees(manifest or {}, environment, directory),
        logins=_find_logins(sources, manifest or {}, lock or {}),
    )


def find_lock(manifest_file: str) -> str:
    """Return the path of the composer.lock that belongs to the composer.json."""
    return f"{manifest_file.removesuffix('.json')}.lock"


def read_lock(manifest_file: str) -> Document | None:
    """Read the composer.lock that belongs to the composer.json; None where it cannot be read."""
    return read_leniently(find_lock(manifest_file), MOST_LOCKED_VALUES)


def _find_logins(sources: PackageSources, manifest: Document, lock: Document) -> tuple[SecretParts, ...]:
    """Find what is secret in URLs; a project without a login, which is nearly every one, costs no second look."""
    packages = (*sources.inline, *(sources.locked or ()))
    places = [*sources.repositories, *sources.patches, *(each.archive for each in packages)]
    if not any(place and place.has_login for place in (*places, *(each.source for each in packages))):
        return ()
    locked = [lock.get(name) for name in ("packages", "packages-dev")]
    logins = dict.fromkeys(find_logins([manifest.get("repositories"), manifest.get("extra"), locked]))
    return tuple(islice(logins, _MOST_LOGINS))


def identify(path: str) -> tuple[int, int] | None:
    """Return the device and inode number of a directory; None if it does not exist."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def read_auth(path: str) -> Document:
    """Read an auth.json, or another file of credentials; {} if it does not exist. MalformedAuthError, BuildError."""
    text = _read_text(path)
    return {} if text is None else parse_auth(text, path)


def _read_sources(manifest: Document, lock: Document | None, directory: str) -> PackageSources:
    sections = (manifest.get(name) for name in ("extra", "require"))
    names = {name for section in sections if isinstance(section, dict) for name in section}
    if names.isdisjoint(_INCLUDING) and not any(each.get("type") == "path" for each in iterate_entries(manifest)):
        return read_sources(manifest, lock)
    from .includes import list_patches, merge_includes  # few projects need it

    whole = merge_includes(manifest, directory)
    return read_sources(whole, lock, list_patches(whole))


def read_leniently(path: str, most: int = MOST_VALUES) -> Document | None:
    with contextlib.suppress(BuildError):
        return parse_document(_read_text(path) or "{}", path, most)
    return None


def _read_text(path: str) -> str | None:
    """Return the text of the file, None where Composer would see none; BuildError when it cannot be read."""
    try:
        data = read_regular(path, _LARGEST)
        return None if data is None else data.decode()
    except UnicodeDecodeError:
        raise MalformedAuthError(f"{path} is not UTF-8") from None
    except OSError as error:
        raise BuildError(f"{path} cannot be read: {error.strerror}") from None
