"""A build's environment as code for the shell that goes on with it, and the code that puts the shell's own back. Pure.

No value is ever evaluated: each stands in single quotes, and is assigned to a variable that was unset before, so that
no attribute of it (bash's integers are evaluated) is left. All is one compound command, so a text that was cut off is
an error in syntax rather than half an environment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..errors import ReservedNameError

_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
# What shells keep themselves, or evaluate: a prompt runs the commands in it, an integer of bash, ksh or zsh does too.
# zsh's are what `zsh -c 'typeset'` lists with all its modules, bash's those of `compgen -v`, and what manuals add.
_SPECIAL = frozenset(
    """
    _ ARGC CDPATH COLUMNS CPUTYPE DIRSTACK EGID EPOCHREALTIME EPOCHSECONDS ERRNO EUID EXECIGNORE EXECSHELL
    FCEDIT FIGNORE FPATH FUNCNEST GID GROUPS HOST HOSTNAME HOSTTYPE IFS IGNOREEOF INPUTRC JOBMAX KEYBOARD_HACK
    KEYTIMEOUT LANG LANGUAGE LINENO LINES LISTMAX LOGCHECK MACHTYPE MAIL MAILCHECK MAILPATH MANPATH MODULE_PATH
    NULLCMD OPTARG OPTERR OPTIND OSTYPE PATHSEP PGRP PIPESTATUS POSIXLY_CORRECT PPID PROMPT PROMPT2 PROMPT3
    PROMPT4 PS0 PS1 PS2 PS3 PS4 PSVAR RANDOM READNULLCMD REPLY RPROMPT RPROMPT2 RPS1 RPS2 SAVEHIST SECONDS SHLVL
    SIGTIME SPROMPT SRANDOM TIMEFMT TIMEFORMAT TMOUT TMPPREFIX TMPSUFFIX TRY_BLOCK_ERROR TRY_BLOCK_INTERRUPT TTY
    TTYIDLE UID USERNAME USER_ID VENDOR WATCH WATCHFMT WORDCHARS ZDOTDIR aliases argv auto_resume builtins cdpath
    commands dirstack epochtime errnos fignore fpath funcfiletrace funcsourcetrace funcstack functions
    functions_source functrace galiases histchars history historywords hostname jobdirs jobstates jobtexts keymaps
    langinfo mailpath manpath mapfile match mbegin mend module_path modules nameddirs options parameters patchars
    path pipestatus prompt psvar reply reswords saliases signals status sysparams termcap terminfo umask userdirs
    usergroups version watch widgets zgdbm_tied zle_bracketed_paste zle_highlight zsh_eval_context
    zsh_scheduled_events
    """.split()
)
_SPECIAL_PREFIXES = (
    *("BASH", "FUNCNAME", "HIST", "COMP_", "COMPREPLY", "READLINE_", "LC_", "KSH", "ZSH_", "ZLE_", "ZFTP_"),
    *("ZCURSES_", "zcurses_", "dis_", "fish_", "FISH_"),
)
_OURS = "_ic_secrets_"
_TAKEN = "error: this shell is in a build already"
# To be told of a variable, once it is known what the shell makes of it.
_UNFIT = "cannot take the value: this shell keeps it, or has an array of that name"
# bash and zsh say what a variable is; what they would evaluate, and what could not be put back, is refused. An integer
# of the person's own is unset before it is set. The older syntax of other shells knows nothing of `${(t)…}`.
_LOOK = f"""\
for {_OURS}name in %s; do
{_OURS}kind=
case ${{ZSH_VERSION+z}}${{BASH_VERSION+b}} in
z*) eval "{_OURS}kind=\\${{(t)${_OURS}name-}}" ;;
b) {_OURS}kind=$(declare -p "${_OURS}name" 2>/dev/null); {_OURS}kind=${{{_OURS}kind#declare -}}
case ${{{_OURS}kind%%%% *}} in *[aAn]*) {_OURS}kind=array ;; *) {_OURS}kind= ;; esac ;;
esac
case ${_OURS}kind in *special* | *tied* | array* | association*) echo "error: ${_OURS}name {_UNFIT}" >&2
echo "hint: leave it out with --except, or unset it first; \\`ic-secrets post-build\\` ends the build" >&2
{_OURS}unfit=1 ;; esac
done
"""
# They belong to the shell in any case, and some shells let nobody unset them.
_LEFT_ALONE = frozenset("_ SHLVL PWD OLDPWD SHELLOPTS BASHOPTS UID EUID PPID".split())


class Change(NamedTuple):
    """What makes one environment of another: the variables to set, and the names of those to unset, in order."""

    to_set: Mapping[str, str]
    to_unset: tuple[str, ...]

    @classmethod
    def find(cls, before: Mapping[str, str], after: Mapping[str, str]) -> Change:
        """From `before` to `after`; variables that no shell can name stay as they are."""
        mutable = [name for name in {**before, **after} if re.fullmatch(_VARIABLE, name) and name not in _LEFT_ALONE]
        return cls(
            {name: after[name] for name in sorted(mutable) if name in after and before.get(name) != after[name]},
            tuple(name for name in sorted(mutable) if name not in after),
        )

    def __repr__(self) -> str:
        return f"Change({sorted(self.to_set)}, {self.to_unset})"


def check_names(names: Iterable[str]) -> None:
    """ReservedNameError for a secret that a shell would take for something of its own."""
    for name in names:
        if name in _SPECIAL or name.startswith((*_SPECIAL_PREFIXES, _OURS)):
            raise ReservedNameError(
                f"{name} is a variable of shells: it cannot be handed to one",
                hint="`ic-secrets run` gives it to the build alone; or leave it out with --except",
            )


def render_sh(change: Change, exported: Iterable[str]) -> str:
    """For sh, bash, dash, ksh and zsh; `exported` are the variables that the shell exports at present."""
    names = [*change.to_set, *change.to_unset]
    known = frozenset(exported)
    restore = "\n".join(_restore_sh(name, name in known) for name in names)
    lines = [
        "{",
        # With allexport the keys that are put by would reach the build all the same.
        f'case $- in *a*) set +a; {_OURS}all="set -a" ;; *) {_OURS}all= ;; esac',
        f"{_OURS}unfit=",
        # A value is of our own in PATH alone, which is special to zsh, and no integer.
        *([_LOOK % " ".join(sorted(set(change.to_set) - {"PATH"}))] if set(change.to_set) - {"PATH"} else []),
        f'if [ -n "${{{_OURS}restore-}}" ]; then echo "{_TAKEN}" >&2; false; else [ -z "${_OURS}unfit" ]; fi &&',
    ]
    lines += [f"{_OURS}was_{name}=${{{name}+x}} {_OURS}old_{name}=${{{name}-}} &&" for name in names]
    lines.append(f"{_OURS}restore={_quote_sh(restore)} &&")
    lines += [f"unset -v {name} &&" for name in change.to_unset]
    lines += [f"unset -v {name} && export {name}={_quote_sh(value)} &&" for name, value in change.to_set.items()]
    lines += [f'eval "${_OURS}all"', f'}} || {{ eval "${_OURS}all"; (exit 125); }}', ""]
    return "\n".join(lines)


def render_sh_end(status: int) -> str:
    """Puts back what `render_sh` changed, if anything is changed; its status is `status`."""
    ours = " ".join(f"{_OURS}{name}" for name in ("restore", "all", "unfit", "name", "kind"))
    return f'{{ eval "${{{_OURS}restore-}}"; unset -v {ours}; (exit {status}); }}\n'


def render_fish(change: Change, exported: Iterable[str]) -> str:
    """For fish."""
    names = [*change.to_set, *change.to_unset]
    known = frozenset(exported)
    restore = "\n".join(_restore_fish(name, name in known) for name in names)
    lines = [
        "begin",
        f"if set -q {_OURS}restore; echo '{_TAKEN}' >&2; false; else; true; end",
    ]
    lines += [
        f"and begin; set -e {_OURS}old_{name}; set -qg {name}; and set -gu {_OURS}old_{name} ${name}; true; end"
        for name in names
    ]
    lines.append(f"and set -gu {_OURS}restore {_quote_fish(restore)}")
    # A universal variable that is exported is seen through one that is not: an empty one hides it.
    lines += [
        f"and begin; set -eg {name}; set -qUx {name}; and set -gx {name} ''; true; end" for name in change.to_unset
    ]
    lines += [f"and set -gx {name} {_quote_fish(value)}" for name, value in change.to_set.items()]
    lines += ["or sh -c 'exit 125'", "end", ""]
    return "\n".join(lines)


def render_fish_end(status: int) -> str:
    """As `render_sh_end`."""
    return (
        f"begin; set -q {_OURS}restore; and eval (string join \\n -- ${_OURS}restore | string collect); "
        f"set -e {_OURS}restore; sh -c 'exit {status}'; end\n"
    )


def _restore_sh(name: str, is_exported: bool) -> str:
    was, old = f"{_OURS}was_{name}", f"{_OURS}old_{name}"
    back = f'export {name}="${old}"' if is_exported else f'{name}="${old}"'
    return f'unset -v {name}; if [ -n "${was}" ]; then {back}; fi; unset -v {was} {old}'


def _restore_fish(name: str, is_exported: bool) -> str:
    old = f"{_OURS}old_{name}"
    option = "-gx" if is_exported else "-gu"
    return f"set -eg {name}; set -q {old}; and set {option} {name} ${old}; set -e {old}"


def _quote_sh(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _quote_fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
