"""A bare clone that borrows the objects of another one, and takes nothing over that git would execute or follow.

A clone's `config` and `hooks` are programs to whoever runs git in it next. So of the other clone only what names
commits is read, its objects are looked up where they are, and the configuration is written anew, as
`git clone --mirror` writes it.
"""

import os
import re
from collections.abc import Iterator

from ..core.files import is_real_directory, read_regular, write_private

# A clone with longer lists, or with more references in files of their own, is not borrowed from.
_LARGEST = 4 << 20
_MOST_FILES = 1_000
_DEEPEST = 10
_HEAD = rb"(?:ref: refs/heads/[^\s\0]{1,200}|[0-9a-f]{40})\n?"
_REFERENCE = rb"(?m)^([0-9a-f]{40}) (refs/[^\s\0]{1,200})$"
_CONFIG = """\
[core]
	repositoryformatversion = 0
	filemode = true
	bare = true
[remote "origin"]
	url = "{url}"
	fetch = +refs/*:refs/*
	mirror = true
"""


def borrow(clone: str, place: str, url: str) -> bool:
    """Make in `place`, where nothing is, a clone of the URL with the objects of `clone`; OSError.

    Return whether it was made: not from what is not a bare clone with SHA-1 names, nor for a URL with a login.
    """
    objects = os.path.join(clone, "objects")
    head = read_regular(os.path.join(clone, "HEAD"), _LARGEST, through_links=False) or b""
    is_whole = is_real_directory(clone) and is_real_directory(objects) and re.fullmatch(_HEAD, head)
    if not is_whole or os.path.lexists(os.path.join(clone, "shallow")) or re.search(r'[\x00-\x1f"\\]|//[^/]*@', url):
        return False
    references = _read_references(clone)
    if not references or "\n" in objects:
        return False
    for name in ("", "objects", "objects/info", "objects/pack", "refs"):
        os.mkdir(os.path.join(place, name), 0o700)
    files = {
        "HEAD": head,
        "config": _CONFIG.format(url=url).encode(),
        "packed-refs": b"".join(b"%b %b\n" % (value, name) for name, value in sorted(references.items())),
        "objects/info/alternates": os.fsencode(objects) + b"\n",
    }
    for name, data in files.items():
        write_private(os.path.join(place, name), data)
    return True


def _read_references(clone: str) -> dict[bytes, bytes]:
    """Return what the clone's references name; OSError where they are too many."""
    packed = read_regular(os.path.join(clone, "packed-refs"), _LARGEST, through_links=False) or b""
    references = {match[2]: match[1] for match in re.finditer(_REFERENCE, packed)}
    for count, path in enumerate(_list_files(os.path.join(clone, "refs"), _DEEPEST)):
        if count >= _MOST_FILES:
            return {}
        name = os.fsencode(os.path.relpath(path, clone))
        line = (read_regular(path, _LARGEST, through_links=False) or b"").strip() + b" " + name
        match = re.fullmatch(_REFERENCE, line)
        if match:
            references[name] = match[1]
    return references


def _list_files(directory: str, depth: int) -> Iterator[str]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                yield entry.path
            elif depth and entry.is_dir(follow_symlinks=False):
                yield from _list_files(entry.path, depth - 1)
