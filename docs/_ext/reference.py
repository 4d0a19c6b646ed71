"""Write the pages that the source itself describes, into docs/reference/generated/.

They are a page for each command, from its parser; the settings, from their catalogue; the errors, from their classes;
and a page for each folder of hooks/, from its README and its files.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from sphinx.application import Sphinx

from ic_secrets import errors
from ic_secrets.cli import COMMANDS
from ic_secrets.config.catalogue import SETTINGS

_WIDTH = "100"


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the pages before Sphinx looks for its sources."""
    folder = Path(app.srcdir) / "reference" / "generated"
    for name in ("commands", "hooks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    pages = {f"commands/{name}.md": _write_command(name) for name in _list_commands()}
    hooks = Path(__file__).resolve().parents[2] / "hooks"
    pages |= {f"hooks/{place.name}.md": _write_place(place) for place in hooks.iterdir() if place.is_dir()}
    pages |= {"settings.md": _write_settings(), "errors.md": _write_errors()}
    for path in folder.rglob("*.md"):
        if str(path.relative_to(folder)) not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


# --- commands -----------------------------------------------------------------------------------


def _list_commands() -> Iterator[str]:
    return (name for name, entry in COMMANDS.items() if entry.summary)


def _write_command(name: str) -> str:
    entry = COMMANDS[name]
    module = import_module(f"ic_secrets.cli.{entry.module}")
    make_parser = getattr(module, entry.parser)
    lines = [f"# ic-secrets {name}", ""]
    if entry.has_actions:
        lines += [f"{entry.summary[:1].upper()}{entry.summary[1:]}.", ""]
        for action in module.ACTIONS:
            lines += [f"## {name} {action}", "", *_describe(make_parser(action))]
    else:
        lines += _describe(make_parser())
    return "\n".join(lines).rstrip() + "\n"


def _describe(parser: argparse.ArgumentParser) -> Iterator[str]:
    os.environ["COLUMNS"] = _WIDTH
    start = "usage: "
    usage = [line[len(start) :] for line in parser.format_usage().rstrip().splitlines()]
    yield from ("```text", *usage, "```", "")
    yield from (*map(_escape, (parser.description or "").splitlines()), "")
    shown = [action for action in parser._actions if action.help and action.dest != "help"]
    for action in shown:
        yield from (f"`{_name(action)}`", f": {_escape(_sentence(action.help or ''))}", "")
    example = (parser.epilog or "").partition("\n")[2]
    yield from ("**Example**", "", "```sh", *(row.strip() for row in example.splitlines()), "```", "")


def _name(action: argparse.Action) -> str:
    metavar = str(action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper())
    if not action.option_strings:
        return metavar
    names = ", ".join(action.option_strings)
    if action.nargs == 0:
        return names
    return f"{names}{metavar}" if metavar.startswith("[=") else f"{names} {metavar}"


# --- places to build ----------------------------------------------------------------------------

_LANGUAGES = {
    ".py": "python",
    ".sh": "sh",
    ".toml": "toml",
    ".yaml": "yaml",
    ".yml": "yaml",
    "Dockerfile": "docker",
    "Jenkinsfile": "groovy",
}


def _write_place(folder: Path) -> str:
    lines = [(folder / "README.md").read_text()]
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and _is_shown(path)):
        language = _LANGUAGES.get(path.suffix) or _LANGUAGES.get(path.stem) or "sh"
        name = f"hooks/{folder.name}/{path.relative_to(folder)}"
        lines += [f"## {path.name}", "", f"`{name}`", "", f"```{language}", path.read_text().rstrip(), "```", ""]
    return "\n".join(lines)


def _is_shown(path: Path) -> bool:
    return path.name not in {"README.md", "LICENSE"} and "__pycache__" not in path.parts and path.suffix != ".pyc"


# --- settings -----------------------------------------------------------------------------------


def _write_settings() -> str:
    rows = [
        "| setting and variable | what it does | takes | in the project's file |",
        "|---|---|---|---|",
    ]
    for name, known in SETTINGS.items():
        variable = f"IC_SECRETS_{name.upper().replace('-', '_')}"
        takes = " · ".join(known.choices) or _KINDS[known.kind]
        what = _sentence(_escape(known.summary))
        cells = (f"`{name}`<br>`{variable}`", what, takes, "yes" if known.checkout else "no")
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


_KINDS = {
    "text": "text",
    "path": "a path",
    "store": "a path or a URL",
    "flag": "true or false",
    "duration": "a duration",
    "number": "a whole number",
    "names": "a list of names",
    "globs": "a list of names or patterns",
    "paths": "a list of paths",
    "plugins": "a list of plugins",
    "preserve": "true, false or a list",
}


# --- errors -------------------------------------------------------------------------------------


def _write_errors() -> str:
    rows = ["| error | exit status | what it means |", "|---|---|---|"]
    for name, one in vars(errors).items():
        if isinstance(one, type) and issubclass(one, errors.IcSecretsError):
            meaning = (one.__doc__ or "").strip().splitlines()[0]
            rows.append(f"| `{name}` | {one.exit_status} | {_escape(meaning)} |")
    return "\n".join(rows) + "\n"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _escape(text: str) -> str:
    """The text without what Markdown would take for markup, but for code between backticks."""
    parts = text.split("`")
    for at in range(0, len(parts), 2):
        for mark in "\\*_<|[":
            parts[at] = parts[at].replace(mark, f"\\{mark}")
    return "`".join(parts)
