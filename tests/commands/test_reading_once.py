"""A command reads each configuration file once, and opens each value only where it must: both are counted."""

from __future__ import annotations

import json
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


COUNT_VALUES = """
import json, os, sys
from collections import Counter
from ic_secrets import cli
from ic_secrets.composer import credential
from ic_secrets.model.secret import SecretValue
revealed, parsed = Counter(), Counter()

def count(counter, function):
    def call(*words):
        counter[words[0]._text if counter is revealed else words[0]] += 1
        return function(*words)
    return call

SecretValue.reveal = count(revealed, SecretValue.reveal)
parse = count(parsed, credential.parse_credential)
credential.parse_credential = parse
from ic_secrets.build import secrets
secrets.parse_credential = parse
status = cli.main(sys.argv[1:])
with open(os.environ["COUNTED"], "w") as file:
    json.dump([revealed, parsed], file)
sys.exit(status)
"""
BASIC = "http-basic.repo.example.org"
VALUES = {"TOKEN": "a-canary-of-a-token", BASIC: "deploy a-canary-of-a-password"}


@pytest.mark.parametrize(
    "words",
    [
        ["run", "my-site", "--receipt", "receipt", "--", "sh", "-c", "echo $TOKEN; echo $TOKEN > leak"],
        ["pre-build", "my-site"],
    ],
    ids=lambda words: words[0],
)
def test_a_value_is_revealed_at_most_three_times_and_parsed_once(
    cli: Cli, work: Path, tmp_path: Path, words: list[str]
) -> None:
    """Rendered, masked, searched for and described in the receipt; both values are needed in each of these."""
    cli("init", check=0)
    for name, value in VALUES.items():
        kind = "env" if name == "TOKEN" else "composer"
        cli("set", "my-site", name, "--type", kind, "--scope", "ic", stdin=value.encode(), check=0)
    counted = tmp_path / "counted"
    environment = cli.home | {"COUNTED": str(counted)}
    done = subprocess.run(
        [sys.executable, "-c", COUNT_VALUES, *words], env=environment, cwd=work, capture_output=True, timeout=60
    )
    assert done.returncode == (120 if words[0] == "run" else 0), done.stderr
    revealed, parsed = json.loads(counted.read_text())
    assert revealed.keys() == {*VALUES.values()}
    assert max(revealed.values()) <= 3, revealed
    assert parsed == {BASIC: 1}
    if words[0] == "pre-build":
        cli("post-build", cwd=work, check=0)


def test_no_plugins_is_a_setting_of_the_command_wherever_it_stands(cli: Cli) -> None:
    cli.home["IC_SECRETS_PLUGINS"] = "/no/such/plugin.py"
    assert b"/no/such/plugin.py" in cli("plugins", check=1).stderr
    cli("plugins", "--no-plugins", check=0)
    cli("--no-plugins", "plugins", check=0)
