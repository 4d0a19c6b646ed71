"""A build's environment as code for the shell that goes on with it, and the code that restores the shell's own. Pure.

No value is ever evaluated: each is in single quotes, and assigned to a variable that was unset before, so that it has
no attribute left (bash evaluates what is assigned to an integer). All is one compound command, so a text that was cut
off is a syntax error rather than half an environment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ..core.records import NamedTuple
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
# They belong to the shell in any case, and some shells let nobody unset them.
_LEFT_ALONE = frozenset("_ SHLVL PWD OLDPWD SHELLOPTS BASHOPTS UID EUID PPID".split())


class Change(NamedTuple):
    """What turns one environment into another: the variables to set, and the names of those to unset, in order."""

    to_set: Mapping[str, str]
    to_unset: tuple[str, ...]

    @classmethod
    def find(cls, before: Mapping[str, str], after: Mapping[str, str]) -> Change:
        """Compare the environments; variables that no shell can name stay as they are."""
        mutable = [name for name in {**before, **after} if re.fullmatch(_VARIABLE, name) and name not in _LEFT_ALONE]
        return cls(
            {name: after[name] for name in sorted(mutable) if name in after and before.get(name) != after[name]},
            tuple(name for name in sorted(mutable) if name not in after),
        )

    @classmethod
    def to(cls, variables: Mapping[str, str | None]) -> Change:
        """Return the change after which each variable has that value, None where it is not set."""
        return cls(
            {name: value for name, value in sorted(variables.items()) if value is not None},
            tuple(name for name, value in sorted(variables.items()) if value is None),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """All variables that it changes."""
        return (*self.to_set, *self.to_unset)

    def __repr__(self) -> str:
        return f"Change({sorted(self.to_set)}, {self.to_unset})"


def check_names(names: Iterable[str]) -> None:
    """Raise ReservedNameError for a secret that a shell would take for something of its own."""
    for name in names:
        if name in _SPECIAL or name.startswith(_SPECIAL_PREFIXES):
            raise ReservedNameError(
                f"{name} is a variable of shells: it cannot be handed to one",
                hint="`ic-secrets run` gives it to the build alone; or leave it out with --except",
            )


def render_sh(change: Change) -> str:
    """Render it for sh, bash, dash, ksh and zsh."""
    # PATH is not an integer, and special to zsh: unset, it would lose its array.
    unset = [name for name in change.names if name != "PATH"]
    steps = [f"unset -v {' '.join(unset)}"] if unset else []
    steps += [f"export {name}={_quote_sh(value)}" for name, value in change.to_set.items()]
    return "{ " + " &&\n".join([*steps, ":"]) + "; } || (exit 125)\n"


def render_sh_end(change: Change, status: int) -> str:
    """Render the change that restores the shell's own environment; its status is `status`."""
    return f"{{ {render_sh(change).rstrip()}; (exit {status}); }}\n"


def render_fish(change: Change) -> str:
    """Render it for fish."""
    lines = ["begin", "true"]
    for name in change.to_unset:
        # A universal variable that is exported is seen through one that is not: an empty one hides it.
        lines.append(f"and begin; set -eg {name}; set -qUx {name}; and set -gx {name} ''; true; end")
    lines += [f"and set -gx {name} {_quote_fish(value)}" for name, value in change.to_set.items()]
    return "\n".join([*lines, "or sh -c 'exit 125'", "end", ""])


def render_fish_end(change: Change, status: int) -> str:
    """Do as `render_sh_end`."""
    return f"begin\n{render_fish(change)}sh -c 'exit {status}'\nend\n"


def _quote_sh(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _quote_fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
