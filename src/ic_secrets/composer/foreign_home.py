"""What in a build gives Composer a home of its own, where it would not find the credentials of ours."""

import contextlib
import os
import re
from collections.abc import Sequence

from ..core.files import read_regular
from .auth_json import Document
from .repositories import PackageSources

# Packages whose commands run Composer inside PHP with a home in the project, such as `sampledata:deploy`.
_PACKAGES = frozenset({"magento/composer", "mage-os/composer"})
_EDITIONS = r"(?:magento|mage-os)/product-[a-z]+-edition"
_SETS_HOME = r"COMPOSER_HOME=(?![\"']?\$\{?COMPOSER_HOME)"
# A longer file is not a script that somebody wrote.
_LARGEST = 256 << 10


def find_foreign_home(
    manifest: Document, sources: PackageSources, command: Sequence[str], directory: str
) -> tuple[str, ...]:
    """Return what gives Composer another home: packages, the scripts of composer.json, the command, or its script."""
    names = {package.name for package in sources.locked or ()} & _PACKAGES
    names |= {name for name in sources.required if re.fullmatch(_EDITIONS, name)}
    found = sorted(names)
    if re.search(_SETS_HOME, repr(manifest.get("scripts"))):
        found.append("a script of composer.json")
    if any(re.search(_SETS_HOME, word) for word in command):
        found.append("the command")
    for word in command:
        with contextlib.suppress(OSError, ValueError):
            data = read_regular(os.path.join(directory, word), _LARGEST) or b""
            if re.search(_SETS_HOME, data.decode(errors="replace")):
                found.append(word)
    return tuple(found)
