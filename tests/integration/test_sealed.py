"""A job without a server: a sealed file in the repository, one key among the pipeline's variables, a real build."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from homes import make_home
from searching import Found
from servers import Server, Servers

Search = Callable[..., list[Found]]
INSTALL = ("composer", "install", "--no-interaction", "--no-progress", "--no-ansi")


@pytest.fixture
def repository(cli: Any, servers: Servers, tmp_path: Path, private: Path) -> Path:
    """A project with the export of its site, sealed with a key of the pipeline's own, beside its composer.json."""

    def give(server: Server, owner: str) -> None:
        words = ("set", owner, server.secret_name, "--type", "composer", "--scope", "ic")
        cli(*words, stdin=server.secret_value, check=0)

    project = servers.project(tmp_path, "everything")
    cli("init", "--store", "pipeline.db", "--key-file", "pipeline.key", check=0)
    cli("init", check=0)
    cli("site", "set", "my-site", "--org", "agency", check=0)
    give(servers.basic, "my-site")
    give(servers.git, "my-site")
    give(servers.bearer, "org:agency")
    words = ("export", "my-site", "--format", "sealed", "--seal-key-file", "pipeline.key")
    cli(*words, "-o", project / "secrets.sealed", check=0)
    return project


@pytest.fixture
def job(cli: Any, repository: Path, home: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of a job on another machine: an empty home, the checkout, and the key in a variable."""
    key = (tmp_path / "pipeline.key").read_text()
    for name in ("pipeline.key", "pipeline.db"):
        (tmp_path / name).unlink()
    for name in ("HOME", "TMPDIR", "XDG_RUNTIME_DIR"):
        shutil.rmtree(home[name])
    other = make_home(tmp_path / "job")
    home.clear()
    home.update(other)
    return {
        "CI": "true",
        "IC_SECRETS_STORE": f"sealed:{repository}/secrets.sealed",
        "IC_SECRETS_KEY": key,
        "IC_SECRETS_SITE": "my-site",
    }


def test_a_build_from_a_sealed_file_gets_every_credential_and_leaves_none(
    cli: Any,
    repository: Path,
    job: dict[str, str],
    servers: Servers,
    tmp_path: Path,
    private: Path,
    search_tree: Search,
) -> None:
    """The site's and its organization's; the file is as it was, and no value is on the machine, sealed ones aside."""
    run_dir = {"IC_SECRETS_RUN_DIR": str(private)}
    sealed = (repository / "secrets.sealed").read_bytes()
    done = cli("run", "--", *INSTALL, cwd=repository, env=job | run_dir, check=0)
    installed = json.loads((repository / "vendor/composer/installed.json").read_text())["packages"]
    assert {package["name"] for package in installed} >= {"acme/checkout", "globex/reports", "initech/vault"}
    assert (repository / "secrets.sealed").read_bytes() == sealed
    assert list(private.iterdir()) == []
    assert not any(needle in done.stdout + done.stderr for needle in servers.needles)
    assert search_tree([tmp_path, Path("/dev/shm")], servers.needles) == []


@pytest.mark.parametrize("damage", ["key", "line", "cut"])
def test_a_build_is_not_started_with_a_file_that_is_not_whole(
    cli: Any, repository: Path, job: dict[str, str], damage: str
) -> None:
    """Status 125, before Composer is run; the error names the file and no value."""
    file = repository / "secrets.sealed"
    if damage == "key":
        job["IC_SECRETS_KEY"] = "ic-secrets-key-1:" + "A" * 43
    elif damage == "line":
        file.write_bytes(file.read_bytes().replace(b" composer ic ", b" composer ic,web ", 1))
    else:
        file.write_bytes(file.read_bytes()[:-100])
    done = cli("run", "--", *INSTALL, cwd=repository, env=job, check=125)
    assert str(file) in done.stderr.decode()
    assert not (repository / "vendor").exists()
