"""A small build pipeline with a pluggy manager of its own, which gets its secrets from ic-secrets.

python pipeline.py hooks my-site.dev CHECKOUT -- composer install     # a hook before the build, and one after it
python pipeline.py wrap my-site.dev CHECKOUT -- composer install      # one wrapper around the build
"""

import os
import subprocess
import sys
from collections.abc import Sequence

import pluggy

from ic_secrets import plugin
from ic_secrets.errors import IcSecretsError

PROJECT = "example_pipeline"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Specs:
    @hookspec(firstresult=True)
    def build_site(self, site: str, checkout: str, command: Sequence[str], variables: dict[str, str]) -> int:
        """Build the checkout with these environment variables; the exit status."""
        raise NotImplementedError  # pluggy calls the implementations alone


class Builder:
    @hookimpl
    def build_site(self, site: str, checkout: str, command: Sequence[str], variables: dict[str, str]) -> int:
        # `start_new_session` is for a pipeline that has to end the whole build; nothing here depends on it.
        return subprocess.run(command, cwd=checkout, env=variables).returncode


def main(way: str, site: str, checkout: str, *command: str) -> int:
    command = command[1:] if command[:1] == ("--",) else command
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Specs)
    manager.register(Builder())
    build = {"site": site, "checkout": checkout, "command": command}
    if way == "wrap":
        plugin.wrap(manager, "build_site", target="site", project="checkout", environment="variables")
        return int(manager.hook.build_site(**build, variables=dict(os.environ)))

    plugin.register(manager)
    variables = manager.hook.ic_secrets_before_build(target=site, project=checkout)
    status = 1  # for an error on the way, too, the build is ended: nothing of it is left
    try:
        status = int(manager.hook.build_site(**build, variables=variables))
    finally:
        receipt = manager.hook.ic_secrets_after_build(status=status)
    print(f"built with {len(receipt['secrets'])} secrets, {len(receipt['leaks']['findings'])} left behind")
    return status


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except IcSecretsError as error:
        sys.exit(f"error: {error}")
