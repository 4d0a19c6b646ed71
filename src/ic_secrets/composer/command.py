"""A Composer command line: whether it is one, and where it works. Pure."""

import os.path
from collections.abc import Sequence


def is_composer(command: Sequence[str]) -> bool:
    """Return whether the command's program is Composer, by its name."""
    return bool(command) and command[0].rsplit("/", 1)[-1].startswith("composer")


def find_project(command: Sequence[str], directory: str) -> str:
    """Return the directory that a Composer command works in: its `-d` or `--working-dir`, else `directory`."""
    if not is_composer(command):
        return directory
    words = iter(command[1:])
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
