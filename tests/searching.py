"""Looks for planted values in trees of files: written apart from the product's own search, so that it can judge it."""

from __future__ import annotations

import base64
import json
import os
import shlex
import stat
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_SHORTEST_CORE = 6
"""A piece of base64 shorter than this is found by chance."""


class Found(NamedTuple):
    """A value that lies where none may: in which file, in its name or its content, and in what encoding."""

    path: Path
    where: str
    form: str


def search_tree(paths: Iterable[Path], needles: Iterable[bytes]) -> list[Found]:
    """Find each of `needles`, plain or encoded, in the names and contents of all files below `paths`.

    Links are not followed, but the text of a link is searched; files that vanish meanwhile are passed over, sockets,
    pipes and devices not opened. An unreadable file is an error, not a pass.
    """
    forms = [(form, text) for needle in needles for form, text in encodings(needle)]
    return [found for path in paths for entry in _walk(Path(path)) for found in _search_entry(entry, forms)]


def encodings(needle: bytes) -> list[tuple[str, bytes]]:
    """What a value looks like plain, in URLs, in JSON, in a shell, in base64 at each of three offsets, and in hex."""
    text = needle.decode()
    quoted = urllib.parse.quote(text, safe="")
    forms = {
        "plain": needle,
        "url": quoted.encode(),
        "url, lower case": _lower_escapes(quoted).encode(),
        "form": urllib.parse.quote_plus(text, safe="").encode(),
        "json": json.dumps(text)[1:-1].encode(),
        "json, slashes": json.dumps(text)[1:-1].replace("/", "\\/").encode(),
        "shell": shlex.quote(text).encode(),
        "hex": needle.hex().encode(),
    }
    for offset in range(3):
        core = _base64_core(needle, offset)
        if len(core) >= _SHORTEST_CORE:
            forms[f"base64, offset {offset}"] = core
            forms[f"base64url, offset {offset}"] = core.translate(bytes.maketrans(b"+/", b"-_"))
    unique = {text: form for form, text in reversed(forms.items())}
    return [(form, text) for text, form in unique.items()]


def _lower_escapes(quoted: str) -> str:
    """The hexadecimal digits of each %XX in lower case."""
    first, *rest = quoted.split("%")
    return "%".join([first, *(piece[:2].lower() + piece[2:] for piece in rest)])


def _base64_core(needle: bytes, offset: int) -> bytes:
    """The characters that `needle` gives wherever it starts at `offset` modulo 3, whatever is before and after it."""
    encoded = base64.b64encode(bytes(offset) + needle)
    first = (offset * 8 + 5) // 6
    last = (offset + len(needle)) * 8 // 6
    return encoded[first:last]


def _walk(path: Path) -> Iterator[Path]:
    yield path
    if path.is_dir() and not path.is_symlink():
        try:
            children = sorted(path.iterdir())
        except FileNotFoundError:
            return
        for child in children:
            yield from _walk(child)


def _search_entry(path: Path, forms: list[tuple[str, bytes]]) -> Iterator[Found]:
    name = os.fsencode(path.name)
    yield from (Found(path, "name", form) for form, text in forms if text in name)
    content = _content(path)
    yield from (Found(path, "content", form) for form, text in forms if text in content)


def _content(path: Path) -> bytes:
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            return os.fsencode(os.readlink(path))
        return path.read_bytes() if stat.S_ISREG(mode) else b""
    except FileNotFoundError:
        return b""
