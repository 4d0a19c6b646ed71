"""`ic-secrets completion SHELL`: the script that makes a shell complete; and what that script asks (`complete`)."""

from __future__ import annotations

import contextlib

from . import Call
from .parsing import Parser

# What the shell is to complete by itself: files, or the names of programs.
_FILES = 3
_PROGRAMS = 4

# A word that bash has cut at = or : is completed from there on.
_BASH = r"""_ic_secrets() {
    local line=${COMP_LINE:0:COMP_POINT} word reply
    local -a words
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    word=${words[${#words[@]}-1]}
    COMPREPLY=()
    reply=$(command ic-secrets complete -- "${words[@]:1}" 2>/dev/null)
    case $? in
        3) compopt -o default 2>/dev/null; return ;;
        4) while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -c -- "$word"); return ;;
    esac
    local cut=${word%"${word##*[=:]}"}
    while IFS=$'\t' read -r word line; do
        [[ -n $word ]] && COMPREPLY+=("${word#"$cut"}")
    done <<<"$reply"
}
complete -F _ic_secrets ic-secrets
"""

_ZSH = r"""#compdef ic-secrets
_ic_secrets() {
    local reply line
    local -a found shown
    reply=$(command ic-secrets complete -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)
    case $? in
        3) [[ $PREFIX == --*=* ]] && compset -P '*='; _files; return ;;
        4) _command_names -e; return ;;
    esac
    for line in "${(@f)reply}"; do
        [[ -n $line ]] || continue
        found+=("${line%%$'\t'*}")
        shown+=("${line/$'\t'/  -- }")
    done
    compadd -l -d shown -a found
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _ic_secrets "$@"
else
    compdef _ic_secrets ic-secrets
fi
"""

_FISH = r"""function __ic_secrets_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l reply (command ic-secrets complete -- $words[2..-1] 2>/dev/null)
    switch $status
        case 3
            __fish_complete_path (string replace -r '^--[a-z-]+=' '' -- $words[-1])
        case 4
            complete -C "$words[-1]"
        case '*'
            printf '%s\n' $reply
    end
end
complete -c ic-secrets -f -a '(__ic_secrets_complete)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def run_completion(call: Call) -> int:
    """Print the script."""
    arguments = make_parser().read(call.words)
    print(_SCRIPTS[arguments.shell], end="")
    return 0


def make_parser() -> Parser:
    """Its arguments."""
    parser = Parser(
        "completion",
        "Print the script that makes the shell complete commands, options, sites, environments and names. Those come\n"
        "from what the store shows without its key; no value is opened.\n\n"
        "fish: ic-secrets completion fish > ~/.config/fish/completions/ic-secrets.fish\n\n"
        "zsh: as a file _ic-secrets in a directory of $fpath, or in .zshrc after compinit, as in bash",
        'eval "$(ic-secrets completion bash)"    # in ~/.bashrc',
    )
    parser.add_argument("shell", metavar="SHELL", choices=list(_SCRIPTS), help="bash, zsh or fish")
    return parser


def run_complete(call: Call) -> int:
    """Print what could be the last of the words behind `--`, each with its meaning behind a tab.

    A status of 3 or 4 leaves it to the shell. Whatever goes wrong is nothing to tell somebody who is typing.
    """
    with contextlib.suppress(Exception):
        from .candidates import find_candidates

        words = call.words
        answer = find_candidates(words[1:] if words[:1] == ["--"] else words)
        for word, meaning in answer.words:
            print(f"{word}\t{meaning}" if meaning else word)
        return _FILES if answer.files else _PROGRAMS if answer.programs else 0
    return 0
