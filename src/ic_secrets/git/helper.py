"""How git gets a credential without Composer's help: a helper, and a `git` that keeps URLs bare. Pure.

Composer tries the bare URL first. With a helper that succeeds, and no password is ever put into
arguments or into the configuration of a clone. Where the server refuses the helper's credential,
Composer tries once more with the password in the URL; the `git` of ours, first in PATH, takes it out
again before the real one starts, and notes the host.
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
    """A user name and password for git at one host, as Composer would put them into a URL."""

    name: str
    host: str
    username: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.name})"


def find_logins(credentials: Iterable[Credential]) -> tuple[Login, ...]:
    """The login of each host that git can use one for; of several methods, that which Composer prefers.

    bitbucket-oauth has none before Composer has exchanged it for a token (`find_minting_hosts`); headers
    and client certificates are nothing that git takes from Composer.
    """
    logins: dict[str, Login] = {}
    for credential in sort_by_strength(credentials):
        if credential.login:
            logins[credential.host] = Login(credential.name, credential.host, *credential.login)
    return tuple(logins.values())


def find_minting_hosts(credentials: Iterable[Credential]) -> tuple[str, ...]:
    """The hosts for which Composer mints a token that git needs; only the URL that it then uses has it."""
    return tuple(credential.host for credential in credentials if METHODS[credential.method].mints)


def render_files(
    logins: Sequence[Login], minting_hosts: Sequence[str], directory: str, real_git: str
) -> dict[str, bytes]:
    """The files of the private directory `directory` by name: one login each, the configuration, the shim.

    The login of a minting host is not there yet: the shim writes it when it takes it out of a URL.
    """
    files: dict[str, bytes] = {}
    places: dict[str, str] = {}
    for number, login in enumerate(logins):
        places[login.host] = f"login-{number}"
        files[places[login.host]] = f"username={login.username}\npassword={login.password}\n".encode()
    minted = {host: f"minted-{number}" for number, host in enumerate(minting_hosts)}
    files |= dict.fromkeys([SEEN_FILE, *minted.values()], b"")  # which the shim writes to
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
    """The variables that make every git read the configuration file too, after what is there already."""
    count = environment.get("GIT_CONFIG_COUNT", "")
    number = int(count) if count.isdecimal() else 0
    return {
        "GIT_CONFIG_COUNT": str(number + 1),
        f"GIT_CONFIG_KEY_{number}": "include.path",
        f"GIT_CONFIG_VALUE_{number}": path,
    }


def _render_shim(hosts: Iterable[str], keep: Mapping[str, str], seen: str, real_git: str) -> bytes:
    """A POSIX shell script: only builtins before the exec, since each more moment shows its own arguments.

    The login of a host in `keep` is written to the file there, as git's credential protocol takes it.
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
    """A value or subsection as git's configuration file holds it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
