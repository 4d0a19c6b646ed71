"""The RUN instruction of `hooks/docker/`, in a layer over this machine's own root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from places import (
    FAILING,
    HOOKS,
    SLEEPING,
    Job,
    add_script,
    assert_masked,
    wait_for,
)
from searching import Found
from servers import Servers

Search = Callable[..., list[Found]]


class Layer:
    """What a RUN instruction of the Dockerfile would add to the image: the upper half of an overlay over `/`."""

    def __init__(self, job: Job, private: Path) -> None:
        self.upper = private / "upper"
        self._image = private / "image"
        self._job = job
        self._base = private
        for path in (self.upper, private / "work", self._image):
            path.mkdir()
        self._secret = job.scratch / "ic-secrets-key"
        self._secret.touch(0o400)
        self._secret.write_text(job.key)
        shutil.copytree(job.checkout, self.upper / "app", ignore=lambda *_: ["secrets.sealed"])

    def command(self) -> list[str]:
        """The instruction that builds: its mounts, then its shell, as process 1 of a container."""
        flags, line = self._instruction()
        image = self._image
        script = [
            f"mount -t overlay overlay -o lowerdir=/,upperdir={self.upper},workdir={self._base}/work {image}",
            f"mount --rbind /dev {image}/dev",
            f"mount -t tmpfs tmpfs {image}/dev/shm",
            f"mount -t proc proc {image}/proc",
        ]
        for flag in flags:
            kind, target = flag["type"], flag.get("target") or f"/run/secrets/{flag.get('id')}"
            if kind == "tmpfs":
                script.append(f"mkdir -p {image}{target} && mount -t tmpfs tmpfs {image}{target}")
            else:
                source = self._secret if kind == "secret" else self._job.checkout / flag["source"]
                place = f"mkdir -p {image}{os.path.dirname(target)} && touch {image}{target}"
                script.append(f"{place} && mount --bind {source} {image}{target}")
        script.append(f'exec chroot {image} /bin/sh -c "cd /app; $RUN"')
        self.environment = {
            "PATH": self._job.environment["PATH"],
            "HOME": "/home-of-the-build",
            "COMPOSER_ALLOW_SUPERUSER": "1",
            "LANG": "C.UTF-8",
            "RUN": line,
        }
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        mapping = [] if os.geteuid() == 0 else ["--map-root-user"]
        return [*namespaces, *mapping, "sh", "-ec", "\n".join(script)]

    def _instruction(self) -> tuple[list[dict[str, str]], str]:
        text = (HOOKS / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
        (line,) = (line for line in text.splitlines() if line.startswith("RUN ") and "type=secret" in line)
        words = line.removeprefix("RUN ").split()
        flags = [word.removeprefix("--mount=") for word in words if word.startswith("--mount=")]
        parsed = [dict(part.split("=", 1) for part in flag.split(",")) for flag in flags]
        return parsed, " ".join(words[len(flags) :])


@pytest.fixture
def layer(job: Job, private: Path) -> Layer:
    return Layer(job, private)


def run_layer(layer: Layer) -> subprocess.CompletedProcess[bytes]:
    words = layer.command()
    return subprocess.run(words, env=layer.environment, capture_output=True, timeout=120)


@pytest.mark.parametrize(("script", "status"), [("true", 0), (FAILING, 7)])
def test_a_docker_layer_holds_what_was_built_and_no_secret(
    job: Job, layer: Layer, servers: Servers, search_tree: Search, script: str, status: int
) -> None:
    """Nor the key, nor the sealed file; the mounts have left no more than empty places."""
    add_script(layer.upper / "app", script)
    done = run_layer(layer)
    assert done.returncode == status, done.stderr.decode()
    assert (layer.upper / "app" / "vendor" / "acme" / "checkout").is_dir()
    assert_masked(job, servers, done.stdout + done.stderr)
    assert search_tree([layer.upper], [*servers.basic.needles, job.key.encode(), b"ic-secrets-sealed"]) == []
    left = [path for path in layer.upper.rglob("auth.json*") if "vendor" not in path.parts]
    assert left == []


def test_a_docker_build_that_is_cancelled_leaves_a_layer_without_secrets(
    job: Job, layer: Layer, servers: Servers, search_tree: Search
) -> None:
    """BuildKit kills all processes of the container at once; its mounts go with it."""
    add_script(layer.upper / "app", SLEEPING)
    words = layer.command()
    with subprocess.Popen(words, env=layer.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        wait_for(process, b"the script sleeps")
        process.kill()
        process.wait(10)
    assert search_tree([layer.upper], [*servers.basic.needles, job.key.encode()]) == []
