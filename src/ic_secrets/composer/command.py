"""A Composer command line: whether it is one, and where it works. Pure."""

import os.path
import re
from collections.abc import Sequence

# `composer`, `composer2`, `composer-2.8.1.phar`, but not `composer-unused`, which is another program.
_NAME = r"composer[-.]?v?[0-9.]*(?:\.phar|\.php|\.bat)?"
_PHP = r"php[-.0-9]*"
# Programs that run a Composer of theirs, and those that run the command after their own options.
_WRAPPERS = frozenset({"symfony", "ddev", "lando"})
_PREFIXES = frozenset({"env", "exec", "nice", "time", "command", "ionice", "nohup", "stdbuf", "timeout", "sudo"})
# Their options, and PHP's, that take the next word.
_WITH_VALUE = frozenset({"-u", "-g", "-n", "-k", "-s", "-c", "-C"})
_PHP_WITH_VALUE = frozenset({"-d", "-c", "-z", "--define", "--php-ini", "--zend-extension"})


def find_arguments(command: Sequence[str]) -> Sequence[str] | None:
    """Return the arguments that Composer gets in that command, also through PHP or another program; None without it."""
    words = list(command)
    while words:
        name = words.pop(0).rsplit("/", 1)[-1].lower()
        if re.fullmatch(_NAME, name):
            return words
        if name in _PREFIXES:
            words = _skip_to_command(words)
        elif name in _WRAPPERS:
            words = words if words[:1] in (["composer"], ["php"]) else []
        elif re.fullmatch(_PHP, name):
            words = _skip_to_script(words)
        else:
            break
    return None


def is_composer(command: Sequence[str]) -> bool:
    """Return whether the command runs Composer, by the names of its programs."""
    return find_arguments(command) is not None


def find_project(command: Sequence[str], directory: str) -> str:
    """Return the directory that a Composer command works in: its `-d` or `--working-dir`, else `directory`."""
    words = iter(find_arguments(command) or ())
    for word in words:
        if word == "--":
            break
        if word in {"-d", "--working-dir"}:
            return os.path.join(directory, next(words, "."))
        if word.startswith("--working-dir="):
            return os.path.join(directory, word.partition("=")[2])
        if word.startswith("-d") and not word.startswith("--"):
            return os.path.join(directory, word[2:])
    return directory


def _skip_to_command(words: Sequence[str]) -> list[str]:
    """Return what follows the options, settings and numbers of a program such as `env`."""
    rest = list(words)
    while rest and (rest[0].startswith("-") or "=" in rest[0] or rest[0][:1].isdigit()):
        if rest.pop(0) in _WITH_VALUE and not is_composer(rest):
            del rest[:1]
    return rest


def _skip_to_script(words: Sequence[str]) -> list[str]:
    """Return the script that PHP runs, and its arguments; nothing where it runs code from its arguments."""
    rest = list(words)
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option in {"-f", "--file"}:
            return [*rest[:1], *rest[1 + (rest[1:2] == ["--"]) :]]
        if option in {"-r", "--run", "-B", "-R", "-F", "-S", "-a", "-i", "-m", "-v"}:
            return []
        if option in _PHP_WITH_VALUE:
            del rest[:1]
    return rest
