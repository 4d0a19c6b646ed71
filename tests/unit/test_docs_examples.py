"""What the pages show works: command lines are understood, links lead somewhere, tables are whole."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from ic_secrets import hookspecs
from ic_secrets.cli import COMMANDS
from ic_secrets.composer.methods import METHODS
from ic_secrets.errors import UsageError
from ic_secrets.stores.registry import SCHEMES
from ic_secrets.transfer.formats.registry import list_formats

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "hooks").rglob("*.md"),
        *(path for path in (ROOT / "docs").rglob("*.md") if not {"_build", "generated"} & set(path.parts)),
    ]
)
# What ends a command of a shell, and what a shell does rather than the command.
ENDS = {"|", "||", "&&", ";", "&", "<", ">", "2>", ")", "source"}


def list_commands(text: str) -> Iterator[list[str]]:
    """The command lines of ic-secrets in the page's blocks for a shell, each as the words after the program's name."""
    for block in re.findall(r"^```(?:sh|fish)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for found in re.finditer(r"(\$\()?(?<![\w./-])ic-secrets (.*)", line):
                command = found[2].partition(")")[0] if found[1] else found[2]
                lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
                lexer.whitespace_split = True
                words = []
                for word in lexer:
                    if word in ENDS or set(word) <= set("|&;<>()"):
                        break
                    words.append(word)
                yield words


def check(words: list[str]) -> None:
    """Parse the words as the program would; UsageError."""
    if words in (["--version"], ["--help"]):
        return
    entry = COMMANDS[words[0]]
    module, rest = import_module(f"ic_secrets.cli.{entry.module}"), words[1:]
    if entry.has_actions:
        assert rest[0] in module.ACTIONS
        parser, rest = getattr(module, entry.parser)(rest[0]), rest[1:]
    else:
        parser = getattr(module, entry.parser)()
    rest = [word for word in rest if word != "--no-plugins"]
    if words[0] in {"run", "plan"} and "--" in rest:
        rest = rest[: rest.index("--")]
    parser.read(rest)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_command_lines_are_understood(path: Path) -> None:
    for words in list_commands(path.read_text()):
        try:
            check(words)
        except (UsageError, KeyError, AssertionError) as error:
            pytest.fail(f"ic-secrets {shlex.join(words)}: {error!r}")


def test_an_example_with_a_mistake_is_found() -> None:
    page = "```sh\nbegin=$(ic-secrets pre-build my-site.dev --tll 1h) && true\n```\n"
    (words,) = list_commands(page)
    assert words == ["pre-build", "my-site.dev", "--tll", "1h"]
    with pytest.raises(UsageError):
        check(words)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target and "/generated/" not in target:
            assert (path.parent / target).exists(), target


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def read_table(page: str, heading: str) -> list[list[str]]:
    """The rows of the first table under that heading, without the code's backticks."""
    text = (ROOT / "docs" / page).read_text().partition(f"# {heading}\n")[2]
    rows = re.search(r"^\|.*?(?=^[^|]|\Z)", text, re.MULTILINE | re.DOTALL)
    assert rows
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in rows[0].strip().splitlines()]
    return [[cell.replace("`", "") for cell in row] for row in cells[2:]]


def test_the_table_of_methods_is_that_of_the_code() -> None:
    found = {row[0]: row[-1] for row in read_table("concepts.md", "Composer credentials")}
    assert found == {each.name: ".".join(map(str, each.since)) for each in METHODS.values()}


def test_the_table_of_hooks_is_that_of_the_code() -> None:
    names = [row[0].partition("(")[0] for row in read_table("guide/plugins.md", "Plugins")]
    assert names == [name for name in vars(hookspecs) if name.startswith("ic_secrets_")]


def test_the_table_of_formats_is_that_of_the_code() -> None:
    found = {name for row in read_table("stores/formats.md", "Files you already have") for name in row[0].split(", ")}
    assert found == set(list_formats())


def test_everything_that_plugins_import_is_described() -> None:
    pages = "".join((ROOT / "docs" / "reference" / "api" / page).read_text() for page in ("hookspecs.md", "types.md"))
    described = set(re.findall(r"^\.\. auto\w+:: (\w+)$", pages, re.MULTILINE))
    hooks = {name for name in vars(hookspecs) if name.startswith("ic_secrets_")}
    assert described == {*hookspecs.__all__, *hooks} - {"PROJECT", "VERSION", "hookimpl", "hookspec"}


@pytest.mark.parametrize(
    ("page", "heading"), [("design.md", "Where things live"), ("../CONTRIBUTING.md", "Where things live")]
)
def test_the_list_of_folders_is_that_of_the_source(page: str, heading: str) -> None:
    named = [row[0].rstrip("/") for row in read_table(page, heading)]
    assert set(named) == {path.parent.name for path in (ROOT / "src" / "ic_secrets").glob("*/__init__.py")}


def test_every_kind_of_store_has_its_row() -> None:
    text = " ".join(row[0] for row in read_table("stores/index.md", "Stores"))
    assert [name for name in SCHEMES if f"{name}:" not in text] == []


def test_files_that_contributing_names_exist() -> None:
    source = ROOT / "src" / "ic_secrets"
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for name in re.findall(r"`([a-z_]+/[a-z_/-]*\.[a-z]+)`", text):
        assert (ROOT / name).exists() or (source / name).exists() or (ROOT / "tests" / name).exists(), name
