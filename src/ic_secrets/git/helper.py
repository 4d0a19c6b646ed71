"""How git gets a login without Composer's help: a credential helper, and a shim that keeps URLs bare. Pure.

Composer tries the bare URL first. With a helper that succeeds, and no password gets into arguments or into the
configuration of a clone. If the server refuses the helper's login, Composer tries again with the password in the URL;
the shim, first in PATH, takes it out before the real git starts, and notes the host.
"""

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..composer.credential import Credential
from ..composer.methods import METHODS
from ..composer.precedence import sort_by_strength

CONFIG_FILE = "config"
SEEN_FILE = "seen"
SHIM_FILE = "git"


class Login(NamedTuple):
    """A user name and password for git at one host, and the name of the secret that they come from."""

    name: str
    host: str
    username: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.name})"


def find_logins(credentials: Iterable[Credential]) -> tuple[Login, ...]:
    """Return the login of each host that has one; of several methods, that of the one which Composer prefers."""
    logins: dict[str, Login] = {}
    for credential in sort_by_strength(credentials):
        if credential.login:
            logins[credential.host] = Login(credential.name, credential.host, *credential.login)
    return tuple(logins.values())


def find_minting_hosts(credentials: Iterable[Credential]) -> tuple[str, ...]:
    """Return the hosts for which Composer mints a token for git; only the URL that it uses then holds the token."""
    return tuple(credential.host for credential in credentials if METHODS[credential.method].mints)


def render_files(
    logins: Sequence[Login], minting_hosts: Sequence[str], directory: str, real_git: str
) -> dict[str, bytes]:
    """Return the files of the private directory `directory` by name: the logins, the configuration, the shim.

    The login of a minting host is still missing: the shim writes it when it takes it out of a URL.
    """
    files: dict[str, bytes] = {}
    places: dict[str, str] = {}
    for number, login in enumerate(logins):
        places[login.host] = f"login-{number}"
        files[places[login.host]] = f"username={login.username}\npassword={login.password}\n".encode()
    minted = {host: f"minted-{number}" for number, host in enumerate(minting_hosts)}
    files |= dict.fromkeys([SEEN_FILE, *minted.values()], b"")  # the shim writes to them
    lines = []
    for host, name in (places | minted).items():
        path = shlex.quote(f"{directory}/{name}")
        command = f'!f() {{ test "$1" = get && test -s {path} && cat {path}; }}; f'
        for scheme in ("https", "http"):
            # The empty helper resets the list for this host alone: the user's own would save the password.
            lines += [f"[credential {_quote(f'{scheme}://{host}')}]", "\thelper =", f"\thelper = {_quote(command)}"]
    files[CONFIG_FILE] = os.fsencode("\n".join([*lines, ""]))
    keep = {host: f"{directory}/{name}" for host, name in minted.items()}
    files[SHIM_FILE] = _render_shim([*places, *minted], keep, f"{directory}/{SEEN_FILE}", real_git)
    return files


def add_configuration(environment: Mapping[str, str], path: str) -> dict[str, str]:
    """Return the variables that make every git read the configuration file too, after all others."""
    count = environment.get("GIT_CONFIG_COUNT", "")
    number = int(count) if count.isdecimal() else 0
    return {
        "GIT_CONFIG_COUNT": str(number + 1),
        f"GIT_CONFIG_KEY_{number}": "include.path",
        f"GIT_CONFIG_VALUE_{number}": path,
    }


def _render_shim(hosts: Iterable[str], keep: Mapping[str, str], seen: str, real_git: str) -> bytes:
    """Return a POSIX shell script of builtins alone, so that its own arguments are seen as briefly as possible.

    The login of a host in `keep` is written to the file there, in the format of git's credential protocol.
    """
    pattern = "|".join(shlex.quote(host) for host in dict.fromkeys(hosts))
    kept = "".join(
        f"""
            {shlex.quote(host)}) printf 'url=%s://%s\\n' "$scheme" "$authority" >{shlex.quote(path)} ;;"""
        for host, path in keep.items()
    )
    script = f"""#!/bin/sh
for word do
  shift
  case $word in
    http://*:*@*|https://*:*@*)
      scheme=${{word%%://*}}
      rest=${{word#*://}}
      authority=${{rest%%/*}}
      host=${{authority##*@}}
      case $host in
        {pattern})
          printf '%s\\n' "$host" >>{shlex.quote(seen)}
          case $host in{kept}
            *) ;;
          esac
          word=$scheme://$host${{rest#"$authority"}} ;;
      esac ;;
  esac
  set -- "$@" "$word"
done
exec {shlex.quote(real_git)} "$@"
"""
    return os.fsencode(script)


def _quote(text: str) -> str:
    """Return a value or subsection as git's configuration file holds it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
