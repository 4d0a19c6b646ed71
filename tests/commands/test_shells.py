"""A build's environment in a shell: exactly the values, nothing evaluated, and everything back afterwards."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ic_secrets.errors import ReservedNameError
from ic_secrets.model.variables import check_variable
from ic_secrets.two_steps.shells import Change, check_names, render_fish, render_fish_end, render_sh, render_sh_end

SHELLS = ["bash", "dash", "zsh", "fish"]
HOSTILE = {
    "A_COMMAND": "$(touch evaluated) `touch evaluated` ${HOME} $HOME ~",
    "B_QUOTES": "'\"'\\''\"'; touch evaluated; '",
    "C_LINES": "first\nsecond\r\n\n",
    "D_BACKSLASHES": "\\ \\\\ \\n \\",
    "E_CONTROL": "".join(map(chr, range(1, 32))) + "\x7f\x81\x82\x88",
    "F_GLOB": "* ? [a-z] {a,b} !! # & | ; < > ( )",
    "G_INTEGER": "a[$(touch evaluated)]",
    "H_EMPTY": "",
    "I_UNICODE": "påsswörd 🔑",
}
DUMP = f"'{sys.executable}' -c 'import json, os; print(json.dumps(dict(os.environ)))'"


def run(shell: str, script: str, environment: dict[str, str], work: Path) -> subprocess.CompletedProcess[bytes]:
    """Only the exported variables reach the shell; what it prints are the environments of `DUMP`, a line each."""
    return subprocess.run([shell, "-c", script], env=environment, cwd=work, capture_output=True, timeout=60)


def render(shell: str, before: dict[str, str], after: dict[str, str]) -> tuple[str, str]:
    change = Change.find(before, after)
    back = Change.to({name: before.get(name) for name in change.names})
    if shell == "fish":
        return render_fish(change), render_fish_end(back, 7)
    return render_sh(change), render_sh_end(back, 7)


def environments(done: subprocess.CompletedProcess[bytes]) -> list[dict[str, str]]:
    assert done.stderr == b""
    noise = {"_", "SHLVL", "PWD", "OLDPWD", "LC_CTYPE"}
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [{name: value for name, value in each.items() if name not in noise} for each in found]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_build_gets_exactly_the_values_and_the_shell_is_as_it_was_afterwards(
    shell: str, home: dict[str, str], work: Path
) -> None:
    before = home | {"B_QUOTES": "was 'exported' $(touch evaluated)", "IC_SECRETS_KEY": "the key", "KEPT": "kept"}
    after = {name: value for name, value in before.items() if name != "IC_SECRETS_KEY"} | HOSTILE
    (work / "begin").write_text(render(shell, before, after)[0])
    (work / "end").write_text(render(shell, before, after)[1])
    load = "source begin" if shell == "fish" else ". ./begin"
    done = run(shell, f"{DUMP}; {load}; {DUMP}; {load.replace('begin', 'end')}; {DUMP}", before, work)
    first, during, last = environments(done)
    assert {name: during.get(name) for name in HOSTILE} == HOSTILE
    assert "IC_SECRETS_KEY" not in during
    assert during.keys() - first.keys() <= HOSTILE.keys(), "nothing else is put into the shell"
    assert last == first
    assert not (work / "evaluated").exists()


@pytest.mark.parametrize("shell", ["bash", "dash", "zsh"])
def test_a_key_is_hidden_even_from_the_children_of_a_shell_that_exports_all(
    shell: str, home: dict[str, str], work: Path
) -> None:
    before = home | {"IC_SECRETS_KEY": "the key"}
    begin, end = render(shell, before, home | {"TOKEN": "x"})
    during, last = environments(run(shell, f"set -a -u\n{begin}\n{DUMP}\n{end}\nNEW=1\n{DUMP}", before, work))
    assert "the key" not in during.values()
    assert last["IC_SECRETS_KEY"] == "the key"
    assert last["NEW"] == "1"


def test_an_integer_of_bash_does_not_evaluate_the_value(home: dict[str, str], work: Path) -> None:
    begin, _ = render("bash", home, home | {"G_INTEGER": HOSTILE["G_INTEGER"]})
    (during,) = environments(run("bash", f"declare -i G_INTEGER=1\n{begin}\n{DUMP}", home, work))
    assert during["G_INTEGER"] == HOSTILE["G_INTEGER"]
    assert not (work / "evaluated").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_text_that_was_cut_off_anywhere_sets_nothing(shell: str, home: dict[str, str], work: Path) -> None:
    begin, _ = render(shell, home, home | {"TOKEN": "value'with\nlines", "OTHER": "value"})
    whole = len(begin.rstrip())
    for cut in range(1, whole, whole // 12):
        (work / "begin").write_text(begin[:cut])
        load = "source begin" if shell == "fish" else 'eval "$(cat begin)"'
        done = run(shell, f"{load}; {DUMP}", home, work)
        assert b"value" not in done.stdout, cut


@pytest.mark.parametrize("shell", SHELLS)
def test_the_status_is_what_the_shell_sees_at_the_end(shell: str, home: dict[str, str], work: Path) -> None:
    (work / "end").write_text(render(shell, home, home)[1])
    load = "source end" if shell == "fish" else 'eval "$(cat end)"'
    assert run(shell, load, home, work).returncode == 7


@pytest.mark.parametrize(
    "name", ["PS1", "RANDOM", "BASH_ENV", "path", "fish_pid", "OPTIND", "COLUMNS", "LINES", "galiases", "MANPATH"]
)
def test_a_name_that_shells_keep_to_themselves_is_refused(name: str) -> None:
    with pytest.raises(ReservedNameError, match=name):
        check_names(["TOKEN", name])


LISTED = {
    "zsh": "for module in parameter datetime zle zleparameter mapfile langinfo system terminfo termcap sched; do "
    "zmodload zsh/$module; done; print -rl -- ${(k)parameters[(R)*(special|integer|array|association)*]}",
    "bash": "compgen -v",
}


@pytest.mark.parametrize("shell", LISTED)
def test_every_variable_that_a_shell_keeps_is_refused(shell: str, work: Path) -> None:
    """Whatever the installed shell lists when it starts with nothing; HOME and its like can be no secret at all."""
    option = "-f" if shell == "zsh" else "--norc"
    done = subprocess.run([shell, option, "-c", LISTED[shell]], env={}, cwd=work, capture_output=True, timeout=60)
    names = [name for name in done.stdout.decode().split() if name.isidentifier()]
    assert len(names) > 20
    accepted = []
    for name in names:
        with contextlib.suppress(ReservedNameError):
            check_variable(name, "x")
            check_names([name])
            accepted.append(name)
    assert not accepted


def test_a_universal_key_of_fish_is_hidden_and_comes_back(home: dict[str, str], work: Path) -> None:
    """It cannot be unset for one shell alone, so the build sees an empty one."""
    before = home | {"IC_SECRETS_KEY": "the key"}
    begin, end = render("fish", before, home | {"TOKEN": "x"})
    script = f"set -Ux IC_SECRETS_KEY 'the key'\n{DUMP}\n{begin}\n{DUMP}\n{end}\n{DUMP}\nset -Uq IC_SECRETS_KEY"
    done = run("fish", script, home, work)
    first, during, last = environments(done)
    assert (first["IC_SECRETS_KEY"], during["IC_SECRETS_KEY"], during["TOKEN"]) == ("the key", "", "x")
    assert last == first
    assert done.returncode == 0, "it is still universal"


def test_a_variable_that_no_shell_can_name_stays_as_it_is() -> None:
    assert Change.find({"a.b": "1", "PWD": "/"}, {"TOKEN": "x"}) == Change({"TOKEN": "x"}, ())
