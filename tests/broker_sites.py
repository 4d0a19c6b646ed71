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
COLLECTOR = r"""
import os, stat, sys
def read(path):
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return b""
        with open(path, "rb") as file:
            return file.read(64 << 20)
    except OSError:
        return b""
with open(sys.argv[1], "wb") as out:
    def keep(path):
        out.write(b"\n== " + os.fsencode(path) + b"\n" + read(path))
    for place in sys.argv[2:]:
        for directory, _, names in os.walk(place):
            for name in names:
                keep(os.path.join(directory, name))
    pid = os.getpid()
    while pid > 1:
        base = f"/proc/{pid}"
        for name in ("environ", "cmdline", "comm", "status", "maps", "mountinfo", "limits", "stat"):
            keep(f"{base}/{name}")
        for name in os.listdir(f"{base}/fd") if os.access(f"{base}/fd", os.R_OK) else ():
            try:
                target = os.readlink(f"{base}/fd/{name}")
            except OSError:
                continue
            if target != os.path.realpath(sys.argv[1]):
                out.write(os.fsencode(target) + b"\n")
                keep(f"{base}/fd/{name}")
        pid = int(read(f"{base}/stat").rpartition(b")")[2].split()[1])
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
            name: {name.split(".", 1)[1], f"api.{name.split('.', 1)[1]}"} for name in self.network.values if "." in name
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
