"""A home for a child process, apart from the home of whoever runs it."""

from __future__ import annotations

import os
from pathlib import Path


def make_home(directory: Path) -> dict[str, str]:
    """The environment of a child process, complete: a home and every other private directory fresh below `directory`.

    HOME, the four XDG directories and TMPDIR exist; there is no COMPOSER_* (but COMPOSER_ALLOW_SUPERUSER for root), no
    IC_SECRETS_*, and the system's git configuration is not read.
    """
    directories = {
        "HOME": directory / "home",
        "XDG_CONFIG_HOME": directory / "home/.config",
        "XDG_CACHE_HOME": directory / "home/.cache",
        "XDG_DATA_HOME": directory / "home/.local/share",
        "XDG_RUNTIME_DIR": directory / "run",
        "TMPDIR": directory / "tmp",
    }
    for path in directories.values():
        path.mkdir(parents=True, mode=0o700)
    environment = {name: str(path) for name, path in directories.items()}
    environment |= {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "GIT_CONFIG_NOSYSTEM": "1"}
    if os.geteuid() == 0:
        environment["COMPOSER_ALLOW_SUPERUSER"] = "1"
    # `make coverage` measures child processes by these.
    return environment | {name: os.environ[name] for name in os.environ if name.startswith("COVERAGE_PROCESS_")}
