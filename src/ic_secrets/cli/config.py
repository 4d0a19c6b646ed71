"""`ic-secrets config`: every setting, and where it came from."""

from __future__ import annotations

import json
import re
from typing import Any

from ..config import SETTINGS, Setting, Settings, make_schema
from ..core.console import print_table, printable
from ..errors import IcSecretsError, UsageError
from . import Call
from .call import read_call
from .output import print_json
from .parser import Parser, add_json, add_store_options

# Of these only whether they are set is shown: they are secrets, or a command line that may hold one.
_SECRET = ("key", "passphrase")
_HIDDEN = ("key-command",)
# Settings that are variables alone.
_VARIABLES = ("passphrase-file",)
_TOKENS = ("BAO_TOKEN", "VAULT_TOKEN", "TERMINUS_TOKEN", "TERMINUS_MACHINE_TOKEN", "PANTHEON_MACHINE_TOKEN")
_SET = "set"

_DESCRIPTION = """\
Show every setting, its value and its source: a flag, a variable, FILE:LINE, or `default`. Of keys, passphrases and
tokens only that they are set.

Flags win over variables (IC_SECRETS_ and the setting's name, - as _), those over the project's ic-secrets.toml (found
here or above), that over your own file, that over what .lando.yml or .ddev/ say of the site, and that over defaults. A
checkout's file may set the site, the environment and how to build, and where CI is set, not even the site.

env = "auto" is the environment of the git branch: dev for master and main, else the multidev of that name. A target
that the command line names has none of this: SITE without ENV is dev."""


def run_config(call: Call) -> int:
    """Show the settings, or the schema of a configuration file; if no target is set, say why."""
    arguments, context = read_call(call, make_parser())
    if arguments.schema:
        if arguments.json:
            raise UsageError("a schema is JSON already", hint="leave --json out")
        print(json.dumps(make_schema(checkout=arguments.schema == "project"), indent=2))
        return 0
    settings = context.settings
    found = _collect(settings)
    target, problem = _find_target(settings)
    person, is_there = settings.person_file
    if arguments.json:
        files = {"project": settings.project_file, "person": person, "person_exists": is_there}
        described = {name: {"value": one.value or None, "source": one.source} for name, one in found.items()}
        print_json("config", {"target": target, "problem": problem, "files": files, "settings": described})
        return 0
    print_table(["SETTING", "VALUE", "SOURCE"], [[name, one.value or "-", one.source] for name, one in found.items()])
    print(printable(f"target: {target or f'none ({problem})'}"))
    print(printable(f"the project's file: {settings.project_file or 'none'}"))
    print(printable(f"your own file: {person}{'' if is_there else ' (not there)'}"))
    return 0


def make_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser("config", _DESCRIPTION, "ic-secrets config\n  ic-secrets config --schema project > schema.json")
    parser.add_argument("--schema", choices=["project", "person"], help="print that file's JSON schema instead")
    add_json(parser)
    add_store_options(parser)
    return parser


def _collect(settings: Settings) -> dict[str, Setting]:
    worked_out: dict[str, Any] = {
        "site": lambda: settings.site,
        "store": lambda: settings.store,
        "key-file": lambda: _find_key_file(settings),
        "audit-file": lambda: settings.find("audit-file") or _as_default(settings.audit_file),
    }
    found = {}
    for name, known in SETTINGS.items():
        setting = worked_out[name]() if name in worked_out else settings.get(name)
        setting = setting or _as_default(None)
        if known.kind == "flag" and not setting.value:
            setting = _as_default("false")
        found[name] = setting._replace(value=_SET) if name in _HIDDEN and setting.value else setting
    found["store"] = found["store"]._replace(value=re.sub("//[^/]*@", "//***@", found["store"].value))
    for name in (*_SECRET, *_VARIABLES):
        given = settings.find_variable(name)
        if given:
            found[name] = given._replace(value=_SET) if name in _SECRET else given
    found |= {name: Setting(_SET, name) for name in _TOKENS if settings.environment.get(name)}
    return found


def _find_key_file(settings: Settings) -> Setting | None:
    """Return None if the key comes from elsewhere, so that the default file is not used."""
    is_elsewhere = any(source.kind != "file" for source in settings.key_sources)
    return settings.find("key-file") if is_elsewhere else settings.key_file


def _as_default(value: str | None) -> Setting:
    return Setting(value or "", "default")


def _find_target(settings: Settings) -> tuple[str | None, str | None]:
    try:
        return str(settings.target(None)), None
    except IcSecretsError as error:
        return None, str(error)
