"""`explain` on a real terminal: a tree, tables of as many columns as fit, and colour only where it is wanted."""

from __future__ import annotations

import re

import pytest

from commandline import PROGRAM, Cli
from screen import Screen

ENVIRONMENTS = ["live", *(f"pr-{number}" for number in range(10, 20))]


@pytest.fixture
def site(cli: Cli) -> Cli:
    """A site with a long name of a secret, and overrides for many environments."""
    cli("init", check=0)
    name = "http-basic.packages.of-a-long-name.example.org:8443"
    cli("set", "my-site", name, "--type", "composer", "--scope", "ic", stdin=b"user hunter2-word", check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic", stdin=b"hunter2-base", check=0)
    for environment in ENVIRONMENTS:
        cli("set", f"my-site.{environment}", "TOKEN", stdin=b"hunter2-other", check=0)
    return cli


def show(cli: Cli, *words: str, columns: int = 80, **env: str) -> str:
    """What a terminal of that width is sent."""
    screen = Screen([str(PROGRAM), *words], cli.home | {"TERM": "xterm-256color", **env})
    screen.resize(40, columns)
    shown = screen.read_to_end().decode()
    assert screen.close() == 0
    return shown.replace("\r\n", "\n")


def strip(shown: str) -> str:
    """The text without colours and the like."""
    return re.sub(r"\x1b\[[0-9;]*m", "", shown)


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_no_environment_is_missing(site: Cli, columns: int) -> None:
    shown = strip(show(site, "explain", "my-site", columns=columns, COLUMNS=str(columns)))
    assert max(map(len, shown.splitlines())) <= columns
    header = " ".join(line for line in shown.splitlines() if "NAME" in line)
    assert [word for word in header.split() if word not in {"NAME", "TYPE"}][:4] == ["dev", "test", "live", "pr-10"]
    assert all(environment in header for environment in ENVIRONMENTS)


def test_a_chain_is_drawn_as_a_tree_in_colour_unless_nobody_wants_it(site: Cli) -> None:
    coloured = show(site, "explain", "my-site.live", "TOKEN")
    assert "\x1b[1;32moverride for live: won" in coloured
    plain = show(site, "explain", "my-site.live", "TOKEN", NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3\d", plain)
    assert "└── my-site\n    ├── value: replaced by my-site.live\n    │   env, ic, version 1" in strip(plain)
