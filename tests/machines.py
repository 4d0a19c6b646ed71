"""A machine with a person and a project, of which an isolated build sees a part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ic_secrets.composer.home import ComposerHome
from ic_secrets.core.collector import RAISED
from ic_secrets.isolation.view import View, Wish, make_view


class Machine:
    """A person with a home, and a project in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "people" / "anna"
        self.project = self.home / "site"
        self.project.mkdir(parents=True)
        self.environment = {"HOME": str(self.home), "PATH": "/usr/bin:/bin"}

    def write(self, path: Path, text: str = "", mode: int = 0o644) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    def see(self, **changes: Any) -> View:
        return make_view(self.wish(**changes), RAISED)

    def wish(self, **changes: Any) -> Wish:
        environment = {**self.environment, **changes.pop("environment", {})}
        wish = Wish(str(self.project), str(self.project), "", environment, ComposerHome.find(environment))
        return wish._replace(**changes)
