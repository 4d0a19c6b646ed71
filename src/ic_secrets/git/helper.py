"""How git gets a login without Composer's help: a credential helper, and a shim that keeps URLs bare. Pure.

Composer tries the bare URL first. With a helper that succeeds, and no password gets into arguments or into the
configuration of a clone. If the server refuses the helper's login, Composer tries again with the password in the URL;
the shim, first in PATH, takes it out before the real git starts, and notes the host. Whoever put a login into a URL
means it for that URL: so the shim leaves it where git finds it for that URL, before the host's.
"""

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

from ..composer.credential import Credential
from ..composer.methods import METHODS
from ..composer.precedence import sort_by_strength
from ..core.records import NamedTuple

CONFIG_FILE = "config"
# The configuration to which the shim adds the logins of URLs, and what it has added.
_OWN_CONFIG = "own"
_OWN_URLS = "urls"
SEEN_FILE = "seen"
SHIM_FILE = "git"
# A user name of so many characters, with a digit, is taken for a token.
_SHORTEST_TOKEN = 20
_SHIM_FILES = {"seen": SEEN_FILE, "own": _OWN_CONFIG, "urls": _OWN_URLS}
# POSIX shell, of builtins alone, so that its own arguments are seen as briefly as possible; @words@ are filled in.
_SHIM = r"""#!/bin/sh
newline='
'
keep() {
  last=
  while IFS= read -r known; do
    case $known in "$scheme://"*"@$host$path") last=$known ;; esac
  done <@urls@
  test "$last" = "$scheme://$login@$host$path" && return
  number=0
  while test -e @start@$$-$number; do number=$((number + 1)); done
  name=@name@-$$-$number
  printf 'url=%s://%s@%s\n' "$scheme" "$login" "$host" >@start@$$-$number
  printf '[credential "%s"]\n\thelper =\n\thelper = %s\n' "$scheme://$host$path" @helper@ >>@own@
  printf '%s\n' "$scheme://$login@$host$path" >>@urls@
}
for word do
  shift
  case $word in
    http://*@*|https://*@*)
      scheme=${word%%://*}
      rest=${word#*://}
      authority=${rest%%/*}
      path=${rest#"$authority"}
      host=${authority##*@}
      login=${authority%@*}
      case $authority in
        *:*@*) ;;
        @long@*@*) case $login in *[0-9]*) login=$login: ;; *) host= ;; esac ;;
        *) host= ;;
      esac
      case $path in *[\"\\]* | *"$newline"*) host= ;; esac
      case $host in
        @hosts@)
          printf '%s\n' "$host" >>@seen@
          case $login in
            x-token-auth:*) case $host in@kept@
              *) keep ;;
            esac ;;
            *) keep ;;
          esac
          word=$scheme://$host$path ;;
      esac ;;
  esac
  set -- "$@" "$word"
done
exec @git@ "$@"
"""
# What git's credential protocol cannot carry.
_UNSPEAKABLE = r"[\n\r\0]"


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
        if credential.login and not re.search(_UNSPEAKABLE, "".join(credential.login)):
            logins[credential.host] = Login(credential.name, credential.host, *credential.login)
    return tuple(logins.values())


def find_minting_hosts(credentials: Iterable[Credential]) -> tuple[str, ...]:
    """Return the hosts for which Composer mints a token for git; only the URL that it uses then holds the token."""
    return tuple(credential.host for credential in credentials if METHODS[credential.method].mints)


class Logins(NamedTuple):
    """Who git is, and where. A host has one login, or is one for which Composer mints a token (`minting`).

    For the hosts in `ours`, the user's own helpers are not asked: they would save our password. In a URL of the further
    `hosts` there may be a login too.
    """

    logins: tuple[Login, ...] = ()
    minting: tuple[str, ...] = ()
    ours: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()

    @property
    def all_hosts(self) -> tuple[str, ...]:
        """Every host whose logins are kept out of arguments."""
        return tuple(dict.fromkeys((*(login.host for login in self.logins), *self.minting, *sorted(self.hosts))))


def render_files(known: Logins, directory: str, real_git: str) -> dict[str, bytes]:
    """Return the files of the private directory `directory` by name: the logins, the configuration, the shim.

    The login of a minting host is still missing: the shim writes it when it takes it out of a URL.
    """
    files: dict[str, bytes] = {}
    places: dict[str, str] = {}
    for number, login in enumerate(known.logins):
        places[login.host] = f"login-{number}"
        files[places[login.host]] = f"username={login.username}\npassword={login.password}\n".encode()
    minted = {host: f"minted-{number}" for number, host in enumerate(known.minting)}
    files |= dict.fromkeys([SEEN_FILE, _OWN_CONFIG, _OWN_URLS, *minted.values()], b"")  # the shim writes to them
    lines = []
    for host, name in (places | minted).items():
        helper = quote(_make_helper(f"{directory}/{name}"))
        for scheme in ("https", "http"):
            lines.append(f"[credential {quote(f'{scheme}://{host}')}]")
            lines += ["\thelper ="] if host in known.ours else []  # resets the list for this host alone
            lines.append(f"\thelper = {helper}")
    lines += ["[include]", f"\tpath = {_OWN_CONFIG}", ""]  # last, since it resets the list too
    files[CONFIG_FILE] = os.fsencode("\n".join(lines))
    keep = {host: f"{directory}/{name}" for host, name in minted.items()}
    files[SHIM_FILE] = _render_shim(known.all_hosts, keep, directory, real_git)
    return files


def add_configuration(environment: Mapping[str, str], path: str) -> dict[str, str]:
    """Return the variables that make every git read the configuration file too, after all others."""
    return add_settings(environment, [("include.path", path)])


def add_settings(environment: Mapping[str, str], settings: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the variables that give every git these settings too, each a key and its value, after all others."""
    if not settings:
        return {}
    count = environment.get("GIT_CONFIG_COUNT", "")
    start = int(count) if count.isdecimal() else 0
    variables = {"GIT_CONFIG_COUNT": str(start + len(settings))}
    for number, (key, value) in enumerate(settings, start):
        variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return variables


def _make_helper(path: str) -> str:
    """Return the command that answers git with the file, if there is something in it."""
    quoted = shlex.quote(path)
    return f'!f() {{ test "$1" = get && test -s {quoted} && cat {quoted}; }}; f'


def _render_shim(hosts: Iterable[str], keep: Mapping[str, str], directory: str, real_git: str) -> bytes:
    """Return the script that stands before git in PATH; `keep` has the file for the token of each host that mints one.

    A login in a URL is written to a file in the format of git's credential protocol, which the configuration names for
    that URL alone. A user name alone is a login if it is long and has a digit, as tokens have.
    """
    kept = (
        f"""
            {shlex.quote(host)}) printf 'url=%s://%s@%s\\n' "$scheme" "$login" "$host" >{shlex.quote(path)} ;;"""
        for host, path in keep.items()
    )
    values = {
        "hosts": "|".join(map(shlex.quote, hosts)),
        "kept": "".join(kept),
        "name": _OWN_CONFIG,
        "long": "?" * _SHORTEST_TOKEN,
        "start": shlex.quote(f"{directory}/{_OWN_CONFIG}-"),
        "helper": ('"$name"').join(map(shlex.quote, quote(_make_helper(f"{directory}/@@")).split("@@"))),
        "git": shlex.quote(real_git),
        **{word: shlex.quote(f"{directory}/{file}") for word, file in _SHIM_FILES.items()},
    }
    return os.fsencode(re.sub("@([a-z]+)@", lambda found: values[found[1]], _SHIM))


def quote(text: str) -> str:
    """Return a value or subsection as git's configuration file holds it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
