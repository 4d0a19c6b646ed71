"""The same builds on other generations of Composer, in the trees that `.ci/composers` makes.

Only run when asked for by path, as `make test-composers` does: the trees are large, and only root enters them.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TREES = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ic-secrets-composers"
GENERATIONS = ["host", *sorted(path.name for path in TREES.glob("*") if (path / "usr/bin/composer").exists())]
VERSIONS = pytest.StashKey[dict[str, str]]()

_SCRIPT = """\
#!/bin/sh
# Composer of another generation, which sees what is here under the same names.
exec unshare --mount sh -ec '
tree=$1 places=$2
shift 2
for place in $places; do
    mkdir -p "$tree$place"
    mount --rbind "$place" "$tree$place"
done
exec chroot "$tree" env --chdir="$PWD" /usr/bin/composer "$@"
' sh {tree} {places} "$@"
"""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[VERSIONS] = {}


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    named = (config.invocation_params.dir / argument.split("::")[0] for argument in config.args)
    return None if any(path.resolve().is_relative_to(HERE) for path in named) else True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for generation, version in config.stash[VERSIONS].items():
        terminalreporter.write_line(f"Composer {version} ({generation})")


@pytest.fixture(params=GENERATIONS)
def version(
    request: pytest.FixtureRequest, home: dict[str, str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The version of one generation after the other, whose `composer` is first in PATH."""
    name: str = request.param
    if name != "host":
        if os.geteuid() != 0:
            pytest.fail("only root can enter the trees of other Composers", pytrace=False)
        places = dict.fromkeys(["/dev", "/proc", "/tmp", tempfile.gettempdir(), str(tmp_path_factory.getbasetemp())])
        script = _SCRIPT.format(tree=shlex.quote(str(TREES / name)), places=shlex.quote(" ".join(places)))
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "composer").write_text(script)
        (tmp_path / "bin" / "composer").chmod(0o755)
        home["PATH"] = f"{tmp_path / 'bin'}:{home['PATH']}"
    versions = request.config.stash[VERSIONS]
    if name not in versions:
        versions[name] = _ask_version(home, tmp_path)
    return versions[name]


def _ask_version(home: dict[str, str], directory: Path) -> str:
    command = ("composer", "--version", "--no-ansi", "--no-plugins")
    done = subprocess.run(command, env=home, cwd=directory, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.split()[2]
