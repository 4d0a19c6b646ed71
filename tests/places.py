"""The places of `hooks/`: how each service, which is not here, runs what its configuration says.

Each class takes the configuration from `hooks/` as a user would copy it, and gives the commands that the service makes
of it, with its variables, its shells, and the signals that it sends to a job that is cancelled.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from commandline import PROGRAM
from servers import Servers

HOOKS = Path(__file__).resolve().parent.parent / "hooks"


def load(path: str) -> Any:
    """The YAML file below `hooks/`, read by the safe loader."""
    return yaml.safe_load((HOOKS / path).read_text())


class Job(NamedTuple):
    """A checkout with a sealed file, and what the service knows: its key, and an environment without any of ours."""

    checkout: Path
    scratch: Path
    key: str
    environment: dict[str, str]


class Command(NamedTuple):
    """What the service starts; `script` is what it writes to the shell's stdin."""

    words: list[str]
    environment: dict[str, str]
    script: str = ""


class Place:
    """One service. `build` is the step that builds, `cleanup` what runs when it has ended, however it did."""

    signals = (signal.SIGTERM,)
    cancelled_status = 128 + signal.SIGTERM

    def __init__(self, job: Job) -> None:
        self.job = job

    def build(self) -> Command:
        """The step that builds."""
        raise NotImplementedError

    def cleanup(self) -> list[Command]:
        """What runs afterwards, each in a shell of its own."""
        return []

    def cancel(self, process: subprocess.Popen[bytes]) -> None:
        """What the service does to the step that builds: to all of its process group, unless it says otherwise."""
        for number in self.signals:
            os.killpg(process.pid, number)


class GitHub(Place):
    """Steps of a composite action; a cancelled one gets SIGINT, in the first process of the step alone."""

    cancelled_status = 128 + signal.SIGINT

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._steps = {step["name"]: step for step in load("github/action.yml")["runs"]["steps"]}
        program = job.scratch / "ic-secrets" / "bin" / "ic-secrets"
        program.parent.mkdir(parents=True)
        program.symlink_to(PROGRAM)

    def build(self) -> Command:
        return self._step("Build")

    def cleanup(self) -> list[Command]:
        assert self._steps["Scrub"]["if"] == "always()"
        return [self._step("Scrub")]

    def cancel(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGINT)

    def _step(self, name: str) -> Command:
        action = load("github/action.yml")
        used = load("github/workflow.yml")["jobs"]["build"]["steps"][1]["with"]
        inputs = {key: given.get("default") for key, given in action["inputs"].items()} | used | {"key": self.job.key}
        step = self._steps[name]
        assert "${{" not in step["run"], "an input in a script would be code"
        given = {key: _interpolate(value, inputs) for key, value in step.get("env", {}).items()}
        script = self.job.scratch / f"{name}.sh"
        script.write_text(step["run"])
        files = {f"GITHUB_{file}": str(self.job.scratch / file.lower()) for file in ("ENV", "OUTPUT", "PATH")}
        for path in files.values():
            Path(path).touch()
        variables = {
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(HOOKS / "github"),
            "GITHUB_WORKSPACE": str(self.job.checkout),
            "RUNNER_TEMP": str(self.job.scratch),
        }
        shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        return Command(shell, self.job.environment | variables | files | given)


def _interpolate(text: str, inputs: dict[str, str]) -> str:
    return re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda match: inputs[match[1]], text)


class GitLab(Place):
    """The lines of `script` in one shell that reads from a pipe; those of `after_script` in another."""

    def build(self) -> Command:
        return self._shell(load("gitlab/.gitlab-ci.yml")["build"]["script"])

    def cleanup(self) -> list[Command]:
        return [self._shell(load("gitlab/.gitlab-ci.yml")["build"]["after_script"])]

    def _shell(self, lines: list[str]) -> Command:
        variables = load("gitlab/.gitlab-ci.yml")["build"]["variables"] | {
            "GITLAB_CI": "true",
            "CI_PROJECT_DIR": str(self.job.checkout),
            "IC_SECRETS_KEY": self.job.key,
        }
        body = "\n".join(["set -eo pipefail", f"cd {shlex.quote(str(self.job.checkout))}", *lines])
        script = f"set -eo pipefail\nset +o noclobber\n: | eval {shlex.quote(body)}\nexit 0\n"
        return Command(["bash"], self.job.environment | variables, script)


class Buildkite(Place):
    """Hooks of a plugin, each sourced by a script of the agent's that keeps the environment before and after."""

    def build(self) -> Command:
        return self._hook("command")

    def cleanup(self) -> list[Command]:
        return [self._hook("pre-exit")]

    def _hook(self, name: str) -> Command:
        step = load("buildkite/pipeline.yml")["steps"][0]
        ((source, configuration),) = step["plugins"][0].items()
        plugin = self.job.checkout / source
        if not plugin.exists():
            shutil.copytree(HOOKS / "buildkite", plugin)
        prefix = "BUILDKITE_PLUGIN_" + Path(source).name.upper().replace("-", "_")
        variables = {f"{prefix}_{key.upper()}": value for key, value in configuration.items()} | {
            "BUILDKITE": "true",
            "BUILDKITE_COMMAND": step["command"],
            "IC_SECRETS_KEY": self.job.key,
        }
        wrapper = self.job.scratch / f"{name}-runner"
        wrapper.write_text(
            f'env > "{wrapper}-before"\n. "{plugin}/hooks/{name}"\nexport BUILDKITE_HOOK_EXIT_STATUS=$?\n'
            f'env > "{wrapper}-after"\nexit $BUILDKITE_HOOK_EXIT_STATUS\n'
        )
        return Command(["/bin/bash", str(wrapper)], self.job.environment | variables)

    def cancel(self, process: subprocess.Popen[bytes]) -> None:
        super().cancel(process)
        for kept in self.job.scratch.glob("*-runner-*"):  # the agent's own, removed when the hook has ended
            kept.unlink()


class CircleCI(Place):
    """`run` steps in its default shell; a cancelled job's container is ended, and no step follows."""

    def build(self) -> Command:
        return self._step("Build")

    def cleanup(self) -> list[Command]:
        return [self._step("Scrub")]

    def _step(self, name: str) -> Command:
        job = load("circleci/config.yml")["jobs"]["build"]
        (step,) = (one["run"] for one in job["steps"] if "run" in one and one["run"]["name"] == name)
        variables = job["environment"] | {"CIRCLECI": "true", "IC_SECRETS_KEY": self.job.key}
        return Command(["/bin/bash", "-eo", "pipefail", "-c", step["command"]], self.job.environment | variables)


class Jenkins(Place):
    """`sh` steps, detached, tracing; a cancelled one's processes are found by a variable, and each gets SIGTERM."""

    def build(self) -> Command:
        return self._step("withCredentials", {"IC_SECRETS_KEY": self.job.key})

    def cleanup(self) -> list[Command]:
        return [self._step("always", {})]

    def _step(self, block: str, credentials: dict[str, str]) -> Command:
        text = (HOOKS / "jenkins" / "Jenkinsfile").read_text()
        (line,) = re.findall(block + r"\b[^\n]*\{\n\s+sh '([^'\n]+)'\n", text)
        variables = dict(re.findall(r"^        (\w+) = '([^']*)'$", text, re.MULTILINE))
        script = self.job.scratch / f"{block}.sh"
        script.write_text(f"#!/bin/sh -xe\n{line}\n")
        script.chmod(0o755)
        cookie = {"JENKINS_SERVER_COOKIE": f"durable-{self.job.checkout.name}-{self.job.key[-8:]}"}
        command = f"sh -xe {shlex.quote(str(script))}; exit $?"
        environment = self.job.environment | variables | credentials | cookie
        return Command(["nohup", "sh", "-c", command], environment)

    def cancel(self, process: subprocess.Popen[bytes]) -> None:
        cookie = b"JENKINS_SERVER_COOKIE=durable-" + self.job.checkout.name.encode() + b"-" + self.job.key[-8:].encode()
        for pid in [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and entry != str(process.pid)]:
            with contextlib.suppress(OSError):
                if cookie in Path(f"/proc/{pid}/environ").read_bytes():
                    os.kill(pid, signal.SIGTERM)


class Ddev(Place):
    """A command on the host. `docker` is a stand-in that starts the container's process with what it was told."""

    signals = (signal.SIGINT,)
    cancelled_status = 128 + signal.SIGINT
    _DOCKER = """\
#!{python}
import os, sys
words = sys.argv[2:]
environment = {environment!r}
while words[0].startswith("--"):
    option = words.pop(0)
    if option in ("--interactive", "--tty"):
        continue
    value = words.pop(0)
    if option == "--env":
        name, equals, text = value.partition("=")
        environment[name] = text if equals else os.environ[name]
    elif option == "--workdir":
        assert value == "/var/www/html"
        os.chdir({checkout!r})
    else:
        assert option == "--user", option
assert words.pop(0) == "ddev-my-site-web"
os.execvpe(words[0], words, environment)
"""

    def build(self) -> Command:
        programs = self.job.scratch / "bin"
        programs.mkdir()
        docker = programs / "docker"
        docker.write_text(
            self._DOCKER.format(
                python=sys.executable, environment=self.job.environment, checkout=str(self.job.checkout)
            )
        )
        docker.chmod(0o755)
        home = self.job.scratch / "host"
        (home / ".config" / "ic-secrets").mkdir(parents=True)
        (home / ".config" / "ic-secrets" / "key").write_text(self.job.key)
        command = HOOKS / "ddev" / "commands" / "host" / "secrets-composer"
        environment = {"HOME": str(home), "PATH": f"{programs}:{os.environ['PATH']}", "DDEV_SITENAME": "my-site"}
        return Command([str(command), "install", "--no-interaction", "--no-progress"], environment)


class Lando(Place):
    """Tooling with arguments: the words of `cmd`, then those of the user, in the service's container."""

    signals = (signal.SIGINT,)
    cancelled_status = 128 + signal.SIGINT

    def build(self) -> Command:
        tooling = load("lando/.lando.yml")["tooling"]["composer"]
        words = [*shlex.split(tooling["cmd"]), "install", "--no-interaction", "--no-progress"]
        environment = {name: self._mounted(value) for name, value in tooling["env"].items()}
        key = Path(environment["IC_SECRETS_KEY_FILE"])
        key.parent.mkdir(parents=True)
        key.touch(0o600)
        key.write_text(self.job.key)
        return Command(words, self.job.environment | environment)

    def cleanup(self) -> list[Command]:
        (event,) = load("lando/.lando.yml")["events"]["post-start"]
        return [Command(["/bin/sh", "-c", event["appserver"]], self.job.environment)]

    def _mounted(self, value: str) -> str:
        """Lando has the project as /app in the container, and the user's home as /user."""
        return value.replace("/app/", f"{self.job.checkout}/").replace("/user/", f"{self.job.scratch}/user/")


class Upsun(Place):
    """The build hook, one script for dash."""

    def build(self) -> Command:
        application = load("upsun/.upsun/config.yaml")["applications"]["my-site"]
        program = self.job.scratch / "ic-secrets" / "bin" / "ic-secrets"
        program.parent.mkdir(parents=True)
        program.symlink_to(PROGRAM)
        variables = application["variables"]["env"] | {
            "PLATFORM_CACHE_DIR": str(self.job.scratch),
            "IC_SECRETS_KEY": self.job.key,
        }
        return Command(["dash", "-c", application["hooks"]["build"]], self.job.environment | variables)


class Shell(Place):
    """A script that is nothing but the build, wrapped."""

    def build(self) -> Command:
        variables = {"IC_SECRETS_STORE": "sealed:secrets.sealed", "IC_SECRETS_KEY": self.job.key}
        return Command([str(HOOKS / "shell" / "wrapped.sh")], self.job.environment | variables)

    def cancel(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGTERM)


FAILING = "exit 7"
SLEEPING = "echo $$ > script.pid; echo the script sleeps; exec sleep 300"
PLACES: tuple[type[Place], ...] = (GitHub, GitLab, Buildkite, CircleCI, Jenkins, Ddev, Lando, Upsun, Shell)


@contextlib.contextmanager
def started(command: Command, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command's first process, in a session of its own; both streams come from one pipe."""
    with subprocess.Popen(
        command.words,
        cwd=directory,
        env=command.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        assert process.stdin
        process.stdin.write(command.script.encode())
        process.stdin.close()
        process.stdin = None
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def run(command: Command, directory: Path) -> tuple[int, bytes]:
    """The exit status, as a shell tells it, and what was printed."""
    with started(command, directory) as process:
        assert process.stdout
        output = process.stdout.read()
        return _status(process), output


def wait_for(process: subprocess.Popen[bytes], text: bytes) -> bytes:
    """Read until a line that is the text; gives what was printed so far."""
    assert process.stdout
    output = b""
    for line in process.stdout:
        output += line
        if line.strip() == text:  # not the command that prints it, which Composer shows first
            return output
    raise AssertionError(f"it ended before {text!r}:\n{output.decode(errors='replace')}")


def finish(process: subprocess.Popen[bytes], limit: float) -> tuple[int, float]:
    """The exit status, and how many seconds it took until it and all that wrote to its log had ended."""
    begin = time.monotonic()
    process.communicate(timeout=limit)
    return _status(process), time.monotonic() - begin


def _status(process: subprocess.Popen[bytes]) -> int:
    status = process.wait(120)
    return 128 - status if status < 0 else status


def add_script(checkout: Path, script: str) -> None:
    """What Composer does when everything is installed."""
    manifest = json.loads((checkout / "composer.json").read_text())
    manifest["scripts"] = {"post-install-cmd": [script], "post-update-cmd": [script]}
    manifest.setdefault("config", {})["process-timeout"] = 0
    (checkout / "composer.json").write_text(json.dumps(manifest))


def assert_masked(job: Job, servers: Servers, output: bytes) -> None:
    """Nothing of the secrets, and not the key, is in the log."""
    assert not any(needle in output for needle in [*servers.basic.needles, job.key.encode()])
