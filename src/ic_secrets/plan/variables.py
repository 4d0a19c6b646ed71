"""Where the installers of packages find the variables that they need, by name: no value is kept."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from ..composer import Project
from ..composer.precedence import Source
from ..composer.products import Need
from ..core import read_regular
from ..core.records import NamedTuple

_LINE = r"(?m)^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*\S"
# Such files have a few lines.
LARGEST = 1 << 20


class Variables(NamedTuple):
    """What installers need and find: `build` are the names of the build's variables, others have the file of each name.

    `beside` is the .env beside composer.json, `placeholders` the file that ffraenz/private-composer-installer reads,
    `settings` the keys of Composer's `config`.
    """

    build: Collection[str] = ()
    beside: Mapping[str, str] = {}
    placeholders: Mapping[str, str] = {}
    settings: Mapping[str, str] = {}
    needs: tuple[Need, ...] = ()

    def find(self, need: Need) -> str:
        """Return where what is needed is: `$NAME` for the build's variables, else a file; an empty text for nowhere."""
        files = self.placeholders if need.is_placeholder else self.beside
        for name in need.names:
            if name in self.build or name in files:
                return f"${name}" if name in self.build else files[name]
        return self.settings.get(need.setting, "")


def find_variables(project: Project, build: Collection[str], sources: Sequence[Source] = ()) -> Variables:
    """Read which variables there are; `sources` are the settings that Composer merges, weakest first."""
    settings = {
        key: source.name for source in sources for key, value in source.sections.items() if value and value is not True
    }
    beside = _read_dotenv(os.path.join(project.directory, ".env"))
    placeholders: dict[str, str] = next(filter(None, map(_read_dotenv, _list_dotenv(project))), {})
    return Variables(build, beside, placeholders, settings, project.sources.needs)


def read_text(path: str) -> str:
    """Return the text of a small file; an empty one where it cannot be read."""
    try:
        return (read_regular(path, LARGEST) or b"").decode(errors="replace")
    except OSError:
        return ""


def _list_dotenv(project: Project) -> Iterator[str]:
    """Yield the files of which ffraenz/private-composer-installer reads the first that exists."""
    options = project.extra.get("private-composer-installer")
    options = options if isinstance(options, dict) else {}
    name = options.get("dotenv-name")
    name = name if isinstance(name, str) and "\0" not in name else ".env"
    directory = options.get("dotenv-path")
    if isinstance(directory, str) and "\0" not in directory:
        yield os.path.join(project.directory, directory, name)
        return
    directory = os.path.abspath(project.directory)
    while True:
        yield os.path.join(directory, name)
        if directory == os.path.dirname(directory):
            return
        directory = os.path.dirname(directory)


def _read_dotenv(path: str) -> dict[str, str]:
    return dict.fromkeys(re.findall(_LINE, read_text(path)), path)
