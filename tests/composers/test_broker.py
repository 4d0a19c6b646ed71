"""Builds with a broker on three generations of Composer, those that do not know a method too."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from broker_sites import BrokerSite, add_github_package, installed, write_collector, write_project
from ic_secrets.composer.version import parse_version
from searching import search_tree
from servers.network import Network

UPDATE = ("composer", "update", "--no-interaction")


def test_every_method_installs_and_the_build_finds_no_value(
    version: str, site: BrokerSite, network: Network, tmp_path: Path, private: Path
) -> None:
    site.store()
    project = network.write_project(tmp_path / "project")
    collected = tmp_path / "collected"
    collected.mkdir()
    write_collector(project, collected / "all", site.cli.home["HOME"], str(private), ".")
    done = site.run(*UPDATE, cwd=project, options=("--broker", "--leaks", "off"))
    assert installed(project) == sorted(network.packages)
    text = (collected / "all").read_bytes()
    assert text.endswith(b"== the end\n")
    assert b"COMPOSER_CAFILE=" in text
    (collected / "output").write_bytes(done.stdout + done.stderr)
    assert search_tree([collected, project, Path(site.cli.home["HOME"])], network.needles) == []
    locked = {each["name"]: each for each in json.loads((project / "composer.lock").read_text())["packages"]}
    assert "dist" in locked["acme/selfhosted"]  # of a GitLab that only its credential says to be one
    assert "downloads" in network.basic.told


def test_an_install_from_the_lock_asks_the_same_hosts(
    version: str, site: BrokerSite, network: Network, tmp_path: Path
) -> None:
    site.store()
    project = network.write_project(tmp_path / "project")
    site.run(*UPDATE, "--no-install", cwd=project)
    subprocess.run(["rm", "-rf", Path(site.cli.home["XDG_CACHE_HOME"], "composer")], check=True)
    network.basic.told.clear()
    done = site.run("composer", "install", "--no-interaction", cwd=project)
    assert installed(project) == sorted(network.packages)
    assert b"could not be fetched" not in done.stderr
    assert ("filter" in network.basic.told) is (parse_version(version) >= (2, 10))  # of what is malware


def test_a_forge_that_is_only_known_by_its_credential_is_one(
    version: str, site: BrokerSite, network: Network, tmp_path: Path
) -> None:
    """Forgejo's driver is newer than the others; older Composers take the repository by git."""
    site.store(["forgejo-token.codeberg.org"])
    kind = "vcs" if parse_version(version) >= (2, 9) else "git"
    repository = {"type": kind, "url": "https://codeberg.org/acme/forgejo.git"}
    project = write_project(tmp_path / "project", repository, "acme/forgejo", "*")
    site.run(*UPDATE, cwd=project)
    assert installed(project) == ["forgejo"]
    if kind == "vcs":
        assert {each.sender for each in network.find("codeberg.org", "/api/v1/repos/acme/forgejo")} == {"basic"}


@pytest.mark.parametrize("name", ["many", "old"])
def test_pages_and_renamed_repositories_are_followed(
    version: str, site: BrokerSite, network: Network, tmp_path: Path, name: str
) -> None:
    site.store(["github-oauth.github.com"])
    package = {"many": "acme/many", "old": "acme/renamed"}[name]
    wanted = network.github.repositories[package].list_refs("tags")[-1][0]
    repository = {"type": "vcs", "url": f"https://github.com/acme/{name}"}
    project = write_project(tmp_path / "project", repository, package, wanted)
    site.run(*UPDATE, cwd=project)
    assert installed(project) == [package.removeprefix("acme/")]


def test_a_private_package_and_a_public_one_that_nobody_named_are_installed(
    version: str, site: BrokerSite, network: Network, tmp_path: Path
) -> None:
    site.store()
    add_github_package(network.bearer.added, network, "hidden")
    add_github_package(network.public.added, network, "open")
    repositories = [network.packages["bearer"], {"type": "composer", "url": "https://public.example.org"}]
    project = network.write_project(
        tmp_path / "project",
        ["bearer"],
        repositories=[*repositories, {"packagist.org": False}],
        require={"acme/bearer": "*", "acme/hidden": "*", "acme/open": "*"},
    )
    site.run(*UPDATE, cwd=project)
    assert installed(project) == ["bearer", "hidden", "open"]


def test_sources_are_fetched_by_git_with_the_credential(
    version: str, site: BrokerSite, network: Network, tmp_path: Path
) -> None:
    site.store()
    names = ["github", "gitlab", "selfhosted", "bitbucket"]
    project = network.write_project(tmp_path / "project", names)
    site.run(*UPDATE, "--prefer-source", cwd=project, env={"GIT_SSH_COMMAND": "false"})
    assert all((project / "vendor" / "acme" / name / ".git").is_dir() for name in names)


def test_audit_asks_for_advisories(version: str, site: BrokerSite, network: Network, tmp_path: Path) -> None:
    site.store(["http-basic.basic.example.org"])
    more = {"require": {"acme/basic": "1.0.0"}, "config": {"audit": {"block-insecure": False}, "policy": False}}
    project = network.write_project(tmp_path / "project", ["basic"], **more)
    site.run(*UPDATE, "--no-audit", cwd=project)
    done = site.run("composer", "audit", "--no-interaction", cwd=project, check=None)
    assert done.returncode not in {0, 255}
    assert b"A hole" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("bearer.bearer.example.org", "bearer"),
        ("github-oauth.github.com", "github"),
        ("gitlab-token.gitlab.com", "gitlab"),
        ("forgejo-token.codeberg.org", "forgejo"),
    ],
)
def test_a_refused_credential_is_named_and_nobody_is_asked_for_another(
    version: str, site: BrokerSite, network: Network, tmp_path: Path, name: str, package: str
) -> None:
    site.cli("init", check=0)
    value = {"username": "robot", "token": "expired"} if name.startswith("forgejo") else "expired"
    site.set(name, value, "--type", "composer")
    project = network.write_project(tmp_path / "project", [package])
    done = site.run(*UPDATE, cwd=project, check=None, env={"GIT_SSH_COMMAND": "false"})
    assert done.returncode not in {0, 125}
    assert name.encode() in done.stderr
    assert b"interactive console" not in done.stderr
    assert b"Username" not in done.stderr
