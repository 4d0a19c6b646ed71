"""pre-build and post-build around a real Composer: what the shell gets, who scrubs when, and that nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from searching import Found
from servers import Servers
from watching import ArgumentWatch

Search = Callable[..., list[Found]]
INSTALL = "composer install --no-interaction --no-progress --no-ansi"
PROGRAM = str(Path(sys.executable).parent / "ic-secrets")
CANARY = "a-canary-$(touch evaluated)`touch evaluated`'\"\\ of-a-token"


@pytest.fixture
def site(cli: Any, servers: Servers, private: Path) -> Iterator[Any]:
    """A store whose site has a credential for each private server, and a hostile TOKEN. No guard is left over."""
    cli("init", check=0)
    for server in (servers.basic, servers.git, servers.bearer):
        words = ("set", "my-site", server.secret_name, "--type", "composer", "--scope", "ic")
        cli(*words, stdin=server.secret_value, check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic", stdin=CANARY.encode(), check=0)
    yield cli
    for directory in private.iterdir():
        guard = find_guard(directory)
        if guard:
            os.kill(guard, signal.SIGKILL)
        shutil.rmtree(directory)


def find_guard(directory: Path) -> int | None:
    """The guard of the private directory, where it is alive."""
    state = directory / "build/state.json"
    pid = int(json.loads(state.read_text())["guard_id"][0]) if state.exists() else 0
    return pid if pid and Path(f"/proc/{pid}").exists() else None


def shell(
    program: str, script: str, home: dict[str, str], cwd: Path, *, check: int | None = 0
) -> subprocess.CompletedProcess[str]:
    path = f"{Path(PROGRAM).parent}:{home['PATH']}"
    done = subprocess.run(
        [program, "-c", script], env=home | {"PATH": path}, cwd=cwd, capture_output=True, text=True, timeout=120
    )
    assert check is None or done.returncode == check, done.stdout + done.stderr
    return done


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def is_empty(directory: Path) -> bool:
    return not any(directory.iterdir())


@pytest.mark.parametrize("program", ["bash", "dash", "fish"])
def test_a_build_between_the_two_steps_succeeds_and_leaves_nothing(
    site: Any,
    servers: Servers,
    home: dict[str, str],
    tmp_path: Path,
    private: Path,
    search_tree: Search,
    program: str,
) -> None:
    project = servers.project(tmp_path, "everything")
    form = "fish" if program == "fish" else "sh"
    receipt = tmp_path / "receipt.json"
    begin, end = f"ic-secrets pre-build my-site.dev --format {form}", f"ic-secrets post-build --format {form}"
    step = (lambda command: f"{command} | source") if form == "fish" else (lambda command: f'eval "$({command})"')
    check = f"'{sys.executable}' -c 'import os; print(os.environ[\"TOKEN\"].encode().hex())'"
    script = "; ".join(
        [
            "env | sort > ../before",
            step(begin),
            check,
            INSTALL,
            step(f"{end} --receipt {receipt}"),
            "env | sort > ../after",
        ]
    )
    with ArgumentWatch([*servers.needles, b"a-canary-"]) as watch:
        done = shell(program, script, home, project)
    assert done.stdout.splitlines()[0] == CANARY.encode().hex()
    assert not any(path.name == "evaluated" for path in tmp_path.rglob("*"))
    assert (project / "vendor/acme/checkout").is_dir()
    noise = ("_=", "SHLVL=", "OLDPWD=")
    before, after = (
        [line for line in (tmp_path / name).read_text().splitlines() if not line.startswith(noise)]
        for name in ("before", "after")
    )
    assert after == before
    assert is_empty(private)
    assert search_tree([tmp_path, Path("/dev/shm")], [*servers.needles, b"a-canary-$(touch"]) == []
    assert not watch.seen
    told = json.loads(receipt.read_text())
    assert (told["status"], told["scrub"]["complete"]) == (0, True)
    assert {secret["name"] for secret in told["secrets"]} >= {"TOKEN", servers.basic.secret_name}
    assert not any(path["gone"] is False for path in told["scrub"]["paths"])


def test_it_says_that_nothing_masks_the_output(site: Any, work: Path) -> None:
    done = site("pre-build", "my-site", cwd=work, check=0)
    assert b"warning: nothing masks" in done.stderr
    assert b"ic-secrets run" in done.stderr
    assert CANARY.encode() not in done.stderr


@pytest.mark.parametrize(
    ("words", "before"),
    [
        ("no-such-site", ""),
        ("my-site --bogus", ""),
        ("my-site --ttl 0", ""),
        ("my-site --until-pid 2147483646", ""),
        ("my-site", "export IC_SECRETS_STORE=/nowhere;"),
        ("my-site --format github", "unset GITHUB_ENV; test 1 ="),
    ],
)
def test_an_eval_of_what_failed_fails_and_nothing_is_exposed(
    site: Any, home: dict[str, str], work: Path, private: Path, words: str, before: str
) -> None:
    done = shell("bash", f'{before} eval "$(ic-secrets pre-build {words})"', home, work, check=None)
    assert done.returncode != 0
    if "github" not in words:
        assert done.returncode == 125
    assert "error: " in done.stderr
    assert is_empty(private)


def test_post_build_needs_neither_store_nor_key_and_finds_it_from_below(
    site: Any, home: dict[str, str], work: Path, private: Path
) -> None:
    site("pre-build", "my-site", cwd=work, check=0)
    shutil.rmtree(Path(home["XDG_DATA_HOME"]) / "ic-secrets")
    shutil.rmtree(Path(home["XDG_CONFIG_HOME"]) / "ic-secrets")
    (work / "below/deep").mkdir(parents=True)
    done = site("post-build", cwd=work / "below/deep", check=0)
    assert b"the secrets of my-site.dev are gone" in done.stderr
    assert is_empty(private)


def test_post_build_twice_or_without_a_pre_build_is_no_error(site: Any, work: Path, tmp_path: Path) -> None:
    assert b"nothing to end" in site("post-build", cwd=work, check=0).stderr
    site("pre-build", "my-site", cwd=work, check=0)
    assert b"nothing to end" in site("post-build", cwd=tmp_path, check=0).stderr, "elsewhere"
    site("post-build", cwd=work, check=0)
    assert b"nothing to end" in site("post-build", cwd=work, check=0).stderr


def test_a_value_that_the_build_left_behind_is_found(site: Any, work: Path, private: Path) -> None:
    site("pre-build", "my-site", cwd=work, check=0)
    (work / "leak").write_text(CANARY)
    done = site("post-build", cwd=work, check=120)
    assert b"TOKEN was left behind in " in done.stderr
    assert b"a-canary" not in done.stderr
    assert is_empty(private)


@pytest.mark.parametrize(("own", "leak", "status"), [(3, False, 3), (3, True, 3), (0, True, 120), (0, False, 0)])
def test_the_builds_own_status_wins(site: Any, work: Path, own: int, leak: bool, status: int) -> None:
    site("pre-build", "my-site", cwd=work, check=0)
    if leak:
        (work / "leak").write_text(CANARY)
    site("post-build", "--status", str(own), cwd=work, check=status)


def test_the_log_tells_both_steps_as_one_build(site: Any, work: Path) -> None:
    site("pre-build", "my-site", cwd=work, check=0)
    site("post-build", cwd=work, check=0)
    begun, ended = json.loads(site("audit", "--json", check=0).stdout)["entries"][-2:]
    assert (begun["command"], begun["result"]) == ("pre-build", "started")
    assert (ended["command"], ended["result"], ended["status"], ended["leaks"]) == ("post-build", "ended", 0, 0)
    assert begun["id"] == ended["id"]
    assert begun["names"] == ended["names"]


def test_what_the_build_added_to_the_composer_home_is_carried_back_but_no_credential(
    site: Any, home: dict[str, str], work: Path
) -> None:
    script = """eval "$(ic-secrets pre-build my-site)"
    echo '{}' > $COMPOSER_HOME/composer.json; echo "$TOKEN" > $COMPOSER_HOME/stolen
    eval "$(ic-secrets post-build --format sh)" """
    done = shell("bash", script, home, work)
    real = Path(home["XDG_CONFIG_HOME"]) / "composer"
    assert [path.name for path in real.iterdir()] == ["composer.json"]
    assert "stolen, which the build made in the Composer home, was not carried back" in done.stderr


def wait_until_scrubbed(private: Path) -> Path:
    """The directory of the only build there, when its guard has scrubbed it in time; nothing but a note is in it."""
    (directory,) = private.iterdir()
    guard = find_guard(directory)
    wait_until(lambda: guard is None or not Path(f"/proc/{guard}").exists())
    assert [path.name for path in directory.iterdir()] == ["note.json"]
    assert b"a-canary" not in (directory / "note.json").read_bytes()
    return directory


def test_the_guard_scrubs_when_its_time_is_up_and_post_build_says_so(
    site: Any, work: Path, tmp_path: Path, private: Path
) -> None:
    receipt = tmp_path / "receipt.json"
    site("pre-build", "my-site", "--ttl", "1s", cwd=work, check=0)
    wait_until_scrubbed(private)
    site("scrub", cwd=work, check=0)
    done = site("post-build", "--receipt", receipt, "--format", "json", cwd=work, check=121)
    assert b"no leak was searched for, and the receipt " in done.stderr
    assert (json.loads(done.stdout)["target"], json.loads(done.stdout)["receipt"]) == ("my-site.dev", None)
    assert is_empty(private)
    ended = json.loads(site("audit", "--json", check=0).stdout)["entries"][-1]
    assert (ended["command"], ended["result"], ended["status"]) == ("post-build", "ended", 121)
    site("post-build", cwd=work, check=0)
    site("pre-build", "my-site", cwd=work, check=0)


def test_after_its_time_a_new_pre_build_is_taken_and_the_builds_own_status_wins(
    site: Any, work: Path, private: Path
) -> None:
    site("pre-build", "my-site", "--ttl", "1s", cwd=work, check=0)
    wait_until_scrubbed(private)
    site("pre-build", "my-site", "--ttl", "1s", cwd=work, check=0)
    wait_until_scrubbed(private)
    site("post-build", "--status", "3", cwd=work, check=3)
    assert is_empty(private)


def test_what_composer_makes_anew_after_the_scrub_goes_too(
    site: Any, home: dict[str, str], work: Path, private: Path
) -> None:
    script = """eval "$(ic-secrets pre-build my-site --ttl 1s)"
    while [ -e "$COMPOSER_HOME" ]; do sleep 0.1; done
    mkdir -p "$COMPOSER_HOME/cache"
    eval "$(ic-secrets post-build --format sh)"; echo "$? ${TOKEN-unset}" """
    assert shell("bash", script, home, work).stdout == "121 unset\n"
    assert is_empty(private)
    script = script.replace('/cache"\n', '/cache"; rm "$COMPOSER_HOME/../note.json"\n')
    done = shell("bash", script, home, work)
    assert done.stdout.startswith("0 a-canary"), "nobody knows what the environment was before"
    assert "start a new shell" in done.stderr
    assert is_empty(private)


def test_later_steps_on_github_lose_the_variables_after_the_time_too(
    site: Any, home: dict[str, str], work: Path, tmp_path: Path, private: Path
) -> None:
    from unit.test_github import read_as_the_runner

    file = tmp_path / "set_env"
    file.touch()
    env = {
        "GITHUB_ENV": str(file),
        "IC_SECRETS_KEY": "",
        "COMPOSER_AUTH": '{"bearer": {"a.org": "a-canary-inherited"}}',
    }
    site("pre-build", "my-site", "--format", "github", "--ttl", "1s", cwd=work, env=env, check=0)
    step = home | read_as_the_runner(file.read_text())
    wait_until_scrubbed(private)
    file.write_text("")
    site("post-build", "--format", "github", cwd=work, env=step | {"GITHUB_ENV": str(file)}, check=121)
    after = step | read_as_the_runner(file.read_text())
    assert after["TOKEN"] == after["COMPOSER_HOME"] == ""
    assert after["PATH"] == home["PATH"]
    assert is_empty(private)


def test_the_guard_scrubs_when_the_process_ends(site: Any, work: Path, private: Path) -> None:
    with subprocess.Popen(["sleep", "300"]) as sleeper:
        site("pre-build", "my-site", "--until-pid", str(sleeper.pid), cwd=work, check=0)
        time.sleep(1.5)
        assert not is_empty(private)
        sleeper.kill()
        sleeper.wait()
        wait_until(lambda: is_empty(private), 5)


def test_the_guard_holds_neither_values_nor_keys(site: Any, work: Path, private: Path) -> None:
    site("pre-build", "my-site", cwd=work, env={"SOME_VARIABLE": "x"}, check=0)
    guard = find_guard(next(private.iterdir()))
    assert guard
    assert Path(f"/proc/{guard}/environ").read_bytes() == b""
    assert os.getsid(guard) not in {guard, os.getsid(0)}, "detached, and no leader that could get a terminal"
    maps = [
        line.split()[0].split("-") for line in Path(f"/proc/{guard}/maps").read_text().splitlines() if " rw" in line
    ]
    with open(f"/proc/{guard}/mem", "rb") as memory:
        for start, end in maps:
            memory.seek(int(start, 16))
            assert b"a-canary-" not in memory.read(int(end, 16) - int(start, 16))


def test_while_it_is_guarded_no_sweep_takes_it_and_when_the_guard_is_killed_the_next_does(
    site: Any, work: Path, private: Path
) -> None:
    site("pre-build", "my-site", cwd=work, check=0)
    site("scrub", cwd=work, check=0)
    directory = next(private.iterdir())
    guard = find_guard(directory)
    assert guard
    os.kill(guard, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{guard}").exists())
    assert directory.exists()
    site("scrub", cwd=work, check=0)
    assert is_empty(private)


def test_post_build_does_its_work_without_the_guard(site: Any, work: Path, private: Path) -> None:
    site("pre-build", "my-site", cwd=work, check=0)
    guard = find_guard(next(private.iterdir()))
    assert guard
    os.kill(guard, signal.SIGKILL)
    (work / "leak").write_text(CANARY)
    site("post-build", cwd=work, check=120)
    assert is_empty(private)


def test_of_many_pre_builds_at_once_for_a_checkout_one_is_taken(site: Any, work: Path, private: Path) -> None:
    running = [site.start("pre-build", "my-site", cwd=work) for _ in range(4)]
    results = []
    for process in running:
        with process:
            _, stderr = process.communicate(timeout=60)
            results.append((process.returncode, stderr))
    assert sorted(status for status, _ in results) == [0, 125, 125, 125]
    assert all(b"ic-secrets post-build" in stderr for status, stderr in results if status)
    assert len(list(private.iterdir())) == 1
    site("post-build", cwd=work, check=0)
    site("pre-build", "my-site", cwd=work, check=0)


def test_a_pre_build_inside_of_a_build_is_refused(site: Any, home: dict[str, str], work: Path, tmp_path: Path) -> None:
    script = f"""eval "$(ic-secrets pre-build my-site)"
    cd {tmp_path}; eval "$(ic-secrets pre-build my-site)"; echo "status $?" """
    done = shell("bash", script, home, work)
    assert done.stdout == "status 125\n"
    assert "error: this environment is that of a build already" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_finds_nothing_and_can_read_nothing(
    site: Any, home: dict[str, str], work: Path, private: Path
) -> None:
    site("pre-build", "my-site", cwd=work, check=0)
    directory = next(private.iterdir())
    for path in [private, work, *work.parents]:
        if path.is_relative_to(work.parent) or path == private:
            path.chmod(0o777)
    as_another = f"""
import os
from ic_secrets.cli import main
os.chdir("/")
main(["post-build"])  # loads what the other user may not be able to read
os.chdir({str(work)!r})
os.setgroups([]); os.setgid(65534); os.setuid(65534)
status = main(["post-build"])
try:
    os.listdir({str(directory)!r}); status = 99
except PermissionError:
    pass
raise SystemExit(status)
"""
    done = subprocess.run([sys.executable, "-c", as_another], env=home, cwd=work, capture_output=True, timeout=60)
    private.chmod(0o700)
    assert (done.returncode, done.stderr.count(b"nothing to end")) == (0, 2), done.stderr
    assert find_guard(directory)


@pytest.mark.slow
def test_killed_at_any_moment_it_leaves_nothing_or_a_guarded_directory(
    site: Any, work: Path, private: Path, rounds: Callable[[int, int], int]
) -> None:
    start = time.monotonic()
    site("pre-build", "my-site", cwd=work, check=0)
    whole = time.monotonic() - start
    site("post-build", cwd=work, check=0)
    number = rounds(12, 200)
    outcomes = set()
    for index in range(number):
        with site.start("pre-build", "my-site", cwd=work) as process:
            time.sleep(whole * 2 * index / number)
            process.kill()
            process.communicate(timeout=30)
        wait_until(lambda: all(find_guard(directory) for directory in private.iterdir()), 5)
        outcomes.add(len(list(private.iterdir())))
        site("post-build", cwd=work, check=0)
        assert is_empty(private)
    assert outcomes == {0, 1}, "the kills came before and after the moment at which the guard takes over"


def test_a_result_that_nobody_reads_leaves_nothing_exposed(site: Any, work: Path, private: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [PROGRAM, "pre-build", "my-site"], env=site.home, cwd=work, stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert done.returncode == 125
    assert is_empty(private)


def test_the_steps_of_a_job_on_github_get_masked_variables_and_lose_them(
    site: Any, servers: Servers, home: dict[str, str], tmp_path: Path, private: Path
) -> None:
    project = servers.project(tmp_path, "everything")
    file = tmp_path / "set_env"
    file.write_text("EARLIER=1\n")
    env = {"GITHUB_ENV": str(file), "IC_SECRETS_KEY": "", "GITHUB_OUTPUT": str(tmp_path / "output")}
    done = site("pre-build", "my-site", "--format", "github", cwd=project, env=env, check=0)
    assert all(line.startswith(b"::add-mask::") for line in done.stdout.splitlines())
    assert f"::add-mask::{CANARY}\n".encode() in done.stdout
    from unit.test_github import read_as_the_runner

    step = home | read_as_the_runner(file.read_text())
    assert step["TOKEN"] == CANARY
    subprocess.run(INSTALL.split(), env=step, cwd=project, check=True, capture_output=True, timeout=120)
    later = tmp_path / "set_env_later"
    later.touch()
    env = step | {"GITHUB_ENV": str(later)}
    # The runner has removed the file of the step before by now.
    file.unlink()
    done = site("post-build", "--format", "github", cwd=project, env=env, check=0)
    assert is_empty(private)
    after = step | read_as_the_runner(later.read_text())
    assert after["TOKEN"] == after["COMPOSER_HOME"] == ""
    assert after["PATH"] == home["PATH"]
    assert not (tmp_path / "output").exists()
    assert b"a-canary-" not in later.read_bytes()


def test_json_is_an_object_of_variables(site: Any, work: Path) -> None:
    done = site("pre-build", "my-site", "--format", "json", cwd=work, env={"BAO_TOKEN": "x"}, check=0)
    told = json.loads(done.stdout)
    assert told["schema"] == "ic-secrets.pre-build/1"
    assert told["set"]["TOKEN"] == CANARY
    assert {"BAO_TOKEN", "IC_SECRETS_RUN_DIR"} <= set(told["unset"])


def test_a_secret_that_the_shell_would_evaluate_is_refused(site: Any, work: Path, private: Path) -> None:
    site("set", "my-site", "PS1", "--type", "env", "--scope", "ic", stdin=b"$(id)", check=0)
    done = site("pre-build", "my-site", cwd=work, check=125)
    assert done.stdout == b"(exit 125)\n"
    assert b"PS1 is a variable of shells" in done.stderr
    site("pre-build", "my-site", "--except", "PS1", cwd=work, check=0)


@pytest.mark.parametrize("place", ["..", "/", "gone"])
def test_post_build_in_the_builds_environment_ends_it_from_anywhere(
    site: Any, home: dict[str, str], work: Path, private: Path, place: str
) -> None:
    (work.parent / "gone").mkdir()
    move = "cd ../gone; rmdir ../gone" if place == "gone" else f"cd {place}"
    receipt = "" if place == "/" else "--receipt r.json"
    script = f"""eval "$(ic-secrets pre-build my-site)"
    echo "$TOKEN" > leak; {move}
    eval "$(ic-secrets post-build --format sh {receipt})"; echo "$? ${{TOKEN-unset}}" """
    done = shell("bash", script, home, work)
    assert done.stdout == "120 unset\n", done.stderr
    assert is_empty(private)


def test_post_build_elsewhere_names_the_checkouts_whose_secrets_are_exposed(
    site: Any, work: Path, tmp_path: Path, private: Path
) -> None:
    site("pre-build", "my-site", cwd=work, check=0)
    assert f"are exposed for {work}: post-build there".encode() in site("post-build", cwd=tmp_path, check=0).stderr
    other = site("post-build", cwd=work, env={"IC_SECRETS_RUN_DIR": str(tmp_path)}, check=121)
    assert b"they are not found" in other.stderr
    assert b"name the --run-dir" in other.stderr
    site("post-build", cwd=work, check=0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("has_environment", [True, False])
def test_another_user_is_told_whose_secrets_they_are(
    site: Any, home: dict[str, str], private: Path, has_environment: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        told = json.loads(site("pre-build", "my-site", "--format", "json", cwd=Path(name), check=0).stdout)["set"]
        given = {"COMPOSER_HOME": told["COMPOSER_HOME"]} if has_environment else {}
        as_another = f"""
import os
from ic_secrets.cli import main
os.chdir("/")
main(["post-build"])  # loads what the other user may not be able to read
os.chdir({"/" if has_environment else name!r})
os.environ.update({given!r})
os.setgroups([]); os.setgid(65534); os.setuid(65534)
raise SystemExit(main(["post-build"]))
"""
        done = subprocess.run([sys.executable, "-c", as_another], env=home, cwd=name, capture_output=True, timeout=60)
        assert done.returncode == 121, done.stderr
        assert b"user 0\nhint: " in done.stderr
        site("post-build", cwd=Path(name), check=0)


def test_a_lock_of_the_pipelines_own_on_the_checkout_is_no_other_pre_build(
    site: Any, home: dict[str, str], work: Path
) -> None:
    script = """flock . ic-secrets pre-build my-site > ../begin || exit; eval "$(cat ../begin)"
    flock -n . true && ic-secrets post-build"""
    shell("bash", script, home, work)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_pre_build_that_is_ended_while_it_works_makes_eval_fail(
    site: Any, home: dict[str, str], work: Path, private: Path, number: int
) -> None:
    env = home | {"IC_SECRETS_KEY_COMMAND": f"sh -c 'touch {work}/asked; exec sleep 300'"}
    with subprocess.Popen(
        [PROGRAM, "pre-build", "my-site"], env=env, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        wait_until((work / "asked").exists)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (125, b"(exit 125)\n"), stderr
    assert b"error: a signal ended it; nothing is exposed" in stderr
    assert is_empty(private)


@pytest.mark.slow
def test_terminated_at_any_moment_it_is_done_or_fails_in_eval_and_nothing_is_exposed(
    site: Any, work: Path, private: Path, rounds: Callable[[int, int], int]
) -> None:
    start = time.monotonic()
    site("pre-build", "my-site", cwd=work, check=0)
    whole = time.monotonic() - start
    site("post-build", cwd=work, check=0)
    outcomes = set()
    number = rounds(12, 100)
    for index in range(number):
        with site.start("pre-build", "my-site", cwd=work) as process:
            time.sleep(whole * 1.2 * index / number)
            process.terminate()
            stdout, stderr = process.communicate(timeout=30)
        outcomes.add(process.returncode)
        if process.returncode == 0:
            site("post-build", cwd=work, check=0)
        elif process.returncode == 125:
            assert stdout == b"(exit 125)\n", stderr
        assert is_empty(private)
    assert outcomes <= {0, 125, -signal.SIGTERM}, "a signal that comes before Python has started ends it at once"


@pytest.mark.parametrize("words", ["--status -1", "--bogus", "--status", "surplus"])
@pytest.mark.parametrize("program", ["bash", "fish"])
def test_an_eval_of_a_post_build_that_makes_no_sense_fails(
    site: Any, home: dict[str, str], work: Path, words: str, program: str
) -> None:
    form = "fish" if program == "fish" else "sh"
    command = f"ic-secrets post-build --format {form} {words}"
    script = f"{command} | source" if form == "fish" else f'eval "$({command})"'
    assert "error: " in shell(program, script, home, work, check=2).stderr


def test_post_build_tells_a_program_how_it_ended(site: Any, work: Path, tmp_path: Path) -> None:
    receipt = tmp_path / "receipt.json"
    site("pre-build", "my-site", "--receipt", receipt, cwd=work, check=0)
    (work / "leak").write_text(CANARY)
    told = json.loads(site("post-build", "--format", "json", cwd=work, check=120).stdout)
    expected = {"status": 120, "target": "my-site.dev", "checkout": str(work), "receipt": str(receipt)}
    assert told == {"schema": "ic-secrets.post-build/1", **expected}
    again = json.loads(site("post-build", "--format", "json", cwd=work, check=0).stdout)
    assert again == {"schema": "ic-secrets.post-build/1", **dict.fromkeys(expected), "status": 0}
