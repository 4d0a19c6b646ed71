"""A new method of Composer's is a single record that every command knows."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

from commandline import Cli

CANARY = "canary-5f1c"
MADE_UP = """
import sys
from ic_secrets import cli
from ic_secrets.composer.methods import METHODS, Field, Method

METHODS["example-key"] = Method(
    "example-key",
    (2, 0),
    (Field("account", is_secret=False), Field("key")),
    hosts=("packages.example.org",),
    headers=lambda content, origin, host: {"X-Example": content["key"]},
)
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_new_method_is_one_record_that_every_command_knows(cli: Cli, tmp_path: Path) -> None:
    """`set`, `plan`, auth.json, git's login and masking."""
    cli("init", check=0)
    project = tmp_path / "project"
    project.mkdir()
    repository = '{"type": "composer", "url": "https://packages.example.org"}'
    (project / "composer.json").write_text(f'{{"repositories": [{repository}]}}')

    def run(*words: str, stdin: str = "", check: int = 0) -> str:
        command = [sys.executable, "-c", MADE_UP, *words]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, cwd=project, env=cli.home)
        assert done.returncode == check, done.stdout + done.stderr
        return done.stdout + done.stderr

    name = "example-key.packages.example.org"
    kind = ["--type", "composer", "--scope", "ic"]
    cli("set", "my-site", name, *kind, stdin=b"x", check=1)
    run("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic", stdin="another-value")
    advice = "ic-secrets set my-site example-key.packages.example.org --type composer"
    assert advice in run("plan", "my-site", "--", "composer", "install")
    run("set", "my-site", name, *kind, stdin=f"agency {CANARY}")
    assert name in run("plan", "my-site", "--", "composer", "install")
    script = 'cat "$COMPOSER_HOME/auth.json"; git config --list --show-origin'
    shown = run("run", "my-site", "--leaks", "off", "--", "sh", "-c", script)
    assert '"account": "agency"' in shown
    assert '"key": "***"' in shown
    assert "credential.https://packages.example.org.helper" in shown
    assert CANARY not in shown
    encoded = base64.b64encode(f"agency:{CANARY}".encode()).decode()
    assert run("mask", "my-site", stdin=f"-{encoded}-").startswith("-***-")
