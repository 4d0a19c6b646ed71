"""`ic-secrets plugins`: what is active, what it does, and what is installed but not named."""

from __future__ import annotations

from typing import Any

from ..config import Setting
from ..core.console import print_table
from ..errors import PluginError
from ..plugins import Origin, Plugin, Plugins, find_named, list_installed, supervise
from . import COMMANDS, Call
from .call import read_call
from .output import print_error, print_json, print_message
from .parser import Parser, add_json


def run_plugins(call: Call) -> int:
    """List the plugins; 1 if one that is named cannot be used."""
    arguments, context = read_call(call, make_parser())
    active, errors = _load_named(context.settings.plugins)
    taken = {(plugin.origin.distribution, plugin.origin.name) for plugin in active}
    inactive = [origin for origin in list_installed() if (origin.distribution, origin.name) not in taken]
    if arguments.json:
        described = [_describe(plugin.origin, plugin) for plugin in active]
        described += [_describe(origin, None) for origin in inactive]
        print_json("plugins", {"plugins": described, "errors": [str(error) for error in errors]})
    elif active or inactive:
        rows = [[plugin.origin.name, "active", _implements(plugin), _source(plugin.origin)] for plugin in active]
        rows += [[origin.name, "inactive", "", _source(origin)] for origin in inactive]
        print_table(["NAME", "STATE", "IMPLEMENTS", "FROM"], rows)
    elif not errors:
        print_message("", "there are no plugins")
    for error in errors:
        print_error(error)
    return 1 if errors else 0


def make_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser(
        "plugins",
        "List the plugins that IC_SECRETS_PLUGINS or your own configuration names, what each implements and where it\n"
        "comes from, and those that are installed but not named: they are inactive, and not imported.",
        "IC_SECRETS_PLUGINS=npmrc ic-secrets plugins",
    )
    add_json(parser)
    return parser


def _load_named(setting: Setting | None) -> tuple[list[Plugin], list[PluginError]]:
    """Return those that can be used, and what is wrong with the others."""
    if setting:
        supervise()
    plugins, errors = Plugins(tuple(COMMANDS)), []
    for word in setting.value.split(",") if setting else []:
        try:
            for origin in find_named(word, setting.source if setting else ""):
                plugins.add(origin)
        except PluginError as error:
            errors.append(error)
    return plugins.active, errors


def _implements(plugin: Plugin) -> str:
    stores = [f"{scheme}:" for scheme in plugin.schemes]
    return ", ".join([*plugin.hooks, *stores, *(f"ic-secrets {name}" for name in plugin.commands)])


def _source(origin: Origin) -> str:
    return origin.file or f"{origin.distribution} {origin.version}"


def _describe(origin: Origin, plugin: Plugin | None) -> dict[str, Any]:
    return {
        "name": origin.name,
        "active": plugin is not None,
        "distribution": origin.distribution,
        "version": origin.version,
        "file": origin.file,
        "hooks": plugin and list(plugin.hooks),
        "stores": plugin and list(plugin.schemes),
        "commands": plugin and list(plugin.commands),
    }
