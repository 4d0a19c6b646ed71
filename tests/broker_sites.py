"""A site whose secrets are those of the network's hosts, one of each method, and builds of it with a broker."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commandline import Cli
from servers.network import Network

# What copies all that a build can read into a file: its environment, the files below the places that it is given, and
# the environment, arguments and open files of its own process and of all its parents.
_COLLECTOR = r"""<?php
ini_set('memory_limit', '-1');
$out = fopen($argv[1], 'wb');
function keep($path) {
    global $out;
    $data = @is_file($path) ? @file_get_contents($path) : '';
    fwrite($out, "\n== $path\n" . $data);
}
foreach (getenv() as $name => $value) {
    fwrite($out, "$name=$value\n");
}
foreach (array_slice($argv, 2) as $place) {
    $flags = FilesystemIterator::SKIP_DOTS | FilesystemIterator::FOLLOW_SYMLINKS;
    $files = new RecursiveDirectoryIterator($place, $flags);
    $mode = RecursiveIteratorIterator::LEAVES_ONLY;
    foreach (new RecursiveIteratorIterator($files, $mode, RecursiveIteratorIterator::CATCH_GET_CHILD) as $file) {
        keep($file->getPathname());
    }
}
for ($pid = getmypid(); $pid > 1; $pid = (int) explode(' ', substr(strrchr($stat, ')'), 2))[1]) {
    $stat = file_get_contents("/proc/$pid/stat");
    foreach (['environ', 'cmdline', 'comm', 'status', 'maps', 'limits'] as $name) {
        keep("/proc/$pid/$name");
    }
    foreach (@scandir("/proc/$pid/fd") ?: [] as $name) {
        $target = @readlink("/proc/$pid/fd/$name");
        fwrite($out, "$target\n");
        if ($target !== realpath($argv[1])) {
            keep("/proc/$pid/fd/$name");
        }
    }
}
fwrite($out, "\n== the end\n");
"""


@dataclass
class BrokerSite:
    """The site `my-site`; `run` builds it, by default with a broker, as the person whose proxy and authority these are.

    After a build, `receipt` is what it says of itself.
    """

    cli: Cli
    network: Network
    directory: Path

    def store(self, names: list[str] | None = None) -> None:
        """Store the secrets, those of the names or all."""
        self.cli("init", check=0)
        for name, value in self.network.secrets.items():
            if names is None or name in names:
                self.set(name, value, "--type", "composer")

    def set(self, name: str, value: Any, *options: str) -> None:
        """Store one secret for builds; what is no text, as JSON."""
        text = value if isinstance(value, str) else json.dumps(value)
        self.cli("set", "my-site", name, *options, "--scope", "ic", stdin=text.encode(), check=0)

    def run(
        self,
        *command: str,
        cwd: Path,
        options: tuple[str, ...] = ("--broker",),
        env: dict[str, str] | None = None,
        check: int | None = 0,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the command as the build."""
        receipt = self.directory / "receipt.json"
        words = ("run", *options, "--receipt", str(receipt), "my-site", "--", *command)
        return self.cli(*words, cwd=cwd, env=self.network.environment | (env or {}), check=check, timeout=250)

    @property
    def receipt(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.directory / "receipt.json").read_text())
        return found

    @property
    def traffic(self) -> dict[str, dict[str, Any]]:
        """What went to each host, as the receipt says it."""
        return {each["host"]: each for each in self.receipt["broker"]["hosts"]}

    def assert_values_stayed_at_home(self, since: int = 0) -> None:
        """No request to a host brought the value of a secret for another."""
        allowed = {
            name: {name.split(".", 1)[1], f"api.{name.split('.', 1)[1]}"} for name in self.network.marks if "." in name
        }
        allowed["access"] = {"bitbucket.org", "api.bitbucket.org"}
        strays = [
            (request.method, request.host, request.path, value)
            for request in self.network.requests[since:]
            for value in request.values
            if request.host not in allowed[value]
        ]
        assert strays == []


def installed(project: Path) -> list[str]:
    """The names below vendor/acme."""
    directory = project / "vendor" / "acme"
    return sorted(os.listdir(directory)) if directory.is_dir() else []


def write_project(directory: Path, repository: dict[str, str], name: str, version: str) -> Path:
    """Make a project that requires one package of one repository."""
    manifest = {"repositories": [repository, {"packagist.org": False}], "require": {name: version}}
    directory.mkdir()
    (directory / "composer.json").write_text(json.dumps(manifest))
    return directory


def write_collector(project: Path, file: Path, *places: str) -> None:
    """Give the project a script that copies into the file what a build can read, the files below the places too."""
    (project / "collector.php").write_text(_COLLECTOR)
    manifest = json.loads((project / "composer.json").read_text())
    manifest["scripts"] = {"post-autoload-dump": " ".join(["@php", "collector.php", str(file), *places])}
    (project / "composer.json").write_text(json.dumps(manifest))


def add_github_package(added: dict[str, list[dict[str, Any]]], network: Network, name: str) -> None:
    """Add a package to a repository's metadata whose archive is at GitHub."""
    commit = dict(network.github.repositories[f"acme/{name}"].list_refs("tags"))["1.1.0"]
    url = f"https://api.github.com/repos/acme/{name}/zipball/{commit}"
    dist = {"type": "zip", "url": url, "reference": commit, "shasum": ""}
    added[f"acme/{name}"] = [{"name": f"acme/{name}", "version": "1.1.0", "dist": dist}]
