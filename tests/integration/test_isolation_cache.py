"""Composer's cache in an isolated build: warm, its own, and nothing of it is trusted outside; real Composer and git."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from ic_secrets.composer.project import read_project
from ic_secrets.core.notices import Notice
from ic_secrets.isolation.cache import KEPT, ScratchCache
from ic_secrets.process.watchdog import Watchdog
from servers import Request, Servers

COMMAND = ("--no-interaction", "--no-progress", "--no-ansi")
# What a hostile script writes into every clone, and into all metadata.
POISON = """\
for clone in "$COMPOSER_CACHE_DIR"/vcs/*/; do
    git -C "$clone" config core.fsmonitor "touch $1"
    git -C "$clone" config core.sshCommand "touch $1"
    mkdir -p "$clone/hooks"
    printf '#!/bin/sh\\ntouch %s\\n' "$1" >"$clone/hooks/reference-transaction"
    chmod +x "$clone/hooks/reference-transaction"
done
for file in $(find "$COMPOSER_CACHE_DIR/repo" -name '*.json'); do echo poison >"$file.new"; mv "$file.new" "$file"; done
for file in $(find "$COMPOSER_CACHE_DIR/" -name '*.zip' -o -name '*.json'); do echo poison >>"$file"; done
true
"""


class World:
    """A project on the real servers, and a home whose cache a build without isolation has filled."""

    def __init__(self, servers: Servers, directory: Path, home: dict[str, str], name: str) -> None:
        self.servers = servers
        self.home = home | {"COMPOSER_AUTH": servers.composer_auth("basic", "bearer", "git")}
        self.cache = Path(home["XDG_CACHE_HOME"]) / "composer"
        self.project = servers.project(directory, name)
        self.notices: list[Notice] = []
        self.marker = directory / "poisoned"

    def build(self, *command: str) -> None:
        """Run the command as it is."""
        self._run(command, self.home)

    def isolated(self, *command: str) -> int:
        """Run the command with a cache of its own, the person's one read-only; return how much was taken back."""
        project = read_project(command, str(self.project), self.home)
        with Watchdog() as watchdog:
            scratch = ScratchCache.make(
                str(self.cache), project, self.home, watchdog, self.notices.append, command=command
            )
            view = [word for path in scratch.readable for word in ("--ro-bind", path, path)]
            self._run(("bwrap", "--dev-bind", "/", "/", *view, "--", *command), {**self.home, **scratch.variables})
            count = scratch.take_back()
            scratch.remove()
        assert not os.path.exists(scratch.path)
        return count

    def forget(self) -> None:
        """Remove what was installed."""
        subprocess.run(["rm", "-rf", str(self.project / "vendor")], check=True)

    def hash_cache(self) -> dict[str, str]:
        """What is in the person's cache."""
        files = (path for path in sorted(self.cache.rglob("*")) if path.is_file())
        return {str(path.relative_to(self.cache)): hashlib.sha1(path.read_bytes()).hexdigest() for path in files}

    def _run(self, command: tuple[str, ...], environment: dict[str, str]) -> None:
        done = subprocess.run(
            command, cwd=self.project, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr + done.stdout
        assert "without cache" not in done.stderr, done.stderr


@pytest.fixture
def world(servers: Servers, tmp_path: Path, home: dict[str, str]) -> World:
    return World(servers, tmp_path, home, "everything")


def downloads(requests: list[Request]) -> list[str]:
    return [each.path for each in requests if each.path.endswith(".zip")]


def test_an_install_takes_all_from_a_warm_cache(world: World) -> None:
    world.build("composer", "install", *COMMAND)
    world.forget()
    before = world.hash_cache()
    since = world.servers.mark()
    assert world.isolated("composer", "install", *COMMAND) == 0
    assert world.servers.requests(since) == []
    assert world.hash_cache() == before
    assert world.notices == []
    for path in world.project.rglob("alternates"):
        pytest.fail(f"{path} borrows from the cache")


def test_an_update_asks_what_it_asks_without_isolation(world: World) -> None:
    world.build("composer", "update", *COMMAND)
    asked = []
    for build in (world.build, world.isolated):
        before = world.hash_cache()
        world.forget()
        since = world.servers.mark()
        build("composer", "update", *COMMAND)
        asked.append(sorted(world.servers.requests(since)))
    assert asked[0] == asked[1]
    assert any(each.status == 304 for each in asked[1])
    assert downloads(asked[1]) == []
    assert world.hash_cache() == before


def test_what_has_a_checksum_is_kept_for_the_next_isolated_build(world: World) -> None:
    assert world.isolated("composer", "install", *COMMAND) > 0
    kept = {path.name for path in (world.cache / "files" / KEPT).iterdir()}
    lock = json.loads((world.project / "composer.lock").read_text())
    checksums = {each["dist"]["shasum"] for each in lock["packages"] if "dist" in each}
    assert kept == checksums - {""}
    assert {path.split("/")[0] for path in world.hash_cache()} == {"files"}
    world.forget()
    since = world.servers.mark()
    assert world.isolated("composer", "install", *COMMAND) == 0
    assert downloads(world.servers.requests(since)) == []


@pytest.mark.parametrize("is_isolated", [True, False], ids=["isolated", "not isolated"])
def test_poison_in_the_cache_reaches_the_next_build_only_without_isolation(world: World, is_isolated: bool) -> None:
    world.build("composer", "update", *COMMAND)
    before = world.hash_cache()
    poison = ("sh", "-c", POISON, "sh", str(world.marker))
    if is_isolated:
        assert world.isolated(*poison) == 0
        assert world.hash_cache() == before
        world.build("composer", "update", *COMMAND)
    else:
        world.home["COMPOSER_CACHE_DIR"] = str(world.cache)
        world.build(*poison)
        assert world.hash_cache() != before
        for clone in (world.cache / "vcs").iterdir():
            subprocess.run(["git", "-C", str(clone), "fetch"], check=False, capture_output=True)
            subprocess.run(["git", "-C", str(clone), "update-ref", "refs/heads/x", "HEAD"], check=False)
    assert world.marker.exists() is not is_isolated
