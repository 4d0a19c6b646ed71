"""A command reads each configuration file once: counted by what Python says of the files that it opens."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from commandline import Cli

COUNT = """
import atexit, os, sys
opened = []
sys.addaudithook(lambda event, given: opened.append(given[0]) if event == "open" else None)
from ic_secrets import cli
status = cli.main(sys.argv[1:])
names = [os.fsdecode(path) for path in opened if isinstance(path, (str, bytes))]
with open(os.environ["COUNTED"], "w") as file:
    file.write("\\n".join(names))
sys.exit(status)
"""


@pytest.mark.parametrize(
    "words",
    [
        ["run", "my-site", "--", "true"],
        ["run", "--", "true"],
        ["plan", "my-site", "--", "true"],
        ["list", "my-site"],
        ["list", "my-site", "--show-values"],
        ["get", "my-site", "TOKEN"],
        ["config"],
        ["pre-build", "my-site"],
    ],
    ids=" ".join,
)
def test_each_configuration_file_is_opened_once(cli: Cli, work: Path, tmp_path: Path, words: list[str]) -> None:
    cli("init", check=0)
    scopes = ["--type", "env", "--scope", "ic,user"]
    cli("set", "my-site", "TOKEN", *scopes, stdin=b"a-canary-of-a-token", check=0)
    person, project, counted = tmp_path / "config.toml", work / "ic-secrets.toml", tmp_path / "counted"
    person.write_text('audit = "required"\nleaks = "warn"\n')
    project.write_text('site = "my-site"\ngrace = "5s"\n')
    environment = cli.home | {"IC_SECRETS_CONFIG": str(person), "COUNTED": str(counted)}
    done = subprocess.run(
        [sys.executable, "-c", COUNT, *words], env=environment, cwd=work, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    opened = Counter(counted.read_text().splitlines())
    assert {str(path): opened[str(path)] for path in (person, project)} == {str(person): 1, str(project): 1}
    if words[0] == "pre-build":
        cli("post-build", cwd=work, check=0)
