"""`--help` of every command and the manual page: each has an example, and both say the same."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ic_secrets.cli import COMMANDS, main
from ic_secrets.cli.program import list_parsers

PAGE = Path(__file__).parent.parent.parent / "docs" / "ic-secrets.1"
PARSERS = {parser.prog: parser for parser in list_parsers()}


def test_every_command_that_people_use_is_there() -> None:
    assert {prog.split()[1] for prog in PARSERS} == set(COMMANDS)


@pytest.mark.parametrize("prog", PARSERS)
def test_help_shows_an_example_that_calls_the_command(prog: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*prog.split()[1:], "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: {prog}")
    example = text.partition("\nexample:\n")[2]
    assert prog in example
    shlex.split(example, comments=True)
    undescribed = [action.dest for action in PARSERS[prog]._actions if not action.help]
    assert undescribed == []


@pytest.mark.parametrize("command", [name for name, entry in COMMANDS.items() if entry.has_actions])
def test_help_of_a_command_with_actions_lists_them(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "example:" in text
    actions = {prog.split()[2] for prog in PARSERS if prog.split()[1] == command}
    assert actions <= set(text.split())


@pytest.mark.parametrize("prog", PARSERS)
def test_an_unknown_argument_is_a_usage_error_that_says_what_to_do(
    prog: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main([*prog.split()[1:], "--no-such-option"])
    assert status == (125 if prog.split()[1] in {"run", "pre-build"} else 2)
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert f"`{prog} --help`" in error


def test_the_page_is_that_of_the_source() -> None:
    environment = {"BIN": str(Path(sys.executable).parent), "PATH": os.environ["PATH"]}
    script = PAGE.parent.parent / ".ci" / "man"
    done = subprocess.run([script], env=environment, check=True, capture_output=True, text=True, timeout=60)
    assert PAGE.read_text() == done.stdout, "`make man` writes it anew"


def test_the_page_has_every_option_of_every_command() -> None:
    text = re.sub(r"\\f.|\\&", "", PAGE.read_text()).replace(r"\-", "-")
    for prog, parser in PARSERS.items():
        section = text.partition(f".SS {prog}\n")[2].partition("\n.S")[0]
        options = {name for action in parser._actions for name in action.option_strings if action.dest != "help"}
        assert all(re.search(rf"{re.escape(name)}\b", section) for name in options), prog


@pytest.mark.parametrize(
    "command", [["mandoc", "-Tlint", "-W", "error"], ["man", "--warnings", "-l"]], ids=["mandoc", "groff"]
)
def test_nothing_is_wrong_with_its_macros(command: list[str]) -> None:
    if not shutil.which(command[0]):
        pytest.skip(f"no {command[0]} here")
    done = subprocess.run([*command, str(PAGE)], capture_output=True, timeout=60, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 0
    assert done.stderr == b""
    if command[0] == "mandoc":
        assert done.stdout == b""
