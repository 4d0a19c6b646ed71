"""The folder `hooks/`: each place's configuration, run as that place runs it, over a real Composer build."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import check_jsonschema
import jsonschema
import pytest

from commandline import PROGRAM
from homes import make_home
from places import HOOKS, PLACES, Job, Place, finish, load, run, started, wait_for
from searching import Found
from servers import Servers

pytestmark = pytest.mark.integration

Search = Callable[..., list[Found]]
SCHEMAS = Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor"
FAILING = "exit 7"
SCRIPTS = sorted(path for path in HOOKS.rglob("*") if path.is_file() and path.read_bytes()[:2] == b"#!")
SLEEPING = "echo $$ > script.pid; echo the script sleeps; exec sleep 300"


@pytest.fixture
def job(cli: Any, servers: Servers, tmp_path: Path, private: Path) -> Job:
    """A checkout whose sealed file holds what its build needs, on a machine that has never seen the store."""
    checkout = servers.project(tmp_path, "basic-only")
    cli("init", "--store", "pipeline.db", "--key-file", "pipeline.key", check=0)
    cli("init", check=0)
    words = ("set", "my-site", servers.basic.secret_name, "--type", "composer", "--scope", "ic")
    cli(*words, stdin=servers.basic.secret_value, check=0)
    words = ("export", "my-site", "--format", "sealed", "--seal-key-file", "pipeline.key")
    cli(*words, "-o", checkout / "secrets.sealed", check=0)
    key = (tmp_path / "pipeline.key").read_text().strip()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = make_home(tmp_path / "job") | {"CI": "true", "IC_SECRETS_RUN_DIR": str(private)}
    environment["PATH"] = f"{PROGRAM.parent}:{environment['PATH']}"
    return Job(checkout, scratch, key, environment)


@pytest.fixture(params=PLACES, ids=lambda kind: kind.__name__)
def place(request: pytest.FixtureRequest, job: Job) -> Place:
    """Each of the places in turn."""
    made: Place = request.param(job)
    return made


@pytest.fixture
def assert_nothing_left(tmp_path: Path, private: Path, servers: Servers, search_tree: Search) -> Callable[[], None]:
    """No private directory, and no value of a secret in any file."""

    def check() -> None:
        assert list(private.iterdir()) == []
        assert search_tree([tmp_path, Path("/dev/shm")], servers.basic.needles) == []

    return check


def add_script(checkout: Path, script: str) -> None:
    """What Composer does when everything is installed."""
    manifest = json.loads((checkout / "composer.json").read_text())
    manifest["scripts"] = {"post-install-cmd": [script], "post-update-cmd": [script]}
    manifest.setdefault("config", {})["process-timeout"] = 0
    (checkout / "composer.json").write_text(json.dumps(manifest))


def assert_clean_ending(place: Place) -> None:
    """What the place runs after the build succeeds, whatever the build did."""
    for command in place.cleanup():
        status, output = run(command, place.job.checkout)
        assert status == 0, output.decode()


def assert_secret_output(job: Job, servers: Servers, output: bytes) -> None:
    assert not any(needle in output for needle in [*servers.basic.needles, job.key.encode()])


def test_a_build_gets_its_secrets_and_leaves_none(
    place: Place, servers: Servers, assert_nothing_left: Callable[[], None]
) -> None:
    """The private package is installed, and no value is in the log, on the tmpfs or on the disk."""
    status, output = run(place.build(), place.job.checkout)
    assert status == 0, output.decode()
    assert (place.job.checkout / "vendor" / "acme" / "checkout").is_dir()
    assert_secret_output(place.job, servers, output)
    assert_clean_ending(place)
    assert_nothing_left()


def test_a_failing_build_fails_the_step_with_its_own_status(
    place: Place, servers: Servers, assert_nothing_left: Callable[[], None]
) -> None:
    """The service gets Composer's status, and the clean-up still succeeds."""
    add_script(place.job.checkout, FAILING)
    status, output = run(place.build(), place.job.checkout)
    assert status == 7, output.decode()
    assert (place.job.checkout / "vendor" / "acme" / "checkout").is_dir()
    assert_clean_ending(place)
    assert_nothing_left()


def test_a_cancelled_build_ends_and_leaves_nothing(
    place: Place, servers: Servers, private: Path, assert_nothing_left: Callable[[], None]
) -> None:
    """The service's own way to cancel reaches the build; all is gone when it has ended, before any clean-up."""
    add_script(place.job.checkout, SLEEPING)
    with started(place.build(), place.job.checkout) as process:
        wait_for(process, b"the script sleeps")
        assert list(private.iterdir()) != []
        place.cancel(process)
        status, seconds = finish(process, 30)
    assert status == place.cancelled_status
    assert seconds < 7.5, "the shortest time that a service gives it, GitHub, before it sends more"
    assert not Path(f"/proc/{(place.job.checkout / 'script.pid').read_text().strip()}").exists()
    assert list(private.iterdir()) == []
    assert_clean_ending(place)
    assert_nothing_left()


def test_a_build_killed_with_all_its_processes_leaves_nothing(
    place: Place, private: Path, assert_nothing_left: Callable[[], None]
) -> None:
    """The service's last resort, SIGKILL for the whole process group: the secrets are gone within a second."""
    add_script(place.job.checkout, SLEEPING)
    with started(place.build(), place.job.checkout) as process:
        wait_for(process, b"the script sleeps")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
    deadline = time.monotonic() + 1
    while list(private.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert list(private.iterdir()) == []
    script = Path(f"/proc/{(place.job.checkout / 'script.pid').read_text().strip()}")
    while script.exists() and time.monotonic() < deadline + 1:
        time.sleep(0.01)
    assert not script.exists()
    for kept in place.job.scratch.glob("*-runner-*"):
        kept.unlink()
    assert_clean_ending(place)
    assert_nothing_left()


def test_a_wrong_key_stops_the_step_before_composer(place: Place) -> None:
    """A step that cannot open the store is red, with the status that says so, and builds nothing."""
    place.job = place.job._replace(key="ic-secrets-key-1:" + "A" * 43)
    status, output = run(place.build(), place.job.checkout)
    assert status == 125, output.decode()
    assert not (place.job.checkout / "vendor").exists()


def test_github_installs_the_action_from_its_own_checkout(job: Job, tmp_path: Path) -> None:
    """The step that installs makes a program that starts, out of the very repository that the action came with."""
    install = load("github/action.yml")["runs"]["steps"][0]
    variables = {"RUNNER_TEMP": str(tmp_path / "runner"), "GITHUB_ACTION_PATH": str(HOOKS / "github")}
    (tmp_path / "runner").mkdir()
    shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", install["run"]]
    subprocess.run(shell, env=dict(os.environ) | variables, check=True, timeout=240)
    program = tmp_path / "runner" / "ic-secrets" / "bin" / "ic-secrets"
    done = subprocess.run([program, "scrub"], env=job.environment, cwd=job.checkout, timeout=60)
    assert done.returncode == 0


def test_a_command_for_buildkite_may_have_several_lines_and_stops_at_the_first_that_fails(job: Job) -> None:
    """As the agent's own way to run a command does."""
    from places import Buildkite

    command = Buildkite(job).build()
    environment = command.environment | {"BUILDKITE_COMMAND": 'echo "one  $BUILDKITE"\nfalse\necho two'}
    status, output = run(command._replace(environment=environment), job.checkout)
    assert status == 1
    assert b"one  true\n" in output
    assert b"two" not in output


def test_ddev_gives_the_key_to_the_build_alone_and_in_no_arguments(job: Job) -> None:
    """docker is told the variable's name; what the container's own environment holds has no key."""
    from places import Ddev

    place = Ddev(job)
    command = place.build()
    show = f"#!{sys.executable}\nimport sys; print(sys.argv[1:])\n"
    (job.scratch / "bin" / "docker").write_text(show)
    status, output = run(command, job.checkout)
    assert status == 0
    assert b"'--env', 'IC_SECRETS_KEY'," in output
    assert job.key.encode() not in output


# --- what the services themselves check -----------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "schema"),
    [
        ("github/action.yml", "github-actions"),
        ("github/workflow.yml", "github-workflows"),
        ("github/separate-steps.yml", "github-workflows"),
        ("gitlab/.gitlab-ci.yml", "gitlab-ci"),
        ("buildkite/pipeline.yml", "buildkite"),
        ("circleci/config.yml", "circle-ci"),
    ],
)
def test_a_configuration_is_as_the_services_published_schema_wants_it(file: str, schema: str) -> None:
    """The schemas are those that the package check-jsonschema brings with it."""
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--schemafile", SCHEMAS / f"{schema}.json", HOOKS / file],
        capture_output=True,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stdout.decode()


def test_the_schemas_refuse_what_is_wrong() -> None:
    """So that the test above can fail."""
    action = load("github/action.yml")
    del action["runs"]["steps"][0]["shell"]
    schema = json.loads((SCHEMAS / "github-actions.json").read_text())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(action, schema)


def test_buildkites_plugin_takes_what_its_example_gives() -> None:
    """Its configuration is a JSON schema."""
    configuration = load("buildkite/plugin.yml")["configuration"]
    (plugin,) = load("buildkite/pipeline.yml")["steps"][0]["plugins"]
    (given,) = plugin.values()
    jsonschema.validate(given, configuration)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"target": "my-site.dev"}, configuration)


def test_precommit_takes_the_manifest_and_the_configuration() -> None:
    """`pre-commit` itself says so; at the root of the repository, where it looks for it, is the same manifest."""
    for command, file in (
        ("validate-manifest", ".pre-commit-hooks.yaml"),
        ("validate-config", ".pre-commit-config.yaml"),
    ):
        path = HOOKS / "pre-commit" / file
        done = subprocess.run([sys.executable, "-m", "pre_commit", command, path], capture_output=True, timeout=60)
        assert done.returncode == 0, done.stdout.decode()
    assert (HOOKS.parent / ".pre-commit-hooks.yaml").samefile(HOOKS / "pre-commit" / ".pre-commit-hooks.yaml")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_executable_and_its_own_shell_can_parse_it(script: Path) -> None:
    """Every file that begins with `#!`."""
    words = script.read_text().splitlines()[0].removeprefix("#!").split()
    assert os.access(script, os.X_OK)
    subprocess.run([*words, "-n", script], check=True, timeout=10)


def test_every_place_has_a_readme_that_names_it_and_its_files() -> None:
    """Short, with every file of the folder in it."""
    folders = {path for path in HOOKS.iterdir() if path.is_dir() and not path.name.startswith("example-")}
    assert len(folders) >= 11
    overview = (HOOKS / "README.md").read_text()
    for folder in folders:
        text = (folder / "README.md").read_text()
        assert f"({folder.name}/)" in overview
        for file in folder.rglob("*"):
            assert file.is_dir() or file.name in text or file.name == "README.md", f"{folder.name}: {file.name}"


# --- pre-commit -----------------------------------------------------------------------------------


@pytest.fixture
def repository(job: Job, servers: Servers) -> Path:
    """The checkout as a git repository, whose pre-commit hook is the one of `hooks/`, with this program."""
    manifest = load("pre-commit/.pre-commit-hooks.yaml")[0]
    used = load("pre-commit/.pre-commit-config.yaml")["repos"][0]["hooks"][0]
    assert used["id"] == manifest["id"]
    hook = manifest | used | {"language": "system"}
    (job.checkout / ".pre-commit-config.yaml").write_text(json.dumps({"repos": [{"repo": "local", "hooks": [hook]}]}))
    git(job, "init", "--quiet")
    git(job, "config", "user.name", "Somebody")
    git(job, "config", "user.email", "somebody@example.org")
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "install"], env=job.environment, cwd=job.checkout, timeout=60
    )
    assert done.returncode == 0
    return job.checkout


def git(job: Job, *words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    variables = {"IC_SECRETS_STORE": "sealed:secrets.sealed", "IC_SECRETS_KEY": job.key}
    return subprocess.run(
        ["git", *words], env=job.environment | variables, cwd=job.checkout, capture_output=True, check=check, timeout=60
    )


def test_a_commit_with_a_secret_in_it_is_refused(repository: Path, job: Job, servers: Servers) -> None:
    """By what is staged: the same value in a file that is not does no harm. The value itself is not shown."""
    password = servers.basic.password
    (repository / "unstaged.txt").write_text(password)
    git(job, "add", "composer.json", "secrets.sealed")
    git(job, "commit", "--message", "the sealed file may be committed")
    (repository / "settings.php").write_text(f"<?php\n$password = {password!r};\n")
    git(job, "add", "settings.php")
    refused = git(job, "commit", "--message", "the value may not", check=False)
    assert refused.returncode == 1
    assert b"settings.php:2: " in refused.stdout + refused.stderr
    assert password.encode() not in refused.stdout + refused.stderr
    assert git(job, "rev-list", "--count", "HEAD").stdout == b"1\n"


# --- Docker ---------------------------------------------------------------------------------------


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
    assert_secret_output(job, servers, done.stdout + done.stderr)
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
