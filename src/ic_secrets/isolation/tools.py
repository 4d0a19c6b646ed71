"""The programs that PATH names: an isolated build finds the same ones, or does not start.

Version managers keep them below the home, which a build does not see. Were that not shown, PATH would fall through to
another PHP without a word.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterator, Mapping

from ..core.files import read_start
from ..core.records import NamedTuple
from ..errors import IsolationError, ProgramNotExecutableError
from .outline import Outline, is_whole, is_within, trace

# What a build with Composer runs. What is first in PATH outside must be what is found inside.
_TOOLS = ("php", "composer", "git", "node")
# What scripts of such builds often run; a build may do without.
_MORE_TOOLS = ("npm", "npx", "yarn", "pnpm", "corepack", "bun", "python3", "unzip", "patch")
# Variables with paths in which those programs look for their settings and parts.
_SOUGHT = ("PHPRC", "PHP_INI_SCAN_DIR", "LD_LIBRARY_PATH", "NODE_PATH", "JAVA_HOME")
_BINARIES = frozenset({"bin", "sbin", "libexec", "shims", ".bin"})
# A directory with one of these beside its programs is an installation of something.
_INSTALLED = ("lib", "lib64", "libexec", "share", "etc", "include", "composer.json", "autoload.php", "composer")
_SYSTEM = ("/usr", "/opt", "/bin", "/sbin", "/nix", "/snap")
_SCRIPT = 8_192
_MOST_INTERPRETERS = 5
_SHELL = r"(?:ba|da|z|k|a)?sh"
_PATH_IN_SCRIPT = r"(?:(?:\$HOME|\$\{HOME\}|~)(?=/)|(?<![\w.}~)*/-]))(?:/[\w.@+-]+)+"
_FORMATS = "/proc/sys/fs/binfmt_misc"
# Where several version managers find which version a directory wants: in it, or in one above.
_VERSION_FILES = tuple(".tool-versions .php-version .node-version .nvmrc .python-version mise.toml .mise.toml".split())


class Manager(NamedTuple):
    """A version manager: the variables that name its directory, its usual ones, and what else it reads.

    Paths are relative to the home, but for those of a home of its own.
    """

    variables: tuple[str, ...]
    places: tuple[str, ...]
    files: tuple[str, ...] = ()


MANAGERS = (
    Manager(("ASDF_DATA_DIR", "ASDF_DIR"), (".asdf",), (".asdfrc",)),
    Manager(("MISE_DATA_DIR",), (".local/share/mise",), (".config/mise", ".local/state/mise")),
    Manager(("PHPENV_ROOT",), (".phpenv",)),
    Manager(("PHPBREW_ROOT", "PHPBREW_HOME"), (".phpbrew",)),
    Manager(("NVM_DIR",), (".nvm", ".config/nvm")),
    Manager(("NODENV_ROOT",), (".nodenv",)),
    Manager(("FNM_DIR",), (".local/share/fnm", ".fnm")),
    Manager(("VOLTA_HOME",), (".volta",)),
    Manager(("PYENV_ROOT",), (".pyenv",)),
    Manager(("RBENV_ROOT",), (".rbenv",)),
    Manager(("PROTO_HOME",), (".proto",)),
    Manager(("HOMEBREW_PREFIX",), ("/home/linuxbrew/.linuxbrew",)),
)


def show_tools(outline: Outline, program: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Show what PATH names; return the real paths of the programs that the build must find.

    IsolationError where one of them would not run inside, ProgramNotExecutableError where the build's own cannot.
    """
    directories = [path for path in environment.get("PATH", os.defpath).split(os.pathsep) if path.startswith("/")]
    directories = list(dict.fromkeys(map(os.path.normpath, directories)))
    for directory in directories:
        _show_directory(outline, directory, environment)
    for path in (path for name in _SOUGHT for path in environment.get(name, "").split(os.pathsep)):
        if path.startswith("/") and os.path.exists(path) and outline.is_fit(path):
            outline.show(path)
    needed = []
    if program:
        _check_program(program)
        needed += _show_program(outline, os.path.abspath(program), directories)
    for name in _TOOLS:
        found = _find(name, directories)
        needed += _show_program(outline, found, directories) if found else []
    for name in _MORE_TOOLS:
        found = _find(name, directories)
        with contextlib.suppress(IsolationError):
            if found and not outline.sees(os.path.realpath(found)):
                needed += _show_program(outline, found, directories)
    return tuple(dict.fromkeys(needed))


def find_manager(directory: str, home: str, environment: Mapping[str, str]) -> tuple[Manager, str] | None:
    """Return the directory's version manager and that manager's own directory, or None."""
    for manager in MANAGERS:
        named = [os.path.normpath(environment.get(name) or "-") for name in manager.variables]
        usual = [os.path.join(home or "/-", place) for place in manager.places]
        for root in (*named, *usual):
            if root.startswith("/") and is_within(directory, root) and os.path.isdir(root):
                return manager, root
    return None


def _show_directory(outline: Outline, directory: str, environment: Mapping[str, str]) -> None:
    """Show a directory of PATH, with all of the version manager or installation that it belongs to.

    One of the project is seen anyway, and one that the project leads elsewhere is not: no checkout decides that.
    """
    if is_within(directory, outline.project) or not os.path.isdir(directory):
        return
    if any(is_within(os.path.realpath(directory), each) for each in outline.concealed):
        return
    given = environment.get("HOME", "")
    real = trace(directory).real
    for path in (directory, real):
        for home in {outline.home, given}:
            found = find_manager(path, home, environment)
            if found and outline.is_fit(found[1]):
                manager, root = found
                outline.show(root)
                files = [os.path.join(home, name) for name in (*manager.files, *_VERSION_FILES)] if home else []
                for file in (*files, *_list_version_files(outline.project)):
                    if os.path.exists(file) and not is_within(file, outline.project):
                        outline.show(file)
    if outline.is_fit(directory):
        outline.show(directory)
    package = os.path.dirname(real)
    if os.path.basename(package) in {"vendor", "node_modules"} and outline.is_fit(package):
        outline.show(package)  # its programs are links to their packages, or look for them


def _list_version_files(directory: str) -> Iterator[str]:
    while directory != "/":
        directory = os.path.dirname(directory)
        yield from (os.path.join(directory, name) for name in _VERSION_FILES)


def _find(name: str, directories: list[str]) -> str:
    """Return the absolute path of the program that PATH finds first, or ""."""
    paths = (os.path.join(directory, name) for directory in directories)
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), "")


def _show_program(outline: Outline, path: str, directories: list[str], depth: int = 0) -> list[str]:
    """Show the program with what it is installed with, and what runs it; return all their real paths."""
    real = outline.follow(path).real
    if not is_within(real, outline.project):
        prefix = _find_prefix(real, outline.home)
        if prefix:
            outline.show(prefix)
        outline.show(path)
    start = _read(real)
    needed = [real]
    if start.startswith("#!"):
        for interpreter in _list_interpreters(start, directories):
            if depth < _MOST_INTERPRETERS and os.path.exists(interpreter):
                needed += _show_program(outline, interpreter, directories, depth + 1)
        if not is_within(real, outline.project) and not any(is_within(real, each) for each in _SYSTEM):
            _check_wrapper(outline, path, start)
    return needed


def _find_prefix(real: str, home: str) -> str:
    """Return the directory of the installation that the program is part of; "" where that is not to be shown whole.

    What is directly in a home and begins with a dot holds more than programs, often somebody's credentials.
    """
    directory = os.path.dirname(real)
    prefix = os.path.dirname(directory)
    if os.path.basename(directory) not in _BINARIES or is_whole(prefix, home):
        return ""
    if os.path.basename(prefix).startswith(".") or os.path.dirname(prefix) == "/":
        return ""
    return prefix if any(os.path.exists(os.path.join(prefix, name)) for name in _INSTALLED) else ""


def _list_interpreters(script: str, directories: list[str]) -> list[str]:
    """Return the paths of what runs the script: that of its first line, and the one that `env` looks for."""
    words = script[2:].partition("\n")[0].split()
    if not words or not words[0].startswith("/"):
        return []
    found = words[:1]
    if os.path.basename(words[0]) == "env":
        names = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        found += [path for name in names[:1] if (path := _find(name, directories))]
    return found


def _check_program(path: str) -> None:
    """Raise ProgramNotExecutableError for what the kernel would refuse: a script without its interpreter, mere text."""
    reason = ""
    start = _read(path)
    if start.startswith("#!"):
        words = start[2:].partition("\n")[0].split(None, 1)
        reason = "" if words and os.path.exists(words[0]) else "No such file or directory"
        reason = reason or ("" if os.access(words[0], os.X_OK) else "Permission denied")
    elif os.access(path, os.R_OK) and not start.startswith("\x7fELF") and not _has_formats():
        reason = "Exec format error"
    if reason:
        raise ProgramNotExecutableError(f"{path} cannot be executed: {reason}")


def _has_formats() -> bool:
    """Return whether the kernel was told of further formats of programs (binfmt_misc)."""
    try:
        return not {"register", "status"}.issuperset(os.listdir(_FORMATS))
    except OSError:
        return False


def _check_wrapper(outline: Outline, path: str, script: str) -> None:
    """Raise IsolationError where the shell script names a program that would not be seen: a shim's real one."""
    words = script[2:].partition("\n")[0].split()
    if not any(re.fullmatch(_SHELL, os.path.basename(word)) for word in words):
        return
    for found in re.findall(_PATH_IN_SCRIPT, script):
        named = re.sub(r"^(?:\$HOME|\$\{HOME\}|~)", outline.home, found)
        real = os.path.realpath(named)
        if os.path.isfile(real) and os.access(real, os.X_OK) and not outline.sees(real):
            place = os.path.dirname(os.path.dirname(real))
            place = real if is_whole(place, outline.home) else place
            raise IsolationError(
                f"{path} runs {named}, which an isolated build would not see", hint=f"--allow-path {shlex.quote(place)}"
            )


def _read(path: str) -> str:
    try:
        return (read_start(path, _SCRIPT) or b"").decode(errors="replace")
    except OSError:
        return ""
